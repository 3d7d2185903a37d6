// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using System.Linq;
using System.Runtime.InteropServices;
using Svsm.Diagnostics;
using Svsm.Igvm;
using Svsm.Wire;
using Xunit;

namespace Svsm.Builder.Tests;

public sealed class SvsmImageBuilderTests
{
    private const ulong CBit = 1ul << 51;

    public static TheoryData<HostFlavour> Flavours => [HostFlavour.Qemu, HostFlavour.StockQemu, HostFlavour.HyperV, HostFlavour.Vanadium];

    private static SvsmImageOptions Options(HostFlavour flavour = HostFlavour.Qemu) => new()
    {
        Kernel = TestElf.Kernel().ToArray(),
        GuestPayload = TestElf.Payload().ToArray(),
        Flavour = flavour,
    };

    [Theory]
    [MemberData(nameof(Flavours))]
    public void Build_AnyFlavour_EveryKernelAddressTranslatesToTheRightFrame(HostFlavour flavour)
    {
        SvsmImage image = SvsmImageBuilder.Build(Options(flavour));
        var memory = new ImageMemory(IgvmFile.Parse(image.ToIgvm().Write()));
        BootParameters boot = MemoryMarshal.Read<BootParameters>(memory.Page(image.Launch.Vmsa.Rbx));
        ImageConfiguration configuration = image.Configuration;

        // The walk of the boot stub: C-bit into the boot tables, then into the kernel's tables through the window.
        Assert.Equal(BootParameters.MagicValue, boot.Magic);
        memory.Encrypt(boot.BootRoot, boot.BootTableCount, CBit);
        var bootMap = new Dictionary<ulong, Translation>();
        memory.Encrypt(boot.KernelRoot, boot.KernelTableCount, CBit);
        foreach ((ulong address, Translation page) in memory.Mappings(boot.BootRoot | CBit, CBit))
        {
            bootMap.Add(address, page);
        }

        for (uint i = 0; i < boot.KernelTableCount; i++)
        {
            Translation table = bootMap[boot.KernelTablesWindow + (i * 4096ul)];
            Assert.Equal(boot.KernelRoot + (i * 4096ul), table.Gpa);
            Assert.True(table is { Writable: true, Executable: false, Global: false });
        }

        // The kernel runs on the boot tables at first: its half is the same.
        Dictionary<ulong, Translation> kernelMap = memory.Mappings(boot.KernelRoot | CBit, CBit).ToDictionary(e => e.VirtualAddress, e => e.Page);
        Assert.All(kernelMap, e => Assert.Equal(e.Value, bootMap[e.Key]));
        Assert.All(kernelMap.Keys, address => Assert.True(address >= KernelAddressSpace.PerCpuBase));

        foreach (TestElf.Segment segment in TestElf.Kernel().Segments)
        {
            Dictionary<ulong, Translation> map = segment.Address < 0x8000_0000 ? bootMap : kernelMap;
            for (ulong offset = 0; offset < segment.Length; offset += 4096)
            {
                Translation page = map[segment.Address + offset];
                byte[] wanted = new byte[4096];
                if (offset < (ulong)segment.Data.Length)
                {
                    segment.Data.AsSpan((int)offset, Math.Min(4096, segment.Data.Length - (int)offset)).CopyTo(wanted);
                }

                Assert.True(memory.Page(page.Gpa).SequenceEqual(wanted), $"0x{segment.Address + offset:X}");
                Assert.Equal((segment.Flags & 2) != 0, page.Writable);
                Assert.Equal((segment.Flags & 1) != 0, page.Executable);
                Assert.Equal(segment.Address >= KernelAddressSpace.GlobalBase, page.Global);
            }
        }

        Assert.Equal((HashSet<ulong>)[.. kernelMap.Keys], [.. ExpectedAddresses(configuration)]);
        Assert.Equal("Secrets", memory.Types[kernelMap[KernelAddressSpace.Secrets].Gpa]);
        Assert.True(kernelMap[KernelAddressSpace.Secrets].Writable);
        Assert.Equal("Parameter", memory.Types[kernelMap[KernelAddressSpace.GeneralParameters].Gpa]);
        Assert.Equal("Parameter", memory.Types[kernelMap[KernelAddressSpace.MemoryMap].Gpa]);
        Assert.Equal(configuration.Magic, MemoryMarshal.Read<ulong>(memory.Page(kernelMap[KernelAddressSpace.Configuration].Gpa)));
        Assert.Equal("CpuidData", memory.Types[boot.CpuidPage]);
    }

