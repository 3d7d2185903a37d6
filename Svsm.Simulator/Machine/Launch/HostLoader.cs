// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Reads an IGVM file as a VMM does, and drives the security processor with it. The rules are QEMU's, including its order:
// a run of adjacent pages is launched when the next run starts or the file ends, a parameter area at once; so an area that follows
// a run is launched before it. VMSAs come last, because KVM makes them when the launch is finished.
// What QEMU would do quietly and wrongly (ignore the initial contents of an area, launch a shared page as a private one) is refused.
//
// Source: QEMU backends/igvm.c and target/i386/sev.c, versions 10.1 to 11.1.

using System;
using System.Collections.Generic;
using System.Linq;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Svsm.Diagnostics;
using Svsm.Igvm;
using Svsm.Simulator.Shared;
using Svsm.Wire;

namespace Svsm.Simulator;

internal sealed class HostLoader
{
    private const ulong PageSize = SecurityProcessor.PageSize;

    // QEMU's, when the file has no policy: SMT allowed, reserved bit 17.
    private const ulong DefaultPolicy = 0x3_0000;

    // The C-bit of the simulated processor is bit 47.
    private const ulong GpaLimit = 1ul << 47;

    // A file can ask for any amount; these are far above what an image needs.
    private const ulong MaxAreaMemory = 16 * 1024 * 1024;
    private const ulong MaxExtraMemory = 1ul << 32;

    private readonly GuestRam _ram;
    private readonly int _vcpuCount;
    private readonly uint _mask;
    private readonly SecurityProcessor _securityProcessor;
    private readonly Dictionary<uint, ParameterArea> _areas = [];
    private readonly List<IgvmPageData> _run = [];
    private readonly List<LaunchUpdate> _updates = [];
    private readonly SortedDictionary<ushort, IgvmVpContext> _contexts = [];
    private readonly List<LaunchRam> _required = [];
    private ulong _areaMemory;
    private IgvmSnpIdBlock? _idBlock;

    private HostLoader(GuestRam ram, int vcpuCount, uint mask, ulong policy)
    {
        _ram = ram;
        _vcpuCount = vcpuCount;
        _mask = mask;
        _securityProcessor = new SecurityProcessor(policy);
    }

    // Everything up to the first instruction of the guest. Throws SvsmDiagnosticException when host or security processor refuse. No host data is all zeroes.
    public static LaunchPlan Load(ReadOnlyMemory<byte> image, GuestRam ram, int vcpuCount, ReadOnlyMemory<byte> hostData = default)
    {
        IgvmFile file;
        try
        {
            file = IgvmFile.Parse(image);
        }
        catch (IgvmFormatException exception)
        {
            throw SvsmDiagnostics.ImageRefused.Error(exception.Message, "an IGVM file", exception);
        }

        return Load(file, ram, vcpuCount, hostData);
    }

    public static LaunchPlan Load(IgvmFile file, GuestRam ram, int vcpuCount, ReadOnlyMemory<byte> hostData = default)
    {
        if (file.FindPlatform(IgvmPlatformType.SevSnp) is not IgvmPlatform platform)
        {
            throw SvsmDiagnostics.ImageRefused.Error(
                $"a file for platform {string.Join(", ", file.Platforms.Select(other => other.PlatformType))}", $"{IgvmPlatformType.SevSnp} among the platforms");
        }

        ulong policy = file.FindGuestPolicy(platform.CompatibilityMask) ?? DefaultPolicy;
        var loader = new HostLoader(ram, vcpuCount, platform.CompatibilityMask, policy);
        foreach (IgvmDirective directive in file.Directives)
        {
            loader.Apply(directive);
        }

        foreach (IgvmInitialization header in file.Initializations)
        {
            if (header is not IgvmGuestPolicy)
            {
                throw UnknownHeader(header.Type);
            }
        }

        loader.FlushRun();
        return loader.Finish(policy, hostData);
    }

    private void Apply(IgvmDirective directive)
    {
        switch (directive)
        {
            case IgvmPageData page:
                if (IsForUs(page.CompatibilityMask))
                {
                    AddPage(page);
                }

                break;
            case IgvmParameterArea area:
                AddArea(area);
                break;
            case IgvmParameterUsage usage:
                FillParameter(usage);
                break;
            case IgvmParameterInsert insert:
                if (IsForUs(insert.CompatibilityMask))
                {
                    InsertArea(insert);
                }

                break;
            case IgvmRequiredMemory memory:
                if (IsForUs(memory.CompatibilityMask))
                {
                    CheckRange("required memory", memory.Gpa, memory.ByteLength);
                    _required.Add(new LaunchRam { Base = memory.Gpa, Length = memory.ByteLength });
                }

                break;
            case IgvmVpContext context:
                if (IsForUs(context.CompatibilityMask))
                {
                    AddContext(context);
                }

                break;
            case IgvmSnpIdBlock idBlock:
                if (IsForUs(idBlock.CompatibilityMask))
                {
                    if (_idBlock is not null)
                    {
                        throw SvsmDiagnostics.ImageRefused.Error("a second ID block", "at most one");
                    }

                    _idBlock = idBlock;
                }

                break;
            default:
                throw UnknownHeader(directive.Type);
        }
    }

