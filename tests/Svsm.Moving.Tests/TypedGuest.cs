// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The probe guest in a test's hands: it does what is typed (ProbeGuest/TypedCommands.cs), on whichever machine it is.

using System;
using System.Buffers.Binary;
using System.Linq;
using System.Threading.Tasks;
using Svsm.EndToEnd.Tests;
using Svsm.Simulator;
using Svsm.Wire;
using Xunit;

namespace Svsm.Moving.Tests;

/// <summary>The guest.</summary>
/// <param name="machine">The machine that it is on.</param>
/// <param name="number">Number of the first command; higher than those before.</param>
internal sealed class TypedGuest(MachineTest machine, int number = 1)
{
    private const ulong Buffer = 0x208_0000;
    private const ulong Mark = 0x20F_0000;
    private const int LineBytes = 64;
    private const int ResponseBytes = 512;

    private int _number = number;

    /// <summary>Number of the next command.</summary>
    public int Number => _number;

    /// <summary>Sends a command to the virtual TPM, which must succeed.</summary>
    /// <param name="command">The command.</param>
    /// <returns>The response.</returns>
    public async Task<byte[]> TpmAsync(byte[] command)
    {
        byte[] request = [8, 0, 0, 0, 0, 0, 0, 0, 0, .. command];
        BinaryPrimitives.WriteInt32LittleEndian(request.AsSpan(5), command.Length);
        string writes = string.Concat(request.Chunk(LineBytes).Select((part, i) => $"write 0x{Buffer + (ulong)(i * LineBytes):X} 0x{Convert.ToHexStringLower(part)}\n"));
        string[] lines = await DoAsync($"{writes}call 2 1 0x{Buffer:X}\nread 0x{Buffer:X} {ResponseBytes}\n");
        Assert.StartsWith("Success ", lines[^2], StringComparison.Ordinal);
        byte[] response = Convert.FromHexString(lines[^1]);
        response = response[4..(4 + BinaryPrimitives.ReadInt32LittleEndian(response))];
        Assert.Equal(0u, BinaryPrimitives.ReadUInt32BigEndian(response.AsSpan(6)));
        return response;
    }

    /// <summary>Has it do what is typed.</summary>
    /// <param name="commands">Whole lines.</param>
    /// <returns>What it said.</returns>
    public async Task<string[]> DoAsync(string commands)
    {
        string[] marks = [MarkOf(_number++), MarkOf(_number++)];
        await machine.TypeAsync($"{MarkLines(marks[0])}{commands}{MarkLines(marks[1])}");
        await machine.WaitForLineAsync(marks[1], (int)Vmpl.Vmpl2);
        string[] lines = [.. machine.GetLines((int)Vmpl.Vmpl2).Select(line => line.Text.TrimEnd('\r'))];
        int first = Array.FindLastIndex(lines, line => line == marks[0]);
        return lines[(first + 1)..Array.FindLastIndex(lines, line => line == marks[1])];
    }

    /// <summary>Has it do what a session types, with the answers that it wants.</summary>
    /// <param name="session">The session.</param>
    public async Task DoAsync(StorageSession session) => session.Check(string.Join('\n', await DoAsync(session.Typed)));

    private static string MarkOf(int number) => $"6d61726b{number:x8}";

    private static string MarkLines(string mark) => $"write 0x{Mark:X} 0x{mark}\nread 0x{Mark:X} 8\n";
}