    private static IEnumerable<ulong> ExpectedAddresses(ImageConfiguration configuration)
    {
        foreach (TestElf.Segment segment in TestElf.Kernel().Segments.Where(s => s.Address >= 0x8000_0000))
        {
            for (ulong offset = 0; offset < segment.Length; offset += 4096)
            {
                yield return segment.Address + offset;
            }
        }

        yield return KernelAddressSpace.Configuration;
        yield return KernelAddressSpace.GeneralParameters;
        yield return KernelAddressSpace.MemoryMap;
        yield return KernelAddressSpace.Secrets;
        for (uint i = 0; i < configuration.KernelTableCount; i++)
        {
            yield return KernelAddressSpace.PageTables + (i * 4096ul);
        }
    }

    [Fact]
    public void Build_BootMap_HasNothingButLowAreaAndWindowBelow()
    {
        SvsmImage image = SvsmImageBuilder.Build(Options());
        var memory = new ImageMemory(image.ToIgvm());
        BootParameters boot = MemoryMarshal.Read<BootParameters>(memory.Page(image.Launch.Vmsa.Rbx));
        var low = memory.Mappings(boot.BootRoot).Where(m => m.VirtualAddress < 0x8000_0000_0000).ToList();

        Assert.All(low.Where(m => m.VirtualAddress < boot.KernelTablesWindow), m => Assert.Equal(m.VirtualAddress, m.Page.Gpa));
        Assert.Equal(LowArea.Base, low[0].VirtualAddress);
        Assert.All(low, m => Assert.False(m.Page.Writable && m.Page.Executable));
        Assert.All(low, m => Assert.False(m.Page.User));
        Assert.Equal(image.Configuration.LowAreaLength / 4096, (ulong)low.Count(m => m.VirtualAddress < boot.KernelTablesWindow));
        Assert.Equal(boot.KernelTableCount, (uint)low.Count(m => m.VirtualAddress >= boot.KernelTablesWindow));
    }

    [Fact]
    public void Build_KernelMap_MapsNoFrameTwiceButTables()
    {
        SvsmImage image = SvsmImageBuilder.Build(Options());
        var memory = new ImageMemory(image.ToIgvm());
        List<(ulong VirtualAddress, Translation Page)> map = memory.Mappings(image.Configuration.KernelRoot);

        Assert.Equal(map.Count, map.Select(m => m.Page.Gpa).Distinct().Count());
        Assert.All(map, m => Assert.False(m.Page.Writable && m.Page.Executable));
        Assert.All(map, m => Assert.False(m.Page.User));
        Assert.DoesNotContain(map, m => m.VirtualAddress == 0);
        Assert.All(map, m => Assert.InRange(m.Page.Gpa, image.Configuration.RegionBase, image.Configuration.HeapBase - 1));

        // Guards: the pages around the stacks.
        foreach (ulong guard in (ulong[])[0xFFFF_FF80_0050_0000, 0xFFFF_FF80_0050_5000, 0xFFFF_FF80_0050_A000])
        {
            Assert.DoesNotContain(map, m => m.VirtualAddress == guard);
        }
    }

    [Fact]
    public void Build_WindowTable_ExistsAndIsEmpty()
    {
        SvsmImage image = SvsmImageBuilder.Build(Options());
        var memory = new ImageMemory(image.ToIgvm());
        ulong table = image.Configuration.KernelRoot;
        for (int level = 3; level > 0; level--)
        {
            table = memory.Read(table + (((KernelAddressSpace.WindowBase >> (12 + (9 * level))) & 511) * 8)) & 0x000F_FFFF_FFFF_F000;
        }

        Assert.Equal(image.Configuration.KernelRoot + (image.Configuration.WindowTableIndex * 4096ul), table);
        Assert.Equal(-1, memory.Page(table).IndexOfAnyExcept((byte)0));
    }

    [Theory]
    [MemberData(nameof(Flavours))]
    public void Build_AnyFlavour_PartsAreDisjointAndCoverTheLaunch(HostFlavour flavour)
    {
        SvsmImage image = SvsmImageBuilder.Build(Options(flavour));
        for (int i = 1; i < image.Parts.Length; i++)
        {
            Assert.True(image.Parts[i - 1].Gpa + image.Parts[i - 1].Length <= image.Parts[i].Gpa);
        }

        var launched = new HashSet<ulong>();
        foreach (ImagePart part in image.Parts.Where(p => p.Kind != ImagePartKind.Reserved))
        {
            for (ulong gpa = part.Gpa; gpa < part.Gpa + part.Length; gpa += 4096)
            {
                launched.Add(gpa);
            }
        }

        Assert.Equal(launched, [.. new ImageMemory(image.ToIgvm()).Types.Keys]);
        Assert.Equal((ulong)launched.Count * 4096, image.Sizes.Launched);
        Assert.Equal(image.Parts.Length, image.Parts.Select(p => p.Name).Distinct().Count());
    }

