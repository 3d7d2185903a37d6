// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using System.Net.Sockets;
using System.Threading;

namespace Svsm.Modules.Vtpm.Desk;

/// <summary>A client: what it has sent, and the answer that is being made for it.</summary>
internal sealed class Connection(Socket socket, TpmDevice device, CancellationTokenSource stop)
{
    // IPPROTO_TCP and TCP_QUICKACK: include/uapi/linux/in.h and tcp.h of Linux. It holds until the system thinks better of it.
    private const int Tcp = 6;
    private const int TcpQuickAcknowledgement = 12;

    private static readonly byte[] s_on = BitConverter.GetBytes(1);

    /// <summary>The largest command that is taken; what is larger is answered without being read.</summary>
    internal static int MaxMessage => Tpm.MaxCommandSize;

    private readonly byte[] _input = new byte[2 * (Tpm.MaxCommandSize + 16)];
    private readonly byte[] _output = new byte[Tpm.MaxCommandSize + 16];
    private int _start;
    private int _end;

    internal TpmDevice Device { get; } = device;

    /// <summary>Room for an answer.</summary>
    internal Span<byte> Output => _output;

    /// <summary>The next bytes, which stay where they are.</summary>
    /// <param name="count">At most a message and its head.</param>
    /// <param name="bytes">The bytes; valid until more are asked for.</param>
    /// <returns>False when the client has ended the connection before.</returns>
    internal bool TryPeek(int count, out ReadOnlySpan<byte> bytes)
    {
        while (_end - _start < count)
        {
            if (_input.Length - _start < count)
            {
                _input.AsSpan(_start, _end - _start).CopyTo(_input);
                _end -= _start;
                _start = 0;
            }

            Acknowledge();
            int received = socket.Receive(_input.AsSpan(_end));
            if (received == 0)
            {
                bytes = default;
                return false;
            }

            _end += received;
        }

        bytes = _input.AsSpan(_start, count);
        return true;
    }

    /// <summary>Goes over bytes that were peeked.</summary>
    internal void Skip(int count)
    {
        _start += count;
        if (_start == _end)
        {
            _start = _end = 0;
        }
    }

    internal bool TryRead(int count, out ReadOnlySpan<byte> bytes)
    {
        bool read = TryPeek(count, out bytes);
        if (read)
        {
            _start += count;
        }

        return read;
    }

    internal bool TryReadUInt32(out uint value)
    {
        bool read = TryRead(sizeof(uint), out ReadOnlySpan<byte> bytes);
        value = read ? BinaryPrimitives.ReadUInt32BigEndian(bytes) : 0;
        return read;
    }

    /// <summary>Sends the first bytes of <see cref="Output"/>.</summary>
    internal void Send(int size)
    {
        ReadOnlySpan<byte> rest = _output.AsSpan(0, size);
        while (!rest.IsEmpty)
        {
            rest = rest[socket.Send(rest)..];
        }
    }

    internal void Send(params ReadOnlySpan<uint> values)
    {
        for (int i = 0; i < values.Length; i++)
        {
            BinaryPrimitives.WriteUInt32BigEndian(_output.AsSpan(i * sizeof(uint)), values[i]);
        }

        Send(values.Length * sizeof(uint));
    }

    /// <summary>Reads what TPM_SIGNAL_HASH_DATA and its like in swtpm carry: UINT32 size and that many bytes, of any size.</summary>
    internal bool TryReadHashData()
    {
        if (!TryReadUInt32(out uint left))
        {
            return false;
        }

        while (left != 0)
        {
            int count = (int)Math.Min(left, (uint)MaxMessage);
            if (!TryRead(count, out ReadOnlySpan<byte> data))
            {
                return false;
            }

            Device.HashData(data);
            left -= (uint)count;
        }

        return true;
    }

    internal void StopServer() => stop.Cancel();

    // tpm2-tss writes the head of a message and then the command, and its system keeps the second back until the first is acknowledged
    // (Nagle's algorithm); ours would let that wait for an answer to send it with, 40 ms.
    private void Acknowledge()
    {
        if (socket.ProtocolType == ProtocolType.Tcp && OperatingSystem.IsLinux())
        {
            socket.SetRawSocketOption(Tcp, TcpQuickAcknowledgement, s_on);
        }
    }
}
