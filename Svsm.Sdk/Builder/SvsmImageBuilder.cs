// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Lays out an image: docs/image-layout.md is the contract, Svsm.Core/Wire/ImageLayout.cs its types.
//
// The order of the work follows from what depends on what. Addresses of kernel frames follow from the segments alone, so they come first;
// then the number of kernel tables is known, with it the boot tables, and with all of these the two pages that name addresses:
// BootParameters and ImageConfiguration, whose places were reserved before.

using System;
using System.Collections.Generic;
using System.Collections.Immutable;
using System.Globalization;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Svsm.Diagnostics;
using Svsm.Igvm;
using Svsm.Igvm.Imaging;
using Svsm.Wire;

namespace Svsm.Builder;

/// <summary>Builds images.</summary>
public static class SvsmImageBuilder
{
    /// <summary>Symbol of the kernel's 64-bit entry.</summary>
    public const string EntrySymbol = "svsm_kernel_entry";

    /// <summary>Symbol of the top of the kernel's first stack.</summary>
    public const string StackTopSymbol = "svsm_kernel_stack_top";

    /// <summary>GPA of the guest's secrets page, where OVMF has it.</summary>
    public const ulong GuestSecretsPage = 0x80_D000;

    /// <summary>GPA of the guest's CPUID page, where OVMF has it.</summary>
    public const ulong GuestCpuidPage = 0x80_E000;

    /// <summary>GPA of the guest's first calling area, where OVMF has it.</summary>
    public const ulong GuestCallingArea = 0x80_F000;

    /// <summary>GPA of the guest's memory map, where OVMF has its IGVM parameter area.</summary>
    public const ulong GuestMemoryMap = 0x81_2000;

    /// <summary>Lays out an image for one host.</summary>
    /// <param name="options">What it is built from.</param>
    /// <returns>The image. The same options give the same image.</returns>
    /// <exception cref="SvsmDiagnosticException">SVSM2001 to SVSM2013, SVSM2018 to SVSM2026: an input cannot be made into an image.</exception>
    public static SvsmImage Build(SvsmImageOptions options)
    {
        ArgumentNullException.ThrowIfNull(options);
        return new ImageLayoutBuilder(options).Build();
    }
}

internal sealed class ImageLayoutBuilder
{
    private const ulong PageSize = 4096;

    // Segments linked below belong to the boot stub.
    private const ulong LowSegmentLimit = 0x8000_0000;

    // A payload starts in 32-bit protected mode.
    private const ulong PayloadLimit = 0x1_0000_0000;

    // The kernel gives no guest the video and ROM area below 1 MiB.
    private const ulong LegacyBase = 0xA_0000;
    private const ulong LegacyEnd = 0x10_0000;

    // The boot tables' window on the kernel's tables: the 2 MiB after those that hold the low area, and as many more as needed.
    private const ulong KernelTablesWindow = 0x20_0000;

    // The region of an image without modules, and the most that the kernel's frame allocator knows of.
    private const ulong KernelRegion = 0x80_0000;
    private const ulong MaxRegionLength = 0x7E0_0000;
    private const ulong LargePage = 0x20_0000;

    private const ulong PolicyReservedOne = 1ul << 17;
    private const ulong PolicyDebug = 1ul << 19;
    private const ulong PolicyDefinedBits = (1ul << 26) - 1;

    private readonly SvsmImageOptions _options;
    private readonly HostProfile _host;
    private readonly LaunchImage _launch = new();
    private readonly List<ImagePart> _parts = [];
    private readonly ulong _regionBase;
    private readonly ulong _regionLength;
    private readonly byte[] _archive;
    private ulong _nextFrame;
    private ulong _lowEnd;

    public ImageLayoutBuilder(SvsmImageOptions options)
    {
        if ((uint)options.Flavour >= (uint)HostFlavourNames.All.Length)
        {
            throw SvsmDiagnostics.ImageOptionInvalid.Error($"host flavour {(uint)options.Flavour}", string.Join(", ", HostFlavourNames.All));
        }

        if (options.GuestVmpl is < Vmpl.Vmpl1 or > Vmpl.Vmpl3)
        {
            throw SvsmDiagnostics.ImageOptionInvalid.Error($"guest VMPL {(byte)options.GuestVmpl}", "1, 2 or 3; 2 is what guests expect");
        }

        if ((options.Policy & PolicyReservedOne) == 0 || (options.Policy & ~PolicyDefinedBits) != 0)
        {
            throw SvsmDiagnostics.ImageOptionInvalid.Error($"guest policy 0x{options.Policy:X}", "bit 17 set and bits 63 to 26 clear, for example 0x30000");
        }

        if (options.ConsoleLevel == LogLevel.Debug && (options.Policy & PolicyDebug) == 0)
        {
            throw SvsmDiagnostics.ImageOptionInvalid.Error(
                $"console level debug with guest policy 0x{options.Policy:X}", "a policy that allows debugging (bit 19), for what the console tells may be secret; or another level");
        }

        int guests = (options.GuestPayload.IsEmpty ? 0 : 1) + (options.Linux is null ? 0 : 1) + (options.Firmware.IsEmpty ? 0 : 1);
        if (options.Modules.IsEmpty && !options.Files.IsEmpty)
        {
            throw SvsmDiagnostics.ImageOptionInvalid.Error($"{options.Files.Length} files without a module", "files of modules, or none");
        }

        if (guests > 1)
        {
            throw SvsmDiagnostics.ImageOptionInvalid.Error($"{guests} of payload, Linux kernel and firmware", "one guest");
        }

        _options = options;
        _host = HostProfile.For(options.Flavour);
        _archive = options.Modules.IsEmpty ? [] : ModuleArchiveWriter.Write(options.Files, options.Modules);
        _regionBase = RegionBase(options.Flavour);
        _regionLength = RegionLength((ulong)_archive.Length, options.Modules);
        _nextFrame = _regionBase;
    }

