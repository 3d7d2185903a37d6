// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The rules that every structure of an IGVM file obeys, for the reader and the writer alike: what one of them refuses, the other refuses too.
//
// Headers are shown to it in file order. Offsets of fields are known while parsing and absent (null in the exception) while writing.
//
// Source: igvm_defs 0.4.0 for the values, igvm crate 0.4.0 for what is enforced.

using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.Globalization;

namespace Svsm.Igvm;

internal sealed class IgvmRules
{
    private readonly IgvmFormatVersion _version;
    private readonly IgvmArchitecture _architecture;
    private readonly bool _parsing;
    private readonly List<IgvmPlatform> _platforms = [];

    // Key: area index; value: inserted. Built when the first area comes: its keys are chosen by the file, hence a comparer with a random seed.
    private readonly Dictionary<uint, bool> _areas = new(SeededComparer.Instance);

    // Regions of both relocation headers, to find overlaps; page-table regions again, of which there is at most one for each mask bit.
    private readonly List<(ulong Start, ulong End, uint Mask, int At)> _relocations = [];
    private readonly List<IgvmPageTableRelocation> _pageTables = [];
    private readonly List<(uint Mask, ushort VpIndex, byte Vtl, int At)> _wantedContexts = [];
    private readonly uint[] _contextMasks = new uint[3];
    private uint _pageTableMasks;
    private bool _relocationsChecked;

    public IgvmRules(IgvmFormatVersion version, IgvmArchitecture architecture, bool parsing)
    {
        _version = version;
        _architecture = architecture;
        _parsing = parsing;
    }

    // Checks a model.
    public static void CheckAll(IgvmFile file)
    {
        var rules = new IgvmRules(file.FormatVersion, file.Architecture, parsing: false);
        rules.CheckFixedHeader();
        foreach (IgvmPlatform platform in file.Platforms)
        {
            rules.CheckPlatform(platform, 0);
        }

        foreach (IgvmInitialization initialization in file.Initializations)
        {
            rules.CheckInitialization(initialization, 0);
        }

        foreach (IgvmDirective directive in file.Directives)
        {
            rules.CheckDirective(directive, 0);
        }

        rules.CheckEnd(0);
    }

    public void CheckFixedHeader()
    {
        if (_version is not (IgvmFormatVersion.V1 or IgvmFormatVersion.V2))
        {
            throw Error(IgvmErrorKind.UnsupportedVersion, 4, "format version", (uint)_version, "1 or 2");
        }

        if (_architecture is not (IgvmArchitecture.X64 or IgvmArchitecture.AArch64) ||
            (_version == IgvmFormatVersion.V1 && _architecture != IgvmArchitecture.X64))
        {
            throw Error(IgvmErrorKind.UnsupportedArchitecture, 0x18, "architecture", (uint)_architecture, "0 (x64), or 1 (AArch64) in version 2");
        }
    }

    public void CheckPlatform(IgvmPlatform platform, int at)
    {
        RequireSingleBit(platform.CompatibilityMask, at);
        if (platform.HighestVtl is not (0 or 2))
        {
            throw Error(IgvmErrorKind.BadPlatform, at + 4, "highest VTL", platform.HighestVtl, "0 or 2");
        }

        if (platform.PlatformType > IgvmPlatformType.Cca)
        {
            throw Error(IgvmErrorKind.BadPlatform, at + 5, "platform type", (uint)platform.PlatformType, "0 to 6");
        }

        IgvmArchitecture wanted = platform.PlatformType switch
        {
            IgvmPlatformType.VsmIsolation => _architecture,
            IgvmPlatformType.Cca => IgvmArchitecture.AArch64,
            _ => IgvmArchitecture.X64,
        };
        if (_architecture != wanted)
        {
            throw Error(IgvmErrorKind.BadPlatform, at + 5, "platform type", (uint)platform.PlatformType, $"a platform of architecture {_architecture}");
        }

        if (platform.PlatformVersion != 1)
        {
            throw Error(IgvmErrorKind.BadPlatform, at + 6, "platform version", platform.PlatformVersion, "1");
        }

        if (platform.SharedGpaBoundary != 0 && platform.PlatformType is (IgvmPlatformType.Native or IgvmPlatformType.VsmIsolation))
        {
            throw Error(IgvmErrorKind.BadPlatform, at + 8, $"shared GPA boundary of {platform.PlatformType}", platform.SharedGpaBoundary, "0");
        }

        foreach (IgvmPlatform other in _platforms)
        {
            if (other.PlatformType == platform.PlatformType)
            {
                throw Error(IgvmErrorKind.DuplicatePlatform, at + 5, "platform type", (uint)platform.PlatformType, "a type that no other platform header has");
            }

            if (other.CompatibilityMask == platform.CompatibilityMask)
            {
                throw Error(IgvmErrorKind.DuplicatePlatform, at, "compatibility mask", platform.CompatibilityMask, "a bit that no other platform header has");
            }
        }

        // At most seven: each type once.
        _platforms.Add(platform);
    }

