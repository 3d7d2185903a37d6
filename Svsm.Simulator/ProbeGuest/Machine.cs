// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The probe guest's own end of the guest-host protocol, its exceptions and its console. Written from the specifications alone:
// it shares no logic with the kernel that it probes.
//
// Before Open there is no console; a failure then ends the VM with a termination code of the probe guest's reason set (values below).

using System;
using System.Diagnostics.CodeAnalysis;
using System.Runtime;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Threading;
using Svsm.Platform;
using Svsm.Simulator.Shared;
using Svsm.Wire;

namespace Svsm.ProbeGuest;

/// <summary>Termination codes of the probe guest, beside 1 (no C-bit position, Boot.S).</summary>
internal enum ProbeTermination : uint
{
    /// <summary>The page for the GHCB could not be rescinded by an SVSM call.</summary>
    GhcbRescind = 2,

    /// <summary>The page for the GHCB could not be made shared.</summary>
    GhcbShare = 3,

    /// <summary>The GHCB page was not registered.</summary>
    GhcbRegister = 4,

    /// <summary>A request through the GHCB page failed.</summary>
    GhcbRequest = 5,

    /// <summary>The SVSM did not take a call, or the host did not switch.</summary>
    SvsmCall = 6,
}

/// <summary>Exit statuses with a meaning.</summary>
internal static class ExitStatus
{
    /// <summary>All checks passed.</summary>
    public const byte Passed = 0;

    /// <summary>A check failed.</summary>
    public const byte Failed = 1;

    /// <summary>The command is unknown.</summary>
    public const byte UnknownCommand = 2;

    /// <summary>An exception without a handler.</summary>
    public const byte Exception = 3;

    /// <summary>#VC for a page that is not validated.</summary>
    public const byte NotValidated = 4;

    /// <summary>Something that should have ended the VM did not.</summary>
    public const byte StillHere = 5;
}

/// <summary>What Boot.S leaves on the stack for an exception.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct TrapFrame
{
    public ulong R15, R14, R13, R12, R11, R10, R9, R8, Rdi, Rsi, Rbp, Rbx, Rdx, Rcx, Rax;
    public ulong Vector, ErrorCode;
    public ulong Rip, Cs, Rflags, Rsp, Ss;
}

/// <summary>COM1, by IN and OUT instructions that #VC turns into requests.</summary>
internal struct Com1 : ITextSink
{
    private const ushort Data = 0x3F8;
    private const ushort LineStatus = 0x3FD;
    private const byte DataReady = 0x01;
    private const byte TransmitterEmpty = 0x20;

    /// <summary>Takes the next byte that was typed.</summary>
    /// <returns>False: there is none.</returns>
    public static bool TryRead(out byte value)
    {
        bool isThere = (X64.In8(LineStatus) & DataReady) != 0;
        value = isThere ? X64.In8(Data) : (byte)0;
        return isThere;
    }

    public static void Write(byte value)
    {
        if (value == (byte)'\n')
        {
            Write((byte)'\r');
        }

        while ((X64.In8(LineStatus) & TransmitterEmpty) == 0)
        {
        }

        X64.Out8(Data, value);
    }
}

/// <summary>The probe guest's machine.</summary>
internal static unsafe class Machine
{
    private const int VectorCount = 32;
    private const int VectorVc = 29;
    private const ulong InterruptGate = 0x8Eul << 40;
    private const ulong CodeSelector = 8;
    private const ulong NotValidated = 0x404;
    private const int RaxIndex = 0x1F8 / 8;
    private const int RcxIndex = 0x308 / 8;
    private const int RdxIndex = 0x310 / 8;
    private const int ExitCodeIndex = 0x390 / 8;
    private const int Info1Index = 0x398 / 8;
    private const int Info2Index = 0x3A0 / 8;
    private const int ScratchIndex = 0x3A8 / 8;
    private const int BitmapIndex = 0x3F0 / 8;

