// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Lines that the probe guest takes (Svsm.Simulator/ProbeGuest/TypedCommands.cs): calls of the virtual TPM and of UEFI variables, for the bench. Each write
// changes a few bytes of what it writes, for a write of what is there already is none. Behind # is what the guest's line must begin with: an error would be
// quick. So each command is followed by a look at its response code or status, which no SVSM has a part in.

using System;
using System.Globalization;
using System.Text;
using Svsm.Modules.VarStore.Tests;
using Svsm.Modules.Vtpm.Tests;

namespace Svsm.Bench;

internal static class TypedStorage
{
    private const ulong TpmBuffer = 0x20F_0000;
    private const ulong Message = 0x200_0000;
    private const int MessageLength = 0x2_0000;
    private const uint Index = 0x0150_0000;
    private const int NvLength = 512;
    private const string Name = "L";
    private const int VariableLength = 0x1_0000;

    // Of data that are written, and looked at when they are read.
    private const int MarkLength = 2;

    public static string Startup => Command(NvCommands.Startup);

    public static string DefineNv => Command(NvCommands.Define(Index, 0x0206_0006, NvLength));

    /// <summary>NV writes of 512 bytes.</summary>
    public static string WriteNv(int count)
    {
        var lines = new StringBuilder();
        byte[] request = NvCommands.Write(Index, new byte[NvLength]);
        for (int i = 0; i < count; i++)
        {
            // What follows in memory are the other data and the offset.
            lines.Append(Command([.. request[..NvCommands.WrittenOffset], .. Mark(i, count)]));
        }

        return lines.ToString();
    }

    /// <summary>Sets a variable of 64 KiB, again and again.</summary>
    public static string SetVariable(int count)
    {
        var lines = new StringBuilder();
        for (int i = 0; i < count; i++)
        {
            AccessVariable(lines, 3, 7, Mark(i, count));
        }

        return lines.ToString();
    }

    /// <summary>Gets it.</summary>
    /// <param name="count">How often.</param>
    /// <param name="set">As how many it was set last.</param>
    public static string GetVariable(int count, int set)
    {
        var lines = new StringBuilder();
        for (int i = 0; i < count; i++)
        {
            AccessVariable(lines, 1, 0, new byte[MarkLength]);
            lines.Append(CultureInfo.InvariantCulture, $"read 0x{Message + (ulong)VariableMessage.DataOffset(Name):X} {MarkLength} # {Convert.ToHexStringLower(Mark(set - 1, set))}\n");
        }

        return lines.ToString();
    }

    private static byte[] Mark(int index, int count) => [(byte)(index + 1), (byte)count];

    // A message, of whose 64 KiB of data a few are written, and the others are what is in memory.
    private static void AccessVariable(StringBuilder lines, ulong function, uint attributes, byte[] mark)
    {
        byte[] message = VariableMessage.Access(function, Name, attributes, new byte[VariableLength]);
        mark.CopyTo(message, VariableMessage.DataOffset(Name));
        Write(lines, Message, message[..(VariableMessage.DataOffset(Name) + MarkLength)]);
        lines.Append(CultureInfo.InvariantCulture, $"call 4 1 0x{Message:X} 0x{MessageLength:X} # Success\n");
        lines.Append(CultureInfo.InvariantCulture, $"read 0x{Message + VariableMessage.StatusOffset:X} 8 # 0000000000000000\n");
    }

    // A TPM command, or its beginning.
    private static string Command(byte[] request)
    {
        var lines = new StringBuilder();
        Write(lines, TpmBuffer, request);
        lines.Append(CultureInfo.InvariantCulture, $"call 2 1 0x{TpmBuffer:X} # Success\n");
        lines.Append(CultureInfo.InvariantCulture, $"read 0x{TpmBuffer + NvCommands.CodeOffset:X} 4 # 00000000\n");
        return lines.ToString();
    }

    private static void Write(StringBuilder lines, ulong address, byte[] bytes) => lines.Append(CultureInfo.InvariantCulture, $"write 0x{address:X} 0x{Convert.ToHexStringLower(bytes)}\n");
}
