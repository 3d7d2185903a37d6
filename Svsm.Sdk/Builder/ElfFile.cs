// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// A reader of ELF64 executables, for the image builder.
//
// Files come from a build, but also from packages and other projects: nothing in them is trusted. Every offset and length is checked
// against the file before it is used, in subtraction form; what is allocated is bounded by the length of the file and MaxNameLength.
//
//   file header (64 bytes) | program headers (56 bytes each) | ... | section headers (64 bytes each), symbol table (24-byte entries)
//
// Source: System V ABI, ELF-64 object file format; AMD64 supplement.

using System;
using System.Buffers.Binary;
using System.Collections.Immutable;
using System.Text;
using Svsm.Diagnostics;

namespace Svsm.Builder;

/// <summary>What a segment may be used for.</summary>
[Flags]
public enum ElfSegmentFlags : uint
{
    /// <summary>Nothing.</summary>
    None = 0,

    /// <summary>May be executed (<c>PF_X</c>).</summary>
    Execute = 1,

    /// <summary>May be written (<c>PF_W</c>).</summary>
    Write = 2,

    /// <summary>May be read (<c>PF_R</c>).</summary>
    Read = 4,
}

/// <summary>A loadable segment with a length of at least one byte.</summary>
/// <param name="VirtualAddress">First byte in virtual memory; address plus length does not leave 64 bits.</param>
/// <param name="PhysicalAddress">First byte in physical memory; address plus length does not leave 64 bits.</param>
/// <param name="Length">Bytes in memory, at least the length of <paramref name="Data"/>.</param>
/// <param name="Flags">Rights.</param>
/// <param name="Data">The bytes that the file has; the rest is zeroes.</param>
/// <param name="Name">Name of the first section in the segment, without a leading dot; empty when the file has no sections.</param>
public sealed record ElfSegment(ulong VirtualAddress, ulong PhysicalAddress, ulong Length, ElfSegmentFlags Flags, ReadOnlyMemory<byte> Data, string Name)
{
    /// <summary>Where <see cref="Data"/> is in the file; as the file says, and not checked, when it is empty.</summary>
    public ulong FileOffset { get; init; }
}

/// <summary>A defined symbol.</summary>
/// <param name="Name">Its name, not empty.</param>
/// <param name="Value">Its address.</param>
/// <param name="Length">Its length in bytes; 0 when not known.</param>
/// <param name="IsAbsolute">True when it is a number rather than an address in a section.</param>
public readonly record struct ElfSymbol(string Name, ulong Value, ulong Length, bool IsAbsolute);

/// <summary>A static x86-64 executable.</summary>
public sealed class ElfFile
{
    /// <summary>Longest name of a symbol or section in bytes.</summary>
    public const int MaxNameLength = 8192;

    /// <summary>Most loadable segments of a file. An image of this project has about a dozen.</summary>
    public const int MaxSegments = 256;

    private const int FileHeaderLength = 64;
    private const int ProgramHeaderLength = 56;
    private const int SectionHeaderLength = 64;
    private const int SymbolLength = 24;

    // The sum of all names of a file is bounded too: with shared string tails, a small file could otherwise ask for gigabytes.
    private const int MaxNameBytes = 64 << 20;

    private const ushort TypeExecutable = 2;
    private const ushort MachineX64 = 62;

    private const uint SegmentLoad = 1;
    private const uint SegmentDynamic = 2;
    private const uint SegmentInterpreter = 3;

    private const uint SectionSymbols = 2;
    private const uint SectionStrings = 3;
    private const ulong SectionAllocated = 2;

    private const ushort IndexUndefined = 0;
    private const ushort IndexAbsolute = 0xFFF1;

    private readonly ReadOnlyMemory<byte> _file;
    private readonly string _subject;
    private int _nameBytes;

    private ElfFile(ReadOnlyMemory<byte> file, string subject)
    {
        _file = file;
        _subject = subject;
    }

    /// <summary>The entry point.</summary>
    public ulong Entry { get; private set; }

    /// <summary>The loadable segments, in the order of the file.</summary>
    public ImmutableArray<ElfSegment> Segments { get; private set; } = [];

    /// <summary>The defined symbols with a name, in the order of the file; empty when the file is stripped.</summary>
    public ImmutableArray<ElfSymbol> Symbols { get; private set; } = [];

    /// <summary>Reads a file.</summary>
    /// <param name="file">The whole file. Segments are slices of it, so it must not change afterwards. Untrusted.</param>
    /// <param name="subject">What the file is, for messages: "kernel", "guest payload".</param>
    /// <returns>The file.</returns>
    /// <exception cref="SvsmDiagnosticException">SVSM2001: the file is damaged. SVSM2002: it is of another kind. Nothing else is thrown.</exception>
    public static ElfFile Parse(ReadOnlyMemory<byte> file, string subject)
    {
        var elf = new ElfFile(file, subject);
        elf.Read();
        return elf;
    }

