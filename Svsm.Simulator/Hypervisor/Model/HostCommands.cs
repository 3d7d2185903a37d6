// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// What the machine asks for while the guest runs: the state of memory, console input, attacks, the end, and the services of a debugger.
//
// A frame on the link interrupts the guest (COM1's receiver raises an NMI, which is intercepted), so a guest that never exits by itself can be
// asked, too. While the guest stands still its time does as well.
//
// Single steps are RFLAGS.TF with #DB intercepted; TF is out of the guest's sight whenever the hypervisor looks at or stores RFLAGS. An exception
// that the guest's own processor delivers meanwhile has TF in its frame, so a trap that nobody waits for is taken as left over from a step and
// swallowed. A breakpoint is an opcode that is undefined in 64-bit code and only one byte long; it shows to a guest that reads its code.

using System;
using System.Runtime.InteropServices;
using Svsm.Simulator.Shared;
using Svsm.Wire;

namespace Svsm.Hypervisor;

/// <summary>Commands of the machine.</summary>
internal sealed unsafe class HostCommands
{
    // SAFETY (whole type): guest bytes are reached through GuestMemory.Access only, and never beyond their page.

    private const int MaxBreakpoints = 32;
    private const byte BreakpointOpcode = 0x06;
    private const int NumberOfRip = 16;
    private const int NumberOfRflags = 17;
    private const uint Failed = 1;

    private readonly VirtualMachine _machine;
    private readonly ulong[] _breakpoints = new ulong[MaxBreakpoints];
    private readonly byte[] _original = new byte[MaxBreakpoints];
    private readonly bool[] _inserted = new bool[MaxBreakpoints];
    private readonly int[] _vmpls = new int[MaxBreakpoints];
    private int _breakpointCount;
    private bool _waitsForMapping;
    private bool _stopped;
    private bool _paused;
    private bool _held;
    private bool _pauseAsked;

    // Whether steps, breakpoints or a pause were ever asked for. If not, an exit costs one look at this.
    private bool _used;
    private VirtualCpu? _stepped;
    private uint _stepsLeft;
    private VirtualCpu? _armed;
    private bool _everStepped;
    private ulong _dr6;
    private ulong _rip;

    /// <summary>Makes the commands of a machine.</summary>
    public HostCommands(VirtualMachine machine)
    {
        _machine = machine;
    }

    /// <summary>What there is to do before a vCPU runs.</summary>
    /// <param name="cpu">The vCPU.</param>
    /// <returns>False when the run must stop, which has been asked for.</returns>
    public bool BeforeEntry(VirtualCpu cpu)
    {
        if (!_used)
        {
            return true;
        }

        if (_pauseAsked && !Pause(cpu, PauseReason.Asked))
        {
            return false;
        }

        if (_waitsForMapping)
        {
            InsertAll(cpu);
        }

        if (_everStepped)
        {
            cpu.Vmcb->InterceptExceptions |= 1u << Amd64.VectorDebug;
        }

        if (ReferenceEquals(cpu, _stepped) && (cpu.Vmcb->EventInjection >> 31 & 1) == 0 && cpu.Offered == 0)
        {
            _rip = cpu.State->Rip;
            _dr6 = cpu.State->Dr6;
            cpu.State->Rflags |= Amd64.FlagTrap;
            _armed = cpu;
        }

        return true;
    }

    /// <summary>Takes the exits that are the hypervisor's own.</summary>
    /// <param name="cpu">The vCPU.</param>
    /// <param name="resume">What the handler returns, if it was one of these.</param>
    /// <returns>Whether it was.</returns>
    public bool TryHandle(VirtualCpu cpu, out bool resume)
    {
        resume = true;
        if (!_used && cpu.Vmcb->ExitCode != ExitCode.NonMaskableInterrupt)
        {
            return false;
        }

        bool armed = ReferenceEquals(cpu, _armed);
        if (armed)
        {
            cpu.State->Rflags &= ~Amd64.FlagTrap;
        }

        switch (cpu.Vmcb->ExitCode)
        {
            case ExitCode.NonMaskableInterrupt:
                _machine.Processor.TakeNonMaskableInterrupt();
                _armed = armed ? null : _armed;

                // An attack that has just been asked for may be one on the next exit: this one.
                resume = Attend(cpu) && (!_machine.Attacks.Any || _machine.Attacks.AfterExit(cpu, cpu.Vmpl, ExitCode.NonMaskableInterrupt));
                return true;
            case ExitCode.Debug:
                cpu.State->Rflags &= ~Amd64.FlagTrap;
                cpu.State->Dr6 = _dr6;
                resume = !armed || Stepped(cpu);
                return true;
            case ExitCode.InvalidOpcode when Find(cpu.State->Rip) >= 0 && cpu.IsLongCode:
                EndSteps();
                resume = Pause(cpu, PauseReason.Breakpoint);
                return true;
            default:
                return false;
        }
    }

