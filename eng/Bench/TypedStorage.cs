// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Lines that the probe guest takes (Svsm.Simulator/ProbeGuest/TypedCommands.cs): calls of the virtual TPM and of UEFI variables, for the bench. Each write
// changes a few bytes of what it writes, for a write of what is there already is none.

using System;
using System.Buffers.Binary;
using System.Globalization;
using System.Text;

namespace Svsm.Bench;

internal static class TypedStorage
{
    private const ulong TpmBuffer = 0x20F_0000;
    private const ulong Message = 0x200_0000;
    private const int MessageLength = 0x2_0000;
    private const int NvLength = 512;
    private const int VariableLength = 0x1_0000;
    private const int NameOffset = 76;
    private const int DataOffset = NameOffset + 4;
    private const int TpmHead = 9;

    // The authorisation area of an empty password.
    private static readonly byte[] s_password = [0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0];
    private static readonly byte[] s_index = [0x01, 0x50, 0, 0];

    public static string Startup => Command(0x8001, 0x144, [0, 0], 0);

    public static string DefineNv => Command(0x8002, 0x12A, [0x40, 0, 0, 1, .. s_password, 0, 0, 0, 14, .. s_index, 0, 0x0B, 0x02, 0x06, 0, 0x06, 0, 0, NvLength >> 8, NvLength & 0xFF], 0);

    /// <summary>NV writes of 512 bytes.</summary>
    public static string WriteNv(int count)
    {
        var lines = new StringBuilder();
        byte[] head = [.. s_index, .. s_index, .. s_password, NvLength >> 8, NvLength & 0xFF];
        for (int i = 0; i < count; i++)
        {
            // What follows in memory are the data and the offset; their first bytes tell one write from another.
            lines.Append(Command(0x8002, 0x137, [.. head, (byte)(i + 1), (byte)count], NvLength));
        }

        return lines.ToString();
    }

    /// <summary>Variables of 64 KiB that are set.</summary>
    public static string SetVariable(int count) => Variable(3, 7, count);

    /// <summary>Variables of 64 KiB that are read.</summary>
    public static string GetVariable(int count) => Variable(1, 0, count);

    private static string Variable(uint function, uint attributes, int count)
    {
        byte[] head = new byte[DataOffset];
        new Guid("ed32d533-99e6-4209-9cc0-2d72cdd998a7").TryWriteBytes(head);
        BinaryPrimitives.WriteInt64LittleEndian(head.AsSpan(16), DataOffset + VariableLength - 24);
        BinaryPrimitives.WriteUInt64LittleEndian(head.AsSpan(24), function);
        new Guid("12345678-9abc-def0-1234-56789abcdef0").TryWriteBytes(head.AsSpan(40));
        BinaryPrimitives.WriteInt64LittleEndian(head.AsSpan(56), VariableLength);
        BinaryPrimitives.WriteInt64LittleEndian(head.AsSpan(64), DataOffset - NameOffset);
        BinaryPrimitives.WriteUInt32LittleEndian(head.AsSpan(72), attributes);
        head[NameOffset] = (byte)'L';
        var lines = new StringBuilder();
        for (int i = 0; i < count; i++)
        {
            Write(lines, Message, [.. head, (byte)(i + 1), (byte)count]);
            lines.Append(CultureInfo.InvariantCulture, $"call 4 1 0x{Message:X} 0x{MessageLength:X}\n");
        }

        return lines.ToString();
    }

    // A TPM command; so many bytes of it beyond two of the last ones are what is in memory.
    private static string Command(ushort tag, uint code, byte[] rest, int more)
    {
        byte[] buffer = new byte[TpmHead + 10 + rest.Length];
        int length = 10 + rest.Length + more;
        BinaryPrimitives.WriteUInt32LittleEndian(buffer, 8);
        BinaryPrimitives.WriteInt32LittleEndian(buffer.AsSpan(5), length);
        BinaryPrimitives.WriteUInt16BigEndian(buffer.AsSpan(TpmHead), tag);
        BinaryPrimitives.WriteInt32BigEndian(buffer.AsSpan(TpmHead + 2), length);
        BinaryPrimitives.WriteUInt32BigEndian(buffer.AsSpan(TpmHead + 6), code);
        rest.CopyTo(buffer, TpmHead + 10);
        var lines = new StringBuilder();
        Write(lines, TpmBuffer, buffer);
        lines.Append(CultureInfo.InvariantCulture, $"call 2 1 0x{TpmBuffer:X}\n");
        return lines.ToString();
    }

    private static void Write(StringBuilder lines, ulong address, byte[] bytes) => lines.Append(CultureInfo.InvariantCulture, $"write 0x{address:X} 0x{Convert.ToHexStringLower(bytes)}\n");
}