    public SvsmImage Build()
    {
        SevFeatures features;
        try
        {
            features = _host.EffectiveFeatures(_options.SevFeatures);
        }
        catch (LaunchImageException e)
        {
            throw SvsmDiagnostics.ImageOptionInvalid.Error(e.Message, $"SEV_FEATURES that host {HostFlavourNames.ToName(_options.Flavour)} accepts", e);
        }

        ElfFile kernel = ElfFile.Parse(_options.Kernel, "kernel");
        CheckKernelSegments(kernel);
        ulong kernelEntry = FindEntry(kernel);
        ulong stackTop = FindStackTop(kernel);

        // Low area: the stub's segments are where they are linked; what the builder adds follows them.
        PlaceBootSegments(kernel);
        ulong bootParametersGpa = _lowEnd;
        ulong bootRoot = bootParametersGpa + PageSize;

        // Region: the order is the contract's.
        var mappings = new List<(ulong VirtualAddress, ulong Gpa, ulong Length, PageRights Rights)>();
        PlaceKernelSegments(kernel, mappings);
        ulong configurationGpa = PlaceHandOver("configuration", ImagePartKind.Data, KernelAddressSpace.Configuration, PageRights.Read, mappings);
        ulong generalGpa = PlaceHandOver("general-parameters", ImagePartKind.Parameter, KernelAddressSpace.GeneralParameters, PageRights.Read, mappings);
        ulong memoryMapGpa = PlaceHandOver("memory-map", ImagePartKind.Parameter, KernelAddressSpace.MemoryMap, PageRights.Read, mappings);
        ulong secretsGpa = PlaceHandOver("secrets", ImagePartKind.Secrets, KernelAddressSpace.Secrets, PageRights.Read | PageRights.Write, mappings);
        _launch.AddParameterPage(generalGpa, new LaunchParameter(IgvmParameterKind.VpCount), new LaunchParameter(IgvmParameterKind.EnvironmentInfo, 4));
        _launch.AddParameterPage(memoryMapGpa, new LaunchParameter(IgvmParameterKind.MemoryMap));
        _launch.AddSecrets(secretsGpa);
        ulong archiveGpa = PlaceArchive(mappings);

        PageTables kernelTables = MakeKernelTables(mappings, out int windowTable);
        PlaceTables("kernel.page-tables", ImagePartGroup.PageTables, kernelTables, KernelAddressSpace.PageTables);
        ulong heapBase = _nextFrame;
        ulong vmsaGpa = _host.VmsaGpa(_regionBase, _regionLength);
        ulong heapEnd = _host.VmsaAtKvmGpa ? _regionBase + _regionLength : vmsaGpa;
        if (heapBase >= heapEnd)
        {
            throw RegionFull(heapBase - _regionBase);
        }

        _parts.Add(new ImagePart("kernel.heap", ImagePartGroup.Reserved, ImagePartKind.Reserved, heapBase, 0, heapEnd - heapBase, PageRights.None));
        _launch.AddRequiredMemory(_regionBase, (uint)_regionLength);

        PageTables bootTables = MakeBootTables(bootParametersGpa, bootRoot, kernelTables, out ulong cpuidGpa);
        _lowEnd = cpuidGpa + PageSize;
        CheckLowArea();
        AddBootParameters(new BootParameters
        {
            Magic = BootParameters.MagicValue,
            CpuidPage = (uint)cpuidGpa,
            BootRoot = (uint)bootRoot,
            BootTableCount = (uint)bootTables.Count,
            KernelTablesWindow = KernelTablesWindow,
            KernelTableCount = (uint)kernelTables.Count,
            KernelRoot = kernelTables.BaseGpa,
            KernelEntry = kernelEntry,
            KernelStackTop = stackTop,
        }, bootParametersGpa);
        PlaceTables("boot.page-tables", ImagePartGroup.Boot, bootTables, bootRoot);
        _launch.AddCpuid(cpuidGpa, MakeCpuidPage());
        _parts.Add(new ImagePart("boot.cpuid", ImagePartGroup.Boot, ImagePartKind.Cpuid, cpuidGpa, cpuidGpa, PageSize, PageRights.Read));

        var configuration = new ImageConfiguration
        {
            Magic = ImageConfiguration.MagicValue,
            Version = ImageConfiguration.CurrentVersion,
            Flavour = _options.Flavour,
            RegionBase = _regionBase,
            RegionLength = _regionLength,
            HeapBase = heapBase,
            LowAreaBase = LowArea.Base,
            LowAreaLength = _lowEnd - LowArea.Base,
            KernelRoot = kernelTables.BaseGpa,
            KernelTableCount = (uint)kernelTables.Count,
            WindowTableIndex = (uint)windowTable,
            LaunchVmsa = vmsaGpa,
            ArchiveBase = archiveGpa,
            ArchiveLength = (ulong)_archive.Length,
            SevFeatures = features,
            ConsolePort = ConsolePort(_options.Flavour),
            ConsoleLevel = _options.ConsoleLevel ?? ((_options.Policy & PolicyDebug) != 0 ? LogLevel.Debug : LogLevel.Information),
            GuestVmpl = _options.GuestVmpl,
        };
        if (!_options.GuestPayload.IsEmpty)
        {
            PlaceGuest(ref configuration);
        }
        else if (_options.Linux is not null)
        {
            PlaceLinux(ref configuration, _options.Linux);
        }
        else if (!_options.Firmware.IsEmpty)
        {
            PlaceFirmware(ref configuration, Firmware.Parse(_options.Firmware));
        }

        _launch.AddData(configurationGpa, ToPage(in configuration));
        _launch.GuestPolicy = _options.Policy;
        _launch.SevFeatures = _options.SevFeatures;
        _launch.RegionBase = _regionBase;
        _launch.RegionLength = _regionLength;
        _launch.HasGuest = configuration.GuestKind != GuestKind.None;
        SetRegisters(ref _launch.Vmsa, kernel.Entry, bootParametersGpa);

        _parts.Sort((a, b) => a.Gpa.CompareTo(b.Gpa));
        return new SvsmImage(_launch, configuration, [.. _parts], SortSymbols(kernel), _archive.Length == 0 ? ModuleArchive.Empty : ModuleArchive.Read(_archive)!);
    }

