// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.Linq;
using Svsm.Diagnostics;
using Svsm.Igvm;
using Svsm.Wire;
using Xunit;

namespace Svsm.Builder.Tests;

/// <summary>Images with a firmware. Real ones are booted by Svsm.Linux.Tests.</summary>
public sealed class FirmwareTests
{
    private static SvsmImageOptions Options(byte[]? file = null, HostFlavour flavour = HostFlavour.Qemu) => new()
    {
        Kernel = TestElf.Kernel().ToArray(),
        Flavour = flavour,
        Firmware = file ?? new TestFirmware().Create(),
    };

    private static void Fails(SvsmDiagnostic error, SvsmImageOptions options, params string[] texts)
    {
        var e = Assert.Throws<SvsmDiagnosticException>(() => SvsmImageBuilder.Build(options));
        Assert.Same(error, e.Diagnostic);
        Assert.All(texts, text => Assert.Contains(text, e.Message, StringComparison.Ordinal));
    }

    // Changes one list of sections, and expects a refusal.
    private static void Refused(SvsmDiagnostic error, Action<TestFirmware> change, params string[] texts)
    {
        var firmware = new TestFirmware();
        change(firmware);
        Fails(error, Options(firmware.Create()), texts);
    }

    [Fact]
    public void Build_Firmware_EndsAtFourGigabytesAndIsLaunched()
    {
        byte[] file = new TestFirmware().Create();
        SvsmImage image = SvsmImageBuilder.Build(Options(file));
        var memory = new ImageMemory(image.ToIgvm());

        Assert.All(Enumerable.Range(0, TestFirmware.Length / 4096), page => Assert.Equal(
            file.AsSpan(page * 4096, 4096), memory.Page(TestFirmware.Base + ((ulong)page * 4096))));
        Assert.True(image.Launch.HasGuest);
    }

    [Fact]
    public void Build_Configuration_SaysWhatTheMetadataSay()
    {
        ImageConfiguration configuration = SvsmImageBuilder.Build(Options()).Configuration;

        Assert.Equal((GuestKind.Firmware, 0xFFFF_FFF0ul), (configuration.GuestKind, configuration.GuestEntry));
        Assert.Equal((0x80_D000ul, 0x80_E000ul, 0x80_F000ul), (configuration.GuestSecretsPage, configuration.GuestCpuidPage, configuration.GuestCallingArea));
        Assert.Equal((0x81_2000ul, 8u, 0x81_20C0ul), (configuration.GuestMemoryMap, configuration.GuestMemoryMapEntries, configuration.GuestVcpuCount));
    }

    [Fact]
    public void Build_Ranges_AreRomAndWhatHasToBeValidated()
    {
        ImageConfiguration configuration = SvsmImageBuilder.Build(Options()).Configuration;
        var ranges = new List<(ulong, ulong, GuestRangeKind)>();
        for (int i = 0; i < configuration.GuestRangeCount; i++)
        {
            ranges.Add((configuration.Ranges[i].Base, configuration.Ranges[i].Length, configuration.Ranges[i].Kind));
        }

        // 0x80_9000 is the firmware's first GHCB page, which it has shared.
        Assert.Equal(
            [
                (0x80_0000ul, 0x9000ul, GuestRangeKind.Prevalidate), (0x80_A000, 0x2_6000, GuestRangeKind.Prevalidate),
                (TestFirmware.Base, TestFirmware.Length, GuestRangeKind.Rom),
            ],
            ranges);
    }

    [Fact]
    public void Build_Pages_AreNotLaunchedButRequired()
    {
        IgvmFile file = SvsmImageBuilder.Build(Options()).ToIgvm();
        Assert.DoesNotContain(file.Directives.OfType<IgvmPageData>(), page => page.Gpa is >= 0x80_0000 and < 0x90_0000);
        Assert.Contains(file.Directives.OfType<IgvmRequiredMemory>(), memory => memory.Gpa == 0x80_A000 && memory.ByteLength == 0x2_6000);
    }

    [Fact]
    public void Build_VcpuCountNotWanted_IsNotSaid()
    {
        var firmware = new TestFirmware();
        firmware.Igvm.RemoveAt(2);
        Assert.Equal(0ul, SvsmImageBuilder.Build(Options(firmware.Create())).Configuration.GuestVcpuCount);
    }

    [Fact]
    public void Build_FirmwareTwice_IsTheSame() => Assert.Equal(
        SvsmImageBuilder.Build(Options()).ToIgvm().Write().ToArray(), SvsmImageBuilder.Build(Options()).ToIgvm().Write().ToArray());