    private bool IsForUs(uint mask) => (mask & _mask) != 0;

    private void AddPage(IgvmPageData page)
    {
        if ((page.Flags & IgvmPageDataFlags.Is2MBPage) != 0)
        {
            throw SvsmDiagnostics.ImageRefused.Error($"a 2-MiB page at GPA 0x{page.Gpa:X}", "4-KiB pages; QEMU would fill the rest of such a page with zeroes");
        }

        if ((page.Flags & IgvmPageDataFlags.Shared) != 0)
        {
            throw SvsmDiagnostics.ImageRefused.Error($"a shared page at GPA 0x{page.Gpa:X}", "private pages; QEMU would launch it as a private one");
        }

        CheckRange("a page", page.Gpa, PageSize);
        if (_run.Count != 0)
        {
            IgvmPageData last = _run[^1];
            if (page.Gpa != last.Gpa + PageSize || page.Flags != last.Flags || page.DataType != last.DataType ||
                page.CompatibilityMask != last.CompatibilityMask || page.Data.IsEmpty != last.Data.IsEmpty)
            {
                FlushRun();
            }
        }

        _run.Add(page);
    }

    private void FlushRun()
    {
        foreach (IgvmPageData page in _run)
        {
            switch (page.DataType)
            {
                case IgvmPageDataType.Normal:
                    // A page without data is a page of zeroes, and measured as such.
                    bool unmeasured = (page.Flags & IgvmPageDataFlags.Unmeasured) != 0;
                    Launch(unmeasured ? LaunchPageType.Unmeasured : LaunchPageType.Normal, page.Gpa, page.Data);
                    break;
                case IgvmPageDataType.Secrets:
                    Launch(LaunchPageType.Secrets, page.Gpa, _securityProcessor.CreateSecretsPage());
                    break;
                default:
                    Launch(LaunchPageType.Cpuid, page.Gpa, CheckCpuidPage(page));
                    break;
            }
        }

        _run.Clear();
    }

    private static ReadOnlyMemory<byte> CheckCpuidPage(IgvmPageData page)
    {
        uint count = page.Data.IsEmpty ? 0 : MemoryMarshal.Read<CpuidPageHeader>(page.Data.Span).Count;
        return count is 0 or > CpuidPageHeader.MaxEntries
            ? throw SvsmDiagnostics.ImageRefused.Error($"a CPUID page at GPA 0x{page.Gpa:X} with {count} functions", $"1 to {CpuidPageHeader.MaxEntries}")
            : page.Data;
    }

    private void AddArea(IgvmParameterArea area)
    {
        if (area.ByteLength > MaxAreaMemory - _areaMemory)
        {
            throw SvsmDiagnostics.ImageRefused.Error($"parameter area {area.Index} of {area.ByteLength} bytes, after others of {_areaMemory}", $"{MaxAreaMemory} bytes in all areas or less");
        }

        _areaMemory += area.ByteLength;

        if (!area.InitialData.IsEmpty)
        {
            throw SvsmDiagnostics.ImageRefused.Error($"parameter area {area.Index} with initial contents", "an area of zeroes; QEMU ignores the contents");
        }

        // The area's memory comes when something is written: a file can declare more areas than it uses.
        _areas.Add(area.Index, new ParameterArea(area.ByteLength));
    }

    private void FillParameter(IgvmParameterUsage usage)
    {
        switch (usage.Kind)
        {
            case IgvmParameterKind.VpCount:
                uint vcpuCount = (uint)_vcpuCount;
                MemoryMarshal.Write(Target(usage, sizeof(uint)), in vcpuCount);
                break;
            case IgvmParameterKind.EnvironmentInfo:
                // Memory that was not launched belongs to the host until the guest changes its state.
                uint environment = GeneralParameters.MemoryIsShared;
                MemoryMarshal.Write(Target(usage, sizeof(uint)), in environment);
                break;
            case IgvmParameterKind.MemoryMap:
                MemoryMapEntry[] map = [.. _ram.Ranges.Select(range => new MemoryMapEntry
                {
                    StartPage = range.Base / PageSize,
                    PageCount = range.Length / PageSize,
                    Type = MemoryMapEntryType.Memory,
                }), default];
                MemoryMarshal.AsBytes(map.AsSpan()).CopyTo(Target(usage, map.Length * Unsafe.SizeOf<MemoryMapEntry>()));
                break;
            default:
                throw UnknownHeader(usage.Type);
        }
    }

    private Span<byte> Target(IgvmParameterUsage usage, int length)
    {
        ParameterArea area = _areas[usage.AreaIndex];
        if (usage.ByteOffset > area.Length || (ulong)length > area.Length - usage.ByteOffset)
        {
            throw SvsmDiagnostics.ImageRefused.Error(
                $"{usage.Kind} at offset 0x{usage.ByteOffset:X} of parameter area {usage.AreaIndex}, which has {area.Length} bytes", $"room for {length} bytes");
        }

        area.Contents ??= new byte[area.Length];
        return area.Contents.AsSpan((int)usage.ByteOffset, length);
    }

