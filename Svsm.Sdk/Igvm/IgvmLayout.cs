// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Sizes and offsets of the IGVM structures that reader, writer and rules share.
//
// Source: igvm_defs 0.4.0.

using System;
using System.IO.Hashing;

namespace Svsm.Igvm;

internal static class IgvmLayout
{
    public const uint Magic = 0x4D56_4749;
    public const int FixedHeaderLengthV1 = 24;
    public const int FixedHeaderLengthV2 = 32;
    public const int ChecksumOffset = 0x14;
    public const int VariableHeaderLength = 8;
    public const int PageSize = 4096;
    public const int LargePageSize = 2 * 1024 * 1024;

    // Offsets in the file have 32 bits; memory blocks of .NET have 31.
    public const int MaximumFileLength = 0x7FFF_0000;

    public const uint PlatformFirst = 0x001;
    public const uint PlatformLast = 0x100;
    public const uint InitializationFirst = 0x101;
    public const uint InitializationLast = 0x200;
    public const uint DirectiveFirst = 0x301;
    public const uint DirectiveLast = 0x400;

    public const int VbsRegisterLength = 32;
    public const int VbsHeaderLength = 4;

    // The format sets no limit. This one is far above the registers that exist, and keeps the work for many contexts that share one list linear.
    public const int VbsMaximumRegisters = 1024;

    // Length of the structure after the 8-byte header; null for a type that the format does not define.
    public static int? StructureLength(uint type) => (IgvmHeaderType)type switch
    {
        IgvmHeaderType.SupportedPlatform => 0x10,
        IgvmHeaderType.GuestPolicy => 0x10,
        IgvmHeaderType.RelocatableRegion => 0x30,
        IgvmHeaderType.PageTableRelocationRegion => 0x20,
        IgvmHeaderType.CorimDocument => 0x10,
        IgvmHeaderType.CorimSignature => 0x10,
        IgvmHeaderType.CcaPolicy => 0x20,
        IgvmHeaderType.ParameterArea => 0x10,
        IgvmHeaderType.PageData => 0x18,
        IgvmHeaderType.ParameterInsert => 0x10,
        IgvmHeaderType.VpContext => 0x14,
        IgvmHeaderType.RequiredMemory => 0x18,
        IgvmHeaderType.SnpIdBlock => 0x2B8,
        IgvmHeaderType.ErrorRange => 0x10,
        IgvmHeaderType.VbsMeasurement => 0x360,
        IgvmHeaderType.VpCount or IgvmHeaderType.Srat or IgvmHeaderType.Madt or IgvmHeaderType.MmioRanges or
            IgvmHeaderType.MemoryMap or IgvmHeaderType.CommandLine or IgvmHeaderType.Slit or IgvmHeaderType.Pptt or
            IgvmHeaderType.DeviceTree or IgvmHeaderType.EnvironmentInfo => 0x08,
        _ => null,
    };

    public static int AlignTo8(int length) => (length + 7) & ~7;

    // CRC-32 of the fixed header, with zeroes where the checksum stands, and the variable headers.
    public static uint Checksum(ReadOnlySpan<byte> fixedHeader, ReadOnlySpan<byte> variableHeaders)
    {
        var crc = new Crc32();
        crc.Append(fixedHeader[..ChecksumOffset]);
        crc.Append([0, 0, 0, 0]);
        crc.Append(fixedHeader[(ChecksumOffset + 4)..]);
        crc.Append(variableHeaders);
        return crc.GetCurrentHashAsUInt32();
    }
}