    [Fact]
    public void Build_AnyByte_IsMeasured()
    {
        byte[] other = new TestFirmware().Create();
        other[0x2345] ^= 1;
        string[] digests = [.. new[] { Options(), Options(other) }.Select(options => SvsmImageWriter.Render(SvsmImageBuilder.Build(options), "image").LaunchDigest.ToString())];
        Assert.NotEqual(digests[0], digests[1]);
    }

    [Theory]
    [InlineData(HostFlavour.HyperV)]
    [InlineData(HostFlavour.Vanadium)]
    public void Build_OtherFlavours_HaveTheFirmwareToo(HostFlavour flavour) => Assert.Equal(
        GuestKind.Firmware, SvsmImageBuilder.Build(Options(flavour: flavour)).Configuration.GuestKind);

    [Fact]
    public void Build_SecondGuest_IsRefused() => Fails(
        SvsmDiagnostics.ImageOptionInvalid,
        Options() with { Linux = new LinuxGuestOptions { Kernel = TestBzImage.Create() } },
        "2 of payload, Linux kernel and firmware", "one guest");

    [Theory]
    [InlineData(1)]
    [InlineData(4095)]
    [InlineData(8192)]
    public void Build_NoFirmware_IsRefused(int length) => Fails(SvsmDiagnostics.FirmwareDamaged, Options(new byte[length]), "firmware");

    [Fact]
    public void Build_NoSevMetadata_IsRefused() => Refused(SvsmDiagnostics.FirmwareUnsupported, firmware => firmware.Sev.Clear(), "no SEV metadata", "ovmf-generic");

    [Theory]
    [InlineData(2, "Secrets")]
    [InlineData(3, "Cpuid")]
    [InlineData(4, "SvsmCallingArea")]
    public void Build_PageMissingOrTwice_IsRefused(uint type, string name)
    {
        Refused(SvsmDiagnostics.FirmwareUnsupported, firmware => firmware.Sev.RemoveAll(section => section.Type == type), $"no section of kind {name}", "edk2-stable202511");
        Refused(SvsmDiagnostics.FirmwareDamaged, firmware => firmware.Sev.Add((0x90_0000, 0x1000, type)), $"two sections of kind {name}");
    }

