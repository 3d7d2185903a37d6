// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using System.Linq;
using System.Runtime.InteropServices;
using System.Text.Json;
using Spectre.Console;
using Svsm.Builder;
using Svsm.Igvm;
using Svsm.Migration;
using Svsm.Wire;

namespace Svsm.Tool.Commands;

internal static class InspectCommand
{
    /// <summary>A header in words.</summary>
    /// <param name="Header">Name of the header.</param>
    /// <param name="Gpa">Address, or null.</param>
    /// <param name="Length">Bytes, or 0.</param>
    /// <param name="Mask">Platforms, or null for all.</param>
    /// <param name="Detail">The rest.</param>
    internal sealed record Line(string Header, ulong? Gpa, ulong Length, uint? Mask, string Detail)
    {
        public int Count { get; init; } = 1;
    }

    public static int Run(ToolConsole console, ImageFile image, bool json)
    {
        if (json)
        {
            console.WriteJson(writer => WriteJson(writer, image));
        }
        else
        {
            console.Write(terminal => WriteText(terminal, image));
        }

        return ExitStatus.Success;
    }

    /// <summary>Describes every header, in file order.</summary>
    public static List<Line> Describe(IgvmFile file) =>
        [.. file.Platforms.Select(Describe), .. file.Initializations.Select(Describe), .. file.Directives.Select(Describe)];

    /// <summary>Registers of a launch VMSA that are not zero.</summary>
    public static List<(string Name, string Value)> Registers(ReadOnlySpan<byte> page)
    {
        Vmsa vmsa = MemoryMarshal.Read<Vmsa>(page);
        var registers = new List<(string, string)>();
        foreach ((string name, SegmentRegister segment) in (ReadOnlySpan<(string, SegmentRegister)>)[
            ("CS", vmsa.Cs), ("DS", vmsa.Ds), ("ES", vmsa.Es), ("FS", vmsa.Fs), ("GS", vmsa.Gs), ("SS", vmsa.Ss),
            ("GDTR", vmsa.Gdtr), ("IDTR", vmsa.Idtr), ("LDTR", vmsa.Ldtr), ("TR", vmsa.Tr)])
        {
            if (segment is not { Selector: 0, Attributes: 0, Limit: 0, Base: 0 })
            {
                registers.Add((name, $"{Units.Hex(segment.Selector)} base {Units.Hex(segment.Base)} limit {Units.Hex(segment.Limit)} attributes {Units.Hex(segment.Attributes)}"));
            }
        }

        foreach ((string name, ulong value) in (ReadOnlySpan<(string, ulong)>)[
            ("RIP", vmsa.Rip), ("RSP", vmsa.Rsp), ("RFLAGS", vmsa.Rflags), ("RAX", vmsa.Rax), ("RBX", vmsa.Rbx), ("RCX", vmsa.Rcx), ("RDX", vmsa.Rdx),
            ("RSI", vmsa.Rsi), ("RDI", vmsa.Rdi), ("RBP", vmsa.Rbp), ("R8", vmsa.R8), ("R9", vmsa.R9), ("R10", vmsa.R10), ("R11", vmsa.R11),
            ("R12", vmsa.R12), ("R13", vmsa.R13), ("R14", vmsa.R14), ("R15", vmsa.R15),
            ("CR0", vmsa.Cr0), ("CR3", vmsa.Cr3), ("CR4", vmsa.Cr4), ("EFER", vmsa.Efer), ("XCR0", vmsa.Xcr0), ("PAT", vmsa.Pat),
            ("DR6", vmsa.Dr6), ("DR7", vmsa.Dr7), ("MXCSR", vmsa.Mxcsr), ("FCW", vmsa.X87ControlWord), ("VMPL", vmsa.Vmpl),
            ("VIRTUAL_TOM", vmsa.VirtualTom)])
        {
            if (value != 0)
            {
                registers.Add((name, Units.Hex(value)));
            }
        }

        registers.Add(("SEV_FEATURES", $"{Units.Hex(vmsa.SevFeatures)} ({(SevFeatures)vmsa.SevFeatures})"));
        return registers;
    }

