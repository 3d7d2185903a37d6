// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The contract between the image builder and the kernel: where things lie when the first instruction runs.
// For the builder (writes it all at build time), the boot stub and the kernel (find it), and the simulator's reports.
// docs/image-layout.md tells the whole story with a picture.
//
//   low area    GPA 0x1_0000, below 512 KiB    boot stub, BootParameters, boot page tables, CPUID page; given back to the guest
//   region      GPA by flavour, 8 MiB          kernel segments, hand-over pages, kernel page tables, then heap (not launched)
//
// Nothing here is a secret, and all of it is measured, but for the parameter and secrets pages.

using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Svsm.Wire;

/// <summary>
/// What the 32-bit boot stub needs. One page in the low area; its GPA is in RBX of the launch VMSA.
/// The stub reads the C-bit position from the CPUID page, sets the C-bit in every present entry of the boot tables,
/// enters long mode on them, does the same to the kernel's tables through the window, and jumps to the kernel.
/// </summary>
[StructLayout(LayoutKind.Explicit, Size = 64)]
public struct BootParameters
{
    /// <summary>"SVBP".</summary>
    public const uint MagicValue = 0x5042_5653;

    /// <summary><see cref="MagicValue"/>.</summary>
    [FieldOffset(0x00)]
    public uint Magic;

    /// <summary>GPA of the CPUID page, in the low area.</summary>
    [FieldOffset(0x04)]
    public uint CpuidPage;

    /// <summary>GPA of the boot PML4; the other boot tables follow it.</summary>
    [FieldOffset(0x08)]
    public uint BootRoot;

    /// <summary>Number of boot table pages.</summary>
    [FieldOffset(0x0C)]
    public uint BootTableCount;

    /// <summary>Virtual address, in the boot tables, at which the kernel's table pages are mapped writable, one after the other.</summary>
    [FieldOffset(0x10)]
    public ulong KernelTablesWindow;

    /// <summary>Number of kernel table pages.</summary>
    [FieldOffset(0x18)]
    public uint KernelTableCount;

    /// <summary>Zero.</summary>
    [FieldOffset(0x1C)]
    public uint Reserved;

    /// <summary>GPA of the kernel's PML4 (without C-bit).</summary>
    [FieldOffset(0x20)]
    public ulong KernelRoot;

    /// <summary>Virtual address of the kernel's 64-bit entry. Called with RDI = C-bit mask, RSI = GPA of the CPUID page, interrupts off, on the boot tables.</summary>
    [FieldOffset(0x28)]
    public ulong KernelEntry;

    /// <summary>Top of the kernel's first stack, 16-byte aligned.</summary>
    [FieldOffset(0x30)]
    public ulong KernelStackTop;
}

/// <summary>Fixed numbers of the low area.</summary>
public static class LowArea
{
    /// <summary>First GPA.</summary>
    public const ulong Base = 0x1_0000;

    /// <summary>First GPA that is no longer part of it, whatever the image needs.</summary>
    public const ulong Limit = 0x8_0000;
}

/// <summary>
/// Fixed virtual addresses of the kernel. Text, data, stacks and per-CPU pages are segments of the kernel's ELF file,
/// at addresses that its linker script chooses from this map; the builder maps what the file says.
/// </summary>
public static class KernelAddressSpace
{
    /// <summary>PML4 slot 510: what belongs to the current CPU. Each CPU has its own pages here.</summary>
    public const ulong PerCpuBase = 0xFFFF_FF00_0000_0000;

    /// <summary>The current CPU's mapping windows: 512 pages, all unmapped at entry, governed by one page table.</summary>
    public const ulong WindowBase = 0xFFFF_FF00_0020_0000;

    /// <summary>Number of 4-KiB pages at <see cref="WindowBase"/>.</summary>
    public const int WindowPageCount = 512;

    /// <summary>PML4 slot 511: global, shared by all CPUs.</summary>
    public const ulong GlobalBase = 0xFFFF_FF80_0000_0000;

    /// <summary>Link address of the kernel image.</summary>
    public const ulong ImageBase = 0xFFFF_FF80_0020_0000;

    /// <summary>The <see cref="ImageConfiguration"/>, read-only.</summary>
    public const ulong Configuration = 0xFFFF_FF80_4000_0000;

    /// <summary>The page of <see cref="GeneralParameters"/>, written by the host, mapped read-only.</summary>
    public const ulong GeneralParameters = 0xFFFF_FF80_4000_2000;

    /// <summary>The host's memory map (one page of <see cref="MemoryMapEntry"/>), mapped read-only.</summary>
    public const ulong MemoryMap = 0xFFFF_FF80_4000_4000;

    /// <summary>The secrets page, mapped writable (the kernel wipes keys).</summary>
    public const ulong Secrets = 0xFFFF_FF80_4000_6000;

    /// <summary>The archive of modules (<see cref="ArchiveHeader"/>), read-only, if the image has one.</summary>
    public const ulong Archive = 0xFFFF_FF80_C000_0000;

