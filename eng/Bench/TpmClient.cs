// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// A TPM server as a process of its own with one connection to it, and how long it takes for each command: on the clock, and of processor
// time. The latter is what Linux' scheduler has counted for all threads of the process (/proc/PID/task/*/schedstat, nanoseconds).

using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.Diagnostics;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Net;
using System.Net.Sockets;
using System.Text;
using System.Text.RegularExpressions;
using Microsoft.Win32.SafeHandles;

namespace Svsm.Bench;

/// <summary>A TPM server and the only client it has.</summary>
internal sealed class TpmClient : IDisposable
{
    private const int HeaderSize = 10;

    // TPM_RC_RETRY.
    private const uint Retry = 0x922;

    // TPM_RS_PW without a password.
    private static readonly byte[] s_noPassword = [0x40, 0, 0, 9, 0, 0, 1, 0, 0];

    private readonly Process _process;
    private readonly Socket _socket;
    private readonly List<SafeFileHandle> _threads = [];
    private readonly byte[] _response = new byte[4096];

    private TpmClient(string name, int port, string program, params ReadOnlySpan<string> arguments)
    {
        Name = name;
        var start = new ProcessStartInfo(program, arguments.ToArray()) { RedirectStandardOutput = true, RedirectStandardError = true };
        _process = Process.Start(start)!;
        _process.OutputDataReceived += static (_, _) => { };
        _process.ErrorDataReceived += static (_, _) => { };
        _process.BeginOutputReadLine();
        _process.BeginErrorReadLine();
        _socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
        var patience = Stopwatch.StartNew();
        while (!_socket.Connected)
        {
            try
            {
                _socket.Connect(IPAddress.Loopback, port);
            }
            catch (SocketException) when (!_process.HasExited && patience.Elapsed < TimeSpan.FromSeconds(60))
            {
                System.Threading.Thread.Sleep(10);
            }
        }

        // The thread that serves the connection is there once it has answered.
        Send(Command(0x144, [], [0, 0]));
        foreach (string thread in Directory.GetDirectories($"/proc/{_process.Id}/task"))
        {
            _threads.Add(File.OpenHandle(Path.Combine(thread, "schedstat")));
        }
    }

    internal string Name { get; }

    /// <summary>How long the last command took, in microseconds.</summary>
    internal double Elapsed { get; private set; }

    /// <summary>What it took of the processor, in microseconds.</summary>
    internal double ProcessorTime { get; private set; }

    /// <summary>The most memory the process has had, in KiB.</summary>
    internal long PeakMemory
        => long.Parse(Regex.Match(File.ReadAllText($"/proc/{_process.Id}/status"), @"VmHWM:\s+(\d+) kB").Groups[1].ValueSpan, CultureInfo.InvariantCulture);

    /// <summary>Debian's swtpm on a folder; a new TPM if it is empty.</summary>
    internal static TpmClient StartSwtpm(string folder)
    {
        int port = FreePort();
        return new TpmClient(
            "swtpm",
            port,
            "swtpm",
            "socket",
            "--tpm2",
            "--tpmstate",
            "dir=" + folder,
            "--server",
            string.Create(CultureInfo.InvariantCulture, $"type=tcp,port={port}"),
            "--flags",
            "not-need-init");
    }

    /// <summary>The static executable on a folder.</summary>
    internal static TpmClient StartOurs(string program, string folder)
    {
        int port = FreePort();
        return new TpmClient("ours", port, program, "serve", folder, port.ToString(CultureInfo.InvariantCulture));
    }

    /// <summary>A command with a password session without a password for each handle that wants one.</summary>
    internal static byte[] Command(uint code, ReadOnlySpan<uint> handles, ReadOnlySpan<byte> parameters, int sessions = 0)
    {
        int size = HeaderSize + (handles.Length * 4) + (sessions == 0 ? 0 : 4 + (sessions * s_noPassword.Length)) + parameters.Length;
        var command = new byte[size];
        BinaryPrimitives.WriteUInt16BigEndian(command, (ushort)(sessions == 0 ? 0x8001 : 0x8002));
        BinaryPrimitives.WriteInt32BigEndian(command.AsSpan(2), size);
        BinaryPrimitives.WriteUInt32BigEndian(command.AsSpan(6), code);
        int offset = HeaderSize;
        foreach (uint handle in handles)
        {
            BinaryPrimitives.WriteUInt32BigEndian(command.AsSpan(offset), handle);
            offset += 4;
        }

        if (sessions != 0)
        {
            BinaryPrimitives.WriteInt32BigEndian(command.AsSpan(offset), sessions * s_noPassword.Length);
            offset += 4;
            for (int i = 0; i < sessions; i++, offset += s_noPassword.Length)
            {
                s_noPassword.CopyTo(command, offset);
            }
        }

        parameters.CopyTo(command.AsSpan(offset));
        return command;
    }

