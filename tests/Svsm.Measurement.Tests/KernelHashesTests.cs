// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Security.Cryptography;
using Xunit;

namespace Svsm.Measurement.Tests;

public sealed class KernelHashesTests
{
    [Fact]
    public void ToPage_Table_StandsAtTheAreasOffset()
    {
        var hashes = new KernelHashes("kernel"u8, default, "");

        byte[] page = hashes.ToPage(new OvmfArea(0x81_0C00, 0x400));

        Assert.Equal(4096, page.Length);
        Assert.Equal(-1, page.AsSpan(0, 0xC00).IndexOfAnyExcept((byte)0));
        ReadOnlySpan<byte> table = page.AsSpan(0xC00);
        Assert.Equal(new Guid("9438d606-4f22-4cc9-b479-a793d411fd21"), new Guid(table[..16]));
        Assert.Equal(168, table[16] | (table[17] << 8));
        AssertEntry(table[18..], "97d02dd8-bd20-4c94-aa78-e7714d36ab2a", [0]);
        AssertEntry(table[68..], "44baf731-3a2f-4bd7-9af1-41e29169781d", []);
        AssertEntry(table[118..], "4de79437-abd2-427f-b835-d5b172d2045b", "kernel"u8);
        Assert.Equal(-1, table[168..].IndexOfAnyExcept((byte)0));
    }

    [Theory]
    [InlineData(0x81_0F51u, 0x400u)]
    [InlineData(0x81_0C00u, 175u)]
    [InlineData(0x81_0C00u, 0u)]
    public void ToPage_AreaThatIsTooSmall_Throws(uint start, uint length) =>
        Assert.Equal(MeasurementError.BadFirmware, Assert.Throws<MeasurementException>(() => new KernelHashes(default, default, "").ToPage(new OvmfArea(start, length))).Error);

    [Fact]
    public void ToPage_AreaThatJustFits_Works() => Assert.Equal(4096, new KernelHashes(default, default, "").ToPage(new OvmfArea(0x81_0F50, 176)).Length);

    private static void AssertEntry(ReadOnlySpan<byte> entry, string guid, ReadOnlySpan<byte> content)
    {
        Assert.Equal(new Guid(guid), new Guid(entry[..16]));
        Assert.Equal(50, entry[16] | (entry[17] << 8));
        Assert.Equal(SHA256.HashData(content), entry.Slice(18, 32).ToArray());
    }
}
