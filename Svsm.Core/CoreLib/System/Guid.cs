// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Sixteen bytes in the mixed-endian layout that UEFI, ACPI and .NET share. Made from its parts; texts are parsed on the host.

using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Internal.Runtime.CompilerHelpers;

namespace System;

[StructLayout(LayoutKind.Sequential)]
public readonly struct Guid : IEquatable<Guid>
{
    public static readonly Guid Empty;

    private readonly int _a;
    private readonly short _b;
    private readonly short _c;
    private readonly byte _d;
    private readonly byte _e;
    private readonly byte _f;
    private readonly byte _g;
    private readonly byte _h;
    private readonly byte _i;
    private readonly byte _j;
    private readonly byte _k;

    public Guid(ReadOnlySpan<byte> b)
    {
        if (b.Length != 16)
        {
            ThrowHelpers.ThrowArgumentException();
        }

        this = MemoryMarshal.Read<Guid>(b);
    }

    public Guid(uint a, ushort b, ushort c, byte d, byte e, byte f, byte g, byte h, byte i, byte j, byte k)
    {
        _a = (int)a;
        _b = (short)b;
        _c = (short)c;
        _d = d;
        _e = e;
        _f = f;
        _g = g;
        _h = h;
        _i = i;
        _j = j;
        _k = k;
    }

    public bool TryWriteBytes(Span<byte> destination)
    {
        if (destination.Length < 16)
        {
            return false;
        }

        MemoryMarshal.Write(destination, in this);
        return true;
    }

    public bool Equals(Guid g) => this == g;

    public override bool Equals(object? o) => o is Guid other && this == other;

    public override int GetHashCode() => _a ^ ((_b << 16) | (ushort)_c) ^ ((_f << 24) | _k);

    public static bool operator ==(Guid a, Guid b)
    {
        ref ulong left = ref Unsafe.As<Guid, ulong>(ref a);
        ref ulong right = ref Unsafe.As<Guid, ulong>(ref b);
        return Unsafe.ReadUnaligned<ulong>(ref Unsafe.As<ulong, byte>(ref left)) == Unsafe.ReadUnaligned<ulong>(ref Unsafe.As<ulong, byte>(ref right))
            && Unsafe.ReadUnaligned<ulong>(ref Unsafe.As<ulong, byte>(ref Unsafe.Add(ref left, 1)))
                == Unsafe.ReadUnaligned<ulong>(ref Unsafe.As<ulong, byte>(ref Unsafe.Add(ref right, 1)));
    }

    public static bool operator !=(Guid a, Guid b) => !(a == b);
}