    [Fact]
    public void Build_LowArea_IsLaunchedWithoutAGap()
    {
        TestElf kernel = TestElf.Kernel();
        kernel.Segments[0] = kernel.Segments[0] with { Address = 0x1_4000 };
        kernel.Add(0x1_8000, TestElf.RW, [1], section: ".boot.data");
        kernel.Entry = 0x1_4010;
        SvsmImage image = SvsmImageBuilder.Build(Options() with { Kernel = kernel.ToArray() });
        var memory = new ImageMemory(image.ToIgvm());

        for (ulong gpa = LowArea.Base; gpa < LowArea.Base + image.Configuration.LowAreaLength; gpa += 4096)
        {
            Assert.True(memory.Types.ContainsKey(gpa), $"0x{gpa:X}");
        }
    }

    [Fact]
    public void Build_WithPayload_ConfigurationDescribesTheGuest()
    {
        SvsmImage image = SvsmImageBuilder.Build(Options());
        ImageConfiguration configuration = image.Configuration;

        Assert.Equal(GuestKind.Payload, configuration.GuestKind);
        Assert.Equal(0x10_0020ul, configuration.GuestEntry);
        Assert.Equal(0x80_D000ul, configuration.GuestSecretsPage);
        Assert.Equal(0x80_E000ul, configuration.GuestCpuidPage);
        Assert.Equal(0x80_F000ul, configuration.GuestCallingArea);
        Assert.Equal(0x81_2000ul, configuration.GuestMemoryMap);
        Assert.Equal(4u, configuration.GuestRangeCount);
        Assert.Equal(
            [(0x10_0000ul, 0x3000ul, GuestRangeKind.Launched), (0x10_3000, 0x2000, GuestRangeKind.Prevalidate), (0x80_D000, 0x3000, GuestRangeKind.Prevalidate), (0x81_2000, 0x1000, GuestRangeKind.Prevalidate)],
            Ranges(configuration));
        Assert.Equal(Vmpl.Vmpl2, configuration.GuestVmpl);
        Assert.Equal(0x3F8, configuration.ConsolePort);
    }

    [Fact]
    public void Build_WithoutPayload_HasNoGuest()
    {
        SvsmImage image = SvsmImageBuilder.Build(Options() with { GuestPayload = default });

        Assert.Equal(GuestKind.None, image.Configuration.GuestKind);
        Assert.Equal(0u, image.Configuration.GuestRangeCount);
        Assert.Equal(0ul, image.Sizes.Guest);
        Assert.Equal(0, image.ToIgvm().Platforms[0].HighestVtl);
        Assert.Single(image.Launch.RequiredMemory);
    }

    private static List<(ulong, ulong, GuestRangeKind)> Ranges(ImageConfiguration configuration)
    {
        var ranges = new List<(ulong, ulong, GuestRangeKind)>();
        for (int i = 0; i < configuration.GuestRangeCount; i++)
        {
            ranges.Add((configuration.Ranges[i].Base, configuration.Ranges[i].Length, configuration.Ranges[i].Kind));
        }

        return ranges;
    }

    [Fact]
    public void Build_LaunchRegisters_StartTheStub()
    {
        SvsmImage image = SvsmImageBuilder.Build(Options());
        Vmsa vmsa = image.Launch.Vmsa;

        Assert.Equal(0x1_0010ul, vmsa.Rip);
        Assert.Equal(0x1_2000ul, vmsa.Rbx);
        Assert.Equal(0x31ul, vmsa.Cr0);
        Assert.Equal(0ul, vmsa.Cr3);
        Assert.Equal(0xC9B, vmsa.Cs.Attributes);
        Assert.Equal(0xFFFF_FFFFu, vmsa.Ss.Limit);
    }

    [Fact]
    public void Build_HyperV_LeavesTheVmsaPageOutOfTheHeap()
    {
        SvsmImage image = SvsmImageBuilder.Build(Options(HostFlavour.HyperV));
        ImagePart heap = image.Parts.Single(p => p.Name == "kernel.heap");

        Assert.Equal(0x87F_F000ul, image.Configuration.LaunchVmsa);
        Assert.Equal(image.Configuration.LaunchVmsa, heap.Gpa + heap.Length);
        Assert.True(image.Configuration.SevFeatures.HasFlag(SevFeatures.VirtualTom));
    }

