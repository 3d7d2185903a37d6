// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;

namespace Svsm.Store;

/// <summary>Where a value is.</summary>
internal sealed class StoredValue
{
    public StoredValue(Entry entry, Operation operation)
    {
        Length = operation.ValueLength;
        Move(entry, operation);
    }

    /// <summary>Null: the value was found damaged, and is lost.</summary>
    public Entry? Entry { get; private set; }

    public int Offset { get; private set; }

    public int Length { get; }

    public uint Unit { get; private set; }

    public UInt128 Tag { get; private set; }

    /// <summary>The same value is there now.</summary>
    public void Move(Entry entry, Operation operation)
    {
        Entry = operation.Kind == OperationKind.Lost ? null : entry;
        (Offset, Unit, Tag) = (operation.Offset, operation.Unit, operation.Tag);
    }
}

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
        if (!Records.Remove(name, out StoredValue? old))
        {
            return false;
        }

        Used -= StoreFormat.Charge(name.Length, old.Length);
        return true;
    }
}

internal sealed class NameComparer : IEqualityComparer<byte[]>
{
    public static readonly NameComparer Instance = new();

    public bool Equals(byte[]? x, byte[]? y) => x.AsSpan().SequenceEqual(y);

    public int GetHashCode(byte[] obj)
    {
        var hash = default(HashCode);
        hash.AddBytes(obj);
        return hash.ToHashCode();
    }
}
