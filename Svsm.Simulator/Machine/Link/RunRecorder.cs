// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// What the frames of a run say, checked field by field: the hypervisor shares a machine with a guest that may be hostile.
// The order is Hello, then everything else, then Exit.

using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Svsm.Simulator.Shared;

namespace Svsm.Simulator;

internal sealed class RunRecorder
{
    private const int ConsoleHeaderLength = 4;
    private const int ExitLength = 16;
    private const int VmplCount = 4;
    private const int MaxAttackEvents = 10_000;
    private const int MaxRanges = 1 << 24;

    // The C-bit: no guest-physical address reaches it.
    private const ulong MemoryEnd = 1ul << 47;

    private readonly ConsoleCollector _console;
    private readonly int _vcpuCount;
    private readonly uint _devices;
    private readonly List<VmplStatistics> _statistics = [];
    private readonly List<EventCount> _events = [];
    private readonly List<StopReport> _reports = [];
    private readonly List<AttackEvent> _attacks = [];
    private List<RmpRange> _map = [];
    private ulong _mapEnd;

    // Payload of a GuestRequest or CpuidPage that waits for its answer.
    private byte[]? _guestRequest;
    private byte[]? _cpuidPage;

    // Likewise.
    private DeviceAccess? _deviceAccess;

    public RunRecorder(ConsoleCollector console, int vcpuCount, uint devices = 0)
    {
        _console = console;
        _vcpuCount = vcpuCount;
        _devices = devices;
    }

    public bool SaidHello { get; private set; }

    public bool Finished { get; private set; }

    public StopReason Reason { get; private set; }

    public ulong Detail { get; private set; }

    public IReadOnlyList<StopReport> Reports => _reports;

    public IReadOnlyList<EventCount> Events => _events;

    public IReadOnlyList<AttackEvent> Attacks => _attacks;

    // Names of the attacks, by their index; more are added while the machine runs.
    public List<string> AttackNames { get; } = [];

    public Action? Greeted { get; set; }

    // Receives what answers commands, and traces.
    public Action<CommandKind, bool, byte[]>? CommandDone { get; set; }

    public Action<uint, PauseReason>? Paused { get; set; }

    public Action<TraceRecord>? Traced { get; set; }

    public IReadOnlyList<VmplStatistics> Statistics => _statistics;

    // The request, which will be answered now; or null.
    public byte[]? TakeGuestRequest()
    {
        byte[]? request = _guestRequest;
        _guestRequest = null;
        return request;
    }

    // A CPUID page, which will be answered now; or null.
    public byte[]? TakeCpuidPage()
    {
        byte[]? page = _cpuidPage;
        _cpuidPage = null;
        return page;
    }

    // The access, which will be answered now; or null.
    public DeviceAccess? TakeDeviceAccess()
    {
        DeviceAccess? access = _deviceAccess;
        _deviceAccess = null;
        return access;
    }

    // The state of memory that was sent last.
    public RmpMap TakeMap()
    {
        var map = new RmpMap(_map);
        _map = [];
        _mapEnd = 0;
        return map;
    }

    public void Accept(LinkFrame type, ReadOnlySpan<byte> payload)
    {
        if (Finished)
        {
            throw new LinkException($"A frame of type {(byte)type} follows the Exit frame.");
        }

        if (SaidHello == (type == LinkFrame.Hello))
        {
            throw new LinkException(SaidHello ? "A second Hello frame." : $"The first frame has type {(byte)type}; wanted Hello ({(byte)LinkFrame.Hello}).");
        }

        if ((_guestRequest ?? _cpuidPage) is not null && type is LinkFrame.GuestRequest or LinkFrame.CpuidPage)
        {
            throw new LinkException($"A {type} frame follows another that has no answer yet.");
        }

        switch (type)
        {
            case LinkFrame.Hello:
                AcceptHello(payload);
                break;
            case LinkFrame.Console:
                AcceptConsole(payload);
                break;
            case LinkFrame.Log:
                _console.Write(ConsoleSource.Host, payload);
                break;
            case LinkFrame.Report:
                AcceptReport(payload);
                break;
            case LinkFrame.Statistics:
                AcceptStatistics(payload);
                break;
            case LinkFrame.GuestRequest:
                RequireLength(LinkFrame.GuestRequest, payload, Link.GuestRequestHeaderLength + SecurityProcessor.PageSize);
                _guestRequest = payload.ToArray();
                break;
            case LinkFrame.CpuidPage:
                RequireLength(LinkFrame.CpuidPage, payload, SecurityProcessor.PageSize);
                _cpuidPage = payload.ToArray();
                break;
            case LinkFrame.DeviceAccess:
                AcceptDeviceAccess(payload);
                break;
            case LinkFrame.RmpMap:
                AcceptMap(payload);
                break;
            case LinkFrame.EventCounts:
                AcceptEvents(payload);
                break;
            case LinkFrame.Trace:
                AcceptTrace(payload);
                break;
            case LinkFrame.CommandDone:
                AcceptCommandDone(payload);
                break;
            case LinkFrame.Attack:
                AcceptAttack(payload);
                break;
            case LinkFrame.Paused:
                AcceptPaused(payload);
                break;
            case LinkFrame.Exit:
                AcceptExit(payload);
                break;
            default:
                throw new LinkException($"A frame has the unknown type {(byte)type}.");
        }
    }

