// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Checks the program of modules before it goes into an image, so that a build fails and not a start: the kernel maps its pages as they lie in
// the archive. And tells how large it is and what of it is whose.

using System;
using System.Collections.Generic;
using System.Collections.Immutable;
using System.IO;
using System.Linq;
using System.Xml;
using Svsm.Diagnostics;

namespace Svsm.Builder;

/// <summary>A part of the program of modules.</summary>
/// <param name="Name">The assembly; empty: the rest.</param>
/// <param name="Length">Bytes.</param>
public sealed record ModuleProgramPart(string Name, ulong Length);

/// <summary>Checks and measures the program of modules.</summary>
public static class ModuleProgram
{
    private const ulong PageSize = 4096;

    /// <summary>Checks a program.</summary>
    /// <param name="program">The whole file. Untrusted.</param>
    /// <exception cref="SvsmDiagnosticException">SVSM2001, SVSM2002: it is no static x86-64 executable. SVSM2027: no process can be made from it.</exception>
    public static void Check(ReadOnlyMemory<byte> program)
    {
        ElfFile elf = ElfFile.Parse(program, "program of modules");
        ElfSegment[] segments = [.. elf.Segments.OrderBy(segment => segment.VirtualAddress)];
        for (int i = 0; i < segments.Length; i++)
        {
            ElfSegment segment = segments[i];
            if (segment.Flags.HasFlag(ElfSegmentFlags.Write | ElfSegmentFlags.Execute))
            {
                throw SvsmDiagnostics.ModuleProgramUnusable.Error($"a segment at 0x{segment.VirtualAddress:X} that may be written and executed", "one or the other");
            }

            if ((segment.VirtualAddress - segment.FileOffset) % PageSize != 0)
            {
                throw SvsmDiagnostics.ModuleProgramUnusable.Error(
                    $"a segment at 0x{segment.VirtualAddress:X} whose bytes are at 0x{segment.FileOffset:X} of the file", "the same place in a page, for its pages are mapped");
            }

            if (i != 0 && (segments[i - 1].VirtualAddress + segments[i - 1].Length - 1) / PageSize >= segment.VirtualAddress / PageSize)
            {
                throw SvsmDiagnostics.ModuleProgramUnusable.Error(
                    $"segments at 0x{segments[i - 1].VirtualAddress:X} and 0x{segment.VirtualAddress:X} with a page in common", "pages of its own for each");
            }
        }

        if (!segments.Any(segment => segment.Flags.HasFlag(ElfSegmentFlags.Execute) && elf.Entry >= segment.VirtualAddress && elf.Entry - segment.VirtualAddress < (ulong)segment.Data.Length))
        {
            throw SvsmDiagnostics.ModuleProgramUnusable.Error($"an entry point at 0x{elf.Entry:X}", "an address in code");
        }
    }

    /// <summary>Tells what of a program is compiled from which assembly.</summary>
    /// <param name="programLength">Bytes of the file.</param>
    /// <param name="map">The compiler's map of the program.</param>
    /// <param name="assemblies">Paths of the assemblies that are not the class library's.</param>
    /// <returns>A part for each assembly that has one, the largest first, and the rest. What counts as an assembly's is the code of its methods; the
    /// rest, data and class library and runtime, is what they share.</returns>
    /// <exception cref="XmlException">The map is damaged.</exception>
    public static ImmutableArray<ModuleProgramPart> Measure(ulong programLength, Stream map, IReadOnlyCollection<string> assemblies)
    {
        ArgumentNullException.ThrowIfNull(map);
        (string Name, string Prefix)[] names = [.. assemblies.Select(path => Path.GetFileNameWithoutExtension(path)).Distinct()
            .Select(name => (name, ModuleNativeCalls.Mangle(name) + "_")).OrderByDescending(name => name.Item2.Length)];
        var lengths = names.ToDictionary(name => name.Name, _ => 0ul);
        using XmlReader reader = XmlReader.Create(map);
        while (reader.Read())
        {
            if (reader is { NodeType: XmlNodeType.Element, Name: "MethodCode" } && ulong.TryParse(reader.GetAttribute("Length"), out ulong length))
            {
                string symbol = reader.GetAttribute("Name") ?? "";
                if (Array.Find(names, name => symbol.StartsWith(name.Prefix, StringComparison.Ordinal)).Name is string owner)
                {
                    lengths[owner] += length;
                }
            }
        }

        ulong known = Math.Min(programLength, (ulong)lengths.Values.Sum(length => (long)length));
        return [
            .. lengths.Where(part => part.Value != 0).OrderByDescending(part => part.Value).ThenBy(part => part.Key, StringComparer.Ordinal)
                .Select(part => new ModuleProgramPart(part.Key, part.Value)),
            new ModuleProgramPart("", programLength - known)];
    }
}
