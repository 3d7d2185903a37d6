// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The probe's own ground: entry, exceptions, GHCB, checks. Scenarios are in Scenarios.cs.
//
// Memory, as tests/Svsm.Hypervisor.Tests/ProbeLaunch.cs sets it up (64 MiB of RAM):
//   0x10_0000             page tables
//   0x20_0000             this image
//   0x80_0000             GHCB page, shared from the start
//   0x100_0000 and above  pages to try things on, shared and never touched
// Virtual: 0 to 1 GiB one to one, private; SharedView + the same, shared; Window: 512 pages by one page table, empty.

using System;
using System.Runtime;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Svsm.Platform;
using Svsm.Wire;

namespace Svsm.HypervisorProbe;

/// <summary>Registers at an exception; see Probe.S.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct ExceptionFrame
{
    public ulong Rax;
    public ulong Rcx;
    public ulong Rdx;
    public ulong Rbx;
    public ulong Rbp;
    public ulong Rsi;
    public ulong Rdi;
    public ulong R8;
    public ulong R9;
    public ulong R10;
    public ulong R11;
    public ulong R12;
    public ulong R13;
    public ulong R14;
    public ulong R15;
    public ulong Vector;
    public ulong ErrorCode;
    public ulong Rip;
    public ulong Cs;
    public ulong Rflags;
    public ulong Rsp;
    public ulong Ss;
}

/// <summary>An interrupt gate.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
internal struct Gate
{
    public ushort OffsetLow;
    public ushort Selector;
    public byte InterruptStack;
    public byte Type;
    public ushort OffsetMiddle;
    public uint OffsetHigh;
    public uint Reserved;
}

/// <summary>The interrupt descriptor table: 32 gates of exceptions, 48 of interrupts.</summary>
[InlineArray(160)]
internal struct GateTable
{
    private ulong _element0;
}

/// <summary>Sends console text through the GHCB page.</summary>
internal struct Console : ITextSink
{
    private const ushort Com1 = 0x3F8;

    public static void Write(byte value) => Probe.PortOut(Com1, value);
}

internal static unsafe partial class Probe
{
    public const ulong CBit = 1ul << 47;
    public const ulong SharedView = 0x80_0000_0000;
    public const ulong Window = 0x4000_0000;
    public const ulong WindowTable = 0x10_6000;
    public const ulong MessageGpa = 0x10_A000;
    public const ulong GhcbGpa = 0x80_0000;
    public const ulong TestArea = 0x100_0000;
    public const int PageSize = 4096;

    private const ushort ExitPort = 0xF4;
    private const ulong CpuidLength = 2;

    private static GateTable s_gates;
    private static ulong s_nextPage = TestArea;
    private static bool s_ghcbReady;

    // What the last exception was, and what to do at the next one.
    private static ulong s_vector;
    private static ulong s_error;
    private static ulong s_faultAddress;
    private static ulong s_handlerStack;
    private static ulong s_codeSelector;
    private static ulong s_count;
    private static ulong s_skip;

    // How often #HV came.
    private static ulong s_rings;

    [RuntimeExport("probe_main")]
    private static void Main(ulong scenario, byte* heap, nuint heapLength)
    {
        BootHeap.Initialize(heap, heapLength);
        RuntimeInit.Run();
        ulong* addresses = stackalloc ulong[7];
        Addresses(addresses);
        for (int vector = 0; vector < 32; vector++)
        {
            SetGate(vector, addresses[0] + (ulong)(vector * 16), interruptStack: 0);
        }

        fixed (GateTable* gates = &s_gates)
        {
            for (int vector = 32; vector < 80; vector++)
            {
                SetGate(vector, InterruptAddress(), interruptStack: 0);
            }

            LoadTable(gates, (80 * 16) - 1);
        }

        if (scenario != (ulong)Scenario.GhcbNotRegistered)
        {
            RegisterGhcb();
        }

        Run((Scenario)scenario);
        Exit(0);
    }

