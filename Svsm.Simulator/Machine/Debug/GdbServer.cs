// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// gdb's remote serial protocol for the simulated guest. vCPUs are threads: number 1 is vCPU 0. Registers and memory are those of the VMPL that runs
// on the vCPU, memory through its page tables. The hypervisor does the work (CommandKind); the guest's time stands still while it is stopped.
//
// A packet is $data#xx, xx the sum of the data bytes modulo 256, answered by + or -. One debugger at a time, from this PC only.
// Source: "Debugging with GDB", appendix "GDB Remote Serial Protocol"; register numbers of i386:x86-64 without optional features.

using System;
using System.Buffers.Binary;
using System.Globalization;
using System.IO;
using System.Net;
using System.Net.Sockets;
using System.Runtime.InteropServices;
using System.Text;
using System.Threading;
using System.Threading.Tasks;
using Svsm.Diagnostics;
using Svsm.Simulator.Shared;

namespace Svsm.Simulator;

internal sealed class GdbServer : IDisposable
{
    private const int GeneralRegisters = 16;
    private const int RipNumber = 16;
    private const int FlagsNumber = 17;
    private const int SegmentRegisters = 6;
    private const int MaxPacket = 0x2000;
    private const int MaxMemory = 0x800;
    private const byte Interrupt = 0x03;
    private const int SignalTrap = 5;
    private const int SignalInterrupt = 2;

    // gdb's order of RAX to R15, in the processor's numbering.
    private static readonly int[] s_order = [0, 3, 1, 2, 6, 7, 5, 4, 8, 9, 10, 11, 12, 13, 14, 15];

    private readonly int _vcpuCount;
    private readonly TcpListener _listener;
    private readonly SemaphoreSlim _pauses = new(0);
    private MachineSession _session = null!;
    private (uint Vcpu, PauseReason Reason) _pause;
    private bool _running = true;
    private bool _acknowledge = true;
    private uint _thread;

    /// <summary>Starts to listen.</summary>
    /// <exception cref="SvsmDiagnosticException">SVSM6021: the port is taken.</exception>
    public GdbServer(int port, int vcpuCount)
    {
        _vcpuCount = vcpuCount;
        _listener = new TcpListener(IPAddress.Loopback, port);
        try
        {
            _listener.Start(1);
        }
        catch (SocketException exception)
        {
            _listener.Dispose();
            throw SvsmDiagnostics.GdbPortUnusable.Error(
                string.Create(CultureInfo.InvariantCulture, $"port {port}: {exception.Message}"), "a TCP port of this PC that is free", exception);
        }
    }

    /// <summary>The port.</summary>
    public int Port => ((IPEndPoint)_listener.LocalEndpoint).Port;

    /// <summary>The machine that is debugged. Before it runs.</summary>
    public void Attach(MachineSession session)
    {
        _session = session;
        session.Paused = (vcpu, reason) =>
        {
            _pause = (vcpu, reason);
            _pauses.Release();
        };
    }

    /// <summary>Serves debuggers, one after the other, until the run ends.</summary>
    public async Task RunAsync(CancellationToken cancellationToken)
    {
        // The guest stands still before its first instruction.
        await _pauses.WaitAsync(cancellationToken).ConfigureAwait(false);
        _running = false;
        while (true)
        {
            using TcpClient client = await _listener.AcceptTcpClientAsync(cancellationToken).ConfigureAwait(false);
            client.NoDelay = true;
            _acknowledge = true;
            try
            {
                await ServeAsync(client.GetStream(), cancellationToken).ConfigureAwait(false);
            }
            catch (IOException)
            {
                // The debugger is gone. The guest stays as it is: another may come.
            }
        }
    }

    public void Dispose()
    {
        _listener.Dispose();
        _pauses.Dispose();
    }