    private void InsertArea(IgvmParameterInsert insert)
    {
        ParameterArea area = _areas[insert.AreaIndex];
        CheckRange($"parameter area {insert.AreaIndex}", insert.Gpa, area.Length);
        for (ulong offset = 0; offset < area.Length; offset += PageSize)
        {
            Launch(LaunchPageType.Unmeasured, insert.Gpa + offset, area.Contents is null ? default : area.Contents.AsMemory((int)offset, (int)PageSize));
        }
    }

    private void AddContext(IgvmVpContext context)
    {
        if (context.VpIndex >= _vcpuCount)
        {
            throw SvsmDiagnostics.ImageRefused.Error($"a VMSA for vCPU {context.VpIndex} on a machine with {_vcpuCount}", "more vCPUs (option --vcpus), or an image that starts one");
        }

        VmsaRules.Check(context);
        if (!_contexts.TryAdd(context.VpIndex, context))
        {
            throw SvsmDiagnostics.ImageRefused.Error($"a second VMSA for vCPU {context.VpIndex}", "one per vCPU");
        }
    }

    private void Launch(LaunchPageType type, ulong gpa, ReadOnlyMemory<byte> contents, uint index = 0)
    {
        _securityProcessor.Update((SnpPageType)type, gpa, contents.Span);
        _updates.Add(new LaunchUpdate(type, gpa, contents, index));
    }

    private LaunchPlan Finish(ulong policy, ReadOnlyMemory<byte> hostData)
    {
        if (!_contexts.TryGetValue(0, out IgvmVpContext? first))
        {
            throw SvsmDiagnostics.ImageRefused.Error("no VMSA for vCPU 0", "one, with the registers that the SVSM starts with");
        }

        ulong features = Features(first);
        foreach ((ushort index, IgvmVpContext context) in _contexts)
        {
            if (Features(context) != features)
            {
                throw SvsmDiagnostics.ImageRefused.Error($"SEV_FEATURES 0x{Features(context):X} in the VMSA of vCPU {index}", $"0x{features:X}, as for vCPU 0");
            }
        }

        IReadOnlyList<LaunchRam> required = RangeSet.Subtract(_required, _updates.Select(update => update.Gpa));
        IReadOnlyList<LaunchRam> ram = AddExtraMemory(required);
        foreach ((ushort index, IgvmVpContext context) in _contexts)
        {
            Launch(LaunchPageType.Vmsa, context.Gpa, context.Data, index);
        }

        GuestContext guest = _securityProcessor.Finish(_idBlock, hostData);
        return new LaunchPlan
        {
            Policy = policy,
            VcpuCount = _vcpuCount,
            Ram = ram,
            Updates = _updates,
            Required = required,
            Digest = _securityProcessor.Digest,
            Guest = guest,
        };
    }

    // QEMU makes memory where a file wants some and the machine has none. It is not in the memory map.
    private IReadOnlyList<LaunchRam> AddExtraMemory(IReadOnlyList<LaunchRam> required)
    {
        IReadOnlyList<LaunchRam> all = RangeSet.Union(
            [.. _ram.Ranges, .. required, .. _updates.Select(update => new LaunchRam { Base = update.Gpa, Length = PageSize })]);
        if ((uint)all.Count > LaunchHeader.MaxRamCount)
        {
            throw SvsmDiagnostics.ImageRefused.Error($"pages in {all.Count} separate ranges of memory", $"{LaunchHeader.MaxRamCount} or less, RAM included; put pages outside the RAM close together");
        }

        ulong extra = RangeSet.Length(all) - RangeSet.Length(_ram.Ranges);
        return extra > MaxExtraMemory
            ? throw SvsmDiagnostics.ImageRefused.Error($"{extra >> 20} MiB outside the RAM of the machine", $"{MaxExtraMemory >> 20} MiB or less")
            : all;
    }

    private static ulong Features(IgvmVpContext context) => MemoryMarshal.Read<Vmsa>(context.Data.Span).SevFeatures;

    private static void CheckRange(string what, ulong gpa, ulong length)
    {
        if (gpa >= GpaLimit || length > GpaLimit - gpa)
        {
            throw SvsmDiagnostics.ImageRefused.Error($"{what} at GPA 0x{gpa:X}, 0x{length:X} bytes", $"an end at or below 0x{GpaLimit:X}, the C-bit of the simulated processor");
        }
    }

    private static SvsmDiagnosticException UnknownHeader(IgvmHeaderType type) => SvsmDiagnostics.ImageRefused.Error(
        $"a header of type 0x{(uint)type:X3} ({type})", "headers that QEMU handles, whatever platform they are for, and that this machine without ACPI tables can answer");

    private sealed class ParameterArea(ulong length)
    {
        public ulong Length { get; } = length;

        public byte[]? Contents { get; set; }
    }
}
