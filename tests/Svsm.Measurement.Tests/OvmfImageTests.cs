// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.Linq;
using Svsm.Wire;
using Xunit;

namespace Svsm.Measurement.Tests;

/// <summary>Firmware files made here: small, damaged, hostile. Real ones are in <see cref="OvmfVectorTests"/>.</summary>
public sealed class OvmfImageTests
{
    private const string Footer = "96b582de-1fb2-45f7-baea-a366c55a082d";
    private const string SevMetadata = "dc886566-984a-4798-a75e-5585a7bf67cc";
    private const string IgvmMetadata = "784fa70e-3176-4677-8a20-04b68699e374";
    private const string ApReset = "00f771de-1a7e-4fcb-890e-68c77e2fb44e";
    private const string KernelHashTable = "7255371f-3a3b-4b04-927b-1da6efa8d454";

    private static readonly (uint, uint, uint)[] s_sections = [(0x80_0000, 0x2000, 1), (0x80_D000, 0x1000, 2), (0x80_E000, 0x1000, 3), (0x80_F000, 0x1000, 4)];

    [Fact]
    public void Parse_SmallFirmware_FindsEverything()
    {
        byte[] file = Create(s_sections, (ApReset, U32(0x80_B004)), (KernelHashTable, [.. U32(0x81_0C00), .. U32(0x400)]));

        OvmfImage firmware = OvmfImage.Parse(file);

        Assert.Equal(0xFFFF_E000ul, firmware.BaseAddress);
        Assert.Equal(0x80_B004u, firmware.ApResetAddress);
        Assert.Equal(new OvmfArea(0x81_0C00, 0x400), firmware.KernelHashTable);
        Assert.True(firmware.SupportsSvsm);
        Assert.Equal(3, firmware.Table.Count);
        Assert.Equal(s_sections, firmware.SevSections.Select(section => (section.Base, section.ByteLength, (uint)section.Type)));
        Assert.Empty(firmware.IgvmSections);
    }

    [Fact]
    public void Parse_FirmwareWithoutMetadata_HasNoSections()
    {
        OvmfImage firmware = OvmfImage.Parse(Create(null));

        Assert.Empty(firmware.SevSections);
        Assert.False(firmware.SupportsSvsm);
        Assert.Null(firmware.ApResetAddress);
        Assert.Null(firmware.KernelHashTable);
        AssertBad(() => OvmfMeasurement.Measure(firmware));
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(4095)]
    [InlineData(4097)]
    [InlineData((16 * 1024 * 1024) + 4096)]
    public void Parse_OtherLength_Refuses(int length) => AssertBad(() => OvmfImage.Parse(new byte[length]));

    [Fact]
    public void Parse_NoFooter_Refuses() => AssertBad(() => OvmfImage.Parse(new byte[8192]));

    [Theory]
    [InlineData(0)]
    [InlineData(17)]
    [InlineData(19)]
    [InlineData(8192)]
    [InlineData(0xFFFF)]
    public void Parse_BadTableLength_Refuses(ushort length)
    {
        byte[] file = Create(s_sections);
        BinaryPrimitives.WriteUInt16LittleEndian(file.AsSpan(file.Length - 32 - 18), length);

        AssertBad(() => OvmfImage.Parse(file));
    }

    [Theory]
    [InlineData(0)]
    [InlineData(17)]
    [InlineData(23)]
    [InlineData(0xFFFF)]
    public void Parse_BadEntryLength_Refuses(ushort length)
    {
        byte[] file = Create(s_sections);
        BinaryPrimitives.WriteUInt16LittleEndian(file.AsSpan(file.Length - 32 - 18 - 18), length);

        AssertBad(() => OvmfImage.Parse(file));
    }

    [Fact]
    public void Parse_EntryTwice_Refuses() => AssertBad(() => OvmfImage.Parse(Create(s_sections, (ApReset, U32(1)), (ApReset, U32(2)))));

    [Theory]
    [InlineData(ApReset, 3)]
    [InlineData(KernelHashTable, 7)]
    [InlineData(IgvmMetadata, 0)]
    public void Parse_ShortEntry_Refuses(string guid, int length) => AssertBad(() => OvmfImage.Parse(Create(s_sections, (guid, new byte[length]))));

    [Theory]
    [InlineData(0u)]
    [InlineData(15u)]
    [InlineData(8193u)]
    [InlineData(0xFFFF_FFFFu)]
    [InlineData(16u)]
    public void Parse_BadMetadataOffset_Refuses(uint offset) => AssertBad(() => OvmfImage.Parse(Create(null, (SevMetadata, U32(offset)))));

    [Theory]
    [InlineData(0, 0u)]
    [InlineData(8, 2u)]
    [InlineData(12, 65u)]
    [InlineData(12, 0xFFFF_FFFFu)]
    [InlineData(12, 0x1555_5556u)]
    public void Parse_BadMetadataHeader_Refuses(int offset, uint value)
    {
        byte[] file = Create(s_sections);
        BinaryPrimitives.WriteUInt32LittleEndian(file.AsSpan(offset), value);

        AssertBad(() => OvmfImage.Parse(file));
    }

