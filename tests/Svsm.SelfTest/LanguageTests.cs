// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Svsm.SelfTest;

internal static class IntExtensions
{
    extension(int value)
    {
        internal int Doubled => value * 2;
    }
}

internal static unsafe class LanguageTests
{
    private interface IAdd<T>
        where T : IAdd<T>
    {
        static abstract T Add(T left, T right);

        static virtual int Default() => 7;
    }

    private struct Money : IAdd<Money>
    {
        internal int Amount;

        public static Money Add(Money left, Money right) => new() { Amount = left.Amount + right.Amount };
    }

    private ref struct Guard
    {
        private readonly ref int _counter;

        internal Guard(ref int counter)
        {
            _counter = ref counter;
            _counter++;
        }

        public void Dispose() => _counter--;
    }

    private struct FixedBuffer
    {
        internal fixed byte Bytes[16];
        internal int After;
    }

    [InlineArray(8)]
    private struct EightInts
    {
        private int _element0;
    }

    [StructLayout(LayoutKind.Explicit)]
    private struct Overlay
    {
        [FieldOffset(0)]
        internal uint Whole;

        [FieldOffset(1)]
        internal byte Second;
    }

    private abstract class Shape;

    private sealed class Circle(int radius) : Shape
    {
        internal int Radius { get; } = radius;
    }

    private sealed class Square(int side) : Shape
    {
        internal int Side { get; } = side;
    }

    private struct Part
    {
        internal required int Number { get; init; }

        internal int Twice
        {
            get;
            init => field = value * 2;
        }
    }

    private enum Color : byte
    {
        Red,
        Green,
    }

    private static int s_finallyCount;

    private static ReadOnlySpan<byte> Bytes => [1, 2, 3, 4, 5];

    private static ReadOnlySpan<uint> Words => [0x1111_1111, 0x2222_2222, 0x3333_3333];