    private async Task ServeAsync(NetworkStream stream, CancellationToken cancellationToken)
    {
        byte[] buffer = new byte[MaxPacket];
        var packet = new StringBuilder();
        int state = 0;
        Task<int> read = ReadAsync();
        Task pause = _pauses.WaitAsync(cancellationToken);
        while (true)
        {
            await Task.WhenAny(read, pause, _session.Ended).ConfigureAwait(false);
            if (_session.Ended.IsCompleted)
            {
                if (_running)
                {
                    await SendAsync(stream, "W00", cancellationToken).ConfigureAwait(false);
                }

                return;
            }

            if (pause.IsCompletedSuccessfully)
            {
                _running = false;
                _thread = _pause.Vcpu;
                await SendAsync(stream, StopReply(), cancellationToken).ConfigureAwait(false);
                pause = _pauses.WaitAsync(cancellationToken);
                continue;
            }

            int count = await read.ConfigureAwait(false);
            if (count == 0)
            {
                return;
            }

            for (int i = 0; i < count; i++)
            {
                // 0 between packets, 1 in one, 2 and 3 before the digits of the sum.
                byte value = buffer[i];
                switch (state)
                {
                    case 0 when value == Interrupt && _running:
                        await _session.CommandAsync(new CommandHeader { Kind = CommandKind.Pause }, default, cancellationToken).ConfigureAwait(false);
                        break;
                    case 0 when value == '$':
                        packet.Clear();
                        state = 1;
                        break;
                    case 1 when value == '#':
                        state = 2;
                        break;
                    case 1 when packet.Length < MaxPacket:
                        packet.Append((char)value);
                        break;
                    case 2:
                        state = 3;
                        break;
                    case 3 when _acknowledge && buffer.AsSpan(i + 1, count - i - 1).Contains((byte)'#'):
                        // gdb waits for an answer before it asks for something else: what follows is the same again, because the machine
                        // took long to start.
                        state = 0;
                        break;
                    case 3:
                        state = 0;
                        await AcceptAsync(stream, packet.ToString(), cancellationToken).ConfigureAwait(false);
                        break;
                }
            }

            read = ReadAsync();
        }

        Task<int> ReadAsync() => stream.ReadAsync(buffer, cancellationToken).AsTask();
    }

    private async Task AcceptAsync(NetworkStream stream, string packet, CancellationToken cancellationToken)
    {
        // TCP loses nothing, so the sum is not checked.
        if (_acknowledge)
        {
            await stream.WriteAsync("+"u8.ToArray(), cancellationToken).ConfigureAwait(false);
        }

        string? reply;
        try
        {
            reply = await HandleAsync(packet, cancellationToken).ConfigureAwait(false);
        }
        catch (Exception exception) when (exception is FormatException or OverflowException or ArgumentException or IndexOutOfRangeException)
        {
            reply = "E01";
        }
        catch (InvalidOperationException)
        {
            // The run ended.
            reply = "E02";
        }

        if (reply is not null)
        {
            await SendAsync(stream, reply, cancellationToken).ConfigureAwait(false);
        }

        if (packet == "QStartNoAckMode")
        {
            _acknowledge = false;
        }
    }

    // The reply; null when there is none yet.
    private async Task<string?> HandleAsync(string packet, CancellationToken cancellationToken)
    {
        if (packet.Length == 0)
        {
            return "";
        }

        string rest = packet[1..];
        switch (packet[0])
        {
            case '?':
                return StopReply();
            case 'g':
                return await ReadRegistersAsync(cancellationToken).ConfigureAwait(false);
            case 'G':
                return await WriteRegistersAsync(Convert.FromHexString(rest), cancellationToken).ConfigureAwait(false);
            case 'p':
                return await ReadRegisterAsync((int)Number(rest), cancellationToken).ConfigureAwait(false);
            case 'P':
                string[] assignment = rest.Split('=');
                return await WriteRegisterAsync((int)Number(assignment[0]), LittleEndian(Convert.FromHexString(assignment[1])), cancellationToken).ConfigureAwait(false);
            case 'm':
                string[] range = rest.Split(',');
                ulong length = Math.Min(Number(range[1]), MaxMemory);
                (bool read, byte[] bytes) = await CommandAsync(CommandKind.ReadMemory, Number(range[0]), length, default, cancellationToken).ConfigureAwait(false);
                return read ? Convert.ToHexStringLower(bytes) : "E03";
            case 'M':
                string[] parts = rest.Split(',', ':');
                (bool written, _) = await CommandAsync(CommandKind.WriteMemory, Number(parts[0]), 0, Convert.FromHexString(parts[2]), cancellationToken).ConfigureAwait(false);
                return written ? "OK" : "E03";
            case 'c' when rest.Length == 0:
                return await ContinueAsync(CommandKind.Resume, cancellationToken).ConfigureAwait(false);
            case 's' when rest.Length == 0:
                return await ContinueAsync(CommandKind.Step, cancellationToken).ConfigureAwait(false);
            case 'Z' or 'z' when rest[0] is '0' or '1':
                string[] breakpoint = rest.Split(',');
                (bool done, _) = await CommandAsync(CommandKind.Breakpoint, Number(breakpoint[1]), packet[0] == 'Z' ? 1ul : 0, default, cancellationToken).ConfigureAwait(false);
                return done ? "OK" : "E04";
            case 'H':
                return rest[1..] is "0" or "-1" || TrySelect(rest[1..]) ? "OK" : "E05";
            case 'T':
                return Number(rest) - 1 < (ulong)_vcpuCount ? "OK" : "E05";
            case 'D':
                await ContinueAsync(CommandKind.Resume, cancellationToken).ConfigureAwait(false);
                return "OK";
            case 'k':
                _session.RequestStop();
                return null;
            case 'v' when packet == "vCont?":
                return "vCont;c;C;s;S";
            case 'v' when packet.StartsWith("vCont;", StringComparison.Ordinal):
                return await ContinueAsync(packet["vCont;".Length..], cancellationToken).ConfigureAwait(false);
            case 'q' or 'Q':
                return await QueryAsync(packet, cancellationToken).ConfigureAwait(false);
            default:
                return "";
        }
    }

