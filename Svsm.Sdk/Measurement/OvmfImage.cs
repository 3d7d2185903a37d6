// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Reads the tables that an OVMF firmware file carries for confidential guests. For the image builder (which embeds firmware) and for measuring
// a plain OVMF launch. The file is input that the integrator chose; a damaged one is refused, never read beyond.
//
// The table of entries ends 32 bytes before the end of the file and is read backwards: {data, u16 length of the entry, GUID}. The last entry
// is the footer, whose length is that of the whole table. Two entries hold an offset from the end of the file to a section list:
//   'ASEV' (SEV) or 'IGVM' · u32 length · u32 version 1 · u32 count · count x {u32 base, u32 size, u32 type}
// The file is mapped so that it ends at 4 GiB.
//
// Source: EDK2 OvmfPkg/ResetVector (Ia16/ResetVectorVtf0.asm, X64/OvmfSevMetadata.asm and the IGVM metadata beside it).

using System;
using System.Buffers.Binary;
using System.Collections.Immutable;
using System.Globalization;

namespace Svsm.Measurement;

/// <summary>Kind of a section in OVMF's SEV metadata.</summary>
public enum OvmfSevSectionType : uint
{
    /// <summary>Memory that the firmware uses before it can accept memory itself.</summary>
    SecMemory = 1,

    /// <summary>The secrets page.</summary>
    Secrets = 2,

    /// <summary>The CPUID page.</summary>
    Cpuid = 3,

    /// <summary>The SVSM calling area of the boot processor.</summary>
    SvsmCallingArea = 4,

    /// <summary>Hashes of kernel, initrd and command line.</summary>
    KernelHashes = 0x10,
}

/// <summary>Kind of a section in OVMF's IGVM metadata.</summary>
public enum OvmfIgvmSectionType : uint
{
    /// <summary>The page for parameters: base and size.</summary>
    ParameterArea = 0x100,

    /// <summary>The memory map: offset inside the area and size.</summary>
    MemoryMap = 0x101,

    /// <summary>The number of virtual processors: offset inside the area and size.</summary>
    VpCount = 0x102,

    /// <summary>Area for hand-off blocks: base and size.</summary>
    HobArea = 0x200,
}

/// <summary>A section of OVMF's SEV metadata.</summary>
/// <param name="Base">Guest-physical address, page-aligned.</param>
/// <param name="ByteLength">Length, page-aligned.</param>
/// <param name="Type">What it is for.</param>
public readonly record struct OvmfSevSection(uint Base, uint ByteLength, OvmfSevSectionType Type);

/// <summary>A section of OVMF's IGVM metadata.</summary>
/// <param name="Base">Guest-physical address, or an offset inside the parameter area.</param>
/// <param name="ByteLength">Length, bytes.</param>
/// <param name="Type">What it is for.</param>
public readonly record struct OvmfIgvmSection(uint Base, uint ByteLength, OvmfIgvmSectionType Type);

/// <summary>A range that a table entry names.</summary>
/// <param name="Base">Guest-physical address.</param>
/// <param name="ByteLength">Length, bytes.</param>
public readonly record struct OvmfArea(uint Base, uint ByteLength);

/// <summary>An OVMF firmware file and its tables.</summary>
public sealed class OvmfImage
{
    private const int PageSize = 4096;
    private const int FooterGap = 32;
    private const int EntryHeaderLength = 18;
    private const int MaximumSections = 64;
    private const uint SevSignature = 0x5645_5341;
    private const uint IgvmSignature = 0x4D56_4749;

    private static readonly Guid s_footer = new("96b582de-1fb2-45f7-baea-a366c55a082d");
    private static readonly Guid s_sevMetadata = new("dc886566-984a-4798-a75e-5585a7bf67cc");
    private static readonly Guid s_igvmMetadata = new("784fa70e-3176-4677-8a20-04b68699e374");
    private static readonly Guid s_apReset = new("00f771de-1a7e-4fcb-890e-68c77e2fb44e");
    private static readonly Guid s_kernelHashes = new("7255371f-3a3b-4b04-927b-1da6efa8d454");

    private OvmfImage(ReadOnlyMemory<byte> data, ImmutableDictionary<Guid, ReadOnlyMemory<byte>> table)
    {
        Data = data;
        Table = table;
    }

    /// <summary>The file.</summary>
    public ReadOnlyMemory<byte> Data { get; }

