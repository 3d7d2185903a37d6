// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Writer of IGVM files: sections back to back, equal data blocks once, in the order in which they are first used. No time, path or chance
// enters; the same model gives the same bytes.

using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.Globalization;
using System.IO;
using System.IO.Hashing;
using System.Linq;

namespace Svsm.Igvm;

internal sealed class IgvmWriter
{
    private readonly IgvmFile _file;
    private readonly int _fixedLength;
    private readonly byte[] _headers;
    private readonly List<ReadOnlyMemory<byte>> _blocks = [];
    private readonly Dictionary<ReadOnlyMemory<byte>, uint> _offsets = new(ContentComparer.Instance);
    private int _at;
    private long _end;

    // Checks the model and builds everything but the data, so that nothing is written for a model that breaks the format.
    public IgvmWriter(IgvmFile file)
    {
        _file = file;
        IgvmRules.CheckAll(file);

        _fixedLength = file.FormatVersion == IgvmFormatVersion.V1 ? IgvmLayout.FixedHeaderLengthV1 : IgvmLayout.FixedHeaderLengthV2;
        long headerLength = _fixedLength;
        foreach (IgvmHeader header in file.Platforms.Concat<IgvmHeader>(file.Initializations).Concat(file.Directives))
        {
            headerLength += EntryLength(header);
        }

        RequireFileLength(headerLength);
        _headers = new byte[headerLength];
        _end = headerLength;
        _at = _fixedLength;
        foreach (IgvmPlatform platform in file.Platforms)
        {
            Write(platform, WritePlatform);
        }

        foreach (IgvmInitialization initialization in file.Initializations)
        {
            Write(initialization, WriteInitialization);
        }

        foreach (IgvmDirective directive in file.Directives)
        {
            Write(directive, WriteDirective);
        }

        if (_blocks.Count == 0)
        {
            throw new IgvmFormatException(IgvmErrorKind.NoFileData, null, "data of the file", "empty", "at least one page or context with data; loaders refuse a file without");
        }

        WriteFixedHeader();
    }

    public byte[] WriteArray()
    {
        byte[] file = new byte[_end];
        _headers.CopyTo(file, 0);
        int at = _headers.Length;
        foreach (ReadOnlyMemory<byte> block in _blocks)
        {
            block.CopyTo(file.AsMemory(at));
            at += block.Length;
        }

        return file;
    }

    public void WriteTo(Stream stream)
    {
        stream.Write(_headers);
        foreach (ReadOnlyMemory<byte> block in _blocks)
        {
            stream.Write(block.Span);
        }
    }

    private void WriteFixedHeader()
    {
        Span<byte> header = _headers;
        BinaryPrimitives.WriteUInt32LittleEndian(header, IgvmLayout.Magic);
        BinaryPrimitives.WriteUInt32LittleEndian(header[0x04..], (uint)_file.FormatVersion);
        BinaryPrimitives.WriteUInt32LittleEndian(header[0x08..], (uint)_fixedLength);
        BinaryPrimitives.WriteUInt32LittleEndian(header[0x0C..], (uint)(_headers.Length - _fixedLength));
        BinaryPrimitives.WriteUInt32LittleEndian(header[0x10..], (uint)_end);
        if (_file.FormatVersion == IgvmFormatVersion.V2)
        {
            BinaryPrimitives.WriteUInt32LittleEndian(header[0x18..], (uint)_file.Architecture);
            BinaryPrimitives.WriteUInt32LittleEndian(header[0x1C..], IgvmLayout.PageSize);
        }

        uint checksum = IgvmLayout.Checksum(header[.._fixedLength], header[_fixedLength..]);
        BinaryPrimitives.WriteUInt32LittleEndian(header[IgvmLayout.ChecksumOffset..], checksum);
    }

    private void Write<T>(T header, Action<T, Entry> body)
        where T : IgvmHeader
    {
        int length = IgvmLayout.StructureLength((uint)header.Type)!.Value;
        BinaryPrimitives.WriteUInt32LittleEndian(_headers.AsSpan(_at), (uint)header.Type);
        BinaryPrimitives.WriteUInt32LittleEndian(_headers.AsSpan(_at + 4), (uint)length);
        body(header, new Entry(_headers, _at + IgvmLayout.VariableHeaderLength));
        _at += IgvmLayout.VariableHeaderLength + IgvmLayout.AlignTo8(length);
    }

