// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The records of variables in a store, where the module of an image has them: for the svsm tool, which opens the store's file while no machine has it.
//
//   load     every record of the namespace, if there is one
//   commit   all changes, and the namespace with its quota, if the records need one or more: one commit

using System;
using System.Collections.Generic;
using System.Linq;
using Svsm.Store;

namespace Svsm.Modules.VarStore.Desk;

/// <summary>Keeps non-volatile variables in a persistent store, in the namespace of the module that serves them.</summary>
/// <param name="store">The store.</param>
public sealed class StoreVariableStorage(PersistentStore store) : IVariableStorage
{
    // UEFI MM, the protocol of VarStoreModule.
    private const uint Protocol = 4;

    private static readonly Guid s_namespace = ModuleNamespaces.IdOf(Protocol);

    /// <inheritdoc/>
    public bool IsPersistent => true;

    /// <summary>
    /// What the last call came to in the store. After a load <see cref="StoreResult.NameInvalid"/> is a record whose name is not one of a variable. After a
    /// commit <see cref="StoreResult.NoRoom"/> and <see cref="StoreResult.TransactionTooLarge"/> are changes that do not fit; nothing was changed.
    /// </summary>
    public StoreResult Result { get; private set; }

    /// <inheritdoc/>
    public bool TryLoad(out IReadOnlyList<StorageRecord> records)
    {
        Result = StoreResult.Done;
        var list = new List<StorageRecord>();
        records = list;
        if (store.Begin(s_namespace) is not StoreTransaction transaction)
        {
            return true;
        }

        foreach (byte[] name in transaction.Names)
        {
            if (!VariableRecord.TryReadName(name, out uint number))
            {
                Result = StoreResult.NameInvalid;
                return false;
            }

            Result = transaction.TryGet(name, out byte[] value);
            if (Result != StoreResult.Done)
            {
                return false;
            }

            list.Add(new(number, value));
        }

        return true;
    }

    /// <inheritdoc/>
    public bool TryCommit(ReadOnlySpan<StorageRecord> changes)
    {
        NamespaceUsage usage = store.Namespaces.FirstOrDefault(space => space.Id == s_namespace);
        StoreTransaction? before = store.Begin(s_namespace);
        var steps = new List<(byte[] Name, ReadOnlyMemory<byte>? Value, long Growth)>();
        foreach (StorageRecord change in changes)
        {
            byte[] name = VariableRecord.NameOf(change.Number);
            long growth = change.Value is ReadOnlyMemory<byte> value ? PersistentStore.Charge(name.Length, value.Length) : 0;
            if (before?.TryGet(name, out byte[] old) == StoreResult.Done)
            {
                growth -= PersistentStore.Charge(name.Length, old.Length);
            }

            steps.Add((name, change.Value, growth));
        }

        // Whoever has the image says what the namespace may have: the module tells the store when it starts. Until then it is no more than it takes.
        long needed = usage.Used + steps.Sum(step => step.Growth);
        if (store.Begin(s_namespace, Math.Max(needed, usage.Quota)) is not StoreTransaction transaction)
        {
            Result = StoreResult.NoRoom;
            return false;
        }

        // What becomes less comes first: so nothing takes more in between than before or afterwards.
        foreach ((byte[] name, ReadOnlyMemory<byte>? change, _) in steps.OrderBy(step => step.Growth))
        {
            Result = change is ReadOnlyMemory<byte> value ? transaction.Put(name, value.Span) : transaction.Delete(name);
            if (Result != StoreResult.Done)
            {
                return false;
            }
        }

        Result = transaction.Commit();
        return Result == StoreResult.Done;
    }
}
