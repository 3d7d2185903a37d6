// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The store of an SVSM on a block device: records with names in namespaces with quotas, changed by transactions. For the module that hosts it, and for
// `svsm store`. docs/store-format.md has the format, and why it is so.
//
// In memory are names and places; values stay on the device and are authenticated each time they are read. There is one thread.
// What a commit does is in PersistentStore.Writing.cs, opening in PersistentStore.Opening.cs.

using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using Org.BouncyCastle.Crypto.Digests;

namespace Svsm.Store;

/// <summary>Fills with random bytes. False: there are none.</summary>
internal delegate bool RandomSource(Span<byte> destination);

/// <summary>What tests replace or watch.</summary>
internal sealed record StoreHooks(RandomSource Random, SealObserver? Observer)
{
    public static readonly StoreHooks Default = new(
        destination =>
        {
            try
            {
                RandomNumberGenerator.Fill(destination);
                return true;
            }
            catch (CryptographicException)
            {
                return false;
            }
        },
        null);
}

/// <summary>An encrypted, transactional store on a block device.</summary>
public sealed partial class PersistentStore
{
    /// <summary>Bytes of the key of a store.</summary>
    public const int KeyLength = StoreCipher.KeyLength;

    /// <summary>The smallest device that a store can be made on, in bytes.</summary>
    public const long MinDeviceLength = StoreFormat.MinBlocks * StoreFormat.BlockSize;

    /// <summary>The largest store, in bytes.</summary>
    public const long MaxDeviceLength = StoreFormat.MaxBlocks * StoreFormat.BlockSize;

    private readonly BlockAccess _device;
    private readonly StoreCipher _cipher;
    private readonly StoreHooks _hooks;
    private readonly bool _readOnly;
    private readonly SortedList<uint, Namespace> _namespaces = [];

    // The newest superblock, and the slot that has it.
    private Superblock _superblock;
    private int _slot;

    // The block behind the base entries, and behind the log.
    private long _baseEnd;
    private long _head;

    private ulong _generation;
    private UInt128 _lastTag;

    // Whether the guest is at another SVSM.
    private bool _isMoved;

    // The tag of the last commit: the last entry's, except behind base entries.
    private UInt128 _stateTag;

    // The state of the last commit that is done, while another one is made.
    private ulong _doneGeneration;
    private UInt128 _doneTag;

    // Set as long as memory and device may differ: an exception in between leaves it so.
    private bool _closed;

    // For what most commits write: every allocation brings the next collection nearer, which costs more than a commit.
    private readonly byte[] _oneBlock = new byte[StoreFormat.BlockSize];
    private int _oneBlockUsed;

    // The entry that was read last, and its cipher.
    private Entry? _lastEntry;
    private UnitCipher? _lastCipher;

    private PersistentStore(BlockAccess device, StoreCipher cipher, StoreHooks hooks, bool readOnly, in Superblock superblock, int slot)
    {
        _device = device;
        _cipher = cipher;
        _hooks = hooks;
        _readOnly = readOnly;
        _superblock = superblock;
        _slot = slot;
        _baseEnd = superblock.Start;
        _head = superblock.Start;
        _lastTag = superblock.FirstLink;
        _stateTag = superblock.FirstLink;
    }

    /// <summary>Tells what a record takes of its namespace's quota.</summary>
    /// <param name="nameLength">Bytes of its name.</param>
    /// <param name="valueLength">Bytes of its value.</param>
    /// <returns>Bytes: of the name, and 32 and the value rounded up to 16, or 160 if that is more.</returns>
    public static long Charge(int nameLength, int valueLength) => StoreFormat.Charge(nameLength, valueLength);

    /// <summary>Which store it is: drawn when it was made.</summary>
    public Guid Id => _superblock.Id;

    /// <summary>The state that the last commit left which was done. What one came to that failed, opening the store again finds out.</summary>
    public StoreVersion Version => _closed ? VersionOf(_doneGeneration, _doneTag) : VersionOf(_generation, _stateTag);

    /// <summary>Bytes of the device that the store uses.</summary>
    public long Length => _superblock.TotalBlocks * StoreFormat.BlockSize;

    /// <summary>What all quotas together may be, in bytes; each namespace takes 64 more.</summary>
    public long Capacity => StoreFormat.Capacity(_superblock.TotalBlocks);

