// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Writes boot.igvm and the files that belong to it: this repository's kernel, with the probe guest.
// Arguments: the folder for the files, and the text for the probe guest's command (empty = its checks; ProbeGuest/Commands.cs lists them).

using System;
using System.IO;
using System.Linq;
using System.Runtime.InteropServices;
using System.Text;
using Svsm.Builder;
using Svsm.Diagnostics;
using Svsm.Wire;

const string CommandSymbol = "probe_command";
const int CommandLength = 16;

if (args.Length != 2 || Encoding.ASCII.GetByteCount(args[1]) > CommandLength)
{
    Console.Error.WriteLine($"wanted: a folder, and a command of at most {CommandLength} characters");
    return 64;
}

try
{
    byte[] guest = File.ReadAllBytes(Path.Combine(AppContext.BaseDirectory, "probe-guest.elf"));
    SetCommand(guest, args[1]);
    SvsmImageWriter.WriteFiles(
        new SvsmImageOptions { Kernel = File.ReadAllBytes(Path.Combine(AppContext.BaseDirectory, "kernel.elf")), GuestPayload = guest },
        args[0], "boot", [HostFlavour.Qemu]);
    return 0;
}
catch (SvsmDiagnosticException exception)
{
    Console.Error.WriteLine($"error {exception.Diagnostic.Code}: {exception.Message}");
    return 1;
}

static void SetCommand(byte[] guest, string command)
{
    ElfFile elf = ElfFile.Parse(guest, "the probe guest");
    ElfSymbol symbol = elf.FindSymbol(CommandSymbol) ?? throw new InvalidOperationException($"The probe guest has no symbol {CommandSymbol}.");
    ElfSegment segment = elf.Segments.First(part => symbol.Value >= part.VirtualAddress && symbol.Value - part.VirtualAddress < part.Length);

    // A segment's data are a slice of the file.
    if (!MemoryMarshal.TryGetArray(segment.Data, out ArraySegment<byte> data) || data.Array != guest)
    {
        throw new InvalidOperationException("The segment that contains the probe guest's command is not in the file.");
    }

    Span<byte> field = data.AsSpan((int)(symbol.Value - segment.VirtualAddress), CommandLength);
    field.Clear();
    Encoding.ASCII.GetBytes(command, field);
}
