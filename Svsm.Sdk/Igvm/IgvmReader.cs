// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Parser of IGVM files. Input is untrusted: every offset is checked in subtraction form before it is used, and memory is allocated only for
// structures that are really there.

using System;
using System.Buffers.Binary;
using System.Collections.Immutable;
using System.Globalization;

namespace Svsm.Igvm;

internal sealed class IgvmReader(ReadOnlyMemory<byte> file)
{
    private readonly ReadOnlyMemory<byte> _file = file;
    private IgvmRules _rules = null!;
    private int _dataStart;

    private enum Section
    {
        Platform,
        Initialization,
        Directive,
    }

    public IgvmFile Read()
    {
        ReadOnlySpan<byte> file = _file.Span;
        IgvmFormatVersion version = ReadFixedHeader(file, out IgvmArchitecture architecture, out int start, out int end);
        _dataStart = end;

        (int platformCount, int initializationCount, int directiveCount) = Count(file, start, end);
        _rules = new IgvmRules(version, architecture, parsing: true);
        var platforms = ImmutableArray.CreateBuilder<IgvmPlatform>(platformCount);
        var initializations = ImmutableArray.CreateBuilder<IgvmInitialization>(initializationCount);
        var directives = ImmutableArray.CreateBuilder<IgvmDirective>(directiveCount);

        for (int at = start; at < end;)
        {
            uint type = ReadUInt32(file, at);
            int length = IgvmLayout.StructureLength(type)!.Value;
            int body = at + IgvmLayout.VariableHeaderLength;
            switch (SectionOf(type))
            {
                case Section.Platform:
                    IgvmPlatform platform = ReadPlatform(file, body);
                    _rules.CheckPlatform(platform, body);
                    platforms.Add(platform);
                    break;
                case Section.Initialization:
                    IgvmInitialization initialization = ReadInitialization(file, (IgvmHeaderType)type, body);
                    _rules.CheckInitialization(initialization, body);
                    initializations.Add(initialization);
                    break;
                default:
                    IgvmDirective directive = ReadDirective(file, (IgvmHeaderType)type, body);
                    _rules.CheckDirective(directive, body);
                    directives.Add(directive);
                    break;
            }

            at = body + IgvmLayout.AlignTo8(length);
        }

        _rules.CheckEnd(end);
        return new IgvmFile
        {
            FormatVersion = version,
            Architecture = architecture,
            Platforms = platforms.MoveToImmutable(),
            Initializations = initializations.MoveToImmutable(),
            Directives = directives.MoveToImmutable(),
        };
    }