    public void CheckInitialization(IgvmInitialization header, int at)
    {
        switch (header)
        {
            case IgvmRelocatableRegion region:
                RequireX64(header, at);
                RequireVtl(region.Vtl, at + 6);
                if ((region.Flags & ~(IgvmRelocationFlags.IsVtl2 | IgvmRelocationFlags.ApplyRip | IgvmRelocationFlags.ApplyGdtr)) != 0)
                {
                    throw Error(IgvmErrorKind.BadValue, at + 7, "relocation flags", (uint)region.Flags, "bits 0 to 2 only");
                }

                if (region.Alignment == 0 || region.Alignment % IgvmLayout.PageSize != 0)
                {
                    throw Error(IgvmErrorKind.MisalignedSize, at + 8, "relocation alignment", region.Alignment, "a multiple of 4096, not 0");
                }

                RequireAddress(region.Gpa, region.Alignment, at + 0x10, "region address");
                RequireSize(region.ByteLength, at + 0x18, "region size");
                RequireAddress(region.MinimumGpa, region.Alignment, at + 0x20, "minimum address");
                RequireAddress(region.MaximumGpa, region.Alignment, at + 0x28, "maximum address");
                AddRelocation(region.Gpa, region.ByteLength, region.CompatibilityMask, at, 0x18);
                _wantedContexts.Add((region.CompatibilityMask, region.VpIndex, region.Vtl, at));
                break;
            case IgvmPageTableRelocation region:
                RequireX64(header, at);
                RequireVtl(region.Vtl, at + 6);
                RequireAddress(region.Gpa, IgvmLayout.PageSize, at + 8, "page-table region address");
                RequireSize(region.ByteLength, at + 0x10, "page-table region size");
                RequireSize(region.UsedByteLength, at + 0x18, "page-table region used size");
                if (region.UsedByteLength > region.ByteLength)
                {
                    throw Error(IgvmErrorKind.BadPageTableRelocation, at + 0x18, "page-table region used size", region.UsedByteLength, "at most the size of the region");
                }

                if ((region.CompatibilityMask & _pageTableMasks) != 0)
                {
                    throw Error(IgvmErrorKind.BadPageTableRelocation, at, "compatibility mask", region.CompatibilityMask, "no bit of an earlier page-table relocation header");
                }

                AddRelocation(region.Gpa, region.ByteLength, region.CompatibilityMask, at, 0x10);
                _wantedContexts.Add((region.CompatibilityMask, region.VpIndex, region.Vtl, at));
                if (region.CompatibilityMask != 0)
                {
                    _pageTableMasks |= region.CompatibilityMask;
                    _pageTables.Add(region);
                }

                break;
            case IgvmCcaPolicy policy:
                if ((policy.RequiredOnes & policy.RequiredZeroes) != 0)
                {
                    throw Error(IgvmErrorKind.BadValue, at + 0x10, "required ones", policy.RequiredOnes, "no bit of the required zeroes");
                }

                if (policy.HashAlgorithm > 2)
                {
                    throw Error(IgvmErrorKind.BadValue, at + 0x18, "hash algorithm", policy.HashAlgorithm, "0 to 2");
                }

                break;
            default:
                break;
        }
    }

