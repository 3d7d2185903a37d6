// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// What the frames of a run say, checked field by field: the hypervisor shares a machine with a guest that may be hostile.
// The order is Hello, then Console, Log, GuestRequest, Statistics and at most one Report, then Exit.

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

    private readonly ConsoleCollector _console;
    private readonly int _vcpuCount;
    private readonly List<VmplStatistics> _statistics = [];

    // Payload of a GuestRequest that waits for its answer.
    private byte[]? _guestRequest;

    public RunRecorder(ConsoleCollector console, int vcpuCount)
    {
        _console = console;
        _vcpuCount = vcpuCount;
    }

    public bool SaidHello { get; private set; }

    public bool Finished { get; private set; }

    public StopReason Reason { get; private set; }

    public ulong Detail { get; private set; }

    public StopReport? Report { get; private set; }

    public IReadOnlyList<VmplStatistics> Statistics => _statistics;

    // The request, which will be answered now; or null.
    public byte[]? TakeGuestRequest()
    {
        byte[]? request = _guestRequest;
        _guestRequest = null;
        return request;
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

        if (_guestRequest is not null)
        {
            throw new LinkException($"A frame of type {(byte)type} follows a GuestRequest frame that has no answer yet.");
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
        if (Report is not null)
        {
            throw new LinkException("A second Report frame.");
        }

        StopReport report = MemoryMarshal.Read<StopReport>(payload);
        CheckSource(LinkFrame.Report, report.Vcpu, report.Vmpl);
        if (report.CodeLength > Unsafe.SizeOf<Code16>())
        {
            throw new LinkException($"A Report frame has {report.CodeLength} code bytes; the most is {Unsafe.SizeOf<Code16>()}.");
        }

        Report = report;
    }

    private void AcceptStatistics(ReadOnlySpan<byte> payload)
    {
        int size = Unsafe.SizeOf<VmplStatistics>();
        if (payload.Length % size != 0)
        {
            throw new LinkException($"A Statistics frame has {payload.Length} bytes; wanted a multiple of {size}.");
        }

        foreach (VmplStatistics entry in MemoryMarshal.Cast<byte, VmplStatistics>(payload))
        {
            CheckSource(LinkFrame.Statistics, entry.Vcpu, entry.Vmpl);
            if (_statistics.Count == _vcpuCount * VmplCount)
            {
                throw new LinkException($"More than {_vcpuCount * VmplCount} statistics entries from {_vcpuCount} vCPUs.");
            }

            _statistics.Add(entry);
        }
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
