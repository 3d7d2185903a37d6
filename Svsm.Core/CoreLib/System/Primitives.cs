// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The primitive types. The compiler knows their size and arithmetic; here are the members that freestanding code may call.
// Each holds one field of its own type, as the system module of every .NET implementation does.

namespace System;

public struct Void
{
}

public readonly struct Boolean : IEquatable<bool>
{
    private readonly bool m_value;

    public bool Equals(bool obj) => m_value == obj;

    public override bool Equals(object? obj) => obj is bool other && m_value == other;

    public override int GetHashCode() => m_value ? 1 : 0;
}

public readonly struct Char : IEquatable<char>, IComparable<char>
{
    public const char MaxValue = (char)0xFFFF;
    public const char MinValue = (char)0;

    private readonly char m_value;

    public int CompareTo(char value) => m_value - value;

    public bool Equals(char obj) => m_value == obj;

    public override bool Equals(object? obj) => obj is char other && m_value == other;

    public override int GetHashCode() => m_value | (m_value << 16);

    public static bool IsAscii(char c) => c < 0x80;

    public static bool IsHighSurrogate(char c) => (uint)(c - 0xD800) < 0x400;

    public static bool IsLowSurrogate(char c) => (uint)(c - 0xDC00) < 0x400;
}

public readonly struct SByte : IEquatable<sbyte>, IComparable<sbyte>
{
    public const sbyte MaxValue = 127;
    public const sbyte MinValue = -128;

    private readonly sbyte m_value;

    public int CompareTo(sbyte value) => m_value - value;

    public bool Equals(sbyte obj) => m_value == obj;

    public override bool Equals(object? obj) => obj is sbyte other && m_value == other;

    public override int GetHashCode() => m_value;
}

public readonly struct Byte : IEquatable<byte>, IComparable<byte>
{
    public const byte MaxValue = 0xFF;
    public const byte MinValue = 0;

    private readonly byte m_value;

    public int CompareTo(byte value) => m_value - value;

    public bool Equals(byte obj) => m_value == obj;

    public override bool Equals(object? obj) => obj is byte other && m_value == other;

    public override int GetHashCode() => m_value;
}

public readonly struct Int16 : IEquatable<short>, IComparable<short>
{
    public const short MaxValue = 32767;
    public const short MinValue = -32768;

    private readonly short m_value;

    public int CompareTo(short value) => m_value - value;

    public bool Equals(short obj) => m_value == obj;

    public override bool Equals(object? obj) => obj is short other && m_value == other;

    public override int GetHashCode() => m_value;
}

public readonly struct UInt16 : IEquatable<ushort>, IComparable<ushort>
{
    public const ushort MaxValue = 0xFFFF;
    public const ushort MinValue = 0;

    private readonly ushort m_value;

    public int CompareTo(ushort value) => m_value - value;

    public bool Equals(ushort obj) => m_value == obj;

    public override bool Equals(object? obj) => obj is ushort other && m_value == other;

    public override int GetHashCode() => m_value;
}

public readonly struct Int32 : IEquatable<int>, IComparable<int>
{
    public const int MaxValue = 0x7FFF_FFFF;
    public const int MinValue = unchecked((int)0x8000_0000);

    private readonly int m_value;

    public int CompareTo(int value) => m_value < value ? -1 : m_value > value ? 1 : 0;

    public bool Equals(int obj) => m_value == obj;

    public override bool Equals(object? obj) => obj is int other && m_value == other;

    public override int GetHashCode() => m_value;
}

public readonly struct UInt32 : IEquatable<uint>, IComparable<uint>
{
    public const uint MaxValue = 0xFFFF_FFFF;
    public const uint MinValue = 0;

    private readonly uint m_value;

    public int CompareTo(uint value) => m_value < value ? -1 : m_value > value ? 1 : 0;

    public bool Equals(uint obj) => m_value == obj;

    public override bool Equals(object? obj) => obj is uint other && m_value == other;

    public override int GetHashCode() => (int)m_value;
}

public readonly struct Int64 : IEquatable<long>, IComparable<long>
{
    public const long MaxValue = 0x7FFF_FFFF_FFFF_FFFF;
    public const long MinValue = unchecked((long)0x8000_0000_0000_0000);

    private readonly long m_value;

    public int CompareTo(long value) => m_value < value ? -1 : m_value > value ? 1 : 0;

    public bool Equals(long obj) => m_value == obj;

    public override bool Equals(object? obj) => obj is long other && m_value == other;

    public override int GetHashCode() => (int)m_value ^ (int)(m_value >> 32);
}

public readonly struct UInt64 : IEquatable<ulong>, IComparable<ulong>
{
    public const ulong MaxValue = 0xFFFF_FFFF_FFFF_FFFF;
    public const ulong MinValue = 0;

    private readonly ulong m_value;

    public int CompareTo(ulong value) => m_value < value ? -1 : m_value > value ? 1 : 0;

    public bool Equals(ulong obj) => m_value == obj;

    public override bool Equals(object? obj) => obj is ulong other && m_value == other;

    public override int GetHashCode() => (int)m_value ^ (int)(m_value >> 32);
}

public readonly unsafe struct IntPtr : IEquatable<nint>, IComparable<nint>
{
    public static readonly nint Zero;

    private readonly nint _value;

    public static int Size => sizeof(nint);

    public static nint MaxValue => unchecked((nint)long.MaxValue);

    public static nint MinValue => unchecked((nint)long.MinValue);

    public int CompareTo(nint value) => _value < value ? -1 : _value > value ? 1 : 0;

    public bool Equals(nint other) => _value == other;

    public override bool Equals(object? obj) => obj is nint other && _value == other;

    public override int GetHashCode() => (int)_value ^ (int)((long)_value >> 32);

    public long ToInt64() => _value;

    public void* ToPointer() => (void*)_value;
}

public readonly unsafe struct UIntPtr : IEquatable<nuint>, IComparable<nuint>
{
    public static readonly nuint Zero;

    private readonly nuint _value;

    public static int Size => sizeof(nuint);

    public static nuint MaxValue => unchecked((nuint)ulong.MaxValue);

    public static nuint MinValue => unchecked((nuint)ulong.MinValue);

    public int CompareTo(nuint value) => _value < value ? -1 : _value > value ? 1 : 0;

    public bool Equals(nuint other) => _value == other;

    public override bool Equals(object? obj) => obj is nuint other && _value == other;

    public override int GetHashCode() => (int)_value ^ (int)((ulong)_value >> 32);

    public ulong ToUInt64() => _value;

    public void* ToPointer() => (void*)_value;
}

public readonly struct Single
{
    private readonly float m_value;
}

public readonly struct Double
{
    private readonly double m_value;
}
