// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using System.IO;
using System.Threading;
using Svsm.Simulator.Shared;
using Svsm.Wire;

namespace Svsm.Simulator;

/// <summary>Single events of a run.</summary>
[Flags]
public enum TraceKinds
{
    /// <summary>None.</summary>
    None = 0,

    /// <summary>Every exit to the hypervisor.</summary>
    Exits = (int)LaunchOptions.TraceExits,

    /// <summary>PVALIDATE, RMPADJUST, and pages that change between private and shared.</summary>
    Rmp = (int)LaunchOptions.TraceRmp,

    /// <summary>Requests by GHCB and their answers.</summary>
    Ghcb = (int)LaunchOptions.TraceGhcb,
}

/// <summary>What to run, and on what machine.</summary>
public sealed record MachineOptions
{
    /// <summary>Most vCPUs.</summary>
    public const int MaxVcpuCount = (int)LaunchHeader.MaxVcpuCount;

    /// <summary>Bytes of <see cref="HostData"/>.</summary>
    public const int HostDataLength = GuestContext.HostDataLength;

    /// <summary>Least guest RAM in MiB: a QEMU-flavoured image ends at 144 MiB.</summary>
    public const int MinMemoryMiB = 160;

    /// <summary>Most virtio devices of PCI: those whose interrupts the guest's ACPI tables describe.</summary>
    public const int MaxDeviceCount = AcpiDefinitions.SlotCount;

    /// <summary>Most disks of the SVSM.</summary>
    public const int MaxSvsmDiskCount = MachinePorts.MaxHostDevices;

    /// <summary>Most guest RAM in MiB.</summary>
    public const int MaxMemoryMiB = 64 * 1024;

    /// <summary>The IGVM file; null when <see cref="GuestKernelPath"/> is given.</summary>
    public string? ImagePath { get; init; }

    /// <summary>A Linux kernel that runs as a plain SNP guest at VMPL0, without image and firmware; null when <see cref="ImagePath"/> is given.</summary>
    public string? GuestKernelPath { get; init; }

    /// <summary>The kernel's initial RAM disk; null = none.</summary>
    public string? InitialRamDiskPath { get; init; }

    /// <summary>The kernel's command line.</summary>
    public string KernelCommandLine { get; init; } = "";

    /// <summary>
    /// The hypervisor, an ELF file that QEMU loads by multiboot. By default <c>hypervisor.elf</c> beside the running program.
    /// </summary>
    public string HypervisorPath { get; init; } = Path.Combine(AppContext.BaseDirectory, "hypervisor.elf");

    /// <summary>
    /// QEMU: a path, or a name that is looked up in <c>PATH</c>. When null, the environment variable <c>SVSM_QEMU</c>, or else
    /// <c>qemu-system-x86_64</c>.
    /// </summary>
    public string? QemuPath { get; init; }

    /// <summary>Symbols of the SVSM's kernel, one <c>0xADDRESS name</c> per line. When null, the image's path with the extension <c>.map</c>, if that exists.</summary>
    public string? MapPath { get; init; }

    /// <summary>The launch digest that the image must have, 48 bytes; null = any.</summary>
    public ReadOnlyMemory<byte>? ExpectedDigest { get; init; }

    /// <summary>Number of vCPUs, 1 to <see cref="MaxVcpuCount"/>.</summary>
    public int VcpuCount { get; init; } = 1;

    /// <summary>Guest RAM in MiB, <see cref="MinMemoryMiB"/> to <see cref="MaxMemoryMiB"/>. The host needs twice as much if the guest uses it all.</summary>
    public int MemoryMiB { get; init; } = 256;

    /// <summary>The run is stopped after this time. <see cref="Timeout.InfiniteTimeSpan"/> = never.</summary>
    public TimeSpan Timeout { get; init; } = System.Threading.Timeout.InfiniteTimeSpan;

    /// <summary>Time-stamp ticks are executed instructions (<c>-icount shift=0,sleep=off</c>): counters repeat exactly from run to run, and the run is slower.</summary>
    public bool CountInstructions { get; init; }