    [Theory]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(4)]
    public void Build_PageInOtherMemory_IsRefused(uint type) => Refused(
        SvsmDiagnostics.FirmwareDamaged,
        firmware =>
        {
            firmware.Sev.RemoveAll(section => section.Type == type);
            firmware.Sev.Add((0x81_5000, 0x1000, type));
        },
        "a page at 0x815000", "sections that do not overlap");

    [Fact]
    public void Build_PageTwiceUsed_IsRefused() => Refused(
        SvsmDiagnostics.FirmwareDamaged,
        firmware =>
        {
            firmware.Sev.RemoveAll(section => section.Type == 3);
            firmware.Sev.Add((0x80_D000, 0x1000, 3));
        },
        "three pages");

    [Fact]
    public void Build_NoMemoryMap_IsRefused()
    {
        Refused(SvsmDiagnostics.FirmwareUnsupported, firmware => firmware.Igvm.Clear(), "no place for a memory map", "edk2-stable202511");
        Refused(SvsmDiagnostics.FirmwareUnsupported, firmware => firmware.Igvm.RemoveAt(0), "no place for a memory map");
        Refused(SvsmDiagnostics.FirmwareUnsupported, firmware => firmware.Igvm.RemoveAt(1), "no place for a memory map");
    }

    [Fact]
    public void Build_UnknownIgvmSection_IsRefused() => Refused(
        SvsmDiagnostics.FirmwareUnsupported, firmware => firmware.Igvm.Add((0, 8, 0x103)), "kind 0x103", "0x200");

    [Theory]
    [InlineData(0x100, "ParameterArea")]
    [InlineData(0x101, "MemoryMap")]
    [InlineData(0x102, "VpCount")]
    [InlineData(0x200, "HobArea")]
    public void Build_IgvmSectionTwice_IsRefused(uint type, string name) => Refused(
        SvsmDiagnostics.FirmwareDamaged, firmware => firmware.Igvm.Add(firmware.Igvm.Find(section => section.Type == type)), $"two sections of kind {name}");

    [Theory]
    [InlineData(0x100, 0x81_2001, 0x1000)]
    [InlineData(0x100, 0x81_2000, 0x1001)]
    [InlineData(0x100, 0x81_2000, 0)]
    [InlineData(0x100, 0xFFFF_F000, 0x2000)]
    [InlineData(0x100, 0x80_D000, 0x1000)]
    [InlineData(0x100, 0x81_2000, 0x2000)]
    [InlineData(0x101, 4, 0xB0)]
    [InlineData(0x101, 0, 47)]
    [InlineData(0x101, 0x1000, 0xC0)]
    [InlineData(0x101, 0xF80, 0xC0)]
    [InlineData(0x101, 0xFFFF_FFF8, 0xC0)]
    [InlineData(0x101, 0, 0xFFFF_FFFF)]
    [InlineData(0x101, 0, 0xC8)]
    [InlineData(0x102, 0xC1, 4)]
    [InlineData(0x102, 0xC0, 3)]
    [InlineData(0x102, 0xFFC, 8)]
    [InlineData(0x102, 0xB8, 16)]
    [InlineData(0x200, 0x81_3800, 0x1000)]
    [InlineData(0x200, 0x81_3000, 0xFFFF_F000)]
    [InlineData(0x200, 0x81_2000, 0x1000)]
    [InlineData(0x200, 0x80_E000, 0x1000)]
    public void Build_IgvmSectionOutOfPlace_IsRefused(uint type, uint start, uint length) => Refused(
        SvsmDiagnostics.FirmwareDamaged,
        firmware => firmware.Igvm[firmware.Igvm.FindIndex(section => section.Type == type)] = (start, length, type));

    [Theory]
    [InlineData(0x1_0000, "boot.")]
    [InlineData(0x9_F000, "video and ROM area")]
    [InlineData(0x800_0000, "0x8000000")]
    [InlineData(0x87F_F000, "kernel.heap")]
    [InlineData(0xFFFF_C000, "guest.firmware")]
    public void Build_MemoryThatSomethingElseHas_IsRefused(uint start, string other) => Refused(
        SvsmDiagnostics.FirmwareMisplaced, firmware => firmware.Sev.Add((start, 0x2000, 1)), $"memory of the firmware takes 0x{start:X}", other);

    [Fact]
    public void Build_PageThatSomethingElseHas_IsRefused() => Refused(
        SvsmDiagnostics.FirmwareMisplaced,
        firmware =>
        {
            firmware.Sev.RemoveAll(section => section.Type == 2);
            firmware.Sev.Add((0xF_F000, 0x1000, 2));
        },
        "a page for secrets of the firmware", "video and ROM area");

    [Fact]
    public void Build_MemoryInTooManyPieces_IsRefused() => Refused(
        SvsmDiagnostics.TooManyGuestRanges,
        firmware => firmware.Sev.AddRange(Enumerable.Range(0, 20).Select(i => (0x100_0000 + ((uint)i * 0x2000), 0x1000u, 1u))),
        "23 ranges");

    [Fact]
    public void Build_MutatedFirmware_IsBuiltOrRefused()
    {
        var random = new Random(7);
        byte[] good = new TestFirmware().Create();
        byte[] kernel = TestElf.Kernel().ToArray();
        int built = 0;
        for (int i = 0; i < 2000; i++)
        {
            byte[] file = (byte[])good.Clone();
            for (int change = random.Next(1, 4); change > 0; change--)
            {
                // The lists of sections, and the table at the end.
                int at = random.Next(3) switch { 0 => 0x100 + random.Next(100), 1 => 0x400 + random.Next(64), _ => file.Length - 1 - random.Next(120) };
                file[at] = (byte)random.Next();
            }

            try
            {
                ImageConfiguration configuration = SvsmImageBuilder.Build(new SvsmImageOptions { Kernel = kernel, Firmware = file }).Configuration;
                built++;

                // What the kernel relies on.
                Assert.True((configuration.GuestMemoryMap & 0xFFF) + (configuration.GuestMemoryMapEntries * 24) <= 4096);
                Assert.True((configuration.GuestVcpuCount & 0xFFF) <= 4092);
                for (int j = 1; j < configuration.GuestRangeCount; j++)
                {
                    Assert.True(configuration.Ranges[j - 1].Base + configuration.Ranges[j - 1].Length <= configuration.Ranges[j].Base);
                }
            }
            catch (SvsmDiagnosticException e)
            {
                Assert.Contains(e.Diagnostic, new[] { SvsmDiagnostics.FirmwareDamaged, SvsmDiagnostics.FirmwareUnsupported, SvsmDiagnostics.FirmwareMisplaced, SvsmDiagnostics.TooManyGuestRanges });
            }
        }

        Assert.NotEqual(0, built);
    }
}
