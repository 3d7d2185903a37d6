// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The SVSM's disks, for the process of the module that keeps the store: their registers, which the host plays, and memory that they reach. The driver is
// the process; the kernel carries 4 bytes at a time to a place that is fixed, and copies. Source: GHCB specification (56421), "MMIO Access".

using System;
using Svsm.Kernel.Memory;
using Svsm.Wire;

namespace Svsm.Kernel.Snp;

/// <summary>Reaches the disks.</summary>
internal static class StoreDisks
{
    private const int Order = 4;

    private static SharedPages s_memory;

    /// <summary>The memory that the disks reach. Of the host as well.</summary>
    public static Span<byte> Memory => s_memory.Bytes;

    /// <summary>Its guest-physical address.</summary>
    public static PhysicalAddress MemoryAddress => s_memory.Frame;

    /// <summary>Shares the memory. While booting.</summary>
    /// <returns>What was lacking.</returns>
    public static MemoryError Initialize() => SharedPages.Allocate(Order, out s_memory);

    /// <summary>Reads or writes a register.</summary>
    /// <param name="register">Its offset: below the registers of all disks, a multiple of 4.</param>
    /// <param name="isWrite">Writes <paramref name="value"/>.</param>
    /// <param name="value">The value; gets it, from the host.</param>
    /// <returns>False: the host did not do it, it says.</returns>
    public static bool TryAccess(uint register, bool isWrite, ref uint value) =>
        Host.TryAccessMemory(DiskOffset.RegistersBase + register, isWrite, ref value);
}
