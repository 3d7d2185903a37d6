// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Memory behind "new" of classes and arrays: one region, used from the bottom up, never freed, closed when booting is over.
// One CPU only: an image boots on one.

using System;
using System.Runtime;
using System.Runtime.CompilerServices;

namespace Svsm.Platform;

/// <summary>The memory of objects that live as long as the image.</summary>
public static unsafe class BootHeap
{
    private const nuint Alignment = 16;

    // SAFETY (whole class): the region belongs to the heap from Initialize on; pointers only move inside it, checked before each move.

    private static byte* s_start;
    private static byte* s_next;
    private static byte* s_end;
    private static bool s_sealed;

    /// <summary>Bytes handed out so far, including alignment.</summary>
    public static nuint Used => (nuint)(s_next - s_start);

    /// <summary>Bytes left.</summary>
    public static nuint Free => (nuint)(s_end - s_next);

    /// <summary>Gives the heap its region. Once, before the first allocation.</summary>
    /// <param name="start">First byte. Mapped writable; contents do not matter.</param>
    /// <param name="byteLength">Length in bytes.</param>
    public static void Initialize(void* start, nuint byteLength)
    {
        if (s_start != null)
        {
            Environment.FailFast("BootHeap: initialized twice");
        }

        nuint address = (nuint)start;
        nuint skipped = (Alignment - (address & (Alignment - 1))) & (Alignment - 1);
        if (address == 0 || byteLength < skipped || byteLength > nuint.MaxValue - address)
        {
            Environment.FailFast("BootHeap: the region is empty, null or wraps around");
        }

        s_start = (byte*)(address + skipped);
        s_next = s_start;
        s_end = (byte*)(address + byteLength);
    }

    /// <summary>Ends booting: from now on every allocation is a panic.</summary>
    public static void Seal() => s_sealed = true;

    // The hook of Svsm.CoreLib: zeroed memory or a panic.
    [RuntimeExport("svsm_alloc")]
    private static void* Allocate(nuint byteLength)
    {
        if (s_sealed)
        {
            Environment.FailFast("BootHeap: a class or an array was allocated after booting");
        }

        nuint free = (nuint)(s_end - s_next);
        if (byteLength > free || ((byteLength + (Alignment - 1)) & ~(Alignment - 1)) > free)
        {
            Environment.FailFast("BootHeap: exhausted");
        }

        byte* block = s_next;
        s_next += (byteLength + (Alignment - 1)) & ~(Alignment - 1);
        new Span<byte>(block, checked((int)byteLength)).Clear();
        return block;
    }
}
