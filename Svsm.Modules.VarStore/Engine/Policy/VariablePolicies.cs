// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Variable policies: what firmware lays down about sizes, attributes and locks of variables, from the end of DXE on. They last until the guest starts anew.
//
//   entry    00 u32 version 1.0 | 04 u16 bytes of the entry | 06 u16 offset of the name | 08 GUID | 18 u32 smallest | 1C u32 largest size | 20 u32 attributes
//            that must be | 24 u32 that must not | 28 u8 kind of lock | 29 zero (3) | 2C for a lock on the state of a variable: GUID (16), u8 value, u8,
//            its name with NUL | the name with NUL, where # is a hexadecimal digit; without one, all names
//
// Of several that match the one with the fewest # counts, one without a name last; of equals the first.
// Source: EDK2 MdeModulePkg/Include/Protocol/VariablePolicy.h and MdeModulePkg/Library/VariablePolicyLib.

using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.Runtime.InteropServices;

namespace Svsm.Modules.VarStore;

internal enum PolicyLock : byte
{
    None = 0,
    Now = 1,
    OnCreate = 2,
    OnVariableState = 3,
}

/// <summary>A policy, checked.</summary>
internal sealed class VariablePolicy
{
    public const int HeaderLength = 0x2C;
    public const int StateLength = 18;

    private const uint Version = 0x1_0000;
    private const int SizeOffset = 4;
    private const int NameOffset = 6;
    private const int VendorOffset = 8;
    private const int MinSizeOffset = 0x18;
    private const int MaxSizeOffset = 0x1C;
    private const int MustHaveOffset = 0x20;
    private const int CannotHaveOffset = 0x24;
    private const int LockOffset = 0x28;
    private const int ValueOffset = HeaderLength + 16;
    private const int MaxDigits = 255;

    private VariablePolicy(byte[] entry, string? name, VariableId? state)
    {
        Entry = entry;
        Name = name;
        State = state;
    }

    /// <summary>The entry as it was registered.</summary>
    public byte[] Entry { get; }

    /// <summary>The name with its <c>#</c>; null: all names.</summary>
    public string? Name { get; }

    /// <summary>The variable whose state locks.</summary>
    public VariableId? State { get; }

    public byte StateValue => Entry[ValueOffset];

    public Guid Vendor => new(Entry.AsSpan(VendorOffset, 16));

    public uint MinSize => BinaryPrimitives.ReadUInt32LittleEndian(Entry.AsSpan(MinSizeOffset));

    public uint MaxSize => BinaryPrimitives.ReadUInt32LittleEndian(Entry.AsSpan(MaxSizeOffset));

    public VariableAttributes MustHave => (VariableAttributes)BinaryPrimitives.ReadUInt32LittleEndian(Entry.AsSpan(MustHaveOffset));

    public VariableAttributes CannotHave => (VariableAttributes)BinaryPrimitives.ReadUInt32LittleEndian(Entry.AsSpan(CannotHaveOffset));

    public PolicyLock Lock => (PolicyLock)Entry[LockOffset];

    /// <summary>A policy that locks a variable.</summary>
    public static byte[] NewLock(VariableId id)
    {
        byte[] entry = new byte[HeaderLength + Variable.NameLength(id.Name)];
        BinaryPrimitives.WriteUInt32LittleEndian(entry, Version);
        BinaryPrimitives.WriteUInt16LittleEndian(entry.AsSpan(SizeOffset), (ushort)entry.Length);
        BinaryPrimitives.WriteUInt16LittleEndian(entry.AsSpan(NameOffset), HeaderLength);
        id.Vendor.TryWriteBytes(entry.AsSpan(VendorOffset));
        BinaryPrimitives.WriteUInt32LittleEndian(entry.AsSpan(MaxSizeOffset), uint.MaxValue);
        entry[LockOffset] = (byte)PolicyLock.Now;
        MemoryMarshal.AsBytes(id.Name.AsSpan()).CopyTo(entry.AsSpan(HeaderLength));
        return entry;
    }

    /// <summary>Reads an entry, which may be followed by anything. Null: it is none.</summary>
    public static VariablePolicy? Read(ReadOnlySpan<byte> untrusted)
    {
        if (untrusted.Length < HeaderLength || BinaryPrimitives.ReadUInt32LittleEndian(untrusted) != Version)
        {
            return null;
        }

        int size = BinaryPrimitives.ReadUInt16LittleEndian(untrusted[SizeOffset..]);
        int nameOffset = BinaryPrimitives.ReadUInt16LittleEndian(untrusted[NameOffset..]);
        if (size < HeaderLength || size > untrusted.Length || nameOffset < HeaderLength || nameOffset > size
            || BinaryPrimitives.ReadUInt32LittleEndian(untrusted[MaxSizeOffset..]) == 0 || untrusted[LockOffset] > (byte)PolicyLock.OnVariableState)
        {
            return null;
        }

        byte[] entry = untrusted[..size].ToArray();
        VariableId? state = null;
        if ((PolicyLock)entry[LockOffset] == PolicyLock.OnVariableState)
        {
            if (nameOffset < HeaderLength + StateLength || !TryReadName(entry.AsSpan((HeaderLength + StateLength)..nameOffset), out string? stateName))
            {
                return null;
            }

            state = new VariableId(new Guid(entry.AsSpan(HeaderLength, 16)), stateName!);
        }
        else if (nameOffset != HeaderLength)
        {
            return null;
        }

        string? name = null;
        return nameOffset != size && (!TryReadName(entry.AsSpan(nameOffset), out name) || name.AsSpan().Count('#') > MaxDigits)
            ? null
            : new VariablePolicy(entry, name, state);
    }