    private const int TimerVector = 0x40;
    private const int GateCount = TimerVector + 1;
    private const uint EndOfInterruptMsr = 0x80B;
    private const uint SpuriousMsr = 0x80F;
    private const uint TimerMsr = 0x832;
    private const uint InitialCountMsr = 0x838;
    private const uint DivideMsr = 0x83E;
    private const ulong SoftwareEnabled = 0x1FF;
    private const ulong Periodic = 1ul << 17;
    private const ulong DivideByOne = 0xB;

    [InlineArray(GateCount * 2)]
    private struct Gates
    {
        private ulong _element0;
    }

    private static Gates s_idt;
    private static uint s_ticks;
    private static byte* s_cpuidPage;
    private static ulong s_encryptionMask;

    private static ulong* Ghcb => Cpus.Current.Ghcb;

    /// <summary>Number of #VC that this vCPU has handled so far.</summary>
    public static uint VcCount => Cpus.Current.VcCount;

    /// <summary>CPUID as the CPUID page has it.</summary>
    public static CpuidEntry Cpuid(uint function, uint index)
    {
        uint count = ((CpuidPageHeader*)s_cpuidPage)->Count;
        CpuidEntry* entries = (CpuidEntry*)(s_cpuidPage + CpuidPageHeader.EntriesOffset);
        for (uint i = 0; i < count && i < CpuidPageHeader.MaxEntries; i++)
        {
            if (entries[i].Function == function && entries[i].Index == index)
            {
                return entries[i];
            }
        }

        return default;
    }

    /// <summary>Builds the IDT, and opens the boot vCPU.</summary>
    /// <param name="start">What Boot.S kept.</param>
    public static void Open(in ProbeStart start)
    {
        s_cpuidPage = (byte*)start.CpuidPage;
        s_encryptionMask = start.EncryptionMask;
        ulong stub = ExceptionStubs();
        for (int vector = 0; vector < VectorCount; vector++)
        {
            SetGate(vector, stub + ((ulong)vector * 16));
        }

        SetGate(TimerVector, TimerEntry());

        OpenCpu();
    }

    /// <summary>Loads the IDT, makes the GHCB page of this vCPU shared and registers it. From here on it has a console.</summary>
    public static void OpenCpu()
    {
        DescriptorTable table;
        table.Limit = (GateCount * 2 * sizeof(ulong)) - 1;
        table.Base = (ulong)Unsafe.AsPointer(ref s_idt);
        X64.LoadIdt(&table);

        // As Linux does it: rescind through the SVSM, then hand the page to the host, then look at it without the C-bit.
        ulong gpa = (ulong)Ghcb;
        MakeShared(gpa);

        if (MsrExchange(gpa | GhcbMsr.RegisterGhcbRequest) != (gpa | GhcbMsr.RegisterGhcbResponse))
        {
            Terminate(ProbeTermination.GhcbRegister);
        }
    }

    /// <summary>Ticks of the timer that vCPUs have taken so far.</summary>
    public static uint Ticks => Volatile.Read(ref s_ticks);

    /// <summary>Has the timer of this vCPU tick, each time it has counted so far. Ticks are taken by <see cref="TakeInterrupts"/>.</summary>
    /// <param name="count">Nanoseconds; 0 turns it off.</param>
    public static void StartTimer(uint count)
    {
        X64.WriteMsr(SpuriousMsr, SoftwareEnabled);
        X64.WriteMsr(DivideMsr, DivideByOne);
        X64.WriteMsr(TimerMsr, Periodic | TimerVector);
        X64.WriteMsr(InitialCountMsr, count);
    }