    [Fact]
    public void Parse_MetadataThatRunsOffTheEnd_Refuses()
    {
        // The list starts 160 bytes before the end and claims 13 sections: 16 + 156 bytes.
        byte[] file = Create(null, (SevMetadata, U32(160)));
        "ASEV"u8.CopyTo(file.AsSpan(file.Length - 160));
        BinaryPrimitives.WriteUInt32LittleEndian(file.AsSpan(file.Length - 160 + 8), 1);
        BinaryPrimitives.WriteUInt32LittleEndian(file.AsSpan(file.Length - 160 + 12), 13);

        AssertBad(() => OvmfImage.Parse(file));
    }

    [Theory]
    [InlineData(0x80_0001u, 0x1000u, 1u)]
    [InlineData(0x80_0000u, 0x1001u, 1u)]
    [InlineData(0x80_0000u, 0u, 1u)]
    [InlineData(0xFFFF_F000u, 0x2000u, 1u)]
    [InlineData(0x80_0000u, 0x2000u, 2u)]
    [InlineData(0x80_0000u, 0x2000u, 3u)]
    [InlineData(0x80_0000u, 0x2000u, 4u)]
    [InlineData(0x80_0000u, 0x2000u, 0x10u)]
    [InlineData(0x80_0000u, 0x1000u, 0u)]
    [InlineData(0x80_0000u, 0x1000u, 5u)]
    public void Parse_BadSection_Refuses(uint start, uint length, uint type) => AssertBad(() => OvmfImage.Parse(Create([(start, length, type)])));

    [Fact]
    public void Measure_Sections_ComeInTableOrderBehindTheFirmware()
    {
        OvmfImage firmware = OvmfImage.Parse(Create(s_sections, (ApReset, U32(0x80_B004))));

        MeasurementResult result = OvmfMeasurement.Measure(firmware, 2);

        Assert.Equal(
            [
                (0xFFFF_E000, SnpPageType.Normal), (0xFFFF_F000, SnpPageType.Normal), (0x80_0000, SnpPageType.Zero), (0x80_1000, SnpPageType.Zero),
                (0x80_D000, SnpPageType.Secrets), (0x80_E000, SnpPageType.Cpuid), (0x80_F000, SnpPageType.Zero),
                (0xFFFF_FFFF_F000, SnpPageType.Vmsa), (0xFFFF_FFFF_F000, SnpPageType.Vmsa),
            ],
            result.Pages.Select(page => (page.Gpa, page.Type)));
        Assert.Equal(result.Pages[1].DigestAfter, OvmfMeasurement.MeasurePages(firmware));
    }

    [Fact]
    public void Measure_WithoutApResetAddress_TakesOneVcpuOnly()
    {
        OvmfImage firmware = OvmfImage.Parse(Create(s_sections));

        _ = OvmfMeasurement.Measure(firmware);
        AssertBad(() => OvmfMeasurement.Measure(firmware, 2));
        Assert.Equal(MeasurementError.BadVcpuCount, Assert.Throws<MeasurementException>(() => OvmfMeasurement.Measure(firmware, 0)).Error);
    }

    [Fact]
    public void Parse_MutatedFirmware_SucceedsOrRefuses()
    {
        var random = new Random(3);
        byte[] good = Create(s_sections, (ApReset, U32(0x80_B004)), (KernelHashTable, [.. U32(0x81_0C00), .. U32(0x400)]));
        for (int i = 0; i < 20_000; i++)
        {
            byte[] file = (byte[])good.Clone();
            for (int change = random.Next(1, 4); change > 0; change--)
            {
                // The section list is at the beginning, the table at the end.
                int at = random.Next(2) == 0 ? random.Next(96) : file.Length - 1 - random.Next(200);
                file[at] = (byte)random.Next();
            }

            try
            {
                _ = OvmfImage.Parse(file);
            }
            catch (MeasurementException e)
            {
                Assert.Equal(MeasurementError.BadFirmware, e.Error);
            }
        }
    }

    private static byte[] U32(uint value)
    {
        byte[] bytes = new byte[4];
        BinaryPrimitives.WriteUInt32LittleEndian(bytes, value);
        return bytes;
    }

    // Two pages; the section list, if any, at offset 0.
    private static byte[] Create((uint Base, uint Length, uint Type)[]? sections, params (string Guid, byte[] Data)[] entries)
    {
        byte[] file = new byte[8192];
        List<(string Guid, byte[] Data)> all = [.. entries];
        if (sections is not null)
        {
            byte[] list = [.. "ASEV"u8, .. U32((uint)(16 + (12 * sections.Length))), .. U32(1), .. U32((uint)sections.Length), .. sections.SelectMany(section => (byte[])[.. U32(section.Base), .. U32(section.Length), .. U32(section.Type)])];
            list.CopyTo(file, 0);
            all.Add((SevMetadata, U32((uint)file.Length)));
        }

        byte[] table = [.. all.SelectMany(entry => (byte[])[.. entry.Data, .. Tail(entry.Data.Length + 18, entry.Guid)])];
        table = [.. table, .. Tail(table.Length + 18, Footer)];
        table.CopyTo(file, file.Length - 32 - table.Length);
        return file;
    }

    private static byte[] Tail(int length, string guid) => [(byte)length, (byte)(length >> 8), .. new Guid(guid).ToByteArray()];

    private static void AssertBad(Action action) => Assert.Equal(MeasurementError.BadFirmware, Assert.Throws<MeasurementException>(action).Error);
}
