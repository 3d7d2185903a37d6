// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using System.Collections.Generic;

namespace Svsm.Vtpm.Clients.Tests;

/// <summary>Commands and responses as bytes, by a client of its own.</summary>
internal static class Messages
{
    internal const uint Owner = 0x4000_0001;
    internal const uint Null = 0x4000_0007;
    internal const uint Password = 0x4000_0009;
    internal const uint Endorsement = 0x4000_000B;
    internal const uint Platform = 0x4000_000C;

    internal static uint Code(byte[] response) => BinaryPrimitives.ReadUInt32BigEndian(response.AsSpan(6));

    internal static byte[] U16(int value) => [(byte)(value >> 8), (byte)value];

    internal static byte[] U32(uint value) => [(byte)(value >> 24), (byte)(value >> 16), (byte)(value >> 8), (byte)value];

    internal static byte[] Sized(params byte[] value) => [.. U16(value.Length), .. value];

    internal static byte[] Auth(uint session = Password, params byte[] password) => [.. U32(session), 0, 0, 1, .. Sized(password)];

    internal static byte[] Command(uint code, uint[] handles, byte[] parameters, byte[]? sessions = null)
    {
        var body = new List<byte>();
        foreach (uint handle in handles)
        {
            body.AddRange(U32(handle));
        }

        if (sessions is not null)
        {
            body.AddRange(U32((uint)sessions.Length));
            body.AddRange(sessions);
        }

        body.AddRange(parameters);
        return [.. U16(sessions is null ? 0x8001 : 0x8002), .. U32((uint)(10 + body.Count)), .. U32(code), .. body];
    }
}