    /// <summary>After the handler of another exit: an instruction that was emulated is a step, too.</summary>
    /// <returns>False when the run must stop, which has been asked for.</returns>
    public bool AfterExit(VirtualCpu cpu)
    {
        if (!_used || !ReferenceEquals(cpu, _armed))
        {
            return true;
        }

        bool moved = cpu.State->Rip != _rip || (cpu.Vmcb->EventInjection >> 31 & 1) != 0;
        _armed = null;
        return !moved || Stepped(cpu);
    }

    /// <summary>Has a vCPU make steps. After them the attack that waits for them acts, or the guest stands still.</summary>
    public void Step(VirtualCpu cpu, uint count)
    {
        _used = true;
        _stepped = cpu;
        _stepsLeft = count;
        _everStepped = true;
    }

    /// <summary>Has the guest stand still before its next instruction.</summary>
    public void AskForPause()
    {
        _used = true;
        _pauseAsked = true;
    }

    /// <summary>What there is to do while no vCPU runs.</summary>
    /// <returns>False when the run must stop, which has been asked for.</returns>
    public bool WhileWaiting(VirtualCpu cpu) => Attend(cpu) && (!_pauseAsked || Pause(cpu, PauseReason.Asked));

    /// <summary>Carries out the commands that have arrived.</summary>
    /// <returns>False when the run must stop, which has been asked for.</returns>
    public bool Attend(VirtualCpu cpu)
    {
        while (_machine.Link.CanReceive)
        {
            ReceiveAndExecute(cpu);
            AwaitRelease(cpu);
        }

        return AwaitRelease(cpu);
    }

    /// <summary>Carries out commands as long as the guest is to stand still.</summary>
    /// <returns>False when the run must stop, which has been asked for.</returns>
    public bool AwaitRelease(VirtualCpu cpu)
    {
        ulong start = _held ? _machine.Processor.ReadTimeStampCounter() : 0;
        bool held = _held;
        while (_held && !_stopped)
        {
            ReceiveAndExecute(cpu);
        }

        if (held)
        {
            _machine.HoldTimeSince(start);
        }

        return !_stopped || cpu.Stop(StopReason.Stopped, 0);
    }

    /// <summary>Carries out a command.</summary>
    /// <param name="cpu">The vCPU that runs.</param>
    /// <param name="payload">The frame's payload.</param>
    public void Execute(VirtualCpu cpu, Span<byte> payload)
    {
        if (payload.Length < sizeof(CommandHeader))
        {
            return;
        }

        CommandHeader header = MemoryMarshal.Read<CommandHeader>(payload);
        Span<byte> data = payload[sizeof(CommandHeader)..];
        VirtualCpu target = header.Vcpu < (uint)_machine.Cpus.Length ? _machine.Cpus[(int)header.Vcpu] : cpu;
        switch (header.Kind)
        {
            case CommandKind.QueryRmp:
                _machine.Events.SendMap();
                break;
            case CommandKind.Stop:
                _stopped = true;
                _paused = false;
                return;
            case CommandKind.ConsoleInput:
                Answer(header.Kind, _machine.Ports.TryType(data), default);
                return;
            case CommandKind.Attack:
                Answer(header.Kind, data.Length == sizeof(LaunchAttack) && _machine.Attacks.TryAdd(MemoryMarshal.Read<LaunchAttack>(data)), default);
                return;
            case CommandKind.Pause:
                AskForPause();
                break;
            case CommandKind.Resume:
                _paused = false;
                break;
            case CommandKind.Step:
                Step(target, 1);
                _paused = false;
                break;
            case CommandKind.ReadRegisters:
                StopReport report = StopReporter.Build(_machine, target);
                Answer(header.Kind, true, new ReadOnlySpan<byte>(&report, sizeof(StopReport)));
                return;
            case CommandKind.WriteRegister:
                Answer(header.Kind, TryWriteRegister(target, header.Address, header.Value), default);
                return;
            case CommandKind.ReadMemory:
                ReadMemory(header, target.IsRunning ? target.State : null, target.Vmpl);
                return;
            case CommandKind.ReadMemoryOfVmpl0:
                ReadMemory(header, StateOfVmpl0(target), 0);
                return;
            case CommandKind.WriteMemory:
                Answer(header.Kind, TryWriteMemory(target, header.Address, data), default);
                return;
            case CommandKind.ReadShared:
            case CommandKind.WriteShared:
                Answer(header.Kind, HostDevice.TryCopyShared(_machine, header.Value, header.Kind == CommandKind.WriteShared), default);
                return;
            case CommandKind.Hold:
                // Who runs on a processor of his own would change what is being looked at. He cannot come back before the lock is free.
                _machine.Threads.RecallAll();
                _held = true;
                break;
            case CommandKind.Release:
                _held = false;
                break;
            case >= CommandKind.SaveModel and <= CommandKind.TakeModel:
                PassState(in header);
                return;
            case CommandKind.NotifySvsm:
                Answer(header.Kind, _machine.IsNotified && _machine.Interrupts.TryNotify(_machine.Cpus[0]), default);
                return;
            case CommandKind.Breakpoint:
                Answer(header.Kind, header.Value == 0 ? TryRemove(target, header.Address) : TryInsert(target, header.Address), default);
                return;
            default:
                Answer(header.Kind, false, default);
                return;
        }

        Answer(header.Kind, true, default);
    }

