// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The channel of the SVSM: a port, as QEMU has it with virtio-serial-device, virtconsole and a chardev of a Unix socket. What the
// driver sends goes to the socket; what comes from there waits in it until the driver has given room. A socket whose other end is gone takes everything and
// gives nothing; when the driver sends, the device looks whether somebody listens there again, as a chardev with reconnect does.
//
// The machine can reach the guest's memory while the guest waits for a device, and at no other time: so what has come is given when the driver touches a
// register, for example the one of interrupts, which a driver without interrupts reads while it waits.

using System;
using System.IO;
using System.Net.Sockets;
using Svsm.Diagnostics;

namespace Svsm.Simulator;

internal sealed class VirtioConsole(string path) : VirtioPort, IDisposable
{
    // Whoever is at the other end and does not read for so long is gone.
    private const int SendTimeoutMilliseconds = 10_000;

    private Socket? _socket;

    // Throws SvsmDiagnosticException when nobody listens there.
    public void Open()
    {
        try
        {
            Connect();
        }
        catch (Exception e) when (e is SocketException or ArgumentException or IOException)
        {
            throw SvsmDiagnostics.RunOptionInvalid.Error($"the SVSM's channel '{path}': {e.Message.TrimEnd('.')}", "a Unix socket that somebody listens on, such as svsm keys proxy", e);
        }
    }

    public override bool HasNews(int queue) => queue == ReceiveQueue && CanHandle(queue);

    public override bool CanHandle(int queue)
    {
        try
        {
            return queue != ReceiveQueue || _socket is { Available: > 0 };
        }
        catch (SocketException)
        {
            Dispose();
            return false;
        }
    }

    public void Dispose()
    {
        _socket?.Dispose();
        _socket = null;
    }

    protected override ReadOnlyMemory<byte> Take(int room)
    {
        byte[] data = new byte[room];
        try
        {
            return data.AsMemory(0, _socket?.Receive(data) ?? 0);
        }
        catch (SocketException)
        {
            Dispose();
            return default;
        }
    }

    protected override void Send(ReadOnlySpan<byte> bytes)
    {
        try
        {
            if (_socket is null || IsOtherEndGone(_socket))
            {
                Dispose();
                Connect();
            }

            while (!bytes.IsEmpty)
            {
                bytes = bytes[_socket!.Send(bytes)..];
            }
        }
        catch (Exception e) when (e is SocketException or IOException)
        {
            Dispose();
        }
    }

    // Nothing to read, and yet it would not wait.
    private static bool IsOtherEndGone(Socket socket) => socket.Available == 0 && socket.Poll(0, SelectMode.SelectRead) && socket.Available == 0;

    private void Connect()
    {
        var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified) { SendTimeout = SendTimeoutMilliseconds };
        try
        {
            socket.Connect(new UnixDomainSocketEndPoint(path));
        }
        catch
        {
            socket.Dispose();
            throw;
        }

        _socket = socket;
    }
}
