// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Access to one page of the guest. The guest may change the page at any time, from another vCPU: so there is no span of it
// and no reference into it, only single reads and writes that happen once, where they are written.

using System.Runtime.CompilerServices;
using System.Threading;

namespace Svsm.Kernel.Memory;

/// <summary>One mapped page of the guest.</summary>
internal readonly ref struct GuestWindow
{
    private readonly ref byte _start;

    /// <summary>Makes a window.</summary>
    /// <param name="start">First byte of 4096 that stay mapped while the window is in use.</param>
    public GuestWindow(ref byte start) => _start = ref start;

    /// <summary>First byte; for the one that unmaps the window.</summary>
    public ref byte Start => ref _start;

    /// <summary>Reads a byte, once.</summary>
    /// <param name="offset">0 to 4095; more is a fault of the kernel.</param>
    public byte ReadByte(int offset) => Volatile.Read(ref At(offset, 1));

    /// <summary>Writes a byte.</summary>
    public void WriteByte(int offset, byte value) => Volatile.Write(ref At(offset, 1), value);

    /// <summary>Writes two bytes.</summary>
    /// <param name="offset">0 to 4094, even.</param>
    /// <param name="value">What to write.</param>
    public void WriteUInt16(int offset, ushort value) => Volatile.Write(ref Unsafe.As<byte, ushort>(ref At(offset, 2)), value);

    /// <summary>Reads eight bytes in one access.</summary>
    /// <param name="offset">0 to 4088, a multiple of 8.</param>
    public ulong ReadUInt64(int offset) => Volatile.Read(ref Unsafe.As<byte, ulong>(ref At(offset, 8)));

    /// <summary>Writes eight bytes in one access.</summary>
    /// <param name="offset">0 to 4088, a multiple of 8.</param>
    /// <param name="value">What to write.</param>
    public void WriteUInt64(int offset, ulong value) => Volatile.Write(ref Unsafe.As<byte, ulong>(ref At(offset, 8)), value);

    private ref byte At(int offset, int length)
    {
        // A multiple of the length below 4096 cannot reach beyond the page.
        if ((uint)offset >= Page.Size || (offset & (length - 1)) != 0)
        {
            throw new System.ArgumentOutOfRangeException(nameof(offset));
        }

        return ref Unsafe.Add(ref _start, offset);
    }
}
