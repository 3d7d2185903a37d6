// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The guest's vCPUs, one record per CPU of the VM; the index is the CPU's number and APIC id.
//
// A record says which VMSA the CPU runs at the guest's VMPL and where that vCPU's calling area is. The CPU's request loop holds the
// record's lock from taking a call to answering it; CREATE_VCPU and DELETE_VCPU of another CPU only try it and answer BUSY.
// The table is shared by all CPUs: what is private to one is in PerCpu.

using System;
using System.Runtime.CompilerServices;
using Svsm.Kernel.Locks;
using Svsm.Kernel.Memory;
using Svsm.Wire;

namespace Svsm.Kernel.Guest;

/// <summary>A vCPU of the guest.</summary>
internal struct GuestVcpu
{
    /// <summary>Protects the rest. Rank <see cref="LockRank.GuestVcpu"/>.</summary>
    public KernelLock Lock;

    /// <summary>There is such a vCPU; else the other fields mean nothing.</summary>
    public bool Exists;

    /// <summary>Its VMSA is a frame of the SVSM, which has named it to the host. False: a page of the guest, which does so itself.</summary>
    public bool IsFirst;

    /// <summary>Its VMSA.</summary>
    public PhysicalAddress Vmsa;

    /// <summary>SEV_FEATURES in its VMSA; those of all vCPUs of the guest.</summary>
    public SevFeatures Features;

    /// <summary>Its calling area.</summary>
    public PhysicalAddress CallingArea;
}

/// <summary>The records of all CPUs.</summary>
internal static class GuestVcpus
{
    /// <summary>Most CPUs.</summary>
    public const int MaxCount = 512;

    [InlineArray(MaxCount)]
    private struct Records
    {
        private GuestVcpu _element0;
    }

    private static Records s_records;
    private static int s_count;

    /// <summary>The records, one for each CPU of the VM.</summary>
    public static Span<GuestVcpu> All => ((Span<GuestVcpu>)s_records).Slice(0, s_count);

    /// <summary>Sets the number of CPUs.</summary>
    /// <param name="count">1 to <see cref="MaxCount"/>.</param>
    public static void Initialize(int count) => s_count = count;
}