    private static void WritePlatform(IgvmPlatform platform, Entry entry)
    {
        entry.U32(0x00, platform.CompatibilityMask);
        entry.U8(0x04, platform.HighestVtl);
        entry.U8(0x05, (byte)platform.PlatformType);
        entry.U16(0x06, platform.PlatformVersion);
        entry.U64(0x08, platform.SharedGpaBoundary);
    }

    private void WriteInitialization(IgvmInitialization header, Entry entry)
    {
        switch (header)
        {
            case IgvmGuestPolicy policy:
                entry.U64(0x00, policy.Policy);
                entry.U32(0x08, policy.CompatibilityMask);
                break;
            case IgvmRelocatableRegion region:
                entry.U32(0x00, region.CompatibilityMask);
                entry.U16(0x04, region.VpIndex);
                entry.U8(0x06, region.Vtl);
                entry.U8(0x07, (byte)region.Flags);
                entry.U64(0x08, region.Alignment);
                entry.U64(0x10, region.Gpa);
                entry.U64(0x18, region.ByteLength);
                entry.U64(0x20, region.MinimumGpa);
                entry.U64(0x28, region.MaximumGpa);
                break;
            case IgvmPageTableRelocation region:
                entry.U32(0x00, region.CompatibilityMask);
                entry.U16(0x04, region.VpIndex);
                entry.U8(0x06, region.Vtl);
                entry.U64(0x08, region.Gpa);
                entry.U64(0x10, region.ByteLength);
                entry.U64(0x18, region.UsedByteLength);
                break;
            case IgvmCorimDocument document:
                entry.U32(0x00, document.CompatibilityMask);
                entry.U32(0x04, DataOffset(document.Data));
                entry.U32(0x08, (uint)document.Data.Length);
                break;
            case IgvmCorimSignature signature:
                entry.U32(0x00, signature.CompatibilityMask);
                entry.U32(0x04, DataOffset(signature.Data));
                entry.U32(0x08, (uint)signature.Data.Length);
                break;
            case IgvmCcaPolicy policy:
                entry.U32(0x00, policy.CompatibilityMask);
                entry.U64(0x08, policy.RequiredZeroes);
                entry.U64(0x10, policy.RequiredOnes);
                entry.U8(0x18, policy.HashAlgorithm);
                entry.U8(0x19, policy.LfaPolicy);
                break;
            default:
                throw new InvalidOperationException($"Cannot write {header.GetType()}.");
        }
    }

    private void WriteDirective(IgvmDirective directive, Entry entry)
    {
        switch (directive)
        {
            case IgvmParameterArea area:
                entry.U64(0x00, area.ByteLength);
                entry.U32(0x08, area.Index);
                entry.U32(0x0C, DataOffset(area.InitialData));
                break;
            case IgvmParameterUsage usage:
                entry.U32(0x00, usage.AreaIndex);
                entry.U32(0x04, usage.ByteOffset);
                break;
            case IgvmParameterInsert insert:
                entry.U64(0x00, insert.Gpa);
                entry.U32(0x08, insert.CompatibilityMask);
                entry.U32(0x0C, insert.AreaIndex);
                break;
            case IgvmPageData page:
                entry.U64(0x00, page.Gpa);
                entry.U32(0x08, page.CompatibilityMask);
                entry.U32(0x0C, DataOffset(page.Data));
                entry.U32(0x10, (uint)page.Flags);
                entry.U16(0x14, (ushort)page.DataType);
                break;
            case IgvmVpContext context:
                entry.U64(0x00, context.Gpa);
                entry.U32(0x08, context.CompatibilityMask);
                entry.U32(0x0C, DataOffset(context.Data));
                entry.U16(0x10, context.VpIndex);
                break;
            case IgvmRequiredMemory memory:
                entry.U64(0x00, memory.Gpa);
                entry.U32(0x08, memory.CompatibilityMask);
                entry.U32(0x0C, memory.ByteLength);
                entry.U32(0x10, (uint)memory.Flags);
                break;
            case IgvmErrorRange range:
                entry.U64(0x00, range.Gpa);
                entry.U32(0x08, range.CompatibilityMask);
                entry.U32(0x0C, range.ByteLength);
                break;
            case IgvmSnpIdBlock block:
                WriteIdBlock(block, entry);
                break;
            case IgvmVbsMeasurement measurement:
                entry.U32(0x00, measurement.CompatibilityMask);
                entry.U32(0x04, measurement.Version);
                entry.U32(0x08, measurement.ProductId);
                entry.U32(0x0C, measurement.ModuleId);
                entry.U32(0x10, measurement.SecurityVersion);
                entry.U32(0x14, measurement.PolicyFlags);
                entry.U32(0x18, measurement.BootDigestAlgorithm);
                entry.U32(0x1C, measurement.SigningAlgorithm);
                entry.Bytes(0x20, measurement.BootDigest);
                entry.Bytes(0x60, measurement.Signature);
                entry.Bytes(0x160, measurement.PublicKey);
                break;
            default:
                throw new InvalidOperationException($"Cannot write {directive.GetType()}.");
        }
    }