    public void CheckDirective(IgvmDirective directive, int at)
    {
        if (!_relocationsChecked)
        {
            CheckRelocationOverlap();
        }

        switch (directive)
        {
            case IgvmParameterArea area:
                RequireSize(area.ByteLength, at, "parameter area size");
                RequireLength(area.InitialData, area.ByteLength, emptyToo: true, "initial data of the parameter area");
                if (!_areas.TryAdd(area.Index, false))
                {
                    throw Error(IgvmErrorKind.DuplicateParameterArea, at + 8, "parameter area index", area.Index, "an index that no earlier area has");
                }

                break;
            case IgvmParameterUsage usage:
                if (IgvmLayout.StructureLength((uint)usage.Kind) != 8)
                {
                    throw Error(IgvmErrorKind.UnknownHeaderType, at - IgvmLayout.VariableHeaderLength, "parameter kind", (uint)usage.Kind, "a kind that the format defines");
                }

                RequireArea(usage.AreaIndex, at);
                break;
            case IgvmParameterInsert insert:
                RequireAddress(insert.Gpa, IgvmLayout.PageSize, at, "parameter insert address");
                RequireArea(insert.AreaIndex, at + 0x0C);
                _areas[insert.AreaIndex] = true;
                foreach (IgvmPageTableRelocation region in _pageTables)
                {
                    if ((region.CompatibilityMask & insert.CompatibilityMask) != 0 && insert.Gpa >= region.Gpa && insert.Gpa - region.Gpa < region.ByteLength)
                    {
                        throw Error(IgvmErrorKind.BadPageTableRelocation, at, "parameter insert address", insert.Gpa, "an address outside the page-table relocation region");
                    }
                }

                break;
            case IgvmPageData page:
                CheckPage(page, at);
                break;
            case IgvmVpContext context:
                CheckVpContext(context, at);
                break;
            case IgvmRequiredMemory memory:
                RequireAddress(memory.Gpa, IgvmLayout.PageSize, at, "required memory address");
                RequireSize(memory.ByteLength, at + 0x0C, "required memory size");
                if ((memory.Flags & ~IgvmRequiredMemoryFlags.Vtl2Protectable) != 0)
                {
                    throw Error(IgvmErrorKind.BadValue, at + 0x10, "required memory flags", (uint)memory.Flags, "bit 0 only");
                }

                break;
            case IgvmErrorRange range:
                RequireAddress(range.Gpa, IgvmLayout.PageSize, at, "error range address");
                RequireSize(range.ByteLength, at + 0x0C, "error range size");
                break;
            case IgvmSnpIdBlock block:
                RequireLength(block.LaunchDigest, 48, emptyToo: false, "launch digest of the ID block");
                RequireLength(block.FamilyId, 16, emptyToo: false, "family id of the ID block");
                RequireLength(block.ImageId, 16, emptyToo: false, "image id of the ID block");
                RequireSignature(block.IdKeySignature);
                RequireSignature(block.AuthorKeySignature);
                RequireKey(block.IdPublicKey);
                RequireKey(block.AuthorPublicKey);
                break;
            case IgvmVbsMeasurement measurement:
                RequireLength(measurement.BootDigest, 64, emptyToo: false, "boot digest of the VBS measurement");
                RequireLength(measurement.Signature, 256, emptyToo: false, "signature of the VBS measurement");
                RequireLength(measurement.PublicKey, 512, emptyToo: false, "public key of the VBS measurement");
                break;
            default:
                throw new InvalidOperationException($"No rules for {directive.GetType()}.");
        }
    }

    public void CheckEnd(int at)
    {
        if (_platforms.Count == 0)
        {
            throw Error(IgvmErrorKind.NoPlatform, at, "number of platform headers", 0, "at least 1");
        }

        if (!_relocationsChecked)
        {
            CheckRelocationOverlap();
        }

        // Only VSM contexts say which trust level they are for; so only they can be adjusted after a relocation.
        foreach ((uint mask, ushort vpIndex, byte vtl, int headerAt) in _wantedContexts)
        {
            if (vpIndex != 0 || (_contextMasks[vtl] & mask) == 0)
            {
                throw Error(
                    IgvmErrorKind.BadPageTableRelocation,
                    headerAt + 4,
                    "processor of the relocation header",
                    vpIndex,
                    "processor 0 with a VSM context for the same trust level and platform");
            }
        }
    }

    // The platform whose context format a VP_CONTEXT uses.
    public IgvmPlatformType VpContextPlatform(uint mask, int at)
    {
        foreach (IgvmPlatform platform in _platforms)
        {
            if (platform.CompatibilityMask == mask)
            {
                if (platform.PlatformType == IgvmPlatformType.Tdx)
                {
                    throw Error(IgvmErrorKind.UnsupportedVpContext, at + 8, "platform of the VP context", (uint)platform.PlatformType, "a platform with a context format (not TDX)");
                }

                return platform.PlatformType;
            }
        }

        throw Error(IgvmErrorKind.BadCompatibilityMask, at + 8, "compatibility mask of the VP context", mask, "the mask of exactly one platform header");
    }

