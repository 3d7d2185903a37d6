// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.Linq;
using System.Text;
using Svsm.Diagnostics;
using Svsm.Igvm;
using Svsm.Wire;
using Xunit;

namespace Svsm.Builder.Tests;

public sealed class LinuxGuestTests
{
    private const ulong BootParameters = 0x80_0000;

    private static readonly byte[] s_disk = [.. Enumerable.Range(0, 0x2345).Select(i => (byte)(i * 3))];

    private static SvsmImageOptions Options(byte[]? kernel = null, string commandLine = "console=ttyS0 quiet", byte[]? disk = null, HostFlavour flavour = HostFlavour.Qemu) => new()
    {
        Kernel = TestElf.Kernel().ToArray(),
        Flavour = flavour,
        Linux = new LinuxGuestOptions { Kernel = kernel ?? TestBzImage.Create(), InitialRamDisk = disk ?? s_disk, CommandLine = commandLine },
    };

    private static byte[] Read(ImageMemory memory, ulong gpa, int length)
    {
        byte[] bytes = new byte[length];
        for (int i = 0; i < length; i++)
        {
            bytes[i] = memory.Page((gpa + (ulong)i) & ~0xFFFul)[(int)((gpa + (ulong)i) & 0xFFF)];
        }

        return bytes;
    }

    private static uint U32(byte[] bytes, int offset) => BinaryPrimitives.ReadUInt32LittleEndian(bytes.AsSpan(offset));

    private static ulong U64(byte[] bytes, int offset) => BinaryPrimitives.ReadUInt64LittleEndian(bytes.AsSpan(offset));

    private static void Fails(SvsmDiagnostic error, SvsmImageOptions options, string text)
    {
        var e = Assert.Throws<SvsmDiagnosticException>(() => SvsmImageBuilder.Build(options));
        Assert.Same(error, e.Diagnostic);
        Assert.Contains(text, e.Message, StringComparison.Ordinal);
    }

    private static void KernelFails(SvsmDiagnostic error, string text, Action<byte[]> change)
    {
        byte[] kernel = TestBzImage.Create();
        change(kernel);
        Fails(error, Options(kernel), text);
    }

    [Fact]
    public void Build_Linux_IsLoadedWhereItsHeaderSays()
    {
        SvsmImage image = SvsmImageBuilder.Build(Options());
        var memory = new ImageMemory(image.ToIgvm());
        byte[] file = TestBzImage.Create();

        Assert.Equal(file[TestBzImage.ProtectedModeOffset..^100], Read(memory, 0x100_0000, TestBzImage.ProtectedModeLength));
        Assert.True(memory.Page(0x100_3000)[0x10..].IndexOfAnyExcept((byte)0) < 0);
        Assert.Equal(s_disk, Read(memory, 0x180_0000, s_disk.Length));
        Assert.Equal(GuestKind.Linux, image.Configuration.GuestKind);
        Assert.Equal(0x100_0200ul, image.Configuration.GuestEntry);
        Assert.Equal(BootParameters, image.Configuration.GuestBootParameters);
        Assert.True(image.Launch.HasGuest);
    }

    [Fact]
    public void Build_BootParameters_AreTheHeaderAndWhatALoaderSays()
    {
        byte[] page = Read(new ImageMemory(SvsmImageBuilder.Build(Options()).ToIgvm()), BootParameters, 4096);
        byte[] file = TestBzImage.Create();

        Assert.Equal(0x80_A000ul, U64(page, 0x70));
        Assert.Equal(0, page[0x1E8]);
        Assert.Equal(0x20Fu, U32(page, 0x206) & 0xFFFF);
        Assert.Equal(0xFF, page[0x210]);
        Assert.Equal((0x180_0000u, (uint)s_disk.Length), (U32(page, 0x218), U32(page, 0x21C)));
        Assert.Equal(0x80_1000u, U32(page, 0x228));
        Assert.Equal(0x80_9000ul, U64(page, 0x250));

        // All else of the header is the file's; what is not the header is zero.
        foreach ((int from, int to) in (ReadOnlySpan<(int, int)>)[(0x1F1, 0x1FA), (0x1FC, 0x210), (0x22C, 0x250), (0x258, 0x26C)])
        {
            Assert.Equal(file[from..to], page[from..to]);
        }

        Assert.True(page.AsSpan(0x26C).IndexOfAnyExcept((byte)0) < 0);
        Assert.True(page.AsSpan(0, 0x70).IndexOfAnyExcept((byte)0) < 0);
    }

