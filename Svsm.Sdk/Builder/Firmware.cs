// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// What a UEFI firmware (OVMF) wants of whoever starts it below an SVSM. For the image builder, which places it.
//
//   the file           ends at 4 GiB; a processor that was reset starts 16 bytes before
//   SEV metadata       memory that it uses before it can validate some, and the pages for secrets, CPUID and calling area
//   IGVM metadata      an area for parameters, and where in it the memory map and the number of vCPUs go; an area for hand-off blocks
//
// A firmware without IGVM metadata asks the host for its memory map, which would offer it the SVSM's own memory: refused. Areas of the IGVM
// metadata may lie in the memory of the SEV metadata (OVMF's do); nothing else may overlap.
//
// Source: EDK2 OvmfPkg/ResetVector/X64 (OvmfSevMetadata.asm, IgvmMetadata.asm), OvmfPkg/Library/PlatformInitLib/Igvm.c.

using System;
using System.Collections.Generic;
using System.Runtime.CompilerServices;
using Svsm.Diagnostics;
using Svsm.Measurement;
using Svsm.Wire;

namespace Svsm.Builder;

/// <summary>A firmware that can be a guest.</summary>
internal sealed class Firmware
{
    private const ulong PageSize = 4096;
    private const ulong ResetVectorFromEnd = 16;

    private readonly List<(ulong First, ulong End)> _memory = [];

    private Firmware(OvmfImage image)
    {
        Data = image.Data;
        BaseAddress = image.BaseAddress;
        Entry = BaseAddress + (ulong)Data.Length - ResetVectorFromEnd;
    }

    /// <summary>The file.</summary>
    public ReadOnlyMemory<byte> Data { get; }

    /// <summary>GPA of its first byte.</summary>
    public ulong BaseAddress { get; }

    /// <summary>GPA of the first instruction.</summary>
    public ulong Entry { get; }

    /// <summary>Memory that has to be validated and zero before the start: whole pages, ascending, disjoint, neighbours joined.</summary>
    public IReadOnlyList<(ulong First, ulong End)> Memory => _memory;

    /// <summary>GPA of the secrets page.</summary>
    public ulong SecretsPage { get; private set; }

    /// <summary>GPA of the CPUID page.</summary>
    public ulong CpuidPage { get; private set; }

    /// <summary>GPA of the first calling area.</summary>
    public ulong CallingArea { get; private set; }

    /// <summary>GPA of the memory map, which lies in one page of <see cref="Memory"/>.</summary>
    public ulong MemoryMap { get; private set; }

    /// <summary>Number of entries that the memory map has room for, the one that ends it included.</summary>
    public uint MemoryMapEntries { get; private set; }

    /// <summary>GPA of 32 bits in one page of <see cref="Memory"/> for the number of vCPUs; 0 = the firmware does not want it.</summary>
    public ulong VcpuCount { get; private set; }

    /// <summary>Reads a firmware.</summary>
    /// <param name="file">The file. Untrusted; kept, not copied.</param>
    /// <exception cref="SvsmDiagnosticException">SVSM2022: it is damaged, or no OVMF firmware. SVSM2023: it cannot run below this SVSM.</exception>
    public static Firmware Parse(ReadOnlyMemory<byte> file)
    {
        OvmfImage image;
        try
        {
            image = OvmfImage.Parse(file);
        }
        catch (MeasurementException e)
        {
            throw SvsmDiagnostics.FirmwareDamaged.Error(e.Message, "the complete file of an OVMF build for x64", e);
        }

        var firmware = new Firmware(image);
        firmware.ReadSevSections(image);
        firmware.ReadIgvmSections(image);
        firmware.JoinMemory();
        return firmware;
    }

    private static SvsmDiagnosticException Unsupported(string seen, string wanted) => SvsmDiagnostics.FirmwareUnsupported.Error(seen, wanted);

    private static SvsmDiagnosticException Damaged(string seen, string wanted) => SvsmDiagnostics.FirmwareDamaged.Error(seen, wanted);

    private void ReadSevSections(OvmfImage image)
    {
        if (image.SevSections.IsEmpty)
        {
            throw Unsupported("no SEV metadata", "a firmware for SEV-SNP guests, for example OVMF.fd of Debian's package ovmf-generic");
        }

        SecretsPage = OnePage(image, OvmfSevSectionType.Secrets);
        CpuidPage = OnePage(image, OvmfSevSectionType.Cpuid);
        CallingArea = OnePage(image, OvmfSevSectionType.SvsmCallingArea);
        foreach (OvmfSevSection section in image.SevSections)
        {
            if (section.Type is OvmfSevSectionType.SecMemory or OvmfSevSectionType.KernelHashes)
            {
                _memory.Add((section.Base, (ulong)section.Base + section.ByteLength));
            }
        }

        foreach ((ulong first, ulong end) in _memory)
        {
            foreach (ulong page in (ReadOnlySpan<ulong>)[SecretsPage, CpuidPage, CallingArea])
            {
                CheckOutside(page, first, end);
            }
        }

        if (SecretsPage == CpuidPage || SecretsPage == CallingArea || CpuidPage == CallingArea)
        {
            throw Damaged($"secrets page at 0x{SecretsPage:X}, CPUID page at 0x{CpuidPage:X} and calling area at 0x{CallingArea:X}", "three pages");
        }
    }

