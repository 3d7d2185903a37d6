// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The virtual machine: its memory, its processors, and what belongs to both: which VMSA each of them runs on.

using System;
using Svsm.Platform;
using Svsm.Simulator.Shared;
using Svsm.Wire;

namespace Svsm.Hypervisor;

/// <summary>The virtual machine.</summary>
internal sealed unsafe class VirtualMachine
{
    // SAFETY (whole type): a VMSA is reached through its page, which is checked to be assigned each time, or is a frame that was launched outside RAM.

    /// <summary>Most vCPUs.</summary>
    public const int MaxCpus = (int)LaunchHeader.MaxVcpuCount;

    private const int DebugRegisterCount = 4;

    private readonly ulong[] _debugRegisters = new ulong[MaxCpus * DebugRegisterCount];
    private VirtualCpu? _onProcessor;
    private bool _resumeFailed;
    private bool _interceptsTimeStampCounter;
    private ulong _advanced;

    /// <summary>Makes a machine without vCPUs.</summary>
    /// <param name="pool">Its memory's source.</param>
    /// <param name="link">Where its output goes.</param>
    /// <param name="processor">What it runs on.</param>
    public VirtualMachine(FramePool pool, LinkWriter link, HostProcessor processor)
    {
        Pool = pool;
        Link = link;
        Processor = processor;
        Threads = new VcpuThreads(processor);
        Memory = new GuestMemory(pool, Threads);
        IoApic = new IoApic(this);
        Pci = new PciBus(processor);
        Devices = new DeviceSpace(Pci);
        Devices.TryAdd(IoApic);
        Ports = new PortSpace(this, new SerialPort(link, IoApic), Pci);
        Interrupts = new Interrupts(this);
        Events = new Observer(this);
        Commands = new HostCommands(this);
        Attacks = new Attacks(this);
    }

    /// <summary>The hypervisor's memory.</summary>
    public FramePool Pool { get; }

    /// <summary>The link to the machine's host side.</summary>
    public LinkWriter Link { get; }

    /// <summary>The level-1 processor.</summary>
    public HostProcessor Processor { get; }

    /// <summary>Which processors run guests, when each vCPU has one.</summary>
    public VcpuThreads Threads { get; }

    /// <summary>Guest memory and RMP.</summary>
    public GuestMemory Memory { get; }

    /// <summary>I/O ports.</summary>
    public PortSpace Ports { get; }

    /// <summary>Devices with registers in guest-physical space.</summary>
    public DeviceSpace Devices { get; }

    /// <summary>The PCI bus.</summary>
    public PciBus Pci { get; }

    /// <summary>MSRs that only hold a value.</summary>
    public MsrStore Msrs { get; } = new();

    /// <summary>The I/O APIC.</summary>
    public IoApic IoApic { get; }

    /// <summary>Interrupts.</summary>
    public Interrupts Interrupts { get; }

    /// <summary>Speed of the time-stamp counters; a nanosecond per tick unless it was measured.</summary>
    public GuestClock Clock { get; set; } = new(1, 1);

    /// <summary>What is told of the run.</summary>
    public Observer Events { get; }

    /// <summary>What the machine's host side asks for.</summary>
    public HostCommands Commands { get; }

    /// <summary>What the host does that it should not.</summary>
    public Attacks Attacks { get; }

    /// <summary>The vCPUs; the number is the APIC id.</summary>
    public VirtualCpu[] Cpus
    {
        get => Memory.Stale.Cpus;
        set
        {
            Memory.Stale.Cpus = value;
            Threads.Cpus = value;
        }
    }

    /// <summary>Memory that the machine's host side has as well, <see cref="Svsm.Simulator.Shared.Link.WindowLength"/> bytes; null when there is none.</summary>
    public byte* Window { get; set; }

    /// <summary>Whether the machine's host side may interrupt VMPL0 of vCPU 0 at any time (<see cref="CommandKind.NotifySvsm"/>).</summary>
    public bool IsNotified { get; set; }

