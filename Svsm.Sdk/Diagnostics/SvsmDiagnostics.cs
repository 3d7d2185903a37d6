// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Every SVSMnnnn message there is: for the tasks, the svsm tool, the simulator and the build files.
//
//   0xxx  environment and toolchain              4xxx  inputs of the image project
//   1xxx  native compilation and linking         5xxx  analyzers
//   2xxx  image and IGVM file                    6xxx  simulator and run
//   3xxx  measurement, ID block and attestation  7xxx  state that outlives a boot
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

    /// <summary>gcc, GNU ld or the static C library is not there. Raised by Svsm.Modules.targets.</summary>
    public static readonly SvsmDiagnostic CToolchainMissing = new(
        "SVSM0006",
        "The C toolchain that links modules could not be started",
        "Install the packages gcc and libc6-dev, or set the property SvsmCc to the program.");

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

    /// <summary>ilc refused the program of modules. Raised by Svsm.Modules.targets.</summary>
    public static readonly SvsmDiagnostic ModuleCompilationFailed = new(
        "SVSM1004",
        "The modules could not be compiled to native code",
        "The compiler's messages are above; mostly an assembly that a module needs is not there, or of another version than it was compiled against.");

    /// <summary>The link of the program of modules failed. Raised by Svsm.Modules.targets.</summary>
    public static readonly SvsmDiagnostic ModuleLinkFailed = new(
        "SVSM1005",
        "The modules could not be linked",
        "The linker's messages are above; an undefined reference is a native function that a module calls and that no module can have.");

    /// <summary>Kernel, guest payload or program of modules. Raised by Svsm.Builder.</summary>
    public static readonly SvsmDiagnostic ElfDamaged = new(
        "SVSM2001",
        "An ELF file is damaged",
        "Link it again; if it came from a package, delete the package from the package folder and restore it.");

    /// <summary>Kernel or guest payload. Raised by Svsm.Builder.</summary>
    public static readonly SvsmDiagnostic ElfUnsupported = new(
        "SVSM2002",
        "An ELF file is of a kind that an image cannot carry",
        "Link it as a static x86-64 executable: ld -m elf_x86_64 -static -no-pie.");

    /// <summary>Kernel or guest payload. Raised by Svsm.Builder.</summary>
    public static readonly SvsmDiagnostic SegmentMisaligned = new(
        "SVSM2003",
        "A segment does not start on a page boundary",
        "Align it to 4096 in the linker script.");

    /// <summary>Kernel. Raised by Svsm.Builder.</summary>
    public static readonly SvsmDiagnostic SegmentWritableAndExecutable = new(
        "SVSM2004",
        "A kernel segment is writable and executable",
        "Give code and data segments of their own in the linker script.");

    /// <summary>Kernel. Raised by Svsm.Builder.</summary>
    public static readonly SvsmDiagnostic SegmentMisplaced = new(
        "SVSM2005",
        "A kernel segment lies where the image has no place for it",
        "Move it in the linker script.");

    /// <summary>Kernel. Raised by Svsm.Builder.</summary>
    public static readonly SvsmDiagnostic SegmentsOverlap = new(
        "SVSM2006",
        "A kernel segment overlaps something else",
        "Move one of them in the linker script.");

    /// <summary>Kernel or guest payload. Raised by Svsm.Builder.</summary>
    public static readonly SvsmDiagnostic EntryInvalid = new(
        "SVSM2007",
        "An entry point is not in code",
        "Correct ENTRY, or the symbol, in the linker script.");

    /// <summary>Kernel. Raised by Svsm.Builder.</summary>
    public static readonly SvsmDiagnostic SymbolInvalid = new(
        "SVSM2008",
        "The kernel's symbols lack what the boot stub needs",
        "Define the symbol in the linker script or an assembly source, and do not strip the file.");

    /// <summary>Kernel. Raised by Svsm.Builder.</summary>
    public static readonly SvsmDiagnostic LowAreaFull = new(
        "SVSM2009",
        "The boot stub does not fit into the low area",
        "Make the stub smaller, or link it closer to the start of the low area.");

    /// <summary>Kernel and modules. Raised by Svsm.Builder.</summary>
    public static readonly SvsmDiagnostic RegionFull = new(
        "SVSM2010",
        "The kernel and its modules do not fit into their region",
        "Leave out modules, or lower their memory limits.");

    /// <summary>Guest payload. Raised by Svsm.Builder.</summary>
    public static readonly SvsmDiagnostic GuestMisplaced = new(
        "SVSM2011",
        "The guest payload lies where it cannot",
        "Link it elsewhere, for example at 0x100000.");

    /// <summary>Guest payload. Raised by Svsm.Builder.</summary>
    public static readonly SvsmDiagnostic TooManyGuestRanges = new(
        "SVSM2012",
        "The guest's memory is in too many pieces",
        "Link the payload's segments next to each other.");

    /// <summary>Any option. Raised by Svsm.Builder.</summary>
    public static readonly SvsmDiagnostic ImageOptionInvalid = new(
        "SVSM2013",
        "An option of the image has a value that is not possible",
        "Correct the option.");

    /// <summary>Any option. Raised by Svsm.Builder.</summary>
    public static readonly SvsmDiagnostic HostRefusesImage = new(
        "SVSM2014",
        "The host would refuse the image",
        "Choose another host flavour, or leave out what this one does not have.");

    /// <summary>Reading inputs, writing outputs. Raised by Svsm.Builder.</summary>
    public static readonly SvsmDiagnostic ImageFileFailed = new(
        "SVSM2015",
        "A file of the image cannot be read or written",
        "Check that the path exists and that its permissions and free space suffice.");

    /// <summary>Files of any origin. Raised by the svsm tool.</summary>
    public static readonly SvsmDiagnostic IgvmFileDamaged = new(
        "SVSM2016",
        "An IGVM file is damaged",
        "Build it again, or take another copy.");

    /// <summary>Files of any origin. Raised by the svsm tool.</summary>
    public static readonly SvsmDiagnostic DigestFileDamaged = new(
        "SVSM2017",
        "A digest file cannot be used",
        "Build the image again, or give the digest itself.");

    /// <summary>The kernel of a Linux guest. Raised by Svsm.Builder.</summary>
    public static readonly SvsmDiagnostic LinuxKernelDamaged = new(
        "SVSM2018",
        "A Linux kernel is damaged, or is none",
        "Give the bzImage, which distributions install as /boot/vmlinuz-VERSION.");

    /// <summary>The kernel of a Linux guest. Raised by Svsm.Builder.</summary>
    public static readonly SvsmDiagnostic LinuxKernelUnsupported = new(
        "SVSM2019",
        "A Linux kernel is of a kind that an image cannot start",
        "Use a 64-bit, relocatable kernel of version 6.11 or later.");

    /// <summary>Kernel or initial RAM disk of a Linux guest. Raised by Svsm.Builder.</summary>
    public static readonly SvsmDiagnostic LinuxGuestTooLarge = new(
        "SVSM2020",
        "A Linux guest does not fit into the memory that the image has for it",
        "Make the initial RAM disk smaller, or use a kernel with less built in.");

    /// <summary>The command line of a Linux guest. Raised by Svsm.Builder.</summary>
    public static readonly SvsmDiagnostic LinuxCommandLineInvalid = new(
        "SVSM2021",
        "The command line of a Linux guest cannot be handed over",
        "Shorten it, and use printable ASCII characters only.");

    /// <summary>The firmware. Raised by Svsm.Builder.</summary>
    public static readonly SvsmDiagnostic FirmwareDamaged = new(
        "SVSM2022",
        "A firmware file is damaged, or is none",
        "Give the complete file of an OVMF build for x64, such as OVMF.fd; if it is that file, copy it again.");

    /// <summary>The firmware. Raised by Svsm.Builder.</summary>
    public static readonly SvsmDiagnostic FirmwareUnsupported = new(
        "SVSM2023",
        "A firmware cannot run below this SVSM",
        "Use a build of edk2-stable202511 or later, for example OVMF.fd of Debian's package ovmf-generic.");

    /// <summary>The firmware. Raised by Svsm.Builder.</summary>
    public static readonly SvsmDiagnostic FirmwareMisplaced = new(
        "SVSM2024",
        "A firmware wants memory that something else has",
        "Use another host flavour, or a build of the firmware with other addresses.");

    /// <summary>A module. Raised by Svsm.Builder.</summary>
    public static readonly SvsmDiagnostic ModuleOptionInvalid = new(
        "SVSM2025",
        "A module of the image is described in a way that is not possible",
        "Correct the module, or the property or item of the project that says this of it.");

    /// <summary>Modules. Raised by Svsm.Builder.</summary>
    public static readonly SvsmDiagnostic ProtocolTaken = new(
        "SVSM2026",
        "Two modules serve the same protocol",
        "Reference one of them only, or give a module of your own a protocol number that nobody has.");

    /// <summary>The program of modules. Raised by Svsm.Builder.</summary>
    public static readonly SvsmDiagnostic ModuleProgramUnusable = new(
        "SVSM2027",
        "No process can be made from the program of modules",
        "Leave out link options of your own; if there are none, report the versions of gcc and binutils.");

    /// <summary>A warning: nobody has seen an image for this host run. Raised by Svsm.Sdk.Tasks.</summary>
    public static readonly SvsmDiagnostic HostNeverSeen = new(
        "SVSM2030",
        "No image for this host has been started yet",
        "Take the file for reviews and comparisons only, or leave the host out of SvsmHostFlavours.");

    /// <summary>Key, family id, image id. Raised by Svsm.Builder and the svsm tool.</summary>
    public static readonly SvsmDiagnostic IdBlockFailed = new(
        "SVSM3001",
        "The ID block cannot be made",
        "Use unencrypted EC private keys on curve P-384 in PEM form, and ids of 16 bytes.");

    /// <summary>Files of any origin. Raised by Svsm.Builder and the svsm tool.</summary>
    public static readonly SvsmDiagnostic MeasurementFailed = new(
        "SVSM3002",
        "The launch digest cannot be computed",
        "Use an image for SEV-SNP and this host, and a number of vCPUs that it can have.");

    /// <summary>No attestation report. Raised by Svsm.Attestation.</summary>
    public static readonly SvsmDiagnostic ReportDamaged = new(
        "SVSM3101",
        "An attestation report cannot be read",
        "Take the report as the guest gave it, for example the file outblob of Linux.");

    /// <summary>Certificates of a chip. Raised by Svsm.Attestation.</summary>
    public static readonly SvsmDiagnostic CertificatesUnusable = new(
        "SVSM3102",
        "The certificates of a chip cannot be used",
        "Take the certificates that came with the report, or ask AMD's key distribution service for those of its chip and TCB.");

    /// <summary>Certificates of a chip. Raised by Svsm.Attestation.</summary>
    public static readonly SvsmDiagnostic RootNotTrusted = new(
        "SVSM3103",
        "The certificates do not lead to the trusted root",
        "Do not trust the report. If the chip is of another generation, get the root of that one from AMD.");

    /// <summary>Certificates of a chip. Raised by Svsm.Attestation.</summary>
    public static readonly SvsmDiagnostic CertificateChainBroken = new(
        "SVSM3104",
        "The certificates are no chain of a chip",
        "Do not trust the report. If a certificate has expired, ask AMD's key distribution service for a new one.");

    /// <summary>A report. Raised by Svsm.Attestation.</summary>
    public static readonly SvsmDiagnostic ReportSignatureWrong = new(
        "SVSM3105",
        "The signature of an attestation report is wrong",
        "Do not trust the report. If it comes from a file, take it and its certificates again.");

    /// <summary>A report. Raised by Svsm.Attestation.</summary>
    public static readonly SvsmDiagnostic ChipUnexpected = new(
        "SVSM3106",
        "The certificate of the chip is for another chip or another TCB",
        "Ask AMD's key distribution service for the certificate of this chip id and this reported TCB.");

    /// <summary>A report. Raised by Svsm.Attestation.</summary>
    public static readonly SvsmDiagnostic LaunchDigestUnexpected = new(
        "SVSM3107",
        "The guest was launched from another image",
        "Do not trust the guest. If the image was built again, take the reference values of that build.");

    /// <summary>A report. Raised by Svsm.Attestation.</summary>
    public static readonly SvsmDiagnostic PolicyUnexpected = new(
        "SVSM3108",
        "The guest policy is not the expected one",
        "Do not trust the guest: have it launched with the policy of the image, which must not allow debugging.");

    /// <summary>A report. Raised by Svsm.Attestation.</summary>
    public static readonly SvsmDiagnostic ReportVmplUnexpected = new(
        "SVSM3109",
        "The report is about another VMPL",
        "Have the guest ask the SVSM for the report, not the security processor.");

    /// <summary>A report. Raised by Svsm.Attestation.</summary>
    public static readonly SvsmDiagnostic IdentityUnexpected = new(
        "SVSM3110",
        "The identity of the guest is not the expected one",
        "Have the guest launched with the ID block of the image; for a file that was signed later, give the file itself.");

    /// <summary>A report. Raised by Svsm.Attestation.</summary>
    public static readonly SvsmDiagnostic ReportDataUnexpected = new(
        "SVSM3111",
        "The report is not for this nonce and this manifest",
        "Ask again with a new nonce, and take report and manifest of the same answer.");

    /// <summary>A manifest. Raised by Svsm.Attestation.</summary>
    public static readonly SvsmDiagnostic ManifestDamaged = new(
        "SVSM3112",
        "A manifest of services cannot be read",
        "Take the manifest as the guest gave it, for example the file manifestblob of Linux.");

    /// <summary>Reference values. Raised by Svsm.Attestation.</summary>
    public static readonly SvsmDiagnostic ReferenceValuesUnusable = new(
        "SVSM3113",
        "Reference values cannot be used",
        "Give the file NAME.reference-values.json that the build has written beside the image.");

    /// <summary>A SvsmModule item without an assembly. Raised by Svsm.Builder.</summary>
    public static readonly SvsmDiagnostic ModuleAssemblyMissing = new(
        "SVSM4001",
        "The assembly of a module is not there",
        "Reference the module's package or project.");

    /// <summary>A property that cannot have its value. Raised by the task WriteSvsmImage.</summary>
    public static readonly SvsmDiagnostic PropertyInvalid = new(
        "SVSM4003",
        "A property of the image project has a value that it cannot have",
        "Correct the property in the project.");

    /// <summary>Properties for two guests, or for parts of one that is not there. Raised by the task WriteSvsmImage.</summary>
    public static readonly SvsmDiagnostic GuestPropertiesContradict = new(
        "SVSM4004",
        "Properties of the image project describe no guest together",
        "Set SvsmGuest, or SvsmGuestKernel with what belongs to it, or one SvsmFirmware item.");

    /// <summary>The class that a SvsmModule item names. Raised by Svsm.Builder.</summary>
    public static readonly SvsmDiagnostic ModuleClassUnusable = new(
        "SVSM4005",
        "The class of a module cannot be used",
        "Correct the class, or the metadata Type of the item.");

    /// <summary>Metadata of a SvsmModule item. Raised by Svsm.Sdk.Tasks.</summary>
    public static readonly SvsmDiagnostic ModuleMetadataInvalid = new(
        "SVSM4006",
        "A module of the image project has metadata that it cannot have",
        "Correct the item: <SvsmModule Update=\"...\" Name=\"value\" />.");

    /// <summary>A P/Invoke that the program of modules lacks. Raised by the task CheckModuleCode.</summary>
    public static readonly SvsmDiagnostic NativeCodeReached = new(
        "SVSM4007",
        "A module reaches native code that no module can have",
        "Use managed code in its place.");

    /// <summary>Metadata of a SvsmFile item, or several items together. Raised by Svsm.Builder and Svsm.Sdk.Tasks.</summary>
    public static readonly SvsmDiagnostic ModuleFileInvalid = new(
        "SVSM4008",
        "A file for modules cannot be what its item says",
        "Correct the item: <SvsmFile Include=\"...\" Path=\"/folder/name\" Module=\"...\" />.");

    /// <summary>A SvsmSecureBootKey item, or several together. Raised by Svsm.Builder and Svsm.Sdk.Tasks.</summary>
    public static readonly SvsmDiagnostic SecureBootKeyInvalid = new(
        "SVSM4009",
        "A key for secure boot cannot be what its item says",
        "Correct the item: <SvsmSecureBootKey Include=\"...\" Variable=\"PK\" />.");

    /// <summary>A SvsmMigrationPeer or SvsmMigrationRoot item, or all of them together. Raised by Svsm.Builder and Svsm.Sdk.Tasks.</summary>
    public static readonly SvsmDiagnostic MigrationPolicyInvalid = new(
        "SVSM4010",
        "The migration policy cannot be what its items say",
        "Correct the items: <SvsmMigrationPeer Include=\"...\" FamilyId=\"...\" MinimumSvn=\"...\" />, <SvsmMigrationRoot Include=\"...\" MinimumTcb=\"...\" />.");

    /// <summary>The module of migration without a policy. Raised by Svsm.Builder.</summary>
    public static readonly SvsmDiagnostic MigrationPolicyMissing = new(
        "SVSM4011",
        "An image with migration does not say with whom",
        "Add SvsmMigrationPeer items and a SvsmMigrationRoot item, or leave out the package Svsm.Modules.Migration.");

    /// <summary>A warning: an identity or guest policy that no other image accepts. Raised by Svsm.Sdk.Tasks.</summary>
    public static readonly SvsmDiagnostic MigrationPeerImpossible = new(
        "SVSM4012",
        "No other image will move a guest to or from this one",
        "Set SvsmIdKeyFile and SvsmAuthorKeyFile, or sign the image afterwards with 'svsm sign', and use a SvsmGuestPolicy without debugging.");

    /// <summary>A call whose result says whether it worked, as a statement. Raised by Svsm.Core.Analyzers.</summary>
    public static readonly SvsmDiagnostic ResultIgnored = new(
        "SVSM5001",
        "A result is ignored",
        "Test the result, or write '_ =' and say why.");

    /// <summary>A value of a type marked [Owner] that nobody gives back. Raised by Svsm.Core.Analyzers.</summary>
    public static readonly SvsmDiagnostic OwnerLeaks = new(
        "SVSM5002",
        "An owner is neither disposed nor handed on",
        "Declare it with 'using', call Dispose, Move or Release, return it, or pass it on.");

    /// <summary>A class, an array, a box or a capturing lambda in freestanding code. Raised by Svsm.Core.Analyzers.</summary>
    public static readonly SvsmDiagnostic AllocationOutsideOfBoot = new(
        "SVSM5003",
        "An object is allocated outside of boot",
        "Use a value, or an owner of memory from an allocator; mark the method [Boot] if it runs once while booting.");

    /// <summary>Pointers without a SAFETY comment. Raised by Svsm.Core.Analyzers.</summary>
    public static readonly SvsmDiagnostic UnsafeWithoutSafety = new(
        "SVSM5004",
        "Unsafe code does not say why it is safe",
        "Write a comment 'SAFETY:' above the code, above the member, or once for the type.");

    /// <summary>What is marked [Secret], compared by == or SequenceEqual. Raised by Svsm.Core.Analyzers.</summary>
    public static readonly SvsmDiagnostic SecretCompared = new(
        "SVSM5005",
        "A secret is compared in a time that depends on it",
        "Compare all bytes with OR and XOR, and look at the sum once.");

    /// <summary>Threads, timers, time of day, files and their like in a module's project. Raised by Svsm.Core.Analyzers.</summary>
    public static readonly SvsmDiagnostic NotInAModule = new(
        "SVSM5006",
        "A module uses what it does not have",
        "Do without it; suppress the message for code that no module runs.");

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

    /// <summary>Image, map, digest file, hypervisor, or the temporary file with the launch. Raised by Svsm.Simulator.Machine.</summary>
    public static readonly SvsmDiagnostic RunFileUnreadable = new(
        "SVSM6006",
        "A file that the run needs cannot be read or written",
        "Correct the path; if it is the hypervisor, install the package Svsm.Simulator again.");

    /// <summary>A value outside its range. Raised by Svsm.Simulator.Machine.</summary>
    public static readonly SvsmDiagnostic RunOptionInvalid = new(
        "SVSM6007",
        "An option of the run has a value out of its range",
        "Correct the option.");

    /// <summary>No TPM, one that is there already, or a state that cannot be used. Raised by svsm tpm.</summary>
    public static readonly SvsmDiagnostic TpmStateUnusable = new(
        "SVSM6008",
        "The state of the virtual TPM cannot be used as asked",
        "Name another folder; 'svsm tpm manufacture' makes a TPM where there is none.");

    /// <summary>A port or path that nobody can listen on. Raised by svsm tpm serve.</summary>
    public static readonly SvsmDiagnostic TpmAddressUnusable = new(
        "SVSM6009",
        "The virtual TPM cannot be served there",
        "Name another port or path, or end the process that has it.");

    /// <summary>Not a kernel that can be started without firmware. Raised by Svsm.Simulator.Machine.</summary>
    public static readonly SvsmDiagnostic GuestKernelRefused = new(
        "SVSM6010",
        "The Linux kernel cannot be booted",
        "Take the kernel of a distribution for x86-64, as it is in /boot.");

    /// <summary>Not an initial RAM disk, or one that is too large. Raised by Svsm.Simulator.Machine.</summary>
    public static readonly SvsmDiagnostic InitialRamDiskRefused = new(
        "SVSM6011",
        "The initial RAM disk cannot be booted",
        "Pack it again as a cpio archive of format 'newc', or give the guest more memory.");

    /// <summary>No attack has this name. Raised by Svsm.Simulator.Machine.</summary>
    public static readonly SvsmDiagnostic AttackUnknown = new(
        "SVSM6020",
        "There is no such attack",
        "Take a name from the list in docs/hostile-host.md, and a decimal number as the seed.");

    /// <summary>A port that nobody can listen on. Raised by Svsm.Simulator.Machine.</summary>
    public static readonly SvsmDiagnostic GdbPortUnusable = new(
        "SVSM6021",
        "This port cannot serve gdb",
        "Name another port, or end the process that has it.");

    /// <summary>The process of a module ended or broke the rules of its channel. Raised by svsm module.</summary>
    public static readonly SvsmDiagnostic ModuleProcessFailed = new(
        "SVSM6022",
        "The module's process failed",
        "Read the module's log, which is above; exit status 127 means that the program has no module of that class.");

    /// <summary>No such file, one that is there already, a full disk, a file that another process has. Raised by svsm store.</summary>
    public static readonly SvsmDiagnostic StoreFileFailed = new(
        "SVSM7001",
        "The file of a store cannot be read or written",
        "Correct the path, or end the machine that has the file.");

    /// <summary>Neither 32 bytes nor 64 digits. Raised by svsm store.</summary>
    public static readonly SvsmDiagnostic StoreKeyUnreadable = new(
        "SVSM7002",
        "A file has no key of a store",
        "Name the file with the key: 32 random bytes, or 64 hexadecimal digits.");

    /// <summary>The key is not that of the store. Raised by svsm store.</summary>
    public static readonly SvsmDiagnostic StoreKeyWrong = new(
        "SVSM7003",
        "A store has another key",
        "Name the key with which the store was made; without it nobody can read it.");

    /// <summary>Something is not what was written. Raised by svsm store.</summary>
    public static readonly SvsmDiagnostic StoreDamaged = new(
        "SVSM7004",
        "A store is damaged",
        "Go back to a copy of the file; docs/store-format.md says what damage costs.");

    /// <summary>Older than the wanted version, or of another history. Raised by svsm store.</summary>
    public static readonly SvsmDiagnostic StoreNotCurrent = new(
        "SVSM7005",
        "A store is not what the wanted version has become",
        "Find out who put the older file there, or which machine has written to a copy of it.");

    /// <summary>A superblock of another version. Raised by svsm store.</summary>
    public static readonly SvsmDiagnostic StoreVersionUnknown = new(
        "SVSM7006",
        "A store has a format of another version",
        "Take the svsm tool of the release that made the store.");

    /// <summary>The end of the file is missing. Raised by svsm store.</summary>
    public static readonly SvsmDiagnostic StoreTruncated = new(
        "SVSM7007",
        "A file is shorter than the store in it",
        "Go back to a whole copy of the file.");

    /// <summary>Zero, or too short. Raised by svsm store.</summary>
    public static readonly SvsmDiagnostic StoreMissing = new(
        "SVSM7008",
        "A file has no store",
        "Make a store with 'svsm store create'; nothing else ever makes one in silence.");

    /// <summary>Too small, too large, not a multiple of a block, or smaller than it is. Raised by svsm store.</summary>
    public static readonly SvsmDiagnostic StoreSizeInvalid = new(
        "SVSM7009",
        "A store cannot have this size",
        "Give another --size; a store never becomes smaller.");

    /// <summary>A record of the namespace of variables that is none. Raised by svsm vars.</summary>
    public static readonly SvsmDiagnostic StoredVariablesUnknown = new(
        "SVSM7010",
        "A store has variables of another version",
        "Take the svsm tool of the release that wrote them.");

    /// <summary>No variable of this name, or several. Raised by svsm vars.</summary>
    public static readonly SvsmDiagnostic VariableNotFound = new(
        "SVSM7011",
        "A store has no such variable",
        "'svsm vars list' shows names and GUIDs; name the GUID with --guid.");

    /// <summary>Attributes, size, contents, a file of variables that is none. Raised by svsm vars.</summary>
    public static readonly SvsmDiagnostic VariableInvalid = new(
        "SVSM7012",
        "A variable cannot be stored as asked",
        "Correct what the message names; docs/uefi-variables.md says what a variable may be.");

    /// <summary>No room in the store, or in one commit. Raised by svsm vars.</summary>
    public static readonly SvsmDiagnostic StoreFull = new(
        "SVSM7013",
        "A store has no room for a change",
        "Make the store larger with 'svsm store resize', or change less at a time.");

    /// <summary>The mark of a store whose guest has left. Raised by svsm store and svsm vars.</summary>
    public static readonly SvsmDiagnostic StoreMoved = new(
        "SVSM7014",
        "A store's guest is at another SVSM",
        "Use the disk of the machine that has the guest now; a new guest gets a new store.");

    /// <summary>No PEM, no private key, another curve. Raised by svsm keys.</summary>
    public static readonly SvsmDiagnostic BrokerKeyUnusable = new(
        "SVSM7050",
        "A file has no key of a broker",
        "Make one: openssl ecparam -name secp384r1 -genkey -noout -out FILE.");

    /// <summary>No such folder, or another broker has it. Raised by svsm keys.</summary>
    public static readonly SvsmDiagnostic BrokerStateUnusable = new(
        "SVSM7051",
        "The folder of a broker cannot be used",
        "Correct the path, or end the other broker.");

    /// <summary>A URL or socket that is taken or cannot be had. Raised by svsm keys.</summary>
    public static readonly SvsmDiagnostic BrokerAddressUnusable = new(
        "SVSM7052",
        "The broker or its proxy cannot listen there",
        "Give an address that is free and that the user may have.");

    /// <summary>A secret must not be lost under a new one. Raised by svsm keys.</summary>
    public static readonly SvsmDiagnostic BrokerFileFailed = new(
        "SVSM7053",
        "The file of a broker cannot be written",
        "Correct the path; a secret that is there already is never replaced.");

    /// <summary>No socket, or nobody listens. Raised by svsm migrate.</summary>
    public static readonly SvsmDiagnostic MigrationMachineUnreachable = new(
        "SVSM7101",
        "The machine of a migration cannot be reached",
        "Start the machine with --migration-source or --migration-target, and give the same socket.");

    /// <summary>The connection ended, or nothing was taken for too long. Raised by svsm migrate.</summary>
    public static readonly SvsmDiagnostic MigrationMachineGone = new(
        "SVSM7102",
        "The machine of a migration has gone away",
        "See whether the machine still runs; the last lines say where the guest is.");

    /// <summary>No frame, or one that is not due. Raised by svsm migrate.</summary>
    public static readonly SvsmDiagnostic MigrationMachineMalformed = new(
        "SVSM7103",
        "The machine of a migration says what it cannot say",
        "Give the socket of a machine's migration channel, of a machine of this release.");

    /// <summary>Nobody there, or not again. Raised by svsm migrate.</summary>
    public static readonly SvsmDiagnostic MigrationPeerUnreachable = new(
        "SVSM7104",
        "The other relay of a migration cannot be reached",
        "Start 'svsm migrate receive' first, and see that the network lets both hosts talk; --retry tries for longer.");

    /// <summary>Another program, another version, or an attack. Raised by svsm migrate.</summary>
    public static readonly SvsmDiagnostic MigrationPeerMalformed = new(
        "SVSM7105",
        "The other relay of a migration says what it cannot say",
        "Give the address of 'svsm migrate receive', with the tool of the same release on both hosts.");

    /// <summary>Taken, or not this host's. Raised by svsm migrate receive.</summary>
    public static readonly SvsmDiagnostic MigrationAddressUnusable = new(
        "SVSM7106",
        "The relay of a migration cannot listen there",
        "Give an address of this host with a port that is free and that the user may have.");

    /// <summary>Not to be read, or damaged. Raised by svsm migrate receive.</summary>
    public static readonly SvsmDiagnostic MigrationReleaseUnusable = new(
        "SVSM7107",
        "A file has no release of a migration",
        "Give the file that 'svsm migrate send' has named; its copy must be whole.");

    /// <summary>Something is there, or the folder is not. Raised by svsm migrate send.</summary>
    public static readonly SvsmDiagnostic MigrationReleaseNotWritten = new(
        "SVSM7108",
        "The release of a migration cannot be written",
        "Give another --release, in a folder that can be written; a file that is there may be the only way to a guest, and is never replaced.");

    /// <summary>One sender at a time. Raised by svsm migrate send.</summary>
    public static readonly SvsmDiagnostic MigrationSessionRefused = new(
        "SVSM7109",
        "The receiving relay has another sender",
        "End the other sender, or start 'svsm migrate receive' anew.");

    /// <summary>Not given, or not taken. Raised by svsm migrate.</summary>
    public static readonly SvsmDiagnostic MigrationStateFailed = new(
        "SVSM7110",
        "The state of the hypervisor was not handed over",
        "Mend what the machine names, and bring the release to the target with 'svsm migrate receive --release FILE'.");

    /// <summary>Another state than 6. Raised by svsm migrate receive.</summary>
    public static readonly SvsmDiagnostic MigrationTargetNotHeld = new(
        "SVSM7111",
        "The target does not wait for a release",
        "Give the socket of the target that shows state 6, and the release of the same migration.");

    /// <summary>No notice in time. Raised by svsm migrate.</summary>
    public static readonly SvsmDiagnostic MigrationSvsmSilent = new(
        "SVSM7112",
        "The SVSM of a migration does not answer",
        "See that its image has the module of migration and a policy; the machine's log says what the SVSM makes of it.");

    /// <summary>A loop of a relay has ended with an exception that is none of the others. Raised by svsm migrate.</summary>
    public static readonly SvsmDiagnostic MigrationRelayFailed = new(
        "SVSM7113",
        "The relay of a migration has failed",
        "The last lines say where the guest is; a new relay goes on from there. Report what was seen, it is a fault of the tool.");

    /// <summary>All rows, by code.</summary>
    public static IReadOnlyList<SvsmDiagnostic> All { get; } =
        [.. typeof(SvsmDiagnostics).GetFields(BindingFlags.Public | BindingFlags.Static)
            .Select(field => field.GetValue(null))
            .OfType<SvsmDiagnostic>()
            .OrderBy(diagnostic => diagnostic.Code, System.StringComparer.Ordinal)];
}
