// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Threading;

namespace Svsm.SelfTest;

internal static class CoreLibTests
{
    private struct Pair
    {
        internal uint Low;
        internal uint High;
    }

    internal static void Run()
    {
        Primitives();
        Spans();
        Bits();
        Endianness();
        Mathematics();
        Atomics();
        Marshalling();

        var guid = new Guid(0x1122_3344, 0x5566, 0x7788, 1, 2, 3, 4, 5, 6, 7, 8);
        Span<byte> bytes = stackalloc byte[16];
        Check.That("guid"u8,
            guid.TryWriteBytes(bytes) && bytes[0] == 0x44 && bytes[4] == 0x66 && bytes[15] == 8 && new Guid(bytes) == guid && guid != Guid.Empty && !guid.TryWriteBytes(bytes[1..]));
        Check.That("strings"u8, "ab" + "" == "ab" && Text("ab") == "ab" && Text("ab") != "ac" && string.IsNullOrEmpty("") && "ab".AsSpan()[1] == 'b' && "ab".GetHashCode() != "ba".GetHashCode());
    }

    private static void Primitives()
    {
        Check.That("extreme values"u8,
            byte.MaxValue == 255 && sbyte.MinValue == -128 && short.MinValue == -32768 && ushort.MaxValue == 65535 && int.MinValue < 0 && uint.MaxValue == 0xFFFF_FFFF
            && long.MinValue < 0 && ulong.MaxValue == 0xFFFF_FFFF_FFFF_FFFF && nint.MaxValue == long.MaxValue && nuint.MaxValue == ulong.MaxValue && nint.MinValue == long.MinValue);
        Check.That("comparison of numbers"u8,
            Check.Opaque(1).CompareTo(2) < 0 && Check.Opaque(ulong.MaxValue).CompareTo(1) > 0 && ((byte)Check.Opaque(3)).CompareTo(3) == 0 && ((long)Check.Opaque(-1)).CompareTo(1) < 0);
        Check.That("equality of numbers"u8,
            Check.Opaque(1).Equals(1) && !Check.Opaque(1).Equals((object)1L) && ((char)Check.Opaque(65)).Equals('A') && true.Equals(Check.Opaque(1) == 1));
    }

    private static void Spans()
    {
        ReadOnlySpan<byte> text = "key=value"u8;
        Check.That("search in spans"u8, text.IndexOf((byte)'=') == 3 && text.IndexOf((byte)'#') == -1 && text.StartsWith("key"u8) && !text.StartsWith("value"u8));
        Check.That("comparison of spans"u8, text[..3].SequenceEqual("key"u8) && !text.SequenceEqual("key"u8) && ReadOnlySpan<byte>.Empty.SequenceEqual(""u8));
        Span<byte> zeros = stackalloc byte[Check.Opaque(32)];
        bool allZero = !zeros.ContainsAnyExcept((byte)0);
        zeros[31] = 1;
        Check.That("search for what differs"u8, allZero && zeros.IndexOfAnyExcept((byte)0) == 31 && zeros.ContainsAnyExcept((byte)0));
        Check.That("slices"u8, text.Slice(4).Length == 5 && text.Slice(9).IsEmpty && text.Slice(3, 1)[0] == (byte)'=' && default(Span<int>).Length == 0);
        int[] array = [1, 2, 3];
        Check.That("spans of arrays"u8, array.AsSpan(1)[0] == 2 && array.AsSpan(1, 1).Length == 1 && ((int[]?)null).AsSpan().IsEmpty && new Span<int>(array) == array);
    }

