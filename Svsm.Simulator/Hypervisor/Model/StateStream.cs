// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Values of the model on their way out of this machine, or into it: each class names its own once, and the same lines save them, check what came, and
// take it. Little-endian, one behind the other, without padding.
//
//   save    a value is written, and given back
//   check   a value is read and looked at, and the own one given back: nothing changes
//   take    a value is read, and given back
//
// What comes may be damaged: a value that cannot be, or none where one should be, leaves a mark, and the own value stays.

using System;

namespace Svsm.Hypervisor;

/// <summary>Which way values go.</summary>
internal enum StateMode
{
    /// <summary>Out.</summary>
    Save,

    /// <summary>In, but nothing is taken.</summary>
    Check,

    /// <summary>In.</summary>
    Take,
}

/// <summary>Values of the model, in bytes.</summary>
internal ref struct StateStream
{
    private readonly Span<byte> _bytes;

    /// <summary>Makes a stream.</summary>
    /// <param name="bytes">Room, or what came.</param>
    /// <param name="mode">Which way.</param>
    public StateStream(Span<byte> bytes, StateMode mode)
    {
        _bytes = bytes;
        Mode = mode;
    }

    /// <summary>Which way.</summary>
    public StateMode Mode { get; }

    /// <summary>Number of bytes that have passed.</summary>
    public int Length { get; private set; }

    /// <summary>Whether what came is damaged, or there was too little room.</summary>
    public bool IsBad { get; private set; }

    /// <summary>Whether what came is of a machine of another kind.</summary>
    public bool Differs { get; private set; }

    /// <summary>Whether all of it has passed, and is sound.</summary>
    public readonly bool IsComplete => !IsBad && Length == _bytes.Length;

    /// <summary>A value of 64 bits.</summary>
    public ulong Quad(ulong value) => Pass(value, sizeof(ulong), ulong.MaxValue);

    /// <summary>A value of 32 bits.</summary>
    public uint Word(uint value) => (uint)Pass(value, sizeof(uint), uint.MaxValue);

    /// <summary>A value of 16 bits.</summary>
    public ushort Half(ushort value) => (ushort)Pass(value, sizeof(ushort), ushort.MaxValue);

    /// <summary>A value of 8 bits.</summary>
    /// <param name="value">The own one.</param>
    /// <param name="most">What it cannot be above.</param>
    public byte Byte(byte value, byte most = byte.MaxValue) => (byte)Pass(value, 1, most);

    /// <summary>A flag.</summary>
    public bool Flag(bool value) => Byte(value ? (byte)1 : (byte)0, 1) != 0;

    /// <summary>Values.</summary>
    public void Quads(ulong[] values)
    {
        for (int i = 0; i < values.Length; i++)
        {
            values[i] = Quad(values[i]);
        }
    }

    /// <summary>A value that says what this machine is: that of the other one must be the same.</summary>
    public void Same(ulong value) => Differs |= Told(value) != value;

    /// <summary>Marks the machines as different.</summary>
    /// <param name="differs">Whether they are.</param>
    public void Mark(bool differs) => Differs |= differs;

    /// <summary>Marks what came as damaged.</summary>
    /// <param name="isBad">Whether it is.</param>
    public void Damage(bool isBad) => IsBad |= isBad;

    /// <summary>A value of 64 bits, as it was said, whether it is taken or not.</summary>
    public ulong Told(ulong value)
    {
        ulong told = value;
        if (TryNext(sizeof(ulong), out Span<byte> bytes))
        {
            told = Mode == StateMode.Save ? value : Get(bytes);
            Put(bytes, told);
        }

        return told;
    }

    private ulong Pass(ulong value, int size, ulong most)
    {
        if (!TryNext(size, out Span<byte> bytes))
        {
            return value;
        }

        if (Mode == StateMode.Save)
        {
            Put(bytes, value);
            return value;
        }

        ulong told = Get(bytes);
        IsBad |= told > most;
        return Mode == StateMode.Take && told <= most ? told : value;
    }

    private bool TryNext(int size, out Span<byte> bytes)
    {
        IsBad |= size > _bytes.Length - Length;
        bytes = IsBad ? default : _bytes.Slice(Length, size);
        Length += bytes.Length;
        return !IsBad;
    }

    private static ulong Get(ReadOnlySpan<byte> bytes)
    {
        ulong value = 0;
        for (int i = bytes.Length - 1; i >= 0; i--)
        {
            value = (value << 8) | bytes[i];
        }

        return value;
    }

    private static void Put(Span<byte> bytes, ulong value)
    {
        for (int i = 0; i < bytes.Length; i++)
        {
            bytes[i] = (byte)(value >> (8 * i));
        }
    }
}
