// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// A device that the machine's host side plays, as a VMM does: each access to its registers is a frame on the link, and its answer another. The guest's
// time stands still meanwhile, so runs repeat. Before it answers, the host side reads and writes shared pages by commands, whose data pass through
// the window: memory of QEMU that is a file of the host side.

using System;
using System.Runtime.InteropServices;
using Svsm.Simulator.Shared;

namespace Svsm.Hypervisor;

/// <summary>A device of the machine's host side.</summary>
internal sealed unsafe class HostDevice : MmioDevice
{
    private readonly VirtualMachine _machine;
    private readonly int _index;

    /// <summary>Makes a device.</summary>
    /// <param name="machine">The machine.</param>
    /// <param name="index">Which of the host side's.</param>
    public HostDevice(VirtualMachine machine, int index)
        : base(MachinePorts.HostDevices + ((ulong)index * MachinePorts.HostDeviceLength), MachinePorts.HostDeviceLength)
    {
        _machine = machine;
        _index = index;
    }

    /// <summary>Copies between parts of the guest's shared pages and the window, which begins with the parts.</summary>
    /// <param name="machine">The machine.</param>
    /// <param name="count">Number of parts.</param>
    /// <param name="write">To the guest.</param>
    /// <returns>False when not all of it is shared RAM, there are too many parts, or they are longer than the window; then nothing was copied.</returns>
    public static bool TryCopyShared(VirtualMachine machine, ulong count, bool write)
    {
        if (machine.Window == null || count > Link.MaxSharedParts)
        {
            return false;
        }

        // The window is the machine's as well: what is checked is a copy. SAFETY: it is longer than as many parts.
        Span<SharedPart> parts = stackalloc SharedPart[Link.MaxSharedParts];
        parts = parts[..(int)count];
        new ReadOnlySpan<SharedPart>(machine.Window, (int)count).CopyTo(parts);
        ulong end = count * (ulong)sizeof(SharedPart);
        for (int i = 0; i < parts.Length; i++)
        {
            if (parts[i].Length > Link.WindowLength - end || !machine.Memory.IsShared(parts[i].Address, parts[i].Length))
            {
                return false;
            }

            end += parts[i].Length;
        }

        byte* next = machine.Window + (count * (ulong)sizeof(SharedPart));
        for (int i = 0; i < parts.Length; i++)
        {
            // SAFETY: what all of them take was checked.
            var bytes = new Span<byte>(next, (int)parts[i].Length);
            if (write)
            {
                machine.Memory.CopyToShared(parts[i].Address, bytes);
            }
            else
            {
                machine.Memory.CopyFromShared(parts[i].Address, bytes);
            }

            next += parts[i].Length;
        }

        return true;
    }

    /// <inheritdoc/>
    public override ulong Read(ulong offset, int size)
    {
        // The run that must stop is asked for on vCPU 0, where the request handler looks.
        TryAccess(_machine.Cpus[0], offset, (uint)size, 0, out ulong value);
        return value;
    }

    /// <inheritdoc/>
    public override bool Write(VirtualCpu cpu, ulong offset, int size, ulong value) =>
        TryAccess(cpu, offset, (uint)size | DeviceAccess.Write, value, out _);

    private bool TryAccess(VirtualCpu cpu, ulong offset, uint kind, ulong value, out ulong answer)
    {
        ulong start = _machine.Processor.ReadTimeStampCounter();
        var access = new DeviceAccess { Device = (uint)_index, Kind = kind, Offset = offset, Value = value };
        _machine.Link.FlushConsole();
        _machine.Link.HoldInterrupts = true;
        _machine.Link.Send(LinkFrame.DeviceAccess, MemoryMarshal.AsBytes(new ReadOnlySpan<DeviceAccess>(in access)));
        Span<byte> payload = stackalloc byte[Link.MaxPayload];
        int length = _machine.Link.Receive(payload, out LinkFrame type);
        while (type == LinkFrame.Command)
        {
            _machine.Commands.Execute(cpu, payload[..length]);
            length = _machine.Link.Receive(payload, out type);
        }

        _machine.Link.HoldInterrupts = false;
        _machine.HoldTimeSince(start);
        answer = ulong.MaxValue;
        if (type != LinkFrame.DeviceAnswer || length != sizeof(DeviceAnswer))
        {
            _machine.Link.Log("the machine's answer to a device access is broken"u8).EndLog();
            return cpu.Stop(StopReason.HypervisorFault, 0);
        }

        if (!_machine.Commands.AwaitRelease(cpu))
        {
            return false;
        }

        DeviceAnswer told = MemoryMarshal.Read<DeviceAnswer>(payload);
        answer = told.Value;
        if (_index < MachinePorts.MaxHostDevices)
        {
            _machine.IoApic.SetLine(MachinePorts.FirstHostDeviceInterrupt + _index, told.Interrupt != 0);
        }

        return true;
    }
}