    /// <summary>Every entry of the table but the footer, by GUID.</summary>
    public ImmutableDictionary<Guid, ReadOnlyMemory<byte>> Table { get; }

    /// <summary>Guest-physical address of the first byte; the last one is at 4 GiB - 1.</summary>
    public ulong BaseAddress => (1ul << 32) - (ulong)Data.Length;

    /// <summary>Sections of the SEV metadata in file order; empty when the firmware has none and so cannot run with SEV-SNP.</summary>
    public ImmutableArray<OvmfSevSection> SevSections { get; private init; } = [];

    /// <summary>Sections of the IGVM metadata in file order; empty when the firmware takes its memory map from elsewhere.</summary>
    public ImmutableArray<OvmfIgvmSection> IgvmSections { get; private init; } = [];

    /// <summary>Where processors other than the first start: CS base in bits 31:16, instruction pointer in 15:0; or null.</summary>
    public uint? ApResetAddress { get; private init; }

    /// <summary>Where the table of kernel hashes goes, or null.</summary>
    public OvmfArea? KernelHashTable { get; private init; }

    /// <summary>True when the firmware has a calling area and so can run below an SVSM.</summary>
    public bool SupportsSvsm
    {
        get
        {
            foreach (OvmfSevSection section in SevSections)
            {
                if (section.Type == OvmfSevSectionType.SvsmCallingArea)
                {
                    return true;
                }
            }

            return false;
        }
    }

    /// <summary>Reads a firmware file.</summary>
    /// <param name="file">The file: whole pages, at most 16 MiB. Kept, not copied.</param>
    /// <returns>The firmware.</returns>
    /// <exception cref="MeasurementException">The file is not an OVMF image, or its tables are damaged.</exception>
    public static OvmfImage Parse(ReadOnlyMemory<byte> file)
    {
        if (file.Length == 0 || file.Length % PageSize != 0 || file.Length > 16 * 1024 * 1024)
        {
            throw Bad($"its length is {file.Length} bytes; it must be a multiple of 4096, at most 16 MiB");
        }

        ImmutableDictionary<Guid, ReadOnlyMemory<byte>> table = ReadTable(file);
        return new OvmfImage(file, table)
        {
            SevSections = ReadSevSections(file, table),
            IgvmSections = ReadIgvmSections(file, table),
            ApResetAddress = table.TryGetValue(s_apReset, out ReadOnlyMemory<byte> reset) ? ReadUInt32(reset, 0, "AP reset address") : null,
            KernelHashTable = table.TryGetValue(s_kernelHashes, out ReadOnlyMemory<byte> hashes)
                ? new OvmfArea(ReadUInt32(hashes, 0, "kernel hash area"), ReadUInt32(hashes, 4, "kernel hash area"))
                : null,
        };
    }

    private static ImmutableDictionary<Guid, ReadOnlyMemory<byte>> ReadTable(ReadOnlyMemory<byte> file)
    {
        ReadOnlySpan<byte> bytes = file.Span;
        int footer = file.Length - FooterGap - EntryHeaderLength;
        if (new Guid(bytes.Slice(footer + 2, 16)) != s_footer)
        {
            throw Bad("it has no table of GUIDs 32 bytes before its end; only OVMF builds for x64 have one");
        }

        int tableLength = BinaryPrimitives.ReadUInt16LittleEndian(bytes[footer..]);
        int start = footer + EntryHeaderLength - tableLength;
        if (tableLength < EntryHeaderLength || start < 0)
        {
            throw Bad($"its table of GUIDs has 0x{tableLength:X} bytes; wanted are at least 0x{EntryHeaderLength:X}, inside the file");
        }

        var table = ImmutableDictionary.CreateBuilder<Guid, ReadOnlyMemory<byte>>();
        for (int end = footer; end > start;)
        {
            if (end - start < EntryHeaderLength)
            {
                throw Bad($"its table of GUIDs has {end - start} bytes before the first entry");
            }

            int length = BinaryPrimitives.ReadUInt16LittleEndian(bytes[(end - EntryHeaderLength)..]);
            if (length < EntryHeaderLength || length > end - start)
            {
                throw Bad($"an entry of its table of GUIDs claims 0x{length:X} bytes; wanted are 0x{EntryHeaderLength:X} to 0x{end - start:X}");
            }

            var guid = new Guid(bytes.Slice(end - 16, 16));
            if (table.ContainsKey(guid))
            {
                throw Bad($"its table of GUIDs has two entries {guid}");
            }

            table.Add(guid, file.Slice(end - length, length - EntryHeaderLength));
            end -= length;
        }

        return table.ToImmutable();
    }

