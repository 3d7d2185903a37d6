// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// One 4-KiB page of the guest's memory: its two backing frames and its reverse map (RMP) entry.
//
//   _private   46:12 frame of the private view, 0 = none yet
//              0 assigned | 1 validated | 2 VMSA | 3 part of a 2-MiB entry | 4 was private once | 5 VMSA of a vCPU that runs
//              6 nested page tables may show it | 7 a remembered translation may go through it
//              11:9 VMPL1 to 3 of some vCPU may hold a stale translation | 63:48 since when, upper half
//              8 nothing but the right to write was lost by these
//   _shared    46:12 frame of the shared view, 0 = none yet
//              3:0 rights of VMPL1, 7:4 of VMPL2, 11:8 of VMPL3 (read, write, user execute, supervisor execute)
//              63:48 since when translations may be stale, lower half
//              47 shared, and VMPL0 made it so
//
// VMPL0 has every right on every assigned page; there is no field for it.

using Svsm.Simulator.Shared;
using Svsm.Wire;

namespace Svsm.Hypervisor;

/// <summary>A page of guest memory and its RMP entry. 16 bytes.</summary>
internal unsafe struct GuestPage
{
    // SAFETY (whole type): frames are opaque here: stored and handed back, never read.

    private const ulong AssignedBit = 1ul << 0;
    private const ulong ValidatedBit = 1ul << 1;
    private const ulong VmsaBit = 1ul << 2;
    private const ulong LargeBit = 1ul << 3;
    private const ulong OncePrivateBit = 1ul << 4;
    private const ulong RunningBit = 1ul << 5;
    private const ulong MappedBit = 1ul << 6;
    private const ulong RememberedBit = 1ul << 7;
    private const ulong StaleWritesBit = 1ul << 8;
    private const ulong StaleVmplsMask = 7ul << StaleVmplsShift;
    private const ulong StaleMask = StaleWritesBit | StaleVmplsMask | SinceMask;
    private const ulong SinceMask = ~0xFFFF_FFFF_FFFFul;
    private const ulong FrameMask = 0x7FFF_FFFF_F000;
    private const ulong SharedForVmpl0Bit = 1ul << 47;
    private const int StaleVmplsShift = 9;
    private const int StaleSinceShift = 48;

    /// <summary>RDX bit of <see cref="RmpPermissions.Read"/>; the rights are stored from bit 0 on.</summary>
    private const int PermissionShift = 8;

    private ulong _private;
    private ulong _shared;

    /// <summary>The page belongs to the guest.</summary>
    public bool Assigned
    {
        readonly get => (_private & AssignedBit) != 0;
        private set => Set(AssignedBit, value);
    }

    /// <summary>The guest has accepted the page.</summary>
    public bool Validated
    {
        readonly get => (_private & ValidatedBit) != 0;
        set => Set(ValidatedBit, value);
    }

    /// <summary>The page is a VMSA.</summary>
    public bool IsVmsa
    {
        readonly get => (_private & VmsaBit) != 0;
        set => Set(VmsaBit, value);
    }

    /// <summary>The page is the VMSA that a vCPU runs on now: in use.</summary>
    public bool IsRunning
    {
        readonly get => (_private & RunningBit) != 0;
        set => Set(RunningBit, value);
    }

    /// <summary>The page is part of a 2-MiB RMP entry.</summary>
    public bool IsLarge
    {
        readonly get => (_private & LargeBit) != 0;
        set => Set(LargeBit, value);
    }

    /// <summary>The nested page tables may show the page to some VMPL; if not, there is nothing to unmap.</summary>
    public bool IsMapped
    {
        readonly get => (_private & MappedBit) != 0;
        set => Set(MappedBit, value);
    }

    /// <summary>A <see cref="RememberedWalk"/> may go through the page.</summary>
    public bool IsRemembered
    {
        readonly get => (_private & RememberedBit) != 0;
        set => Set(RememberedBit, value);
    }

    /// <summary>VMPLs of which some vCPU may hold a translation from before a loss; bit n = VMPL n, 1 to 3.</summary>
    public int StaleVmpls
    {
        readonly get => (int)((_private & StaleVmplsMask) >> (StaleVmplsShift - 1));
        set => _private = (_private & ~StaleVmplsMask) | (((ulong)value << (StaleVmplsShift - 1)) & StaleVmplsMask);
    }