    [Fact]
    public void Build_CommandLine_IsEndedByZero() =>
        Assert.Equal("console=ttyS0 quiet\0", Encoding.ASCII.GetString(Read(new ImageMemory(SvsmImageBuilder.Build(Options()).ToIgvm()), 0x80_1000, 20)));

    [Fact]
    public void Build_SetupData_LeadsToSecretsAndCpuid()
    {
        var memory = new ImageMemory(SvsmImageBuilder.Build(Options()).ToIgvm());
        byte[] data = Read(memory, 0x80_9000, 20);
        Assert.Equal((0ul, 7u, 4u), (U64(data, 0), U32(data, 8), U32(data, 12)));
        byte[] blob = Read(memory, U32(data, 16), 40);
        Assert.Equal((0x4544_4D41u, 1u), (U32(blob, 0), U32(blob, 4)));
        Assert.Equal((0x80_D000ul, 4096u, 0u), (U64(blob, 8), U32(blob, 16), U32(blob, 20)));
        Assert.Equal((0x80_E000ul, 4096u, 0u), (U64(blob, 24), U32(blob, 32), U32(blob, 36)));
    }

    [Fact]
    public void Build_PageTables_MapFourGigabytesToThemselves()
    {
        SvsmImage image = SvsmImageBuilder.Build(Options());
        var memory = new ImageMemory(image.ToIgvm());
        ImageConfiguration configuration = image.Configuration;
        Assert.Equal(6u, configuration.GuestPageTableCount);
        ulong end = configuration.GuestPageTables + (configuration.GuestPageTableCount * 4096);
        for (ulong address = 0; address < 0x1_0000_0000; address += 0x20_0000)
        {
            ulong table = configuration.GuestPageTables;
            foreach (int shift in (ReadOnlySpan<int>)[39, 30])
            {
                ulong entry = memory.Read(table + ((address >> shift & 511) * 8));
                Assert.Equal(0x23ul, entry & 0xFFF);
                table = entry & ~0xFFFul;
                Assert.InRange(table, configuration.GuestPageTables, end - 4096);
            }

            Assert.Equal(address | 0xE3, memory.Read(table + ((address >> 21 & 511) * 8)));
        }
    }

    [Fact]
    public void Build_Descriptors_AreThoseOfTheBootProtocol()
    {
        SvsmImage image = SvsmImageBuilder.Build(Options());
        var memory = new ImageMemory(image.ToIgvm());
        Assert.Equal(32u, image.Configuration.GuestDescriptorTableLength);
        Assert.Equal(0x00AF_9B00_0000_FFFFul, memory.Read(image.Configuration.GuestDescriptorTable + 0x10));
        Assert.Equal(0x00CF_9300_0000_FFFFul, memory.Read(image.Configuration.GuestDescriptorTable + 0x18));
    }