    private static IgvmFormatVersion ReadFixedHeader(ReadOnlySpan<byte> file, out IgvmArchitecture architecture, out int start, out int end)
    {
        architecture = IgvmArchitecture.X64;
        if (file.Length < IgvmLayout.FixedHeaderLengthV1)
        {
            throw Error(IgvmErrorKind.FileTooShort, 0, "file length", file.Length, "at least 24 bytes");
        }

        uint magic = ReadUInt32(file, 0);
        if (magic != IgvmLayout.Magic)
        {
            throw Error(IgvmErrorKind.BadMagic, 0, "magic", magic, "0x4D564749 (IGVM)");
        }

        var version = (IgvmFormatVersion)ReadUInt32(file, 4);
        if (version is not (IgvmFormatVersion.V1 or IgvmFormatVersion.V2))
        {
            throw Error(IgvmErrorKind.UnsupportedVersion, 4, "format version", (uint)version, "1 or 2");
        }

        int headerLength = IgvmLayout.FixedHeaderLengthV1;
        if (version == IgvmFormatVersion.V2)
        {
            headerLength = IgvmLayout.FixedHeaderLengthV2;
            if (file.Length < headerLength)
            {
                throw Error(IgvmErrorKind.FileTooShort, 0, "file length", file.Length, "at least 32 bytes");
            }

            architecture = (IgvmArchitecture)ReadUInt32(file, 0x18);
            if (architecture is not (IgvmArchitecture.X64 or IgvmArchitecture.AArch64))
            {
                throw Error(IgvmErrorKind.UnsupportedArchitecture, 0x18, "architecture", (uint)architecture, "0 (x64) or 1 (AArch64)");
            }

            uint pageSize = ReadUInt32(file, 0x1C);
            if (pageSize != IgvmLayout.PageSize)
            {
                throw Error(IgvmErrorKind.UnsupportedPageSize, 0x1C, "page size", pageSize, "4096");
            }
        }

        uint totalLength = ReadUInt32(file, 0x10);
        if (totalLength != (uint)file.Length)
        {
            throw Error(IgvmErrorKind.BadFileSize, 0x10, "total file size", totalLength, Hex((uint)file.Length) + " (the length of the file)");
        }

        uint sectionOffset = ReadUInt32(file, 0x08);
        uint sectionLength = ReadUInt32(file, 0x0C);
        if (sectionOffset < (uint)headerLength || sectionOffset % 8 != 0 || sectionOffset >= (uint)file.Length)
        {
            throw Error(IgvmErrorKind.BadHeaderSection, 0x08, "variable header offset", sectionOffset, "a multiple of 8 behind the fixed header and inside the file");
        }

        if (sectionLength > (uint)file.Length - sectionOffset)
        {
            throw Error(IgvmErrorKind.BadHeaderSection, 0x0C, "variable header size", sectionLength, "at most " + Hex((uint)file.Length - sectionOffset));
        }

        if (sectionLength == (uint)file.Length - sectionOffset)
        {
            throw Error(IgvmErrorKind.NoFileData, 0x0C, "variable header size", sectionLength, "at least one byte of data behind the headers");
        }

        start = (int)sectionOffset;
        end = (int)(sectionOffset + sectionLength);
        uint checksum = ReadUInt32(file, IgvmLayout.ChecksumOffset);
        uint computed = IgvmLayout.Checksum(file[..headerLength], file[start..end]);
        if (checksum != computed)
        {
            throw Error(IgvmErrorKind.BadChecksum, IgvmLayout.ChecksumOffset, "checksum", checksum, Hex(computed));
        }

        return version;
    }

    // First pass: types, lengths and order, so that the second pass allocates exactly what it needs and cannot leave the section.
    private static (int Platforms, int Initializations, int Directives) Count(ReadOnlySpan<byte> file, int start, int end)
    {
        Span<int> counts = [0, 0, 0];
        var section = Section.Platform;
        for (int at = start; at < end;)
        {
            if (end - at < IgvmLayout.VariableHeaderLength)
            {
                throw Error(IgvmErrorKind.TruncatedHeader, at, "rest of the header section", end - at, "8 bytes of type and length");
            }

            uint type = ReadUInt32(file, at);
            uint length = ReadUInt32(file, at + 4);
            if (IgvmLayout.StructureLength(type) is not int wanted)
            {
                throw Error(IgvmErrorKind.UnknownHeaderType, at, "header type", type, "a type that the format defines");
            }

            if (length != (uint)wanted)
            {
                throw Error(IgvmErrorKind.BadHeaderLength, at + 4, $"length of {(IgvmHeaderType)type}", length, Hex((uint)wanted));
            }

            int padded = IgvmLayout.AlignTo8(wanted);
            if (padded > end - at - IgvmLayout.VariableHeaderLength)
            {
                throw Error(IgvmErrorKind.TruncatedHeader, at, $"{(IgvmHeaderType)type} with padding, bytes left for it", end - at - IgvmLayout.VariableHeaderLength, Hex((uint)padded));
            }

            Section next = SectionOf(type);
            if (next < section)
            {
                throw Error(IgvmErrorKind.HeaderOutOfOrder, at, "header type", type, $"no {next} header behind the first {section} header");
            }

            section = next;
            counts[(int)section]++;
            at += IgvmLayout.VariableHeaderLength + padded;
        }

        return (counts[0], counts[1], counts[2]);
    }