    [RuntimeExport("svsm_fail_fast")]
    private static void FailFast(char* text, int length)
    {
        Text<Console>.WriteLine("probe: panic"u8);
        Text<Console>.Write(new ReadOnlySpan<char>(text, length));
        Exit(3);
    }

    [RuntimeExport("probe_exception")]
    private static void Exception(ExceptionFrame* frame)
    {
        const ulong UserPrivilege = 3;
        const ulong Hypervisor = 28;
        if (frame->Vector == Hypervisor)
        {
            ulong* window = stackalloc ulong[2];
            GiveWayAddresses(window);
            frame->Rip = frame->Rip >= window[0] && frame->Rip < window[1] ? window[1] : frame->Rip;
            s_rings++;
            return;
        }

        s_vector = frame->Vector;
        s_error = frame->ErrorCode;
        s_faultAddress = X64.ReadCr2();
        s_handlerStack = (ulong)frame;
        s_codeSelector = frame->Cs;
        s_count++;
        if ((frame->Cs & UserPrivilege) == UserPrivilege && frame->Vector == 6)
        {
            frame->Cs = 0x08;
            frame->Ss = 0x10;
            frame->Rip = UserReturnAddress();
            return;
        }

        if (frame->Vector == 29 && frame->ErrorCode == (ulong)GhcbExitCode.Cpuid)
        {
            ulong function = frame->Rax;
            frame->Rax = MsrCpuid(function, 0);
            frame->Rbx = MsrCpuid(function, 1);
            frame->Rcx = MsrCpuid(function, 2);
            frame->Rdx = MsrCpuid(function, 3);
            frame->Rip += CpuidLength;
            return;
        }

        if (s_skip == 0)
        {
            Text<Console>.Write("probe: unexpected exception "u8);
            Text<Console>.WriteDecimal(frame->Vector);
            Text<Console>.Write(" error "u8);
            Text<Console>.WriteHex(frame->ErrorCode);
            Text<Console>.Write(" at "u8);
            Text<Console>.WriteHex(frame->Rip);
            Text<Console>.Write(" cr2 "u8);
            Text<Console>.WriteHex(s_faultAddress);
            Text<Console>.WriteLine();
            Exit(2);
        }

        frame->Rip = s_skip == ReturnToCaller ? PopReturn(frame) : frame->Rip + s_skip;
    }

    private const ulong ReturnToCaller = 0xFF;

    private static ulong PopReturn(ExceptionFrame* frame)
    {
        ulong address = *(ulong*)frame->Rsp;
        frame->Rsp += sizeof(ulong);
        return address;
    }

    private static void Expect(ulong skip)
    {
        s_skip = skip;
        s_count = 0;
        s_vector = 0;
        s_error = 0;
    }

    private static bool Got(ulong vector, ulong error)
    {
        bool result = s_count == 1 && s_vector == vector && s_error == error;
        s_skip = 0;
        return result;
    }

    private static bool GotNothing()
    {
        s_skip = 0;
        return s_count == 0;
    }

    private static void Check(bool condition, ReadOnlySpan<byte> what)
    {
        if (condition)
        {
            return;
        }

        Text<Console>.Write("probe: failed: "u8);
        Text<Console>.Write(what);
        Text<Console>.Write(" (last exception "u8);
        Text<Console>.WriteDecimal(s_vector);
        Text<Console>.Write(" error "u8);
        Text<Console>.WriteHex(s_error);
        Text<Console>.Write(" cr2 "u8);
        Text<Console>.WriteHex(s_faultAddress);
        Text<Console>.Write(" count "u8);
        Text<Console>.WriteDecimal(s_count);
        Text<Console>.WriteLine(")"u8);
        Exit(1);
    }

    private static void SetGate(int vector, ulong handler, byte interruptStack)
    {
        fixed (GateTable* gates = &s_gates)
        {
            ((Gate*)gates)[vector] = new Gate
            {
                OffsetLow = (ushort)handler,
                Selector = 0x08,
                InterruptStack = interruptStack,
                Type = 0x8E,
                OffsetMiddle = (ushort)(handler >> 16),
                OffsetHigh = (uint)(handler >> 32),
            };
        }
    }

