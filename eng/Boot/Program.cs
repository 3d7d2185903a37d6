// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Writes boot.igvm and the files that belong to it: this repository's kernel, with the probe guest.
// Arguments: the folder for the files, and the text for the probe guest's command (empty = its checks; ProbeGuest/Commands.cs lists them).

using System;
using System.IO;
using System.Text;
using Svsm.Boot;
using Svsm.Builder;
using Svsm.Diagnostics;
using Svsm.Wire;

if (args.Length != 2 || Encoding.ASCII.GetByteCount(args[1]) > ProbeCommand.MaxLength)
{
    Console.Error.WriteLine($"wanted: a folder, and a command of at most {ProbeCommand.MaxLength} characters");
    return 64;
}

try
{
    byte[] guest = File.ReadAllBytes(Path.Combine(AppContext.BaseDirectory, "probe-guest.elf"));
    ProbeCommand.Set(guest, args[1]);
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