    private static Section SectionOf(uint type) => type switch
    {
        <= IgvmLayout.PlatformLast => Section.Platform,
        <= IgvmLayout.InitializationLast => Section.Initialization,
        _ => Section.Directive,
    };

    private static IgvmPlatform ReadPlatform(ReadOnlySpan<byte> file, int at) => new()
    {
        CompatibilityMask = ReadUInt32(file, at),
        HighestVtl = file[at + 4],
        PlatformType = (IgvmPlatformType)file[at + 5],
        PlatformVersion = ReadUInt16(file, at + 6),
        SharedGpaBoundary = ReadUInt64(file, at + 8),
    };

    private IgvmInitialization ReadInitialization(ReadOnlySpan<byte> file, IgvmHeaderType type, int at)
    {
        switch (type)
        {
            case IgvmHeaderType.GuestPolicy:
                RequireZero(file, at + 0x0C, 4);
                return new IgvmGuestPolicy { Policy = ReadUInt64(file, at), CompatibilityMask = ReadUInt32(file, at + 8) };
            case IgvmHeaderType.RelocatableRegion:
                return new IgvmRelocatableRegion
                {
                    CompatibilityMask = ReadUInt32(file, at),
                    VpIndex = ReadUInt16(file, at + 4),
                    Vtl = file[at + 6],
                    Flags = (IgvmRelocationFlags)file[at + 7],
                    Alignment = ReadUInt64(file, at + 0x08),
                    Gpa = ReadUInt64(file, at + 0x10),
                    ByteLength = ReadUInt64(file, at + 0x18),
                    MinimumGpa = ReadUInt64(file, at + 0x20),
                    MaximumGpa = ReadUInt64(file, at + 0x28),
                };
            case IgvmHeaderType.PageTableRelocationRegion:
                RequireZero(file, at + 7, 1);
                return new IgvmPageTableRelocation
                {
                    CompatibilityMask = ReadUInt32(file, at),
                    VpIndex = ReadUInt16(file, at + 4),
                    Vtl = file[at + 6],
                    Gpa = ReadUInt64(file, at + 0x08),
                    ByteLength = ReadUInt64(file, at + 0x10),
                    UsedByteLength = ReadUInt64(file, at + 0x18),
                };
            case IgvmHeaderType.CorimDocument:
                RequireZero(file, at + 0x0C, 4);
                return new IgvmCorimDocument { CompatibilityMask = ReadUInt32(file, at), Data = ReadOptionalData(file, at + 4, ReadUInt32(file, at + 8)) };
            case IgvmHeaderType.CorimSignature:
                RequireZero(file, at + 0x0C, 4);
                return new IgvmCorimSignature { CompatibilityMask = ReadUInt32(file, at), Data = ReadOptionalData(file, at + 4, ReadUInt32(file, at + 8)) };
            default:
                RequireZero(file, at + 4, 4);
                RequireZero(file, at + 0x1A, 6);
                return new IgvmCcaPolicy
                {
                    CompatibilityMask = ReadUInt32(file, at),
                    RequiredZeroes = ReadUInt64(file, at + 8),
                    RequiredOnes = ReadUInt64(file, at + 0x10),
                    HashAlgorithm = file[at + 0x18],
                    LfaPolicy = file[at + 0x19],
                };
        }
    }

