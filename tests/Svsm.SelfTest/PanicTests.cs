// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// One failure per run, chosen by the command line. None of them may return.

using System;
using System.Runtime.CompilerServices;
using Svsm.Platform;

namespace Svsm.SelfTest;

internal static unsafe class PanicTests
{
    private class Animal
    {
        internal virtual int Legs => 4;
    }

    private sealed class Dog : Animal
    {
    }

    private sealed class Bird : Animal
    {
        internal override int Legs => 2;
    }

    private interface ISource<out T>
    {
        T Get();
    }

    private sealed class BirdSource : ISource<Bird>
    {
        public Bird Get() => new();
    }

    private static int s_sink;
    private static object? s_object;

    internal static void Run(ReadOnlySpan<byte> name)
    {
        if (name.SequenceEqual("index"u8))
        {
            int[] array = new int[3];
            array[Check.Opaque(3)] = 1;
        }
        else if (name.SequenceEqual("span"u8))
        {
            s_sink = Element(default, Check.Opaque(0));
        }
        else if (name.SequenceEqual("slice"u8))
        {
            Span<int> span = stackalloc int[4];
            s_sink = span.Slice(Check.Opaque(2), Check.Opaque(3)).Length;
        }
        else if (name.SequenceEqual("slice-negative"u8))
        {
            Span<int> span = stackalloc int[4];
            s_sink = span.Slice(Check.Opaque(-1)).Length;
        }
        else if (name.SequenceEqual("copy"u8))
        {
            Span<byte> source = stackalloc byte[4];
            Span<byte> destination = stackalloc byte[Check.Opaque(3)];
            source.CopyTo(destination);
        }
        else if (name.SequenceEqual("overflow"u8))
        {
            s_sink = checked(int.MaxValue + Check.Opaque(1));
        }
        else if (name.SequenceEqual("conversion"u8))
        {
            s_sink = checked((int)Check.Opaque(0x1_0000_0000UL));
        }
        else if (name.SequenceEqual("cast"u8))
        {
            s_sink = ((Bird)Create()).Legs;
        }
        else if (name.SequenceEqual("unbox"u8))
        {
            object boxed = Check.Opaque(1);
            s_sink = (int)(long)boxed;
        }
        else if (name.SequenceEqual("store"u8))
        {
            Animal[] animals = CreateArray();
            animals[0] = Create();
        }
        else if (name.SequenceEqual("nullable"u8))
        {
            s_sink = None()!.Value;
        }
        else if (name.SequenceEqual("throw"u8))
        {
            throw new InvalidOperationException("thrown from C#");
        }
        else if (name.SequenceEqual("throw-no-message"u8))
        {
            throw new NotSupportedException();
        }
        else if (name.SequenceEqual("throw-sealed"u8))
        {
            BootHeap.Seal();
            throw new InvalidOperationException("thrown after booting");
        }
        else if (name.SequenceEqual("catch"u8))
        {
            try
            {
                throw new InvalidOperationException("not caught");
            }
            catch (InvalidOperationException)
            {
                Text<Com1>.WriteLine("caught"u8);
            }
        }
        else if (name.SequenceEqual("sealed"u8))
        {
            BootHeap.Seal();
            s_object = new Dog();
        }
        else if (name.SequenceEqual("exhausted"u8))
        {
            s_object = new byte[Check.Opaque(int.MaxValue)];
        }
        else if (name.SequenceEqual("negative-length"u8))
        {
            s_object = new byte[Check.Opaque(-1)];
        }
        else if (name.SequenceEqual("buffer-overrun"u8))
        {
            Overrun(Check.Opaque(64));
        }
        else if (name.SequenceEqual("value-equals"u8))
        {
            object left = new Index2 { Value = Check.Opaque(1) };
            s_sink = left.Equals(Create()) ? 1 : 0;
        }
        else if (name.SequenceEqual("variance"u8))
        {
            object source = Check.Opaque(0) == 0 ? new BirdSource() : Create();
            s_object = ((ISource<Animal>)source).Get();
        }
        else if (name.SequenceEqual("enumerable"u8))
        {
            foreach (object? value in (System.Collections.IEnumerable)CreateArray())
            {
                s_object = value;
            }
        }
        else if (name.SequenceEqual("fail-fast"u8))
        {
            Environment.FailFast("said so");
        }
        else if (name.SequenceEqual("div"u8))
        {
            s_sink = 10 / Check.Opaque(0);
        }
        else if (name.SequenceEqual("null"u8))
        {
            s_sink = Nothing()!.Legs;
        }
        else if (name.SequenceEqual("null-array"u8))
        {
            s_sink = NoArray()!.Length;
        }
    }

    private struct Index2
    {
        internal int Value;
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static int Element(ReadOnlySpan<int> span, int index) => span[index];

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static Animal Create() => Check.Opaque(0) == 0 ? new Dog() : new Bird();

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static Animal[] CreateArray() => Check.Opaque(0) == 0 ? new Bird[1] : new Animal[1];

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static Animal? Nothing() => Check.Opaque(0) == 0 ? null : new Bird();

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static int[]? NoArray() => Check.Opaque(0) == 0 ? null : new int[1];

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static int? None() => Check.Opaque(0) == 0 ? null : 1;

    // SAFETY: none, on purpose: writes past a stack buffer, over the guard value behind it, as a bug would.
    [MethodImpl(MethodImplOptions.NoInlining)]
    private static void Overrun(int count)
    {
        byte* buffer = stackalloc byte[32];
        for (int i = 0; i < count; i++)
        {
            buffer[i] = 0x55;
        }

        s_sink = buffer[Check.Opaque(0)];
    }
}
