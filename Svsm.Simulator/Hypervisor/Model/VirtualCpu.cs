// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// One virtual processor of the guest: the VMCB it runs on, its registers, and what exists per VMPL.
//
// The registers of the VMPL that runs are in the VMCB and the WorldFrame; those of the others are in their VMSA pages, in the guest's
// private memory. RunLoop moves RAX and RSP between VMCB and WorldFrame, so that Registers is complete while the hypervisor runs.

using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Svsm.Simulator.Shared;
using Svsm.Wire;

namespace Svsm.Hypervisor;

/// <summary>512 raw bytes.</summary>
[System.Runtime.CompilerServices.InlineArray(512)]
internal struct Bytes512
{
    private byte _element0;
}

/// <summary>What the world switch loads and stores beside the VMCB. Known to Entry.S.</summary>
[StructLayout(LayoutKind.Explicit, Size = 0x300)]
internal struct WorldFrame
{
    /// <summary>General registers in the processor's numbering.</summary>
    [FieldOffset(0x00)]
    public Registers16 Registers;

    /// <summary>Time-stamp counter just before the entry.</summary>
    [FieldOffset(0x80)]
    public ulong TscEntry;

    /// <summary>Time-stamp counter just after the exit.</summary>
    [FieldOffset(0x88)]
    public ulong TscExit;

    /// <summary>When the processor that runs this vCPU last left a guest, in the guest's time, which stands still while the machine is asked; 0 = never.</summary>
    [FieldOffset(0x90)]
    public ulong LastExit;

    /// <summary>x87 and SSE registers in the form of FXSAVE64. 16-byte aligned.</summary>
    [FieldOffset(0x100)]
    public Bytes512 Extended;
}

/// <summary>What a vCPU has per VMPL.</summary>
internal sealed unsafe class VmplContext
{
    // SAFETY (whole type): VMCB and frame are whole pages of the pool that live as long as the machine.

    /// <summary>Where its VMSA is; 0 = there is none.</summary>
    public ulong VmsaGpa { get; set; }

    /// <summary>The VMSA's page in guest memory, or null when it was launched outside RAM.</summary>
    public GuestPage* VmsaPage { get; set; }

    /// <summary>The VMSA when it was launched outside RAM, else null.</summary>
    public Vmsa* LaunchVmsa { get; set; }

    /// <summary>The GHCB MSR.</summary>
    public ulong GhcbMsr { get; set; }

    /// <summary>The registered GHCB page; all ones = none.</summary>
    public ulong RegisteredGhcb { get; set; } = ulong.MaxValue;

    /// <summary>The #HV doorbell page, or <see cref="Svsm.Hypervisor.Doorbell.None"/>.</summary>
    public ulong Doorbell { get; set; } = Svsm.Hypervisor.Doorbell.None;

    /// <summary>It halts, and another VMPL took its place meanwhile.</summary>
    public bool HaltsOn { get; set; }

    /// <summary>EVENTINJ of an event that it is to get when it runs again, or 0.</summary>
    public ulong InterruptedEvent { get; set; }

    /// <summary>
    /// What is said above came from another machine, where this VMPL had a VMSA, and it has none here yet: it gets its VMSA, and keeps the rest.
    /// </summary>
    public bool IsTaken { get; set; }

    /// <summary>Counters.</summary>
    public VmplStatistics* Statistics { get; set; }

    /// <summary>The interrupt controller.</summary>
    public required LocalApic Apic { get; init; }

    private ulong _refusedRip;
    private ulong _refusedGpa;
    private uint _refusals;