    private IgvmDirective ReadDirective(ReadOnlySpan<byte> file, IgvmHeaderType type, int at)
    {
        switch (type)
        {
            case IgvmHeaderType.ParameterArea:
                ulong areaLength = ReadUInt64(file, at);
                return new IgvmParameterArea
                {
                    ByteLength = areaLength,
                    Index = ReadUInt32(file, at + 8),
                    InitialData = ReadOptionalData(file, at + 0x0C, areaLength),
                };
            case IgvmHeaderType.PageData:
                RequireZero(file, at + 0x16, 2);
                return new IgvmPageData
                {
                    Gpa = ReadUInt64(file, at),
                    CompatibilityMask = ReadUInt32(file, at + 8),
                    Data = ReadOptionalData(file, at + 0x0C, IgvmLayout.PageSize),
                    Flags = (IgvmPageDataFlags)ReadUInt32(file, at + 0x10),
                    DataType = (IgvmPageDataType)ReadUInt16(file, at + 0x14),
                };
            case IgvmHeaderType.ParameterInsert:
                return new IgvmParameterInsert
                {
                    Gpa = ReadUInt64(file, at),
                    CompatibilityMask = ReadUInt32(file, at + 8),
                    AreaIndex = ReadUInt32(file, at + 0x0C),
                };
            case IgvmHeaderType.VpContext:
                return ReadVpContext(file, at);
            case IgvmHeaderType.RequiredMemory:
                RequireZero(file, at + 0x14, 4);
                return new IgvmRequiredMemory
                {
                    Gpa = ReadUInt64(file, at),
                    CompatibilityMask = ReadUInt32(file, at + 8),
                    ByteLength = ReadUInt32(file, at + 0x0C),
                    Flags = (IgvmRequiredMemoryFlags)ReadUInt32(file, at + 0x10),
                };
            case IgvmHeaderType.ErrorRange:
                return new IgvmErrorRange
                {
                    Gpa = ReadUInt64(file, at),
                    CompatibilityMask = ReadUInt32(file, at + 8),
                    ByteLength = ReadUInt32(file, at + 0x0C),
                };
            case IgvmHeaderType.SnpIdBlock:
                return ReadIdBlock(file, at);
            case IgvmHeaderType.VbsMeasurement:
                return new IgvmVbsMeasurement
                {
                    CompatibilityMask = ReadUInt32(file, at),
                    Version = ReadUInt32(file, at + 4),
                    ProductId = ReadUInt32(file, at + 8),
                    ModuleId = ReadUInt32(file, at + 0x0C),
                    SecurityVersion = ReadUInt32(file, at + 0x10),
                    PolicyFlags = ReadUInt32(file, at + 0x14),
                    BootDigestAlgorithm = ReadUInt32(file, at + 0x18),
                    SigningAlgorithm = ReadUInt32(file, at + 0x1C),
                    BootDigest = _file.Slice(at + 0x20, 64),
                    Signature = _file.Slice(at + 0x60, 256),
                    PublicKey = _file.Slice(at + 0x160, 512),
                };
            default:
                return new IgvmParameterUsage
                {
                    Kind = (IgvmParameterKind)type,
                    AreaIndex = ReadUInt32(file, at),
                    ByteOffset = ReadUInt32(file, at + 4),
                };
        }
    }

    private IgvmVpContext ReadVpContext(ReadOnlySpan<byte> file, int at)
    {
        RequireZero(file, at + 0x12, 2);
        uint mask = ReadUInt32(file, at + 8);
        int length = IgvmLayout.PageSize;
        if (_rules.VpContextPlatform(mask, at) == IgvmPlatformType.VsmIsolation)
        {
            ReadOnlySpan<byte> count = ReadData(file, at + 0x0C, IgvmLayout.VbsHeaderLength).Span;
            uint registers = BinaryPrimitives.ReadUInt32LittleEndian(count);
            if (registers > IgvmLayout.VbsMaximumRegisters)
            {
                throw Error(IgvmErrorKind.BadVpContext, ReadUInt32(file, at + 0x0C), "register count", registers, "at most 1024");
            }

            length = IgvmLayout.VbsHeaderLength + ((int)registers * IgvmLayout.VbsRegisterLength);
        }

        return new IgvmVpContext
        {
            Gpa = ReadUInt64(file, at),
            CompatibilityMask = mask,
            Data = ReadData(file, at + 0x0C, (uint)length),
            VpIndex = ReadUInt16(file, at + 0x10),
        };
    }