    /// <summary>Switches of the run.</summary>
    public LaunchOptions Options { get; set; }

    /// <summary>Sets the guest's time back: it stood still while the machine's host side was asked. Not when others went on meanwhile.</summary>
    /// <param name="start">Time-stamp counter of the processor when that began.</param>
    public void HoldTimeSince(ulong start)
    {
        if (Threads.Enabled)
        {
            return;
        }

        // Before it was set, time was another.
        ulong waited = Processor.ReadTimeStampCounter() - Math.Max(start, _advanced);
        for (int i = 0; i < Cpus.Length; i++)
        {
            Cpus[i].TimeStampOffset -= waited;
        }
    }

    /// <summary>Sets the guest's time, unless it is later. No timer of VMPL0 expires because of that.</summary>
    /// <param name="to">In time-stamp ticks of the guest.</param>
    public void AdvanceTime(ulong to)
    {
        Threads.RecallAll();
        ulong delta = to - Interrupts.Now;
        _advanced = Processor.ReadTimeStampCounter();
        if ((long)delta <= 0)
        {
            return;
        }

        for (int i = 0; i < Cpus.Length; i++)
        {
            Cpus[i].TimeStampOffset += delta;
            Cpus[i].Contexts[0].Apic.Shift(delta);

            // The hypervisor has not worked for so long.
            Cpus[i].Frame->LastExit += Cpus[i].Frame->LastExit == 0 ? 0 : delta;
        }
    }

    /// <summary>Answers CPUID for a vCPU.</summary>
    public CpuidResult Cpuid(VirtualCpu cpu, uint function, uint index)
    {
        return CpuidModel.Query(Processor, function, index, (uint)cpu.Id, (uint)Cpus.Length);
    }

    /// <summary>What VMRUN does to a VMSA: checks it, takes it into use and loads it.</summary>
    /// <param name="cpu">The vCPU; nothing runs on it now.</param>
    /// <param name="vmpl">Which VMPL.</param>
    /// <returns>False when the run must stop, which has been asked for.</returns>
    public bool Enter(VirtualCpu cpu, int vmpl)
    {
        VmplContext context = cpu.Contexts[vmpl];
        cpu.Vmpl = vmpl;
        GuestPage* page = context.VmsaPage;
        bool usable = page == null || (page->Assigned && page->Validated && page->IsVmsa && !page->IsRunning);
        Vmsa* vmsa = Locate(context);
        if (vmsa == null || !usable)
        {
            return cpu.Stop(ViolationKind.InvalidVmsa, context.VmsaGpa);
        }

        if (page != null)
        {
            // First, so that nobody changes what is checked.
            Memory.Unmap(page, context.VmsaGpa);
            page->IsRunning = true;
        }

        if (!VmsaTransfer.IsValid(vmsa, vmpl))
        {
            if (page != null)
            {
                page->IsRunning = false;
            }

            return cpu.Stop(ViolationKind.InvalidVmsa, context.VmsaGpa);
        }

        VmsaTransfer.Load(cpu, vmsa);
        cpu.InterruptedEvent = context.InterruptedEvent;
        context.InterruptedEvent = 0;
        if ((cpu.Features & SevFeatures.DebugSwap) != 0)
        {
            LoadDebugRegisters(cpu, &vmsa->Dr0);
        }

        LoadTscAux(cpu, vmsa->TscAux);
        cpu.SelectNestedTables(Memory.NestedTables);
        Intercepts.Select(cpu, alone: Cpus.Length == 1 || Threads.Enabled, _interceptsTimeStampCounter);
        Memory.Stale.Enter(cpu);
        cpu.IsRunning = true;
        cpu.IsHalted = false;
        return true;
    }

    /// <summary>From now on RDTSC and RDTSCP are #VC, which no host has a reason for.</summary>
    public void InterceptTimeStampCounter()
    {
        _interceptsTimeStampCounter = true;
        for (int i = 0; i < Cpus.Length; i++)
        {
            if (Cpus[i].IsRunning)
            {
                Intercepts.Select(Cpus[i], alone: Cpus.Length == 1 || Threads.Enabled, timeStampCounter: true);
                Memory.Stale.Enter(Cpus[i]);
            }
        }
    }

