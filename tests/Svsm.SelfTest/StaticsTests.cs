// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System.Runtime.CompilerServices;

namespace Svsm.SelfTest;

internal static class StaticsTests
{
    private sealed class Node
    {
        internal int Value;
        internal Node? Next;
    }

    // Computed by the compiler at build time.
    private static class Preinitialized
    {
        internal static readonly ulong[] Table = [1, 2, 3, 0xDEAD_BEEF];
        internal static readonly int Sum = Compute();
        internal static readonly Node Graph = new() { Value = 1, Next = new Node { Value = 2 } };
        internal static string Text = "static string";

        private static int Compute()
        {
            int sum = 0;
            for (int i = 0; i < 10; i++)
            {
                sum += i;
            }

            return sum;
        }
    }

    // Cannot be computed at build time: run on first use.
    private static class Lazy
    {
        internal static int Runs;
        internal static int Value;

        static Lazy()
        {
            Value = Check.Opaque(41) + 1;
            Runs++;
        }
    }

    private static class LazyObject
    {
        internal static readonly Node Object = Make();

        private static Node Make() => new() { Value = Check.Opaque(5) };
    }

    private static class PerType<T>
    {
        internal static int Count;
        internal static object? Object;
    }

    [InlineArray(65536)]
    private struct Large
    {
        private byte _element0;
    }

    private static Large s_large;
    private static readonly byte[] s_array = new byte[65536];
    private static object? s_object;

    internal static void Run()
    {
        Check.That("static value computed at build time"u8, Preinitialized.Sum == 45);
        Check.That("static array made at build time"u8, Preinitialized.Table[Check.Opaque(3)] == 0xDEAD_BEEF);
        Check.That("static object graph made at build time"u8, Preinitialized.Graph.Next!.Value == 2 && Preinitialized.Graph.Next.Next is null);
        Check.That("static string"u8, Preinitialized.Text.Length == 13);
        Preinitialized.Text = "other";
        Preinitialized.Table[Check.Opaque(1)] = 9;
        Check.That("static fields are writable"u8, Preinitialized.Text == "other" && Preinitialized.Table[1] == 9);
        Check.That("static constructor on first use"u8, LazyValue() == 42 && Lazy.Runs == 1 && LazyValue() == 42 && Lazy.Runs == 1);
        Check.That("static object on first use"u8, LazyObject.Object.Value == 5);
        s_large[Check.Opaque(65535)] = 7;
        Check.That("64 KiB static struct"u8, s_large[65535] == 7 && s_large[Check.Opaque(0)] == 0);
        s_array[Check.Opaque(65535)] = 8;
        Check.That("64 KiB static array"u8, s_array[65535] == 8 && s_array.Length == 65536);
        PerType<int>.Count++;
        PerType<string>.Count += 2;
        PerType<object>.Count += 3;
        PerType<object>.Object = s_array;
        Check.That("static fields of generic types"u8, PerType<int>.Count == 1 && PerType<string>.Count == 2 && PerType<object>.Count == 3 && PerType<string>.Object is null);
        s_object = new Node { Value = Check.Opaque(3) };
        Check.That("static reference"u8, ((Node)s_object).Value == 3);
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static int LazyValue() => Lazy.Value;
}