    internal static void Run()
    {
        Check.That("generics over static abstract members"u8, Sum(new Money { Amount = Check.Opaque(2) }, new Money { Amount = 40 }).Amount == 42);
        Check.That("static virtual default"u8, DefaultOf<Money>() == 7);
        Check.That("byte data span"u8, Bytes[Check.Opaque(3)] == 4 && Bytes.Length == 5);
        Check.That("word data span"u8, Words[Check.Opaque(2)] == 0x3333_3333);
        Check.That("UTF-8 literal"u8, "abc"u8.Length == 3 && "abc"u8[Check.Opaque(1)] == (byte)'b');
        Check.That("string literal"u8, "xyz".Length == 3 && "xyz"[Check.Opaque(2)] == 'z');
        Check.That("switch on string"u8, Number("theta") == 8 && Number("nope") == 0 && Number("eta") == 7);
        Check.That("switch expression with patterns"u8, Area(new Circle(Check.Opaque(2))) == 12 && Area(new Square(3)) == 9 && Area(new Square(-1)) == -1);
        int[] array = new int[Check.Opaque(5)];
        array[4] = 9;
        Check.That("array allocation"u8, array.Length == 5 && array[4] == 9 && array[0] == 0);
        int[] initialized = [1, 2, 3, 4, 5, 6, 7, 8, 9, Check.Opaque(10)];
        Check.That("array initializer"u8, initialized[8] == 9 && initialized[9] == 10);
        int[][] jagged = [[1], [2, 3], initialized];
        Check.That("jagged array"u8, jagged[1][Check.Opaque(1)] == 3 && jagged[2].Length == 10);
        int total = 0;
        foreach (int value in initialized)
        {
            total += value;
        }

        Check.That("loop over array"u8, total == 55);
        Check.That("stackalloc"u8, SumOfStack(Check.Opaque(100)) == 4950);
        Check.That("frame of 20 KiB"u8, LargeFrame() == 7);
        FixedBuffer buffer = default;
        buffer.Bytes[Check.Opaque(15)] = 3;
        buffer.After = 4;
        Check.That("fixed buffer"u8, buffer.Bytes[15] == 3 && buffer.After == 4 && sizeof(FixedBuffer) == 20);
        EightInts eight = default;
        eight[Check.Opaque(3)] = 5;
        Span<int> view = eight;
        Check.That("inline array"u8, eight[3] == 5 && view.Length == 8 && view[3] == 5);
        var overlay = new Overlay { Whole = (uint)Check.Opaque(0x1234) };
        Check.That("explicit layout"u8, overlay.Second == 0x12);
        Check.That("try and finally"u8, Finally(Check.Opaque(1)) == 2 && s_finallyCount == 11 && Finally(Check.Opaque(5)) == 1 && s_finallyCount == 12);
        int counter = Check.Opaque(0);
        Check.That("using of a ref struct with a ref field"u8, InUse(ref counter) == 1 && counter == 0);
        Check.That("checked arithmetic without overflow"u8, checked(Check.Opaque(1) + 2) == 3 && checked((byte)Check.Opaque(255)) == 255);
        Check.That("nullable"u8, Positive(Check.Opaque(1)) is 1 && !Positive(Check.Opaque(-1)).HasValue && (Positive(Check.Opaque(-1)) ?? 8) == 8);
        (int first, string second) = Pair(Check.Opaque(4));
        Check.That("tuples"u8, first == 4 && second.Length == 3 && Pair(1) == (1, "two"));
        Check.That("allows ref struct"u8, LengthOf(Bytes[1..]) == 4);
        Check.That("ranges and indices"u8, Bytes[1..^1].Length == 3 && Bytes[^1] == 5 && initialized[^Check.Opaque(2)] == 9);
        Check.That("index and range values"u8, new Range(1, ^1).GetOffsetAndLength(Check.Opaque(5)) == (1, 3));
        Color color = (Color)Check.Opaque(1);
        Check.That("enumeration"u8, color == Color.Green && (byte)color == 1);
        Span<int> collected = [Check.Opaque(1), 2, 3];
        Check.That("collection expression"u8, collected.Length == 3 && collected[0] + collected[2] == 4);
        Check.That("params span"u8, Count(1, Check.Opaque(2), 3) == 6);
        double quotient = Check.Opaque(7) / 2.0;
        Check.That("floating point"u8, quotient is > 3.4 and < 3.6 && (int)quotient == 3 && checked((uint)quotient) == 3);
        Check.That("local function and lambda capture"u8, Captured(Check.Opaque(5)) == 15);
        Check.That("list pattern"u8, collected is [1, .., 3] && initialized is not [2, ..]);
        var part = new Part { Number = Check.Opaque(3), Twice = 2 };
        Part changed = part with { Number = 4 };
        Check.That("required, init, field and with"u8, part.Twice == 4 && changed.Number == 4 && changed.Twice == 4 && part.Number == 3);
        Check.That("extension member"u8, Check.Opaque(21).Doubled == 42);
        Check.That("recursion"u8, Fibonacci(Check.Opaque(15)) == 610);
        Check.That("unsigned 64-bit division"u8, Check.Opaque(0xFFFF_FFFF_FFFF_FFFF) / 10 == 1844674407370955161 && Check.Opaque(1001UL) % 10 == 1);
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static T Sum<T>(T left, T right)
        where T : IAdd<T> => T.Add(left, right);

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static int DefaultOf<T>()
        where T : IAdd<T> => T.Default();

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static int Number(string name) => name switch
    {
        "alpha" => 1,
        "beta" => 2,
        "gamma" => 3,
        "delta" => 4,
        "epsilon" => 5,
        "zeta" => 6,
        "eta" => 7,
        "theta" => 8,
        _ => 0,
    };

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static int Area(Shape shape) => shape switch
    {
        Circle { Radius: > 0 and var radius } => 3 * radius * radius,
        Square { Side: >= 0 } square => square.Side * square.Side,
        _ => -1,
    };

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static int SumOfStack(int count)
    {
        Span<int> numbers = stackalloc int[count];
        int sum = numbers[count - 1];
        for (int i = 0; i < count; i++)
        {
            numbers[i] = i;
        }

        foreach (int number in numbers)
        {
            sum += number;
        }

        return sum;
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static int LargeFrame()
    {
        byte* bytes = stackalloc byte[20000];
        bytes[Check.Opaque(19999)] = 7;
        return bytes[19999] + bytes[Check.Opaque(0)];
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static int Finally(int value)
    {
        try
        {
            if (value > 3)
            {
                return 1;
            }

            s_finallyCount = 10;
        }
        finally
        {
            s_finallyCount++;
        }

        return 2;
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static int InUse(ref int counter)
    {
        using var guard = new Guard(ref counter);
        return counter;
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static int? Positive(int value) => value > 0 ? value : null;

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static (int Number, string Name) Pair(int number) => (number, "two");

    private interface IHasLength
    {
        int Length { get; }
    }

    private readonly ref struct Wrapped(ReadOnlySpan<byte> bytes) : IHasLength
    {
        private readonly ReadOnlySpan<byte> _bytes = bytes;

        public int Length => _bytes.Length;
    }

    private static int LengthOf(ReadOnlySpan<byte> bytes) => LengthOf(new Wrapped(bytes));

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static int LengthOf<T>(scoped T value)
        where T : IHasLength, allows ref struct => value.Length;

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static int Count(params ReadOnlySpan<int> numbers)
    {
        int sum = 0;
        foreach (int number in numbers)
        {
            sum += number;
        }

        return sum;
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static int Captured(int value)
    {
        return Add(10);

        int Add(int other) => value + other;
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static int Fibonacci(int n) => n < 2 ? n : Fibonacci(n - 1) + Fibonacci(n - 2);
}