    private static void Bits()
    {
        bool right = true;
        for (int i = 0; i < 64; i++)
        {
            ulong bit = Check.Opaque(1UL) << i;
            right &= BitOperations.TrailingZeroCount(bit) == i && BitOperations.LeadingZeroCount(bit) == 63 - i && BitOperations.Log2(bit) == i
                && BitOperations.PopCount(bit - 1) == i && BitOperations.IsPow2(bit) && BitOperations.RotateLeft(1UL, i) == bit && BitOperations.RotateRight(bit, i) == 1;
            if (i < 32)
            {
                uint half = (uint)bit;
                right &= BitOperations.TrailingZeroCount(half) == i && BitOperations.LeadingZeroCount(half) == 31 - i && BitOperations.Log2(half) == i
                    && BitOperations.PopCount(half - 1) == i && BitOperations.RotateLeft(1u, i) == half && BitOperations.RotateRight(half, i) == 1;
            }
        }

        Check.That("single bits"u8, right);
        Check.That("bits of zero"u8,
            BitOperations.TrailingZeroCount(Check.Opaque(0UL)) == 64 && BitOperations.LeadingZeroCount(Check.Opaque(0UL)) == 64 && BitOperations.TrailingZeroCount((uint)Check.Opaque(0)) == 32
            && BitOperations.LeadingZeroCount((uint)Check.Opaque(0)) == 32 && BitOperations.Log2(Check.Opaque(0UL)) == 0 && !BitOperations.IsPow2(Check.Opaque(0UL)));
        Check.That("round up to a power of two"u8,
            BitOperations.RoundUpToPowerOf2(Check.Opaque(5UL)) == 8 && BitOperations.RoundUpToPowerOf2(Check.Opaque(8UL)) == 8 && BitOperations.RoundUpToPowerOf2(Check.Opaque(0UL)) == 0
            && BitOperations.RoundUpToPowerOf2(Check.Opaque(ulong.MaxValue)) == 0 && BitOperations.RoundUpToPowerOf2((uint)Check.Opaque(65)) == 128 && BitOperations.RoundUpToPowerOf2(uint.MaxValue) == 0);
    }

    private static void Endianness()
    {
        Span<byte> bytes = stackalloc byte[8];
        BinaryPrimitives.WriteUInt64BigEndian(bytes, Check.Opaque(0x0102_0304_0506_0708));
        Check.That("big-endian"u8,
            bytes[0] == 1 && bytes[7] == 8 && BinaryPrimitives.ReadUInt64BigEndian(bytes) == 0x0102_0304_0506_0708 && BinaryPrimitives.ReadUInt32BigEndian(bytes) == 0x0102_0304
            && BinaryPrimitives.ReadUInt16BigEndian(bytes) == 0x0102 && BinaryPrimitives.ReadInt16BigEndian(bytes[6..]) == 0x0708);
        BinaryPrimitives.WriteUInt32LittleEndian(bytes, (uint)Check.Opaque(0x0102_0304));
        Check.That("little-endian"u8,
            bytes[0] == 4 && BinaryPrimitives.ReadUInt32LittleEndian(bytes) == 0x0102_0304 && BinaryPrimitives.ReadUInt16LittleEndian(bytes) == 0x0304
            && BinaryPrimitives.ReadInt64LittleEndian(bytes) == 0x0807_0605_0102_0304);
        Check.That("too short to read"u8, !BinaryPrimitives.TryReadUInt32LittleEndian(bytes[..3], out uint none) && none == 0 && BinaryPrimitives.TryReadUInt16BigEndian(bytes, out ushort two) && two == 0x0403);
    }

    private static void Mathematics()
    {
        Check.That("minimum, maximum, clamp"u8, Math.Min(Check.Opaque(3), 4) == 3 && Math.Max(Check.Opaque(3UL), 4) == 4 && Math.Clamp(Check.Opaque(9), 0, 5) == 5 && Math.Abs(Check.Opaque(-3)) == 3);
        ulong high = Math.BigMul(Check.Opaque(0xFFFF_FFFF_FFFF_FFFF), 0xFFFF_FFFF_FFFF_FFFF, out ulong low);
        Check.That("128-bit product"u8, high == 0xFFFF_FFFF_FFFF_FFFE && low == 1 && Math.BigMul((uint)Check.Opaque(-1), 2) == 0x1_FFFF_FFFE);
        Check.That("quotient and remainder"u8, Math.DivRem(Check.Opaque(17), 5) == (3, 2) && Math.DivRem(Check.Opaque(17UL), 5) == (3ul, 2ul));
    }

