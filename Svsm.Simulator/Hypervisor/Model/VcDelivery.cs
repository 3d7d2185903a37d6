// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Delivers #VC to the guest, by hand: the emulator injects vector 29 without its error code.
//
// Long mode: 64-bit gates, stack switches. Protected mode without long mode: 32-bit gates to a handler of the same privilege, which a firmware
// needs on its way to long mode. In real mode there is no handler: early code avoids what raises #VC.
// On hardware, a fault while #VC is delivered becomes a double fault and most likely a shutdown; here it stops the run and says so.
// Source: AMD64 Architecture Programmer's Manual, volume 2, sections 8.7 (protected-mode interrupt control transfers) and 8.9 (long mode).

using Svsm.Simulator.Shared;
using Svsm.Wire;

namespace Svsm.Hypervisor;

/// <summary>Delivery of #VC.</summary>
internal static unsafe class VcDelivery
{
    // SAFETY (whole type): guest bytes are reached through RememberedWalk.Reach only, and never beyond their page.

    private const int GateLength = 16;
    private const int GateInterrupt = 0xE;
    private const int GateTrap = 0xF;
    private const int DescriptorLength = 8;
    private const int FrameCount = 6;
    private const ulong StackPointersOffset = 4;
    private const ulong InterruptStacksOffset = 0x24;

    /// <summary>Delivers #VC at the current instruction.</summary>
    /// <param name="memory">The guest's memory.</param>
    /// <param name="cpu">The vCPU.</param>
    /// <param name="errorCode">Error code: the exit code of the event.</param>
    /// <returns>False when the run must stop, which has been asked for.</returns>
    public static bool Deliver(GuestMemory memory, VirtualCpu cpu, ulong errorCode)
    {
        Vmsa* state = cpu.State;
        cpu.Current.Statistics->VcExceptions++;
        if ((state->Efer & Amd64.EferLongModeActive) == 0)
        {
            return DeliverProtected(memory, cpu, errorCode);
        }

        ulong* gate = stackalloc ulong[GateLength / sizeof(ulong)];
        ulong gateOffset = Amd64.VectorVmmCommunication * GateLength;
        if (gateOffset + GateLength - 1 > state->Idtr.Limit
            || !TryRead(memory, cpu, WalkUse.Gate, state->Idtr.Base + gateOffset, gate, GateLength))
        {
            return Fail(cpu, state->Idtr.Base + gateOffset);
        }

        ulong low = gate[0];
        ulong high = gate[1];

        // Gate: 15:0 offset, 31:16 selector, 34:32 IST, 43:40 type, 44 zero, 46:45 DPL, 47 present, 63:48 and 95:64 offset.
        var type = (int)((low >> 40) & 0xF);
        bool present = ((low >> 47) & 1) != 0;
        var selector = (ushort)(low >> 16);
        ulong handler = (low & 0xFFFF) | ((low >> 32) & 0xFFFF_0000) | (high << 32);
        if (!present || (type != GateInterrupt && type != GateTrap) || ((low >> 44) & 1) != 0 || !Amd64.IsCanonical(handler)
            || !TryReadCodeSegment(memory, cpu, selector, out ulong descriptor))
        {
            return Fail(cpu, handler);
        }

        var attributes = (ushort)(((descriptor >> 40) & 0xFF) | ((descriptor >> 44) & 0xF00));
        bool conforming = (attributes & SegmentAttributes.Conforming) != 0;
        int dpl = (attributes >> SegmentAttributes.DplShift) & 3;
        int oldCpl = state->Cpl;
        int newCpl = conforming ? oldCpl : dpl;
        if ((attributes & SegmentAttributes.Long) == 0 || (attributes & SegmentAttributes.Default32) != 0 || dpl > oldCpl)
        {
            return Fail(cpu, handler);
        }

        ulong oldStack = cpu.Registers[VirtualCpu.Rsp];
        ulong stack = oldStack;
        var interruptStack = (int)((low >> 32) & 7);
        if (interruptStack != 0 || newCpl != oldCpl)
        {
            ulong offset = interruptStack != 0
                ? InterruptStacksOffset + (ulong)((interruptStack - 1) * sizeof(ulong))
                : StackPointersOffset + (ulong)(newCpl * sizeof(ulong));
            if (offset + sizeof(ulong) - 1 > state->Tr.Limit || !TryRead(memory, cpu, WalkUse.TaskState, state->Tr.Base + offset, &stack, sizeof(ulong)))
            {
                return Fail(cpu, state->Tr.Base + offset);
            }
        }

        stack &= ~0xFul;
        ulong* frame = stackalloc ulong[FrameCount] { state->Ss.Selector, oldStack, state->Rflags | Amd64.FlagResume, state->Cs.Selector, state->Rip, errorCode };
        if (!TryPush(memory, cpu, ref stack, frame, user: newCpl == 3))
        {
            return Fail(cpu, stack);
        }

        state->Cs = new SegmentRegister { Selector = (ushort)((selector & ~3) | newCpl), Attributes = attributes, Limit = uint.MaxValue };
        if (newCpl != oldCpl)
        {
            // The null selector with the new CPL, as every change of privilege in long mode leaves it.
            state->Ss = new SegmentRegister
            {
                Selector = (ushort)newCpl,
                Attributes = (ushort)(SegmentAttributes.FlatData | (newCpl << SegmentAttributes.DplShift)),
                Limit = uint.MaxValue,
            };
        }

        state->Cpl = (byte)newCpl;
        state->Rip = handler;
        cpu.Registers[VirtualCpu.Rsp] = stack;
        state->Rflags &= ~(Amd64.FlagTrap | Amd64.FlagNestedTask | Amd64.FlagResume | Amd64.FlagVirtual8086
            | (type == GateInterrupt ? Amd64.FlagInterrupt : 0));
        cpu.Vmcb->InterruptShadow = 0;
        return true;
    }