    [Fact]
    public void Build_Vanadium_RegionIsAboveFourGigabytes()
    {
        SvsmImage image = SvsmImageBuilder.Build(Options(HostFlavour.Vanadium));

        Assert.Equal(0x7FF_8000_0000ul, image.Configuration.RegionBase);
        Assert.Equal(0xFFFF_FFFF_F000ul, image.Configuration.LaunchVmsa);
    }

    [Fact]
    public void Build_StockQemu_DropsInjectionModes() =>
        Assert.Equal(SevFeatures.SnpActive, SvsmImageBuilder.Build(Options(HostFlavour.StockQemu)).Configuration.SevFeatures);

    [Theory]
    [MemberData(nameof(Flavours))]
    public void Build_Twice_GivesTheSameBytes(HostFlavour flavour) =>
        Assert.Equal(SvsmImageBuilder.Build(Options(flavour)).ToIgvm().Write(), SvsmImageBuilder.Build(Options(flavour)).ToIgvm().Write());

    [Fact]
    public void Build_Symbols_AreSortedAddressesOnly()
    {
        SvsmImage image = SvsmImageBuilder.Build(Options());

        // svsm_kernel_stack_top is just past its segment, "number" is absolute, "outside" is nowhere.
        Assert.Equal(["svsm_kernel_entry", "a_second", "b_second"], image.Symbols.Select(s => s.Name));
    }

    [Fact]
    public void Build_Sizes_CountWholePagesByGroup()
    {
        ImageSizes sizes = SvsmImageBuilder.Build(Options()).Sizes;

        Assert.Equal(0x3000ul, sizes.KernelText);
        Assert.Equal(0x2000ul, sizes.KernelReadOnlyData);
        Assert.Equal(0x3000ul, sizes.KernelData);
        Assert.Equal(0x3000ul + 0x8000 + 0x1000, sizes.KernelZeroData);
        Assert.Equal(0x4000ul, sizes.HandOver);
        Assert.Equal(0x3000ul, sizes.Guest);
    }

    private static void Fails(SvsmDiagnostic error, SvsmImageOptions options, string text)
    {
        var e = Assert.Throws<SvsmDiagnosticException>(() => SvsmImageBuilder.Build(options));
        Assert.Same(error, e.Diagnostic);
        Assert.Contains(text, e.Message, StringComparison.Ordinal);
    }

    private static void KernelFails(SvsmDiagnostic error, string text, Action<TestElf> change)
    {
        TestElf kernel = TestElf.Kernel();
        change(kernel);
        Fails(error, Options() with { Kernel = kernel.ToArray() }, text);
    }

    private static void PayloadFails(SvsmDiagnostic error, string text, Action<TestElf> change)
    {
        TestElf payload = TestElf.Payload();
        change(payload);
        Fails(error, Options() with { GuestPayload = payload.ToArray() }, text);
    }

    [Fact]
    public void Build_MisalignedSegment_Fails() =>
        KernelFails(SvsmDiagnostics.SegmentMisaligned, "0xFFFFFF8000300010", k => k.Segments[2] = k.Segments[2] with { Address = 0xFFFF_FF80_0030_0010 });

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    public void Build_WritableExecutableSegment_Fails(int segment) =>
        KernelFails(SvsmDiagnostics.SegmentWritableAndExecutable, $"segment {segment}", k => k.Segments[segment] = k.Segments[segment] with { Flags = 7 });

    [Theory]
    [InlineData(0xF000ul)]
    [InlineData(0x7_F000ul)]
    [InlineData(0x10_0000ul)]
    [InlineData(0x7FFF_F000ul)]
    [InlineData(0x8000_0000ul)]
    [InlineData(0x0000_7FFF_0000_0000ul)]
    [InlineData(0x8000_0000_0000_0000ul)]
    [InlineData(0xFFFF_FEFF_FFFF_F000ul)]
    public void Build_MisplacedSegment_Fails(ulong address) =>
        KernelFails(SvsmDiagnostics.SegmentMisplaced, $"0x{address:X}", k => k.Add(address, TestElf.R, new byte[0x1001]));

    [Fact]
    public void Build_HugeLowSegment_Fails() =>
        KernelFails(SvsmDiagnostics.SegmentMisplaced, "segment 7", k => k.Add(0x1_4000, TestElf.RW, [], ulong.MaxValue - 0x2_0000));

