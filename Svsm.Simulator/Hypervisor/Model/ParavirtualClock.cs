// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// KVM's clock: how a guest on a machine without timers at ports learns the frequency of its time-stamp counter. The guest names, by MSR, an
// address in a shared page for each vCPU, and finds there how to compute the time since the start of the machine:
//
//   0x00 u32 version, even | 0x08 u64 time-stamp T | 0x10 u64 nanoseconds at T | 0x18 u32 factor F | 0x1C s8 shift S | 0x1D u8 flags
//   nanoseconds = nanoseconds at T + (((time-stamp - T) << S) * F >> 32)
//
// Written once: the counters of all vCPUs agree and never change their frequency (flag 1). The wall clock starts at 0 with the machine: it has
// no clock that goes on without it, and a run must repeat. Layout of the wall clock: u32 version, u32 seconds, u32 nanoseconds at the start.
//
// Source: Linux Documentation/virt/kvm/x86/{msr,cpuid}.rst, arch/x86/include/asm/pvclock-abi.h.

namespace Svsm.Hypervisor;

/// <summary>The paravirtual clock.</summary>
internal static unsafe class ParavirtualClock
{
    // SAFETY (whole type): addresses are checked to lie in one shared page, with room for the structure.

    /// <summary>Address of the wall clock.</summary>
    public const uint WallClockMsr = 0x4B56_4D00;

    /// <summary>Address of the clock of a vCPU; bit 0 turns it on.</summary>
    public const uint SystemTimeMsr = 0x4B56_4D01;

    /// <summary>First leaf of CPUID.</summary>
    public const uint FirstLeaf = 0x4000_0000;

    /// <summary>Leaf of CPUID with <see cref="Features"/>.</summary>
    public const uint FeatureLeaf = 0x4000_0001;

    /// <summary>"KVMKVMKVM" in EBX, ECX, EDX of the first leaf.</summary>
    public static readonly uint[] Signature = [0x4B4D_564B, 0x564B_4D56, 0x0000_004D];

    /// <summary>No delay for port I/O, the clock by these MSRs, and that it is stable.</summary>
    public const uint Features = (1u << 1) | (1u << 3) | (1u << 24);

    private const uint TimeLength = 32;
    private const uint WallLength = 12;
    private const byte FlagStable = 1;
    private const uint FirstVersion = 2;

    /// <summary>Turns the clock of the calling vCPU on or off.</summary>
    /// <returns>False when the address is not that of shared memory.</returns>
    public static bool TryStart(VirtualMachine machine, ulong value)
    {
        const ulong Enabled = 1;
        if ((value & Enabled) == 0)
        {
            return true;
        }

        byte* time = Locate(machine, value & ~Enabled, TimeLength);
        if (time == null)
        {
            return false;
        }

        // Time 0 is where the counter is 0; so all vCPUs agree.
        ComputeFactor(machine.Clock.Frequency, out uint factor, out sbyte shift);
        *(uint*)time = FirstVersion;
        *(uint*)(time + 4) = 0;
        *(ulong*)(time + 8) = 0;
        *(ulong*)(time + 0x10) = 0;
        *(uint*)(time + 0x18) = factor;
        time[0x1C] = (byte)shift;
        time[0x1D] = FlagStable;
        *(ushort*)(time + 0x1E) = 0;
        return true;
    }

    /// <summary>Tells the wall clock.</summary>
    /// <returns>False when the address is not that of shared memory.</returns>
    public static bool TryWriteWallClock(VirtualMachine machine, ulong gpa)
    {
        byte* wall = Locate(machine, gpa, WallLength);
        if (wall == null)
        {
            return false;
        }

        *(uint*)wall = FirstVersion;
        *(uint*)(wall + 4) = 0;
        *(uint*)(wall + 8) = 0;
        return true;
    }

    /// <summary>The largest factor below 2^32, and its shift, that turn ticks into nanoseconds.</summary>
    public static void ComputeFactor(ulong frequency, out uint factor, out sbyte shift)
    {
        // factor = 10^9 * 2^32 / (frequency * 2^shift); with the frequency scaled to between 10^9 and 2 * 10^9 it has 32 bits.
        const ulong Nanoseconds = 1_000_000_000;
        shift = 0;
        ulong scaled = frequency;
        while (scaled > 2 * Nanoseconds)
        {
            scaled >>= 1;
            shift--;
        }

        while (scaled <= Nanoseconds)
        {
            scaled <<= 1;
            shift++;
        }

        factor = (uint)((Nanoseconds << 32) / scaled);
    }

    private static byte* Locate(VirtualMachine machine, ulong gpa, uint length)
    {
        GuestPage* page = machine.Memory.Find(gpa);
        ulong offset = gpa & (Amd64.PageSize - 1);
        return page == null || page->Assigned || offset > Amd64.PageSize - length || (gpa & 3) != 0 ? null : machine.Memory.SharedBytes(page) + offset;
    }
}