    private static Line Describe(IgvmPlatform platform) => new(
        "SUPPORTED_PLATFORM", null, 0, platform.CompatibilityMask,
        $"{platform.PlatformType}, highest VTL {Units.Number(platform.HighestVtl)}, shared from {Units.Hex(platform.SharedGpaBoundary)}");

    private static Line Describe(IgvmInitialization header) => header switch
    {
        IgvmGuestPolicy policy => new Line("GUEST_POLICY", null, 0, policy.CompatibilityMask, Units.Hex(policy.Policy)),
        IgvmRelocatableRegion region => new Line(
            "RELOCATABLE_REGION", region.Gpa, region.ByteLength, region.CompatibilityMask,
            $"to {Units.Hex(region.MinimumGpa)}-{Units.Hex(region.MaximumGpa)}, alignment {Units.Hex(region.Alignment)}"),
        IgvmPageTableRelocation tables => new Line(
            "PAGE_TABLE_RELOCATION", tables.Gpa, tables.ByteLength, tables.CompatibilityMask, $"{Units.Size(tables.UsedByteLength)} used"),
        _ => new Line(Name(header), null, 0, header.CompatibilityMask, ""),
    };

    private static Line Describe(IgvmDirective directive) => directive switch
    {
        IgvmParameterArea area => new Line("PARAMETER_AREA", null, area.ByteLength, null, $"area {Units.Number(area.Index)}"),
        IgvmParameterUsage usage => new Line(Name(usage), null, 0, null, $"area {Units.Number(usage.AreaIndex)}, offset {Units.Number(usage.ByteOffset)}"),
        IgvmParameterInsert insert => new Line("PARAMETER_INSERT", insert.Gpa, 0, insert.CompatibilityMask, $"area {Units.Number(insert.AreaIndex)}"),
        IgvmPageData page => new Line(
            "PAGE_DATA", page.Gpa, page.Flags.HasFlag(IgvmPageDataFlags.Is2MBPage) ? 0x20_0000u : 4096, page.CompatibilityMask,
            (page.DataType == IgvmPageDataType.Normal ? "normal" : page.DataType == IgvmPageDataType.Secrets ? "secrets" : "cpuid") +
            (page.Flags.HasFlag(IgvmPageDataFlags.Unmeasured) ? ", unmeasured" : "") + (page.Flags.HasFlag(IgvmPageDataFlags.Shared) ? ", shared" : "") +
            (page.Data.IsEmpty ? ", no data" : page.DataType == IgvmPageDataType.Normal && !page.Data.Span.ContainsAnyExcept((byte)0) ? ", zeroes" : "")),
        IgvmVpContext context => new Line("VP_CONTEXT", context.Gpa, 0, context.CompatibilityMask, $"vCPU {Units.Number(context.VpIndex)}"),
        IgvmRequiredMemory memory => new Line("REQUIRED_MEMORY", memory.Gpa, memory.ByteLength, memory.CompatibilityMask, ""),
        IgvmErrorRange range => new Line("ERROR_RANGE", range.Gpa, range.ByteLength, range.CompatibilityMask, ""),
        IgvmSnpIdBlock block => new Line(
            "SNP_ID_BLOCK", null, 0, block.CompatibilityMask, $"SVN {Units.Number(block.GuestSvn)}, {(block.AuthorPublicKey.Curve == 0 ? "no author key" : "with author key")}"),
        _ => new Line(Name(directive), null, 0, null, ""),
    };

    // VpCount -> VP_COUNT: the token of the format.
    private static string Name(IgvmHeader header)
    {
        string name = header.Type.ToString();
        return string.Concat(name.Select((c, i) => (i != 0 && char.IsUpper(c) ? "_" : "") + char.ToUpperInvariant(c)));
    }

    private static List<Line> Fold(List<Line> lines)
    {
        var folded = new List<Line>();
        foreach (Line line in lines)
        {
            if (folded.Count != 0 && line.Header == "PAGE_DATA" && folded[^1] is { Header: "PAGE_DATA" } last && last.Gpa + last.Length == line.Gpa &&
                last.Mask == line.Mask && last.Detail == line.Detail)
            {
                folded[^1] = last with { Length = last.Length + line.Length, Count = last.Count + 1 };
            }
            else
            {
                folded.Add(line);
            }
        }

        return folded;
    }