    /// <summary>All namespaces, in the order in which they were made.</summary>
    public IReadOnlyList<NamespaceUsage> Namespaces
    {
        get
        {
            var usages = new List<NamespaceUsage>();
            foreach (Namespace space in _namespaces.Values)
            {
                usages.Add(new NamespaceUsage(space.Id, space.Quota, space.Used, space.Records.Count));
            }

            return usages;
        }
    }

    internal ulong Generation => _generation;

    /// <summary>Whether the store is marked: its guest is at another SVSM, or is to come from one and is not here yet.</summary>
    public bool IsMoved => _isMoved;

    /// <summary>A commit has failed on the device: what is there, opening it again finds out. Everything else is refused.</summary>
    public bool IsClosed => _closed;

    private long End => _superblock.Start + StoreFormat.HalfBlocks(_superblock.TotalBlocks);

    /// <summary>Makes a namespace, or changes the quota of one. A commit of its own, if there is anything to change.</summary>
    /// <param name="id">Its id.</param>
    /// <param name="quota">What its records may take together, in bytes. Less than they take already: they stay, and no others come.</param>
    /// <returns><see cref="StoreResult.Done"/>; <see cref="StoreResult.NoRoom"/>; and what a commit can come to.</returns>
    public StoreResult DefineNamespace(Guid id, long quota)
    {
        if (Find(id)?.Quota == quota)
        {
            return _closed ? StoreResult.Closed : StoreResult.Done;
        }

        return Definition(id, quota) is Operation definition ? Commit([definition]) : StoreResult.NoRoom;
    }

    /// <summary>Removes a namespace with all its records. A commit of its own.</summary>
    /// <param name="id">Its id.</param>
    /// <returns><see cref="StoreResult.Done"/>; <see cref="StoreResult.NotFound"/>; and what a commit can come to.</returns>
    public StoreResult RemoveNamespace(Guid id) => Find(id) is Namespace space
        ? Commit([new Operation { Kind = OperationKind.RemoveNamespace, Namespace = space.Number }])
        : StoreResult.NotFound;

    /// <summary>
    /// Marks the store, so that it is not opened again as long as nobody takes that back; or takes it back. A commit of its own, if there is anything to
    /// change.
    /// </summary>
    /// <param name="isMoved">Whether the guest is at another SVSM.</param>
    /// <returns><see cref="StoreResult.Done"/>, and what a commit can come to.</returns>
    public StoreResult SetMoved(bool isMoved) => isMoved == _isMoved
        ? _closed ? StoreResult.Closed : StoreResult.Done
        : Commit([new Operation { Kind = OperationKind.Mark, Namespace = isMoved ? 1u : 0u }]);

    /// <summary>Begins a transaction on one namespace: reads of it, and changes that a commit makes all at once.</summary>
    /// <param name="id">The namespace.</param>
    /// <returns>Null: there is no such namespace.</returns>
    /// <remarks>A commit invalidates every other transaction of the store.</remarks>
    public StoreTransaction? Begin(Guid id) => Find(id) is Namespace space ? new StoreTransaction(this, space, null, _generation) : null;

    /// <summary>Begins a transaction on one namespace whose commit makes the namespace as well, or changes its quota.</summary>
    /// <param name="id">The namespace.</param>
    /// <param name="quota">What its records may take together, in bytes, from this transaction on.</param>
    /// <returns>Null: there is no room for this quota, or for one more namespace.</returns>
    /// <remarks>A commit invalidates every other transaction of the store.</remarks>
    public StoreTransaction? Begin(Guid id, long quota)
    {
        Namespace? space = Find(id);
        return space?.Quota == quota ? new StoreTransaction(this, space, null, _generation)
            : Definition(id, quota) is Operation definition ? new StoreTransaction(this, space ?? new Namespace(definition.Namespace, id), definition, _generation)
            : null;
    }