    /// <summary>Looks up a symbol.</summary>
    /// <param name="name">The name.</param>
    /// <returns>The first symbol of this name, or null.</returns>
    public ElfSymbol? FindSymbol(string name)
    {
        foreach (ElfSymbol symbol in Symbols)
        {
            if (symbol.Name == name)
            {
                return symbol;
            }
        }

        return null;
    }

    private void Read()
    {
        ReadOnlySpan<byte> file = _file.Span;
        if (file.Length < FileHeaderLength)
        {
            throw Damaged($"has {file.Length} bytes", $"at least {FileHeaderLength}, a linked executable");
        }

        if (!file.StartsWith("\u007fELF"u8))
        {
            throw Damaged($"starts with 0x{BinaryPrimitives.ReadUInt32BigEndian(file):X8}", "0x7F454C46, a linked executable");
        }

        if (file[4] != 2 || file[5] != 1 || file[6] != 1)
        {
            throw Unsupported($"has ELF class {file[4]}, data {file[5]}, version {file[6]}", "class 2 (64 bit), data 1 (little-endian), version 1");
        }

        ushort type = U16(file, 16);
        ushort machine = U16(file, 18);
        if (type != TypeExecutable || machine != MachineX64)
        {
            throw Unsupported($"has ELF type {type} and machine {machine}", "type 2 (ET_EXEC) and machine 62 (x86-64)");
        }

        Entry = U64(file, 24);
        ReadOnlySpan<byte> sections = Table(file, "section header", U64(file, 40), U16(file, 58), U16(file, 60), SectionHeaderLength);
        ReadOnlySpan<byte> programs = Table(file, "program header", U64(file, 32), U16(file, 54), U16(file, 56), ProgramHeaderLength);
        ReadSegments(file, programs, sections, U16(file, 62));
        ReadSymbols(file, sections);
    }

    private void ReadSegments(ReadOnlySpan<byte> file, ReadOnlySpan<byte> programs, ReadOnlySpan<byte> sections, int namesIndex)
    {
        var segments = ImmutableArray.CreateBuilder<ElfSegment>();
        for (int at = 0; at < programs.Length; at += ProgramHeaderLength)
        {
            ReadOnlySpan<byte> header = programs.Slice(at, ProgramHeaderLength);
            uint type = U32(header, 0);
            if (type is SegmentDynamic or SegmentInterpreter)
            {
                throw Unsupported($"has a program header of type {type} (dynamic linking)", "none, for nothing resolves it at run time");
            }

            ulong length = U64(header, 40);
            if (type != SegmentLoad || length == 0)
            {
                continue;
            }

            if (segments.Count == MaxSegments)
            {
                throw Unsupported($"has more than {MaxSegments} loadable segments", $"at most {MaxSegments}");
            }

            int number = at / ProgramHeaderLength;
            ulong virtualAddress = U64(header, 16);
            ulong physicalAddress = U64(header, 24);
            ulong dataLength = U64(header, 32);
            if (dataLength > length)
            {
                throw Damaged($"has segment {number} with 0x{dataLength:X} bytes in the file and 0x{length:X} in memory", "no more in the file than in memory");
            }

            if (length > ulong.MaxValue - virtualAddress || length > ulong.MaxValue - physicalAddress)
            {
                throw Damaged($"has segment {number} with 0x{length:X} bytes at 0x{virtualAddress:X} (physical 0x{physicalAddress:X})", "an end within the address space");
            }

            ReadOnlyMemory<byte> data = dataLength == 0 ? default : Slice($"segment {number}", U64(header, 8), dataLength);
            segments.Add(new ElfSegment(
                virtualAddress, physicalAddress, length, (ElfSegmentFlags)U32(header, 4) & (ElfSegmentFlags)7, data,
                FindSectionName(file, sections, namesIndex, virtualAddress, length))
            {
                FileOffset = U64(header, 8),
            });
        }

        Segments = segments.DrainToImmutable();
    }

    private void ReadSymbols(ReadOnlySpan<byte> file, ReadOnlySpan<byte> sections)
    {
        var symbols = ImmutableArray.CreateBuilder<ElfSymbol>();
        for (int at = 0; at < sections.Length; at += SectionHeaderLength)
        {
            ReadOnlySpan<byte> header = sections.Slice(at, SectionHeaderLength);
            if (U32(header, 4) != SectionSymbols)
            {
                continue;
            }

            ulong tableLength = U64(header, 32);
            if (U64(header, 56) != SymbolLength || tableLength % SymbolLength != 0)
            {
                throw Damaged($"has a symbol table of 0x{tableLength:X} bytes in entries of {U64(header, 56)}", $"whole entries of {SymbolLength}");
            }

            ReadOnlySpan<byte> table = Slice("symbol table", U64(header, 24), tableLength).Span;
            ReadOnlySpan<byte> names = StringTable(sections, U32(header, 40));
            for (int entry = 0; entry < table.Length; entry += SymbolLength)
            {
                ReadOnlySpan<byte> symbol = table.Slice(entry, SymbolLength);
                int kind = symbol[4] & 0xF;
                ushort index = U16(symbol, 6);

                // 0 no type, 1 object, 2 function; sections and source files are of no use here.
                if (kind > 2 || index == IndexUndefined)
                {
                    continue;
                }

                string name = Name(names, U32(symbol, 0));
                if (name.Length != 0)
                {
                    symbols.Add(new ElfSymbol(name, U64(symbol, 8), U64(symbol, 16), index == IndexAbsolute));
                }
            }
        }

        Symbols = symbols.DrainToImmutable();
    }