    /// <summary>Most bytes of the archive.</summary>
    public const ulong ArchiveMaxLength = 0x2000_0000;

    /// <summary>The kernel's own page tables, writable, in the order of their GPAs from <see cref="ImageConfiguration.KernelRoot"/> on.</summary>
    public const ulong PageTables = 0xFFFF_FF80_8000_0000;
}

/// <summary>Host flavours that an image can be written for.</summary>
public enum HostFlavour : uint
{
    /// <summary>QEMU/KVM with several VMPLs (the coconut-svsm branches), and the simulated machine.</summary>
    Qemu = 0,

    /// <summary>Stock QEMU/KVM.</summary>
    StockQemu = 1,

    /// <summary>Hyper-V.</summary>
    HyperV = 2,

    /// <summary>Google's Vanadium.</summary>
    Vanadium = 3,
}

/// <summary>How the guest starts.</summary>
public enum GuestKind : uint
{
    /// <summary>No guest in the image.</summary>
    None = 0,

    /// <summary>
    /// A payload: 32-bit protected mode, flat segments, paging off, EIP = <see cref="ImageConfiguration.GuestEntry"/>,
    /// EDI = CPUID page, ESI = secrets page, EDX = memory map, all GPAs.
    /// </summary>
    Payload = 1,

    /// <summary>
    /// A Linux kernel by its 64-bit boot protocol: paging on with the tables at <see cref="ImageConfiguration.GuestPageTables"/>, RIP =
    /// <see cref="ImageConfiguration.GuestEntry"/>, RSI = <see cref="ImageConfiguration.GuestBootParameters"/>. All of its RAM is validated.
    /// </summary>
    Linux = 2,

    /// <summary>
    /// A firmware, which ends at 4 GiB, as a processor starts after reset: 16-bit mode, CS base and IP are the halves of
    /// <see cref="ImageConfiguration.GuestEntry"/>. It validates its RAM itself.
    /// </summary>
    Firmware = 3,
}

/// <summary>What is to be done with a range before the guest gets it.</summary>
public enum GuestRangeKind : uint
{
    /// <summary>Launched with measured contents: rights only.</summary>
    Launched = 0,

    /// <summary>Not launched: validated and zeroed, then rights.</summary>
    Prevalidate = 1,

    /// <summary>
    /// Launched with measured contents where no RAM is: rights only. The pages have no page state, and so are no memory that the guest could
    /// rescind or validate.
    /// </summary>
    Rom = 2,
}

/// <summary>What the guest is told about a range. The values are those of the E820 memory map that Linux gets.</summary>
public enum GuestRangeUse : uint
{
    /// <summary>Ordinary RAM once the guest has taken what it needs from it.</summary>
    Ram = 1,

    /// <summary>To be left alone for as long as the guest runs.</summary>
    Reserved = 2,

    /// <summary>ACPI tables.</summary>
    AcpiTables = 3,
}

/// <summary>A range of the guest's memory that exists when the guest starts. 24 bytes.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
public struct GuestRange
{
    /// <summary>First GPA, page-aligned.</summary>
    public ulong Base;

    /// <summary>Length in bytes, whole pages.</summary>
    public ulong Length;

    /// <summary>What is to be done with it.</summary>
    public GuestRangeKind Kind;

    /// <summary>What the guest is told about it; without meaning to a payload, which finds it in its memory map as RAM.</summary>
    public GuestRangeUse Use;
}

/// <summary>The ranges of an <see cref="ImageConfiguration"/>.</summary>
[InlineArray(ImageConfiguration.MaxGuestRanges)]
public struct GuestRanges
{
    private GuestRange _element0;
}

/// <summary>The measured configuration of an image: one page, at <see cref="KernelAddressSpace.Configuration"/>.</summary>
[StructLayout(LayoutKind.Explicit, Size = 4096)]
public struct ImageConfiguration
{
    /// <summary>"SVSMCONF".</summary>
    public const ulong MagicValue = 0x464E_4F43_4D53_5653;

    /// <summary>The version of this layout.</summary>
    public const uint CurrentVersion = 4;

    /// <summary>Most entries of <see cref="GuestRanges"/>.</summary>
    public const int MaxGuestRanges = 16;

    /// <summary><see cref="MagicValue"/>.</summary>
    [FieldOffset(0x00)]
    public ulong Magic;

    /// <summary><see cref="CurrentVersion"/>.</summary>
    [FieldOffset(0x08)]
    public uint Version;

    /// <summary>For whom the image was written.</summary>
    [FieldOffset(0x0C)]
    public HostFlavour Flavour;

    /// <summary>First GPA of the SVSM's region.</summary>
    [FieldOffset(0x10)]
    public ulong RegionBase;

    /// <summary>Length of the region in bytes.</summary>
    [FieldOffset(0x18)]
    public ulong RegionLength;

