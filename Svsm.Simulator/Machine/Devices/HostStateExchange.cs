// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The talk of relay and machine about the state of the hypervisor, in frames of kind 4 of a migration's channel. First byte of their contents:
//
//   01  relay     give your state
//   81  giver     the next bytes of it, 1 to 65536: the machine to its relay, and that to the other machine, unchanged
//   82  giver     that was all: u64 bytes, SHA-256 of them (32)
//   83  machine   the state is taken
//   84  machine   it is not, and nothing has changed; UTF-8 text says why
//   85  machine   it cannot be given; UTF-8 text says why
//
// Anything else makes no sense, and the connection ends. Each connection has an exchange of its own: what a relay that has gone had sent is nothing.

using System;
using System.Buffers;
using System.Buffers.Binary;
using System.Security.Cryptography;
using System.Text;
using System.Threading.Tasks;

namespace Svsm.Simulator;

internal sealed class HostStateExchange(Func<Task<byte[]>> save, Func<ReadOnlyMemory<byte>, Task> take, int maxLength)
{
    private const byte Give = 0x01;
    private const byte Part = 0x81;
    private const byte End = 0x82;
    private const byte Taken = 0x83;
    private const byte NotTaken = 0x84;
    private const byte NotGiven = 0x85;
    private const int MaxPart = 0x1_0000;
    private const int EndLength = 1 + sizeof(ulong) + SHA256.HashSizeInBytes;

    private readonly ArrayBufferWriter<byte> _received = new();

    // The contents of a frame, and a way to answer. False when they make no sense.
    public async Task<bool> HandleAsync(ReadOnlyMemory<byte> contents, Func<byte[], Task> answer)
    {
        byte kind = contents.IsEmpty ? (byte)0 : contents.Span[0];
        if (kind == Give && contents.Length == 1)
        {
            await GiveAsync(answer).ConfigureAwait(false);
            return true;
        }

        if (kind == Part && contents.Length is > 1 and <= 1 + MaxPart && contents.Length - 1 <= maxLength - _received.WrittenCount)
        {
            _received.Write(contents.Span[1..]);
            return true;
        }

        if (kind == End && contents.Length == EndLength)
        {
            byte[] said = await TakeAsync(_received.WrittenMemory, contents).ConfigureAwait(false);
            _received.ResetWrittenCount();
            await answer(said).ConfigureAwait(false);
            return true;
        }

        return false;
    }

    private async Task GiveAsync(Func<byte[], Task> answer)
    {
        byte[] blob;
        try
        {
            blob = await save().ConfigureAwait(false);
        }
        catch (HostStateException exception)
        {
            await answer(Frame(NotGiven, Encoding.UTF8.GetBytes(exception.Message))).ConfigureAwait(false);
            return;
        }

        for (int at = 0; at < blob.Length; at += MaxPart)
        {
            await answer(Frame(Part, blob.AsSpan(at, Math.Min(MaxPart, blob.Length - at)))).ConfigureAwait(false);
        }

        byte[] end = new byte[EndLength - 1];
        BinaryPrimitives.WriteUInt64LittleEndian(end, (ulong)blob.Length);
        SHA256.HashData(blob, end.AsSpan(sizeof(ulong)));
        await answer(Frame(End, end)).ConfigureAwait(false);
    }

    private async Task<byte[]> TakeAsync(ReadOnlyMemory<byte> blob, ReadOnlyMemory<byte> end)
    {
        bool isWhole = BinaryPrimitives.ReadUInt64LittleEndian(end.Span[1..]) == (ulong)blob.Length
            && SHA256.HashData(blob.Span).AsSpan().SequenceEqual(end.Span[(1 + sizeof(ulong))..]);
        if (!isWhole)
        {
            return Frame(NotTaken, "the state of the hypervisor did not arrive whole"u8);
        }

        try
        {
            await take(blob).ConfigureAwait(false);
            return Frame(Taken, []);
        }
        catch (HostStateException exception)
        {
            return Frame(NotTaken, Encoding.UTF8.GetBytes(exception.Message));
        }
    }

    private static byte[] Frame(byte kind, ReadOnlySpan<byte> rest) => ChannelFrames.Make(ChannelFrames.KindOfMachine, [kind, .. rest]);
}