    /// <summary>What #VMEXIT does to a VMSA: stores the registers and takes it out of use.</summary>
    /// <param name="cpu">The vCPU.</param>
    /// <param name="exitCode">GUEST_EXITCODE.</param>
    public void Leave(VirtualCpu cpu, ulong exitCode)
    {
        VmplContext context = cpu.Current;
        Vmsa* vmsa = Locate(context);
        VmsaTransfer.Store(cpu, vmsa, exitCode);
        if ((cpu.Features & SevFeatures.DebugSwap) != 0)
        {
            Processor.ReadDebugRegisters(&vmsa->Dr0);
        }

        vmsa->TscAux = (uint)(cpu.IsLoaded ? Processor.TscAux : cpu.TscAux);
        if (context.VmsaPage != null)
        {
            context.VmsaPage->IsRunning = false;
        }

        cpu.IsRunning = false;
    }

    /// <summary>Leaves the VMPL that runs in favour of another one, to which an event whose delivery was interrupted does not belong.</summary>
    /// <param name="cpu">The vCPU.</param>
    /// <param name="vmpl">Which VMPL; <see cref="CanEnter"/> holds.</param>
    /// <param name="exitCode">GUEST_EXITCODE.</param>
    /// <returns>False when the run must stop, which has been asked for.</returns>
    public bool LeaveFor(VirtualCpu cpu, int vmpl, ulong exitCode)
    {
        VmplContext context = cpu.Current;
        ulong interrupted = cpu.Vmcb->EventInjection != 0 ? cpu.Vmcb->EventInjection : Interrupts.WithoutLookUp(cpu.InterruptedEvent);
        context.InterruptedEvent = interrupted;
        Leave(cpu, exitCode);
        Locate(context)->ExitIntInfo = interrupted;
        return Enter(cpu, vmpl);
    }

    /// <summary>Takes a vCPU off the processor until something starts it again.</summary>
    /// <param name="cpu">The vCPU.</param>
    /// <param name="exitCode">GUEST_EXITCODE. After <see cref="ExitCode.Halt"/> events wake it.</param>
    /// <param name="length">Length of the instruction that waits, if RIP is not behind it yet.</param>
    /// <returns>False when nothing ever will run again: the run must stop, which has been asked for.</returns>
    public bool Wait(VirtualCpu cpu, ulong exitCode, int length)
    {
        bool halts = exitCode == ExitCode.Halt;
        bool interruptible = halts && (cpu.State->Rflags & Amd64.FlagInterrupt) != 0;
        if (halts && Interrupts.HasEvent(cpu, interruptible))
        {
            return cpu.Skip(length);
        }

        if (CountOthers(cpu) == 0 && !Interrupts.WillWake(cpu, interruptible) && !WillAnyWake())
        {
            return cpu.Stop(ViolationKind.HaltForever, 0);
        }

        // The VMSA of a halted vCPU points behind its HLT, so that another start of this VMPL goes on there.
        cpu.Skip(length);
        Leave(cpu, exitCode);
        cpu.IsHalted = halts;
        cpu.HaltIsInterruptible = interruptible;
        return true;
    }

    /// <summary>Whether <see cref="Enter"/> would succeed.</summary>
    public bool CanEnter(VirtualCpu cpu, int vmpl)
    {
        VmplContext context = cpu.Contexts[vmpl];
        GuestPage* page = context.VmsaPage;
        Vmsa* vmsa = Locate(context);
        bool usable = page == null || (page->Assigned && page->Validated && page->IsVmsa && !page->IsRunning);
        return vmsa != null && usable && VmsaTransfer.IsValid(vmsa, vmpl);
    }

    /// <summary>Goes on with a halted vCPU.</summary>
    public void Resume(VirtualCpu cpu) => Resume(cpu, cpu.Vmpl);