    private async Task<string> QueryAsync(string packet, CancellationToken cancellationToken)
    {
        const string ExtraInfo = "qThreadExtraInfo,";
        const string Command = "qRcmd,";
        const string Features = "qXfer:features:read:target.xml:";
        if (packet.StartsWith("qSupported", StringComparison.Ordinal))
        {
            return string.Create(CultureInfo.InvariantCulture, $"PacketSize={MaxPacket - 4:x};QStartNoAckMode+;qXfer:features:read+;vContSupported+");
        }

        if (packet.StartsWith(ExtraInfo, StringComparison.Ordinal))
        {
            ulong thread = Number(packet[ExtraInfo.Length..]);
            StopReport report = await ReportAsync((uint)thread - 1, cancellationToken).ConfigureAwait(false);
            return Convert.ToHexStringLower(Encoding.ASCII.GetBytes(string.Create(CultureInfo.InvariantCulture, $"vCPU {report.Vcpu}, VMPL{report.Vmpl}, CPL{report.Cpl}")));
        }

        if (packet.StartsWith(Command, StringComparison.Ordinal))
        {
            string command = Encoding.ASCII.GetString(Convert.FromHexString(packet[Command.Length..])).Trim();
            string answer = command == "log" ? await LogAsync(cancellationToken).ConfigureAwait(false) : "monitor log: the log in the SVSM's memory\n";
            return Convert.ToHexStringLower(Encoding.ASCII.GetBytes(answer));
        }

        if (packet.StartsWith(Features, StringComparison.Ordinal))
        {
            return packet[Features.Length..].StartsWith("0,", StringComparison.Ordinal)
                ? "l<?xml version=\"1.0\"?><!DOCTYPE target SYSTEM \"gdb-target.dtd\"><target><architecture>i386:x86-64</architecture></target>"
                : "l";
        }

        return packet switch
        {
            "QStartNoAckMode" => "OK",
            "qAttached" => "1",
            "qC" => Invariant($"QC{_thread + 1:x}"),
            "qfThreadInfo" => ThreadList(),
            "qsThreadInfo" => "l",
            _ => "",
        };
    }

    // As much of the end as fits into a packet.
    private async Task<string> LogAsync(CancellationToken cancellationToken)
    {
        KernelObservation? kernel = await _session.ReadKernelAsync(cancellationToken).ConfigureAwait(false);
        string text = "";
        for (int i = (kernel?.Log.Length ?? 0) - 1; i >= 0; i--)
        {
            string line = _session.Render(kernel!.Log[i]) + "\n";
            if (2 * (line.Length + text.Length) > MaxPacket - 4)
            {
                break;
            }

            text = line + text;
        }

        return text.Length == 0 ? "There is no log, or none yet; or the image has no map beside it.\n" : text;
    }

    private string ThreadList()
    {
        var text = new StringBuilder("m");
        for (int vcpu = 0; vcpu < _vcpuCount; vcpu++)
        {
            text.Append(vcpu == 0 ? "" : ",").Append(CultureInfo.InvariantCulture, $"{vcpu + 1:x}");
        }

        return text.ToString();
    }

    private string StopReply() =>
        Invariant($"T{(_pause.Reason == PauseReason.Asked ? SignalInterrupt : SignalTrap):x2}thread:{_thread + 1:x};");

    // Actions separated by semicolons, each with a thread or for all others. One vCPU steps, or all run.
    private async Task<string?> ContinueAsync(string actions, CancellationToken cancellationToken)
    {
        foreach (string action in actions.Split(';'))
        {
            string[] parts = action.Split(':');
            if (parts[0].StartsWith('s') || parts[0].StartsWith('S'))
            {
                return parts.Length > 1 && parts[1] is not "-1" && !TrySelect(parts[1])
                    ? "E05"
                    : await ContinueAsync(CommandKind.Step, cancellationToken).ConfigureAwait(false);
            }
        }

        return await ContinueAsync(CommandKind.Resume, cancellationToken).ConfigureAwait(false);
    }

