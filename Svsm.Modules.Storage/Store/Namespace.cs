// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using System.Diagnostics.CodeAnalysis;

namespace Svsm.Store;

/// <summary>Where a value is. Without an entry it was found damaged, and is lost.</summary>
internal readonly record struct StoredValue(Entry? Entry, int Offset, int Length, uint Unit, UInt128 Tag);

/// <summary>A namespace in memory: names, and where their values are.</summary>
internal sealed class Namespace(uint number, Guid id)
{
    public uint Number => number;

    public Guid Id => id;

    public long Quota { get; set; }

    public long Used { get; private set; }

    // Names come from the guest: the hash code has a random seed, so nobody chooses names that collide.
    public Dictionary<byte[], StoredValue> Records { get; } = new(NameComparer.Instance);

    public void Set(byte[] name, StoredValue value)
    {
        Remove(name);
        Records.Add(name, value);
        Used += StoreFormat.Charge(name.Length, value.Length);
    }

    public bool Remove(byte[] name)
    {
        if (!Records.Remove(name, out StoredValue old))
        {
            return false;
        }

        Used -= StoreFormat.Charge(name.Length, old.Length);
        return true;
    }
}

internal sealed class NameComparer : IEqualityComparer<byte[]>, IAlternateEqualityComparer<ReadOnlySpan<byte>, byte[]>
{
    public static readonly NameComparer Instance = new();

    public bool Equals(byte[]? x, byte[]? y) => x.AsSpan().SequenceEqual(y);

    public int GetHashCode([DisallowNull] byte[] obj) => GetHashCode(obj.AsSpan());

    public bool Equals(ReadOnlySpan<byte> alternate, byte[] other) => alternate.SequenceEqual(other);

    public int GetHashCode(ReadOnlySpan<byte> alternate)
    {
        var hash = default(HashCode);
        hash.AddBytes(alternate);
        return hash.ToHashCode();
    }

    public byte[] Create(ReadOnlySpan<byte> alternate) => alternate.ToArray();
}