    // Where each host wants the SVSM's memory. Source: coconut-svsm tools/igvmbuilder (gpa_map); the table is in docs/image-layout.md.
    // On Vanadium it lies below 8 TiB, outside of what the guest has as RAM.
    private static ulong RegionBase(HostFlavour flavour) => flavour == HostFlavour.Vanadium ? 0x800_0000_0000 - 0x8000_0000ul : 0x800_0000;

    // What the kernel needs for itself, the archive, and what its modules may come to use, in pages of 2 MiB.
    private static ulong RegionLength(ulong archiveLength, ImmutableArray<ModuleOptions> modules)
    {
        ulong length = KernelRegion + LargePagesUp(archiveLength);
        foreach (ModuleOptions module in modules)
        {
            length += LargePagesUp(Math.Min(module.MemoryLimit, MaxRegionLength));
        }

        return length <= MaxRegionLength ? length : throw SvsmDiagnostics.RegionFull.Error(
            $"0x{KernelRegion:X} bytes for the kernel, an archive of 0x{archiveLength:X}, and the memory limits of {modules.Length} modules", $"at most 0x{MaxRegionLength:X} in all");
    }

    private static ulong LargePagesUp(ulong length) => (length + LargePage - 1) & ~(LargePage - 1);

    // Hyper-V guests have their log on COM3, COM1 belongs to the guest's console.
    private static ushort ConsolePort(HostFlavour flavour) => (ushort)(flavour == HostFlavour.HyperV ? 0x3E8 : 0x3F8);

    private static bool IsLow(ElfSegment segment) => segment.VirtualAddress < LowSegmentLimit;

    private static ulong PageCount(ulong length) => (length / PageSize) + (length % PageSize == 0 ? 0ul : 1ul);

    private static PageRights Rights(ElfSegment segment) =>
        PageRights.Read |
        (segment.Flags.HasFlag(ElfSegmentFlags.Write) ? PageRights.Write : 0) |
        (segment.Flags.HasFlag(ElfSegmentFlags.Execute) ? PageRights.Execute : 0);

    private static void CheckKernelSegments(ElfFile kernel)
    {
        var placed = new List<(ulong First, ulong Last, string What)>
        {
            (KernelAddressSpace.WindowBase, KernelAddressSpace.WindowBase + ((KernelAddressSpace.WindowPageCount - 1) * PageSize), "the mapping windows"),
            (KernelAddressSpace.Configuration, KernelAddressSpace.Secrets, "the hand-over pages"),
            (KernelAddressSpace.PageTables, KernelAddressSpace.PageTables + 0x3FFF_F000, "the page tables"),
            (KernelAddressSpace.Archive, KernelAddressSpace.Archive + KernelAddressSpace.ArchiveMaxLength - PageSize, "the archive of modules"),
        };
        for (int i = 0; i < kernel.Segments.Length; i++)
        {
            ElfSegment segment = kernel.Segments[i];
            ulong first = segment.VirtualAddress;
            if (first % PageSize != 0)
            {
                throw SvsmDiagnostics.SegmentMisaligned.Error($"segment {i} of the kernel at 0x{first:X}", "a multiple of 4096");
            }

            if (Rights(segment).HasFlag(PageRights.Write | PageRights.Execute))
            {
                throw SvsmDiagnostics.SegmentWritableAndExecutable.Error($"segment {i} of the kernel at 0x{first:X} has rights RWX", "RX, RW or R");
            }

            ulong pages = PageCount(segment.Length);
            ulong last = first + ((pages - 1) * PageSize);
            if (IsLow(segment))
            {
                if (first < LowArea.Base || last >= LowArea.Limit)
                {
                    throw SvsmDiagnostics.SegmentMisplaced.Error($"segment {i} of the kernel at 0x{first:X}, 0x{segment.Length:X} bytes", $"0x{LowArea.Base:X} to 0x{LowArea.Limit:X} for the boot stub's segments, which are those below 2 GiB");
                }
            }
            else if (first < KernelAddressSpace.PerCpuBase)
            {
                throw SvsmDiagnostics.SegmentMisplaced.Error($"segment {i} of the kernel at 0x{first:X}", $"0x{KernelAddressSpace.PerCpuBase:X} or above, or below 2 GiB for the boot stub");
            }

            foreach ((ulong otherFirst, ulong otherLast, string what) in placed)
            {
                if (first <= otherLast && otherFirst <= last)
                {
                    throw SvsmDiagnostics.SegmentsOverlap.Error($"segment {i} of the kernel has the pages 0x{first:X} to 0x{last:X}", $"pages outside of {what}, 0x{otherFirst:X} to 0x{otherLast:X}");
                }
            }

            placed.Add((first, last, string.Create(CultureInfo.InvariantCulture, $"segment {i}")));
        }
    }

