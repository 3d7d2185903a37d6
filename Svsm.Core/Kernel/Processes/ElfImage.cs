// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The program of a process: a static ELF64 executable, as the build makes it. Parsed in place, every number checked before it is used. Free of
// hardware; fuzzed on the host.
//
// Taken: EXEC, x86-64, little-endian; PT_LOAD segments, ascending, with disjoint pages, none writable and executable, inside the range that a
// process has for its program, offset and address alike in their page. A segment that cannot be written has all of its bytes in the file.
// Refused: PT_INTERP and PT_DYNAMIC (nobody here links), an executable stack. Everything else in the file is none of the kernel's business.
// Source: ELF-64 Object File Format 1.5; System V ABI, AMD64 supplement, 5.

using System;
using System.Runtime.InteropServices;
using Svsm.Kernel.Memory;

namespace Svsm.Kernel.Processes;

/// <summary>What is wrong with a program.</summary>
internal enum ElfError : byte
{
    /// <summary>Nothing.</summary>
    None,

    /// <summary>It is not a static ELF64 executable for x86-64.</summary>
    NotStaticExecutable,

    /// <summary>The list of segments is not in the file, or too long.</summary>
    BadProgramHeaders,

    /// <summary>It wants a dynamic linker.</summary>
    Dynamic,

    /// <summary>A segment, or the stack, is writable and executable.</summary>
    WritableAndExecutable,

    /// <summary>A segment is not in the file, not where a program may be, or overlaps another one.</summary>
    BadSegment,

    /// <summary>Its entry is not in an executable segment.</summary>
    BadEntry,
}

/// <summary>What may be done with memory of a process.</summary>
[Flags]
internal enum AccessRights : byte
{
    /// <summary>Nothing.</summary>
    None = 0,

    /// <summary>Read.</summary>
    Read = 1,

    /// <summary>Write.</summary>
    Write = 2,

    /// <summary>Execute.</summary>
    Execute = 4,
}

/// <summary>A segment to be loaded, in whole pages.</summary>
internal struct ElfSegment
{
    /// <summary>First address, page-aligned.</summary>
    public ulong Start;

    /// <summary>First address after the last page.</summary>
    public ulong End;

    /// <summary>Offset in the file of what is at <see cref="Start"/>, page-aligned.</summary>
    public ulong Offset;

    /// <summary>First address whose contents are not from the file: zeroes from there on.</summary>
    public ulong FileEnd;

    /// <summary>Rights.</summary>
    public AccessRights Rights;
}