    /// <summary>Passes what is moved with the guest (HostState.cs).</summary>
    /// <param name="stream">Where from or to.</param>
    /// <param name="now">Now, in time-stamp ticks of the guest.</param>
    public void Pass(ref StateStream stream, ulong now)
    {
        GhcbMsr = stream.Quad(GhcbMsr);
        RegisteredGhcb = stream.Quad(RegisteredGhcb);
        Doorbell = stream.Quad(Doorbell);
        ulong interrupted = stream.Told(InterruptedEvent);
        stream.Damage(interrupted != 0 && !Interrupts.IsEvent(interrupted));
        HaltsOn = stream.Flag(HaltsOn);
        Apic.Pass(ref stream, now);
        bool wasMade = stream.Flag(VmsaGpa != 0 || IsTaken);
        if (stream.Mode == StateMode.Take)
        {
            InterruptedEvent = interrupted;
            IsTaken = wasMade && VmsaGpa == 0;
        }
    }

    /// <summary>Counts writes that VMPL0 has to learn of, by one instruction to one page, one after the other.</summary>
    /// <returns>How many there were before this one.</returns>
    public uint CountRefusal(ulong rip, ulong gpa)
    {
        _refusals = rip == _refusedRip && gpa == _refusedGpa ? _refusals + 1 : 0;
        _refusedRip = rip;
        _refusedGpa = gpa;
        return _refusals;
    }
}

/// <summary>Why the run is to end.</summary>
internal struct StopRequest
{
    /// <summary>Set when it is.</summary>
    public bool IsSet;

    /// <summary>Why.</summary>
    public StopReason Reason;

    /// <summary>Which violation.</summary>
    public ViolationKind Violation;

    /// <summary>Page concerned, or 0.</summary>
    public ulong Gpa;

    /// <summary>Detail of the exit frame.</summary>
    public ulong Detail;
}

/// <summary>A virtual processor.</summary>
internal sealed unsafe class VirtualCpu
{
    /// <summary>Number of RAX in <see cref="Registers"/>.</summary>
    public const int Rax = 0;

    /// <summary>Number of RCX in <see cref="Registers"/>.</summary>
    public const int Rcx = 1;

    /// <summary>Number of RDX in <see cref="Registers"/>.</summary>
    public const int Rdx = 2;

    /// <summary>Number of RBX in <see cref="Registers"/>.</summary>
    public const int Rbx = 3;

    /// <summary>Number of RSP in <see cref="Registers"/>.</summary>
    public const int Rsp = 4;

    /// <summary>Number of RBP in <see cref="Registers"/>.</summary>
    public const int Rbp = 5;

    /// <summary>Number of RSI in <see cref="Registers"/>.</summary>
    public const int Rsi = 6;

    /// <summary>Number of RDI in <see cref="Registers"/>.</summary>
    public const int Rdi = 7;

    /// <summary>VcpuThreads.cs: 1 from before its processor lets go of the lock to run it until behind the exit.</summary>
    public int IsInGuest;

    /// <summary>VcpuThreads.cs: 1 while its processor waits for the lock and wants to be interrupted when it is free.</summary>
    public int IsQueued;

    /// <summary><see cref="Refusal"/>: there was none.</summary>
    public const ulong NoRefusal = ulong.MaxValue;

    private StopRequest _stop;
    private ulong _faultRip;
    private ulong _faultStack;
    private ulong _faultAddress;
    private uint _faultRepeats;
    private int _vmpl;

    /// <summary>Makes a vCPU that has no VMSA yet.</summary>
    /// <param name="pool">For its VMCB and frame.</param>
    /// <param name="id">Number and APIC id.</param>
    public VirtualCpu(FramePool pool, int id)
    {
        Id = id;
        Vmcb = (Vmcb*)pool.AllocateZeroed();
        Frame = (WorldFrame*)pool.AllocateZeroed();
        Walks = (RememberedWalk*)pool.AllocateZeroed();
        var statistics = (VmplStatistics*)pool.AllocateZeroed();
        Contexts = new VmplContext[NestedPageTables.VmplCount];
        for (int vmpl = 0; vmpl < Contexts.Length; vmpl++)
        {
            statistics[vmpl].Vcpu = (uint)id;
            statistics[vmpl].Vmpl = (uint)vmpl;
            Contexts[vmpl] = new VmplContext { Statistics = &statistics[vmpl], Apic = new LocalApic((uint)id) };
        }

        Current = Contexts[0];
    }

