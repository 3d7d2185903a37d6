// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The kernel's end of the guest-host protocol on the current CPU: the register form from the first instruction on, the page form
// once the GHCB page is shared and registered. Every answer is copied once and checked by GhcbMsrProtocol and GhcbExchange.

using System;
using System.Diagnostics.CodeAnalysis;
using Svsm.Kernel.Arch;
using Svsm.Kernel.Diagnostics;
using Svsm.Kernel.Locks;
using Svsm.Kernel.Memory;
using Svsm.Platform;
using Svsm.Wire;

namespace Svsm.Kernel.Snp;

/// <summary>Requests to the host.</summary>
internal static unsafe class Host
{
    /// <summary>Most bytes of <see cref="TryWritePort"/>.</summary>
    public const int MaxPortBytes = 16;

    private const int PortShift = 16;
    private const int DestinationShift = 32;
    private const int CreationVmplShift = 16;

    private const ulong CreateOnInit = 0;
    private const ulong CreateNow = 1;

    /// <summary>What the host says that it has.</summary>
    public static HypervisorFeatures Features { get; private set; }

    /// <summary>The page form can be used on the current CPU, and with it the console.</summary>
    public static bool HasPage => PerCpu.Current.HasGhcb;

    /// <summary>Agrees on version and features; ends the VM when the host has not what the SVSM needs.</summary>
    /// <param name="encryptionBit">C-bit position that the CPUID page names.</param>
    public static void Negotiate(int encryptionBit)
    {
        TerminationReason reason = GhcbMsrProtocol.CheckSevInfo(Exchange(GhcbMsr.SevInfoRequest), encryptionBit);
        if (reason != TerminationReason.None)
        {
            Panic.Stop(reason, "the host's GHCB protocol does not fit: version 2 and the processor's C-bit position are wanted"u8);
        }
    }

    /// <summary>Checks the host's features; ends the VM when one is missing. Later than <see cref="Negotiate"/>, to say it on the console.</summary>
    public static void CheckFeatures()
    {
        ulong answer = Exchange(GhcbMsr.FeaturesRequest);
        switch (GhcbMsrProtocol.CheckFeatures(answer))
        {
            case TerminationReason.None:
                Features = GhcbMsrProtocol.FeaturesOf(answer);
                return;
            case TerminationReason.SingleVmpl:
                Panic.Stop(TerminationReason.SingleVmpl, "the host offers one VMPL only; an SVSM needs a host with several"u8);
                break;
            case TerminationReason.HypervisorFeatures:
                Panic.Stop(TerminationReason.HypervisorFeatures, "the host lacks SEV-SNP or vCPU creation"u8);
                break;
            default:
                Panic.Stop(TerminationReason.GhcbAnswer, "the host's answer to the features request is none"u8);
                break;
        }
    }

    /// <summary>Makes the current CPU's GHCB page shared and registers it. From here on the CPU has a console.</summary>
    public static void RegisterPage()
    {
        ref PerCpu cpu = ref PerCpu.Current;
        cpu.GhcbFrame = Share(KernelLayout.GhcbPage);
        if (!GhcbMsrProtocol.IsRegistered(Exchange(GhcbMsrProtocol.RegisterRequest(cpu.GhcbFrame)), cpu.GhcbFrame))
        {
            Panic.Stop(TerminationReason.GhcbRegistration, "the host did not take the GHCB page"u8);
        }

        cpu.HasGhcb = true;
    }

    /// <summary>
    /// Makes a page shared with the host, for good; ends the VM when that cannot be done. One of the current CPU's part, or one that no other CPU has used.
    /// </summary>
    /// <param name="address">Its virtual address.</param>
    /// <returns>Its frame; the page is zero.</returns>
    public static PhysicalAddress Share(ulong address)
    {
        if (!AddressSpace.TryTranslate(address, out PhysicalAddress frame))
        {
            Panic.Stop(TerminationReason.Configuration, "a page that the host is to see is not mapped"u8, address);
        }

        // Rescinded while it is still private, then handed over, then seen without the C-bit.
        uint result = X64.PValidate(address, X64.PageSize4K, false, out bool unchanged);
        if (result != 0 || unchanged)
        {
            Panic.Stop(TerminationReason.Validation, "a page that the host is to see could not be rescinded"u8, address);
        }

        if (!GhcbMsrProtocol.IsPageStateChanged(Exchange(GhcbMsrProtocol.PageStateRequest(frame, PageStateOperation.Shared))))
        {
            Panic.Stop(TerminationReason.GhcbAnswer, "the host refused to share a page"u8, address);
        }

        AddressSpace.MakeShared(address);

        // SAFETY: every CPU has a page of its own there.
        new System.Span<byte>((void*)address, Page.Size).Clear();
        return frame;
    }