/// <summary>A checked program.</summary>
internal readonly ref struct ElfImage
{
    /// <summary>Most segments that are loaded.</summary>
    public const int MaxSegments = 8;

    /// <summary>Lowest address of a program.</summary>
    public const ulong MinAddress = 0x1_0000;

    /// <summary>First address that no program reaches.</summary>
    public const ulong MaxAddress = 0x4000_0000;

    private const int MaxHeaders = 32;
    private const uint Magic = 0x464C_457F;
    private const byte Class64 = 2;
    private const byte LittleEndian = 1;
    private const byte CurrentVersion = 1;
    private const ushort TypeExecutable = 2;
    private const ushort MachineX64 = 62;
    private const uint Load = 1;
    private const uint Dynamic = 2;
    private const uint Interpreter = 3;
    private const uint GnuStack = 0x6474_E551;
    private const uint FlagExecute = 1;
    private const uint FlagWrite = 2;

    private ElfImage(ulong entry, ulong headers, int headerCount)
    {
        Entry = entry;
        Headers = headers;
        HeaderCount = headerCount;
    }

    /// <summary>First instruction.</summary>
    public ulong Entry { get; }

    /// <summary>Address at which the program finds its own program headers (AT_PHDR); 0 if no segment has them.</summary>
    public ulong Headers { get; }

    /// <summary>How many program headers there are.</summary>
    public int HeaderCount { get; }

    /// <summary>Bytes of a program header.</summary>
    public static int HeaderSize => ProgramHeader.Size;

    /// <summary>Checks a program.</summary>
    /// <param name="file">The file.</param>
    /// <param name="segments">Gets the segments; room for <see cref="MaxSegments"/>.</param>
    /// <param name="count">How many there are.</param>
    /// <param name="image">What else is to be known.</param>
    public static ElfError Open(ReadOnlySpan<byte> file, Span<ElfSegment> segments, out int count, out ElfImage image)
    {
        count = 0;
        image = default;
        if (!MemoryMarshal.TryRead(file, out FileHeader header) ||
            header.Magic != Magic || header.Class != Class64 || header.Data != LittleEndian || header.IdentVersion != CurrentVersion ||
            header.Type != TypeExecutable || header.Machine != MachineX64 || header.Version != CurrentVersion)
        {
            return ElfError.NotStaticExecutable;
        }

        ulong length = (ulong)file.Length;
        ulong tableLength = (ulong)header.HeaderCount * ProgramHeader.Size;
        if (header.HeaderSize != ProgramHeader.Size || header.HeaderCount is 0 or > MaxHeaders ||
            header.HeaderOffset > length || tableLength > length - header.HeaderOffset)
        {
            return ElfError.BadProgramHeaders;
        }

        ulong headers = 0;
        bool hasEntry = false;
        for (int i = 0; i < header.HeaderCount; i++)
        {
            _ = MemoryMarshal.TryRead(file.Slice((int)header.HeaderOffset + (i * ProgramHeader.Size)), out ProgramHeader entry);
            switch (entry.Type)
            {
                case Dynamic:
                case Interpreter:
                    return ElfError.Dynamic;
                case GnuStack when (entry.Flags & FlagExecute) != 0:
                    return ElfError.WritableAndExecutable;
                case Load when entry.MemoryLength != 0:
                    if (count == MaxSegments)
                    {
                        return ElfError.BadProgramHeaders;
                    }

                    ElfError error = Check(in entry, length, count == 0 ? MinAddress : segments[count - 1].End, out segments[count]);
                    if (error != ElfError.None)
                    {
                        return error;
                    }

                    count++;
                    hasEntry |= (entry.Flags & FlagExecute) != 0 && header.Entry - entry.Address < entry.FileLength;
                    if (header.HeaderOffset >= entry.Offset && entry.FileLength >= tableLength && header.HeaderOffset - entry.Offset <= entry.FileLength - tableLength)
                    {
                        headers = entry.Address + (header.HeaderOffset - entry.Offset);
                    }

                    break;
                default:
                    break;
            }
        }

        image = new ElfImage(header.Entry, headers, header.HeaderCount);
        return hasEntry ? ElfError.None : ElfError.BadEntry;
    }

    private static ElfError Check(in ProgramHeader header, ulong fileLength, ulong from, out ElfSegment segment)
    {
        segment = default;
        bool writes = (header.Flags & FlagWrite) != 0;
        bool executes = (header.Flags & FlagExecute) != 0;
        if (writes && executes)
        {
            return ElfError.WritableAndExecutable;
        }

        const ulong OffsetMask = Page.Size - 1;
        bool isGood =
            header.Offset <= fileLength && header.FileLength <= fileLength - header.Offset && header.FileLength <= header.MemoryLength &&
            header.Address >= from && header.Address < MaxAddress && header.MemoryLength <= MaxAddress - header.Address &&
            (header.Offset & OffsetMask) == (header.Address & OffsetMask) &&
            (writes || header.FileLength == header.MemoryLength);
        if (!isGood)
        {
            return ElfError.BadSegment;
        }

        segment.Start = header.Address & ~OffsetMask;
        segment.End = (header.Address + header.MemoryLength + OffsetMask) & ~OffsetMask;
        segment.Offset = header.Offset & ~OffsetMask;
        segment.FileEnd = header.Address + header.FileLength;
        segment.Rights = AccessRights.Read | (writes ? AccessRights.Write : 0) | (executes ? AccessRights.Execute : 0);

        // Its first page may begin with bytes of the file that belong to its neighbour, but is not a page of its neighbour: "from" is one's first byte.
        return ElfError.None;
    }

    [StructLayout(LayoutKind.Sequential, Pack = 1, Size = Size)]
    private struct FileHeader
    {
        public const int Size = 64;

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

    [StructLayout(LayoutKind.Sequential, Pack = 1, Size = Size)]
    private struct ProgramHeader
    {
        public const int Size = 56;

        public uint Type;
        public uint Flags;
        public ulong Offset;
        public ulong Address;
        public ulong PhysicalAddress;
        public ulong FileLength;
        public ulong MemoryLength;
        public ulong Alignment;
    }
}