    private string FindSectionName(ReadOnlySpan<byte> file, ReadOnlySpan<byte> sections, int namesIndex, ulong address, ulong length)
    {
        int best = -1;
        ulong bestAddress = 0;
        for (int at = 0; at < sections.Length; at += SectionHeaderLength)
        {
            ReadOnlySpan<byte> header = sections.Slice(at, SectionHeaderLength);
            ulong sectionAddress = U64(header, 16);
            bool inside = (U64(header, 8) & SectionAllocated) != 0 && U64(header, 32) != 0 && sectionAddress >= address && sectionAddress - address < length;
            if (inside && (best < 0 || sectionAddress < bestAddress))
            {
                best = at;
                bestAddress = sectionAddress;
            }
        }

        if (best < 0 || namesIndex == IndexUndefined)
        {
            return "";
        }

        // For reports only: what cannot be shown on a line of text is left out.
        string name = Name(StringTable(sections, (uint)namesIndex), U32(sections, best)).TrimStart('.');
        foreach (char character in name)
        {
            if (!char.IsAsciiLetterOrDigit(character) && character is not ('_' or '-' or '.'))
            {
                return "";
            }
        }

        return name.Length <= 40 ? name : "";
    }

    private ReadOnlySpan<byte> StringTable(ReadOnlySpan<byte> sections, uint index)
    {
        if (index >= (uint)(sections.Length / SectionHeaderLength))
        {
            throw Damaged($"has its names in section {index}", $"a section number below {sections.Length / SectionHeaderLength}");
        }

        ReadOnlySpan<byte> header = sections.Slice((int)index * SectionHeaderLength, SectionHeaderLength);
        if (U32(header, 4) != SectionStrings)
        {
            throw Damaged($"has its names in section {index} of type {U32(header, 4)}", $"type {SectionStrings} (string table)");
        }

        return Slice("string table", U64(header, 24), U64(header, 32)).Span;
    }

    private string Name(ReadOnlySpan<byte> names, uint offset)
    {
        if (offset >= (uint)names.Length)
        {
            throw Damaged($"has a name at 0x{offset:X} of a string table", $"an offset below 0x{names.Length:X}");
        }

        ReadOnlySpan<byte> name = names[(int)offset..];
        if (name.Length > MaxNameLength + 1)
        {
            name = name[..(MaxNameLength + 1)];
        }

        int length = name.IndexOf((byte)0);
        if (length < 0)
        {
            throw Damaged($"has a name that does not end within {name.Length} bytes", $"at most {MaxNameLength}");
        }

        _nameBytes += length;
        if (_nameBytes > MaxNameBytes)
        {
            throw Damaged($"has names of {_nameBytes} bytes and more", $"at most {MaxNameBytes}");
        }

        return Encoding.UTF8.GetString(name[..length]);
    }

    private ReadOnlySpan<byte> Table(ReadOnlySpan<byte> file, string what, ulong offset, ushort entryLength, ushort count, int wanted)
    {
        if (count == 0)
        {
            return default;
        }

        if (entryLength != wanted)
        {
            throw Damaged($"has a {what} table with entries of {entryLength} bytes", $"{wanted}");
        }

        return Slice($"{what} table", offset, (ulong)count * (ulong)wanted).Span;
    }

    private ReadOnlyMemory<byte> Slice(string what, ulong offset, ulong length)
    {
        ulong fileLength = (ulong)_file.Length;
        if (offset > fileLength || length > fileLength - offset)
        {
            throw Damaged($"has its {what} at 0x{offset:X}, 0x{length:X} bytes", $"an end within the file's 0x{fileLength:X}");
        }

        return _file.Slice((int)offset, (int)length);
    }

    private static ushort U16(ReadOnlySpan<byte> bytes, int at) => BinaryPrimitives.ReadUInt16LittleEndian(bytes[at..]);

    private static uint U32(ReadOnlySpan<byte> bytes, int at) => BinaryPrimitives.ReadUInt32LittleEndian(bytes[at..]);

    private static ulong U64(ReadOnlySpan<byte> bytes, int at) => BinaryPrimitives.ReadUInt64LittleEndian(bytes[at..]);

    private SvsmDiagnosticException Damaged(string seen, string wanted) => SvsmDiagnostics.ElfDamaged.Error($"the {_subject} {seen}", wanted);

    private SvsmDiagnosticException Unsupported(string seen, string wanted) => SvsmDiagnostics.ElfUnsupported.Error($"the {_subject} {seen}", wanted);
}