    // What the hypervisor knows of the guest, by way of the window (HostState.cs).
    private void PassState(in CommandHeader header)
    {
        var told = new HostStateAnswer { Refusal = HostStateRefusal.Damaged };
        bool isSave = header.Kind is CommandKind.SaveModel or CommandKind.SavePages;
        ulong room = isSave ? Link.WindowLength : header.Value;
        if (_machine.Window != null && room <= Link.WindowLength)
        {
            // SAFETY: the window is as long as was checked.
            var window = new Span<byte>(_machine.Window, (int)room);
            int length = 0;
            switch (header.Kind)
            {
                case CommandKind.SavePages:
                    told.Next = HostState.SavePages(_machine, header.Address, window, out length);
                    told.Refusal = HostStateRefusal.None;
                    break;
                case CommandKind.CheckPages or CommandKind.TakePages:
                    told.Refusal = HostState.PassPages(_machine, window, take: header.Kind == CommandKind.TakePages);
                    break;
                default:
                    StateMode mode = isSave ? StateMode.Save : header.Kind == CommandKind.CheckModel ? StateMode.Check : StateMode.Take;
                    told.Refusal = HostState.Pass(_machine, window, mode, out length);
                    break;
            }

            told.Length = (uint)length;
        }

        Answer(header.Kind, told.Refusal == HostStateRefusal.None, MemoryMarshal.AsBytes(new ReadOnlySpan<HostStateAnswer>(in told)));
    }

    /// <summary>Serves the machine until it lets the run end, or asks for the end.</summary>
    public void HoldAtEnd(VirtualCpu cpu)
    {
        Tell(cpu, PauseReason.Ending);
        while (_paused)
        {
            ReceiveAndExecute(cpu);
        }
    }

    private void ReceiveAndExecute(VirtualCpu cpu)
    {
        Span<byte> payload = stackalloc byte[Link.MaxPayload];
        int length = _machine.Link.Receive(payload, out LinkFrame type);
        if (type == LinkFrame.Command)
        {
            Execute(cpu, payload[..length]);
        }
    }

    private bool Pause(VirtualCpu cpu, PauseReason reason)
    {
        ulong start = _machine.Processor.ReadTimeStampCounter();
        _pauseAsked = false;
        Tell(cpu, reason);
        while (_paused)
        {
            ReceiveAndExecute(cpu);
        }

        _machine.HoldTimeSince(start);
        return AwaitRelease(cpu);
    }

    private void Tell(VirtualCpu cpu, PauseReason reason)
    {
        uint* told = stackalloc uint[2] { (uint)cpu.Id, (uint)reason };
        _paused = true;
        _machine.Link.FlushConsole();
        _machine.Link.Send(LinkFrame.Paused, new ReadOnlySpan<byte>(told, 2 * sizeof(uint)));
    }

    private bool Stepped(VirtualCpu cpu)
    {
        _armed = null;
        if (--_stepsLeft != 0)
        {
            return true;
        }

        _stepped = null;
        return _machine.Attacks.IsWaiting ? _machine.Attacks.AfterSteps(cpu) : Pause(cpu, PauseReason.Stepped);
    }

    private void EndSteps()
    {
        _stepped = null;
        _armed = null;
    }

    private void Answer(CommandKind kind, bool done, ReadOnlySpan<byte> data)
    {
        Span<byte> payload = stackalloc byte[Link.MaxPayload];
        uint kindValue = (uint)kind;
        uint status = done ? 0 : Failed;
        MemoryMarshal.Write(payload, in kindValue);
        MemoryMarshal.Write(payload[sizeof(uint)..], in status);
        data.CopyTo(payload[(2 * sizeof(uint))..]);
        _machine.Link.FlushConsole();
        _machine.Link.Send(LinkFrame.CommandDone, payload[..((2 * sizeof(uint)) + data.Length)]);
    }