    private static void WriteIdBlock(IgvmSnpIdBlock block, Entry entry)
    {
        entry.U32(0x000, block.CompatibilityMask);
        entry.U8(0x004, block.AuthorKeyEnabled);
        entry.Bytes(0x008, block.LaunchDigest);
        entry.Bytes(0x038, block.FamilyId);
        entry.Bytes(0x048, block.ImageId);
        entry.U32(0x058, block.Version);
        entry.U32(0x05C, block.GuestSvn);
        entry.U32(0x060, block.IdKeyAlgorithm);
        entry.U32(0x064, block.AuthorKeyAlgorithm);
        entry.Bytes(0x068, block.IdKeySignature.R);
        entry.Bytes(0x0B0, block.IdKeySignature.S);
        entry.U32(0x0F8, block.IdPublicKey.Curve);
        entry.Bytes(0x100, block.IdPublicKey.X);
        entry.Bytes(0x148, block.IdPublicKey.Y);
        entry.Bytes(0x190, block.AuthorKeySignature.R);
        entry.Bytes(0x1D8, block.AuthorKeySignature.S);
        entry.U32(0x220, block.AuthorPublicKey.Curve);
        entry.Bytes(0x228, block.AuthorPublicKey.X);
        entry.Bytes(0x270, block.AuthorPublicKey.Y);
    }

    // Offset 0 stands for "no data".
    private uint DataOffset(ReadOnlyMemory<byte> data)
    {
        if (data.IsEmpty)
        {
            return 0;
        }

        if (!_offsets.TryGetValue(data, out uint offset))
        {
            RequireFileLength(_end + data.Length);
            offset = (uint)_end;
            _offsets.Add(data, offset);
            _blocks.Add(data);
            _end += data.Length;
        }

        return offset;
    }

    private static int EntryLength(IgvmHeader header) =>
        IgvmLayout.VariableHeaderLength + IgvmLayout.AlignTo8(IgvmLayout.StructureLength((uint)header.Type)!.Value);

    private static void RequireFileLength(long length)
    {
        if (length > IgvmLayout.MaximumFileLength)
        {
            throw new IgvmFormatException(IgvmErrorKind.BadFileSize, null, "length of the file", string.Create(CultureInfo.InvariantCulture, $"{length}"), "at most 0x7FFF0000 bytes");
        }
    }

    private readonly struct Entry(byte[] headers, int at)
    {
        public void U8(int offset, byte value) => headers[at + offset] = value;

        public void U16(int offset, ushort value) => BinaryPrimitives.WriteUInt16LittleEndian(headers.AsSpan(at + offset), value);

        public void U32(int offset, uint value) => BinaryPrimitives.WriteUInt32LittleEndian(headers.AsSpan(at + offset), value);

        public void U64(int offset, ulong value) => BinaryPrimitives.WriteUInt64LittleEndian(headers.AsSpan(at + offset), value);

        public void Bytes(int offset, ReadOnlyMemory<byte> value) => value.Span.CopyTo(headers.AsSpan(at + offset));
    }

    private sealed class ContentComparer : IEqualityComparer<ReadOnlyMemory<byte>>
    {
        public static ContentComparer Instance { get; } = new();

        public bool Equals(ReadOnlyMemory<byte> x, ReadOnlyMemory<byte> y) => x.Span.SequenceEqual(y.Span);

        public int GetHashCode(ReadOnlyMemory<byte> obj) => (int)XxHash3.HashToUInt64(obj.Span);
    }
}
