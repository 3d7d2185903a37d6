// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// A storage that ends with its process: for images without one, and for tests. It keeps the numbers only where somebody wants to open it again.

using System;
using System.Collections.Generic;
using System.Linq;

namespace Svsm.Modules.VarStore;

/// <summary>Keeps non-volatile variables in memory.</summary>
/// <param name="keepsRecords">False: nothing is kept, as nobody will ever load it. True: another engine can be opened with it.</param>
public sealed class MemoryVariableStorage(bool keepsRecords = false) : IVariableStorage
{
    private readonly Dictionary<uint, byte[]> _records = [];

    /// <inheritdoc/>
    public bool IsPersistent => false;

    /// <inheritdoc/>
    public bool TryLoad(out IReadOnlyList<StorageRecord> records)
    {
        records = [.. _records.Select(record => new StorageRecord(record.Key, record.Value))];
        return true;
    }

    /// <inheritdoc/>
    public bool TryCommit(ReadOnlySpan<StorageRecord> changes)
    {
        if (!keepsRecords)
        {
            return true;
        }

        foreach (StorageRecord change in changes)
        {
            if (change.Value is ReadOnlyMemory<byte> value)
            {
                _records[change.Number] = value.ToArray();
            }
            else
            {
                _records.Remove(change.Number);
            }
        }

        return true;
    }
}
