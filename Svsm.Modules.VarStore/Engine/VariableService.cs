// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The variable services of UEFI: get, next name, set, query. In the order of EDK2's checks, because the order decides which error a bad call gets.
//
//   Set   name, attributes, what authenticates the write (AuthenticatedWrite), sizes
//         from the end of DXE on: properties, policies
//         what is there already: may it be written now, are its attributes these
//         who may write: secure-boot variables (SecureBoot), other authenticated ones (AuthenticatedWrite), everybody
//         Update: deletion, appending, creation
//         Commit: quotas, storage
//
// Phases: a start of the guest begins before the end of DXE, where firmware lays down policies; then the end of DXE, ready to boot, and after
// ExitBootServices only variables with runtime access are there, and volatile ones are read-only.
//
// Source: UEFI specification 2.10, 8.2; EDK2 MdeModulePkg/Universal/Variable/RuntimeDxe (Variable.c).

using System;

namespace Svsm.Modules.VarStore;

/// <summary>What <c>QueryVariableInfo</c> tells, in bytes.</summary>
internal readonly record struct VariableInfo(ulong MaxStorage, ulong RemainingStorage, ulong MaxVariable);

internal sealed class VariableService
{
    private readonly VariableTable _table;

    public VariableService(VariableTable table)
    {
        _table = table;
        SecureBoot = new SecureBoot(table, this);
    }

    public VariablePolicies Policies { get; } = new();

    public VariableProperties Properties { get; } = new();

    public SecureBoot SecureBoot { get; }

    /// <summary>Whether DXE has ended: policies and properties are enforced.</summary>
    public bool IsEndOfDxe { get; private set; }

    /// <summary>Whether boot services have been exited.</summary>
    public bool IsRuntime { get; private set; }

    /// <summary>The guest starts anew: everything is as after power-on, but for what is stored.</summary>
    public void Start()
    {
        IsEndOfDxe = false;
        IsRuntime = false;
        Policies.Clear();
        Properties.Clear();
        _table.DropVolatile();
        SecureBoot.Start();
    }

    /// <summary>The guest comes in the middle of its life, with everything else that it has here.</summary>
    public void Restore(bool isEndOfDxe, bool isRuntime) => (IsEndOfDxe, IsRuntime) = (isEndOfDxe, isRuntime);

    /// <summary>DXE ends. Policies are locked.</summary>
    public void EndDxe()
    {
        IsEndOfDxe = true;
        Policies.Lock();
    }

    /// <summary>An operating system is about to be started, which ends DXE if firmware did not say so.</summary>
    /// <returns><see cref="EfiStatus.Unsupported"/> after <c>ExitBootServices</c>.</returns>
    public EfiStatus GetReadyToBoot()
    {
        if (IsRuntime)
        {
            return EfiStatus.Unsupported;
        }

        EndDxe();
        return EfiStatus.Success;
    }

    /// <summary>Boot services are exited.</summary>
    public void ExitBootServices()
    {
        // Without this, firmware that never said it would have left the doors of DXE open to the operating system.
        EndDxe();
        IsRuntime = true;
    }

    /// <summary>Finds a variable that the guest may see now.</summary>
    public Variable? Find(VariableId id) => _table.Find(id) is Variable variable && IsVisible(variable) ? variable : null;

    /// <summary>Tells the first name, or the one after another.</summary>
    /// <param name="after">The variable after which; an empty name: the first one.</param>
    /// <param name="next">The next one.</param>
    /// <returns><see cref="EfiStatus.InvalidParameter"/>: there is no such variable; <see cref="EfiStatus.NotFound"/>: it was the last one.</returns>
    public EfiStatus GetNext(VariableId after, out Variable? next)
    {
        next = null;
        Variable? variable = null;
        if (after.Name.Length != 0)
        {
            variable = Find(after);
            if (variable is null)
            {
                return EfiStatus.InvalidParameter;
            }
        }

        do
        {
            variable = _table.Next(variable);
        }
        while (variable is not null && !IsVisible(variable));

        next = variable;
        return variable is null ? EfiStatus.NotFound : EfiStatus.Success;
    }