    private static ulong FindEntry(ElfFile kernel)
    {
        if (!IsInside(kernel, kernel.Entry, low: true))
        {
            throw SvsmDiagnostics.EntryInvalid.Error($"ELF entry 0x{kernel.Entry:X} of the kernel", "an address in an executable segment below 2 GiB, for it starts in 32-bit mode");
        }

        ulong entry = FindSymbol(kernel, SvsmImageBuilder.EntrySymbol).Value;
        if (!IsInside(kernel, entry, low: false))
        {
            throw SvsmDiagnostics.EntryInvalid.Error($"{SvsmImageBuilder.EntrySymbol} = 0x{entry:X} of the kernel", $"an address in an executable segment from 0x{KernelAddressSpace.PerCpuBase:X} on");
        }

        return entry;
    }

    private static bool IsInside(ElfFile kernel, ulong address, bool low)
    {
        foreach (ElfSegment segment in kernel.Segments)
        {
            if (IsLow(segment) == low && Rights(segment).HasFlag(PageRights.Execute) && address >= segment.VirtualAddress && address - segment.VirtualAddress < segment.Length)
            {
                return true;
            }
        }

        return false;
    }

    private static ulong FindStackTop(ElfFile kernel)
    {
        ulong top = FindSymbol(kernel, SvsmImageBuilder.StackTopSymbol).Value;
        foreach (ElfSegment segment in kernel.Segments)
        {
            if (!IsLow(segment) && Rights(segment).HasFlag(PageRights.Write) && top % 16 == 0 && top > segment.VirtualAddress && top - segment.VirtualAddress <= segment.Length)
            {
                return top;
            }
        }

        throw SvsmDiagnostics.SymbolInvalid.Error($"{SvsmImageBuilder.StackTopSymbol} = 0x{top:X}", "a multiple of 16 in, or just past, a writable segment of the kernel");
    }

    private static ElfSymbol FindSymbol(ElfFile kernel, string name) => kernel.FindSymbol(name) ??
        throw SvsmDiagnostics.SymbolInvalid.Error($"no {name} among the kernel's {kernel.Symbols.Length} symbols", "one of this name");

    private void PlaceBootSegments(ElfFile kernel)
    {
        var segments = new List<ElfSegment>();
        foreach (ElfSegment segment in kernel.Segments)
        {
            if (IsLow(segment))
            {
                segments.Add(segment);
            }
        }

        // The kernel rescinds the low area as one range, so that there must be no page in it which was not launched.
        segments.Sort((a, b) => a.VirtualAddress.CompareTo(b.VirtualAddress));
        _lowEnd = LowArea.Base;
        foreach (ElfSegment segment in segments)
        {
            if (segment.VirtualAddress > _lowEnd)
            {
                ulong gap = segment.VirtualAddress - _lowEnd;
                _launch.AddZeroes(_lowEnd, (int)(gap / PageSize));
                AddPart(new ImagePart("boot.gap", ImagePartGroup.Boot, ImagePartKind.Zero, _lowEnd, 0, gap, PageRights.None));
            }

            AddSegment("boot", segment, segment.VirtualAddress, segment.VirtualAddress, ImagePartGroup.Boot, ImagePartGroup.Boot);
            _lowEnd = segment.VirtualAddress + (PageCount(segment.Length) * PageSize);
        }
    }

    private void PlaceKernelSegments(ElfFile kernel, List<(ulong VirtualAddress, ulong Gpa, ulong Length, PageRights Rights)> mappings)
    {
        foreach (ElfSegment segment in kernel.Segments)
        {
            if (IsLow(segment))
            {
                continue;
            }

            PageRights rights = Rights(segment);
            ImagePartGroup group = rights.HasFlag(PageRights.Execute) ? ImagePartGroup.KernelText :
                rights.HasFlag(PageRights.Write) ? ImagePartGroup.KernelData : ImagePartGroup.KernelReadOnlyData;
            ulong length = PageCount(segment.Length) * PageSize;
            ulong gpa = TakeFrames(length);
            AddSegment("kernel", segment, gpa, segment.VirtualAddress, group, group == ImagePartGroup.KernelData ? ImagePartGroup.KernelZeroData : group);
            mappings.Add((segment.VirtualAddress, gpa, length, rights));
        }
    }

    private void AddSegment(string prefix, ElfSegment segment, ulong gpa, ulong virtualAddress, ImagePartGroup dataGroup, ImagePartGroup zeroGroup)
    {
        PageRights rights = Rights(segment);
        string name = prefix + "." + (segment.Name.Length != 0 ? segment.Name :
            rights.HasFlag(PageRights.Execute) ? "text" : rights.HasFlag(PageRights.Write) ? "data" : "rodata");
        ulong dataLength = PageCount((ulong)segment.Data.Length) * PageSize;
        ulong zeroLength = (PageCount(segment.Length) * PageSize) - dataLength;
        if (dataLength != 0)
        {
            _launch.AddData(gpa, segment.Data);
            AddPart(new ImagePart(name, dataGroup, ImagePartKind.Data, gpa, virtualAddress, dataLength, rights));
        }

        if (zeroLength != 0)
        {
            _launch.AddZeroes(gpa + dataLength, (int)(zeroLength / PageSize));
            AddPart(new ImagePart(dataLength == 0 ? name : name + ".zero", zeroGroup, ImagePartKind.Zero, gpa + dataLength, virtualAddress + dataLength, zeroLength, rights));
        }
    }