    /// <summary>How well it matches: 0 exactly, otherwise the more the worse; -1: not at all.</summary>
    public int Match(VariableId id)
    {
        if (Vendor != id.Vendor)
        {
            return -1;
        }

        if (Name is null)
        {
            return MaxDigits;
        }

        if (Name.Length != id.Name.Length)
        {
            return -1;
        }

        int digits = 0;
        for (int i = 0; i < Name.Length; i++)
        {
            if (Name[i] == '#' && char.IsAsciiHexDigit(id.Name[i]))
            {
                digits++;
            }
            else if (Name[i] != id.Name[i] || Name[i] == '#')
            {
                return -1;
            }
        }

        return digits;
    }

    // Exactly one NUL, at the end.
    private static bool TryReadName(ReadOnlySpan<byte> bytes, out string? name)
    {
        name = null;
        ReadOnlySpan<char> text = MemoryMarshal.Cast<byte, char>(bytes);
        if (bytes.Length % sizeof(char) != 0 || text.IndexOf('\0') != text.Length - 1 || text.IsEmpty)
        {
            return false;
        }

        name = new string(text[..^1]);
        return true;
    }
}

/// <summary>The policies of a start of the guest.</summary>
internal sealed class VariablePolicies
{
    private readonly List<VariablePolicy> _policies = [];
    private int _size;

    /// <summary>Whether nothing can be registered any more.</summary>
    public bool IsLocked { get; private set; }

    /// <summary>All entries, one behind the other.</summary>
    public byte[] Dump()
    {
        byte[] table = new byte[_size];
        int at = 0;
        foreach (VariablePolicy policy in _policies)
        {
            policy.Entry.CopyTo(table, at);
            at += policy.Entry.Length;
        }

        return table;
    }

    public void Clear()
    {
        _policies.Clear();
        _size = 0;
        IsLocked = false;
    }

    /// <summary>Takes what <see cref="Dump"/> gave, when there are none. Untrusted.</summary>
    /// <returns>False: it is no dump.</returns>
    public bool TryRestore(ReadOnlySpan<byte> dump, bool isLocked)
    {
        while (!dump.IsEmpty)
        {
            if (Register(dump) != EfiStatus.Success)
            {
                return false;
            }

            dump = dump[_policies[^1].Entry.Length..];
        }

        IsLocked = isLocked;
        return true;
    }

    /// <returns><see cref="EfiStatus.WriteProtected"/>: it was locked before.</returns>
    public EfiStatus Lock()
    {
        EfiStatus status = IsLocked ? EfiStatus.WriteProtected : EfiStatus.Success;
        IsLocked = true;
        return status;
    }

    /// <summary>Registers an entry, which may be followed by anything. Untrusted.</summary>
    /// <returns><see cref="EfiStatus.WriteProtected"/>: locked; <see cref="EfiStatus.InvalidParameter"/>: it is no entry;
    /// <see cref="EfiStatus.AlreadyStarted"/>: there is one for this very name; <see cref="EfiStatus.OutOfResources"/>: there are too many.</returns>
    public EfiStatus Register(ReadOnlySpan<byte> entry)
    {
        if (IsLocked)
        {
            return EfiStatus.WriteProtected;
        }

        if (VariablePolicy.Read(entry) is not VariablePolicy policy)
        {
            return EfiStatus.InvalidParameter;
        }

        if (policy.Name is string name && Find(new(policy.Vendor, name), out int match) is not null && match == 0)
        {
            return EfiStatus.AlreadyStarted;
        }

        if (_size + policy.Entry.Length > VariableLimits.PolicyQuota)
        {
            return EfiStatus.OutOfResources;
        }

        _policies.Add(policy);
        _size += policy.Entry.Length;
        return EfiStatus.Success;
    }

    public VariablePolicy? Find(VariableId id) => Find(id, out _);

    /// <summary>Checks a write, or a deletion, whose <paramref name="size"/> is 0 without appending.</summary>
    /// <param name="id">The variable.</param>
    /// <param name="attributes">Attributes of the write.</param>
    /// <param name="size">Bytes that are to be written.</param>
    /// <param name="find">Finds a variable that the guest may see.</param>
    /// <returns><see cref="EfiStatus.InvalidParameter"/>: size or attributes; <see cref="EfiStatus.WriteProtected"/>: it is locked.</returns>
    public EfiStatus Check(VariableId id, VariableAttributes attributes, int size, Func<VariableId, Variable?> find)
    {
        if (Find(id) is not VariablePolicy policy)
        {
            return EfiStatus.Success;
        }

        bool isDeletion = size == 0 && (attributes & VariableAttributes.AppendWrite) == 0;
        if (!isDeletion && (size < policy.MinSize || size > policy.MaxSize || (attributes & policy.MustHave) != policy.MustHave || (attributes & policy.CannotHave) != 0))
        {
            return EfiStatus.InvalidParameter;
        }

        bool isLocked = policy.Lock switch
        {
            PolicyLock.Now => true,
            PolicyLock.OnCreate => find(id) is not null,
            PolicyLock.OnVariableState => find(policy.State!) is { Data: [byte value] } && value == policy.StateValue,
            _ => false,
        };
        return isLocked ? EfiStatus.WriteProtected : EfiStatus.Success;
    }

    private VariablePolicy? Find(VariableId id, out int match)
    {
        VariablePolicy? best = null;
        match = int.MaxValue;
        foreach (VariablePolicy policy in _policies)
        {
            int one = policy.Match(id);
            if (one >= 0 && one < match)
            {
                best = policy;
                match = one;
            }
        }

        return best;
    }
}
