// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using System.Diagnostics;
using System.IO;
using System.Net.Sockets;
using System.Threading;

namespace Svsm.Vtpm.Clients.Tests;

/// <summary>Debian's swtpm on a state folder, behind Unix sockets.</summary>
internal sealed class SwtpmProcess : IDisposable
{
    private readonly Process _process;
    private readonly Socket _data;
    private readonly string _folder;

    internal SwtpmProcess(string folder)
    {
        _folder = folder;
        string data = Path.Combine(folder, "data");
        string control = Path.Combine(folder, "control");
        File.Delete(data);
        File.Delete(control);
        var start = new ProcessStartInfo("swtpm") { RedirectStandardError = true, RedirectStandardOutput = true };
        foreach (string argument in (string[])
            ["socket", "--tpm2", "--tpmstate", "dir=" + folder, "--server", "type=unixio,path=" + data, "--ctrl", "type=unixio,path=" + control, "--flags", "not-need-init"])
        {
            start.ArgumentList.Add(argument);
        }

        _process = Process.Start(start)!;
        var clock = Stopwatch.StartNew();
        Socket? connected = null;
        while (!File.Exists(control) || (connected = TryConnect(data)) is null)
        {
            if (_process.HasExited || clock.Elapsed > TimeSpan.FromSeconds(60))
            {
                string problem = _process.HasExited ? _process.StandardError.ReadToEnd() : "no sockets";
                End();
                throw new InvalidOperationException("swtpm did not start: " + problem);
            }

            Thread.Yield();
        }

        _data = connected!;
    }

    internal byte[] Send(byte[] command)
    {
        _data.Send(command);
        byte[] head = Receive(_data, 10);
        return [.. head, .. Receive(_data, (int)BinaryPrimitives.ReadUInt32BigEndian(head.AsSpan(2)) - 10)];
    }

    /// <summary>Sets the locality of the commands that follow.</summary>
    internal void SetLocality(byte locality) => Control([0, 0, 0, 5, locality]);

    /// <summary>_TPM_Init.</summary>
    internal void Reset() => Control([0, 0, 0, 2, 0, 0, 0, 0]);

    public void Dispose()
    {
        _data.Dispose();
        End();
    }

    private void End()
    {
        _process.Kill();
        _process.WaitForExit();
        _process.Dispose();
    }

    // A socket has its name before it listens.
    private static Socket? TryConnect(string path)
    {
        var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        try
        {
            socket.Connect(new UnixDomainSocketEndPoint(path));
            return socket;
        }
        catch (SocketException)
        {
            socket.Dispose();
            return null;
        }
    }

    private void Control(byte[] message)
    {
        using var control = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        control.Connect(new UnixDomainSocketEndPoint(Path.Combine(_folder, "control")));
        control.Send(message);
        if (BinaryPrimitives.ReadUInt32BigEndian(Receive(control, 4)) != 0)
        {
            throw new InvalidOperationException("swtpm refuses a control message");
        }
    }

    private static byte[] Receive(Socket socket, int count)
    {
        byte[] bytes = new byte[count];
        for (int done = 0; done < count;)
        {
            int received = socket.Receive(bytes.AsSpan(done));
            if (received == 0)
            {
                throw new IOException("swtpm has ended the connection");
            }

            done += received;
        }

        return bytes;
    }
}