    private void CheckPage(IgvmPageData page, int at)
    {
        bool large = (page.Flags & IgvmPageDataFlags.Is2MBPage) != 0;
        RequireAddress(page.Gpa, large ? (ulong)IgvmLayout.LargePageSize : IgvmLayout.PageSize, at, "page address");
        if ((page.Flags & ~(IgvmPageDataFlags.Is2MBPage | IgvmPageDataFlags.Unmeasured | IgvmPageDataFlags.Shared)) != 0)
        {
            throw Error(IgvmErrorKind.BadValue, at + 0x10, "page flags", (uint)page.Flags, "bits 0 to 2 only");
        }

        if (page.DataType > IgvmPageDataType.CpuidXf)
        {
            throw Error(IgvmErrorKind.BadValue, at + 0x14, "page data type", (uint)page.DataType, "0 to 3");
        }

        RequireLength(page.Data, IgvmLayout.PageSize, emptyToo: true, "data of the page");
    }

    private void CheckVpContext(IgvmVpContext context, int at)
    {
        switch (VpContextPlatform(context.CompatibilityMask, at))
        {
            case IgvmPlatformType.VsmIsolation:
                if (context.VpIndex != 0)
                {
                    throw Error(IgvmErrorKind.BadVpContext, at + 0x10, "processor of the VSM context", context.VpIndex, "0");
                }

                _contextMasks[CheckVbsRegisters(context.Data.Span, at)] |= context.CompatibilityMask;
                break;
            case IgvmPlatformType.Native or IgvmPlatformType.Sev:
                RequireLength(context.Data, IgvmLayout.PageSize, emptyToo: false, "data of the VP context");
                if (context.Data.Span[IgvmNativeVpContext.ByteLength..].ContainsAnyExcept((byte)0))
                {
                    throw Error(IgvmErrorKind.BadVpContext, at + 0x0C, "rest of the native context page", 1, "zeroes behind the first 0xE8 bytes");
                }

                break;
            default:
                RequireAddress(context.Gpa, IgvmLayout.PageSize, at, "VMSA address");
                RequireLength(context.Data, IgvmLayout.PageSize, emptyToo: false, "data of the VP context");
                break;
        }
    }

    // Returns the trust level of the list.
    private byte CheckVbsRegisters(ReadOnlySpan<byte> data, int at)
    {
        int body = data.Length - IgvmLayout.VbsHeaderLength;
        if (body < IgvmLayout.VbsRegisterLength || body % IgvmLayout.VbsRegisterLength != 0 || body / IgvmLayout.VbsRegisterLength > IgvmLayout.VbsMaximumRegisters ||
            BinaryPrimitives.ReadUInt32LittleEndian(data) != (uint)(body / IgvmLayout.VbsRegisterLength))
        {
            throw Error(IgvmErrorKind.BadVpContext, at + 0x0C, "length of the VSM register list", (uint)data.Length, "4 bytes that say how many registers follow (1 to 1024), and 32 bytes for each");
        }

        byte vtl = data[IgvmLayout.VbsHeaderLength];
        for (int i = IgvmLayout.VbsHeaderLength; i < data.Length; i += IgvmLayout.VbsRegisterLength)
        {
            if (data[i] != vtl || vtl > 2)
            {
                throw Error(IgvmErrorKind.BadVpContext, at + 0x0C, "trust level of a VSM register", data[i], "0 to 2, the same for every register of the list");
            }
        }

        return vtl;
    }

    private void AddRelocation(ulong start, ulong length, uint mask, int at, int sizeOffset)
    {
        if (length == 0 || length - 1 > ulong.MaxValue - start)
        {
            throw Error(IgvmErrorKind.BadValue, at + sizeOffset, "size of the relocation region", length, "not 0, and an end inside the address space");
        }

        _relocations.Add((start, start + (length - 1), mask, at));
    }