    /// <summary>Writes, appends to, or deletes a variable.</summary>
    /// <param name="id">The variable. Untrusted.</param>
    /// <param name="attributes">Attributes. Untrusted.</param>
    /// <param name="data">What is written; for an authenticated variable what authenticates it comes first. Untrusted, but nobody else's to change.</param>
    /// <returns>Any of <see cref="EfiStatus"/>; nothing changed unless it is a success.</returns>
    public EfiStatus Set(VariableId id, VariableAttributes attributes, ReadOnlyMemory<byte> data)
    {
        EfiStatus status = CheckAttributes(id, attributes);
        if (status != EfiStatus.Success)
        {
            return status;
        }

        AuthenticatedWrite? write = null;
        ReadOnlyMemory<byte> payload = data;
        if ((attributes & VariableAttributes.TimeBasedAuthenticatedWriteAccess) != 0)
        {
            write = AuthenticatedWrite.Read(id, attributes, data);
            if (write is null)
            {
                return EfiStatus.SecurityViolation;
            }

            payload = write.Payload;
        }

        if (payload.Length > VariableLimits.MaxData || Variable.NameLength(id.Name) > VariableLimits.MaxNameLength)
        {
            return EfiStatus.InvalidParameter;
        }

        if (KnownVariables.IsReadOnly(id))
        {
            return EfiStatus.WriteProtected;
        }

        if (IsEndOfDxe)
        {
            status = Properties.Check(id, attributes, payload.Span);
            if (status == EfiStatus.Success)
            {
                status = Policies.Check(id, attributes, payload.Length, Find);
            }

            if (status != EfiStatus.Success)
            {
                return status;
            }
        }

        Variable? old = _table.Find(id);
        if (old is not null)
        {
            if (IsRuntime && (old.Attributes & VariableAttributes.RuntimeAccess) == 0)
            {
                return EfiStatus.WriteProtected;
            }

            if (attributes != VariableAttributes.None && (attributes & ~VariableAttributes.AppendWrite) != old.Attributes)
            {
                return EfiStatus.InvalidParameter;
            }
        }

        var changes = new VariableChanges();
        if (SecureBoot.TryProcess(id, attributes, payload, write, changes, out status))
        {
            // Its own matter.
        }
        else if (write is not null)
        {
            status = write.Authenticate(old, out byte[] signer);
            if (status == EfiStatus.Success)
            {
                status = Update(changes, id, attributes, payload, write.Time, signer);
            }
        }
        else
        {
            status = old is { IsAuthenticated: true } ? EfiStatus.WriteProtected : Update(changes, id, attributes, payload);
        }

        return status == EfiStatus.Success && changes.All.Count != 0 ? _table.Commit(changes) : status;
    }

    /// <summary>Tells how much there may be, and is left.</summary>
    /// <param name="attributes">Of which variables. Untrusted.</param>
    /// <param name="info">The numbers.</param>
    /// <returns><see cref="EfiStatus.InvalidParameter"/>: attributes that no variable can have; <see cref="EfiStatus.Unsupported"/>: that none has here.</returns>
    public EfiStatus Query(VariableAttributes attributes, out VariableInfo info)
    {
        info = default;
        if (attributes == VariableAttributes.None)
        {
            return EfiStatus.InvalidParameter;
        }

        if ((attributes & VariableAttributes.AuthenticatedWriteAccess) != 0 || (attributes & VariableAttributes.Known) == 0)
        {
            return EfiStatus.Unsupported;
        }

        if ((attributes & VariableAttributes.Known) == VariableAttributes.NonVolatile
            || (attributes & VariableAttributes.Access) == VariableAttributes.RuntimeAccess
            || (IsRuntime && (attributes & VariableAttributes.RuntimeAccess) == 0)
            || (attributes & (VariableAttributes.NonVolatile | VariableAttributes.HardwareErrorRecord)) == VariableAttributes.HardwareErrorRecord)
        {
            return EfiStatus.InvalidParameter;
        }

        if ((attributes & VariableAttributes.HardwareErrorRecord) != 0)
        {
            return EfiStatus.Unsupported;
        }

        bool isNonVolatile = (attributes & VariableAttributes.NonVolatile) != 0;
        int max = isNonVolatile ? VariableLimits.NonVolatileQuota : VariableLimits.VolatileQuota;
        int left = Math.Max(0, max - (isNonVolatile ? _table.NonVolatileSize : _table.VolatileSize));
        info = new((ulong)max, (ulong)left, (ulong)Math.Min(left, VariableLimits.MaxData));
        return EfiStatus.Success;
    }

