// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Processor instructions that C# has no word for. Bodies are in X64.S; the linker drops those that an image does not call.
// Nothing here checks its operands: a wrong one faults or changes the machine under the caller.

using System.Runtime;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Svsm.Platform;

/// <summary>What CPUID returned.</summary>
[StructLayout(LayoutKind.Sequential)]
public struct CpuidResult
{
    /// <summary>EAX.</summary>
    public uint Eax;

    /// <summary>EBX.</summary>
    public uint Ebx;

    /// <summary>ECX.</summary>
    public uint Ecx;

    /// <summary>EDX.</summary>
    public uint Edx;
}

/// <summary>Operand of LGDT and LIDT.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
public struct DescriptorTable
{
    /// <summary>Bytes in the table, minus one.</summary>
    public ushort Limit;

    /// <summary>Virtual address of the table.</summary>
    public ulong Base;
}

/// <summary>Processor instructions. All of them want CPL 0 unless the manual says otherwise.</summary>
public static unsafe class X64
{
    /// <summary>PVALIDATE and RMPADJUST: a 4 KiB page.</summary>
    public const uint PageSize4K = 0;

    /// <summary>PVALIDATE and RMPADJUST: a 2 MiB page.</summary>
    public const uint PageSize2M = 1;

    /// <summary>Identifies the processor (CPUID).</summary>
    public static CpuidResult Cpuid(uint leaf, uint subleaf = 0)
    {
        CpuidResult result;

        // SAFETY: the callee fills the four words of a local.
        Cpuid(leaf, subleaf, &result);
        return result;
    }

    /// <summary>Sets or clears the validated bit of a page (PVALIDATE).</summary>
    /// <param name="virtualAddress">Address of the page, aligned to its size.</param>
    /// <param name="pageSize"><see cref="PageSize4K"/> or <see cref="PageSize2M"/>.</param>
    /// <param name="validate">True to validate, false to rescind.</param>
    /// <param name="unchanged">The carry flag: the page already was in that state. Never harmless for a caller that keeps track of validation.</param>
    /// <returns>EAX: 0 success, 1 FAIL_INPUT, 6 FAIL_SIZEMISMATCH.</returns>
    public static uint PValidate(ulong virtualAddress, uint pageSize, bool validate, out bool unchanged)
    {
        ulong result = PValidate(virtualAddress, pageSize, validate ? 1u : 0u);
        unchanged = (result >> 32) != 0;
        return (uint)result;
    }