    private static bool TryWriteRegister(VirtualCpu cpu, ulong number, ulong value)
    {
        if (!cpu.IsRunning || number > NumberOfRflags)
        {
            return false;
        }

        if (number == NumberOfRip)
        {
            cpu.State->Rip = value;
        }
        else if (number == NumberOfRflags)
        {
            cpu.State->Rflags = value | Amd64.FlagReserved;
        }
        else
        {
            cpu.Registers[number] = value;
        }

        return true;
    }

    private void ReadMemory(in CommandHeader header, Vmsa* state, int vmpl)
    {
        Span<byte> data = stackalloc byte[(int)Amd64.PageSize];
        int count = 0;
        while ((ulong)count < header.Value && count < data.Length)
        {
            byte* bytes = Reach(state, vmpl, header.Address + (ulong)count);
            if (bytes == null)
            {
                break;
            }

            // What a breakpoint covers is told, not the breakpoint.
            int breakpoint = Find(header.Address + (ulong)count);
            data[count++] = breakpoint >= 0 && _inserted[breakpoint] ? _original[breakpoint] : *bytes;
        }

        Answer(header.Kind, count != 0 || header.Value == 0, data[..count]);
    }

    // The registers that run, or those in the VMSA.
    private Vmsa* StateOfVmpl0(VirtualCpu cpu)
    {
        VmplContext context = cpu.Contexts[0];
        return cpu.IsRunning && cpu.Vmpl == 0 ? cpu.State
            : context.LaunchVmsa != null ? context.LaunchVmsa
            : context.VmsaPage != null ? (Vmsa*)_machine.Memory.PrivateBytes(context.VmsaPage)
            : null;
    }

    private bool TryWriteMemory(VirtualCpu cpu, ulong address, ReadOnlySpan<byte> data)
    {
        for (int i = 0; i < data.Length; i++)
        {
            byte* bytes = Reach(cpu, address + (ulong)i);
            if (bytes == null)
            {
                return false;
            }

            *bytes = data[i];
        }

        return true;
    }

    // At an address that is not mapped yet it waits: the first fetch from a page exits, so none is missed.
    private bool TryInsert(VirtualCpu cpu, ulong address)
    {
        if (Find(address) >= 0)
        {
            return true;
        }

        if (_breakpointCount == MaxBreakpoints)
        {
            return false;
        }

        _used = true;
        _breakpoints[_breakpointCount] = address;
        _vmpls[_breakpointCount] = cpu.Vmpl;
        _inserted[_breakpointCount++] = false;
        InsertAll(cpu);
        return true;
    }

    private void InsertAll(VirtualCpu cpu)
    {
        _waitsForMapping = false;
        for (int i = 0; i < _breakpointCount; i++)
        {
            byte* bytes = _inserted[i] || _vmpls[i] != cpu.Vmpl ? null : Reach(cpu, _breakpoints[i]);
            if (bytes != null)
            {
                _original[i] = *bytes;
                *bytes = BreakpointOpcode;
                _inserted[i] = true;
            }

            _waitsForMapping |= !_inserted[i];
        }
    }

    private bool TryRemove(VirtualCpu cpu, ulong address)
    {
        int index = Find(address);
        byte* bytes = index < 0 || !_inserted[index] ? null : Reach(cpu, address);
        if (index < 0 || (_inserted[index] && bytes == null))
        {
            return false;
        }

        if (bytes != null)
        {
            *bytes = _original[index];
        }

        int last = --_breakpointCount;
        _breakpoints[index] = _breakpoints[last];
        _original[index] = _original[last];
        _inserted[index] = _inserted[last];
        _vmpls[index] = _vmpls[last];
        return true;
    }

    private int Find(ulong address)
    {
        for (int i = 0; i < _breakpointCount; i++)
        {
            if (_breakpoints[i] == address)
            {
                return i;
            }
        }

        return -1;
    }

    private byte* Reach(VirtualCpu cpu, ulong linear) => Reach(cpu.IsRunning ? cpu.State : null, cpu.Vmpl, linear);

    // A byte of the guest as a VMPL sees it, user pages included.
    private byte* Reach(Vmsa* state, int vmpl, ulong linear)
    {
        if (state == null)
        {
            return null;
        }

        WalkResult walk = GuestPageWalk.Translate(_machine.Memory, state, vmpl, linear, AccessKind.Read, user: false);
        if (walk.Status != WalkStatus.Done)
        {
            walk = GuestPageWalk.Translate(_machine.Memory, state, vmpl, linear, AccessKind.Read, user: true);
        }

        byte* bytes = null;
        if (walk.Status == WalkStatus.Done)
        {
            _machine.Memory.Access(walk.Gpa, vmpl, walk.IsPrivate, AccessKind.Read, user: false, out bytes);
        }

        return bytes;
    }
}