    private static ulong OnePage(OvmfImage image, OvmfSevSectionType type)
    {
        ulong? found = null;
        foreach (OvmfSevSection section in image.SevSections)
        {
            if (section.Type == type)
            {
                found = found is null ? section.Base : throw Damaged($"two sections of kind {type} in the SEV metadata", "one");
            }
        }

        return found ?? throw Unsupported($"no section of kind {type} in the SEV metadata", "one; OVMF has all that an SVSM needs from edk2-stable202511 on");
    }

    private static void CheckOutside(ulong page, ulong first, ulong end)
    {
        if (page >= first && page < end)
        {
            throw Damaged($"a page at 0x{page:X} for the SVSM to fill in, and in it other memory of the firmware, 0x{first:X} to 0x{end:X}", "sections that do not overlap");
        }
    }

    private void ReadIgvmSections(OvmfImage image)
    {
        OvmfIgvmSection? area = null, map = null, count = null, blocks = null;
        foreach (OvmfIgvmSection section in image.IgvmSections)
        {
            ref OvmfIgvmSection? place = ref area;
            switch (section.Type)
            {
                case OvmfIgvmSectionType.ParameterArea:
                    break;
                case OvmfIgvmSectionType.MemoryMap:
                    place = ref map;
                    break;
                case OvmfIgvmSectionType.VpCount:
                    place = ref count;
                    break;
                case OvmfIgvmSectionType.HobArea:
                    place = ref blocks;
                    break;
                default:
                    throw Unsupported($"a section of kind 0x{(uint)section.Type:X} in the IGVM metadata", "kinds 0x100, 0x101, 0x102 and 0x200");
            }

            place = place is null ? section : throw Damaged($"two sections of kind {section.Type} in the IGVM metadata", "one");
        }

        if (area is not { } parameters || map is not { } memoryMap)
        {
            throw Unsupported(
                "no place for a memory map in the IGVM metadata, so that the firmware would take the host's, with the SVSM's memory in it",
                "a parameter area and a memory map; OVMF has them from edk2-stable202511 on");
        }

        AddArea(parameters);
        MemoryMap = PlaceIn(parameters, memoryMap, sizeof(ulong), 2 * (uint)Unsafe.SizeOf<MemoryMapEntry>());
        MemoryMapEntries = memoryMap.ByteLength / (uint)Unsafe.SizeOf<MemoryMapEntry>();
        if (count is { } vcpuCount)
        {
            VcpuCount = PlaceIn(parameters, vcpuCount, sizeof(uint), sizeof(uint));
            if (VcpuCount < MemoryMap + memoryMap.ByteLength && MemoryMap < VcpuCount + vcpuCount.ByteLength)
            {
                throw Damaged($"a vCPU count at 0x{VcpuCount:X} and a memory map of 0x{memoryMap.ByteLength:X} bytes at 0x{MemoryMap:X}", "sections that do not overlap");
            }
        }

        if (blocks is { } handOffBlocks)
        {
            AddArea(handOffBlocks);
            if (handOffBlocks.Base < (ulong)parameters.Base + parameters.ByteLength && parameters.Base < (ulong)handOffBlocks.Base + handOffBlocks.ByteLength)
            {
                throw Damaged($"an area for hand-off blocks at 0x{handOffBlocks.Base:X} and one for parameters at 0x{parameters.Base:X}", "areas that do not overlap");
            }
        }
    }

    private void AddArea(OvmfIgvmSection area)
    {
        if (area.Base % PageSize != 0 || area.ByteLength % PageSize != 0 || area.ByteLength == 0 || area.ByteLength > uint.MaxValue - area.Base)
        {
            throw Damaged($"a {area.Type} at 0x{area.Base:X}, 0x{area.ByteLength:X} bytes, in the IGVM metadata", "whole pages below 4 GiB");
        }

        ulong end = (ulong)area.Base + area.ByteLength;
        foreach (ulong page in (ReadOnlySpan<ulong>)[SecretsPage, CpuidPage, CallingArea])
        {
            CheckOutside(page, area.Base, end);
        }

        _memory.Add((area.Base, end));
    }

    // The kernel maps one page to write it.
    private static ulong PlaceIn(OvmfIgvmSection area, OvmfIgvmSection section, uint alignment, uint least)
    {
        uint offset = section.Base;
        if (offset % alignment != 0 || section.ByteLength < least || offset > area.ByteLength || section.ByteLength > area.ByteLength - offset ||
            section.ByteLength > PageSize - (offset % PageSize))
        {
            throw Damaged(
                $"a {section.Type} at offset 0x{offset:X}, 0x{section.ByteLength:X} bytes, in a parameter area of 0x{area.ByteLength:X}",
                $"at least 0x{least:X} bytes at a multiple of {alignment}, in one page of the area");
        }

        return area.Base + (ulong)offset;
    }

    private void JoinMemory()
    {
        _memory.Sort();
        int count = 0;
        foreach ((ulong first, ulong end) in _memory.ToArray())
        {
            if (count != 0 && first <= _memory[count - 1].End)
            {
                _memory[count - 1] = (_memory[count - 1].First, Math.Max(_memory[count - 1].End, end));
            }
            else
            {
                _memory[count++] = (first, end);
            }
        }

        _memory.RemoveRange(count, _memory.Count - count);
    }
}