    private async Task<string?> ContinueAsync(CommandKind kind, CancellationToken cancellationToken)
    {
        _running = true;
        await CommandAsync(kind, 0, 0, default, cancellationToken).ConfigureAwait(false);
        return null;
    }

    private bool TrySelect(string thread)
    {
        ulong number = Number(thread) - 1;
        if (number >= (ulong)_vcpuCount)
        {
            return false;
        }

        _thread = (uint)number;
        return true;
    }

    private async Task<StopReport> ReportAsync(uint vcpu, CancellationToken cancellationToken)
    {
        (_, byte[] data) = await _session.CommandAsync(new CommandHeader { Kind = CommandKind.ReadRegisters, Vcpu = vcpu }, default, cancellationToken).ConfigureAwait(false);
        return MemoryMarshal.Read<StopReport>(data);
    }

    private async Task<string> ReadRegistersAsync(CancellationToken cancellationToken)
    {
        StopReport report = await ReportAsync(_thread, cancellationToken).ConfigureAwait(false);
        byte[] bytes = new byte[((GeneralRegisters + 1) * sizeof(ulong)) + ((SegmentRegisters + 1) * sizeof(uint))];
        for (int i = 0; i < GeneralRegisters; i++)
        {
            BinaryPrimitives.WriteUInt64LittleEndian(bytes.AsSpan(i * sizeof(ulong)), Register(in report, i));
        }

        BinaryPrimitives.WriteUInt64LittleEndian(bytes.AsSpan(RipNumber * sizeof(ulong)), report.Rip);
        BinaryPrimitives.WriteUInt32LittleEndian(bytes.AsSpan(FlagsNumber * sizeof(ulong)), (uint)report.Rflags);
        return Convert.ToHexStringLower(bytes);
    }

    private async Task<string> ReadRegisterAsync(int number, CancellationToken cancellationToken)
    {
        StopReport report = await ReportAsync(_thread, cancellationToken).ConfigureAwait(false);
        byte[] bytes = new byte[sizeof(ulong)];
        BinaryPrimitives.WriteUInt64LittleEndian(bytes, number == RipNumber ? report.Rip : number == FlagsNumber ? report.Rflags : number < GeneralRegisters ? Register(in report, number) : 0);
        return number <= RipNumber ? Convert.ToHexStringLower(bytes)
            : number <= FlagsNumber + SegmentRegisters ? Convert.ToHexStringLower(bytes.AsSpan(0, sizeof(uint)))
            : "E06";
    }

    private async Task<string> WriteRegistersAsync(byte[] bytes, CancellationToken cancellationToken)
    {
        for (int i = 0; i <= RipNumber; i++)
        {
            await WriteRegisterAsync(i, BinaryPrimitives.ReadUInt64LittleEndian(bytes.AsSpan(i * sizeof(ulong))), cancellationToken).ConfigureAwait(false);
        }

        return await WriteRegisterAsync(FlagsNumber, BinaryPrimitives.ReadUInt32LittleEndian(bytes.AsSpan(FlagsNumber * sizeof(ulong))), cancellationToken).ConfigureAwait(false);
    }

    private async Task<string> WriteRegisterAsync(int number, ulong value, CancellationToken cancellationToken)
    {
        ulong register = number < GeneralRegisters ? (ulong)s_order[number] : (ulong)number;
        (bool done, _) = await CommandAsync(CommandKind.WriteRegister, register, value, default, cancellationToken).ConfigureAwait(false);
        return done ? "OK" : "E06";
    }

    private Task<(bool Done, byte[] Data)> CommandAsync(CommandKind kind, ulong address, ulong value, ReadOnlyMemory<byte> data, CancellationToken cancellationToken) =>
        _session.CommandAsync(new CommandHeader { Kind = kind, Vcpu = _thread, Address = address, Value = value }, data, cancellationToken);

    private static async Task SendAsync(NetworkStream stream, string data, CancellationToken cancellationToken)
    {
        byte sum = 0;
        foreach (char character in data)
        {
            sum += (byte)character;
        }

        await stream.WriteAsync(Encoding.ASCII.GetBytes(Invariant($"${data}#{sum:x2}")), cancellationToken).ConfigureAwait(false);
    }

    // RSP is in a field of its own.
    private static ulong Register(in StopReport report, int number) => s_order[number] == 4 ? report.Rsp : report.Registers[s_order[number]];

    private static ulong Number(string digits) => ulong.Parse(digits, NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture);

    private static ulong LittleEndian(ReadOnlySpan<byte> bytes)
    {
        ulong value = 0;
        for (int i = bytes.Length - 1; i >= 0; i--)
        {
            value = (value << 8) | bytes[i];
        }

        return value;
    }

    private static string Invariant(FormattableString text) => FormattableString.Invariant(text);
}