    private static bool DeliverProtected(GuestMemory memory, VirtualCpu cpu, ulong errorCode)
    {
        const ulong GateOffset = Amd64.VectorVmmCommunication * DescriptorLength;
        const int Count = 4;
        Vmsa* state = cpu.State;
        ulong gateAddress = (uint)(state->Idtr.Base + GateOffset);
        ulong gate;
        if ((state->Cr0 & Amd64.Cr0ProtectedMode) == 0 || (state->Rflags & Amd64.FlagVirtual8086) != 0
            || GateOffset + DescriptorLength - 1 > state->Idtr.Limit
            || !TryRead(memory, cpu, WalkUse.Gate, gateAddress, &gate, DescriptorLength))
        {
            return Fail(cpu, gateAddress);
        }

        // Gate: 15:0 offset, 31:16 selector, 43:40 type, 44 zero, 46:45 DPL, 47 present, 63:48 offset.
        var type = (int)((gate >> 40) & 0x1F);
        var selector = (ushort)(gate >> 16);
        var handler = (uint)((gate & 0xFFFF) | ((gate >> 32) & 0xFFFF_0000));
        if ((gate & (1ul << 47)) == 0 || (type != GateInterrupt && type != GateTrap) || !TryReadCodeSegment(memory, cpu, selector, out ulong descriptor))
        {
            return Fail(cpu, handler);
        }

        var attributes = (ushort)(((descriptor >> 40) & 0xFF) | ((descriptor >> 44) & 0xF00));
        int dpl = (attributes >> SegmentAttributes.DplShift) & 3;
        bool conforming = (attributes & SegmentAttributes.Conforming) != 0;
        uint limit = (uint)(descriptor & 0xFFFF) | (uint)((descriptor >> 32) & 0xF_0000);
        limit = (attributes & SegmentAttributes.Granularity) != 0 ? (limit << 12) | 0xFFF : limit;
        if (dpl > state->Cpl || (dpl != state->Cpl && !conforming) || handler > limit)
        {
            return Fail(cpu, handler);
        }

        uint mask = (state->Ss.Attributes & SegmentAttributes.Default32) != 0 ? uint.MaxValue : 0xFFFF;
        ulong stack = cpu.Registers[VirtualCpu.Rsp];
        uint* frame = stackalloc uint[Count] { (uint)(state->Rflags | Amd64.FlagResume), state->Cs.Selector, (uint)state->Rip, (uint)errorCode };
        for (int i = 0; i < Count; i++)
        {
            stack = (stack & ~(ulong)mask) | ((uint)(stack - sizeof(uint)) & mask);
            ulong linear = (uint)(state->Ss.Base + (stack & mask));
            bool crossesPage = (linear & (Amd64.PageSize - 1)) > Amd64.PageSize - sizeof(uint);
            byte* bytes = crossesPage ? null : RememberedWalk.Reach(memory, cpu, WalkUse.Stack, linear, AccessKind.Write, state->Cpl == 3);
            if (bytes == null)
            {
                return Fail(cpu, linear);
            }

            *(uint*)bytes = frame[i];
        }

        state->Cs = new SegmentRegister
        {
            Selector = (ushort)((selector & ~3) | state->Cpl),
            Attributes = attributes,
            Limit = limit,
            Base = ((descriptor >> 16) & 0xFF_FFFF) | ((descriptor >> 56) << 24),
        };
        state->Rip = handler;
        cpu.Registers[VirtualCpu.Rsp] = (uint)stack;
        state->Rflags &= ~(Amd64.FlagTrap | Amd64.FlagNestedTask | Amd64.FlagResume | Amd64.FlagVirtual8086
            | (type == GateInterrupt ? Amd64.FlagInterrupt : 0));
        cpu.Vmcb->InterruptShadow = 0;
        return true;
    }

