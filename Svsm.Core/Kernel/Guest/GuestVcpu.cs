// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// A vCPU of the guest: which VMSA a CPU runs at the guest's VMPL, and where that vCPU's calling area is. There is a record per CPU of the VM; the
// index is the CPU's number and APIC id.
//
// The CPU's request loop holds the record's lock from taking a call to answering it; CREATE_VCPU and DELETE_VCPU of another CPU only try it and
// answer BUSY. Records are shared by all CPUs: what is private to one is in PerCpu.

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

    /// <summary>How many vCPUs there were before it with this number: what was kept for one of them is not for another.</summary>
    public ulong Generation;

    /// <summary>Its calling area.</summary>
    public PhysicalAddress CallingArea;

    /// <summary>Since when it has waited to write a page, in nanoseconds of <see cref="Snp.KernelClock"/>; 0: it does not (<see cref="DirtyPages"/>).</summary>
    public ulong WaitsSince;

    /// <summary>It cannot run, and no module works for it: <see cref="GuestGate"/>. Or there is no such vCPU.</summary>
    public bool IsQuiet;
}