    [Theory]
    [InlineData(0xFFFF_FF80_0020_2000ul)]
    [InlineData(KernelAddressSpace.WindowBase)]
    [InlineData(KernelAddressSpace.WindowBase + 0x1F_F000)]
    [InlineData(KernelAddressSpace.Configuration - 0x1000)]
    [InlineData(KernelAddressSpace.GeneralParameters + 0x1000)]
    [InlineData(KernelAddressSpace.PageTables)]
    public void Build_OverlappingSegments_Fail(ulong address) =>
        KernelFails(SvsmDiagnostics.SegmentsOverlap, $"0x{address:X}", k => k.Add(address, TestElf.R, new byte[0x1001]));

    [Theory]
    [InlineData(0x1_2000ul)]
    [InlineData(0xFFFFul)]
    [InlineData(0xFFFF_FF80_0020_0000ul)]
    public void Build_EntryNotInStub_Fails(ulong entry) => KernelFails(SvsmDiagnostics.EntryInvalid, $"0x{entry:X}", k => k.Entry = entry);

    [Theory]
    [InlineData(0x1_0000ul)]
    [InlineData(0xFFFF_FF80_0030_0000ul)]
    [InlineData(0xFFFF_FF80_0020_3000ul)]
    public void Build_KernelEntryNotInText_Fails(ulong entry) =>
        KernelFails(SvsmDiagnostics.EntryInvalid, $"0x{entry:X}", k => k.Symbols[0] = ("svsm_kernel_entry", entry, false));

    [Theory]
    [InlineData("svsm_kernel_entry")]
    [InlineData("svsm_kernel_stack_top")]
    public void Build_MissingSymbol_Fails(string name) => KernelFails(SvsmDiagnostics.SymbolInvalid, name, k => k.Symbols.RemoveAll(s => s.Name == name));

    [Theory]
    [InlineData(0xFFFF_FF80_0050_5008ul)]
    [InlineData(0xFFFF_FF80_0050_1000ul)]
    [InlineData(0xFFFF_FF80_0030_0100ul)]
    [InlineData(0ul)]
    public void Build_BadStackTop_Fails(ulong top) =>
        KernelFails(SvsmDiagnostics.SymbolInvalid, $"0x{top:X}", k => k.Symbols[1] = ("svsm_kernel_stack_top", top, false));

    private static SvsmImageOptions WithStubUpTo(ulong end)
    {
        TestElf kernel = TestElf.Kernel();
        kernel.Segments[0] = kernel.Segments[0] with { Length = end - 0x1_0000 };
        return Options() with { Kernel = kernel.ToArray() };
    }

    [Theory]
    [InlineData(0x7_F000ul, "0x86000")]
    [InlineData(0x7_9001ul, "0x81000")]
    public void Build_LowAreaFull_Fails(ulong end, string text) => Fails(SvsmDiagnostics.LowAreaFull, WithStubUpTo(end), text);

    [Fact]
    public void Build_LowAreaExactlyFull_Succeeds()
    {
        // The stub, one page of parameters, five of tables, the CPUID page.
        Assert.Equal(0x7_0000ul, SvsmImageBuilder.Build(WithStubUpTo(0x7_9000)).Configuration.LowAreaLength);
    }

    private static SvsmImageOptions WithMorePages(ulong count) =>
        Options() with { Kernel = TestElf.Kernel().Add(0xFFFF_FF80_E000_0000, TestElf.RW, [], count * 4096).ToArray() };

    [Theory]
    [InlineData(2006ul)]
    [InlineData(2048ul)]
    [InlineData(2049ul)]
    [InlineData(0x3_FFFFul)]
    public void Build_RegionFull_Fails(ulong pages) => Fails(SvsmDiagnostics.RegionFull, WithMorePages(pages), "0x800000");

    [Fact]
    public void Build_RegionWithOnePageOfHeap_Succeeds()
    {
        // 20 pages of segments, 4 of hand-over, 13 + 1 + 4 tables: what is left of 2048 pages is one.
        SvsmImage image = SvsmImageBuilder.Build(WithMorePages(2005));
        Assert.Equal(0x1000ul, image.Configuration.RegionBase + image.Configuration.RegionLength - image.Configuration.HeapBase);
    }