    [Fact]
    public void Build_AcpiTables_CanBeWalkedAndAddUpToZero()
    {
        SvsmImage image = SvsmImageBuilder.Build(Options());
        var memory = new ImageMemory(image.ToIgvm());

        byte[] root = Read(memory, 0x80_A000, 36);
        Assert.Equal("RSD PTR ", Encoding.ASCII.GetString(root, 0, 8));
        Assert.Equal((2, 36u, 0u), (root[15], U32(root, 20), U32(root, 16)));
        Assert.Equal((0, 0), ((byte)root[..20].Sum(b => b), (byte)root.Sum(b => b)));

        byte[] extended = Table(memory, U64(root, 24), "XSDT");
        Assert.Equal(36 + 16, extended.Length);
        byte[] fixedTable = Table(memory, U64(extended, 36), "FACP");
        Assert.Equal(276, fixedTable.Length);
        Assert.Equal(1u << 20, U32(fixedTable, 112) & (1u << 20));
        Assert.Equal(0ul, U64(fixedTable, 132));
        Assert.Equal(U32(fixedTable, 40), U64(fixedTable, 140));

        // Hardware-reduced: no event or timer blocks, no SCI, but the registers of sleep.
        Assert.True(fixedTable.AsSpan(46, 109 - 46).IndexOfAnyExcept((byte)0) < 0);
        Assert.True(fixedTable.AsSpan(148, 244 - 148).IndexOfAnyExcept((byte)0) < 0);
        Assert.Equal((1, 8, 0x605ul), (fixedTable[244], fixedTable[245], U64(fixedTable, 248)));
        Assert.Equal((1, 8, 0x601ul), (fixedTable[256], fixedTable[257], U64(fixedTable, 260)));
        Assert.Equal((1, 8, 0xCF9ul, 6), (fixedTable[116], fixedTable[117], U64(fixedTable, 120), fixedTable[128]));

        byte[] definition = Table(memory, U64(fixedTable, 140), "DSDT");
        Assert.Equal(AcpiDefinitions.Contents, definition.AsSpan(36));

        ulong controllers = U64(extended, 44);
        Assert.Equal(image.Configuration.GuestInterruptControllers, controllers);
        byte[] head = Table(memory, controllers, "APIC");
        Assert.Equal(56, head.Length);
        Assert.Equal((1, 12, 0xFEC0_0000u, 0u), (head[44], head[45], U32(head, 48), U32(head, 52)));
        Assert.Equal(0ul, (controllers + 56) & 0xFFF);
        Assert.True(memory.Page(controllers + 56).IndexOfAnyExcept((byte)0) < 0);
        Assert.True(memory.Page(controllers + 56 + 4096).IndexOfAnyExcept((byte)0) < 0);
    }

    private static byte[] Table(ImageMemory memory, ulong gpa, string signature)
    {
        byte[] table = Read(memory, gpa, (int)U32(Read(memory, gpa, 8), 4));
        Assert.Equal(signature, Encoding.ASCII.GetString(table, 0, 4));
        Assert.Equal(0, (byte)table.Sum(b => b));
        return table;
    }

    [Fact]
    public void Build_Linux_RangesSayWhatIsLaunchedAndWhatStays()
    {
        ImageConfiguration configuration = SvsmImageBuilder.Build(Options()).Configuration;
        var ranges = new List<(ulong, ulong, GuestRangeKind, GuestRangeUse)>();
        for (int i = 0; i < configuration.GuestRangeCount; i++)
        {
            GuestRange range = configuration.Ranges[i];
            ranges.Add((range.Base, range.Length, range.Kind, range.Use));
        }

        Assert.Equal(
            [
                (0xC_0000ul, 0x4_0000ul, GuestRangeKind.Rom, GuestRangeUse.Reserved),
                (0x80_0000, 0xA000, GuestRangeKind.Launched, GuestRangeUse.Ram),
                (0x80_A000, 0x3000, GuestRangeKind.Launched, GuestRangeUse.AcpiTables),
                (0x80_D000, 0x3000, GuestRangeKind.Prevalidate, GuestRangeUse.Reserved),
                (0x100_0000, 0x4000, GuestRangeKind.Launched, GuestRangeUse.Ram),
                (0x180_0000, 0x3000, GuestRangeKind.Launched, GuestRangeUse.Ram),
            ],
            ranges);
    }

    [Fact]
    public void Build_LinuxTwice_IsTheSame() => Assert.Equal(
        SvsmImageBuilder.Build(Options()).ToIgvm().Write().ToArray(), SvsmImageBuilder.Build(Options()).ToIgvm().Write().ToArray());

    [Fact]
    public void Build_KernelDiskAndCommandLine_AreMeasured()
    {
        byte[] otherKernel = TestBzImage.Create();
        otherKernel[TestBzImage.ProtectedModeOffset + 5] ^= 1;
        var digests = new HashSet<string>();
        foreach (SvsmImageOptions options in (SvsmImageOptions[])[Options(), Options(otherKernel), Options(disk: [1]), Options(commandLine: "quiet"), Options(disk: [])])
        {
            digests.Add(SvsmImageWriter.Render(SvsmImageBuilder.Build(options), "image").LaunchDigest.ToString());
        }

        Assert.Equal(5, digests.Count);
    }