    /// <summary>Runs a VMPL of a halted vCPU.</summary>
    public void Resume(VirtualCpu cpu, int vmpl)
    {
        _resumeFailed |= !Start(cpu, vmpl);
    }

    /// <summary>Enters a vCPU that waits, and tells its processor, if it has one.</summary>
    /// <param name="cpu">The vCPU.</param>
    /// <param name="vmpl">Which VMPL.</param>
    /// <returns>False when the run must stop, which has been asked for.</returns>
    public bool Start(VirtualCpu cpu, int vmpl)
    {
        bool entered = Enter(cpu, vmpl);
        if (Threads.Enabled)
        {
            Processor.Interrupt(cpu.Id);
        }

        return entered;
    }

    /// <summary>Chooses who runs next: the same vCPU until it waits, yields or its turn ends, then the others in turn.</summary>
    /// <param name="cpu">Who ran last.</param>
    /// <returns>Who runs; null when the run must stop, which has been asked for.</returns>
    public VirtualCpu? Schedule(VirtualCpu cpu)
    {
        if (cpu.HasTakenInterrupts)
        {
            cpu.HasTakenInterrupts = false;
            Interrupts.ExpireOverdue();
        }

        VirtualCpu next = cpu.IsRunning && (!cpu.Yields || Cpus.Length == 1) ? cpu : Next(cpu);
        cpu.Yields = false;
        while (!next.IsRunning && !_resumeFailed)
        {
            Interrupts.WaitForTimer();
            if (!Commands.WhileWaiting(cpu))
            {
                return null;
            }

            next = Next(cpu);
        }

        if (_resumeFailed)
        {
            return null;
        }

        if (Cpus.Length != 1)
        {
            LimitTurn(cpu, next);
        }

        if (!ReferenceEquals(next, _onProcessor))
        {
            if (_onProcessor is { } previous)
            {
                Unload(previous);
                next.Frame->LastExit = previous.Frame->LastExit;
            }

            Load(next);
            _onProcessor = next;
        }

        return next;
    }

    /// <summary>Waits until a vCPU that has its own processor can run. That processor holds the lock, and lets go of it meanwhile.</summary>
    /// <returns>False when the run must stop, which has been asked for.</returns>
    public bool AwaitStart(VirtualCpu cpu)
    {
        while (!cpu.IsRunning && !_resumeFailed)
        {
            if (cpu.IsLoaded)
            {
                Unload(cpu);
            }

            Interrupts.ArmTimer();
            Threads.Wait(cpu);
            if (!LookAtInterrupts(cpu))
            {
                return false;
            }
        }

        if (!cpu.IsLoaded)
        {
            Load(cpu);
        }

        return !_resumeFailed;
    }

    /// <summary>Looks for what has interrupted the processor of a vCPU while that halted.</summary>
    /// <returns>False when the run must stop, which has been asked for.</returns>
    public bool LookAtInterrupts(VirtualCpu cpu)
    {
        if (!cpu.HasTakenInterrupts)
        {
            return true;
        }

        cpu.HasTakenInterrupts = false;
        Interrupts.Expire();

        // The link interrupts the processor of the first vCPU.
        return cpu.Id != 0 || Commands.WhileWaiting(cpu);
    }

    /// <summary>The vCPU that asked for the end of the run.</summary>
    /// <param name="last">Who ran last.</param>
    public VirtualCpu FindStopped(VirtualCpu last)
    {
        for (int i = 0; i < Cpus.Length; i++)
        {
            if (Cpus[i].StopRequest.IsSet)
            {
                return Cpus[i];
            }
        }

        return last;
    }

    // The processor has the debug registers of the vCPU that runs; those of the others wait here.
    private void LoadDebugRegisters(VirtualCpu cpu, ulong* values)
    {
        for (int i = 0; i < DebugRegisterCount; i++)
        {
            _debugRegisters[(cpu.Id * DebugRegisterCount) + i] = values[i];
        }

        if (cpu.IsLoaded)
        {
            Processor.WriteDebugRegisters(values);
        }
    }