    [RuntimeImport("*", "svsm_x64_cpuid")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern void Cpuid(uint leaf, uint subleaf, CpuidResult* result);

    /// <summary>Reads a model-specific register (RDMSR).</summary>
    [RuntimeImport("*", "svsm_x64_rdmsr")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    public static extern ulong ReadMsr(uint register);

    /// <summary>Writes a model-specific register (WRMSR).</summary>
    [RuntimeImport("*", "svsm_x64_wrmsr")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    public static extern void WriteMsr(uint register, ulong value);

    /// <summary>Reads 8 bits from an I/O port.</summary>
    [RuntimeImport("*", "svsm_x64_in8")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    public static extern byte In8(ushort port);

    /// <summary>Reads 16 bits from an I/O port.</summary>
    [RuntimeImport("*", "svsm_x64_in16")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    public static extern ushort In16(ushort port);

    /// <summary>Reads 32 bits from an I/O port.</summary>
    [RuntimeImport("*", "svsm_x64_in32")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    public static extern uint In32(ushort port);

    /// <summary>Writes 8 bits to an I/O port.</summary>
    [RuntimeImport("*", "svsm_x64_out8")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    public static extern void Out8(ushort port, byte value);

    /// <summary>Writes 16 bits to an I/O port.</summary>
    [RuntimeImport("*", "svsm_x64_out16")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    public static extern void Out16(ushort port, ushort value);

    /// <summary>Writes 32 bits to an I/O port.</summary>
    [RuntimeImport("*", "svsm_x64_out32")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    public static extern void Out32(ushort port, uint value);

    /// <summary>Reads CR0.</summary>
    [RuntimeImport("*", "svsm_x64_read_cr0")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    public static extern ulong ReadCr0();

    /// <summary>Writes CR0.</summary>
    [RuntimeImport("*", "svsm_x64_write_cr0")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    public static extern void WriteCr0(ulong value);

    /// <summary>Reads CR2.</summary>
    [RuntimeImport("*", "svsm_x64_read_cr2")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    public static extern ulong ReadCr2();

    /// <summary>Writes CR2.</summary>
    [RuntimeImport("*", "svsm_x64_write_cr2")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    public static extern void WriteCr2(ulong value);

    /// <summary>Reads CR3.</summary>
    [RuntimeImport("*", "svsm_x64_read_cr3")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    public static extern ulong ReadCr3();

    /// <summary>Writes CR3.</summary>
    [RuntimeImport("*", "svsm_x64_write_cr3")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    public static extern void WriteCr3(ulong value);

    /// <summary>Reads CR4.</summary>
    [RuntimeImport("*", "svsm_x64_read_cr4")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    public static extern ulong ReadCr4();

    /// <summary>Writes CR4.</summary>
    [RuntimeImport("*", "svsm_x64_write_cr4")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    public static extern void WriteCr4(ulong value);

    /// <summary>Reads RFLAGS.</summary>
    [RuntimeImport("*", "svsm_x64_read_flags")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    public static extern ulong ReadFlags();

    /// <summary>Loads the global descriptor table register (LGDT). Segment registers keep their old descriptors until reloaded.</summary>
    [RuntimeImport("*", "svsm_x64_lgdt")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    public static extern void LoadGdt(DescriptorTable* table);

    /// <summary>Loads the interrupt descriptor table register (LIDT).</summary>
    [RuntimeImport("*", "svsm_x64_lidt")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    public static extern void LoadIdt(DescriptorTable* table);

    /// <summary>Loads the task register (LTR).</summary>
    [RuntimeImport("*", "svsm_x64_ltr")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    public static extern void LoadTaskRegister(ushort selector);

    /// <summary>Drops the translations of the page with this address (INVLPG), global ones included.</summary>
    [RuntimeImport("*", "svsm_x64_invlpg")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    public static extern void InvalidatePage(ulong virtualAddress);

    /// <summary>Drops translations on all processors (INVLPGB). Complete when <see cref="SynchronizeInvalidations"/> returns.</summary>
    /// <param name="what">RAX: bit 0 address valid, 1 PCID valid, 2 ASID valid, 3 global ones too, 4 last level only, 5 nested ones only, 63:12 address.</param>
    /// <param name="count">ECX: bits 15:0 number of further pages, bit 31 in steps of 2 MiB.</param>
    /// <param name="space">EDX: bits 15:0 ASID, 27:16 PCID.</param>
    [RuntimeImport("*", "svsm_x64_invlpgb")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    public static extern void InvalidateBroadcast(ulong what, uint count, uint space);

    /// <summary>Waits until all processors have done what this one asked for by <see cref="InvalidateBroadcast"/> (TLBSYNC).</summary>
    [RuntimeImport("*", "svsm_x64_tlbsync")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    public static extern void SynchronizeInvalidations();

    /// <summary>Enables interrupts (STI).</summary>
    [RuntimeImport("*", "svsm_x64_sti")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    public static extern void EnableInterrupts();

    /// <summary>Disables interrupts (CLI).</summary>
    [RuntimeImport("*", "svsm_x64_cli")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    public static extern void DisableInterrupts();

    /// <summary>Waits for an interrupt (HLT).</summary>
    [RuntimeImport("*", "svsm_x64_hlt")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    public static extern void Halt();

    /// <summary>Tells the processor that the caller spins (PAUSE).</summary>
    [RuntimeImport("*", "svsm_x64_pause")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    public static extern void Pause();

    /// <summary>Enables interrupts and waits for one, with none lost in between (STI; HLT).</summary>
    [RuntimeImport("*", "svsm_x64_sti_hlt")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    public static extern void EnableInterruptsAndHalt();

    /// <summary>Reads the time-stamp counter (RDTSC). Not ordered against other instructions.</summary>
    [RuntimeImport("*", "svsm_x64_rdtsc")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    public static extern ulong ReadTimeStampCounter();

    /// <summary>Reads the time-stamp counter after all earlier loads (LFENCE; RDTSC).</summary>
    [RuntimeImport("*", "svsm_x64_rdtsc_ordered")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    public static extern ulong ReadTimeStampCounterOrdered();

    /// <summary>Asks for a random number (RDRAND). False: none was ready, <paramref name="value"/> is 0.</summary>
    [RuntimeImport("*", "svsm_x64_rdrand")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    public static extern bool TryReadRandom(out ulong value);

    /// <summary>Asks for a seed (RDSEED). False: none was ready, <paramref name="value"/> is 0.</summary>
    [RuntimeImport("*", "svsm_x64_rdseed")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    public static extern bool TryReadSeed(out ulong value);

    /// <summary>Writes back and invalidates all caches (WBINVD).</summary>
    [RuntimeImport("*", "svsm_x64_wbinvd")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    public static extern void WriteBackInvalidateCaches();

    /// <summary>Orders all earlier loads and stores before all later ones (MFENCE).</summary>
    [RuntimeImport("*", "svsm_x64_mfence")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    public static extern void MemoryFence();

    /// <summary>Exits to the hypervisor (VMGEXIT): the GHCB or its MSR carries the request.</summary>
    [RuntimeImport("*", "svsm_x64_vmgexit")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    public static extern void VmgExit();

    [RuntimeImport("*", "svsm_x64_pvalidate")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern ulong PValidate(ulong virtualAddress, uint pageSize, uint validate);

    /// <summary>Sets what a lower VMPL may do with a page (RMPADJUST).</summary>
    /// <param name="virtualAddress">Address of the page, aligned to its size.</param>
    /// <param name="pageSize"><see cref="PageSize4K"/> or <see cref="PageSize2M"/>.</param>
    /// <param name="attributes">Bits 7:0 target VMPL, 15:8 permissions, 16 VMSA.</param>
    /// <returns>EAX: 0 success, 1 FAIL_INPUT, 2 FAIL_PERMISSION, 6 FAIL_SIZEMISMATCH.</returns>
    [RuntimeImport("*", "svsm_x64_rmpadjust")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    public static extern uint RmpAdjust(ulong virtualAddress, ulong pageSize, ulong attributes);

    /// <summary>Saves x87 and SSE state (FXSAVE64) to 512 bytes, 16-byte aligned.</summary>
    [RuntimeImport("*", "svsm_x64_fxsave")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    public static extern void SaveExtendedState(void* area);

    /// <summary>Loads x87 and SSE state (FXRSTOR64) from 512 bytes, 16-byte aligned.</summary>
    [RuntimeImport("*", "svsm_x64_fxrstor")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    public static extern void RestoreExtendedState(void* area);
}
