// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// What makes the guest exit.
//
// Intercepted are the instructions that a SEV-ES processor turns into #VC or an automatic exit, what only an SNP processor knows (#UD),
// CR0.PG (it changes which view of memory counts), and what a guest of an SNP machine cannot have (SVM).
// Registers that the processor keeps in the VMSA are the guest's own: their MSRs pass.

using Svsm.Wire;

namespace Svsm.Hypervisor;

/// <summary>Intercepts of all vCPUs.</summary>
internal static unsafe class Intercepts
{
    private const ulong FirstCode = 0x60;
    private const int MsrMapFrames = 2;
    private const int IoMapFrames = 3;
    /// <summary>Writes of CR8, in the VMCB's field for control registers.</summary>
    public const uint Cr8Write = 1u << 24;

    private const uint FirstHighMsr = 0xC000_0000;
    private const uint FirstVeryHighMsr = 0xC001_0000;
    private const uint MsrsPerRange = 0x2000;
    private const int BytesPerRange = (int)MsrsPerRange * 2 / 8;

    private static byte* s_ioMap;
    private static byte* s_msrMap;

    /// <summary>Makes the permission maps. Once.</summary>
    public static void Initialize(FramePool pool)
    {
        s_ioMap = pool.AllocateContiguous(IoMapFrames);
        FramePool.Fill(s_ioMap, IoMapFrames, ulong.MaxValue);
        s_msrMap = pool.AllocateContiguous(MsrMapFrames);
        FramePool.Fill(s_msrMap, MsrMapFrames, ulong.MaxValue);

        Pass(0x174, 0x176);             // SYSENTER_CS, _ESP, _EIP
        Pass(0x277, 0x277);             // PAT
        Pass(0xC000_0080, 0xC000_0084); // EFER, STAR, LSTAR, CSTAR, SFMASK
        Pass(0xC000_0100, 0xC000_0103); // FS.base, GS.base, KERNEL_GS_BASE, TSC_AUX
    }

    /// <summary>Sets the intercepts of the VMPL that was just loaded.</summary>
    /// <param name="cpu">The vCPU.</param>
    /// <param name="alone">Whether it is the only one; if not, PAUSE lets the others run.</param>
    /// <param name="timeStampCounter">Whether RDTSC and RDTSCP exit.</param>
    public static void Select(VirtualCpu cpu, bool alone, bool timeStampCounter)
    {
        Vmcb* vmcb = cpu.Vmcb;
        vmcb->IoPermissionMap = (ulong)s_ioMap;
        vmcb->MsrPermissionMap = (ulong)s_msrMap;
        vmcb->Asid = 1;
        vmcb->NestedControl = 1;

        // With debug swap the debug registers are the guest's own, else DR7 is the hypervisor's.
        bool debugSwap = (cpu.Features & SevFeatures.DebugSwap) != 0;
        vmcb->InterceptDebugRegisters = debugSwap ? 0 : (1u << 7) | (1u << 23);
        vmcb->InterceptExceptions = 1u << Amd64.VectorInvalidOpcode;
        vmcb->Intercepts = Bit(ExitCode.Interrupt) | Bit(ExitCode.NonMaskableInterrupt) | Bit(ExitCode.Cr0SelectiveWrite) | Bit(ExitCode.Rdpmc) | Bit(ExitCode.Cpuid) | Bit(ExitCode.Invd)
            | Bit(ExitCode.Halt) | Bit(ExitCode.Invlpga) | Bit(ExitCode.Ioio) | Bit(ExitCode.Msr) | Bit(ExitCode.Shutdown)
            | Bit(ExitCode.Wbinvd) | Bit(ExitCode.Monitor) | Bit(ExitCode.Mwait) | Bit(ExitCode.MwaitConditional)
            | (alone ? 0 : Bit(ExitCode.Pause)) | (timeStampCounter ? Bit(ExitCode.Rdtsc) | Bit(ExitCode.Rdtscp) : 0);
        for (ulong code = ExitCode.Vmrun; code <= ExitCode.Skinit; code++)
        {
            vmcb->Intercepts |= Bit(code);
        }
    }

    /// <summary>Sets the intercepts of instructions that flush translations.</summary>
    /// <param name="cpu">The vCPU.</param>
    /// <param name="byAddress">CR3 writes and INVLPG.</param>
    /// <param name="everything">CR4 writes.</param>
    /// <returns>Whether more or others exit than before.</returns>
    public static bool SelectFlushes(VirtualCpu cpu, bool byAddress, bool everything)
    {
        const uint Cr3Write = 1u << 19;
        const uint Cr4Write = 1u << 20;
        Vmcb* vmcb = cpu.Vmcb;
        uint before = vmcb->InterceptControlRegisters;
        uint after = (byAddress ? Cr3Write : 0) | (everything ? Cr4Write : 0);
        vmcb->InterceptControlRegisters = after;
        vmcb->Intercepts = byAddress ? vmcb->Intercepts | Bit(ExitCode.Invlpg) : vmcb->Intercepts & ~Bit(ExitCode.Invlpg);
        return (after & ~before) != 0;
    }

    private static ulong Bit(ulong exitCode) => 1ul << (int)(exitCode - FirstCode);

    private static void Pass(uint first, uint last)
    {
        for (uint msr = first; msr <= last; msr++)
        {
            uint range = msr >= FirstVeryHighMsr ? 2u : msr >= FirstHighMsr ? 1u : 0u;
            uint bit = (msr & (MsrsPerRange - 1)) * 2;

            // SAFETY: the map has two frames; three ranges of 2 KiB lie in it, and bit is below 2^14.
            s_msrMap[(range * BytesPerRange) + (bit / 8)] &= (byte)~(3 << (int)(bit % 8));
        }
    }
}