    /// <summary>What a write does to a variable whose writer may do it.</summary>
    /// <param name="changes">Where the change goes.</param>
    /// <param name="id">The variable.</param>
    /// <param name="attributes">Attributes of the write; those of the variable but for appending, or none.</param>
    /// <param name="data">What is written.</param>
    /// <param name="time">Time of an authenticated write.</param>
    /// <param name="signer">Who signed it, for a new variable.</param>
    /// <returns><see cref="EfiStatus.NotFound"/>: nothing to delete; <see cref="EfiStatus.WriteProtected"/>: volatile, after <c>ExitBootServices</c>;
    /// <see cref="EfiStatus.InvalidParameter"/>: it became too long, or may not be made after <c>ExitBootServices</c>.</returns>
    public EfiStatus Update(VariableChanges changes, VariableId id, VariableAttributes attributes, ReadOnlyMemory<byte> data, EfiTime? time = null, byte[]? signer = null)
    {
        bool isAppend = (attributes & VariableAttributes.AppendWrite) != 0;
        bool isDeletion = (data.IsEmpty && !isAppend) || (attributes & VariableAttributes.Access) == 0;
        VariableAttributes kept = attributes & ~VariableAttributes.AppendWrite;
        if (_table.Find(id) is not Variable old)
        {
            if (data.IsEmpty && isAppend)
            {
                return EfiStatus.Success;
            }

            if (isDeletion)
            {
                return EfiStatus.NotFound;
            }

            const VariableAttributes Needed = VariableAttributes.RuntimeAccess | VariableAttributes.NonVolatile;
            if (IsRuntime && (attributes & Needed) != Needed)
            {
                return EfiStatus.InvalidParameter;
            }

            changes.Set(new Variable(id, kept, data.ToArray()) { Time = isAppend ? default : time.GetValueOrDefault(), Signer = signer ?? [] });
            return EfiStatus.Success;
        }

        if (IsRuntime && !old.IsNonVolatile)
        {
            return EfiStatus.WriteProtected;
        }

        if (isDeletion)
        {
            changes.Remove(id);
            return EfiStatus.Success;
        }

        if (!isAppend)
        {
            // What is the same already costs no write.
            if (time is not null || !data.Span.SequenceEqual(old.Data))
            {
                changes.Set(old with { Data = data.ToArray(), Time = time ?? old.Time });
            }

            return EfiStatus.Success;
        }

        if (old.Data.Length + data.Length > VariableLimits.MaxData)
        {
            return EfiStatus.InvalidParameter;
        }

        EfiTime newest = time is EfiTime later && later.IsLaterThan(old.Time) ? later : old.Time;
        if (!data.IsEmpty || newest != old.Time)
        {
            changes.Set(old with { Data = [.. old.Data, .. data.Span], Time = newest });
        }

        return EfiStatus.Success;
    }

    private static EfiStatus CheckAttributes(VariableId id, VariableAttributes attributes)
    {
        const VariableAttributes Counter = VariableAttributes.AuthenticatedWriteAccess;
        if (id.Name.Length == 0 || (attributes & ~(VariableAttributes.Known | Counter)) != 0)
        {
            return EfiStatus.InvalidParameter;
        }

        if ((attributes & Counter) != 0)
        {
            return EfiStatus.Unsupported;
        }

        return (attributes & VariableAttributes.Access) == VariableAttributes.RuntimeAccess
            || (attributes & VariableAttributes.Known) == VariableAttributes.NonVolatile
            || (attributes & VariableAttributes.HardwareErrorRecord) != 0
            ? EfiStatus.InvalidParameter
            : EfiStatus.Success;
    }

    private bool IsVisible(Variable variable) => !IsRuntime || (variable.Attributes & VariableAttributes.RuntimeAccess) != 0;
}