    private static void WriteText(IAnsiConsole terminal, ImageFile image)
    {
        IgvmFile file = image.File;
        terminal.WriteLine($"{image.Name}: IGVM version {Units.Number((int)file.FormatVersion)}, {file.Architecture}, {Units.Size((ulong)image.Bytes.Length)}");
        if (image.Facts is SvsmFacts facts)
        {
            ImageConfiguration configuration = facts.Configuration;
            terminal.WriteLine($"Svsm.Sdk image for host {HostFlavourNames.ToName(configuration.Flavour)}, region {Units.Hex(configuration.RegionBase)}, guest {configuration.GuestKind.ToString().ToLowerInvariant()} at VMPL{Units.Number((int)configuration.GuestVmpl)}");
            WriteModules(terminal, facts.Modules);
            WriteMigration(terminal, facts);
        }

        terminal.WriteLine();
        Table table = ToolConsole.NewTable("header", "mask", ">address", ">size", "");
        foreach (Line line in Fold(Describe(file)))
        {
            ToolConsole.AddRow(
                table, line.Header, line.Mask is uint mask ? Units.Hex(mask) : "", line.Gpa is ulong gpa ? Units.Address(gpa) : "",
                line.Length == 0 ? "" : Units.Size(line.Length), line.Detail);
        }

        terminal.Write(table);
        foreach (IgvmVpContext context in Contexts(file))
        {
            terminal.WriteLine();
            terminal.WriteLine($"Registers of vCPU {Units.Number(context.VpIndex)}; those not listed are 0");
            Table registers = ToolConsole.NewTable("", "").HideHeaders();
            foreach ((string name, string value) in Registers(context.Data.Span))
            {
                ToolConsole.AddRow(registers, name, value);
            }

            terminal.Write(registers);
        }
    }

    private static void WriteModules(IAnsiConsole terminal, ModuleArchive? archive)
    {
        if (archive is null)
        {
            terminal.WriteLine("The archive of modules is damaged");
            return;
        }

        if (archive.Modules.IsEmpty)
        {
            return;
        }

        terminal.WriteLine();
        Table table = ToolConsole.NewTable("module", ">protocol", ">versions", ">memory", "may");
        foreach (ArchivedModule module in archive.Modules)
        {
            ToolConsole.AddRow(
                table, module.Arguments[0], Units.Hex((uint)module.Entry.Protocol), $"{Units.Number((int)module.Entry.MinVersion)}-{Units.Number((int)module.Entry.MaxVersion)}",
                Units.Size(module.Entry.MemoryLimit), module.Entry.Permissions.ToString());
        }

        terminal.Write(table);
        terminal.WriteLine();
        Table files = ToolConsole.NewTable("file", ">bytes", "for");
        foreach (ArchivedFile file in archive.Files)
        {
            ToolConsole.AddRow(files, file.Path, Units.Number((long)file.Length), string.Join(", ", archive.ReadersOf(file)));
        }

        terminal.Write(files);
    }

    // In words: who reviews an image sees here to whom its SVSM entrusts a guest, and from whom it takes one.
    private static void WriteMigration(IAnsiConsole terminal, SvsmFacts facts)
    {
        if (facts.ReadFile(MigrationPolicy.Path) is not ReadOnlyMemory<byte> file)
        {
            return;
        }

        terminal.WriteLine();
        if (MigrationPolicy.TryRead(file.Span) is not MigrationPolicy policy)
        {
            terminal.WriteLine("The migration policy is damaged: no guest is moved");
            return;
        }

        terminal.WriteLine("A guest is moved to and from an SVSM");
        Table table = ToolConsole.NewTable("", "").HideHeaders();
        ToolConsole.AddRow(table, "on a chip below root key", Hex(policy.RootDigest));
        ToolConsole.AddRow(table, "and a TCB of at least", $"{Units.Hex(policy.MinimumTcb)}, in each byte");
        foreach (MigrationRule rule in policy.Rules)
        {
            ToolConsole.AddRow(table, rule == policy.Rules[0] ? "from an image by author" : "or by author", Hex(rule.AuthorKeyDigest));
            ToolConsole.AddRow(table, "  of family", Hex(rule.FamilyId));
            ToolConsole.AddRow(table, "  with an SVN of at least", Units.Number(rule.MinimumSvn));
        }

        terminal.Write(table);
    }

