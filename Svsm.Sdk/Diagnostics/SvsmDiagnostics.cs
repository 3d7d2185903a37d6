// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Every SVSMnnnn message there is: for the tasks, the svsm tool, the simulator and the build files.
//
//   0xxx  environment and toolchain        4xxx  inputs of the image project
//   1xxx  native compilation and linking   5xxx  analyzers
//   2xxx  image and IGVM file              6xxx  simulator and run
//   3xxx  measurement and ID block
//
// Each row has a page under docs/errors. A test holds the rows, the pages and every use of a code in the sources together.
// A code is never given to another failure; the row of a failure that can no longer happen goes.

using System.Collections.Generic;
using System.Linq;
using System.Reflection;

namespace Svsm.Diagnostics;

/// <summary>The table of the <c>SVSMnnnn</c> messages.</summary>
public static class SvsmDiagnostics
{
    /// <summary>GNU as is not there. Raised by Svsm.Freestanding.targets.</summary>
    public static readonly SvsmDiagnostic AssemblerMissing = new(
        "SVSM0001",
        "The assembler could not be started",
        "Install the package binutils, or set the property SvsmAs to the program.");

    /// <summary>GNU ld is not there. Raised by Svsm.Freestanding.targets.</summary>
    public static readonly SvsmDiagnostic LinkerMissing = new(
        "SVSM0002",
        "The linker could not be started",
        "Install the package binutils, or set the property SvsmLd to the program.");

    /// <summary>The ilc package was not restored. Raised by Svsm.Freestanding.targets.</summary>
    public static readonly SvsmDiagnostic NativeCompilerMissing = new(
        "SVSM0003",
        "The native compiler is not there",
        "Run 'dotnet restore' on this project with a package source that has it.");

    /// <summary>Not a Linux x64 machine. Raised by Svsm.Freestanding.targets.</summary>
    public static readonly SvsmDiagnostic BuildMachineUnsupported = new(
        "SVSM0004",
        "This machine cannot build an image",
        "Build on a Linux x64 machine, or in a container of one.");

    /// <summary>The Svsm.Core or Svsm.Simulator package of the SDK's own version was not restored. Raised by Svsm.Image.targets.</summary>
    public static readonly SvsmDiagnostic CompanionPackageMissing = new(
        "SVSM0005",
        "A package that belongs to the SDK is not there",
        "Run 'dotnet restore' on this project with a package source that has it.");

    /// <summary>ilc refused the kernel. Raised by Svsm.Freestanding.targets.</summary>
    public static readonly SvsmDiagnostic NativeCompilationFailed = new(
        "SVSM1001",
        "The native compiler failed",
        "Its messages are above; mostly the code uses something that freestanding C# does not have.");

    /// <summary>GNU as refused a source. Raised by Svsm.Freestanding.targets.</summary>
    public static readonly SvsmDiagnostic AssemblyFailed = new(
        "SVSM1002",
        "The assembler failed",
        "Its messages are above and name file and line.");

    /// <summary>GNU ld refused to link. Raised by Svsm.Freestanding.targets.</summary>
    public static readonly SvsmDiagnostic LinkFailed = new(
        "SVSM1003",
        "The linker failed",
        "Its messages are above.");

    /// <summary>A SvsmModule item without a file. Raised by Svsm.Image.targets.</summary>
    public static readonly SvsmDiagnostic ModuleAssemblyMissing = new(
        "SVSM4001",
        "The assembly of a module is not there",
        "Reference the module's package.");

    /// <summary>A SvsmModule item that is complete. Raised by Svsm.Image.targets.</summary>
    public static readonly SvsmDiagnostic ModulesNotHosted = new(
        "SVSM4002",
        "The kernel of this version hosts no modules",
        "Remove the references to module packages, or use a later version.");

    /// <summary>No QEMU. Raised by Svsm.Simulator.Machine.</summary>
    public static readonly SvsmDiagnostic QemuMissing = new(
        "SVSM6001",
        "QEMU could not be found",
        "Install the package qemu-system-x86, or set the environment variable SVSM_QEMU to the program.");

    /// <summary>A QEMU that is too old, or a program that is none. Raised by Svsm.Simulator.Machine.</summary>
    public static readonly SvsmDiagnostic QemuUnusable = new(
        "SVSM6002",
        "QEMU cannot be used",
        "Install a newer package qemu-system-x86, or set the environment variable SVSM_QEMU to a newer program.");

    /// <summary>Not an IGVM file, or one that a host would refuse. Raised by Svsm.Simulator.Machine.</summary>
    public static readonly SvsmDiagnostic ImageRefused = new(
        "SVSM6003",
        "The host refuses the image",
        "Correct the image or its build options; QEMU would refuse it as well, or start another guest than the file says.");

    /// <summary>The digest is not the one that the caller named. Raised by Svsm.Simulator.Machine.</summary>
    public static readonly SvsmDiagnostic LaunchDigestMismatch = new(
        "SVSM6004",
        "The launch digest is not the expected one",
        "Build the image again, or take the digest file that belongs to it.");

    /// <summary>Policy, page or ID block. Raised by Svsm.Simulator.Machine.</summary>
    public static readonly SvsmDiagnostic LaunchRefused = new(
        "SVSM6005",
        "The security processor refuses the launch",
        "Correct the policy or the ID block of the image; the real one would refuse it as well.");

    /// <summary>Image, map, digest file or hypervisor. Raised by Svsm.Simulator.Machine.</summary>
    public static readonly SvsmDiagnostic RunFileUnreadable = new(
        "SVSM6006",
        "A file that the run needs cannot be read",
        "Correct the path; if it is the hypervisor, install the package Svsm.Simulator again.");

    /// <summary>A value outside its range. Raised by Svsm.Simulator.Machine.</summary>
    public static readonly SvsmDiagnostic RunOptionInvalid = new(
        "SVSM6007",
        "An option of the run has a value out of its range",
        "Correct the option.");

    /// <summary>All rows, by code.</summary>
    public static IReadOnlyList<SvsmDiagnostic> All { get; } =
        [.. typeof(SvsmDiagnostics).GetFields(BindingFlags.Public | BindingFlags.Static)
            .Select(field => field.GetValue(null))
            .OfType<SvsmDiagnostic>()
            .OrderBy(diagnostic => diagnostic.Code, System.StringComparer.Ordinal)];
}
