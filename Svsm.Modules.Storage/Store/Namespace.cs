// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;

namespace Svsm.Store;

/// <summary>A namespace in memory.</summary>
internal sealed class Namespace(uint number, Guid id)
{
    public uint Number => number;

    public Guid Id => id;

    public long Quota { get; set; }

    public long Used { get; private set; }

    public RecordIndex Records { get; } = new();

    public void Set(byte[] name, in StoredValue value)
    {
        Remove(name);
        Records.Add(name, value);
        Used += StoreFormat.Charge(name.Length, value.Length);
    }

    public bool Remove(byte[] name)
    {
        int place = Records.Find(name);
        if (place < 0)
        {
            return false;
        }

        Used -= StoreFormat.Charge(name.Length, Records.ValueAt(place).Length);
        Records.Remove(place);
        return true;
    }
}