    private void AcceptHello(ReadOnlySpan<byte> payload)
    {
        RequireLength(LinkFrame.Hello, payload, sizeof(uint));
        uint version = BinaryPrimitives.ReadUInt32LittleEndian(payload);
        if (version != Link.Version)
        {
            throw new LinkException($"The hypervisor speaks version {version} of the link; this machine speaks {Link.Version}. Use both from one package.");
        }

        SaidHello = true;
        Greeted?.Invoke();
    }

    private void AcceptConsole(ReadOnlySpan<byte> payload)
    {
        if (payload.Length < ConsoleHeaderLength)
        {
            throw new LinkException($"A Console frame has {payload.Length} bytes; wanted {ConsoleHeaderLength} or more.");
        }

        ushort vcpu = BinaryPrimitives.ReadUInt16LittleEndian(payload);
        byte vmpl = payload[2];
        CheckSource(LinkFrame.Console, vcpu, vmpl);
        if (payload[3] != 0)
        {
            throw new LinkException($"Byte 3 of a Console frame is {payload[3]}; wanted 0.");
        }

        _console.Write(new ConsoleSource(vcpu, vmpl), payload[ConsoleHeaderLength..]);
    }

    private void AcceptReport(ReadOnlySpan<byte> payload)
    {
        RequireLength(LinkFrame.Report, payload, Unsafe.SizeOf<StopReport>());
        if (_reports.Count == _vcpuCount)
        {
            throw new LinkException($"More than {_vcpuCount} Report frames from {_vcpuCount} vCPUs.");
        }

        StopReport report = MemoryMarshal.Read<StopReport>(payload);
        CheckSource(LinkFrame.Report, report.Vcpu, report.Vmpl);
        if (report.CodeLength > Unsafe.SizeOf<Code16>())
        {
            throw new LinkException($"A Report frame has {report.CodeLength} code bytes; the most is {Unsafe.SizeOf<Code16>()}.");
        }

        _reports.Add(report);
    }

    private void AcceptStatistics(ReadOnlySpan<byte> payload)
    {
        foreach (VmplStatistics entry in Entries<VmplStatistics>(LinkFrame.Statistics, payload))
        {
            CheckSource(LinkFrame.Statistics, entry.Vcpu, entry.Vmpl);
            if (_statistics.Count == _vcpuCount * VmplCount)
            {
                throw new LinkException($"More than {_vcpuCount * VmplCount} statistics entries from {_vcpuCount} vCPUs.");
            }

            _statistics.Add(entry);
        }
    }

    private void AcceptMap(ReadOnlySpan<byte> payload)
    {
        foreach (RmpRange range in Entries<RmpRange>(LinkFrame.RmpMap, payload))
        {
            if (range.PageCount == 0 || range.Gpa < _mapEnd || range.Gpa % SecurityProcessor.PageSize != 0 || range.Gpa >= MemoryEnd || _map.Count == MaxRanges)
            {
                throw new LinkException($"A RmpMap frame has the range 0x{range.Gpa:X}, {range.PageCount} pages, behind 0x{_mapEnd:X}.");
            }

            _mapEnd = range.Gpa + (range.PageCount * SecurityProcessor.PageSize);
            _map.Add(range);
        }
    }

    private void AcceptEvents(ReadOnlySpan<byte> payload)
    {
        foreach (EventCount entry in Entries<EventCount>(LinkFrame.EventCounts, payload))
        {
            CheckSource(LinkFrame.EventCounts, 0, entry.Vmpl);
            if (entry.Kind > EventKind.GhcbMsr || _events.Count == VmplCount * EventCounters.Slots)
            {
                throw new LinkException($"An EventCounts frame has the kind {(byte)entry.Kind}, or there are more than {VmplCount * EventCounters.Slots} entries.");
            }

            _events.Add(entry);
        }
    }

    private void AcceptTrace(ReadOnlySpan<byte> payload)
    {
        RequireLength(LinkFrame.Trace, payload, Unsafe.SizeOf<TraceRecord>());
        TraceRecord record = MemoryMarshal.Read<TraceRecord>(payload);
        CheckSource(LinkFrame.Trace, record.Vcpu, record.Vmpl);
        Traced?.Invoke(record);
    }