    /// <summary>Sends a command, measures it and gives the response with its header.</summary>
    /// <param name="command">The command.</param>
    /// <param name="inPieces">Whether its header is written before the rest, by a client that knows nothing of Nagle's algorithm (as tpm2-tss does).</param>
    internal ReadOnlySpan<byte> Send(ReadOnlySpan<byte> command, bool inPieces = false)
    {
        _socket.NoDelay = !inPieces;
        double before = ReadProcessorTime();
        long start = Stopwatch.GetTimestamp();
        if (inPieces)
        {
            _socket.Send(command[..HeaderSize]);
            command = command[HeaderSize..];
        }

        _socket.Send(command);
        int size = HeaderSize;
        for (int received = 0; received < size;)
        {
            int count = _socket.Receive(_response.AsSpan(received));
            if (count == 0)
            {
                throw new IOException($"{Name} has ended the connection");
            }

            received += count;
            size = received >= HeaderSize ? BinaryPrimitives.ReadInt32BigEndian(_response.AsSpan(2)) : HeaderSize;
        }

        Elapsed = Stopwatch.GetElapsedTime(start).TotalMicroseconds;
        ProcessorTime = ReadProcessorTime() - before;
        return _response.AsSpan(0, size);
    }

    /// <summary>Does a command that has to succeed, sooner or later.</summary>
    /// <returns>The response's handle if it has one, and its parameters.</returns>
    internal (uint Handle, byte[] Parameters) Do(uint code, ReadOnlySpan<uint> handles, ReadOnlySpan<byte> parameters, int sessions = 0, bool returnsHandle = false)
    {
        byte[] command = Command(code, handles, parameters, sessions);
        ReadOnlySpan<byte> response = Send(command);
        uint status = BinaryPrimitives.ReadUInt32BigEndian(response[6..]);

        // Where others have the processor, the time of a command can be over before a key is found. All attempts count.
        while (status == Retry)
        {
            (double elapsed, double processorTime) = (Elapsed, ProcessorTime);
            response = Send(command);
            status = BinaryPrimitives.ReadUInt32BigEndian(response[6..]);
            Elapsed += elapsed;
            ProcessorTime += processorTime;
        }

        if (status != 0)
        {
            throw new InvalidOperationException(string.Create(CultureInfo.InvariantCulture, $"{Name}: command 0x{code:X} is answered with 0x{status:X}"));
        }

        response = response[HeaderSize..];
        uint handle = 0;
        if (returnsHandle)
        {
            handle = BinaryPrimitives.ReadUInt32BigEndian(response);
            response = response[4..];
        }

        return (handle, sessions == 0 ? response.ToArray() : response.Slice(4, BinaryPrimitives.ReadInt32BigEndian(response)).ToArray());
    }

    /// <summary>TPM2_FlushContext.</summary>
    internal void Flush(uint handle)
    {
        Span<byte> bytes = stackalloc byte[4];
        BinaryPrimitives.WriteUInt32BigEndian(bytes, handle);
        Do(0x165, [], bytes);
    }

    public void Dispose()
    {
        foreach (SafeFileHandle thread in _threads)
        {
            thread.Dispose();
        }

        _socket.Dispose();
        _process.Kill();
        _process.WaitForExit();
        _process.Dispose();
    }

    private static int FreePort()
    {
        using var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        socket.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        return ((IPEndPoint)socket.LocalEndPoint!).Port;
    }

    private double ReadProcessorTime()
    {
        Span<byte> text = stackalloc byte[80];
        long total = 0;
        foreach (SafeFileHandle thread in _threads)
        {
            int count = RandomAccess.Read(thread, text, 0);
            total += long.Parse(text[..text[..count].IndexOf((byte)' ')], CultureInfo.InvariantCulture);
        }

        return total / 1000.0;
    }
}
