// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The records of the guest's vCPUs (GuestVcpu.cs), in memory of the kernel's heap: as many as the VM has CPUs.

using System;
using Svsm.Kernel.Memory;

namespace Svsm.Kernel.Guest;

/// <summary>The records of all CPUs.</summary>
internal static class GuestVcpus
{
    /// <summary>Most CPUs.</summary>
    public const int MaxCount = 512;

    private static OwnedArray<GuestVcpu, KernelHeap> s_records;

    /// <summary>The records, one for each CPU of the VM. Available after <see cref="Create"/>.</summary>
    public static Span<GuestVcpu> All => s_records.Items;

    /// <summary>Makes the records.</summary>
    /// <param name="count">1 to <see cref="MaxCount"/>.</param>
    /// <returns>What was lacking.</returns>
    public static MemoryError Create(int count) => OwnedArray<GuestVcpu, KernelHeap>.Create(count, out s_records);
}
