// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Writes boot.igvm and the files that belong to it: this repository's kernel, with the probe guest, a Linux kernel or a firmware.
// Arguments: the folder for the files, and the text for the probe guest's command (empty = its checks; ProbeGuest/Commands.cs lists them), and
// behind it, if the image is to have modules, --test-module, --vtpm, or --storage (what persists, and a module that fills the store), and their program;
// or the folder, --linux, a bzImage, an initial RAM disk (empty = none), a command line; or the folder, --firmware, an OVMF file.

using System;
using System.IO;
using System.Text;
using Svsm.Boot;
using Svsm.Builder;
using Svsm.Diagnostics;
using Svsm.Wire;

bool isLinux = args.Length == 5 && args[1] == "--linux";
bool isFirmware = args.Length == 3 && args[1] == "--firmware";
bool hasModule = args.Length == 4 && args[2] is ("--test-module" or "--vtpm" or "--storage");
if (!isLinux && !isFirmware && ((args.Length != 2 && !hasModule) || Encoding.ASCII.GetByteCount(args[1]) > ProbeCommand.MaxLength))
{
    Console.Error.WriteLine($"wanted: a folder, and a command of at most {ProbeCommand.MaxLength} characters or --linux with three arguments, or --firmware with one; after a command --test-module, --vtpm or --storage with its program");
    return 64;
}

try
{
    var options = new SvsmImageOptions { Kernel = File.ReadAllBytes(Path.Combine(AppContext.BaseDirectory, "kernel.elf")) };
    if (isLinux)
    {
        options = options with
        {
            Linux = new LinuxGuestOptions
            {
                Kernel = File.ReadAllBytes(args[2]),
                InitialRamDisk = args[3].Length == 0 ? default : File.ReadAllBytes(args[3]),
                CommandLine = args[4],
            },
        };
    }
    else if (isFirmware)
    {
        options = options with { Firmware = File.ReadAllBytes(args[2]) };
    }
    else
    {
        byte[] guest = File.ReadAllBytes(Path.Combine(AppContext.BaseDirectory, "probe-guest.elf"));
        ProbeCommand.Set(guest, args[1]);
        options = options with { GuestPayload = guest };
        if (hasModule)
        {
            options = options with
            {
                Modules = args[2] switch
                {
                    "--vtpm" => [PackagedModules.Vtpm],
                    "--storage" => [PackagedModules.Attestation, PackagedModules.Storage, PackagedModules.VarStore, PackagedModules.Vtpm, PackagedModules.Filling],
                    _ => [new ModuleOptions { TypeName = "Svsm.TestModule.TestModule", Protocol = 0x8000_0001 }],
                },
                Files = [new ModuleFile(ModuleOptions.DefaultProgram, File.ReadAllBytes(args[3]))],
            };
        }
    }

    SvsmImageWriter.WriteFiles(options, args[0], "boot", [HostFlavour.Qemu]);
    return 0;
}
catch (SvsmDiagnosticException exception)
{
    Console.Error.WriteLine($"error {exception.Diagnostic.Code}: {exception.Message}");
    return 1;
}
