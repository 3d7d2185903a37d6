// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Commands about an NV index as a guest hands them to the virtual TPM, made without the engine that reads them. Shared with the tests of the store and of the
// machine, and with eng/bench. In front of the command are 8 (TPM_SEND_COMMAND), a locality and the command's length; the response has its length in front.
//
// Source: Secure VM Service Module specification, "vTPM Protocol"; TCG TPM 2.0 Library, Part 3, "Non-volatile Storage".

using System;
using System.Buffers.Binary;

namespace Svsm.Modules.Vtpm.Tests;

internal static class NvCommands
{
    /// <summary>Where the response begins.</summary>
    public const int ResponseOffset = 4;

    /// <summary>Where the response's code is.</summary>
    public const int CodeOffset = ResponseOffset + 6;

    /// <summary>Where data that were read are.</summary>
    public const int DataOffset = ResponseOffset + 16;

    /// <summary>Where data that are written are.</summary>
    public const int WrittenOffset = 9 + 10 + 8 + 13 + 2;

    // The authorisation area of an empty password.
    private static readonly byte[] s_noPassword = [0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0];

    public static byte[] Startup => Request(0x8001, 0x144, [0, 0]);

    /// <summary>Defines an index by the owner.</summary>
    /// <param name="password">What it is used with.</param>
    public static byte[] Define(uint index, uint attributes, ushort size, params byte[] password) =>
        Request(0x8002, 0x12A, [0x40, 0, 0, 1, .. s_noPassword, .. Number((ushort)password.Length), .. password, 0, 14, .. Number(index), 0, 0x0B, .. Number(attributes), 0, 0, .. Number(size)]);

    public static byte[] Write(uint index, byte[] data, ushort offset = 0) =>
        Request(0x8002, 0x137, [.. Number(index), .. Number(index), .. s_noPassword, .. Number((ushort)data.Length), .. data, .. Number(offset)]);

    public static byte[] Read(uint index, ushort size) => Request(0x8002, 0x14E, [.. Number(index), .. Number(index), .. s_noPassword, .. Number(size), 0, 0]);

    public static byte[] Increment(uint index) => Request(0x8002, 0x134, [.. Number(index), .. Number(index), .. s_noPassword]);

    /// <summary>Any command.</summary>
    public static byte[] Request(ushort tag, uint code, byte[] rest)
    {
        byte[] command = [.. Number(tag), .. Number((uint)rest.Length + 10), .. Number(code), .. rest];
        byte[] request = [8, 0, 0, 0, 0, 0, 0, 0, 0, .. command];
        BinaryPrimitives.WriteInt32LittleEndian(request.AsSpan(5), command.Length);
        return request;
    }

    private static byte[] Number(uint value) => [(byte)(value >> 24), (byte)(value >> 16), (byte)(value >> 8), (byte)value];

    private static byte[] Number(ushort value) => [(byte)(value >> 8), (byte)value];
}
