// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// One line per test: "ok   name" or "FAIL name". The host test compares the names with those in these sources.

using System;
using System.Runtime.CompilerServices;
using Svsm.Platform;

namespace Svsm.SelfTest;

internal static class Check
{
    // Written nowhere else; the compiler does not know.
    private static int s_zero = 0;

    internal static int Passed { get; private set; }

    internal static int Failed { get; private set; }

    [MethodImpl(MethodImplOptions.NoInlining)]
    internal static void That(ReadOnlySpan<byte> name, bool condition)
    {
        if (condition)
        {
            Passed++;
        }
        else
        {
            Failed++;
        }

        Text<Com1>.Write(condition ? "ok   "u8 : "FAIL "u8);
        Text<Com1>.WriteLine(name);
    }

    /// <summary>The value itself, which the compiler cannot know: keeps tests from being computed at build time.</summary>
    [MethodImpl(MethodImplOptions.NoInlining)]
    internal static int Opaque(int value) => value + System.Threading.Volatile.Read(ref s_zero);

    [MethodImpl(MethodImplOptions.NoInlining)]
    internal static ulong Opaque(ulong value) => value + (uint)System.Threading.Volatile.Read(ref s_zero);
}
