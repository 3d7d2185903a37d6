// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// How the machine tells the hypervisor what to launch: one blob, handed over as the multiboot module 0.
// For the machine (host side, writes it) and the hypervisor (freestanding, reads it). Both are parts of the simulator,
// of one version: the version number only catches a mixed-up file.
//
//   LaunchHeader | LaunchRam x RamCount | LaunchPage x PageCount | LaunchAttack x AttackCount | LaunchItem x ItemCount
//   | padding to 4096 | page data, data of the items
//
// The machine plays the VMM and the security processor: it has read the IGVM file, filled parameter pages,
// made the secrets page and computed the launch digest. The hypervisor plays the host kernel and the processor:
// it puts pages into private memory, sets the RMP, fills in the values of the CPUID pages and runs the vCPUs.

using System.Runtime.InteropServices;

namespace Svsm.Simulator.Shared;

/// <summary>Head of the launch blob. 72 bytes.</summary>
[StructLayout(LayoutKind.Explicit, Size = 72)]
public struct LaunchHeader
{
    /// <summary>"SVSMLNCH".</summary>
    public const ulong MagicValue = 0x4843_4E4C_4D53_5653;

    /// <summary>The version of this layout.</summary>
    public const uint CurrentVersion = 5;

    /// <summary>Most vCPUs that the hypervisor runs.</summary>
    public const uint MaxVcpuCount = 64;

    /// <summary>Most <see cref="LaunchRam"/> entries that the hypervisor takes.</summary>
    public const uint MaxRamCount = 32;

    /// <summary>Most <see cref="LaunchAttack"/> entries that the hypervisor takes, at launch and later.</summary>
    public const uint MaxAttackCount = 64;

    /// <summary>Most <see cref="LaunchItem"/> entries that the hypervisor takes.</summary>
    public const uint MaxItemCount = 32;

    /// <summary><see cref="MagicValue"/>.</summary>
    [FieldOffset(0x00)]
    public ulong Magic;

    /// <summary><see cref="CurrentVersion"/>.</summary>
    [FieldOffset(0x08)]
    public uint Version;

    /// <summary>Number of vCPUs.</summary>
    [FieldOffset(0x0C)]
    public uint VcpuCount;

    /// <summary>Number of <see cref="LaunchRam"/> entries.</summary>
    [FieldOffset(0x10)]
    public uint RamCount;

    /// <summary>Number of <see cref="LaunchPage"/> entries.</summary>
    [FieldOffset(0x14)]
    public uint PageCount;

    /// <summary>Switches of the run.</summary>
    [FieldOffset(0x18)]
    public LaunchOptions Options;

    /// <summary>Number of <see cref="LaunchAttack"/> entries.</summary>
    [FieldOffset(0x1C)]
    public uint AttackCount;

    /// <summary>Byte offset of the page data in the blob, a multiple of 4096.</summary>
    [FieldOffset(0x20)]
    public ulong DataOffset;

    /// <summary>Length of the whole blob in bytes.</summary>
    [FieldOffset(0x28)]
    public ulong TotalLength;

    /// <summary>Guest policy, as the launch was started with.</summary>
    [FieldOffset(0x30)]
    public ulong Policy;

    /// <summary>What turns are drawn from (<see cref="LaunchOptions.DrawTurns"/>).</summary>
    [FieldOffset(0x38)]
    public ulong TurnSeed;

    /// <summary>Number of <see cref="LaunchItem"/> entries.</summary>
    [FieldOffset(0x40)]
    public uint ItemCount;

    /// <summary>Devices that the machine plays: bit n = the one in place n, below <see cref="MachinePorts.HostDeviceSlots"/>.</summary>
    [FieldOffset(0x44)]
    public uint HostDevices;
}

/// <summary>Switches of the run.</summary>
[System.Flags]
public enum LaunchOptions : uint
{
    /// <summary>Nothing out of the ordinary.</summary>
    None = 0,

    /// <summary>Send <see cref="LinkFrame.Statistics"/> before the end.</summary>
    Statistics = 1 << 0,

    /// <summary>The host offers VMPL0 only (what stock KVM does): no multi-VMPL feature bit, RUN_VMPL refused.</summary>
    SingleVmpl = 1 << 1,

    /// <summary>Send a <see cref="LinkFrame.Trace"/> for each exit.</summary>
    TraceExits = 1 << 2,