    /// <summary>Has the host write an MSR that it keeps for the current CPU.</summary>
    /// <returns>False: it refused.</returns>
    public static bool TryWriteMsr(uint msr, ulong value)
    {
        GhcbRequest request = new()
        {
            ExitCode = GhcbExitCode.Msr,
            Info1 = 1,
            Sent = GhcbRegisters.Rax | GhcbRegisters.Rcx | GhcbRegisters.Rdx,
            Rax = (uint)value,
            Rcx = msr,
            Rdx = value >> 32,
        };
        return TryExchange(in request, out _);
    }

    /// <summary>Sends an interrupt to another CPU of the SVSM.</summary>
    /// <returns>False: the host refused.</returns>
    public static bool TryInterrupt(uint apicId, byte vector)
    {
        GhcbRequest request = new() { ExitCode = GhcbExitCode.HvIpi, Info1 = ((ulong)apicId << DestinationShift) | vector };
        return TryExchange(in request, out _);
    }

    /// <summary>Has the host make pages private, before they are validated; ends the VM when it refuses.</summary>
    /// <param name="first">First page.</param>
    /// <param name="pageCount">Number of 4-KiB pages.</param>
    public static void MakePrivate(PhysicalAddress first, ulong pageCount)
    {
        Port port = default;
        CpuLocks.Hold();

        // SAFETY: the page is mapped at this address on every CPU.
        bool isDone = PageStateRequests.TryMakePrivate(ref *(GhcbPage*)KernelLayout.GhcbPage, PerCpu.Current.GhcbFrame, ref port, first, pageCount);
        CpuLocks.Release();
        if (!isDone)
        {
            Panic.Stop(TerminationReason.GhcbAnswer, "the host refused to make memory private from"u8, first.Value);
        }
    }

    /// <summary>Has the host read or write 4 bytes of a device.</summary>
    /// <param name="address">Guest-physical address of a register.</param>
    /// <param name="isWrite">Writes <paramref name="value"/>.</param>
    /// <param name="value">The value; gets it, from the host.</param>
    /// <returns>False: the host refused.</returns>
    public static bool TryAccessMemory(ulong address, bool isWrite, ref uint value)
    {
        GhcbRequest request = new()
        {
            ExitCode = isWrite ? GhcbExitCode.MmioWrite : GhcbExitCode.MmioRead,
            Info1 = address,
            Info2 = sizeof(uint),
            Sent = GhcbRegisters.Scratch,
        };
        Port port = default;
        CpuLocks.Hold();
        request.Scratch = PerCpu.Current.GhcbFrame.Value + GhcbPage.SharedBufferOffset;

        // SAFETY: the page is mapped at this address on every CPU, and the buffer is a part of it.
        ref uint buffer = ref *(uint*)(KernelLayout.GhcbPage + GhcbPage.SharedBufferOffset);
        System.Threading.Volatile.Write(ref buffer, value);
        bool isDone = GhcbExchange.TryExchange(ref *(GhcbPage*)KernelLayout.GhcbPage, ref port, in request, out _);
        value = System.Threading.Volatile.Read(ref buffer);
        CpuLocks.Release();
        return isDone;
    }

    /// <summary>Writes bytes to an I/O port, one after the other, as REP OUTSB does. Only while <see cref="HasPage"/>.</summary>
    /// <param name="port">The port.</param>
    /// <param name="bytes">1 to <see cref="MaxPortBytes"/> bytes.</param>
    /// <returns>False: the host refused.</returns>
    public static bool TryWritePort(ushort port, ReadOnlySpan<byte> bytes)
    {
        GhcbRequest request = new()
        {
            ExitCode = GhcbExitCode.Ioio,
            Info1 = ((ulong)port << PortShift) | (ulong)(IoioInfo.Size8 | IoioInfo.String | IoioInfo.Rep | IoioInfo.Address64),
            Info2 = (ulong)bytes.Length,
            Sent = GhcbRegisters.Scratch,
        };
        Port exit = default;
        CpuLocks.Hold();
        request.Scratch = PerCpu.Current.GhcbFrame.Value + GhcbPage.SharedBufferOffset;

        // SAFETY: the page is mapped at this address on every CPU, and the buffer is a part of it, longer than the most bytes.
        bytes.CopyTo(new Span<byte>((void*)(KernelLayout.GhcbPage + GhcbPage.SharedBufferOffset), MaxPortBytes));
        bool isDone = GhcbExchange.TryExchange(ref *(GhcbPage*)KernelLayout.GhcbPage, ref exit, in request, out _);
        CpuLocks.Release();
        return isDone;
    }

