// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Runs a vCPU until its next exit, and counts.
//
// Under -icount shift=0 the time-stamp counter counts instructions. Between the two readings lie, beside the guest's instructions, those of
// svsm_world_switch (Entry.S), which do not belong to the guest. The emulator does not count an instruction that is intercepted; one that the
// hypervisor emulates counts as one (VirtualCpu.Skip).

using System.Runtime;
using System.Runtime.CompilerServices;
using System.Threading;
using Svsm.Platform;
using Svsm.Simulator.Shared;
using Svsm.Wire;

namespace Svsm.Hypervisor;

/// <summary>The world switch.</summary>
internal static unsafe class WorldSwitch
{
    // SAFETY (whole type): VMCB and frame have the layout that Entry.S knows.

    /// <summary>Instructions of Entry.S between the reading before the entry and the one after the exit, one RDTSC included.</summary>
    private const ulong OwnInstructions = 25;

    /// <summary>Runs the guest until its next exit.</summary>
    public static void Run(VirtualCpu cpu)
    {
        VmplStatistics* statistics = cpu.Current.Statistics;
        Vmcb* vmcb = cpu.Vmcb;
        WorldFrame* frame = cpu.Frame;
        Vmsa* state = Vmcb.SaveArea(vmcb);
        var registers = (ulong*)frame;
        state->Rax = registers[VirtualCpu.Rax];
        state->Rsp = registers[VirtualCpu.Rsp];
        Switch(vmcb, frame);
        registers[VirtualCpu.Rax] = state->Rax;
        registers[VirtualCpu.Rsp] = state->Rsp;
        vmcb->EventInjection = 0;

        ulong ran = frame->TscExit - frame->TscEntry;
        statistics->Ticks += ran > OwnInstructions ? ran - OwnInstructions : 0;
        statistics->Exits++;
        ulong lastExit = frame->LastExit;
        ulong offset = vmcb->TscOffset;
        statistics->HypervisorTicks += lastExit == 0 ? 0 : frame->TscEntry + offset - lastExit;
        frame->LastExit = frame->TscExit + offset;
    }

    [RuntimeImport("*", "svsm_world_switch")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern void Switch(Vmcb* vmcb, WorldFrame* frame);
}

/// <summary>The processor that the hypervisor runs on.</summary>
internal sealed unsafe class LevelOneProcessor : HostProcessor
{
    private const uint MsrTscAux = 0xC000_0103;
    private const uint Features = 1;
    private const uint CompareExchange16 = 1u << 13;

    private readonly bool _hidesCompareExchange;

    /// <summary>Looks at the processor.</summary>
    public LevelOneProcessor()
    {
        _hidesCompareExchange = (X64.Cpuid(Features).Ecx & CompareExchange16) != 0 && !CompareExchangeIsSound();
    }

    /// <summary>Identifies the processor, without an instruction that it has but gets wrong.</summary>
    public override CpuidResult Cpuid(uint function, uint index)
    {
        CpuidResult result = X64.Cpuid(function, index);
        if (function == Features && _hidesCompareExchange)
        {
            result.Ecx &= ~CompareExchange16;
        }

        return result;
    }

    /// <inheritdoc/>
    public override ulong ReadTimeStampCounter() => X64.ReadTimeStampCounter();

    /// <inheritdoc/>
    public override ulong TscAux
    {
        get => X64.ReadMsr(MsrTscAux);
        set => X64.WriteMsr(MsrTscAux, value);
    }

    /// <inheritdoc/>
    public override void SetTimer(ulong nanoseconds) => OuterApic.SetTimer(nanoseconds);

    /// <inheritdoc/>
    public override void AcknowledgeInterrupt() => OuterApic.Take();

    /// <inheritdoc/>
    public override uint TakePins() => OuterApic.TakePins();

    /// <inheritdoc/>
    public override void WaitForInterrupt() => OuterApic.Wait();

    /// <inheritdoc/>
    public override uint ReadPort(ushort port, int size) => size == 1 ? X64.In8(port) : size == 2 ? X64.In16(port) : X64.In32(port);

    /// <inheritdoc/>
    public override void WritePort(ushort port, int size, uint value)
    {
        switch (size)
        {
            case 1:
                X64.Out8(port, (byte)value);
                break;
            case 2:
                X64.Out16(port, (ushort)value);
                break;
            default:
                X64.Out32(port, value);
                break;
        }
    }

    /// <inheritdoc/>
    public override ulong ReadDevice(ulong address, int size) => size switch
    {
        // SAFETY: the caller has the address of a device, and the first 512 GiB are mapped one to one.
        1 => Volatile.Read(ref *(byte*)address),
        2 => Volatile.Read(ref *(ushort*)address),
        4 => Volatile.Read(ref *(uint*)address),
        _ => Volatile.Read(ref *(ulong*)address),
    };

    /// <inheritdoc/>
    public override void WriteDevice(ulong address, int size, ulong value)
    {
        switch (size)
        {
            // SAFETY: as above.
            case 1:
                Volatile.Write(ref *(byte*)address, (byte)value);
                break;
            case 2:
                Volatile.Write(ref *(ushort*)address, (ushort)value);
                break;
            case 4:
                Volatile.Write(ref *(uint*)address, (uint)value);
                break;
            default:
                Volatile.Write(ref *(ulong*)address, value);
                break;
        }
    }

    /// <inheritdoc/>
    public override void Interrupt(int cpu) => OuterApic.Interrupt(OuterProcessors.Of(cpu));

    /// <inheritdoc/>
    public override void Relax() => X64.Pause();

    /// <inheritdoc/>
    public override void TakeNonMaskableInterrupt() => TakeNmi();

    /// <inheritdoc/>
    public override void ReadDebugRegisters(ulong* values) => ReadRegisters(values);

    /// <inheritdoc/>
    public override void WriteDebugRegisters(ulong* values) => WriteRegisters(values);

    [RuntimeImport("*", "svsm_compare_exchange_is_sound")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern bool CompareExchangeIsSound();

    [RuntimeImport("*", "svsm_take_nmi")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern void TakeNmi();

    [RuntimeImport("*", "svsm_read_debug_registers")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern void ReadRegisters(ulong* values);

    [RuntimeImport("*", "svsm_write_debug_registers")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern void WriteRegisters(ulong* values);
}