    /// <summary>Number and APIC id.</summary>
    public int Id { get; }

    /// <summary>The VMCB.</summary>
    public Vmcb* Vmcb { get; }

    /// <summary>Registers outside the VMCB.</summary>
    public WorldFrame* Frame { get; }

    /// <summary>Remembered translations: <see cref="RememberedWalk.UsesPerVmpl"/> for each VMPL.</summary>
    public RememberedWalk* Walks { get; }

    /// <summary>The state save area of the VMCB.</summary>
    public Vmsa* State => Svsm.Hypervisor.Vmcb.SaveArea(Vmcb);

    /// <summary>General registers in the processor's numbering.</summary>
    public ulong* Registers => (ulong*)Frame;

    /// <summary>The guest's time-stamp counter is the processor's plus this, modulo 2^64.</summary>
    public ulong TimeStampOffset
    {
        get => Vmcb->TscOffset;
        set => Vmcb->TscOffset = value;
    }

    /// <summary>VMPL that runs.</summary>
    public int Vmpl
    {
        get => _vmpl;
        set
        {
            _vmpl = value;
            Current = Contexts[value];
        }
    }

    /// <summary>Whether it has a VMSA in use; otherwise it was never started, halted, or is in AP reset hold.</summary>
    public bool IsRunning { get; set; }

    /// <summary>Whether it halted and an event may wake it.</summary>
    public bool IsHalted { get; set; }

    /// <summary>Whether interrupts wake it while <see cref="IsHalted"/>: RFLAGS.IF of the HLT.</summary>
    public bool HaltIsInterruptible { get; set; }

    /// <summary>Whether the next vCPU may run now.</summary>
    public bool Yields { get; set; }

    /// <summary>Vector of the virtual interrupt that was offered on entry, or 0.</summary>
    public int Offered { get; set; }

    /// <summary>EXITINTINFO of an event whose delivery the last exit interrupted, to be injected again, or 0.</summary>
    public ulong InterruptedEvent { get; set; }

    /// <summary>Whether what was delivered until its last exit has not been looked at yet.</summary>
    public bool IsUnsettled { get; set; }

    /// <summary>Whether its processor has halted, or may have lost an interrupt, since it last looked at what may have interrupted it.</summary>
    public bool HasTakenInterrupts { get; set; }

    /// <summary>Whether a processor has its debug registers and TSC_AUX.</summary>
    public bool IsLoaded { get; set; }

    /// <summary>TSC_AUX while no processor has it.</summary>
    public ulong TscAux { get; set; }

    /// <summary>SEV_FEATURES of the VMSA that runs.</summary>
    public SevFeatures Features { get; set; }

    /// <summary>What exists per VMPL.</summary>
    public VmplContext[] Contexts { get; }

    /// <summary>What exists for the VMPL that runs.</summary>
    public VmplContext Current { get; private set; }

    /// <summary>Whether and why the run is to end.</summary>
    public StopRequest StopRequest => _stop;

    /// <summary>Asks for the end of the run. The first request counts.</summary>
    /// <returns>False, for handlers to return: do not resume the guest.</returns>
    public bool Stop(StopReason reason, ulong detail)
    {
        return Stop(new StopRequest { IsSet = true, Reason = reason, Detail = detail });
    }

    /// <summary>Asks for the end of the run because of a violation. The first request counts.</summary>
    /// <param name="kind">What it is.</param>
    /// <param name="gpa">Page concerned, or 0.</param>
    /// <returns>False, for handlers to return: do not resume the guest.</returns>
    public bool Stop(ViolationKind kind, ulong gpa)
    {
        return Stop(new StopRequest { IsSet = true, Reason = StopReason.Violation, Violation = kind, Gpa = gpa, Detail = (ulong)kind });
    }