    private void AddPart(ImagePart part)
    {
        string name = part.Name;
        for (int number = 2; _parts.Exists(other => other.Name == part.Name); number++)
        {
            part = part with { Name = string.Create(CultureInfo.InvariantCulture, $"{name}-{number}") };
        }

        _parts.Add(part);
    }

    private ulong PlaceHandOver(
        string name, ImagePartKind kind, ulong virtualAddress, PageRights rights, List<(ulong VirtualAddress, ulong Gpa, ulong Length, PageRights Rights)> mappings)
    {
        ulong gpa = TakeFrames(PageSize);
        mappings.Add((virtualAddress, gpa, PageSize, rights));
        _parts.Add(new ImagePart("hand-over." + name, ImagePartGroup.HandOver, kind, gpa, virtualAddress, PageSize, rights));
        return gpa;
    }

    private ulong PlaceArchive(List<(ulong VirtualAddress, ulong Gpa, ulong Length, PageRights Rights)> mappings)
    {
        if (_archive.Length == 0)
        {
            return 0;
        }

        ulong length = (ulong)_archive.Length;
        ulong gpa = TakeFrames(length);
        _launch.AddData(gpa, _archive);
        mappings.Add((KernelAddressSpace.Archive, gpa, length, PageRights.Read));
        _parts.Add(new ImagePart("modules", ImagePartGroup.Modules, ImagePartKind.Data, gpa, KernelAddressSpace.Archive, length, PageRights.Read));
        return gpa;
    }

    private PageTables MakeKernelTables(List<(ulong VirtualAddress, ulong Gpa, ulong Length, PageRights Rights)> mappings, out int windowTable)
    {
        var tables = new PageTables(_nextFrame);
        foreach ((ulong virtualAddress, ulong gpa, ulong length, PageRights rights) in mappings)
        {
            for (ulong offset = 0; offset < length; offset += PageSize)
            {
                tables.Map(virtualAddress + offset, gpa + offset, rights, global: virtualAddress >= KernelAddressSpace.GlobalBase);
            }
        }

        windowTable = tables.EnsureLastTable(KernelAddressSpace.WindowBase);

        // Mapping the tables can need further tables; these are at the end and are mapped in their turn.
        for (int i = 0; i < tables.Count; i++)
        {
            ulong offset = (ulong)i * PageSize;
            tables.Map(KernelAddressSpace.PageTables + offset, tables.BaseGpa + offset, PageRights.Read | PageRights.Write, global: true);
        }

        TakeFrames((ulong)tables.Count * PageSize);
        return tables;
    }

    private PageTables MakeBootTables(ulong bootParametersGpa, ulong bootRoot, PageTables kernelTables, out ulong cpuidGpa)
    {
        var tables = new PageTables(bootRoot);
        for (int i = 0; i < kernelTables.Count; i++)
        {
            ulong offset = (ulong)i * PageSize;
            tables.Map(KernelTablesWindow + offset, kernelTables.BaseGpa + offset, PageRights.Read | PageRights.Write, global: false);
        }

        foreach (ImagePart part in _parts)
        {
            for (ulong offset = 0; part.Group == ImagePartGroup.Boot && part.Rights != PageRights.None && offset < part.Length; offset += PageSize)
            {
                tables.Map(part.VirtualAddress + offset, part.Gpa + offset, part.Rights, global: false);
            }
        }

        // One table holds the whole low area, and the stub is in it: from here on the number of tables is final.
        tables.Map(bootParametersGpa, bootParametersGpa, PageRights.Read, global: false);
        cpuidGpa = bootRoot + ((ulong)tables.Count * PageSize);
        if (cpuidGpa < LowArea.Limit)
        {
            for (ulong gpa = bootRoot; gpa < cpuidGpa; gpa += PageSize)
            {
                tables.Map(gpa, gpa, PageRights.Read | PageRights.Write, global: false);
            }

            tables.Map(cpuidGpa, cpuidGpa, PageRights.Read, global: false);
        }

        tables.ShareUpperHalf(kernelTables);
        return tables;
    }

    private void CheckLowArea()
    {
        if (_lowEnd > LowArea.Limit)
        {
            throw SvsmDiagnostics.LowAreaFull.Error($"an end at 0x{_lowEnd:X}", $"at most 0x{LowArea.Limit:X}");
        }
    }

    private void AddBootParameters(BootParameters parameters, ulong gpa)
    {
        byte[] page = new byte[PageSize];
        MemoryMarshal.Write(page, in parameters);
        _launch.AddData(gpa, page);
        _parts.Add(new ImagePart("boot.parameters", ImagePartGroup.Boot, ImagePartKind.Data, gpa, gpa, PageSize, PageRights.Read));
    }

    private void PlaceTables(string name, ImagePartGroup group, PageTables tables, ulong virtualAddress)
    {
        for (int i = 0; i < tables.Count; i++)
        {
            _launch.AddData(tables.BaseGpa + ((ulong)i * PageSize), tables[i]);
        }

        _parts.Add(new ImagePart(name, group, ImagePartKind.Data, tables.BaseGpa, virtualAddress, (ulong)tables.Count * PageSize, PageRights.Read | PageRights.Write));
    }

