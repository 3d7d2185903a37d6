// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Virtual addresses that Kernel.ld gives to segments, and those that the kernel itself maps. The linker script has the picture.

using Svsm.Kernel.Memory;
using Svsm.Wire;

namespace Svsm.Kernel.Arch;

/// <summary>Addresses in the kernel's half, beside those of <see cref="KernelAddressSpace"/>.</summary>
internal static class KernelLayout
{
    /// <summary>Per-CPU data, see <see cref="PerCpu"/>.</summary>
    public const ulong PerCpuData = KernelAddressSpace.PerCpuBase + 0x1000;

    /// <summary>The GHCB page.</summary>
    public const ulong GhcbPage = KernelAddressSpace.PerCpuBase + 0x3000;

    /// <summary>First byte of the request loop's stack.</summary>
    public const ulong StackBottom = KernelAddressSpace.PerCpuBase + 0x5000;

    /// <summary>First byte after the request loop's stack.</summary>
    public const ulong StackTop = KernelAddressSpace.PerCpuBase + 0xD000;

    /// <summary>Bytes of each exception stack.</summary>
    public const ulong ExceptionStackSize = 0x2000;

    /// <summary>First byte after the stack of #DF.</summary>
    public const ulong DoubleFaultStackTop = KernelAddressSpace.PerCpuBase + 0x1_0000;

    /// <summary>First byte after the stack of #VC.</summary>
    public const ulong VcStackTop = KernelAddressSpace.PerCpuBase + 0x1_3000;

    /// <summary>First byte after the stack of NMI and #MC.</summary>
    public const ulong NmiStackTop = KernelAddressSpace.PerCpuBase + 0x1_6000;

    /// <summary>The #HV doorbell page.</summary>
    public const ulong DoorbellPage = KernelAddressSpace.PerCpuBase + 0x1_C000;

    /// <summary>First byte after the stack of #HV. Doorbell.S knows it.</summary>
    public const ulong HvStackTop = KernelAddressSpace.PerCpuBase + 0x2_0000;

    /// <summary>Where the current CPU maps one page that PVALIDATE or RMPADJUST works on: its last window.</summary>
    public const ulong PageWindow = KernelAddressSpace.WindowBase + ((KernelAddressSpace.WindowPageCount - 1) * (ulong)Page.Size);

    /// <summary>Where the current CPU maps one 2-MiB page.</summary>
    public const ulong LargeWindow = KernelAddressSpace.PerCpuBase + 0x40_0000;

    /// <summary>Bytes of all windows of a CPU, from <see cref="KernelAddressSpace.WindowBase"/> on.</summary>
    public const ulong WindowsLength = LargeWindow + Page.LargeSize - KernelAddressSpace.WindowBase;

    /// <summary>The page table that governs the current CPU's windows, as a page of that CPU.</summary>
    public const ulong WindowTable = KernelAddressSpace.PerCpuBase + 0x1_8000;

    /// <summary>The page directory that governs <see cref="LargeWindow"/>, as a page of the current CPU.</summary>
    public const ulong WindowDirectory = KernelAddressSpace.PerCpuBase + 0x1_A000;

    /// <summary>What is mapped while the kernel runs, for all CPUs: see <see cref="KernelPages"/>.</summary>
    public const ulong KernelPages = KernelAddressSpace.GlobalBase + 0x1_0000_0000;

    /// <summary>Number of 4-KiB pages at <see cref="KernelPages"/>: 256 MiB.</summary>
    public const int KernelPagesCount = 0x1_0000;

    /// <summary>What is shared with the host beyond the pages of each CPU, for all CPUs: see <see cref="Memory.SharedPages"/>.</summary>
    public const ulong SharedPages = KernelAddressSpace.GlobalBase + 0x2_0000_0000;

    /// <summary>Number of 4-KiB pages at <see cref="SharedPages"/>: 1 MiB.</summary>
    public const int SharedPagesCount = 0x100;

    /// <summary>The page states: up to <see cref="PageStatesLength"/>, mapped while booting.</summary>
    public const ulong PageStates = KernelAddressSpace.GlobalBase + 0x10_0000_0000;

    /// <summary>64 GiB: the states of 256 TiB of RAM.</summary>
    public const ulong PageStatesLength = 0x10_0000_0000;

    /// <summary>Code selector.</summary>
    public const ushort CodeSelector = 0x08;

    /// <summary>Data selector.</summary>
    public const ushort DataSelector = 0x10;

    /// <summary>Selector of the task state segment.</summary>
    public const ushort TaskSelector = 0x18;

    /// <summary>Finds the stack that holds an address.</summary>
    /// <param name="address">A virtual address. Untrusted.</param>
    /// <param name="end">First byte after that stack.</param>
    /// <returns>False: it lies in no stack.</returns>
    public static bool TryFindStack(ulong address, out ulong end)
    {
        end = StackTop;
        if (address >= StackBottom && address < StackTop)
        {
            return true;
        }

        end = DoubleFaultStackTop;
        if (address >= DoubleFaultStackTop - ExceptionStackSize && address < DoubleFaultStackTop)
        {
            return true;
        }

        end = VcStackTop;
        if (address >= VcStackTop - ExceptionStackSize && address < VcStackTop)
        {
            return true;
        }

        end = HvStackTop;
        if (address >= HvStackTop - ExceptionStackSize && address < HvStackTop)
        {
            return true;
        }

        end = NmiStackTop;
        return address >= NmiStackTop - ExceptionStackSize && address < NmiStackTop;
    }

    /// <summary>Whether an address that faulted lies in a guard page: below a stack, or anywhere between pages that are mapped at run time.</summary>
    public static bool IsGuardPage(ulong address)
    {
        ulong page = address & ~(ulong)(Page.Size - 1);
        return page - KernelPages < (ulong)KernelPagesCount * Page.Size || page is StackBottom - Page.Size or StackTop or DoubleFaultStackTop or VcStackTop or HvStackTop - ExceptionStackSize - Page.Size;
    }
}