    /// <summary>Counts faults at one place: same instruction, stack and address, one after the other.</summary>
    /// <param name="address">Where the access went.</param>
    /// <returns>How many there were before this one.</returns>
    public uint CountFault(ulong address)
    {
        ulong stack = Registers[Rsp];
        bool again = State->Rip == _faultRip && stack == _faultStack && address == _faultAddress;
        _faultRepeats = again ? _faultRepeats + 1 : 0;
        _faultRip = State->Rip;
        _faultStack = stack;
        _faultAddress = address;
        return _faultRepeats;
    }

    /// <summary>Adds the page concerned to a stop that was asked for without knowing it.</summary>
    public void NoteGpa(ulong gpa) => _stop.Gpa = gpa;

    /// <summary>Where the hypervisor could not write in the guest's place since the exit, because its VMPL has no right to.</summary>
    public ulong Refusal { get; set; } = NoRefusal;

    /// <summary>Nothing need stop: what asked for it will be tried anew.</summary>
    public void WithdrawStop() => _stop = default;

    /// <summary>Goes on behind the current instruction, which was emulated and counts as one.</summary>
    /// <param name="length">Its length in bytes.</param>
    /// <returns>True, for handlers to return: resume the guest.</returns>
    public bool Skip(int length)
    {
        ulong next = State->Rip + (ulong)length;
        State->Rip = next >> 32 == 0 || IsLongCode ? next : (uint)next;
        Vmcb->InterruptShadow = 0;
        Current.Statistics->Ticks += length == 0 ? 0ul : 1;
        return true;
    }

    /// <summary>Has the processor raise an exception on entry.</summary>
    /// <returns>True, for handlers to return: resume the guest.</returns>
    public bool Raise(int vector)
    {
        const ulong Exception = (3ul << 8) | (1ul << 31);
        Vmcb->EventInjection = Exception | (uint)vector;
        return true;
    }

    /// <summary>Has the processor raise an exception with an error code on entry.</summary>
    /// <returns>True, for handlers to return: resume the guest.</returns>
    public bool Raise(int vector, uint errorCode)
    {
        Raise(vector);
        Vmcb->EventInjection |= (1ul << 11) | ((ulong)errorCode << 32);
        return true;
    }

    /// <summary>Whether the current code segment is a 64-bit one.</summary>
    public bool IsLongCode
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        get => (State->Efer & Amd64.EferLongModeActive) != 0 && (State->Cs.Attributes & SegmentAttributes.Long) != 0;
    }

    /// <summary>Selects the nested page tables for VMPL and paging mode.</summary>
    public void SelectNestedTables(NestedPageTables tables)
    {
        Vmcb->NestedCr3 = tables.GetRoot(Vmpl, (State->Cr0 & Amd64.Cr0Paging) != 0);
    }

    private bool Stop(StopRequest request)
    {
        if (!_stop.IsSet)
        {
            _stop = request;
        }

        return false;
    }
}

/// <summary>Packed segment attributes of VMCB and VMSA.</summary>
internal static class SegmentAttributes
{
    /// <summary>Code or data rather than a system segment.</summary>
    public const ushort NotSystem = 1 << 4;

    /// <summary>Code rather than data.</summary>
    public const ushort Code = 1 << 3;

    /// <summary>Conforming code.</summary>
    public const ushort Conforming = 1 << 2;

    /// <summary>Shift of the DPL.</summary>
    public const int DplShift = 5;

    /// <summary>Present.</summary>
    public const ushort Present = 1 << 7;

    /// <summary>64-bit code.</summary>
    public const ushort Long = 1 << 9;

    /// <summary>32-bit default size.</summary>
    public const ushort Default32 = 1 << 10;

    /// <summary>The limit counts 4-KiB pages.</summary>
    public const ushort Granularity = 1 << 11;

    /// <summary>Flat, writable data of a DPL in bits 6:5.</summary>
    public const ushort FlatData = 0xC93;
}
