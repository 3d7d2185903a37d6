// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Secure boot: which mode the platform is in, and who may write PK, KEK, db, dbx and dbt.
//
//   Mode       PK     SetupMode AuditMode DeployedMode   PK is written by            KEK by   db, dbx, dbt by    left by
//   setup      none       1        0         0           who signs with it           anybody  anybody            a PK: user; AuditMode = 1: audit
//   audit      none       1        1         0           who signs with it           anybody  anybody            a PK: deployed
//   user       there      0        0         0           PK                          PK       PK, KEK            no PK: setup; AuditMode = 1, which deletes PK:
//                                                                                                                audit; DeployedMode = 1: deployed
//   deployed   there      0        0         1           PK                          PK       PK, KEK            no PK: setup
//
// Writing PK means the very owner of its certificate; KEK may have issued the certificate of who signs. In user mode CustomMode = 1, which lasts until the
// guest starts anew or exits boot services, lets anybody write all of them: that is what the menus of firmware do. In deployed mode there is nobody present
// who could, and SecureBootEnable cannot be written either. AuditMode and DeployedMode are read-only after ExitBootServices, as UEFI has it; so is CustomMode.
//
// An image that brings keys begins in deployed mode with them. What has been changed since, signed, stays as long as images bring the same PK, KEK and db;
// others, and keys that a guest enrolled, are replaced. dbx only grows: what the image forbids is added to what the store does. Only where the keys are
// replaced and there is no room for both, the guest's go: nobody signed them whom the image knows. No guest can fill the store so that the keys have no room.
//
// Source: UEFI specification 2.10, 32.3 (modes) and 32.6; EDK2 SecurityPkg/Library/AuthVariableLib (AuthVariableLib.c, AuthService.c), where there are setup,
// user and custom mode, and PcdRequireSelfSignedPk as OVMF has it.

using System;

namespace Svsm.Modules.VarStore;

/// <summary>The mode that the platform is in.</summary>
internal enum PlatformMode
{
    Setup,
    Audit,
    User,
    Deployed,
}

internal sealed class SecureBoot(VariableTable table, VariableService service)
{
    private const byte Yes = 1;
    private const byte No = 0;

    private const VariableAttributes Volatile = VariableAttributes.Access;
    private const VariableAttributes Hidden = VariableAttributes.NonVolatile | VariableAttributes.BootServiceAccess;
    private const VariableAttributes Keys = VariableAttributes.NonVolatile | VariableAttributes.Access | VariableAttributes.TimeBasedAuthenticatedWriteAccess;

    public PlatformMode Mode => Is(KnownVariables.SetupMode)
        ? Is(KnownVariables.AuditMode) ? PlatformMode.Audit : PlatformMode.Setup
        : Is(KnownVariables.DeployedMode) ? PlatformMode.Deployed : PlatformMode.User;

    public bool IsOn => Is(KnownVariables.SecureBoot);

    public bool AreUpdatesAllowed =>
        Mode != PlatformMode.Deployed || HasCertificates(KnownVariables.PlatformKey) || HasCertificates(KnownVariables.KeyExchangeKeys);

    /// <summary>Whether the variables are there that this relies on, and fit together: of a guest that comes.</summary>
    public bool IsWhole
    {
        get
        {
            foreach (VariableId id in (VariableId[])
                [
                    KnownVariables.SetupMode, KnownVariables.AuditMode, KnownVariables.DeployedMode, KnownVariables.SecureBoot, KnownVariables.VendorKeys,
                    KnownVariables.SignatureSupport,
                ])
            {
                if (table.Find(id) is not { Attributes: Volatile })
                {
                    return false;
                }
            }

            return HasPlatformKey == (table.Find(KnownVariables.PlatformKey) is not null);
        }
    }

    private bool HasPlatformKey => Mode is PlatformMode.User or PlatformMode.Deployed;

    // An operating system cannot see the variable; nor shall it have what firmware left on.
    private bool IsCustom => !service.IsRuntime && Mode != PlatformMode.Deployed && Is(KnownVariables.CustomMode);