    private static void WriteMigration(Utf8JsonWriter writer, SvsmFacts facts)
    {
        if (facts.ReadFile(MigrationPolicy.Path) is not ReadOnlyMemory<byte> file)
        {
            return;
        }

        if (MigrationPolicy.TryRead(file.Span) is not MigrationPolicy policy)
        {
            writer.WriteNull("migrationPolicy");
            return;
        }

        writer.WriteStartObject("migrationPolicy");
        writer.WriteString("rootKeyDigest", Hex(policy.RootDigest));
        writer.WriteString("minimumTcb", Units.Hex(policy.MinimumTcb));
        writer.WriteStartArray("peers");
        foreach (MigrationRule rule in policy.Rules)
        {
            writer.WriteStartObject();
            writer.WriteString("authorKeyDigest", Hex(rule.AuthorKeyDigest));
            writer.WriteString("familyId", Hex(rule.FamilyId));
            writer.WriteNumber("minimumSvn", rule.MinimumSvn);
            writer.WriteEndObject();
        }

        writer.WriteEndArray();
        writer.WriteEndObject();
    }

    private static string Hex(ReadOnlyMemory<byte> bytes) => Convert.ToHexStringLower(bytes.Span);

    private static IEnumerable<IgvmVpContext> Contexts(IgvmFile file)
    {
        uint mask = file.FindPlatform(IgvmPlatformType.SevSnp)?.CompatibilityMask ?? 0;
        return file.Directives.OfType<IgvmVpContext>().Where(context => context.CompatibilityMask == mask && context.Data.Length == 4096);
    }

    private static void WriteJson(Utf8JsonWriter writer, ImageFile image)
    {
        IgvmFile file = image.File;
        writer.WriteString("file", image.Name);
        writer.WriteNumber("byteLength", image.Bytes.Length);
        writer.WriteNumber("formatVersion", (int)file.FormatVersion);
        writer.WriteString("architecture", file.Architecture.ToString().ToLowerInvariant());
        if (image.Facts is SvsmFacts facts)
        {
            ImageConfiguration configuration = facts.Configuration;
            writer.WriteStartObject("svsm");
            writer.WriteString("host", HostFlavourNames.ToName(configuration.Flavour));
            writer.WriteString("regionBase", Units.Hex(configuration.RegionBase));
            writer.WriteString("regionLength", Units.Hex(configuration.RegionLength));
            writer.WriteString("heapBase", Units.Hex(configuration.HeapBase));
            writer.WriteString("guest", configuration.GuestKind.ToString().ToLowerInvariant());
            writer.WriteNumber("guestVmpl", (int)configuration.GuestVmpl);
            if (facts.Modules is ModuleArchive modules)
            {
                SvsmImageWriter.WriteModules(writer, modules);
            }
            else
            {
                writer.WriteNull("modules");
            }

            WriteMigration(writer, facts);

            writer.WriteEndObject();
        }

        writer.WriteStartArray("headers");
        foreach (Line line in Describe(file))
        {
            writer.WriteStartObject();
            writer.WriteString("header", line.Header);
            if (line.Mask is uint mask)
            {
                writer.WriteString("mask", Units.Hex(mask));
            }

            if (line.Gpa is ulong gpa)
            {
                writer.WriteString("gpa", Units.Hex(gpa));
            }

            if (line.Length != 0)
            {
                writer.WriteNumber("byteLength", line.Length);
            }

            if (line.Detail.Length != 0)
            {
                writer.WriteString("detail", line.Detail);
            }

            writer.WriteEndObject();
        }

        writer.WriteEndArray();
        writer.WriteStartArray("vcpus");
        foreach (IgvmVpContext context in Contexts(file))
        {
            writer.WriteStartObject();
            writer.WriteNumber("index", context.VpIndex);
            writer.WriteStartObject("registers");
            foreach ((string name, string value) in Registers(context.Data.Span))
            {
                writer.WriteString(name, value);
            }

            writer.WriteEndObject();
            writer.WriteEndObject();
        }

        writer.WriteEndArray();
    }
}