    /// <summary>Whether all that <see cref="StaleVmpls"/> lost is the right to write.</summary>
    public bool AreOnlyWritesStale
    {
        readonly get => (_private & StaleWritesBit) != 0;
        set => Set(StaleWritesBit, value);
    }

    /// <summary>When the loss was, in the time of <see cref="StaleTranslations"/>.</summary>
    public uint StaleSince
    {
        readonly get => (uint)((_private >> StaleSinceShift << 16) | (_shared >> StaleSinceShift));
        set
        {
            _private = (_private & ~(0xFFFFul << StaleSinceShift)) | ((ulong)(value >> 16) << StaleSinceShift);
            _shared = (_shared & ~(0xFFFFul << StaleSinceShift)) | ((ulong)value << StaleSinceShift);
        }
    }

    /// <summary>The page was private before; what is shared now holds what is left of it.</summary>
    public readonly bool OncePrivate => (_private & OncePrivateBit) != 0;

    /// <summary>The page is shared because VMPL0 wanted it so: it is the SVSM's, and not the guest's. Until it changes its state.</summary>
    public bool IsSharedForVmpl0
    {
        readonly get => (_shared & SharedForVmpl0Bit) != 0;
        set => _shared = value ? _shared | SharedForVmpl0Bit : _shared & ~SharedForVmpl0Bit;
    }

    /// <summary>Frame of the private view, or null.</summary>
    public byte* PrivateFrame
    {
        readonly get => (byte*)(_private & FrameMask);
        set => _private = (_private & ~FrameMask) | (ulong)value;
    }

    /// <summary>Frame of the shared view, or null.</summary>
    public byte* SharedFrame
    {
        readonly get => (byte*)(_shared & FrameMask);
        set => _shared = (_shared & ~FrameMask) | (ulong)value;
    }

    /// <summary>The host's RMPUPDATE to private: assigned, not validated, rights for VMPL0 only.</summary>
    /// <param name="large">Whether the page becomes part of a 2-MiB entry.</param>
    public void Assign(bool large)
    {
        _private = (_private & (FrameMask | StaleMask)) | AssignedBit | OncePrivateBit | (large ? LargeBit : 0);
        _shared &= FrameMask | SinceMask;
    }

    /// <summary>The host's RMPUPDATE to shared.</summary>
    public void Unassign()
    {
        _private &= FrameMask | StaleMask | OncePrivateBit;
        _shared &= FrameMask | SinceMask;
    }

    /// <summary>Whether private accesses depend on nothing but rights: assigned, validated, and not the VMSA that runs.</summary>
    public readonly bool IsOpen => (_private & (AssignedBit | ValidatedBit | RunningBit)) == (AssignedBit | ValidatedBit);

    /// <summary>Rights of a VMPL.</summary>
    /// <param name="vmpl">0 to 3.</param>
    public readonly RmpPermissions GetPermissions(int vmpl)
    {
        return vmpl == 0 ? RmpPermissions.All : (RmpPermissions)(((_shared >> ((vmpl - 1) * 4)) & 0xF) << PermissionShift);
    }

    /// <summary>Sets the rights of a VMPL.</summary>
    /// <param name="vmpl">1 to 3.</param>
    /// <param name="permissions">Any of <see cref="RmpPermissions.All"/>.</param>
    public void SetPermissions(int vmpl, RmpPermissions permissions)
    {
        int shift = (vmpl - 1) * 4;
        ulong bits = ((ulong)(permissions & RmpPermissions.All) >> PermissionShift) << shift;
        _shared = (_shared & ~(0xFul << shift)) | bits;
    }

    /// <summary>The entry in the form of <see cref="StopReport.RmpEntry"/>.</summary>
    public readonly ulong ToReport() => (_private & (AssignedBit | ValidatedBit | VmsaBit | LargeBit)) | ((_shared & 0xFFF) << 8);

    private void Set(ulong bit, bool value) => _private = value ? _private | bit : _private & ~bit;
}