    /// <summary>Send a <see cref="LinkFrame.Trace"/> for each change of the RMP.</summary>
    TraceRmp = 1 << 3,

    /// <summary>Send a <see cref="LinkFrame.Trace"/> for each request by GHCB and its answer.</summary>
    TraceGhcb = 1 << 4,

    /// <summary>Stand still before the first instruction, until a command says otherwise.</summary>
    StartPaused = 1 << 5,

    /// <summary>
    /// The host drops translations of a page that it takes, as KVM does, and the guest relies on it: what VMPL0 rescinds it need not flush.
    /// For an operating system at VMPL0; an SVSM relies on no host.
    /// </summary>
    HostFlushes = 1 << 6,

    /// <summary>When a vCPU's turn ends and whose is next is drawn from <see cref="LaunchHeader.TurnSeed"/>.</summary>
    DrawTurns = 1 << 7,

    /// <summary>Each vCPU runs on a processor of the outer machine of its own, at once with the others.</summary>
    Threads = 1 << 8,

    /// <summary>Before the end, stand still until the machine has read what it wants: <see cref="PauseReason.Ending"/>.</summary>
    HoldAtEnd = 1 << 9,
}

/// <summary>A range of guest RAM. 16 bytes.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
public struct LaunchRam
{
    /// <summary>First GPA, page-aligned.</summary>
    public ulong Base;

    /// <summary>Length in bytes, whole pages.</summary>
    public ulong Length;
}

/// <summary>What a page of the launch is.</summary>
public enum LaunchPageType : uint
{
    /// <summary>Measured contents.</summary>
    Normal = 1,

    /// <summary>A VMSA; <see cref="LaunchPage.Index"/> = vCPU. Never mapped for the guest; the GPA may lie outside RAM.</summary>
    Vmsa = 2,

    /// <summary>Zeroes.</summary>
    Zero = 3,

    /// <summary>Contents without measurement (parameters).</summary>
    Unmeasured = 4,

    /// <summary>The secrets page, contents ready.</summary>
    Secrets = 5,

    /// <summary>A CPUID page: contents list functions and indexes; the hypervisor fills in the values.</summary>
    Cpuid = 6,

    /// <summary>Private, assigned, not validated, no contents (REQUIRED_MEMORY): <see cref="LaunchPage.PageCount"/> pages.</summary>
    Required = 0x100,

    /// <summary>Private, assigned, validated, no contents: what firmware would leave to a guest that has none; <see cref="LaunchPage.PageCount"/> pages.</summary>
    Validated = 0x101,
}

/// <summary>A page, or a run of pages, of the launch. 32 bytes.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
public struct LaunchPage
{
    /// <summary>First GPA, page-aligned.</summary>
    public ulong Gpa;

    /// <summary>Length in 4-KiB pages; 1 for every type but <see cref="LaunchPageType.Required"/> and <see cref="LaunchPageType.Validated"/>.</summary>
    public ulong PageCount;

    /// <summary>What it is.</summary>
    public LaunchPageType Type;

    /// <summary>vCPU of a VMSA, else 0.</summary>
    public uint Index;

    /// <summary>Number of the 4-KiB block of page data from <see cref="LaunchHeader.DataOffset"/>; all ones = zeroes.</summary>
    public ulong DataBlock;

    /// <summary><see cref="DataBlock"/> of a page of zeroes.</summary>
    public const ulong NoData = ulong.MaxValue;
}

/// <summary>What a firmware may ask its host for, or what else is there at the start. 24 bytes.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
public struct LaunchItem
{
    /// <summary>Key of an item of the fw_cfg device, 16 bits, or one of those below.</summary>
    public uint Key;

    /// <summary>Zero.</summary>
    public uint Reserved;

    /// <summary>Length in bytes.</summary>
    public ulong Length;

    /// <summary>Number of the first 4-KiB block of its data from <see cref="LaunchHeader.DataOffset"/>.</summary>
    public ulong DataBlock;

    /// <summary><see cref="Key"/> of the contents of the battery-backed memory, 128 bytes.</summary>
    public const uint BatteryMemory = 0x1_0000;

    /// <summary><see cref="Key"/> of what has been typed at the serial port before the start, at most <see cref="MaxConsoleInput"/> bytes.</summary>
    public const uint ConsoleInput = 0x1_0001;

    /// <summary>Most bytes that were typed and not read.</summary>
    public const int MaxConsoleInput = 4096;
}