    /// <summary>Names the VMSA of one of this VM's vCPUs at a VMPL.</summary>
    /// <param name="apicId">APIC id of the vCPU.</param>
    /// <param name="vmpl">The VMPL. VMPL0 runs at once; another one when its vCPU asks for it (request 0, create on INIT).</param>
    /// <param name="vmsa">Its VMSA page.</param>
    /// <param name="features">SEV_FEATURES in that VMSA.</param>
    /// <returns>False: the host refused.</returns>
    public static bool TryCreateVcpu(uint apicId, Vmpl vmpl, PhysicalAddress vmsa, SevFeatures features)
    {
        GhcbRequest request = new()
        {
            ExitCode = GhcbExitCode.ApCreation,
            Info1 = ((ulong)apicId << DestinationShift) | ((ulong)vmpl << CreationVmplShift) | (vmpl == Vmpl.Vmpl0 ? CreateNow : CreateOnInit),
            Info2 = vmsa.Value,
            Sent = GhcbRegisters.Rax,
            Rax = (ulong)features,
        };
        return TryExchange(in request, out _);
    }

    /// <summary>Runs another VMPL of this vCPU until it exits to the SVSM, or until there is an event for this CPU: that may be at once.</summary>
    /// <returns>False: the host refused.</returns>
    public static bool TryRunVmpl(Vmpl vmpl) => !Doorbell.TryRunVmpl(GhcbMsrProtocol.RunVmplRequest(vmpl), out ulong answer) || GhcbMsrProtocol.HasRun(answer);

    /// <summary>Makes a request through the GHCB page. Only while <see cref="HasPage"/>.</summary>
    /// <returns>False: the host refused, or its answer is none.</returns>
    public static bool TryExchange(in GhcbRequest request, out GhcbAnswer answer)
    {
        Port port = default;
        CpuLocks.Hold();

        // SAFETY: the page is mapped at this address on every CPU.
        bool isAnswered = GhcbExchange.TryExchange(ref *(GhcbPage*)KernelLayout.GhcbPage, ref port, in request, out answer);
        CpuLocks.Release();
        return isAnswered;
    }

    /// <summary>
    /// Leaves a question without consequences in the GHCB page: CPL 3 can execute VMGEXIT as well, as often as it likes, and must not repeat what the
    /// kernel asked last. Only while <see cref="HasPage"/>.
    /// </summary>
    public static void LeaveToProcess()
    {
        ref PerCpu cpu = ref PerCpu.Current;
        if (cpu.IsGhcbHarmless)
        {
            return;
        }

        GhcbRequest request = new() { ExitCode = GhcbExitCode.HypervisorFeatures };

        // SAFETY: as in TryExchange.
        GhcbExchange.Write(ref *(GhcbPage*)KernelLayout.GhcbPage, in request);
        X64.WriteMsr(SevMsr.Ghcb, cpu.GhcbFrame.Value);
        cpu.IsGhcbHarmless = true;
    }

    /// <summary>Ends the VM.</summary>
    [DoesNotReturn]
    public static void Terminate(TerminationReason reason)
    {
        // The host decides whether it obeys; the SVSM does not run on in any case.
        while (true)
        {
            X64.WriteMsr(SevMsr.Ghcb, GhcbMsrProtocol.TerminateRequest(reason));
            X64.VmgExit();
        }
    }

    private static ulong Exchange(ulong request)
    {
        CpuLocks.Hold();
        PerCpu.Current.IsGhcbHarmless = false;
        X64.WriteMsr(SevMsr.Ghcb, request);
        X64.VmgExit();
        ulong answer = X64.ReadMsr(SevMsr.Ghcb);
        CpuLocks.Release();
        return answer;
    }

    private struct Port : IGhcbPort
    {
        public readonly void Exit()
        {
            ref PerCpu cpu = ref PerCpu.Current;
            cpu.IsGhcbHarmless = false;
            X64.WriteMsr(SevMsr.Ghcb, cpu.GhcbFrame.Value);
            X64.VmgExit();
        }
    }
}