    private void PlaceGuest(ref ImageConfiguration configuration)
    {
        ElfFile payload = ElfFile.Parse(_options.GuestPayload, "guest payload");
        var ranges = new List<GuestRange>
        {
            Prevalidated("guest.secrets", SvsmImageBuilder.GuestSecretsPage, PageSize),
            Prevalidated("guest.cpuid", SvsmImageBuilder.GuestCpuidPage, PageSize),
            Prevalidated("guest.calling-area", SvsmImageBuilder.GuestCallingArea, PageSize),
            Prevalidated("guest.memory-map", SvsmImageBuilder.GuestMemoryMap, PageSize),
        };
        bool entryFound = false;
        for (int i = 0; i < payload.Segments.Length; i++)
        {
            ElfSegment segment = payload.Segments[i];
            CheckGuestSegment(segment, i);
            ulong dataLength = PageCount((ulong)segment.Data.Length) * PageSize;
            ulong zeroLength = (PageCount(segment.Length) * PageSize) - dataLength;
            string name = "guest." + (segment.Name.Length != 0 ? segment.Name : "segment");
            if (dataLength != 0)
            {
                _launch.AddData(segment.PhysicalAddress, segment.Data);
                AddPart(new ImagePart(name, ImagePartGroup.Guest, ImagePartKind.Data, segment.PhysicalAddress, 0, dataLength, PageRights.None));
                ranges.Add(new GuestRange { Base = segment.PhysicalAddress, Length = dataLength, Kind = GuestRangeKind.Launched, Use = GuestRangeUse.Ram });
            }

            if (zeroLength != 0)
            {
                ranges.Add(Prevalidated(dataLength == 0 ? name : name + ".zero", segment.PhysicalAddress + dataLength, zeroLength));
            }

            entryFound |= payload.Entry >= segment.PhysicalAddress && payload.Entry - segment.PhysicalAddress < (ulong)segment.Data.Length;
        }

        if (!entryFound)
        {
            throw SvsmDiagnostics.EntryInvalid.Error($"ELF entry 0x{payload.Entry:X} of the guest payload", "the physical address of bytes that one of its segments loads");
        }

        configuration.GuestKind = GuestKind.Payload;
        configuration.GuestEntry = payload.Entry;
        configuration.GuestSecretsPage = SvsmImageBuilder.GuestSecretsPage;
        configuration.GuestCpuidPage = SvsmImageBuilder.GuestCpuidPage;
        configuration.GuestCallingArea = SvsmImageBuilder.GuestCallingArea;
        configuration.GuestMemoryMap = SvsmImageBuilder.GuestMemoryMap;
        configuration.GuestMemoryMapEntries = (uint)PageSize / (uint)Unsafe.SizeOf<MemoryMapEntry>();
        SetGuestRanges(ref configuration, ranges);
    }

    private void PlaceFirmware(ref ImageConfiguration configuration, Firmware firmware)
    {
        CheckFirmwarePlace("the file", firmware.BaseAddress, firmware.BaseAddress + (ulong)firmware.Data.Length);
        List<GuestRange> ranges = [Launched("guest.firmware", firmware.BaseAddress, firmware.Data, GuestRangeUse.Reserved) with { Kind = GuestRangeKind.Rom }];
        foreach ((string name, ulong page) in (ReadOnlySpan<(string, ulong)>)[
            ("secrets", firmware.SecretsPage), ("cpuid", firmware.CpuidPage), ("calling-area", firmware.CallingArea)])
        {
            CheckFirmwarePlace($"a page for {name}", page, page + PageSize);
            ranges.Add(Prevalidated("guest." + name, page, PageSize));
        }

        foreach ((ulong first, ulong end) in firmware.Memory)
        {
            CheckFirmwarePlace("memory", first, end);
            ranges.Add(Prevalidated("guest.firmware.memory", first, end - first));
        }

        configuration.GuestKind = GuestKind.Firmware;
        configuration.GuestEntry = firmware.Entry;
        configuration.GuestSecretsPage = firmware.SecretsPage;
        configuration.GuestCpuidPage = firmware.CpuidPage;
        configuration.GuestCallingArea = firmware.CallingArea;
        configuration.GuestMemoryMap = firmware.MemoryMap;
        configuration.GuestMemoryMapEntries = firmware.MemoryMapEntries;
        configuration.GuestVcpuCount = firmware.VcpuCount;
        SetGuestRanges(ref configuration, ranges);
    }

    private void CheckFirmwarePlace(string what, ulong first, ulong end)
    {
        if (FindInTheWay(first, end) is (string other, ulong otherFirst, ulong otherEnd))
        {
            throw SvsmDiagnostics.FirmwareMisplaced.Error(
                $"{what} of the firmware takes 0x{first:X} to 0x{end:X}", $"addresses outside of {other}, 0x{otherFirst:X} to 0x{otherEnd:X}");
        }
    }