    /// <summary>Takes the keys of the image, before the guest starts.</summary>
    public VariableStoreResult Enrol(SecureBootKeys keys)
    {
        if (!keys.TryGetLists(out SecureBootKeys? lists))
        {
            return VariableStoreResult.BadKeys;
        }

        var changes = new VariableChanges();
        byte[] hash = lists!.Hash();
        bool isNew = !table.State.ImageKeys.Span.SequenceEqual(hash) || table.Find(KnownVariables.PlatformKey) is null;
        if (isNew)
        {
            Replace(changes, KnownVariables.PlatformKey, lists.PlatformKey);
            Replace(changes, KnownVariables.KeyExchangeKeys, lists.KeyExchangeKeys);
            Replace(changes, KnownVariables.Allowed, lists.Allowed);
            changes.Set(new Variable(KnownVariables.SecureBootEnable, Hidden, [Yes]));
            changes.State = new(true, hash);
        }

        Variable? forbidden = table.Find(KnownVariables.Forbidden);
        byte[] more = SignatureLists.Without(lists.Forbidden, forbidden?.Data);
        if (more.Length != 0)
        {
            byte[] all = [.. forbidden?.Data ?? [], .. more];
            if (all.Length > VariableLimits.MaxData)
            {
                if (!isNew)
                {
                    return VariableStoreResult.BadKeys;
                }

                all = lists.Forbidden.ToArray();
            }

            changes.Set(forbidden is null ? new Variable(KnownVariables.Forbidden, Keys, all) : forbidden with { Data = all });
        }

        return changes.All.Count == 0 || table.Commit(changes, isOfGuest: false) == EfiStatus.Success ? VariableStoreResult.Done : VariableStoreResult.StorageFailed;
    }

    /// <summary>The guest starts: the mode follows from what is stored.</summary>
    public void Start()
    {
        bool hasPlatformKey = table.Find(KnownVariables.PlatformKey) is not null;
        bool isDeployed = hasPlatformKey && table.State.IsDeployed;
        Variable? enable = table.Find(KnownVariables.SecureBootEnable);
        if (hasPlatformKey && enable is null)
        {
            table.PutOwn(new Variable(KnownVariables.SecureBootEnable, Hidden, [Yes]));
        }

        bool isOn = hasPlatformKey && (isDeployed || enable is null || Is(KnownVariables.SecureBootEnable));
        if (table.Find(KnownVariables.VendorKeysNv) is null)
        {
            table.PutOwn(new Variable(KnownVariables.VendorKeysNv, Hidden | VariableAttributes.TimeBasedAuthenticatedWriteAccess, [Yes]));
        }

        table.PutOwn(Flag(KnownVariables.SetupMode, !hasPlatformKey));
        table.PutOwn(Flag(KnownVariables.AuditMode, false));
        table.PutOwn(Flag(KnownVariables.DeployedMode, isDeployed));
        table.PutOwn(Flag(KnownVariables.SecureBoot, isOn));
        table.PutOwn(Flag(KnownVariables.VendorKeys, Is(KnownVariables.VendorKeysNv)));
        table.PutOwn(new Variable(KnownVariables.SignatureSupport, Volatile, SignatureLists.Supported));
        table.PutOwn(new Variable(KnownVariables.CustomMode, Hidden, [No]));
    }

    /// <summary>Does a write of a variable that is secure boot's.</summary>
    /// <param name="id">The variable.</param>
    /// <param name="attributes">Attributes of the write.</param>
    /// <param name="payload">What is to be written.</param>
    /// <param name="write">How it is authenticated; null: it is not.</param>
    /// <param name="changes">Where the changes go.</param>
    /// <param name="status">What became of it.</param>
    /// <returns>False: it is a variable as others.</returns>
    public bool TryProcess(VariableId id, VariableAttributes attributes, ReadOnlyMemory<byte> payload, AuthenticatedWrite? write, VariableChanges changes, out EfiStatus status)
    {
        if (KnownVariables.IsSecureBootKey(id))
        {
            status = ProcessKey(id, attributes, payload, write, changes);
            return true;
        }

        if (id == KnownVariables.AuditMode || id == KnownVariables.DeployedMode)
        {
            status = ProcessMode(id, attributes, payload.Span, changes);
            return true;
        }

        status = EfiStatus.SecurityViolation;
        return (id == KnownVariables.SecureBootEnable || id == KnownVariables.CustomMode) && Mode == PlatformMode.Deployed;
    }

    private static Variable Flag(VariableId id, bool value) => new(id, Volatile, [value ? Yes : No]);

    private static void Replace(VariableChanges changes, VariableId id, ReadOnlyMemory<byte> data)
    {
        if (data.IsEmpty)
        {
            changes.Remove(id);
        }
        else
        {
            changes.Set(new Variable(id, Keys, data.ToArray()));
        }
    }

