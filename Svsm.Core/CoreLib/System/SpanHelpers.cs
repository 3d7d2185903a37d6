// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Memory moves and fills under the names by which the compiler calls them. The work is done in Runtime.S.

using System.Runtime;
using System.Runtime.CompilerServices;

namespace System;

internal static unsafe class SpanHelpers
{
    // SAFETY (whole class): nothing moves objects, so an address taken from a reference stays valid; callers pass references to length bytes.

    [Intrinsic]
    internal static void ClearWithoutReferences(ref byte destination, nuint byteLength) => NativeFill(Unsafe.AsPointer(ref destination), 0, byteLength);

    [Intrinsic]
    internal static void Memmove(ref byte destination, ref byte source, nuint byteLength) =>
        NativeMove(Unsafe.AsPointer(ref destination), Unsafe.AsPointer(ref source), byteLength);

    internal static void Fill(ref byte destination, byte value, nuint byteLength) => NativeFill(Unsafe.AsPointer(ref destination), value, byteLength);

    [RuntimeImport("*", "memmove")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    internal static extern void NativeMove(void* destination, void* source, nuint byteLength);

    [RuntimeImport("*", "memset")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    internal static extern void NativeFill(void* destination, int value, nuint byteLength);
}

internal static class Buffer
{
    // Copies of structs that hold references.
    internal static void BulkMoveWithWriteBarrier(ref byte destination, ref byte source, nuint byteLength) =>
        SpanHelpers.Memmove(ref destination, ref source, byteLength);
}