    private void PlaceLinux(ref ImageConfiguration configuration, LinuxGuestOptions options)
    {
        LinuxKernel kernel = LinuxKernel.Parse(options.Kernel);
        byte[] commandLine = kernel.EncodeCommandLine(options.CommandLine);
        ulong kernelEnd = PagesUp(kernel.PreferredAddress + kernel.InitialLength);
        if (kernel.PreferredAddress < LinuxGuest.End || kernelEnd > PayloadLimit || Overlaps(kernel.PreferredAddress, kernelEnd))
        {
            throw SvsmDiagnostics.LinuxGuestTooLarge.Error(
                $"a kernel that takes 0x{kernel.PreferredAddress:X} to 0x{kernelEnd:X} until it has read its memory map", $"addresses from 0x{LinuxGuest.End:X} to 4 GiB, outside of the SVSM's region, 0x{_regionBase:X} to 0x{_regionBase + _regionLength:X}");
        }

        ulong diskBase = options.InitialRamDisk.IsEmpty ? 0 : PlaceInitialRamDisk(kernel, kernelEnd, (ulong)options.InitialRamDisk.Length);
        List<GuestRange> ranges =
        [
            Launched("guest.linux.boot-parameters", LinuxGuest.BootParameters, kernel.MakeBootParameters(diskBase, (uint)options.InitialRamDisk.Length), GuestRangeUse.Ram),
            Launched("guest.linux.command-line", LinuxGuest.CommandLine, commandLine, GuestRangeUse.Ram),
            Launched("guest.linux.descriptors", LinuxGuest.Descriptors, LinuxGuest.MakeDescriptors(), GuestRangeUse.Ram),
            Launched("guest.linux.page-tables", LinuxGuest.PageTables, LinuxGuest.MakePageTables(), GuestRangeUse.Ram),
            Launched("guest.linux.setup-data", LinuxGuest.SetupData, LinuxGuest.MakeSetupData(), GuestRangeUse.Ram),
            Launched("guest.linux.acpi", LinuxGuest.AcpiTables, AcpiTables.Create(LinuxGuest.AcpiTables), GuestRangeUse.AcpiTables),
            Prevalidated("guest.secrets", SvsmImageBuilder.GuestSecretsPage, PageSize, GuestRangeUse.Reserved),
            Prevalidated("guest.cpuid", SvsmImageBuilder.GuestCpuidPage, PageSize, GuestRangeUse.Reserved),
            Prevalidated("guest.calling-area", SvsmImageBuilder.GuestCallingArea, PageSize, GuestRangeUse.Reserved),
            Launched("guest.linux.kernel", kernel.PreferredAddress, kernel.ProtectedMode, GuestRangeUse.Ram),
        ];
        // Without EFI, Linux looks for tables of a firmware there. It finds zeroes that are measured, rather than what the host likes to show.
        _launch.AddZeroes(LinuxGuest.FirmwareArea, (int)((LegacyEnd - LinuxGuest.FirmwareArea) / PageSize));
        AddPart(new ImagePart("guest.linux.firmware-area", ImagePartGroup.Guest, ImagePartKind.Zero, LinuxGuest.FirmwareArea, 0, LegacyEnd - LinuxGuest.FirmwareArea, PageRights.None));
        ranges.Add(new GuestRange { Base = LinuxGuest.FirmwareArea, Length = LegacyEnd - LinuxGuest.FirmwareArea, Kind = GuestRangeKind.Rom, Use = GuestRangeUse.Reserved });
        if (!options.InitialRamDisk.IsEmpty)
        {
            ranges.Add(Launched("guest.linux.initrd", diskBase, options.InitialRamDisk, GuestRangeUse.Ram));
        }

        configuration.GuestKind = GuestKind.Linux;
        configuration.GuestEntry = kernel.Entry;
        configuration.GuestSecretsPage = SvsmImageBuilder.GuestSecretsPage;
        configuration.GuestCpuidPage = SvsmImageBuilder.GuestCpuidPage;
        configuration.GuestCallingArea = SvsmImageBuilder.GuestCallingArea;
        configuration.GuestBootParameters = LinuxGuest.BootParameters;
        configuration.GuestPageTables = LinuxGuest.PageTables;
        configuration.GuestPageTableCount = LinuxGuest.PageTableCount;
        configuration.GuestDescriptorTable = LinuxGuest.Descriptors;
        configuration.GuestDescriptorTableLength = LinuxGuest.DescriptorsLength;
        configuration.GuestInterruptControllers = LinuxGuest.AcpiTables + AcpiTables.InterruptControllersOffset;
        SetGuestRanges(ref configuration, ranges);
    }

    // Behind the memory that the kernel needs for itself; behind the region, when that is in the way.
    private ulong PlaceInitialRamDisk(LinuxKernel kernel, ulong kernelEnd, ulong length)
    {
        ulong start = Overlaps(kernelEnd, PagesUp(kernelEnd + length)) ? _regionBase + _regionLength : kernelEnd;
        ulong limit = Math.Min(PayloadLimit, kernel.InitialRamDiskLimit + 1ul);
        return start < limit && length <= limit - start
            ? start
            : throw SvsmDiagnostics.LinuxGuestTooLarge.Error($"an initial RAM disk of 0x{length:X} bytes at 0x{start:X}", $"an end at or below 0x{limit:X}");
    }

    private bool Overlaps(ulong first, ulong end) => first < _regionBase + _regionLength && _regionBase < end;

    private static ulong PagesUp(ulong address) => PageCount(address) * PageSize;

    private GuestRange Launched(string name, ulong gpa, ReadOnlyMemory<byte> data, GuestRangeUse use)
    {
        ulong length = PagesUp((ulong)data.Length);
        _launch.AddData(gpa, data);
        AddPart(new ImagePart(name, ImagePartGroup.Guest, ImagePartKind.Data, gpa, 0, length, PageRights.None));
        return new GuestRange { Base = gpa, Length = length, Kind = GuestRangeKind.Launched, Use = use };
    }

    private GuestRange Prevalidated(string name, ulong gpa, ulong length, GuestRangeUse use = GuestRangeUse.Ram)
    {
        AddPart(new ImagePart(name, ImagePartGroup.Reserved, ImagePartKind.Reserved, gpa, 0, length, PageRights.None));
        return new GuestRange { Base = gpa, Length = length, Kind = GuestRangeKind.Prevalidate, Use = use };
    }

    private void CheckGuestSegment(ElfSegment segment, int number)
    {
        ulong first = segment.PhysicalAddress;
        if (first % PageSize != 0)
        {
            throw SvsmDiagnostics.SegmentMisaligned.Error($"segment {number} of the guest payload at 0x{first:X}", "a multiple of 4096");
        }

        if (first >= PayloadLimit || segment.Length > PayloadLimit - first)
        {
            throw SvsmDiagnostics.GuestMisplaced.Error($"segment {number} of the guest payload at 0x{first:X}, 0x{segment.Length:X} bytes", "an end at or below 4 GiB, for a payload starts in 32-bit mode");
        }

        ulong end = first + (PageCount(segment.Length) * PageSize);
        if (FindInTheWay(first, end) is (string other, ulong otherFirst, ulong otherEnd))
        {
            throw SvsmDiagnostics.GuestMisplaced.Error(
                $"segment {number} of the guest payload takes 0x{first:X} to 0x{end:X}", $"addresses outside of {other}, 0x{otherFirst:X} to 0x{otherEnd:X}");
        }
    }

