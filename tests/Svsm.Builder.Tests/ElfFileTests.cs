// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Linq;
using CsCheck;
using Svsm.Diagnostics;
using Xunit;

namespace Svsm.Builder.Tests;

public sealed class ElfFileTests
{
    private static void Fails(SvsmDiagnostic error, byte[] file, string text)
    {
        var e = Assert.Throws<SvsmDiagnosticException>(() => ElfFile.Parse(file, "kernel"));
        Assert.Same(error, e.Diagnostic);
        Assert.Contains(text, e.Message, StringComparison.Ordinal);
    }

    private static byte[] Changed(Action<byte[]> change)
    {
        byte[] file = TestElf.Kernel().ToArray();
        change(file);
        return file;
    }

    [Fact]
    public void Parse_Executable_FindsSegmentsAndSymbols()
    {
        ElfFile elf = ElfFile.Parse(TestElf.Kernel().ToArray(), "kernel");

        Assert.Equal(0x1_0010ul, elf.Entry);
        Assert.Equal(7, elf.Segments.Length);
        Assert.Equal(["boot.text", "text", "rodata", "data", "stack", "stack2", "percpu"], elf.Segments.Select(s => s.Name));
        Assert.Equal(TestElf.Pattern(0x1234, 3), elf.Segments[2].Data.ToArray());
        Assert.Equal(0x5000ul, elf.Segments[3].Length);
        Assert.Equal(ElfSegmentFlags.Read | ElfSegmentFlags.Execute, elf.Segments[1].Flags);
        Assert.Equal(0xFFFF_FF80_0020_0100ul, elf.FindSymbol("svsm_kernel_entry")!.Value.Value);
        Assert.True(elf.FindSymbol("number")!.Value.IsAbsolute);
        Assert.Null(elf.FindSymbol("nothing"));
    }

    [Fact]
    public void Parse_StrippedFile_HasSegmentsWithoutNames()
    {
        ElfFile elf = ElfFile.Parse(Changed(f => TestElf.U16(f, 60, 0)), "kernel");

        Assert.Empty(elf.Symbols);
        Assert.All(elf.Segments, s => Assert.Equal("", s.Name));
    }

    [Theory]
    [InlineData("a b")]
    [InlineData("\n")]
    [InlineData("..")]
    public void Parse_SectionNameThatCannotBeShown_IsLeftOut(string name)
    {
        var elf = new TestElf();
        elf.Add(0, TestElf.R, [1], section: name);
        Assert.Equal("", ElfFile.Parse(elf.ToArray(), "kernel").Segments[0].Name);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(63)]
    public void Parse_ShortFile_Fails(int length) => Fails(SvsmDiagnostics.ElfDamaged, TestElf.Kernel().ToArray()[..length], $"{length} bytes");

    [Fact]
    public void Parse_BadMagic_Fails() => Fails(SvsmDiagnostics.ElfDamaged, Changed(f => f[0] = (byte)'M'), "0x4D454C46");

    [Theory]
    [InlineData(4)]
    [InlineData(5)]
    [InlineData(6)]
    public void Parse_BadIdentification_Fails(int at) => Fails(SvsmDiagnostics.ElfUnsupported, Changed(f => f[at] = 9), "9");

    [Theory]
    [InlineData(16, 3)]
    [InlineData(16, 1)]
    [InlineData(18, 40)]
    public void Parse_OtherKindOfFile_Fails(int at, byte value) => Fails(SvsmDiagnostics.ElfUnsupported, Changed(f => f[at] = value), $"{value}");

    [Theory]
    [InlineData(2u)]
    [InlineData(3u)]
    public void Parse_DynamicExecutable_Fails(uint type) => Fails(SvsmDiagnostics.ElfUnsupported, Changed(f => TestElf.U32(f, 64, type)), $"type {type}");

    [Theory]
    [InlineData(54)]
    [InlineData(58)]
    public void Parse_BadEntryLength_Fails(int at) => Fails(SvsmDiagnostics.ElfDamaged, Changed(f => TestElf.U16(f, at, 55)), "55");

    [Theory]
    [InlineData(32, ulong.MaxValue)]
    [InlineData(32, ulong.MaxValue - 55)]
    [InlineData(40, ulong.MaxValue)]
    [InlineData(40, 0x8000_0000ul)]
    [InlineData(64 + 8, ulong.MaxValue)]
    [InlineData(64 + 8, 0x7FFF_FFFFul)]
    public void Parse_OffsetOutsideFile_Fails(int at, ulong offset) => Fails(SvsmDiagnostics.ElfDamaged, Changed(f => TestElf.U64(f, at, offset)), $"0x{offset:X}");