    [Fact]
    public void Build_NoDisk_HasNone()
    {
        byte[] page = Read(new ImageMemory(SvsmImageBuilder.Build(Options(disk: [])).ToIgvm()), BootParameters, 4096);
        Assert.Equal((0u, 0u), (U32(page, 0x218), U32(page, 0x21C)));
    }

    // The region is at 128 MiB: a disk that would reach into it goes behind it.
    [Fact]
    public void Build_DiskThatReachesTheRegion_GoesBehindIt()
    {
        byte[] kernel = TestBzImage.Create();
        TestBzImage.Set32(kernel, 0x260, 0x6FF_E001);
        byte[] page = Read(new ImageMemory(SvsmImageBuilder.Build(Options(kernel)).ToIgvm()), BootParameters, 4096);
        Assert.Equal(0x880_0000u, U32(page, 0x218));
    }

    [Fact]
    public void Build_DiskThatJustFits_StaysBeforeTheRegion()
    {
        byte[] kernel = TestBzImage.Create();
        TestBzImage.Set32(kernel, 0x260, 0x6FF_CFFF);
        byte[] page = Read(new ImageMemory(SvsmImageBuilder.Build(Options(kernel)).ToIgvm()), BootParameters, 4096);
        Assert.Equal(0x7FF_D000u, U32(page, 0x218));
    }

    [Theory]
    [InlineData(HostFlavour.HyperV)]
    [InlineData(HostFlavour.Vanadium)]
    public void Build_OtherFlavours_CarryLinuxToo(HostFlavour flavour) =>
        Assert.Equal(GuestKind.Linux, SvsmImageBuilder.Build(Options(flavour: flavour)).Configuration.GuestKind);

    [Fact]
    public void Build_LinuxAndPayload_Fails() =>
        Fails(SvsmDiagnostics.ImageOptionInvalid, Options() with { GuestPayload = TestElf.Payload().ToArray() }, "one guest");

    [Fact]
    public void Build_ShortKernelFile_Fails() => Fails(SvsmDiagnostics.LinuxKernelDamaged, Options(new byte[0x26B]), "619 bytes");

    [Fact]
    public void Build_ElfInsteadOfBzImage_Fails() => Fails(SvsmDiagnostics.LinuxKernelDamaged, Options(TestElf.Kernel().ToArray()), "bzImage");

    [Fact]
    public void Build_TruncatedKernel_Fails() => Fails(SvsmDiagnostics.LinuxKernelDamaged, Options(TestBzImage.Create()[..^116]), "protected-mode part takes 0x3010");

    [Fact]
    public void Build_KernelNotFilledUpToItsLength_IsTaken()
    {
        var memory = new ImageMemory(SvsmImageBuilder.Build(Options(TestBzImage.Create()[..^115])).ToIgvm());
        Assert.Equal(0, memory.Page(0x100_3000)[1]);
    }

    [Fact]
    public void Build_HeaderThatEndsEarly_Fails() => KernelFails(SvsmDiagnostics.LinuxKernelDamaged, "ends at 0x240", k => k[0x201] = 0x3E);

    [Fact]
    public void Build_HeaderThatReachesTheMemoryMap_Fails() => KernelFails(SvsmDiagnostics.LinuxKernelDamaged, "ends at 0x301", k => k[0x201] = 0xFF);

    [Fact]
    public void Build_KernelWithoutAnEntry_Fails() => KernelFails(SvsmDiagnostics.LinuxKernelDamaged, "0x200", k => TestBzImage.Set32(k, 0x1F4, 0x20));

    [Fact]
    public void Build_KernelLargerThanItsMemory_Fails() => KernelFails(SvsmDiagnostics.LinuxKernelDamaged, "0x3000 bytes of memory", k => TestBzImage.Set32(k, 0x260, 0x3000));

    [Theory]
    [InlineData(0x20D, "2.13")]
    [InlineData(0x200, "2.00")]
    public void Build_OldProtocol_Fails(ushort version, string text) => KernelFails(SvsmDiagnostics.LinuxKernelUnsupported, text, k => TestBzImage.Set16(k, 0x206, version));

    [Fact]
    public void Build_KernelWithout64BitEntry_Fails() => KernelFails(SvsmDiagnostics.LinuxKernelUnsupported, "64-bit entry", k => TestBzImage.Set16(k, 0x236, 0x7E));

