// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The hostile host: carries out what Shared/LaunchAttack.cs describes. It does what the owner of a real machine can do (take pages away and put
// others there, answer what it likes, inject events, run what it was not asked to run) with the consequences that SNP hardware attaches to it:
// every RMPUPDATE leaves a page not validated and without rights for VMPL1 to 3, so the guest's next access is #VC 0x404.

using System;
using System.Runtime.InteropServices;
using Svsm.Simulator.Shared;
using Svsm.Wire;

namespace Svsm.Hypervisor;

/// <summary>The attacks of a run.</summary>
internal sealed unsafe class Attacks
{
    // SAFETY (whole type): pages come from GuestMemory.Find and are checked for null; frames are whole pages of the pool.

    private const int Max = (int)LaunchHeader.MaxAttackCount;
    private const int SwExitCode = 0x390;
    private const int SwExitInfo1 = 0x398;
    private const int SwExitInfo2 = 0x3A0;
    private const int None = -1;

    private readonly VirtualMachine _machine;
    private readonly LaunchAttack[] _attacks = new LaunchAttack[Max];
    private readonly ulong[] _seen = new ulong[Max];
    private readonly ulong[] _kept = new ulong[Max];
    private int _count;
    private int _waiting = None;
    private LaunchAttack _pendingInjection;
    private int _pendingIndex = None;

    /// <summary>Makes the attacks of a machine: none.</summary>
    public Attacks(VirtualMachine machine)
    {
        _machine = machine;
    }

    /// <summary>Whether there are any.</summary>
    public bool Any => _count != 0;

    /// <summary>Whether one waits for steps to be made.</summary>
    public bool IsWaiting => _waiting != None;

    /// <summary>Adds one. Its events are counted from now on.</summary>
    /// <returns>False when it is malformed or one too many.</returns>
    public bool TryAdd(LaunchAttack attack)
    {
        if (_count == Max || attack.Action is < AttackAction.Remap or > AttackAction.PowerOff || attack.Trigger > AttackTrigger.Validated
            || attack.Repeat == 0 || attack.First == 0
            || (attack.Action is AttackAction.Answer && attack.Gpa > Amd64.PageSize - sizeof(ulong))
            || (attack.Action is AttackAction.Answer or AttackAction.Ignore && attack.Trigger is not (AttackTrigger.GhcbPage or AttackTrigger.GhcbMsr)))
        {
            return false;
        }

        _attacks[_count++] = attack;
        return true;
    }

    /// <summary>After an exit was handled.</summary>
    /// <param name="cpu">Who exited.</param>
    /// <param name="vmpl">Which VMPL exited.</param>
    /// <param name="code">Its exit code.</param>
    /// <returns>False when the run must stop, which has been asked for.</returns>
    public bool AfterExit(VirtualCpu cpu, int vmpl, ulong code)
    {
        if (_pendingIndex != None && cpu.IsRunning && TryInject(cpu, in _pendingInjection, out AttackOutcome outcome))
        {
            Tell(_pendingIndex, outcome);
            _pendingIndex = None;
        }

        bool resume = true;
        for (int i = 0; i < _count && resume; i++)
        {
            if (IsDue(i, AttackTrigger.Exit, vmpl, code))
            {
                if (_attacks[i].Instructions != 0 && _waiting == None && cpu.IsRunning)
                {
                    _waiting = i;
                    _machine.Commands.Step(cpu, _attacks[i].Instructions);
                }
                else
                {
                    resume = Act(i, cpu, 0);
                }
            }
        }

        return resume;
    }

    /// <summary>After the steps that an attack waited for.</summary>
    /// <returns>False when the run must stop, which has been asked for.</returns>
    public bool AfterSteps(VirtualCpu cpu)
    {
        int due = _waiting;
        _waiting = None;
        return Act(due, cpu, 0);
    }

    /// <summary>After PVALIDATE changed a page to validated.</summary>
    public void AfterValidate(VirtualCpu cpu, ulong gpa)
    {
        for (int i = 0; i < _count; i++)
        {
            if (IsDue(i, AttackTrigger.Validated, cpu.Vmpl, 0))
            {
                Act(i, cpu, gpa);
            }
        }
    }