    // What is already where a guest wants to be.
    private (string What, ulong First, ulong End)? FindInTheWay(ulong first, ulong end)
    {
        foreach (ImagePart part in _parts)
        {
            if (first < part.Gpa + part.Length && part.Gpa < end)
            {
                return (part.Name, part.Gpa, part.Gpa + part.Length);
            }
        }

        return first < LegacyEnd && LegacyBase < end ? ("the video and ROM area, which is no RAM for a guest, as hosts may map it read-only", LegacyBase, LegacyEnd)
            : Overlaps(first, end) ? ("the SVSM's region", _regionBase, _regionBase + _regionLength)
            : null;
    }

    private void SetGuestRanges(ref ImageConfiguration configuration, List<GuestRange> ranges)
    {
        ranges.Sort((a, b) => a.Base.CompareTo(b.Base));
        var merged = new List<GuestRange>();
        foreach (GuestRange range in ranges)
        {
            if (merged.Count != 0 && merged[^1].Base + merged[^1].Length == range.Base && merged[^1].Kind == range.Kind && merged[^1].Use == range.Use)
            {
                merged[^1] = merged[^1] with { Length = merged[^1].Length + range.Length };
            }
            else
            {
                merged.Add(range);
            }
        }

        if (merged.Count > ImageConfiguration.MaxGuestRanges)
        {
            throw SvsmDiagnostics.TooManyGuestRanges.Error($"{merged.Count} ranges", $"at most {ImageConfiguration.MaxGuestRanges}");
        }

        configuration.GuestRangeCount = (uint)merged.Count;
        for (int i = 0; i < merged.Count; i++)
        {
            configuration.Ranges[i] = merged[i];

            // Required memory exists and is private from the start: the kernel has to validate it, not to ask the host for it.
            if (merged[i].Kind == GuestRangeKind.Prevalidate)
            {
                _launch.AddRequiredMemory(merged[i].Base, (uint)merged[i].Length);
            }
        }
    }

    private static void SetRegisters(ref Vmsa vmsa, ulong entry, ulong bootParameters)
    {
        // 32-bit protected mode, flat, paging off. CR4.MCE and EFER.SVME are bits that KVM forces, and the digest contains.
        var code = new SegmentRegister { Selector = 0x08, Attributes = 0xC9B, Limit = 0xFFFF_FFFF };
        var data = new SegmentRegister { Selector = 0x10, Attributes = 0xC93, Limit = 0xFFFF_FFFF };
        vmsa.Cs = code;
        vmsa.Ds = data;
        vmsa.Es = data;
        vmsa.Fs = data;
        vmsa.Gs = data;
        vmsa.Ss = data;
        vmsa.Cr0 = 0x31;
        vmsa.Cr4 = 0x40;
        vmsa.Efer = 0x1000;
        vmsa.Rflags = 2;
        vmsa.Xcr0 = 1;
        vmsa.Rip = entry;
        vmsa.Rbx = bootParameters;
    }

    private static byte[] MakeCpuidPage()
    {
        byte[] page = CpuidPage.Create(CpuidPage.DefaultLeaves.AsSpan());

        // The size of the XSAVE area depends on XCR0 and XSS; the security processor checks the values for those named here.
        foreach (ref CpuidEntry entry in MemoryMarshal.Cast<byte, CpuidEntry>(page.AsSpan(CpuidPageHeader.EntriesOffset))[..CpuidPage.DefaultLeaves.Length])
        {
            entry.Xcr0 = entry is { Function: 0xD, Index: 0 or 1 } ? 1u : 0;
        }

        return page;
    }

    private static byte[] ToPage(in ImageConfiguration configuration)
    {
        byte[] page = new byte[PageSize];
        MemoryMarshal.Write(page, in configuration);
        return page;
    }

    private static ImmutableArray<ElfSymbol> SortSymbols(ElfFile kernel)
    {
        var symbols = new List<ElfSymbol>();
        foreach (ElfSymbol symbol in kernel.Symbols)
        {
            foreach (ElfSegment segment in kernel.Segments)
            {
                // Numbers of the linker script are not addresses, whatever they look like.
                if (!symbol.IsAbsolute && symbol.Value >= segment.VirtualAddress && symbol.Value - segment.VirtualAddress < segment.Length)
                {
                    symbols.Add(symbol);
                    break;
                }
            }
        }

        symbols.Sort((a, b) => a.Value != b.Value ? a.Value.CompareTo(b.Value) : string.CompareOrdinal(a.Name, b.Name));
        return [.. symbols];
    }

    private ulong TakeFrames(ulong length)
    {
        ulong gpa = _nextFrame;
        ulong used = gpa - _regionBase;
        if (length > _regionLength - used)
        {
            throw RegionFull(length > ulong.MaxValue - used ? ulong.MaxValue : used + length);
        }

        _nextFrame += length;
        return gpa;
    }

    private SvsmDiagnosticException RegionFull(ulong needed) => SvsmDiagnostics.RegionFull.Error(
        $"at least 0x{needed:X} bytes", $"less than the 0x{_regionLength:X} of host {HostFlavourNames.ToName(_options.Flavour)}, for some must be left for the heap");
}
