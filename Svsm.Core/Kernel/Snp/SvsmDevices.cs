// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The SVSM's own devices, for the processes of their drivers: disks for the module that keeps the store, a channel for the one that moves the guest. Each of
// them has registers, which the host plays, and memory of its own that they reach. The driver is the process; the kernel carries 4 bytes at a time to a place
// that is fixed, and copies. Source: GHCB specification (56421), "MMIO Access".

using System;
using Svsm.Kernel.Memory;
using Svsm.Wire;

namespace Svsm.Kernel.Snp;

/// <summary>Reaches the devices.</summary>
internal static class SvsmDevices
{
    private const int Order = 4;

    private static SharedPages s_diskMemory;
    private static SharedPages s_channelMemory;

    /// <summary>Shares the memory of a driver. While booting.</summary>
    /// <param name="driver">Permission of its module: to keep the store, or to move the guest.</param>
    /// <returns>What was lacking.</returns>
    public static MemoryError Initialize(ModulePermissions driver) => SharedPages.Allocate(Order, out MemoryOf(driver));

    /// <summary>The memory that the devices of a driver reach. Of the host as well.</summary>
    public static Span<byte> Memory(ModulePermissions driver) => MemoryOf(driver).Bytes;

    /// <summary>Its guest-physical address.</summary>
    public static PhysicalAddress MemoryAddress(ModulePermissions driver) => MemoryOf(driver).Frame;

    /// <summary>Reads or writes a register.</summary>
    /// <param name="register">Its offset: below the registers of all devices, a multiple of 4.</param>
    /// <param name="isWrite">Writes <paramref name="value"/>.</param>
    /// <param name="value">The value; gets it, from the host.</param>
    /// <returns>False: the host did not do it, it says.</returns>
    public static bool TryAccess(uint register, bool isWrite, ref uint value) =>
        Host.TryAccessMemory(DiskOffset.RegistersBase + register, isWrite, ref value);

    private static ref SharedPages MemoryOf(ModulePermissions driver)
    {
        if ((driver & ModulePermissions.Migrate) != 0)
        {
            return ref s_channelMemory;
        }

        return ref s_diskMemory;
    }
}
