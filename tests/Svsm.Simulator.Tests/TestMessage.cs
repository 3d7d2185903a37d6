// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using System.Linq;
using System.Security.Cryptography;

namespace Svsm.Simulator.Tests;

/// <summary>Guest messages as a guest makes them, from the description of the format and with nothing of the simulator's code.</summary>
internal static class TestMessage
{
    public static byte[][] Keys { get; } = [.. Enumerable.Range(0, 4).Select(i => Enumerable.Repeat((byte)(0x40 + i), 32).ToArray())];

    public static GuestContext Guest(Svsm.Igvm.IgvmSnpIdBlock? idBlock = null, byte[]? rootKey = null) => new()
    {
        VmRootKey = rootKey ?? RandomNumberGenerator.GetBytes(32),
        Policy = TestImage.Policy,
        Digest = Convert.FromHexString(TestImage.Digest),
        MessageKeys = Keys,
        IdBlock = idBlock,
    };

    /// <summary>A request page.</summary>
    /// <param name="type">Message type.</param>
    /// <param name="sequence">Sequence number.</param>
    /// <param name="payload">The payload.</param>
    /// <param name="key">VMPCK.</param>
    /// <param name="edit">Changes the header before it is authenticated.</param>
    public static byte[] Seal(byte type, ulong sequence, byte[] payload, int key = 0, Action<byte[]>? edit = null)
    {
        byte[] page = new byte[4096];
        BinaryPrimitives.WriteUInt64LittleEndian(page.AsSpan(32), sequence);
        page[48] = 1;
        page[49] = 1;
        page[50] = 96;
        page[52] = type;
        page[53] = 1;
        page[54] = (byte)payload.Length;
        page[55] = (byte)(payload.Length >> 8);
        page[60] = (byte)key;
        edit?.Invoke(page);
        byte[] nonce = new byte[12];
        page.AsSpan(32, 8).CopyTo(nonce);
        using var cipher = new AesGcm(Keys[key], 16);
        cipher.Encrypt(nonce, payload, page.AsSpan(96, payload.Length), page.AsSpan(0, 16), page.AsSpan(48, 48));
        return page;
    }

    /// <summary>The payload of a response, whose header must be as told.</summary>
    public static byte[] Open(byte[] message, byte type, ulong sequence, int key = 0)
    {
        byte[] header = new byte[48];
        header[0] = 1;
        header[1] = 1;
        header[2] = 96;
        header[4] = type;
        header[5] = 1;
        header[6] = (byte)(message.Length - 96);
        header[7] = (byte)((message.Length - 96) >> 8);
        header[12] = (byte)key;
        byte[] nonce = new byte[12];
        BinaryPrimitives.WriteUInt64LittleEndian(nonce, sequence);
        byte[] payload = new byte[message.Length - 96];
        using var cipher = new AesGcm(Keys[key], 16);
        cipher.Decrypt(nonce, message.AsSpan(96), message.AsSpan(0, 16), payload, header);
        Xunit.Assert.Equal(sequence, BinaryPrimitives.ReadUInt64LittleEndian(message.AsSpan(32)));
        Xunit.Assert.Equal(header, message[48..96]);
        Xunit.Assert.Equal(new byte[16], message[16..32]);
        Xunit.Assert.Equal(new byte[8], message[40..48]);
        return payload;
    }

    public static byte[] ReportRequest(uint vmpl = 0, uint select = 0, byte fill = 0xDA)
    {
        byte[] payload = new byte[96];
        payload.AsSpan(0, 64).Fill(fill);
        BinaryPrimitives.WriteUInt32LittleEndian(payload.AsSpan(64), vmpl);
        BinaryPrimitives.WriteUInt32LittleEndian(payload.AsSpan(68), select);
        return payload;
    }

    public static byte[] CpuidRequest(params (uint Function, uint Index, uint Eax, uint Ebx, uint Ecx, uint Edx)[] functions)
    {
        byte[] payload = new byte[16 + (functions.Length * 48)];
        payload[0] = (byte)functions.Length;
        for (int i = 0; i < functions.Length; i++)
        {
            Span<byte> entry = payload.AsSpan(16 + (i * 48));
            (uint function, uint index, uint eax, uint ebx, uint ecx, uint edx) = functions[i];
            BinaryPrimitives.WriteUInt32LittleEndian(entry, function);
            BinaryPrimitives.WriteUInt32LittleEndian(entry[4..], index);
            BinaryPrimitives.WriteUInt32LittleEndian(entry[24..], eax);
            BinaryPrimitives.WriteUInt32LittleEndian(entry[28..], ebx);
            BinaryPrimitives.WriteUInt32LittleEndian(entry[32..], ecx);
            BinaryPrimitives.WriteUInt32LittleEndian(entry[36..], edx);
        }

        return payload;
    }

    public static byte[] KeyRequest(uint root = 0, ulong fields = 0, uint vmpl = 0, uint svn = 0, ulong tcb = 0)
    {
        byte[] payload = new byte[32];
        BinaryPrimitives.WriteUInt32LittleEndian(payload, root);
        BinaryPrimitives.WriteUInt64LittleEndian(payload.AsSpan(8), fields);
        BinaryPrimitives.WriteUInt32LittleEndian(payload.AsSpan(16), vmpl);
        BinaryPrimitives.WriteUInt32LittleEndian(payload.AsSpan(20), svn);
        BinaryPrimitives.WriteUInt64LittleEndian(payload.AsSpan(24), tcb);
        return payload;
    }
}