    /// <summary>Takes interrupts that are pending.</summary>
    [RuntimeImport("*", "probe_take_interrupts")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    public static extern void TakeInterrupts();

    private static void SetGate(int vector, ulong handler)
    {
        s_idt[vector * 2] = (handler & 0xFFFF) | (CodeSelector << 16) | InterruptGate | ((handler >> 16 & 0xFFFF) << 48);
        s_idt[(vector * 2) + 1] = handler >> 32;
    }

    /// <summary>Tells the host of the VMSA of another vCPU, to run at once.</summary>
    /// <returns>Whether the host took it.</returns>
    public static bool CreateVcpu(uint apicId, ulong vmsa, SevFeatures features)
    {
        const ulong Now = 1;
        Clear();
        Set(RaxIndex, (ulong)features);
        return TryRequest(GhcbExitCode.ApCreation, ((ulong)apicId << 32) | ((ulong)Vmpl.Vmpl2 << 16) | Now, vmsa);
    }

    /// <summary>Three pages of the image, in a row, for a device.</summary>
    public static ulong DevicePages => DevicePagesAddress();

    /// <summary>Reads a register of a device by a request to the host.</summary>
    public static ulong ReadDevice(ulong gpa, int size)
    {
        ulong* buffer = Ghcb + (GhcbPage.SharedBufferOffset / sizeof(ulong));
        Volatile.Write(ref *buffer, 0);
        Clear();
        Set(ScratchIndex, (ulong)buffer);
        Request(GhcbExitCode.MmioRead, gpa, (ulong)size);
        return Volatile.Read(ref *buffer);
    }

    /// <summary>Writes a register of a device by a request to the host.</summary>
    public static void WriteDevice(ulong gpa, int size, ulong value)
    {
        ulong* buffer = Ghcb + (GhcbPage.SharedBufferOffset / sizeof(ulong));
        Volatile.Write(ref *buffer, value);
        Clear();
        Set(ScratchIndex, (ulong)buffer);
        Request(GhcbExitCode.MmioWrite, gpa, (ulong)size);
    }

    /// <summary>Makes a page of the image shared, and zeroes it. One that is shared already, from an earlier life of a vCPU, stays as it is.</summary>
    public static void MakeShared(ulong gpa)
    {
        ulong* entry = (ulong*)PageTable() + ((gpa >> 12) & 511);
        if ((Volatile.Read(ref *entry) & s_encryptionMask) == 0)
        {
            return;
        }

        if (Calls.PValidateOne(gpa, validate: false, ignoreNoChange: false, large: false) != SvsmResultCode.Success)
        {
            Terminate(ProbeTermination.GhcbRescind);
        }

        if (!ChangePageState(gpa, PageStateOperation.Shared))
        {
            Terminate(ProbeTermination.GhcbShare);
        }

        Volatile.Write(ref *entry, *entry & ~s_encryptionMask);
        X64.InvalidatePage(gpa);
        new Span<byte>((void*)gpa, 4096).Clear();
    }

    /// <summary>Changes the state of one 4-KiB page by the register protocol.</summary>
    public static bool ChangePageState(ulong gpa, PageStateOperation operation) =>
        MsrExchange(((ulong)operation << 52) | gpa | GhcbMsr.PageStateChangeRequest) == GhcbMsr.PageStateChangeResponse;

    /// <summary>Makes a 2-MiB page private as a whole, by a page state change through the GHCB page.</summary>
    public static bool MakeLargePagePrivate(ulong gpa)
    {
        ulong* buffer = Ghcb + (GhcbPage.SharedBufferOffset / sizeof(ulong));
        Volatile.Write(ref buffer[0], 0);
        Volatile.Write(ref buffer[1], gpa | ((ulong)PageStateOperation.Private << PageStateChangeBuffer.OperationShift) | PageStateChangeBuffer.Large);
        Clear();
        Set(ScratchIndex, (ulong)Ghcb + GhcbPage.SharedBufferOffset);
        Request(GhcbExitCode.PageStateChange, 0, 0);
        return Volatile.Read(ref Ghcb[Info2Index]) == 0 && (Volatile.Read(ref buffer[0]) & 0xFFFF) == 1;
    }

    /// <summary>Has the host take a page and give it back, at one go: assigned, but not validated any more.</summary>
    /// <returns>False: the host refused, since the page is a VMSA that runs; nothing changed.</returns>
    public static bool TakeAway(ulong gpa)
    {
        const int Entries = 2;
        ulong* buffer = Ghcb + (GhcbPage.SharedBufferOffset / sizeof(ulong));
        Volatile.Write(ref buffer[0], (ulong)(Entries - 1) << (PageStateChangeBuffer.EndOffset * 8));
        Volatile.Write(ref buffer[1], gpa | ((ulong)PageStateOperation.Shared << PageStateChangeBuffer.OperationShift));
        Volatile.Write(ref buffer[2], gpa | ((ulong)PageStateOperation.Private << PageStateChangeBuffer.OperationShift));
        Clear();
        Set(ScratchIndex, (ulong)Ghcb + GhcbPage.SharedBufferOffset);
        Request(GhcbExitCode.PageStateChange, 0, 0);
        return Volatile.Read(ref Ghcb[Info2Index]) == 0 && (Volatile.Read(ref buffer[0]) & 0xFFFF) == Entries;
    }

    /// <summary>Asks the host by the register protocol.</summary>
    public static ulong MsrExchange(ulong request)
    {
        ulong saved = X64.ReadMsr(SevMsr.Ghcb);
        X64.WriteMsr(SevMsr.Ghcb, request);
        X64.VmgExit();
        ulong answer = X64.ReadMsr(SevMsr.Ghcb);
        X64.WriteMsr(SevMsr.Ghcb, saved);
        return answer;
    }

    /// <summary>Ends the VM with an exit status.</summary>
    [DoesNotReturn]
    public static void Exit(byte status)
    {
        X64.Out8(Link.GuestExitPort, status);
        while (true)
        {
            X64.Halt();
        }
    }

    /// <summary>Ends the VM without a console.</summary>
    [DoesNotReturn]
    public static void Terminate(ProbeTermination reason)
    {
        while (true)
        {
            X64.WriteMsr(SevMsr.Ghcb, GhcbMsr.TerminateRequest | (TerminationReasonSet.ProbeGuest << 12) | ((ulong)reason << 16));
            X64.VmgExit();
        }
    }

    /// <summary>Takes away the IDT, so that the next exception shuts the vCPU down.</summary>
    public static void DropInterruptTable()
    {
        DescriptorTable table = default;
        X64.LoadIdt(&table);
    }

    [UnmanagedCallersOnly(EntryPoint = "probe_exception")]
    private static void OnException(TrapFrame* frame)
    {
        if (frame->Vector == VectorVc && frame->ErrorCode != NotValidated)
        {
            HandleVc(frame);
            return;
        }

        if (frame->Vector == TimerVector)
        {
            Interlocked.Increment(ref s_ticks);
            X64.WriteMsr(EndOfInterruptMsr, 0);
            return;
        }

        bool notValidated = frame->Vector == VectorVc;
        Text<Com1>.Write("probe: exception "u8);
        Text<Com1>.WriteDecimal(frame->Vector);
        Text<Com1>.Write(" error 0x"u8);
        Text<Com1>.WriteHex(frame->ErrorCode);
        Text<Com1>.Write(" rip 0x"u8);
        Text<Com1>.WriteHex(frame->Rip);
        Text<Com1>.Write(" cr2 0x"u8);
        Text<Com1>.WriteHex(X64.ReadCr2());
        Text<Com1>.WriteLine();
        Exit(notValidated ? ExitStatus.NotValidated : ExitStatus.Exception);
    }

    // The instructions are the probe guest's own and of few forms: the functions of Svsm.Platform.X64.
    private static void HandleVc(TrapFrame* frame)
    {
        Cpus.Current.VcCount++;
        byte* code = (byte*)frame->Rip;
        switch ((GhcbExitCode)frame->ErrorCode)
        {
            case GhcbExitCode.Cpuid when code[0] == 0x0F && code[1] == 0xA2:
                AnswerCpuid(frame);
                frame->Rip += 2;
                return;

            case GhcbExitCode.Ioio when code[0] is 0xEC or 0xEE:
                bool isIn = code[0] == 0xEC;
                Clear();
                if (!isIn)
                {
                    Set(RaxIndex, frame->Rax & 0xFF);
                }

                Request(GhcbExitCode.Ioio, ((frame->Rdx & 0xFFFF) << 16) | (ulong)IoioInfo.Size8 | (isIn ? (ulong)IoioInfo.In : 0), 0);
                if (isIn)
                {
                    frame->Rax = (frame->Rax & ~0xFFul) | (Get(RaxIndex) & 0xFF);
                }

                frame->Rip += 1;
                return;

            case GhcbExitCode.Msr when code[0] == 0x0F && code[1] is 0x30 or 0x32:
                bool isWrite = code[1] == 0x30;
                Clear();
                Set(RcxIndex, (uint)frame->Rcx);
                if (isWrite)
                {
                    Set(RaxIndex, (uint)frame->Rax);
                    Set(RdxIndex, (uint)frame->Rdx);
                }

                Request(GhcbExitCode.Msr, isWrite ? 1u : 0u, 0);
                if (!isWrite)
                {
                    frame->Rax = (uint)Get(RaxIndex);
                    frame->Rdx = (uint)Get(RdxIndex);
                }

                frame->Rip += 2;
                return;

            case GhcbExitCode.Rdtsc when code[0] == 0x0F && code[1] == 0x31:
                Clear();
                Request(GhcbExitCode.Rdtsc, 0, 0);
                frame->Rax = (uint)Get(RaxIndex);
                frame->Rdx = (uint)Get(RdxIndex);
                frame->Rip += 2;
                return;

            case (GhcbExitCode)0x78 when code[0] == 0xF4:
                // HLT: nothing will ever wake a guest without interrupts, which is what the host is told.
                Clear();
                Request((GhcbExitCode)0x78, 0, 0);
                frame->Rip += 1;
                return;

            default:
                Text<Com1>.Write("probe: #VC with code 0x"u8);
                Text<Com1>.WriteHex(frame->ErrorCode);
                Text<Com1>.Write(" at rip 0x"u8);
                Text<Com1>.WriteHex(frame->Rip);
                Text<Com1>.WriteLine();
                Exit(ExitStatus.Exception);
                return;
        }
    }

    private static void AnswerCpuid(TrapFrame* frame)
    {
        CpuidEntry found = Cpuid((uint)frame->Rax, (uint)frame->Rcx);
        frame->Rax = found.Eax;
        frame->Rbx = found.Ebx;
        frame->Rcx = found.Ecx;
        frame->Rdx = found.Edx;
    }

    private static void Clear()
    {
        Volatile.Write(ref Ghcb[BitmapIndex], 0);
        Volatile.Write(ref Ghcb[BitmapIndex + 1], 0);
    }

    private static void Set(int index, ulong value)
    {
        Volatile.Write(ref Ghcb[index], value);
        Ghcb[BitmapIndex + (index / 64)] |= 1ul << (index % 64);
    }

    private static ulong Get(int index)
    {
        if ((Volatile.Read(ref Ghcb[BitmapIndex + (index / 64)]) >> (index % 64) & 1) == 0)
        {
            Terminate(ProbeTermination.GhcbRequest);
        }

        return Volatile.Read(ref Ghcb[index]);
    }

    private static void Request(GhcbExitCode code, ulong info1, ulong info2)
    {
        if (!TryRequest(code, info1, info2))
        {
            Terminate(ProbeTermination.GhcbRequest);
        }
    }

    private static bool TryRequest(GhcbExitCode code, ulong info1, ulong info2)
    {
        Set(ExitCodeIndex, (ulong)code);
        Set(Info1Index, info1);
        Set(Info2Index, info2);
        ((GhcbPage*)Ghcb)->ProtocolVersion = 2;
        ((GhcbPage*)Ghcb)->Usage = 0;
        X64.WriteMsr(SevMsr.Ghcb, (ulong)Ghcb);
        X64.VmgExit();
        return (uint)Volatile.Read(ref Ghcb[Info1Index]) == (uint)GhcbCompletion.Success;
    }

    [RuntimeImport("*", "probe_exception_stubs_address")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern ulong ExceptionStubs();

    [RuntimeImport("*", "probe_timer_entry_address")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern ulong TimerEntry();

    [RuntimeImport("*", "probe_device_pages_address")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern ulong DevicePagesAddress();

    [RuntimeImport("*", "probe_page_table_address")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern ulong PageTable();
}