    /// <summary>Handles a VMGEXIT as a hostile host does.</summary>
    /// <returns>False when the run must stop, which has been asked for.</returns>
    public bool VmgExit(VirtualCpu cpu)
    {
        VmplContext caller = cpu.Current;
        int vmpl = cpu.Vmpl;
        ulong request = caller.GhcbMsr;
        bool byPage = (request & GhcbMsr.CodeMask) == 0;
        byte* page = byPage ? PageOf(request) : null;
        AttackTrigger trigger = byPage ? AttackTrigger.GhcbPage : AttackTrigger.GhcbMsr;
        ulong code = !byPage ? request & GhcbMsr.CodeMask : page == null ? 0 : *(ulong*)(page + SwExitCode);
        ulong due = 0;
        bool ignore = false;
        for (int i = 0; i < _count; i++)
        {
            if (IsDue(i, trigger, vmpl, code))
            {
                due |= 1ul << i;
                ignore |= _attacks[i].Action == AttackAction.Ignore;
            }
        }

        bool resume = ignore || Hypervisor.VmgExit.Handle(_machine, cpu);
        for (int i = 0; i < _count && resume; i++)
        {
            if ((due >> i & 1) == 0)
            {
                continue;
            }

            switch (_attacks[i].Action)
            {
                case AttackAction.Ignore:
                    Tell(i, AttackOutcome.Done);
                    break;
                case AttackAction.Answer:
                    Tell(i, Change(in _attacks[i], caller, byPage ? PageOf(request) : null, byPage));
                    break;
                default:
                    resume = Act(i, cpu, 0);
                    break;
            }
        }

        return resume;
    }

    private static AttackOutcome Change(in LaunchAttack attack, VmplContext caller, byte* page, bool byPage)
    {
        if (!byPage)
        {
            caller.GhcbMsr = attack.Combine != 0 ? caller.GhcbMsr ^ attack.Value : attack.Value;
            return AttackOutcome.Done;
        }

        if (page == null)
        {
            return AttackOutcome.NoTarget;
        }

        // SAFETY: TryAdd checked that eight bytes from the offset on lie in the page.
        ulong* field = (ulong*)(page + attack.Gpa);
        *field = attack.Combine != 0 ? *field ^ attack.Value : attack.Value;
        return AttackOutcome.Done;
    }

    private byte* PageOf(ulong gpa)
    {
        GuestPage* page = _machine.Memory.Find(gpa);
        return page == null || page->Assigned ? null : _machine.Memory.SharedBytes(page);
    }

    private bool IsDue(int index, AttackTrigger trigger, int vmpl, ulong code)
    {
        ref LaunchAttack attack = ref _attacks[index];
        if (attack.Trigger != trigger || (attack.Vmpl != LaunchAttack.AnyVmpl && attack.Vmpl != (uint)vmpl)
            || (attack.Code != LaunchAttack.AnyCode && attack.Code != code))
        {
            return false;
        }

        ulong number = ++_seen[index];
        bool later = attack.Action == AttackAction.Replay && number == attack.First + attack.Value;
        return later || (number >= attack.First && number - attack.First < attack.Repeat);
    }

    private bool Act(int index, VirtualCpu cpu, ulong eventGpa)
    {
        ref LaunchAttack attack = ref _attacks[index];
        AttackOutcome outcome = AttackOutcome.NoTarget;
        bool resume = true;
        switch (attack.Action)
        {
            case AttackAction.Remap:
                if (Target(attack.Gpa, out ulong remapped) is var target && target != null)
                {
                    byte* frame = _machine.Memory.PrivateBytes(target);
                    target->PrivateFrame = null;
                    Update(target, remapped);
                    _machine.Pool.Free(frame);
                    outcome = AttackOutcome.Done;
                }

                break;
            case AttackAction.Flip:
                if (Target(attack.Gpa != 0 ? attack.Gpa : eventGpa, out ulong flipped) is var page && page != null)
                {
                    Update(page, flipped);
                    outcome = AttackOutcome.Done;
                }

                break;
            case AttackAction.Replay:
                outcome = Replay(index, attack.Gpa);
                break;
            case AttackAction.Swap:
                outcome = Swap(attack.Gpa, attack.Value);
                break;
            case AttackAction.Inject:
                if (!TryInject(cpu, in attack, out outcome))
                {
                    // Something else is being injected; the next entry is as good.
                    _pendingInjection = attack;
                    _pendingIndex = index;
                    return true;
                }

                break;
            case AttackAction.Ring:
                outcome = Ring(cpu, (uint)attack.Value);
                break;
            case AttackAction.Withhold:
                _machine.Interrupts.Withholds = true;
                outcome = AttackOutcome.Done;
                break;
            case AttackAction.RunVmpl:
                if (cpu.IsRunning)
                {
                    resume = Hypervisor.VmgExit.SwitchVmpl(_machine, cpu, attack.Value, out bool refused);
                    outcome = refused ? AttackOutcome.RefusedByProcessor : AttackOutcome.Done;
                }

                break;
            case AttackAction.PowerOff:
                Tell(index, AttackOutcome.Done);
                return cpu.Stop(StopReason.PowerOff, 0);
            case AttackAction.InterceptTimeStampCounter:
                _machine.InterceptTimeStampCounter();
                outcome = AttackOutcome.Done;
                break;
            default:
                // The VMSA is in use, by the vCPU that exited: VMRUN on another fails.
                outcome = attack.Value < (ulong)_machine.Cpus.Length && attack.Value != (ulong)cpu.Id && cpu.IsRunning
                    ? AttackOutcome.RefusedByProcessor
                    : AttackOutcome.NoTarget;
                break;
        }

        Tell(index, outcome);
        return resume;
    }