    private EfiStatus ProcessKey(VariableId id, VariableAttributes attributes, ReadOnlyMemory<byte> payload, AuthenticatedWrite? write, VariableChanges changes)
    {
        if (write is null || (attributes & VariableAttributes.NonVolatile) == 0)
        {
            return EfiStatus.InvalidParameter;
        }

        bool isPlatformKey = id == KnownVariables.PlatformKey;
        bool isAppend = (attributes & VariableAttributes.AppendWrite) != 0;
        Variable? old = table.Find(id);
        bool isCustom = IsCustom;
        if (!isCustom && (HasPlatformKey || isPlatformKey) && !(write.IsGood(old) && MayWrite(id, write)))
        {
            return EfiStatus.SecurityViolation;
        }

        // A platform key that is appended to would be two.
        if (!SignatureLists.AreGood(payload, out int count) || (isPlatformKey && (count > 1 || (isAppend && old is not null))))
        {
            return EfiStatus.InvalidParameter;
        }

        if (isAppend && old is not null)
        {
            payload = SignatureLists.Without(payload, old.Data);
        }

        EfiStatus status = service.Update(changes, id, attributes, payload, write.Time);
        if (status != EfiStatus.Success)
        {
            return status;
        }

        if (isCustom && (HasPlatformKey || isPlatformKey) && Is(KnownVariables.VendorKeysNv))
        {
            changes.Set(new Variable(KnownVariables.VendorKeysNv, Hidden | VariableAttributes.TimeBasedAuthenticatedWriteAccess, [No]));
            changes.Set(Flag(KnownVariables.VendorKeys, false));
        }

        bool isDeleted = payload.IsEmpty && !isAppend;
        if (isPlatformKey && changes.All.Count != 0 && isDeleted == HasPlatformKey)
        {
            Enter(isDeleted ? PlatformMode.Setup : Mode == PlatformMode.Audit ? PlatformMode.Deployed : PlatformMode.User, changes);
        }

        return EfiStatus.Success;
    }

    private bool MayWrite(VariableId id, AuthenticatedWrite write)
    {
        // Without one: by the owner of the one that is to be.
        ReadOnlyMemory<byte> platformKeys = HasPlatformKey ? table.Find(KnownVariables.PlatformKey)?.Data : write.Payload;
        if (SignatureLists.Certificates(platformKeys) is [ReadOnlyMemory<byte> platformKey, ..]
            && (HasPlatformKey ? write.IsSignedByOwner(platformKey) : write.IsSignedBy(platformKey)))
        {
            return true;
        }

        return KnownVariables.IsDatabase(id) && SignatureLists.Certificates(table.Find(KnownVariables.KeyExchangeKeys)?.Data).Exists(write.IsSignedBy);
    }

    private EfiStatus ProcessMode(VariableId id, VariableAttributes attributes, ReadOnlySpan<byte> value, VariableChanges changes)
    {
        PlatformMode mode = Mode;
        if (service.IsRuntime || mode == PlatformMode.Deployed || value.IsEmpty || (attributes & VariableAttributes.Access) == 0)
        {
            return EfiStatus.WriteProtected;
        }

        if (value.Length != 1 || value[0] > Yes || attributes != Volatile)
        {
            return EfiStatus.InvalidParameter;
        }

        if ((value[0] == Yes) == Is(id))
        {
            return EfiStatus.Success;
        }

        // Of the two only AuditMode can be 1 here, and only a platform key ends it.
        if (value[0] == No)
        {
            return EfiStatus.WriteProtected;
        }

        if (id == KnownVariables.AuditMode)
        {
            if (mode == PlatformMode.User)
            {
                changes.Remove(KnownVariables.PlatformKey);
            }

            Enter(PlatformMode.Audit, changes);
            return EfiStatus.Success;
        }

        if (mode != PlatformMode.User)
        {
            return EfiStatus.InvalidParameter;
        }

        Enter(PlatformMode.Deployed, changes);
        return EfiStatus.Success;
    }

    // SecureBoot is about this start of the guest: it does not change any more after ExitBootServices.
    private void Enter(PlatformMode mode, VariableChanges changes)
    {
        bool hasPlatformKey = mode is PlatformMode.User or PlatformMode.Deployed;
        // Who leaves deployed mode gives up the keys of the image, which come again with its next start.
        changes.State = mode == PlatformMode.Deployed ? table.State with { IsDeployed = true } : StoreState.New;
        changes.Set(Flag(KnownVariables.SetupMode, !hasPlatformKey));
        changes.Set(Flag(KnownVariables.AuditMode, mode == PlatformMode.Audit));
        changes.Set(Flag(KnownVariables.DeployedMode, mode == PlatformMode.Deployed));
        if (service.IsRuntime)
        {
            return;
        }

        changes.Set(Flag(KnownVariables.SecureBoot, hasPlatformKey));
        if (hasPlatformKey)
        {
            changes.Set(new Variable(KnownVariables.SecureBootEnable, Hidden, [Yes]));
        }
        else
        {
            changes.Remove(KnownVariables.SecureBootEnable);
        }
    }

    private bool HasCertificates(VariableId id) => SignatureLists.Certificates(table.Find(id)?.Data).Count != 0;

    private bool Is(VariableId id) => table.Find(id) is { Data: [Yes, ..] };
}