    private void AcceptCommandDone(ReadOnlySpan<byte> payload)
    {
        if (payload.Length < 2 * sizeof(uint))
        {
            throw new LinkException($"A CommandDone frame has {payload.Length} bytes; wanted {2 * sizeof(uint)} or more.");
        }

        var kind = (CommandKind)BinaryPrimitives.ReadUInt32LittleEndian(payload);
        bool done = BinaryPrimitives.ReadUInt32LittleEndian(payload[sizeof(uint)..]) == 0;
        CommandDone?.Invoke(kind, done, payload[(2 * sizeof(uint))..].ToArray());
    }

    private void AcceptAttack(ReadOnlySpan<byte> payload)
    {
        RequireLength(LinkFrame.Attack, payload, ExitLength);
        uint index = BinaryPrimitives.ReadUInt32LittleEndian(payload);
        var outcome = (AttackOutcome)BinaryPrimitives.ReadUInt32LittleEndian(payload[sizeof(uint)..]);
        if (index >= (uint)AttackNames.Count || !Enum.IsDefined(outcome))
        {
            throw new LinkException($"An Attack frame tells outcome {(uint)outcome} of attack {index}; there are {AttackNames.Count}.");
        }

        if (_attacks.Count < MaxAttackEvents)
        {
            _attacks.Add(new AttackEvent(AttackNames[(int)index], outcome, BinaryPrimitives.ReadUInt64LittleEndian(payload[sizeof(ulong)..])));
        }
    }

    private void AcceptPaused(ReadOnlySpan<byte> payload)
    {
        RequireLength(LinkFrame.Paused, payload, 2 * sizeof(uint));
        uint vcpu = BinaryPrimitives.ReadUInt32LittleEndian(payload);
        CheckSource(LinkFrame.Paused, vcpu, 0);
        Paused?.Invoke(vcpu, (PauseReason)BinaryPrimitives.ReadUInt32LittleEndian(payload[sizeof(uint)..]));
    }

    private void AcceptDeviceAccess(ReadOnlySpan<byte> payload)
    {
        RequireLength(LinkFrame.DeviceAccess, payload, Unsafe.SizeOf<DeviceAccess>());
        DeviceAccess access = MemoryMarshal.Read<DeviceAccess>(payload);
        if (_deviceAccess is not null || access.Device >= MachinePorts.HostDeviceSlots || (_devices & (1u << (int)access.Device)) == 0 || (access.Kind & ~DeviceAccess.Write) is not (1 or 2 or 4 or 8)
            || access.Offset >= MachinePorts.HostDeviceLength)
        {
            throw new LinkException($"A DeviceAccess frame is for device {access.Device}, offset 0x{access.Offset:X}, kind 0x{access.Kind:X}; the devices are 0x{_devices:X}, and one access at a time.");
        }

        _deviceAccess = access;
    }

    private static ReadOnlySpan<T> Entries<T>(LinkFrame type, ReadOnlySpan<byte> payload)
        where T : unmanaged
    {
        int size = Unsafe.SizeOf<T>();
        return payload.Length % size == 0
            ? MemoryMarshal.Cast<byte, T>(payload)
            : throw new LinkException($"A {type} frame has {payload.Length} bytes; wanted a multiple of {size}.");
    }

    private void AcceptExit(ReadOnlySpan<byte> payload)
    {
        RequireLength(LinkFrame.Exit, payload, ExitLength);
        var reason = (StopReason)BinaryPrimitives.ReadUInt32LittleEndian(payload);
        ulong detail = BinaryPrimitives.ReadUInt64LittleEndian(payload[8..]);
        if (!Enum.IsDefined(reason))
        {
            throw new LinkException($"An Exit frame has the unknown reason {(uint)reason}.");
        }

        if (reason == StopReason.GuestExit && detail > byte.MaxValue)
        {
            throw new LinkException($"An Exit frame has the guest status {detail}; the most is {byte.MaxValue}.");
        }

        if (reason == StopReason.Violation && (detail > uint.MaxValue || detail == 0 || !Enum.IsDefined((ViolationKind)detail)))
        {
            throw new LinkException($"An Exit frame has the unknown violation {detail}.");
        }

        Reason = reason;
        Detail = detail;
        Finished = true;
    }

    private void CheckSource(LinkFrame type, uint vcpu, uint vmpl)
    {
        if (vcpu >= (uint)_vcpuCount || vmpl >= VmplCount)
        {
            throw new LinkException($"A {type} frame is from vCPU {vcpu}, VMPL{vmpl}; the machine has {_vcpuCount} vCPUs and VMPL0 to VMPL3.");
        }
    }

    private static void RequireLength(LinkFrame type, ReadOnlySpan<byte> payload, int wanted)
    {
        if (payload.Length != wanted)
        {
            throw new LinkException($"The {type} frame has {payload.Length} bytes; wanted {wanted}.");
        }
    }
}