    [Fact]
    public void Parse_TooManySegments_Fails()
    {
        var elf = new TestElf();
        for (int i = 0; i < ElfFile.MaxSegments; i++)
        {
            elf.Add((ulong)i << 12, TestElf.R, [1]);
        }

        Assert.Equal(ElfFile.MaxSegments, ElfFile.Parse(elf.ToArray(), "kernel").Segments.Length);
        Fails(SvsmDiagnostics.ElfUnsupported, elf.Add(0x100_0000, TestElf.R, [1]).ToArray(), "more than 256");
    }

    [Fact]
    public void Parse_MoreInFileThanInMemory_Fails() => Fails(SvsmDiagnostics.ElfDamaged, Changed(f => TestElf.U64(f, 64 + 40, 0x17FF)), "0x17FF");

    [Theory]
    [InlineData(16)]
    [InlineData(24)]
    public void Parse_SegmentLeavesAddressSpace_Fails(int at) =>
        Fails(SvsmDiagnostics.ElfDamaged, Changed(f => TestElf.U64(f, 64 + at, ulong.MaxValue - 0x17FE)), "address space");

    [Theory]
    [InlineData(40, 99u, "section 99")]
    [InlineData(40, 1u, "type 1")]
    [InlineData(56, 16u, "entries of 16")]
    [InlineData(32, 25u, "0x19")]
    [InlineData(24, 0x7000_0000u, "0x70000000")]
    public void Parse_BadSymbolTable_Fails(int at, uint value, string text) =>
        Fails(SvsmDiagnostics.ElfDamaged, Changed(f => TestElf.U32(f, f.Length - (2 * 64) + at, value)), text);

    [Fact]
    public void Parse_NameOutsideTable_Fails()
    {
        byte[] file = TestElf.Kernel().ToArray();
        int symbols = (int)BitConverter.ToUInt64(file, file.Length - 128 + 24);
        TestElf.U32(file, symbols, 0x7FFF_FFFF);
        Fails(SvsmDiagnostics.ElfDamaged, file, "0x7FFFFFFF");
    }

    [Fact]
    public void Parse_NameWithoutEnd_Fails()
    {
        TestElf elf = TestElf.Kernel();
        elf.Symbols.Add((new string('x', ElfFile.MaxNameLength + 1), 0, false));
        Fails(SvsmDiagnostics.ElfDamaged, elf.ToArray(), "8192");
    }

    [Fact]
    public void Parse_LongestName_IsRead()
    {
        TestElf elf = TestElf.Kernel();
        elf.Symbols.Add((new string('x', ElfFile.MaxNameLength), 0, false));
        Assert.NotNull(ElfFile.Parse(elf.ToArray(), "kernel").FindSymbol(new string('x', ElfFile.MaxNameLength)));
    }

    [Fact]
    public void Parse_ManySymbolsSharingOneLongName_Fails()
    {
        TestElf elf = TestElf.Kernel();
        for (int i = 0; i < 9000; i++)
        {
            elf.Symbols.Add(("", 0, false));
        }

        elf.Symbols.Add((new string('x', ElfFile.MaxNameLength), 0, false));
        byte[] file = elf.ToArray();
        int symbols = (int)BitConverter.ToUInt64(file, file.Length - 128 + 24);
        uint shared = BitConverter.ToUInt32(file, symbols + ((elf.Symbols.Count - 1) * 24));
        for (int i = 0; i < elf.Symbols.Count; i++)
        {
            TestElf.U32(file, symbols + (i * 24), shared);
        }

        Fails(SvsmDiagnostics.ElfDamaged, file, "at most 67108864");
    }

    [Fact]
    public void Parse_ChangedBytes_ThrowsNothingElse()
    {
        byte[] original = TestElf.Kernel().ToArray();
        int headers = 64 + (7 * 56);
        Gen<(int At, byte Value)[]> changes = Gen.Select(
            Gen.OneOf(Gen.Int[0, headers - 1], Gen.Int[original.Length - 1200, original.Length - 1]), Gen.Byte).Array[1, 8];
        changes.Sample(
            list =>
            {
                byte[] file = [.. original];
                foreach ((int at, byte value) in list)
                {
                    file[at] = value;
                }

                try
                {
                    SvsmImageBuilder.Build(new SvsmImageOptions { Kernel = file });
                }
                catch (SvsmDiagnosticException e)
                {
                    Assert.StartsWith("SVSM2", e.Diagnostic.Code, StringComparison.Ordinal);
                }
            },
            iter: 20_000, seed: "0000000000001");
    }

    [Fact]
    public void Parse_AnyLength_ThrowsNothingElse()
    {
        byte[] original = TestElf.Payload().ToArray();
        for (int length = 0; length < original.Length; length++)
        {
            Assert.Throws<SvsmDiagnosticException>(() => ElfFile.Parse(original.AsMemory(0, length), "guest payload"));
        }
    }
}