    // The processor has the TSC_AUX of the vCPU that runs, likewise.
    private void LoadTscAux(VirtualCpu cpu, uint value)
    {
        cpu.TscAux = value;
        if (cpu.IsLoaded)
        {
            Processor.TscAux = value;
        }
    }

    // A turn that is drawn begins with its vCPU. Of the others one ends each millisecond, whoever it was given to.
    private void LimitTurn(VirtualCpu before, VirtualCpu next)
    {
        bool isNew = !Interrupts.TurnIsLimited || (Interrupts.TurnsAreDrawn && !ReferenceEquals(next, before));
        if (isNew && CountOthers(next) != 0)
        {
            Interrupts.LimitTurn();
        }
    }

    private void Load(VirtualCpu cpu)
    {
        fixed (ulong* saved = _debugRegisters)
        {
            Processor.WriteDebugRegisters(saved + (cpu.Id * DebugRegisterCount));
        }

        Processor.TscAux = cpu.TscAux;
        cpu.IsLoaded = true;
    }

    private void Unload(VirtualCpu cpu)
    {
        fixed (ulong* saved = _debugRegisters)
        {
            Processor.ReadDebugRegisters(saved + (cpu.Id * DebugRegisterCount));
        }

        cpu.TscAux = Processor.TscAux;
        cpu.IsLoaded = false;
    }

    private bool WillAnyWake()
    {
        for (int i = 0; i < Cpus.Length; i++)
        {
            if (Cpus[i].IsHalted && Interrupts.WillWake(Cpus[i], Cpus[i].HaltIsInterruptible))
            {
                return true;
            }
        }

        return false;
    }

    // The one behind this vCPU, or as drawn; this one when no other can run.
    private VirtualCpu Next(VirtualCpu cpu)
    {
        int others = Interrupts.TurnsAreDrawn ? CountOthers(cpu) : 1;
        int skip = others == 0 ? 0 : Interrupts.ChooseNext(others);
        for (int i = 1; i < Cpus.Length; i++)
        {
            VirtualCpu candidate = Cpus[(cpu.Id + i) % Cpus.Length];
            if (candidate.IsRunning && skip-- == 0)
            {
                return candidate;
            }
        }

        return cpu;
    }

    private int CountOthers(VirtualCpu cpu)
    {
        int count = 0;
        for (int i = 0; i < Cpus.Length; i++)
        {
            count += i != cpu.Id && Cpus[i].IsRunning ? 1 : 0;
        }

        return count;
    }

    /// <summary>Whether VMRUN would take the VMSA of a VMPL at all: the guest marks one that must not run by clearing EFER.SVME.</summary>
    public bool IsRunnable(VmplContext context)
    {
        Vmsa* vmsa = Locate(context);
        return vmsa != null && (vmsa->Efer & Amd64.EferSvme) != 0;
    }

    /// <summary>The VMSA of a VMPL, or null. Not kept: its frame goes away when the page becomes shared.</summary>
    public Vmsa* Locate(VmplContext context)
    {
        if (context.VmsaPage == null)
        {
            return context.LaunchVmsa;
        }

        return context.VmsaPage->Assigned ? (Vmsa*)Memory.PrivateBytes(context.VmsaPage) : null;
    }

    /// <summary>Registers a VMSA page of guest memory for a vCPU and VMPL.</summary>
    /// <param name="context">The VMPL's context.</param>
    /// <param name="gpa">Page-aligned.</param>
    /// <returns>False when there is no RAM, or the page is not the guest's.</returns>
    public bool TrySetVmsa(VmplContext context, ulong gpa)
    {
        GuestPage* page = Memory.Find(gpa);
        if (page == null || !page->Assigned)
        {
            return false;
        }

        context.VmsaGpa = gpa;
        context.VmsaPage = page;
        context.LaunchVmsa = null;
        return true;
    }
}