    private IgvmSnpIdBlock ReadIdBlock(ReadOnlySpan<byte> file, int at)
    {
        RequireZero(file, at + 5, 3);
        return new IgvmSnpIdBlock
        {
            CompatibilityMask = ReadUInt32(file, at),
            AuthorKeyEnabled = file[at + 4],
            LaunchDigest = _file.Slice(at + 0x08, 48),
            FamilyId = _file.Slice(at + 0x38, 16),
            ImageId = _file.Slice(at + 0x48, 16),
            Version = ReadUInt32(file, at + 0x58),
            GuestSvn = ReadUInt32(file, at + 0x5C),
            IdKeyAlgorithm = ReadUInt32(file, at + 0x60),
            AuthorKeyAlgorithm = ReadUInt32(file, at + 0x64),
            IdKeySignature = ReadSignature(at + 0x68),
            IdPublicKey = ReadPublicKey(file, at + 0xF8),
            AuthorKeySignature = ReadSignature(at + 0x190),
            AuthorPublicKey = ReadPublicKey(file, at + 0x220),
        };
    }

    private IgvmSnpSignature ReadSignature(int at) =>
        new(_file.Slice(at, IgvmSnpSignature.NumberLength), _file.Slice(at + IgvmSnpSignature.NumberLength, IgvmSnpSignature.NumberLength));

    private IgvmSnpPublicKey ReadPublicKey(ReadOnlySpan<byte> file, int at)
    {
        RequireZero(file, at + 4, 4);
        return new IgvmSnpPublicKey(
            ReadUInt32(file, at),
            _file.Slice(at + 8, IgvmSnpSignature.NumberLength),
            _file.Slice(at + 8 + IgvmSnpSignature.NumberLength, IgvmSnpSignature.NumberLength));
    }

    // Offset 0 stands for "no data".
    private ReadOnlyMemory<byte> ReadOptionalData(ReadOnlySpan<byte> file, int offsetField, ulong length) =>
        ReadUInt32(file, offsetField) == 0 ? default : ReadData(file, offsetField, length);

    private ReadOnlyMemory<byte> ReadData(ReadOnlySpan<byte> file, int offsetField, ulong length)
    {
        uint offset = ReadUInt32(file, offsetField);
        if (offset < (uint)_dataStart || offset > (uint)file.Length || length > (uint)file.Length - offset)
        {
            throw Error(
                IgvmErrorKind.DataOutOfFile,
                offsetField,
                "data offset",
                offset,
                string.Create(CultureInfo.InvariantCulture, $"0x{length:X} bytes between 0x{_dataStart:X} and 0x{file.Length:X}"));
        }

        return _file.Slice((int)offset, (int)length);
    }

    private static void RequireZero(ReadOnlySpan<byte> file, int at, int length)
    {
        ReadOnlySpan<byte> field = file.Slice(at, length);
        if (field.ContainsAnyExcept((byte)0))
        {
            throw new IgvmFormatException(IgvmErrorKind.ReservedNotZero, at, "reserved field", Convert.ToHexString(field), "zeroes");
        }
    }

    private static ushort ReadUInt16(ReadOnlySpan<byte> file, int at) => BinaryPrimitives.ReadUInt16LittleEndian(file[at..]);

    private static uint ReadUInt32(ReadOnlySpan<byte> file, int at) => BinaryPrimitives.ReadUInt32LittleEndian(file[at..]);

    private static ulong ReadUInt64(ReadOnlySpan<byte> file, int at) => BinaryPrimitives.ReadUInt64LittleEndian(file[at..]);

    private static string Hex(ulong value) => string.Create(CultureInfo.InvariantCulture, $"0x{value:X}");

    private static IgvmFormatException Error(IgvmErrorKind kind, long at, string subject, long seen, string wanted) =>
        new(kind, at, subject, Hex((ulong)seen), wanted);
}
