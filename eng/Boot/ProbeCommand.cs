// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Tells the probe guest what to do instead of its checks, by changing its ELF file: for eng/boot, and linked into the tests that boot it.
// Svsm.Simulator/ProbeGuest/Commands.cs lists the commands.

using System;
using System.Linq;
using System.Runtime.InteropServices;
using System.Text;
using Svsm.Builder;

namespace Svsm.Boot;

internal static class ProbeCommand
{
    /// <summary>Most characters of a command.</summary>
    public const int MaxLength = 16;

    private const string Symbol = "probe_command";

    /// <summary>Puts a command into the file.</summary>
    /// <param name="guest">The probe guest's ELF file.</param>
    /// <param name="command">The command; empty = the checks. ASCII.</param>
    public static void Set(byte[] guest, string command)
    {
        ElfSymbol symbol = ElfFile.Parse(guest, "the probe guest").FindSymbol(Symbol)
            ?? throw new InvalidOperationException($"The probe guest has no symbol {Symbol}.");
        Span<byte> field = BytesAt(guest, symbol.Value)[..MaxLength];
        field.Clear();
        Encoding.ASCII.GetBytes(command, field);
    }

    /// <summary>The bytes of an ELF file that are loaded at an address, to the end of their segment.</summary>
    public static Span<byte> BytesAt(byte[] elf, ulong address)
    {
        ElfSegment segment = ElfFile.Parse(elf, "the file").Segments.Single(candidate => address - candidate.VirtualAddress < candidate.Length);

        // A segment's data are a slice of the file.
        return MemoryMarshal.TryGetArray(segment.Data, out ArraySegment<byte> data) && data.Array == elf
            ? data.AsSpan((int)(address - segment.VirtualAddress))
            : throw new InvalidOperationException($"0x{address:X} is not among the bytes of the file.");
    }
}