    private static bool Fail(VirtualCpu cpu, ulong address)
    {
        return cpu.Stop(ViolationKind.VcNotDelivered, address);
    }

    private static bool TryReadCodeSegment(GuestMemory memory, VirtualCpu cpu, ushort selector, out ulong descriptor)
    {
        const int LocalTable = 4;
        Vmsa* state = cpu.State;
        SegmentRegister table = (selector & LocalTable) != 0 ? state->Ldtr : state->Gdtr;
        ulong offset = (ulong)(selector & ~7);
        descriptor = 0;
        if (offset == 0 || offset + DescriptorLength - 1 > table.Limit)
        {
            return false;
        }

        ulong value = 0;
        if (!TryRead(memory, cpu, WalkUse.Descriptor, table.Base + offset, &value, DescriptorLength))
        {
            return false;
        }

        descriptor = value;
        const int Wanted = SegmentAttributes.NotSystem | SegmentAttributes.Code | SegmentAttributes.Present;
        return ((int)(descriptor >> 40) & Wanted) == Wanted;
    }

    // Gates and descriptors may cross a page.
    private static bool TryRead(GuestMemory memory, VirtualCpu cpu, WalkUse use, ulong linear, ulong* destination, int length)
    {
        byte* bytes = RememberedWalk.Reach(memory, cpu, use, linear, AccessKind.Read, user: false);
        if (bytes != null && (linear & (Amd64.PageSize - 1)) <= Amd64.PageSize - (ulong)length)
        {
            for (int i = 0; i < length / sizeof(ulong); i++)
            {
                destination[i] = ((ulong*)bytes)[i];
            }

            return true;
        }

        for (int i = 0; i < length && bytes != null; i++)
        {
            bytes = RememberedWalk.Reach(memory, cpu, use, linear + (ulong)i, AccessKind.Read, user: false);
            if (bytes != null)
            {
                ((byte*)destination)[i] = *bytes;
            }
        }

        return bytes != null;
    }

    // Pushes the quadwords of a frame in turn. The stack is 16-byte aligned before it, so none of them crosses a page.
    private static bool TryPush(GuestMemory memory, VirtualCpu cpu, ref ulong stack, ulong* values, bool user)
    {
        byte* bytes = null;
        for (int i = 0; i < FrameCount; i++)
        {
            bool samePage = i != 0 && (stack & (Amd64.PageSize - 1)) != 0;
            stack -= sizeof(ulong);
            bytes = samePage ? bytes - sizeof(ulong) : RememberedWalk.Reach(memory, cpu, WalkUse.Stack, stack, AccessKind.Write, user);
            if (bytes == null)
            {
                return false;
            }

            *(ulong*)bytes = values[i];
        }

        return true;
    }
}