    /// <summary>Reads everything that counts, and compares it with what was written.</summary>
    /// <param name="findings">What is not; values name their record.</param>
    /// <returns><see cref="StoreResult.Done"/>, whatever was found; <see cref="StoreResult.DeviceFailed"/>.</returns>
    public StoreResult Verify(out IReadOnlyList<StoreFinding> findings)
    {
        var found = new List<StoreFinding>();
        findings = found;
        foreach (Namespace space in _namespaces.Values)
        {
            for (int place = 0; place < space.Records.End; place++)
            {
                if (!space.Records.IsUsed(place))
                {
                    continue;
                }

                StoredValue value = space.Records.ValueAt(place);
                StoreResult result = ReadValue(value, out _);
                if (result == StoreResult.Damaged)
                {
                    long block = value.Entry is Entry entry ? entry.Block + (value.Offset / StoreFormat.BlockSize) : _superblock.Start;
                    found.Add(new StoreFinding(block, $"the value of {Display(space.Records.NameAt(place))} in namespace {space.Id} is damaged"));
                }
                else if (result != StoreResult.Done)
                {
                    return result;
                }
            }
        }

        return StoreResult.Done;
    }

    internal StoreResult ReadValue(in StoredValue value, out byte[] bytes)
    {
        bytes = [];
        return _closed ? StoreResult.Closed : ReadCell(value, out bytes);
    }

    // Entries have no ciphers of their own, which would be most of what they take. Values are often read one after the other.
    private UnitCipher CipherOf(Entry entry)
    {
        if (_lastEntry != entry)
        {
            (_lastEntry, _lastCipher) = (entry, _cipher.ForSeed(entry.Seed));
        }

        return _lastCipher!;
    }

    private StoreResult ReadCell(in StoredValue value, out byte[] bytes)
    {
        bytes = [];
        if (value.Entry is not Entry entry)
        {
            return StoreResult.Damaged;
        }

        if (value.Length == 0)
        {
            return StoreResult.Done;
        }

        int first = value.Offset / StoreFormat.BlockSize;
        byte[] blocks = new byte[(StoreFormat.Blocks(value.Offset + value.Length) - first) * StoreFormat.BlockSize];
        if (!_device.TryRead(entry.Block + first, blocks))
        {
            return StoreResult.DeviceFailed;
        }

        byte[] text = new byte[value.Length];
        if (!CipherOf(entry).TryOpen(value.Unit, [], blocks.AsSpan(value.Offset - (first * StoreFormat.BlockSize), value.Length), value.Tag, text))
        {
            return StoreResult.Damaged;
        }

        bytes = text;
        return StoreResult.Done;
    }

    // What gives a namespace a quota. Null: there is no room for it.
    private Operation? Definition(Guid id, long quota)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(quota);
        Namespace? existing = Find(id);

        // Records that exceed a lowered quota take their place all the same.
        long others = 0;
        foreach (Namespace space in _namespaces.Values)
        {
            others += space != existing ? Math.Max(space.Quota, space.Used) + StoreFormat.NamespaceCharge : 0;
        }

        long own = Math.Max(quota, existing?.Used ?? 0);
        if ((existing is null && _namespaces.Count == StoreFormat.MaxNamespaces) || own > Capacity - others - StoreFormat.NamespaceCharge)
        {
            return null;
        }

        uint number = existing?.Number ?? (_namespaces.Count == 0 ? 1 : _namespaces.Keys[^1] + 1);
        return new Operation { Kind = OperationKind.DefineNamespace, Namespace = number, Name = id.ToByteArray(), Quota = quota };
    }

    private Namespace? Find(Guid id)
    {
        foreach (Namespace space in _namespaces.Values)
        {
            if (space.Id == id)
            {
                return space;
            }
        }

        return null;
    }

    private StoreVersion VersionOf(ulong generation, UInt128 tag)
    {
        // Short enough for one block of SHA-256.
        Span<byte> text = stackalloc byte[13 + 16 + sizeof(ulong) + StoreCipher.TagLength];
        "svsm-store 1\0"u8.CopyTo(text);
        Id.TryWriteBytes(text[13..]);
        BinaryPrimitives.WriteUInt64LittleEndian(text[29..], generation);
        BinaryPrimitives.WriteUInt128LittleEndian(text[37..], tag);
        var digest = new Sha256Digest();
        digest.BlockUpdate(text);
        byte[] root = new byte[digest.GetDigestSize()];
        digest.DoFinal(root);
        return new StoreVersion(generation, Convert.ToHexStringLower(root));
    }

    // Names are bytes; those that read as text are shown so.
    private static string Display(byte[] name) => !name.AsSpan().ContainsAnyExceptInRange((byte)0x21, (byte)0x7E)
        ? $"'{Encoding.ASCII.GetString(name)}'"
        : string.Create(CultureInfo.InvariantCulture, $"0x{Convert.ToHexStringLower(name)}");
}