    // A private page that RMPUPDATE takes: not one of a VMSA that runs.
    private GuestPage* Target(ulong address, out ulong gpa)
    {
        gpa = Amd64.PageOf(address);
        GuestPage* page = _machine.Memory.Find(gpa);
        return page == null || !page->Assigned || page->IsRunning ? null : page;
    }

    // RMPUPDATE to shared and back, or to another frame. The frame's contents are the host's business.
    private void Update(GuestPage* page, ulong gpa)
    {
        _machine.Memory.Split(gpa);
        _machine.Memory.Unmap(page, gpa);
        page->Assign(large: false);
    }

    private AttackOutcome Swap(ulong first, ulong second)
    {
        GuestPage* one = Target(first, out ulong gpaOfOne);
        GuestPage* other = Target(second, out ulong gpaOfOther);
        if (one == null || other == null || one == other)
        {
            return AttackOutcome.NoTarget;
        }

        byte* frame = _machine.Memory.PrivateBytes(one);
        one->PrivateFrame = _machine.Memory.PrivateBytes(other);
        other->PrivateFrame = frame;
        Update(one, gpaOfOne);
        Update(other, gpaOfOther);
        return AttackOutcome.Done;
    }

    private AttackOutcome Replay(int index, ulong address)
    {
        GuestPage* page = Target(address, out ulong gpa);
        if (page == null)
        {
            return AttackOutcome.NoTarget;
        }

        if (_kept[index] == 0)
        {
            _kept[index] = (ulong)_machine.Pool.Allocate();
            new ReadOnlySpan<byte>(_machine.Memory.PrivateBytes(page), (int)Amd64.PageSize).CopyTo(new Span<byte>((byte*)_kept[index], (int)Amd64.PageSize));
            return AttackOutcome.Done;
        }

        new ReadOnlySpan<byte>((byte*)_kept[index], (int)Amd64.PageSize).CopyTo(new Span<byte>(_machine.Memory.PrivateBytes(page), (int)Amd64.PageSize));
        Update(page, gpa);
        return AttackOutcome.Done;
    }

    // False: an event is injected already.
    private bool TryInject(VirtualCpu cpu, in LaunchAttack attack, out AttackOutcome outcome)
    {
        const ulong Valid = 1ul << 31;
        const ulong ErrorValid = 1ul << 11;
        const ulong TypeMask = 7ul << 8;
        const ulong TypeException = 3ul << 8;
        outcome = AttackOutcome.NoTarget;
        if (!cpu.IsRunning)
        {
            return true;
        }

        if ((cpu.Vmcb->EventInjection & Valid) != 0)
        {
            return false;
        }

        ulong vector = attack.Value & 0xFF;
        bool exception = (attack.Value & TypeMask) == TypeException;
        outcome = AttackOutcome.RefusedByProcessor;
        if ((cpu.Features & SevFeatures.RestrictedInjection) != 0 && !(exception && vector == Amd64.VectorHypervisor))
        {
            // VMRUN ends with VMEXIT_INVALID, and the host has to take it back.
            return true;
        }

        outcome = AttackOutcome.Done;
        if (exception && vector == Amd64.VectorVmmCommunication)
        {
            // The emulator injects it without its error code.
            VcDelivery.Deliver(_machine.Memory, cpu, (attack.Value & ErrorValid) != 0 ? attack.Value >> 32 : 0);
            return true;
        }

        cpu.Vmcb->EventInjection = attack.Value | Valid;
        return true;
    }

    private AttackOutcome Ring(VirtualCpu cpu, uint events)
    {
        HvDoorbellPage* page = cpu.IsRunning ? Doorbell.Find(_machine.Memory, cpu.Current) : null;
        if (page == null)
        {
            return AttackOutcome.NoTarget;
        }

        page->Events = events;
        if (cpu.Vmcb->EventInjection == 0)
        {
            cpu.Raise(Amd64.VectorHypervisor);
        }

        return AttackOutcome.Done;
    }

    private void Tell(int index, AttackOutcome outcome)
    {
        ulong* told = stackalloc ulong[2] { (uint)index | ((ulong)outcome << 32), _seen[index] };
        _machine.Link.FlushConsole();
        _machine.Link.Send(LinkFrame.Attack, new ReadOnlySpan<byte>(told, 2 * sizeof(ulong)));
    }
}