    /// <summary>First GPA of the region that was not launched; from here to the region's end is the kernel's heap, not yet validated.</summary>
    [FieldOffset(0x20)]
    public ulong HeapBase;

    /// <summary>First GPA of the low area.</summary>
    [FieldOffset(0x28)]
    public ulong LowAreaBase;

    /// <summary>Length in bytes of the low area that was launched; rescinded once the kernel runs, and RAM for the guest after that.</summary>
    [FieldOffset(0x30)]
    public ulong LowAreaLength;

    /// <summary>GPA of the kernel's PML4; the other tables follow it page by page.</summary>
    [FieldOffset(0x38)]
    public ulong KernelRoot;

    /// <summary>Number of kernel table pages.</summary>
    [FieldOffset(0x40)]
    public uint KernelTableCount;

    /// <summary>Index of the page table that governs <see cref="KernelAddressSpace.WindowBase"/>.</summary>
    [FieldOffset(0x44)]
    public uint WindowTableIndex;

    /// <summary>GPA of the launch VMSA (outside RAM on KVM).</summary>
    [FieldOffset(0x48)]
    public ulong LaunchVmsa;

    /// <summary>SEV_FEATURES of the launch VMSA.</summary>
    [FieldOffset(0x50)]
    public SevFeatures SevFeatures;

    /// <summary>I/O port of the console's UART.</summary>
    [FieldOffset(0x58)]
    public ushort ConsolePort;

    /// <summary>VMPL of the guest.</summary>
    [FieldOffset(0x5A)]
    public Vmpl GuestVmpl;

    /// <summary>Which lines of the kernel's log the console gets: those of this level and the more important ones.</summary>
    [FieldOffset(0x5B)]
    public LogLevel ConsoleLevel;

    /// <summary>How the guest starts.</summary>
    [FieldOffset(0x5C)]
    public GuestKind GuestKind;

    /// <summary>Guest entry, a GPA.</summary>
    [FieldOffset(0x60)]
    public ulong GuestEntry;

    /// <summary>GPA of the guest's secrets page.</summary>
    [FieldOffset(0x68)]
    public ulong GuestSecretsPage;

    /// <summary>GPA of the guest's CPUID page.</summary>
    [FieldOffset(0x70)]
    public ulong GuestCpuidPage;

    /// <summary>GPA of the boot vCPU's calling area.</summary>
    [FieldOffset(0x78)]
    public ulong GuestCallingArea;

    /// <summary>GPA of the guest's memory map, all of it in one page; 0 for Linux, whose map is in its boot parameters.</summary>
    [FieldOffset(0x80)]
    public ulong GuestMemoryMap;

    /// <summary>Number of ranges in <see cref="Ranges"/>. The pages above are listed there too, as <see cref="GuestRangeKind.Prevalidate"/>.</summary>
    [FieldOffset(0x88)]
    public uint GuestRangeCount;

    /// <summary>Number of entries that <see cref="GuestMemoryMap"/> has room for, the one that ends it included.</summary>
    [FieldOffset(0x8C)]
    public uint GuestMemoryMapEntries;

    /// <summary>The guest's memory at its start; sorted, disjoint.</summary>
    [FieldOffset(0x90)]
    public GuestRanges Ranges;

    /// <summary>Linux: GPA of the boot parameters ("zero page"), launched; the kernel writes the E820 memory map into it.</summary>
    [FieldOffset(0x210)]
    public ulong GuestBootParameters;

    /// <summary>Linux: GPA of the first page tables, PML4 first, launched without C-bit; the kernel sets it in every present entry.</summary>
    [FieldOffset(0x218)]
    public ulong GuestPageTables;

    /// <summary>Linux: number of pages of <see cref="GuestPageTables"/>.</summary>
    [FieldOffset(0x220)]
    public uint GuestPageTableCount;

    /// <summary>Linux: number of bytes of the global descriptor table at <see cref="GuestDescriptorTable"/>.</summary>
    [FieldOffset(0x224)]
    public uint GuestDescriptorTableLength;

    /// <summary>Linux: GPA of the first global descriptor table, launched.</summary>
    [FieldOffset(0x228)]
    public ulong GuestDescriptorTable;

    /// <summary>
    /// Linux: GPA of the interrupt-controller table (ACPI "APIC"), launched with its head at the end of a page; the kernel writes the entries
    /// of the vCPUs into the pages behind it.
    /// </summary>
    [FieldOffset(0x230)]
    public ulong GuestInterruptControllers;

    /// <summary>Firmware: GPA of 32 bits that get the number of vCPUs; 0 = none.</summary>
    [FieldOffset(0x238)]
    public ulong GuestVcpuCount;

    /// <summary>First GPA of the <see cref="ArchiveHeader"/> and what follows it, in the region, launched; 0 without modules.</summary>
    [FieldOffset(0x240)]
    public ulong ArchiveBase;

    /// <summary>Length of the archive in bytes, whole pages; 0 without modules.</summary>
    [FieldOffset(0x248)]
    public ulong ArchiveLength;
}