    [Fact]
    public void Build_KernelLoadedLow_Fails() => KernelFails(SvsmDiagnostics.LinuxKernelUnsupported, "1 MiB", k => k[0x211] = 0);

    [Fact]
    public void Build_KernelThatIsNotRelocatable_Fails() => KernelFails(SvsmDiagnostics.LinuxKernelUnsupported, "CONFIG_RELOCATABLE", k => k[0x234] = 0);

    [Theory]
    [InlineData(0x100_0800ul)]
    [InlineData(0x1_0000_0000ul)]
    [InlineData(ulong.MaxValue)]
    public void Build_PreferredAddressThatIsNone_Fails(ulong address) =>
        KernelFails(SvsmDiagnostics.LinuxKernelUnsupported, $"0x{address:X}", k => BinaryPrimitives.WriteUInt64LittleEndian(k.AsSpan(0x258), address));

    [Theory]
    [InlineData(0x70_0000ul, 0x10_0000u)]
    [InlineData(0x100_0000ul, 0x700_0001u)]
    [InlineData(0x87F_F000ul, 0x10_0000u)]
    [InlineData(0xFFFF_F000ul, 0xFFFF_FFFFu)]
    public void Build_KernelThatDoesNotFit_Fails(ulong address, uint length) => KernelFails(SvsmDiagnostics.LinuxGuestTooLarge, $"0x{address:X}", k =>
    {
        BinaryPrimitives.WriteUInt64LittleEndian(k.AsSpan(0x258), address);
        TestBzImage.Set32(k, 0x260, length);
    });

    [Theory]
    [InlineData(0x100u)]
    [InlineData(0x180_2343u)]
    public void Build_DiskBeyondItsLimit_Fails(uint limit) => KernelFails(SvsmDiagnostics.LinuxGuestTooLarge, $"0x{limit + 1:X}", k => TestBzImage.Set32(k, 0x22C, limit));

    [Fact]
    public void Build_DiskUpToItsLimit_IsTaken()
    {
        byte[] kernel = TestBzImage.Create();
        TestBzImage.Set32(kernel, 0x22C, 0x180_2344);
        Assert.Equal(GuestKind.Linux, SvsmImageBuilder.Build(Options(kernel)).Configuration.GuestKind);
    }

    [Theory]
    [InlineData(2047u, 2047, true)]
    [InlineData(2047u, 2048, false)]
    [InlineData(0xFFFF_FFFFu, 4095, true)]
    [InlineData(0xFFFF_FFFFu, 4096, false)]
    public void Build_CommandLine_MayBeAsLongAsKernelAndPageTake(uint limit, int length, bool fits)
    {
        byte[] kernel = TestBzImage.Create();
        TestBzImage.Set32(kernel, 0x238, limit);
        SvsmImageOptions options = Options(kernel, new string('a', length));
        if (fits)
        {
            Assert.Equal(GuestKind.Linux, SvsmImageBuilder.Build(options).Configuration.GuestKind);
        }
        else
        {
            Fails(SvsmDiagnostics.LinuxCommandLineInvalid, options, $"{length} characters");
        }
    }

    [Theory]
    [InlineData("a\nb", "U+000A at position 1")]
    [InlineData("\u00E9", "U+00E9 at position 0")]
    [InlineData("ab\u007F", "U+007F at position 2")]
    public void Build_CommandLineWithOtherCharacters_Fails(string text, string found) => Fails(SvsmDiagnostics.LinuxCommandLineInvalid, Options(commandLine: text), found);

    [Fact]
    public void Build_MutatedKernels_FailWithAMessageOrNotAtAll()
    {
        var random = new Random(20261122);
        for (int round = 0; round < 500; round++)
        {
            byte[] kernel = TestBzImage.Create();
            for (int i = random.Next(1, 6); i > 0; i--)
            {
                kernel[random.Next(0x1F0, 0x270)] = (byte)random.Next(256);
            }

            if (round % 3 == 0)
            {
                kernel = kernel[..random.Next(kernel.Length)];
            }

            try
            {
                SvsmImageBuilder.Build(Options(kernel, disk: [1]));
            }
            catch (SvsmDiagnosticException)
            {
                // What is wanted; anything else fails the test.
            }
        }
    }
}
