// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The order of the kernel's locks: a CPU that holds a lock may only take locks of a higher rank. Two CPUs that keep to it cannot
// wait for each other. Debug builds check it at every step (KernelLock.cs); a breach is a panic, on the first run that gets there,
// whether or not another CPU is in the way. The bits that guard page states (Memory/PageStateTable.cs) are not among them: whoever holds one
// takes nothing else.
//
//   GuestVcpu     a guest vCPU's VMSA and calling area      Guest/GuestVcpu.cs; a second one is only tried, never waited for
//   Modules       calls that wait for a module              Modules/ModuleService.cs
//   Tasks         tasks that wait                           Tasks/WaitQueue.cs
//   Slabs         small blocks of memory                    Memory/KernelHeap.cs
//   AddressSpace  what all CPUs have mapped                 Memory/KernelPages.cs, Arch/X64/AddressSpace.cs
//   Frames        frames                                    Memory/FrameAllocator.cs
//   Console       one line on the console                   Diagnostics/Log.cs

namespace Svsm.Kernel.Locks;

/// <summary>Ranks of locks, lowest first.</summary>
internal enum LockRank : byte
{
    /// <summary>A guest vCPU's VMSA and calling area.</summary>
    GuestVcpu,

    /// <summary>Calls that wait for a module.</summary>
    Modules,

    /// <summary>Tasks that wait.</summary>
    Tasks,

    /// <summary>Small blocks of memory.</summary>
    Slabs,

    /// <summary>What all CPUs have mapped.</summary>
    AddressSpace,

    /// <summary>Frames.</summary>
    Frames,

    /// <summary>A line on the console.</summary>
    Console,
}

/// <summary>Which locks a CPU holds. The zeroed state is "none".</summary>
internal struct LockOrder
{
    private const int BitsPerRank = 4;
    private const uint RankMask = (1u << BitsPerRank) - 1;

    // Per rank, how many locks of it are held: several of one rank only by trying.
    private uint _held;

    /// <summary>No lock is held.</summary>
    public readonly bool IsIdle => _held == 0;

    /// <summary>Notes a lock that is about to be waited for.</summary>
    /// <returns>False: a lock of this or of a higher rank is held.</returns>
    public bool TryEnter(LockRank rank)
    {
        if (_held >> Shift(rank) != 0)
        {
            return false;
        }

        _held += 1u << Shift(rank);
        return true;
    }

    /// <summary>Notes a lock that was got without waiting: it cannot be part of a deadlock, so its rank does not matter.</summary>
    public void NoteTried(LockRank rank) => _held += 1u << Shift(rank);

    /// <summary>Notes the release of a lock.</summary>
    /// <returns>False: no lock of this rank is held.</returns>
    public bool TryLeave(LockRank rank)
    {
        if ((_held >> Shift(rank) & RankMask) == 0)
        {
            return false;
        }

        _held -= 1u << Shift(rank);
        return true;
    }

    private static int Shift(LockRank rank) => (int)rank * BitsPerRank;
}
