// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// What a store says about itself and about what was asked of it. For those who host one.

using System;

namespace Svsm.Store;

/// <summary>A state of a store: which one in the order of commits, and a digest that no other state has.</summary>
/// <param name="Generation">How many commits led to it.</param>
/// <param name="Root">
/// 64 hexadecimal digits: SHA-256 of <c>"svsm-store 1"</c>, a zero byte, the store's id, the generation and the tag of its commit. The tag depends on
/// everything before, so two stores that were one part with different roots.
/// </param>
public readonly record struct StoreVersion(ulong Generation, string Root);

/// <summary>Where the key of a store comes from, if a chip derives it: with which versions. Public, and kept with the store.</summary>
/// <param name="Svn">Security version of the guest.</param>
/// <param name="Tcb">TCB version of the chip.</param>
public readonly record struct StoreKeyOrigin(uint Svn, ulong Tcb);

/// <summary>What opening or creating a store came to.</summary>
public enum StoreState
{
    /// <summary>The store is open.</summary>
    Opened,

    /// <summary>The device has no store: it is zero. Only <see cref="PersistentStore.Create(IBlockDevice, ReadOnlySpan{byte}, StoreKeyOrigin)"/> makes one.</summary>
    Fresh,

    /// <summary>To create: the device has something on it.</summary>
    NotFresh,

    /// <summary>The store has another key.</summary>
    WrongKey,

    /// <summary>Something is not what was written. <see cref="StoreOpening.Detail"/> and <see cref="StoreOpening.Block"/> say what and where.</summary>
    Damaged,

    /// <summary>The store is older than the wanted version: the device, or a copy of it, from before.</summary>
    Older,

    /// <summary>The store has a history in which the wanted version is not, or is no longer: two machines went on from one device, or it was not anchored for long.</summary>
    Forked,

    /// <summary>The store has a format of another version.</summary>
    UnknownVersion,

    /// <summary>The store is marked: its guest is at another SVSM, or was to come from one and never did.</summary>
    Moved,

    /// <summary>The device is smaller than the store on it.</summary>
    Truncated,

    /// <summary>The device failed to read, write or flush.</summary>
    DeviceFailed,

    /// <summary>Sectors that are neither 512 nor 4096 bytes, or too few of them for a store.</summary>
    DeviceUnusable,

    /// <summary>There are no random bytes.</summary>
    NoEntropy,
}

/// <summary>What a call came to.</summary>
public enum StoreResult
{
    /// <summary>Done.</summary>
    Done,

    /// <summary>There is no such record, or no such namespace.</summary>
    NotFound,

    /// <summary>The namespace's quota does not allow it; nobody else is concerned.</summary>
    QuotaExceeded,

    /// <summary>A name of no bytes, or of more than 1024.</summary>
    NameInvalid,

    /// <summary>A value of more than 65536 bytes.</summary>
    ValueTooLong,

    /// <summary>More than fits into one commit (256 KiB with names and heads).</summary>
    TransactionTooLarge,

    /// <summary>The store has no room for this quota beside the others', or has as many namespaces as it can have.</summary>
    NoRoom,

    /// <summary>The value on the device is not the one that was written.</summary>
    Damaged,

    /// <summary>The device failed. After a commit: it may be there or not, which opening the store again decides.</summary>
    DeviceFailed,

    /// <summary>There are no random bytes. Nothing was written, and the store is as it was.</summary>
    NoEntropy,

    /// <summary>The store was opened to be read.</summary>
    ReadOnly,

    /// <summary>A commit has failed on the device before: the store must be opened again.</summary>
    Closed,
}

/// <summary>What opening or creating a store came to, and the store.</summary>
public sealed class StoreOpening
{
    internal StoreOpening(StoreState state, string detail, long? block = null)
    {
        State = state;
        Detail = detail;
        Block = block;
    }

    internal StoreOpening(PersistentStore store, bool isRepaired)
        : this(StoreState.Opened, "")
    {
        Store = store;
        IsRepaired = isRepaired;
    }

    /// <summary>What it came to.</summary>
    public StoreState State { get; }

    /// <summary>The store, if it is open.</summary>
    public PersistentStore? Store { get; }

    /// <summary>What was found, for people; empty if the store is open.</summary>
    public string Detail { get; }

    /// <summary>The block of 4096 bytes where it was found.</summary>
    public long? Block { get; }

    /// <summary>A commit was finished that had been interrupted, or a superblock was damaged and has been written anew.</summary>
    public bool IsRepaired { get; }
}

/// <summary>A namespace, as it is.</summary>
/// <param name="Id">Its id.</param>
/// <param name="Quota">What its records may take, in bytes.</param>
/// <param name="Used">What they take: each 32 bytes, its name, and its value rounded up to 16.</param>
/// <param name="Records">How many there are.</param>
public readonly record struct NamespaceUsage(Guid Id, long Quota, long Used, int Records);

/// <summary>Something that is not what was written.</summary>
/// <param name="Block">The block of 4096 bytes where it is.</param>
/// <param name="Text">What it is.</param>
public readonly record struct StoreFinding(long Block, string Text);
