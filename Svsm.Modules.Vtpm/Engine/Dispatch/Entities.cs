// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using Svsm.Modules.Vtpm.Crypto;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Dispatch;

// What the dispatcher asks about the things behind handles, whatever they are: is it there, what is its Name, how is it authorised.
internal static class Entities
{
    /// <summary>Whether a handle of the handle area refers to something.</summary>
    /// <param name="tpm">The TPM.</param>
    /// <param name="handle">The handle, of the kind that the command takes.</param>
    /// <param name="place">Its place in the handle area, from 0.</param>
    internal static TpmResponseCode CheckPresent(Tpm tpm, TpmHandle handle, int place) => handle.Type switch
    {
        HandleType.Permanent => tpm.Hierarchies.IsEnabled(handle) ? TpmResponseCode.Success : TpmResponseCode.Hierarchy.At(ErrorPlace.Handle(place + 1)),
        HandleType.Transient => tpm.Objects.Find(handle) is not null ? TpmResponseCode.Success : TpmResponseCode.ReferenceH0 + (uint)place,
        HandleType.HmacSession or HandleType.PolicySession => tpm.Sessions.Find(handle)?.Handle == handle
            ? TpmResponseCode.Success
            : TpmResponseCode.ReferenceH0 + (uint)place,
        HandleType.Pcr => TpmResponseCode.Success,

        HandleType.Persistent => tpm.Objects.Find(handle) is TransientObject found && tpm.Hierarchies.IsEnabled(found.Hierarchy)
            ? TpmResponseCode.Success
            : TpmResponseCode.Handle.At(ErrorPlace.Handle(place + 1)),
        HandleType.NvIndex => tpm.Nv.Find(handle) is NvIndex index && tpm.Nv.IsAccessible(index)
            ? TpmResponseCode.Success
            : TpmResponseCode.Handle.At(ErrorPlace.Handle(place + 1)),
        _ => TpmResponseCode.Handle.At(ErrorPlace.Handle(place + 1)),
    };

    /// <summary>The Name; for what has no public area its handle.</summary>
    internal static byte[] Name(Tpm tpm, TpmHandle handle)
    {
        if (tpm.Objects.Find(handle) is TransientObject found)
        {
            return found.Name;
        }

        if (tpm.Nv.Find(handle) is NvIndex index)
        {
            return index.Name(tpm.Cryptography);
        }

        var name = new byte[sizeof(uint)];
        BinaryPrimitives.WriteUInt32BigEndian(name, handle.Value);
        return name;
    }

    internal static byte[] Auth(Tpm tpm, TpmHandle handle)
        => tpm.Objects.Find(handle)?.Auth ?? tpm.Nv.Find(handle)?.Auth ?? (PcrBanks.HasAuthorization(handle) ? tpm.ClearState.PcrAuth : tpm.Hierarchies.Auth(handle));

    internal static AuthPolicy Policy(Tpm tpm, TpmHandle handle)
        => tpm.Objects.Find(handle) is TransientObject found ? found.Policy
            : tpm.Nv.Find(handle) is NvIndex index ? new AuthPolicy(index.Public.NameHash, index.Public.Policy)
            : PcrBanks.HasAuthorization(handle) ? tpm.Persistent.PcrPolicy
            : tpm.Hierarchies.Policy(handle);

    /// <summary>The hierarchy whose proof a ticket about the entity has.</summary>
    internal static TpmHandle Hierarchy(Tpm tpm, TpmHandle handle)
        => tpm.Objects.Find(handle) is TransientObject found ? found.Hierarchy
            : tpm.Nv.Find(handle) is NvIndex index ? (index.Has(NvAttributes.PlatformCreate) ? TpmHandle.Platform : TpmHandle.Owner)
            : handle == TpmHandle.Platform || handle == TpmHandle.Endorsement ? handle
            : handle == TpmHandle.Owner || handle == TpmHandle.Lockout ? TpmHandle.Owner
            : TpmHandle.Null;

    /// <summary>Name and authValue: what a bound session remembers.</summary>
    internal static byte[] Binding(Tpm tpm, TpmHandle handle) => [.. Name(tpm, handle), .. Auth(tpm, handle)];

    internal static bool IsExemptFromAttackProtection(Tpm tpm, TpmHandle handle)
        => tpm.Objects.Find(handle) is TransientObject found ? found.IsNoDictionaryAttack
            : tpm.Nv.Find(handle) is NvIndex index ? index.Has(NvAttributes.NoDictionaryAttack)
            : handle != TpmHandle.Lockout;

    /// <summary>Whether only a policy can authorise this use.</summary>
    internal static bool RequiresPolicy(Tpm tpm, TpmHandle handle, AuthorizationRole role)
        => role == AuthorizationRole.Duplicate
            || (role == AuthorizationRole.Admin && (tpm.Objects.Find(handle) is not TransientObject found || found.IsAdminWithPolicy));

    /// <summary>Whether the authValue can authorise this use.</summary>
    internal static bool IsAuthAvailable(Tpm tpm, TpmHandle handle, AuthorizationRole role, CommandTraits traits)
        => tpm.Nv.Find(handle) is NvIndex index
            ? (traits.HasFlag(CommandTraits.NvWrite) ? index.Has(NvAttributes.AuthWrite) : index.IsPin ? !index.IsPinUsedUp : index.Has(NvAttributes.AuthRead))
            : tpm.Objects.Find(handle) is not TransientObject found
                || (found is not KeyObject { IsPublicOnly: true } && (found.IsUserWithAuth || (role == AuthorizationRole.Admin && !found.IsAdminWithPolicy)));

    /// <summary>Whether the policy can authorise this use, if there is one.</summary>
    internal static bool IsPolicyAvailable(Tpm tpm, TpmHandle handle, CommandTraits traits)
        => tpm.Nv.Find(handle) is not NvIndex index
            || (traits & (CommandTraits.NvRead | CommandTraits.NvWrite)) == 0
            || index.Has(traits.HasFlag(CommandTraits.NvWrite) ? NvAttributes.PolicyWrite : NvAttributes.PolicyRead);
}