    [Theory]
    [InlineData(0x1_0000ul)]
    [InlineData(0x9_F000ul)]
    [InlineData(0xA_0000ul)]
    [InlineData(0xF_F000ul)]
    [InlineData(0x80_D000ul)]
    [InlineData(0x81_2000ul)]
    [InlineData(0x10_3000ul)]
    [InlineData(0x800_0000ul)]
    [InlineData(0x87F_F000ul)]
    [InlineData(0xFFFF_F000ul)]
    [InlineData(0x1_0000_0000ul)]
    public void Build_GuestMisplaced_Fails(ulong address) =>
        PayloadFails(SvsmDiagnostics.GuestMisplaced, $"0x{address:X}", p => p.Add(address, TestElf.RW, new byte[0x1001]));

    [Fact]
    public void Build_MisalignedGuestSegment_Fails() => PayloadFails(SvsmDiagnostics.SegmentMisaligned, "0x200800", p => p.Add(0x20_0800, TestElf.RW, [1]));

    [Theory]
    [InlineData(0x9_0000ul)]
    [InlineData(0x10_1100ul)]
    [InlineData(0x10_3000ul)]
    public void Build_GuestEntryNotLoaded_Fails(ulong entry) => PayloadFails(SvsmDiagnostics.EntryInvalid, $"0x{entry:X}", p => p.Entry = entry);

    [Fact]
    public void Build_TooManyGuestRanges_Fails() => PayloadFails(SvsmDiagnostics.TooManyGuestRanges, "17", p =>
    {
        for (ulong i = 0; i < 13; i++)
        {
            p.Add(0x20_0000 + (i * 0x2000), TestElf.RW, [1]);
        }
    });

    [Theory]
    [InlineData(Vmpl.Vmpl0)]
    [InlineData((Vmpl)4)]
    public void Build_BadVmpl_Fails(Vmpl vmpl) => Fails(SvsmDiagnostics.ImageOptionInvalid, Options() with { GuestVmpl = vmpl }, "VMPL");

    [Theory]
    [InlineData(0x1_0000ul)]
    [InlineData(0x403_0000ul)]
    public void Build_BadPolicy_Fails(ulong policy) => Fails(SvsmDiagnostics.ImageOptionInvalid, Options() with { Policy = policy }, $"0x{policy:X}");

    // What is printed for debugging may be secret: only where the host can look into the VM anyway.
    [Theory]
    [InlineData(0x3_0000ul, null, LogLevel.Information)]
    [InlineData(0xB_0000ul, null, LogLevel.Debug)]
    [InlineData(0xB_0000ul, LogLevel.Warning, LogLevel.Warning)]
    [InlineData(0x3_0000ul, LogLevel.None, LogLevel.None)]
    public void Build_ConsoleLevel_IsMeasured(ulong policy, LogLevel? level, LogLevel expected) =>
        Assert.Equal(expected, SvsmImageBuilder.Build(Options() with { Policy = policy, ConsoleLevel = level }).Configuration.ConsoleLevel);

    [Fact]
    public void Build_DebugConsoleWithoutDebugPolicy_Fails() =>
        Fails(SvsmDiagnostics.ImageOptionInvalid, Options() with { ConsoleLevel = LogLevel.Debug }, "console level debug");

    [Fact]
    public void Build_UnknownFlavour_Fails() => Fails(SvsmDiagnostics.ImageOptionInvalid, Options() with { Flavour = (HostFlavour)9 }, "9");

    [Fact]
    public void Build_FeatureThatHostRefuses_Fails() =>
        Fails(SvsmDiagnostics.ImageOptionInvalid, Options(HostFlavour.StockQemu) with { SevFeatures = SevFeatures.SnpActive | SevFeatures.VmplSss }, "VmplSss");

    [Fact]
    public void ToIgvm_PageWhereTheHostPutsTheVmsa_Fails()
    {
        SvsmImage image = SvsmImageBuilder.Build(Options());
        image.Launch.AddZeroes(0xFFFF_FFFF_F000, 1);

        var e = Assert.Throws<SvsmDiagnosticException>(image.ToIgvm);

        Assert.Same(SvsmDiagnostics.HostRefusesImage, e.Diagnostic);
        Assert.Contains("0xFFFFFFFFF000", e.Message, StringComparison.Ordinal);
        Assert.Contains("what host qemu accepts", e.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("Kernel")]
    [InlineData("Payload")]
    public void Build_NotAnElfFile_Fails(string which) => Fails(
        SvsmDiagnostics.ElfDamaged,
        which == "Kernel" ? Options() with { Kernel = new byte[64] } : Options() with { GuestPayload = new byte[64] },
        "0x00000000");
}
