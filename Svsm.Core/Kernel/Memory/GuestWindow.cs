// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Access to one page of the guest. The guest may change the page at any time, from another vCPU: so there is no span of it and no reference
// into it, only copies that happen once, where they are written. And it may give the page to the host behind the SVSM's back: so every copy
// can fail, and failing is an answer. What was changed is marked for whoever moves the guest (DirtyPages.cs).

using System;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Svsm.Kernel.Arch;

namespace Svsm.Kernel.Memory;

/// <summary>One mapped page of the guest.</summary>
internal readonly ref struct GuestWindow
{
    private readonly ref byte _start;
    private readonly ulong _page;

    /// <summary>Makes a window.</summary>
    /// <param name="start">First byte of 4096 that stay mapped while the window is in use.</param>
    /// <param name="page">Number of the page.</param>
    public GuestWindow(ref byte start, ulong page)
    {
        _start = ref start;
        _page = page;
    }

    /// <summary>First byte; for the one that unmaps the window.</summary>
    public ref byte Start => ref _start;

    /// <summary>Copies bytes out of the page.</summary>
    /// <param name="offset">Where they are; with the length at most 4096, else it is a fault of the kernel.</param>
    /// <param name="destination">Private memory. On failure its contents are any.</param>
    /// <returns>False: the page cannot be read.</returns>
    public bool TryRead(int offset, Span<byte> destination) =>
        GuestAccess.TryCopy(ref MemoryMarshal.GetReference(destination), ref At(offset, destination.Length), destination.Length);

    /// <summary>Copies bytes into the page.</summary>
    /// <param name="offset">Where to; with the length at most 4096, else it is a fault of the kernel.</param>
    /// <param name="source">Private memory.</param>
    /// <returns>False: the page cannot be written, or not all of it.</returns>
    public bool TryWrite(int offset, ReadOnlySpan<byte> source) =>
        Mark(GuestAccess.TryCopy(ref At(offset, source.Length), ref MemoryMarshal.GetReference(source), source.Length));

    /// <summary>Reads a byte.</summary>
    public bool TryReadByte(int offset, out byte value)
    {
        value = 0;
        return TryRead(offset, new Span<byte>(ref value));
    }

    /// <summary>Writes a byte.</summary>
    public bool TryWriteByte(int offset, byte value) => TryWrite(offset, new ReadOnlySpan<byte>(in value));

    /// <summary>Writes two bytes.</summary>
    public bool TryWriteUInt16(int offset, ushort value) => TryWrite(offset, MemoryMarshal.AsBytes(new ReadOnlySpan<ushort>(in value)));

    /// <summary>Reads eight bytes.</summary>
    public bool TryReadUInt64(int offset, out ulong value)
    {
        value = 0;
        return TryRead(offset, MemoryMarshal.AsBytes(new Span<ulong>(ref value)));
    }

    /// <summary>Writes eight bytes.</summary>
    public bool TryWriteUInt64(int offset, ulong value) => TryWrite(offset, MemoryMarshal.AsBytes(new ReadOnlySpan<ulong>(in value)));

    /// <summary>Keeps some bits of eight bytes and clears the others, atomically.</summary>
    /// <param name="offset">Where they are, a multiple of 8.</param>
    /// <param name="bits">The bits to keep.</param>
    /// <returns>False: the page cannot be written.</returns>
    public bool TryAndUInt64(int offset, ulong bits) => Mark(GuestAccess.TryAnd(ref Unsafe.As<byte, ulong>(ref At(offset, sizeof(ulong))), bits));

    /// <summary>Sets some bits of eight bytes, atomically.</summary>
    /// <param name="offset">Where they are, a multiple of 8.</param>
    /// <param name="bits">The bits to set.</param>
    /// <returns>False: the page cannot be written.</returns>
    public bool TryOrUInt64(int offset, ulong bits) => Mark(GuestAccess.TryOr(ref Unsafe.As<byte, ulong>(ref At(offset, sizeof(ulong))), bits));

    // A copy that failed may have written a part.
    private bool Mark(bool isWritten)
    {
        DirtyPages.Mark(_page, 1);
        return isWritten;
    }

    private ref byte At(int offset, int length)
    {
        if ((uint)offset > Page.Size || length > Page.Size - offset)
        {
            throw new ArgumentOutOfRangeException(nameof(offset));
        }

        return ref Unsafe.Add(ref _start, offset);
    }
}