    private static ImmutableArray<OvmfSevSection> ReadSevSections(ReadOnlyMemory<byte> file, ImmutableDictionary<Guid, ReadOnlyMemory<byte>> table)
    {
        var sections = ImmutableArray.CreateBuilder<OvmfSevSection>();
        foreach ((uint start, uint length, uint type) in ReadSections(file, table, s_sevMetadata, SevSignature, "SEV metadata"))
        {
            var kind = (OvmfSevSectionType)type;
            if (kind is not (OvmfSevSectionType.SecMemory or OvmfSevSectionType.Secrets or OvmfSevSectionType.Cpuid or OvmfSevSectionType.SvsmCallingArea or OvmfSevSectionType.KernelHashes))
            {
                throw Bad($"its SEV metadata has a section of the unknown type 0x{type:X}");
            }

            bool onePage = kind is not OvmfSevSectionType.SecMemory;
            if (start % PageSize != 0 || length % PageSize != 0 || length == 0 || length > uint.MaxValue - start || (onePage && length != PageSize))
            {
                throw Bad(string.Create(CultureInfo.InvariantCulture, $"its SEV metadata has a {kind} section at 0x{start:X} with 0x{length:X} bytes; wanted are whole pages{(onePage ? ", exactly one" : "")}"));
            }

            sections.Add(new OvmfSevSection(start, length, kind));
        }

        return sections.DrainToImmutable();
    }

    private static ImmutableArray<OvmfIgvmSection> ReadIgvmSections(ReadOnlyMemory<byte> file, ImmutableDictionary<Guid, ReadOnlyMemory<byte>> table)
    {
        var sections = ImmutableArray.CreateBuilder<OvmfIgvmSection>();
        foreach ((uint start, uint length, uint type) in ReadSections(file, table, s_igvmMetadata, IgvmSignature, "IGVM metadata"))
        {
            sections.Add(new OvmfIgvmSection(start, length, (OvmfIgvmSectionType)type));
        }

        return sections.DrainToImmutable();
    }

    private static (uint Base, uint Length, uint Type)[] ReadSections(
        ReadOnlyMemory<byte> file, ImmutableDictionary<Guid, ReadOnlyMemory<byte>> table, Guid guid, uint signature, string name)
    {
        if (!table.TryGetValue(guid, out ReadOnlyMemory<byte> entry))
        {
            return [];
        }

        uint fromEnd = ReadUInt32(entry, 0, name);
        if (fromEnd > (uint)file.Length || fromEnd < 16)
        {
            throw Bad($"its {name} is 0x{fromEnd:X} bytes before the end of a file of 0x{file.Length:X}");
        }

        ReadOnlySpan<byte> metadata = file.Span[^(int)fromEnd..];
        uint seen = BinaryPrimitives.ReadUInt32LittleEndian(metadata);
        uint version = BinaryPrimitives.ReadUInt32LittleEndian(metadata[8..]);
        uint count = BinaryPrimitives.ReadUInt32LittleEndian(metadata[12..]);
        if (seen != signature || version != 1)
        {
            throw Bad($"its {name} has signature 0x{seen:X8} and version {version}; wanted are 0x{signature:X8} and 1");
        }

        if (count > MaximumSections || count * 12 > metadata.Length - 16)
        {
            throw Bad($"its {name} claims {count} sections; there is room for {Math.Min(MaximumSections, (metadata.Length - 16) / 12)}");
        }

        var sections = new (uint, uint, uint)[count];
        for (int i = 0; i < sections.Length; i++)
        {
            ReadOnlySpan<byte> at = metadata[(16 + (i * 12))..];
            sections[i] = (BinaryPrimitives.ReadUInt32LittleEndian(at), BinaryPrimitives.ReadUInt32LittleEndian(at[4..]), BinaryPrimitives.ReadUInt32LittleEndian(at[8..]));
        }

        return sections;
    }

    private static uint ReadUInt32(ReadOnlyMemory<byte> entry, int offset, string name) => entry.Length >= offset + 4
        ? BinaryPrimitives.ReadUInt32LittleEndian(entry.Span[offset..])
        : throw Bad($"its table entry for the {name} has {entry.Length} bytes; wanted are at least {offset + 4}");

    private static MeasurementException Bad(string what) => new(MeasurementError.BadFirmware, $"The firmware file cannot be used: {what}.");
}
