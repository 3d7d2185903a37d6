// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The variables in the module's part of the store: a record each, called by its number (VariableRecord.NameOf).
//
// After a change of which nobody knows whether it happened, no other is made: the guest's variables in memory may not be those that are stored, and what
// follows from them must not be. The guest gets EFI_DEVICE_ERROR for every change until the VM starts again.

using System;
using System.Collections.Generic;
using Svsm.Core;

namespace Svsm.Modules.VarStore;

internal sealed class StoredVariables(ModuleStore store, ModuleLog log) : IVariableStorage
{
    private bool _isUnsure;

    /// <inheritdoc/>
    public bool IsPersistent => true;

    /// <inheritdoc/>
    public bool TryLoad(out IReadOnlyList<StorageRecord> records)
    {
        var found = new List<StorageRecord>();
        records = found;
        StoreStatus status = store.List(out IReadOnlyList<byte[]> names);
        foreach (byte[] name in names)
        {
            byte[] value = [];
            status = status == StoreStatus.Done ? store.TryGet(name, out value) : status;
            if (status != StoreStatus.Done || !VariableRecord.TryReadName(name, out uint number))
            {
                break;
            }

            found.Add(new(number, value));
        }

        if (status != StoreStatus.Done)
        {
            log.Error($"the stored variables cannot be read: {status}");
        }

        return status == StoreStatus.Done && found.Count == names.Count;
    }

    /// <inheritdoc/>
    public bool TryCommit(ReadOnlySpan<StorageRecord> changes)
    {
        if (_isUnsure)
        {
            return false;
        }

        var wanted = new StoreChange[changes.Length];
        for (int i = 0; i < changes.Length; i++)
        {
            byte[] name = VariableRecord.NameOf(changes[i].Number);
            wanted[i] = changes[i].Value is ReadOnlyMemory<byte> value ? StoreChange.Put(name, value) : StoreChange.Delete(name);
        }

        StoreStatus status = store.Commit(wanted);
        _isUnsure = status == StoreStatus.Failed;
        if (status != StoreStatus.Done)
        {
            log.Error($"a change of variables was not stored: {status}{(_isUnsure ? "; no other one is tried" : "")}");
        }

        return status == StoreStatus.Done;
    }
}