    // Regions that share a mask bit must not overlap: sort by start, keep for each bit the highest end so far.
    private void CheckRelocationOverlap()
    {
        _relocationsChecked = true;
        if (_relocations.Count < 2)
        {
            return;
        }

        _relocations.Sort(static (x, y) => x.Start.CompareTo(y.Start));
        Span<ulong> ends = stackalloc ulong[32];
        uint seen = 0;
        foreach ((ulong start, ulong end, uint mask, int at) in _relocations)
        {
            for (int bit = 0; bit < 32; bit++)
            {
                if ((mask >> bit & 1) == 0)
                {
                    continue;
                }

                if ((seen >> bit & 1) != 0 && start <= ends[bit])
                {
                    throw Error(IgvmErrorKind.BadPageTableRelocation, at, "relocation region at", start, "no overlap with another relocation region of the same platform");
                }

                ends[bit] = end;
            }

            seen |= mask;
        }
    }

    private void RequireX64(IgvmInitialization header, int at)
    {
        if (_architecture != IgvmArchitecture.X64)
        {
            throw Error(IgvmErrorKind.UnsupportedArchitecture, at - IgvmLayout.VariableHeaderLength, "header type", (uint)header.Type, "a header for AArch64");
        }
    }

    private void RequireArea(uint index, int at)
    {
        if (!_areas.TryGetValue(index, out bool inserted))
        {
            throw Error(IgvmErrorKind.UnknownParameterArea, at, "parameter area index", index, "the index of an area that was declared before");
        }

        if (inserted)
        {
            throw Error(IgvmErrorKind.ParameterAreaInserted, at, "parameter area index", index, "an area that was not inserted before");
        }
    }

    private void RequireSingleBit(uint mask, int at)
    {
        if (!IgvmFile.IsSingleBit(mask))
        {
            throw Error(IgvmErrorKind.BadCompatibilityMask, at, "compatibility mask of the platform", mask, "exactly one bit");
        }
    }

    private void RequireVtl(byte vtl, int at)
    {
        if (vtl > 2)
        {
            throw Error(IgvmErrorKind.BadValue, at, "trust level", vtl, "0 to 2");
        }
    }

    private void RequireAddress(ulong address, ulong alignment, int at, string subject)
    {
        if (address % alignment != 0)
        {
            throw Error(IgvmErrorKind.MisalignedAddress, at, subject, address, string.Create(CultureInfo.InvariantCulture, $"a multiple of 0x{alignment:X}"));
        }
    }

    private void RequireSize(ulong size, int at, string subject)
    {
        if (size % IgvmLayout.PageSize != 0)
        {
            throw Error(IgvmErrorKind.MisalignedSize, at, subject, size, "a multiple of 4096");
        }
    }

    private static void RequireSignature(IgvmSnpSignature signature)
    {
        RequireLength(signature.R, IgvmSnpSignature.NumberLength, emptyToo: false, "R of an ID block signature");
        RequireLength(signature.S, IgvmSnpSignature.NumberLength, emptyToo: false, "S of an ID block signature");
    }

    private static void RequireKey(IgvmSnpPublicKey key)
    {
        RequireLength(key.X, IgvmSnpSignature.NumberLength, emptyToo: false, "X of an ID block key");
        RequireLength(key.Y, IgvmSnpSignature.NumberLength, emptyToo: false, "Y of an ID block key");
    }

    // The reader cuts data to the right length; so this can only fail for a model.
    private static void RequireLength(ReadOnlyMemory<byte> data, ulong length, bool emptyToo, string subject)
    {
        if ((ulong)data.Length != length && !(emptyToo && data.IsEmpty))
        {
            throw new IgvmFormatException(
                IgvmErrorKind.BadDataLength,
                null,
                "length of the " + subject,
                string.Create(CultureInfo.InvariantCulture, $"{data.Length}"),
                string.Create(CultureInfo.InvariantCulture, $"{length} bytes") + (emptyToo ? ", or none" : ""));
        }
    }

    private IgvmFormatException Error(IgvmErrorKind kind, int at, string subject, ulong seen, string wanted) =>
        new(kind, _parsing ? at : null, subject, string.Create(CultureInfo.InvariantCulture, $"0x{seen:X}"), wanted);

    private sealed class SeededComparer : IEqualityComparer<uint>
    {
        public static SeededComparer Instance { get; } = new();

        public bool Equals(uint x, uint y) => x == y;

        public int GetHashCode(uint obj) => HashCode.Combine(obj);
    }
}
