// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The records of a namespace in memory: names, and where their values are. A hash table with chains, for a heap of a few MiB: 56 bytes for a record, in pieces that are
// never moved, 4 to 8 for its bucket, its name, and at most an entry of 48. StoreFormat.RecordCharge is more than that. Dictionary would take more for each, double what
// it has, and copy that.
//
//   bucket --> place --> next place ...    places are numbered, 256 in a piece; free ones have a chain of their own
//
// Names come from the guest: the hash code has a random seed, so nobody chooses names that collide.

using System;
using System.Collections.Generic;

namespace Svsm.Store;

/// <summary>Where a value is.</summary>
internal struct StoredValue
{
    /// <summary>Null: the value was found damaged, and is lost.</summary>
    public Entry? Entry;

    public int Offset;
    public int Length;
    public uint Unit;

    // As one number it would be aligned to its own length.
    private ulong _tagLow;
    private ulong _tagHigh;

    /// <summary>The value's tag.</summary>
    public readonly UInt128 Tag => new(_tagHigh, _tagLow);

    /// <summary>Takes over where a value is.</summary>
    public StoredValue(Entry entry, Operation operation)
    {
        Entry = operation.Kind == OperationKind.Lost ? null : entry;
        (Offset, Length, Unit) = (operation.Offset, operation.ValueLength, operation.Unit);
        (_tagLow, _tagHigh) = ((ulong)operation.Tag, (ulong)(operation.Tag >> 64));
    }
}

internal sealed class RecordIndex
{
    private const int PieceLength = 256;
    private const int FirstBuckets = 16;
    private const int None = -1;

    private readonly List<Place[]> _pieces = [];

    // Of a bucket: its first place, plus 1; 0: none.
    private int[] _buckets = new int[FirstBuckets];
    private int _free = None;
    private int _end;

    /// <summary>How many records there are.</summary>
    public int Count { get; private set; }

    /// <summary>Numbers of places are below this one.</summary>
    public int End => _end;

    /// <summary>Whether a place has a record.</summary>
    public bool IsUsed(int place) => At(place).Name is not null;

    /// <summary>The name of the record in a place, which has one.</summary>
    public byte[] NameAt(int place) => At(place).Name!;

    /// <summary>The value of the record in a place.</summary>
    public ref StoredValue ValueAt(int place) => ref At(place).Value;

    /// <summary>Finds a record.</summary>
    /// <param name="name">Its name.</param>
    /// <returns>Its place; negative: there is none.</returns>
    public int Find(ReadOnlySpan<byte> name)
    {
        for (int place = _buckets[Bucket(name)] - 1; place >= 0; place = At(place).Next)
        {
            if (At(place).Name.AsSpan().SequenceEqual(name))
            {
                return place;
            }
        }

        return None;
    }

    /// <summary>Adds a record, whose name none has.</summary>
    public void Add(byte[] name, in StoredValue value)
    {
        if (Count == _buckets.Length)
        {
            Rehash();
        }

        int place = _free;
        if (place >= 0)
        {
            _free = At(place).Next;
        }
        else
        {
            place = _end++;
            if (place / PieceLength == _pieces.Count)
            {
                _pieces.Add(new Place[PieceLength]);
            }
        }

        int bucket = Bucket(name);
        At(place) = new Place { Name = name, Value = value, Next = _buckets[bucket] - 1 };
        _buckets[bucket] = place + 1;
        Count++;
    }

    /// <summary>Removes the record in a place.</summary>
    public void Remove(int place)
    {
        int bucket = Bucket(At(place).Name);
        int next = At(place).Next;
        int before = _buckets[bucket] - 1;
        if (before == place)
        {
            _buckets[bucket] = next + 1;
        }
        else
        {
            while (At(before).Next != place)
            {
                before = At(before).Next;
            }

            At(before).Next = next;
        }

        At(place) = new Place { Next = _free };
        _free = place;
        Count--;
    }

    private void Rehash()
    {
        _buckets = new int[2 * _buckets.Length];
        for (int place = 0; place < _end; place++)
        {
            if (IsUsed(place))
            {
                int bucket = Bucket(At(place).Name);
                At(place).Next = _buckets[bucket] - 1;
                _buckets[bucket] = place + 1;
            }
        }
    }

    private ref Place At(int place) => ref _pieces[place / PieceLength][place % PieceLength];

    private int Bucket(ReadOnlySpan<byte> name) => NameComparer.Hash(name) & (_buckets.Length - 1);

    private struct Place
    {
        // Null: the place is free.
        public byte[]? Name;
        public StoredValue Value;
        public int Next;
    }
}

internal sealed class NameComparer : IEqualityComparer<byte[]>
{
    public static readonly NameComparer Instance = new();

    public static int Hash(ReadOnlySpan<byte> name)
    {
        var hash = default(HashCode);
        hash.AddBytes(name);
        return hash.ToHashCode();
    }

    public bool Equals(byte[]? x, byte[]? y) => x.AsSpan().SequenceEqual(y);

    public int GetHashCode(byte[] obj) => Hash(obj);
}