    private static void LoadTable(void* table, ushort limit)
    {
        var pointer = new DescriptorTable { Limit = limit, Base = (ulong)table };
        X64.LoadIdt(&pointer);
    }

    // A page nobody has used yet.
    private static ulong NewPage()
    {
        ulong page = s_nextPage;
        s_nextPage += PageSize;
        return page;
    }

    // A page that is private and validated.
    private static ulong NewPrivatePage()
    {
        ulong page = NewPage();
        Check(ChangePageState(page, PageStateOperation.Private) == 0, "page state change to private"u8);
        Check(X64.PValidate(page, X64.PageSize4K, validate: true, out bool unchanged) == 0 && !unchanged, "validate a fresh page"u8);
        return page;
    }

    private static ulong* Shared(ulong gpa) => (ulong*)(SharedView + gpa);

    private static ulong Msr(ulong request)
    {
        X64.WriteMsr(SevMsr.Ghcb, request);
        X64.VmgExit();
        return X64.ReadMsr(SevMsr.Ghcb);
    }

    private static ulong MsrCpuid(ulong function, ulong register)
    {
        ulong saved = X64.ReadMsr(SevMsr.Ghcb);
        ulong answer = Msr((function << 32) | (register << 30) | GhcbMsr.CpuidRequest);
        X64.WriteMsr(SevMsr.Ghcb, saved);
        return answer >> 32;
    }

    private static ulong ChangePageState(ulong gpa, PageStateOperation operation)
    {
        ulong answer = Msr(((ulong)operation << PageStateChangeBuffer.OperationShift) | gpa | GhcbMsr.PageStateChangeRequest);
        return (answer & GhcbMsr.CodeMask) == GhcbMsr.PageStateChangeResponse ? answer >> 32 : ulong.MaxValue;
    }

    private static ulong RunVmpl(ulong vmpl)
    {
        ulong answer = Msr((vmpl << 32) | GhcbMsr.RunVmplRequest);
        return (answer & GhcbMsr.CodeMask) == GhcbMsr.RunVmplResponse ? answer >> 32 : ulong.MaxValue;
    }

    private static void RegisterGhcb()
    {
        ulong answer = Msr(GhcbGpa | GhcbMsr.RegisterGhcbRequest);
        s_ghcbReady = answer == (GhcbGpa | GhcbMsr.RegisterGhcbResponse);
    }

    private static GhcbPage* Ghcb => (GhcbPage*)Shared(GhcbGpa);

    private static void MarkValid(int offset)
    {
        var bitmap = (byte*)Ghcb + 0x3F0;
        bitmap[offset / 64] |= (byte)(1 << (offset / 8 % 8));
    }

    private static bool IsMarked(int offset) => (((byte*)Ghcb + 0x3F0)[offset / 64] & (1 << (offset / 8 % 8))) != 0;

    private static void Begin(GhcbExitCode exitCode, ulong info1, ulong info2)
    {
        new Span<byte>(Ghcb, PageSize / 2).Clear();
        Ghcb->ProtocolVersion = 2;
        Ghcb->Usage = 0;
        Ghcb->SwExitCode = (ulong)exitCode;
        Ghcb->SwExitInfo1 = info1;
        Ghcb->SwExitInfo2 = info2;
        MarkValid(0x390);
        MarkValid(0x398);
        MarkValid(0x3A0);
    }

    private static void SetRax(ulong value)
    {
        Ghcb->Rax = value;
        MarkValid(0x1F8);
    }

    private static void SetRcx(ulong value)
    {
        Ghcb->Rcx = value;
        MarkValid(0x308);
    }

    private static void SetRbx(ulong value)
    {
        Ghcb->Rbx = value;
        MarkValid(0x318);
    }

    private static void SetScratch(ulong value)
    {
        Ghcb->SwScratch = value;
        MarkValid(0x3A8);
    }

    private static GhcbCompletion Call()
    {
        Msr(GhcbGpa);
        return (GhcbCompletion)(uint)Ghcb->SwExitInfo1;
    }

