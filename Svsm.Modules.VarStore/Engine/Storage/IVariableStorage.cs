// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// What the engine wants of whoever keeps the non-volatile variables: numbered records, and changes that happen together or not at all.

using System;
using System.Collections.Generic;

namespace Svsm.Modules.VarStore;

/// <summary>A record of the storage.</summary>
/// <param name="Number">Its number. 0 is the state of the store, others are variables, from 0x8000_0001 on what of a large one does not fit into a record.</param>
/// <param name="Value">What it holds, at most 64 KiB; null in a change: the record is removed.</param>
public sealed record StorageRecord(uint Number, ReadOnlyMemory<byte>? Value);

/// <summary>
/// Keeps non-volatile variables. At most 2048 records, and 513 KiB in all with 36 bytes for each: the guest's quota of 256 KiB, and as much that an image may
/// bring as keys for secure boot, for which that quota does not count.
/// </summary>
public interface IVariableStorage
{
    /// <summary>Whether what is committed survives the end of the VM: bit 0 of the attestation manifest's flags.</summary>
    bool IsPersistent { get; }

    /// <summary>Reads all records, once, when the engine starts.</summary>
    /// <param name="records">Every record, in any order; empty: a new storage.</param>
    /// <returns>False: the storage cannot be read, or is not what was committed. The engine does not start then.</returns>
    bool TryLoad(out IReadOnlyList<StorageRecord> records);

    /// <summary>Makes changes durable: all of them, or none.</summary>
    /// <param name="changes">The changes, at least one, each number once.</param>
    /// <returns>True: they are durable. False: none of them is, and the guest gets <see cref="EfiStatus.DeviceError"/>.</returns>
    bool TryCommit(ReadOnlySpan<StorageRecord> changes);
}
