// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Reading and writing descriptors of the process, for the channel and what else a module has by a descriptor.

using System;
using System.Runtime.InteropServices;

namespace Svsm.Core;

// The four functions of libc. Linked directly into an image's program (DirectPInvoke), so nothing is looked up at run time.
internal static partial class Descriptor
{
    // Numbers of errors, those of Linux.
    public const int NoEntry = 2;
    public const int InputOutput = 5;
    public const int TryAgain = 11;
    public const int NoMemory = 12;
    public const int Invalid = 22;
    public const int NoKey = 126;

    /// <summary>The error of the last <see cref="ReadAt"/> or <see cref="WriteAt"/> that returned less than 0.</summary>
    public static int LastError => Marshal.GetLastPInvokeError();

    public static unsafe nint Read(int descriptor, Span<byte> destination)
    {
        // SAFETY: the buffer is pinned for the call, and its length is given with it.
        fixed (byte* pointer = destination)
        {
            return read(descriptor, pointer, (nuint)destination.Length);
        }
    }

    public static unsafe nint Write(int descriptor, ReadOnlySpan<byte> source)
    {
        // SAFETY: as in Read.
        fixed (byte* pointer = source)
        {
            return write(descriptor, pointer, (nuint)source.Length);
        }
    }

    public static unsafe nint ReadAt(int descriptor, Span<byte> destination, long offset)
    {
        // SAFETY: as in Read.
        fixed (byte* pointer = destination)
        {
            return pread(descriptor, pointer, (nuint)destination.Length, offset);
        }
    }

    public static unsafe nint WriteAt(int descriptor, ReadOnlySpan<byte> source, long offset)
    {
        // SAFETY: as in Read.
        fixed (byte* pointer = source)
        {
            return pwrite(descriptor, pointer, (nuint)source.Length, offset);
        }
    }

    [LibraryImport("libc")]
    private static unsafe partial nint read(int descriptor, byte* buffer, nuint length);

    [LibraryImport("libc")]
    private static unsafe partial nint write(int descriptor, byte* buffer, nuint length);

    [LibraryImport("libc", SetLastError = true)]
    private static unsafe partial nint pread(int descriptor, byte* buffer, nuint length, long offset);

    [LibraryImport("libc", SetLastError = true)]
    private static unsafe partial nint pwrite(int descriptor, byte* buffer, nuint length, long offset);
}
