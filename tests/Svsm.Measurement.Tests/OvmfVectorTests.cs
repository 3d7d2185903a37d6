// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Linq;
using Svsm.Wire;
using Xunit;

namespace Svsm.Measurement.Tests;

// The firmware of the suite "sid" is in `eng/test --all` only (the trait): its mirror does not keep a version for long.
// Vectors: sev-snp-measure for QEMU, processor type EPYC-v4, no kernel. The tables are as dumped from the packages by another program.
public sealed class OvmfVectorTests
{
    [Fact]
    [Trait("Run", "all")]
    public void MeasurePages_DebianAmdSev_GivesTheVector()
    {
        OvmfImage firmware = OvmfImage.Parse(DebianFirmware.AmdSev.Read());

        Assert.Equal("9d0dd8be18c86e3fe3bf0038ed75ebf5340bee69fd2632c8ff9409964575960ae1f7e84be387d2e3467bc3508d1e4806", OvmfMeasurement.MeasurePages(firmware).ToString());
    }

    [Theory]
    [Trait("Run", "all")]
    [InlineData(0x01, "d74bd3ea40b240c3228edc5177ce6193561ebff633dbd0be76d6c143b876d65102425c0e2e8a930857c48daa5eacda58")]
    [InlineData(0x21, "5fafce19a1da9324827756044f6a922becd7fb7a5f80f1cd803366eeb7add5a129d0ca53b184313c9f9036e869371a88")]
    public void Measure_DebianAmdSev_GivesTheVector(ulong features, string digest)
    {
        OvmfImage firmware = OvmfImage.Parse(DebianFirmware.AmdSev.Read());

        Assert.Equal(digest, OvmfMeasurement.Measure(firmware, 1, (SevFeatures)features).Digest.ToString());
    }

    // Computed by an independent packing in another language, which gives the vectors above for one vCPU.
    [Theory]
    [Trait("Run", "all")]
    [InlineData(4, 0x01, "13a6ae9fbaa31c91ade309c36bd5214729438abac318e01176e02a97b8bec11a4bce86b4d2b1fba2ec0481dd24ff525f")]
    [InlineData(3, 0x21, "b3e890c48e19bd572094ac655690d916c24f52ec5ae9017ae96656954145655567b454c4b369c44c6d81512d7c6b953c")]
    public void Measure_SeveralVcpus_GivesTheVector(int vcpuCount, ulong features, string digest)
    {
        OvmfImage firmware = OvmfImage.Parse(DebianFirmware.AmdSev.Read());

        Assert.Equal(digest, OvmfMeasurement.Measure(firmware, vcpuCount, (SevFeatures)features).Digest.ToString());
    }

    [Fact]
    [Trait("Run", "all")]
    public void Measure_KernelHashes_GivesTheVector()
    {
        OvmfImage firmware = OvmfImage.Parse(DebianFirmware.AmdSev.Read());
        var hashes = new KernelHashes("kernel"u8, "initrd"u8, "console=ttyS0");

        Assert.Equal(
            "6000683b27d29041d7e413430d3d9dc02d350d1c4c234225dac23902ac51ceef9f888a5678c8ba6f57ede4043414416d",
            OvmfMeasurement.Measure(firmware, 2, hashes: hashes).Digest.ToString());
    }

    [Fact]
    public void MeasurePages_DebianTrixie_GivesTheVector()
    {
        OvmfImage firmware = OvmfImage.Parse(DebianFirmware.Trixie.Read());

        Assert.Equal("52de7f3ba560307ec6c22a5cb001524d5e560467b5d618c715cfe3c6f1addcadb91563693fbfa433ae18c2412d739a95", OvmfMeasurement.MeasurePages(firmware).ToString());
    }