    private static void Atomics()
    {
        int number = Check.Opaque(5);
        Check.That("atomic 32-bit operations"u8,
            Interlocked.CompareExchange(ref number, 6, 5) == 5 && Interlocked.CompareExchange(ref number, 9, 5) == 6 && Interlocked.Increment(ref number) == 7
            && Interlocked.Decrement(ref number) == 6 && Interlocked.Add(ref number, 4) == 10 && Interlocked.Exchange(ref number, 3) == 10 && Interlocked.Or(ref number, 8) == 3
            && Interlocked.And(ref number, 9) == 11 && number == 9);
        ulong wide = Check.Opaque(5UL);
        Check.That("atomic 64-bit operations"u8,
            Interlocked.CompareExchange(ref wide, 1UL << 40, 5) == 5 && Interlocked.Increment(ref wide) == (1UL << 40) + 1 && Interlocked.Decrement(ref wide) == 1UL << 40
            && Interlocked.Add(ref wide, 2) == (1UL << 40) + 2 && Interlocked.Exchange(ref wide, 3) == (1UL << 40) + 2 && Interlocked.Or(ref wide, 1UL << 63) == 3
            && Interlocked.And(ref wide, 1UL << 63) == (1UL << 63) + 3 && wide == 1UL << 63);
        uint small = uint.MaxValue;
        nint pointer = Check.Opaque(1);
        Check.That("atomic operations wrap"u8, Interlocked.Increment(ref small) == 0 && Interlocked.Decrement(ref small) == uint.MaxValue && Interlocked.Exchange(ref pointer, 2) == 1 && pointer == 2);
        object? first = Text("first");
        object second = Text("second");
        Check.That("atomic references"u8,
            ReferenceEquals(Interlocked.Exchange(ref first, second), Text("first")) && ReferenceEquals(Interlocked.CompareExchange(ref first, null, second), second) && first is null);
        bool flag = false;
        object? reference = null;
        Volatile.Write(ref flag, true);
        Volatile.Write(ref wide, 7);
        Volatile.Write(ref reference, "text");
        Check.That("volatile access"u8, Volatile.Read(ref flag) && Volatile.Read(ref wide) == 7 && ReferenceEquals(Volatile.Read(ref reference), "text"));
        Interlocked.MemoryBarrier();
    }

    private static void Marshalling()
    {
        Span<byte> bytes = stackalloc byte[9];
        var pair = new Pair { Low = (uint)Check.Opaque(0x0403_0201), High = 0x0807_0605 };
        MemoryMarshal.Write(bytes[1..], in pair);
        Check.That("structs in bytes"u8, bytes[1] == 1 && bytes[8] == 8 && MemoryMarshal.Read<Pair>(bytes[1..]).High == 0x0807_0605 && !MemoryMarshal.TryRead(bytes[2..], out Pair _));
        ref Pair inPlace = ref MemoryMarshal.AsRef<Pair>(bytes[1..]);
        inPlace.Low = 0;
        Check.That("struct in place"u8, bytes[1] == 0 && bytes[5] == 5);
        Check.That("casts of spans"u8, MemoryMarshal.Cast<byte, uint>(bytes).Length == 2 && MemoryMarshal.AsBytes<uint>([1, 2]).Length == 8 && MemoryMarshal.AsBytes(new Span<Pair>(ref pair))[7] == 8);
        Check.That("span over a variable"u8, MemoryMarshal.CreateReadOnlySpan(ref pair, 1)[0].High == 0x0807_0605);
        Check.That("unsafe helpers"u8,
            Unsafe.SizeOf<Pair>() == 8 && Unsafe.BitCast<Pair, ulong>(pair) == 0x0807_0605_0403_0201 && Unsafe.Add(ref pair.Low, Check.Opaque(1)) == 0x0807_0605
            && Unsafe.ByteOffset(ref pair.Low, ref pair.High) == 4 && Unsafe.IsNullRef(ref Unsafe.NullRef<int>()) && Unsafe.AreSame(ref pair.Low, ref Unsafe.Subtract(ref pair.High, 1))
            && Unsafe.IsAddressLessThan(ref pair.Low, ref pair.High) && Unsafe.ReadUnaligned<ushort>(ref Unsafe.AddByteOffset(ref bytes[0], 5)) == 0x0605);
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static string Text(string text) => Check.Opaque(0) == 0 ? text : "";
}