    /// <summary>
    /// When a vCPU's turn ends and whose is next is drawn from this seed: after one instruction or up to a millisecond. With
    /// <see cref="CountInstructions"/> the run repeats. When null, a turn lasts a millisecond.
    /// </summary>
    public ulong? TurnSeed { get; init; }

    /// <summary>
    /// The vCPUs run at the same time, each in a thread of QEMU, instead of in turns: races are real, and no run repeats. Not with
    /// <see cref="CountInstructions"/>, <see cref="TurnSeed"/> or <see cref="GdbPort"/>.
    /// </summary>
    public bool Threads { get; init; }

    /// <summary>The host offers VMPL0 only, as a stock Linux host does: an SVSM cannot start its guest there.</summary>
    public bool SingleVmpl { get; init; }

    /// <summary>
    /// Folder of the simulated chip that signs attestation reports: its certificates <c>ark.pem</c>, <c>ask.pem</c> and <c>vcek.pem</c>, and its
    /// keys. Made when a guest needs it and it does not exist. When null, <c>svsm-simulator/chip</c> in the user's cache
    /// (<c>XDG_CACHE_HOME</c>, or else <c>~/.cache</c>).
    /// </summary>
    public string? ChipFolder { get; init; }

    /// <summary>Version of attestation reports: 2, 3 or 5.</summary>
    public int ReportVersion { get; init; } = AttestationReport.DefaultVersion;

    /// <summary>HOST_DATA of the launch: <see cref="HostDataLength"/> bytes, which reports have, by which an owner tells VMs apart. By default all zero.</summary>
    public ReadOnlyMemory<byte> HostData { get; init; } = new byte[HostDataLength];

    /// <summary>Disks of the guest, virtio devices of PCI from slot 2 on; with <see cref="Network"/> at most <see cref="MaxDeviceCount"/> devices.</summary>
    public IReadOnlyList<MachineDisk> Disks { get; init; } = [];

    /// <summary>
    /// Disks of the SVSM, at most <see cref="MaxSvsmDiskCount"/>: virtio-mmio devices of version 2, which the machine plays, at 0xFEF0_0000 and every 4 KiB
    /// from there on. A class derived from <see cref="SvsmDisk"/> is a hostile disk.
    /// </summary>
    public IReadOnlyList<SvsmDisk> SvsmDisks { get; init; } = [];

    /// <summary>
    /// The channel of the SVSM: a Unix socket that somebody listens on, such as <c>svsm keys proxy</c>. It is a virtio console behind the disks of the SVSM, and
    /// counts with them. Null = there is none.
    /// </summary>
    public string? SvsmChannel { get; init; }

    /// <summary>
    /// The channel of a migration: a virtio console of the SVSM at 0xFEF0_4000 for the source, 0xFEF0_5000 for the target, whose other end is a Unix socket
    /// that the machine listens on. Null = there is none.
    /// </summary>
    public MachineMigration? Migration { get; init; }

    /// <summary>A network card of the guest, the virtio device of PCI behind the disks; null = none.</summary>
    public MachineNetwork? Network { get; init; }

    /// <summary>
    /// What has been typed at the serial port (COM1) before the guest starts, at most 4096 bytes of UTF-8; a line ends with a line feed. Whether the guest
    /// reads it is its own affair.
    /// </summary>
    public string Typed { get; init; } = "";

    /// <summary>What a hostile host does during the run.</summary>
    public IReadOnlyList<Attack> Attacks { get; init; } = [];

    /// <summary>What to write a line about, to <see cref="Output"/>.</summary>
    public TraceKinds Trace { get; init; }

    /// <summary>
    /// TCP port of this PC at which gdb is served (<c>target remote</c>); 0 = one that is free; null = none. With a port the guest waits for the
    /// debugger before its first instruction.
    /// </summary>
    public int? GdbPort { get; init; }

    /// <summary>Receives lines about the start: how far it is; null = nowhere.</summary>
    public TextWriter? Progress { get; init; }

    /// <summary>Receives console lines while the machine runs, each with its source in front; null = nowhere.</summary>
    public TextWriter? Output { get; init; }

    // A test decides when the time is up.
    internal TimeProvider TimeProvider { get; init; } = TimeProvider.System;

    internal int SvsmDeviceCount => SvsmDisks.Count + (SvsmChannel is null ? 0 : 1);
}