    [Theory]
    [InlineData(0x01, "6eef547a9fcf5720c5c04883fe85788d29de46b55a51e554467029b554a3352e66d2f3c71b84cea937d19a1a6c41596f")]
    [InlineData(0x21, "b248ef14a8c3f47ffd3e4d5d0ead2921a72556f625ed24bb9b8d0d3be2bd8dd1230bf774018ea810ad7032da4889ce7f")]
    public void Measure_DebianTrixie_GivesTheVector(ulong features, string digest)
    {
        OvmfImage firmware = OvmfImage.Parse(DebianFirmware.Trixie.Read());

        Assert.Equal(digest, OvmfMeasurement.Measure(firmware, 1, (SevFeatures)features).Digest.ToString());
    }

    [Fact]
    [Trait("Run", "all")]
    public void Parse_DebianAmdSev_FindsTheTables()
    {
        OvmfImage firmware = OvmfImage.Parse(DebianFirmware.AmdSev.Read());

        Assert.True(firmware.SupportsSvsm);
        Assert.Equal(0xFFC0_0000ul, firmware.BaseAddress);
        Assert.Equal(0x0080_B004u, firmware.ApResetAddress);
        Assert.Contains(new OvmfSevSection(0x80_F000, 0x1000, OvmfSevSectionType.SvsmCallingArea), firmware.SevSections);
        Assert.Contains(new OvmfSevSection(0x81_0000, 0x1000, OvmfSevSectionType.KernelHashes), firmware.SevSections);
        Assert.Contains(new OvmfSevSection(0x81_1000, 0x1F000, OvmfSevSectionType.SecMemory), firmware.SevSections);
        Assert.Equal(
            [
                new OvmfIgvmSection(0x81_2000, 0x1000, OvmfIgvmSectionType.ParameterArea),
                new OvmfIgvmSection(0, 0xC0, OvmfIgvmSectionType.MemoryMap),
                new OvmfIgvmSection(0xC0, 0x10, OvmfIgvmSectionType.VpCount),
                new OvmfIgvmSection(0x81_3000, 0x1000, OvmfIgvmSectionType.HobArea),
            ],
            firmware.IgvmSections.OrderBy(section => section.Type));
    }

    [Fact]
    public void Parse_DebianTrixie_FindsTheTables()
    {
        OvmfImage firmware = OvmfImage.Parse(DebianFirmware.Trixie.Read());

        Assert.True(firmware.SupportsSvsm);
        Assert.Empty(firmware.IgvmSections);
        Assert.Equal(
            [
                new OvmfSevSection(0x80_0000, 0x9000, OvmfSevSectionType.SecMemory),
                new OvmfSevSection(0x80_A000, 0x3000, OvmfSevSectionType.SecMemory),
                new OvmfSevSection(0x80_D000, 0x1000, OvmfSevSectionType.Secrets),
                new OvmfSevSection(0x80_E000, 0x1000, OvmfSevSectionType.Cpuid),
                new OvmfSevSection(0x80_F000, 0x1000, OvmfSevSectionType.SvsmCallingArea),
                new OvmfSevSection(0x81_0000, 0x10000, OvmfSevSectionType.SecMemory),
            ],
            firmware.SevSections);
    }

    [Fact]
    [Trait("Run", "all")]
    public void Measure_KernelHashes_ChangeTheDigestOfTheAmdSevBuildOnly()
    {
        var hashes = new KernelHashes("kernel"u8, "initrd"u8, "console=ttyS0");
        OvmfImage amdSev = OvmfImage.Parse(DebianFirmware.AmdSev.Read());
        OvmfImage trixie = OvmfImage.Parse(DebianFirmware.Trixie.Read());

        MeasurementResult with = OvmfMeasurement.Measure(amdSev, hashes: hashes);

        Assert.Contains(with.Pages, page => page.Gpa == 0x81_0000 && page.Type == SnpPageType.Normal);
        Assert.NotEqual(OvmfMeasurement.Measure(amdSev).Digest, with.Digest);
        Assert.Equal(MeasurementError.BadFirmware, Assert.Throws<MeasurementException>(() => OvmfMeasurement.Measure(trixie, hashes: hashes)).Error);
    }
}
