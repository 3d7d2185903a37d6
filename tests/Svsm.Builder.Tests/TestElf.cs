// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Small ELF64 executables for tests, written field by field so that a test can break any of them.

using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.IO;
using System.Text;

namespace Svsm.Builder.Tests;

/// <summary>An executable in the making.</summary>
public sealed class TestElf
{
    /// <summary>A loadable segment.</summary>
    public sealed record Segment(ulong Address, uint Flags, byte[] Data, ulong Length, string Section)
    {
        public ulong? Physical { get; init; }

        public uint Type { get; init; } = 1;
    }

    public List<Segment> Segments { get; } = [];

    public List<(string Name, ulong Value, bool Absolute)> Symbols { get; } = [];

    public ulong Entry { get; set; }

    public const uint R = 4;
    public const uint RX = 5;
    public const uint RW = 6;

    /// <summary>A kernel with every kind of segment that the layout knows.</summary>
    public static TestElf Kernel()
    {
        var elf = new TestElf { Entry = 0x1_0010 };
        elf.Add(0x1_0000, RX, Pattern(0x1800, 1), section: ".boot.text");
        elf.Add(0xFFFF_FF80_0020_0000, RX, Pattern(0x3000, 2), section: ".text");
        elf.Add(0xFFFF_FF80_0030_0000, R, Pattern(0x1234, 3), section: ".rodata");
        elf.Add(0xFFFF_FF80_0040_0000, RW, Pattern(0x1001, 4), 0x5000, ".data");
        elf.Add(0xFFFF_FF80_0050_1000, RW, [], 0x4000, ".stack");
        elf.Add(0xFFFF_FF80_0050_6000, RW, [], 0x4000, ".stack2");
        elf.Add(0xFFFF_FF00_0000_0000, RW, Pattern(0x40, 5), 0x2000, ".percpu");
        elf.Symbols.Add(("svsm_kernel_entry", 0xFFFF_FF80_0020_0100, false));
        elf.Symbols.Add(("svsm_kernel_stack_top", 0xFFFF_FF80_0050_5000, false));
        elf.Symbols.Add(("b_second", 0xFFFF_FF80_0020_0200, false));
        elf.Symbols.Add(("a_second", 0xFFFF_FF80_0020_0200, false));
        elf.Symbols.Add(("number", 0x1_0004, true));
        elf.Symbols.Add(("outside", 0x5000, false));
        return elf;
    }

    /// <summary>A guest payload at 1 MiB with zero data behind it.</summary>
    public static TestElf Payload()
    {
        var elf = new TestElf { Entry = 0x10_0020 };
        elf.Add(0x10_0000, RX, Pattern(0x1100, 6), section: ".text");
        elf.Add(0x10_2000, RW, Pattern(0x10, 7), 0x3000, ".data");
        return elf;
    }

    public static byte[] Pattern(int length, int seed)
    {
        byte[] data = new byte[length];
        for (int i = 0; i < length; i++)
        {
            data[i] = (byte)((i * 7) + (i >> 8) + seed);
        }

        return data;
    }

    public TestElf Add(ulong address, uint flags, byte[] data, ulong length = 0, string section = ".x")
    {
        Segments.Add(new Segment(address, flags, data, Math.Max(length, (ulong)data.Length), section));
        return this;
    }

    public byte[] ToArray()
    {
        var file = new MemoryStream();
        var names = new MemoryStream();
        names.WriteByte(0);
        int headerLength = 64 + (Segments.Count * 56);
        file.Write(new byte[headerLength]);

        var offsets = new List<long>();
        foreach (Segment segment in Segments)
        {
            offsets.Add(file.Position);
            file.Write(segment.Data);
        }

        long symbols = file.Position;
        byte[] symbol = new byte[24];
        foreach ((string name, ulong value, bool absolute) in Symbols)
        {
            Array.Clear(symbol);
            U32(symbol, 0, AddName(names, name));
            symbol[4] = 0x12;
            U16(symbol, 6, (ushort)(absolute ? 0xFFF1 : 1));
            U64(symbol, 8, value);
            file.Write(symbol);
        }

        long symbolsLength = file.Position - symbols;
        var sections = new List<byte[]> { new byte[64] };
        foreach (Segment segment in Segments)
        {
            byte[] header = Section(AddName(names, segment.Section), segment.Data.Length == 0 ? 8u : 1u, 0, segment.Length, 0, 0);
            U64(header, 8, 2);
            U64(header, 16, segment.Address);
            sections.Add(header);
        }

        uint strings = (uint)Segments.Count + 2;
        sections.Add(Section(AddName(names, ".symtab"), 2, symbols, (ulong)symbolsLength, strings, 24));
        uint stringsName = AddName(names, ".strtab");
        long namesAt = file.Position;
        file.Write(names.ToArray());
        sections.Add(Section(stringsName, 3, namesAt, (ulong)names.Length, 0, 0));
        long sectionsAt = file.Position;
        foreach (byte[] section in sections)
        {
            file.Write(section);
        }

        byte[] bytes = file.ToArray();
        "\u007fELF"u8.CopyTo(bytes);
        bytes[4] = 2;
        bytes[5] = 1;
        bytes[6] = 1;
        U16(bytes, 16, 2);
        U16(bytes, 18, 62);
        U32(bytes, 20, 1);
        U64(bytes, 24, Entry);
        U64(bytes, 32, 64);
        U64(bytes, 40, (ulong)sectionsAt);
        U16(bytes, 52, 64);
        U16(bytes, 54, 56);
        U16(bytes, 56, (ushort)Segments.Count);
        U16(bytes, 58, 64);
        U16(bytes, 60, (ushort)sections.Count);
        U16(bytes, 62, (ushort)strings);
        for (int i = 0; i < Segments.Count; i++)
        {
            Span<byte> header = bytes.AsSpan(64 + (i * 56), 56);
            Segment segment = Segments[i];
            U32(header, 0, segment.Type);
            U32(header, 4, segment.Flags);
            U64(header, 8, (ulong)offsets[i]);
            U64(header, 16, segment.Address);
            U64(header, 24, segment.Physical ?? segment.Address);
            U64(header, 32, (ulong)segment.Data.Length);
            U64(header, 40, segment.Length);
            U64(header, 48, 4096);
        }

        return bytes;
    }

    private static uint AddName(MemoryStream names, string name)
    {
        uint at = (uint)names.Position;
        names.Write(Encoding.UTF8.GetBytes(name));
        names.WriteByte(0);
        return at;
    }

    private static byte[] Section(uint name, uint type, long offset, ulong length, uint link, ulong entryLength)
    {
        byte[] header = new byte[64];
        U32(header, 0, name);
        U32(header, 4, type);
        U64(header, 24, (ulong)offset);
        U64(header, 32, length);
        U32(header, 40, link);
        U64(header, 56, entryLength);
        return header;
    }

    public static void U16(Span<byte> bytes, int at, ushort value) => BinaryPrimitives.WriteUInt16LittleEndian(bytes[at..], value);

    public static void U32(Span<byte> bytes, int at, uint value) => BinaryPrimitives.WriteUInt32LittleEndian(bytes[at..], value);

    public static void U64(Span<byte> bytes, int at, ulong value) => BinaryPrimitives.WriteUInt64LittleEndian(bytes[at..], value);
}
