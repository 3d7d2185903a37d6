// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System.IO;
using Xunit;

namespace Svsm.Simulator.Tests;

public sealed class SymbolMapTests
{
    private static readonly SymbolMap s_map = Read(
        "0xFFFFFF8000202000 Second\n" +
        "0xFFFFFF8000201000 First\n" +
        "0xFFFFFF8000201000 Alias\n" +
        "0x0000000000010000 boot\n");

    [Theory]
    [InlineData(0xFFFF_FF80_0020_1000, "First")]
    [InlineData(0xFFFF_FF80_0020_1FFF, "First + 0xFFF")]
    [InlineData(0xFFFF_FF80_0020_2000, "Second")]
    [InlineData(0xFFFF_FF80_0021_1FFF, "Second + 0xFFFF")]
    [InlineData(0xFFFF_FF80_0021_2000, null)]
    [InlineData(0xFFFF_FFFF_FFFF_FFFF, null)]
    [InlineData(0x1_0004, "boot + 0x4")]
    [InlineData(0xFFFF, null)]
    [InlineData(0, null)]
    public void Find_Address_GivesNearestNameBelow(ulong address, string? name) => Assert.Equal(name, s_map.Find(address));

    [Theory]
    [InlineData("First", 0xFFFF_FF80_0020_1000)]
    [InlineData("boot", 0x1_0000ul)]
    [InlineData("Alias", null)]
    [InlineData("", null)]
    public void AddressOf_Name_GivesItsAddress(string name, ulong? address) => Assert.Equal(address, s_map.AddressOf(name));

    [Fact]
    public void Find_EmptyMap_GivesNull() => Assert.Null(SymbolMap.Empty.Find(0x1000));

    [Theory]
    [InlineData("0xFFFFFF8000201000 Svsm_Kernel__Start<Int32>")]
    [InlineData("ffffff8000201000 T Svsm_Kernel__Start<Int32>\r")]
    [InlineData("                0xffffff8000201000                Svsm_Kernel__Start<Int32>")]
    public void Read_KnownForms_GiveTheSymbol(string line) => Assert.Equal("Svsm_Kernel__Start<Int32>", Read(line).Find(0xFFFF_FF80_0020_1000));

    [Theory]
    [InlineData("")]
    [InlineData("# a comment")]
    [InlineData("Memory Configuration")]
    [InlineData(" .text          0xffffff8000201000     0x1234 kernel.o")]
    [InlineData("                0xffffff8000201000                . = ALIGN (0x1000)")]
    [InlineData("0xFFFFFF80002010001 too long")]
    [InlineData("0x12 short")]
    public void Read_OtherLines_ArePassedOver(string line) => Assert.Equal(0, Read(line).Count);

    [Theory]
    [InlineData("  at 0xFFFFFF8000201004", "  at 0xFFFFFF8000201004 First + 0x4")]
    [InlineData("panic at 0xffffff8000202000: x", "panic at 0xffffff8000202000 Second: x")]
    [InlineData("at 0x1 at 0x10000", "at 0x1 at 0x10000 boot")]
    [InlineData("at 0xFFFFFF80002010000", "at 0xFFFFFF80002010000")]
    [InlineData("no address", "no address")]
    [InlineData("at 0xyz", "at 0xyz")]
    public void Annotate_Line_GetsNames(string line, string annotated) => Assert.Equal(annotated, s_map.Annotate(line));

    private static SymbolMap Read(string text) => SymbolMap.Read(new StringReader(text));
}