    private static bool CallRefused(GhcbError error) => Call() == GhcbCompletion.BadRequest && Ghcb->SwExitInfo2 == (ulong)error;

    public static void PortOut(ushort port, byte value)
    {
        Begin(GhcbExitCode.Ioio, ((ulong)port << 16) | (ulong)IoioInfo.Size8, 0);
        SetRax(value);
        Call();
    }

    private static void Exit(byte status)
    {
        if (!s_ghcbReady)
        {
            Msr(GhcbMsr.TerminateRequest);
        }

        PortOut(ExitPort, status);
        while (true)
        {
            X64.Halt();
        }
    }

    [RuntimeImport("*", "probe_addresses")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern void Addresses(ulong* values);

    [RuntimeImport("*", "probe_user_return_address")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern ulong UserReturnAddress();

    [RuntimeImport("*", "probe_give_way")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern void GiveWay(void* doorbell, ulong request);

    [RuntimeImport("*", "probe_give_way_addresses")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern void GiveWayAddresses(ulong* values);

    [RuntimeImport("*", "probe_read")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern ulong Read(ulong address);

    [RuntimeImport("*", "probe_write")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern void Write(ulong address, ulong value);

    [RuntimeImport("*", "probe_read_indexed")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern void ReadIndexed(ulong address, ulong index);

    [RuntimeImport("*", "probe_call")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern void CallAt(ulong address);

    [RuntimeImport("*", "probe_push")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern void Push(ulong stack);

    [RuntimeImport("*", "probe_wbinvd")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern void Wbinvd();

    [RuntimeImport("*", "probe_vmmcall")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern void Vmmcall();

    [RuntimeImport("*", "probe_invd")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern void Invd();

    [RuntimeImport("*", "probe_write_dr7")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern void WriteDr7(ulong value);

    [RuntimeImport("*", "probe_monitor")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern void Monitor(ulong address);

    [RuntimeImport("*", "probe_mwait")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern void Mwait();

    [RuntimeImport("*", "probe_out_string")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern void OutString();

    [RuntimeImport("*", "probe_in_string")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern void InString();

    [RuntimeImport("*", "probe_read_tsc_aux")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern void ReadTscAux();

    [RuntimeImport("*", "probe_rdtsc")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern void ReadTsc();

    [RuntimeImport("*", "probe_compare_exchange")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern ulong CompareExchange();

    [RuntimeImport("*", "probe_in_bytes")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern void InBytes();

    [RuntimeImport("*", "probe_out_word")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern void OutWord();

    [RuntimeImport("*", "probe_rdpmc")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern void Rdpmc();

    [RuntimeImport("*", "probe_read_dr7")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern ulong ReadDr7();

    [RuntimeImport("*", "probe_invlpgb")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern void Invlpgb(ulong address, uint count);

    [RuntimeImport("*", "probe_tlbsync")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern void TlbSync();

    [RuntimeImport("*", "probe_psmash")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern void Psmash(ulong address);

    [RuntimeImport("*", "probe_vmrun")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern void Vmrun(ulong address);

    [RuntimeImport("*", "probe_ud2")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern void Ud2();

    [RuntimeImport("*", "probe_count")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern void Count(ulong rounds);

    [RuntimeImport("*", "probe_paging_off")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern uint PagingOff();

    [RuntimeImport("*", "probe_interrupt_address")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern ulong InterruptAddress();

    [RuntimeImport("*", "probe_interrupts")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern ulong Interrupts();

    [RuntimeImport("*", "probe_spin_for_interrupts")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern ulong SpinForInterrupts(ulong count);

    [RuntimeImport("*", "probe_wait_for_interrupt")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern void WaitForInterrupt();

    [RuntimeImport("*", "probe_spin_until")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern void SpinUntil(ulong* value, ulong wanted);

    [RuntimeImport("*", "probe_user")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern ulong RunUser();
}
