// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// A static program as the linker makes one, small: headers in a read-only segment, text, data whose first page begins with the end of the text, and
// zeroes behind it. Tests change its headers in place.
//
//   file     0x0000  file header, program headers   -> 0x40_0000   R    0x200 bytes
//            0x1000  text                           -> 0x40_1000   RX   0x1800 bytes
//            0x2800  data                           -> 0x40_4800   RW   0x900 bytes, in memory 0x2900
//            0x3100  end

using System;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Svsm.Kernel.Tests;

/// <summary>The header of an ELF64 file.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
internal struct TestElfHeader
{
    public uint Magic;
    public byte Class;
    public byte Data;
    public byte IdentVersion;
    public byte Abi;
    public ulong Padding;
    public ushort Type;
    public ushort Machine;
    public uint Version;
    public ulong Entry;
    public ulong HeaderOffset;
    public ulong SectionOffset;
    public uint Flags;
    public ushort OwnSize;
    public ushort HeaderSize;
    public ushort HeaderCount;
    public ushort SectionSize;
    public ushort SectionCount;
    public ushort NameSection;
}

/// <summary>A program header of an ELF64 file.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
internal struct TestElfSegment
{
    public const int Size = 56;
    public const uint Load = 1;
    public const uint Dynamic = 2;
    public const uint Interpreter = 3;
    public const uint Note = 4;
    public const uint GnuStack = 0x6474_E551;
    public const uint X = 1;
    public const uint W = 2;
    public const uint R = 4;

    public uint Type;
    public uint Flags;
    public ulong Offset;
    public ulong Address;
    public ulong PhysicalAddress;
    public ulong FileLength;
    public ulong MemoryLength;
    public ulong Alignment;
}

internal static class TestElf
{
    public const int HeaderLength = 64;
    public const ulong Entry = 0x40_1010;

    /// <summary>Indexes of the program headers.</summary>
    public const int ReadOnly = 0;
    public const int Text = 1;
    public const int Data = 2;
    public const int Stack = 3;
    public const int Note = 4;

    public static byte[] Build()
    {
        byte[] file = new byte[0x3100];
        for (int i = HeaderLength; i < file.Length; i++)
        {
            file[i] = (byte)((i * 7) + (i >> 8));
        }

        Header(file) = new TestElfHeader
        {
            Magic = 0x464C_457F,
            Class = 2,
            Data = 1,
            IdentVersion = 1,
            Type = 2,
            Machine = 62,
            Version = 1,
            Entry = Entry,
            HeaderOffset = HeaderLength,
            OwnSize = HeaderLength,
            HeaderSize = TestElfSegment.Size,
            HeaderCount = 5,
        };
        Segment(file, ReadOnly) = Load(TestElfSegment.R, 0, 0x40_0000, 0x200, 0x200);
        Segment(file, Text) = Load(TestElfSegment.R | TestElfSegment.X, 0x1000, 0x40_1000, 0x1800, 0x1800);
        Segment(file, Data) = Load(TestElfSegment.R | TestElfSegment.W, 0x2800, 0x40_4800, 0x900, 0x2900);
        Segment(file, Stack) = new TestElfSegment { Type = TestElfSegment.GnuStack, Flags = TestElfSegment.R | TestElfSegment.W };
        Segment(file, Note) = new TestElfSegment { Type = TestElfSegment.Note, Flags = TestElfSegment.R, Offset = 0x180, Address = 0x40_0180, FileLength = 32, MemoryLength = 32 };
        return file;
    }

    public static ref TestElfHeader Header(byte[] file) => ref Unsafe.As<byte, TestElfHeader>(ref file[0]);

    public static ref TestElfSegment Segment(byte[] file, int index) =>
        ref Unsafe.As<byte, TestElfSegment>(ref file.AsSpan((int)Header(file).HeaderOffset + (index * TestElfSegment.Size), TestElfSegment.Size)[0]);

    public static TestElfSegment Load(uint flags, ulong offset, ulong address, ulong fileLength, ulong memoryLength) => new()
    {
        Type = TestElfSegment.Load,
        Flags = flags,
        Offset = offset,
        Address = address,
        FileLength = fileLength,
        MemoryLength = memoryLength,
        Alignment = 0x1000,
    };
}
