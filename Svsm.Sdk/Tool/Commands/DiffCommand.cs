// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Compares two files by meaning: pages by address, so that one page more does not make all that follow different. Contents of launched pages
// are compared byte by byte; runs of pages that differ in the same way are one line.

using System;
using System.Collections.Generic;
using System.Linq;
using Spectre.Console;
using Svsm.Igvm;

namespace Svsm.Tool.Commands;

internal static class DiffCommand
{
    /// <summary>A difference.</summary>
    /// <param name="What">"header", "page", "register", "order", "file".</param>
    /// <param name="Where">A header in words, an address, a register.</param>
    /// <param name="First">What the first file has; empty = nothing.</param>
    /// <param name="Second">What the second file has; empty = nothing.</param>
    private sealed record Difference(string What, string Where, string First, string Second)
    {
        public ulong Gpa { get; init; }

        public int PageCount { get; init; }

        public long ByteCount { get; init; }
    }

    public static int Run(ToolConsole console, ImageFile first, ImageFile second, bool json)
    {
        List<Difference> differences = console.Work("Comparing", () => Compare(first, second));
        if (json)
        {
            console.WriteJson(writer =>
            {
                writer.WriteString("first", first.Path);
                writer.WriteString("second", second.Path);
                writer.WriteBoolean("equal", differences.Count == 0);
                writer.WriteStartArray("differences");
                foreach (Difference difference in differences)
                {
                    writer.WriteStartObject();
                    writer.WriteString("what", difference.What);
                    if (difference.PageCount != 0)
                    {
                        writer.WriteString("gpa", Units.Hex(difference.Gpa));
                        writer.WriteNumber("pages", difference.PageCount);
                        writer.WriteNumber("bytes", difference.ByteCount);
                    }
                    else
                    {
                        writer.WriteString("where", difference.Where);
                    }

                    writer.WriteString("first", difference.First);
                    writer.WriteString("second", difference.Second);
                    writer.WriteEndObject();
                }

                writer.WriteEndArray();
            });
        }
        else
        {
            console.Write(terminal => WriteText(terminal, first, second, differences));
        }

        return differences.Count == 0 ? ExitStatus.Success : ExitStatus.Difference;
    }

    private static List<Difference> Compare(ImageFile first, ImageFile second)
    {
        var differences = new List<Difference>();
        IgvmFile a = first.File;
        IgvmFile b = second.File;
        if (a.FormatVersion != b.FormatVersion)
        {
            differences.Add(new Difference("header", "format version", Units.Number((int)a.FormatVersion), Units.Number((int)b.FormatVersion)));
        }

        if (a.Architecture != b.Architecture)
        {
            differences.Add(new Difference("header", "architecture", a.Architecture.ToString(), b.Architecture.ToString()));
        }

        CompareHeaders(a, b, differences);
        ComparePages(a, b, differences);
        CompareRegisters(a, b, differences);
        if (differences.Count == 0 && !a.Equals(b))
        {
            differences.Add(new Difference("order", "directives", "the same ones", "in another order, or data that only one of them has"));
        }
        else if (differences.Count == 0 && !first.Bytes.AsSpan().SequenceEqual(second.Bytes))
        {
            // Equal models: what is left is where the data blocks stand.
            differences.Add(new Difference("file", "data blocks", $"{Units.Number(first.Bytes.Length)} bytes", $"{Units.Number(second.Bytes.Length)} bytes, the same contents elsewhere"));
        }

        return differences;
    }

    private static void CompareHeaders(IgvmFile a, IgvmFile b, List<Difference> differences)
    {
        List<string> first = HeaderLines(a);
        List<string> second = HeaderLines(b);
        foreach (string line in first)
        {
            if (!second.Remove(line))
            {
                differences.Add(new Difference("header", line, "has it", ""));
            }
        }

        foreach (string line in second)
        {
            differences.Add(new Difference("header", line, "", "has it"));
        }

        IgvmSnpIdBlock? firstBlock = a.Directives.OfType<IgvmSnpIdBlock>().FirstOrDefault();
        IgvmSnpIdBlock? secondBlock = b.Directives.OfType<IgvmSnpIdBlock>().FirstOrDefault();
        if (firstBlock is not null && secondBlock is not null && !firstBlock.Equals(secondBlock))
        {
            bool digest = firstBlock.LaunchDigest.Span.SequenceEqual(secondBlock.LaunchDigest.Span);
            differences.Add(new Difference("header", "contents of SNP_ID_BLOCK", Key(firstBlock), Key(secondBlock) + (digest ? "" : ", another launch digest")));
        }

        static string Key(IgvmSnpIdBlock block) => $"SVN {Units.Number(block.GuestSvn)}, key {Convert.ToHexStringLower(block.IdPublicKey.X.Span[..4])}...";
    }

    private static List<string> HeaderLines(IgvmFile file) =>
    [
        .. InspectCommand.Describe(file).Where(line => line.Header is not "PAGE_DATA").Select(line =>
            $"{line.Header}{(line.Gpa is ulong gpa ? " at " + Units.Hex(gpa) : "")}{(line.Length == 0 ? "" : ", " + Units.Size(line.Length))}{(line.Detail.Length == 0 ? "" : ", " + line.Detail)}{(line.Mask is uint mask ? ", mask " + Units.Hex(mask) : "")}"),
    ];

    private static void ComparePages(IgvmFile a, IgvmFile b, List<Difference> differences)
    {
        Dictionary<(ulong, uint), IgvmPageData> first = Pages(a);
        Dictionary<(ulong, uint), IgvmPageData> second = Pages(b);
        foreach ((ulong Gpa, uint Mask) key in first.Keys.Union(second.Keys).Order())
        {
            IgvmPageData? left = first.GetValueOrDefault(key);
            IgvmPageData? right = second.GetValueOrDefault(key);
            Difference? difference = left is null || right is null || left.DataType != right.DataType || left.Flags != right.Flags
                ? new Difference("page", "", Describe(left), Describe(right))
                : CountDifferences(left.Data.Span, right.Data.Span) is int count and not 0
                    ? new Difference("page", "", Describe(left), "other contents") { ByteCount = count }
                    : null;
            if (difference is null)
            {
                continue;
            }

            difference = difference with { Gpa = key.Gpa, PageCount = 1 };
            if (differences.Count != 0 && differences[^1] is { What: "page" } last && last.Gpa + ((ulong)last.PageCount * 4096) == key.Gpa &&
                last.First == difference.First && last.Second == difference.Second)
            {
                differences[^1] = last with { PageCount = last.PageCount + 1, ByteCount = last.ByteCount + difference.ByteCount };
            }
            else
            {
                differences.Add(difference);
            }
        }
    }

    private static Dictionary<(ulong, uint), IgvmPageData> Pages(IgvmFile file)
    {
        var pages = new Dictionary<(ulong, uint), IgvmPageData>();
        foreach (IgvmPageData page in file.Directives.OfType<IgvmPageData>())
        {
            // Of two pages at one address the later one counts, as in memory.
            pages[(page.Gpa, page.CompatibilityMask)] = page;
        }

        return pages;
    }

    private static string Describe(IgvmPageData? page) => page is null ? "" :
        page.DataType.ToString().ToLowerInvariant() + (page.Flags == IgvmPageDataFlags.None ? "" : $" ({page.Flags})") + (page.Data.IsEmpty ? " without data" : "");

    private static int CountDifferences(ReadOnlySpan<byte> left, ReadOnlySpan<byte> right)
    {
        int count = Math.Abs(left.Length - right.Length);
        for (int i = 0; i < Math.Min(left.Length, right.Length); i++)
        {
            count += left[i] == right[i] ? 0 : 1;
        }

        return count;
    }

    private static void CompareRegisters(IgvmFile a, IgvmFile b, List<Difference> differences)
    {
        foreach (IgvmVpContext left in a.Directives.OfType<IgvmVpContext>())
        {
            IgvmVpContext? right = b.Directives.OfType<IgvmVpContext>().FirstOrDefault(
                context => context.VpIndex == left.VpIndex && context.CompatibilityMask == left.CompatibilityMask);
            if (right is null || left.Data.Span.SequenceEqual(right.Data.Span))
            {
                continue;
            }

            string vcpu = $"vCPU {Units.Number(left.VpIndex)}";
            int before = differences.Count;
            if (a.FindPlatform(IgvmPlatformType.SevSnp)?.CompatibilityMask == left.CompatibilityMask && left.Data.Length == 4096 && right.Data.Length == 4096)
            {
                Dictionary<string, string> registers = InspectCommand.Registers(left.Data.Span).ToDictionary(entry => entry.Name, entry => entry.Value);
                Dictionary<string, string> others = InspectCommand.Registers(right.Data.Span).ToDictionary(entry => entry.Name, entry => entry.Value);
                foreach (string name in registers.Keys.Union(others.Keys))
                {
                    string value = registers.GetValueOrDefault(name, "0");
                    string other = others.GetValueOrDefault(name, "0");
                    if (value != other)
                    {
                        differences.Add(new Difference("register", $"{vcpu} {name}", value, other));
                    }
                }
            }

            if (differences.Count == before)
            {
                differences.Add(new Difference("register", vcpu, "context", $"{Units.Number(CountDifferences(left.Data.Span, right.Data.Span))} other bytes"));
            }
        }
    }

    private static void WriteText(IAnsiConsole terminal, ImageFile first, ImageFile second, List<Difference> differences)
    {
        if (differences.Count == 0)
        {
            terminal.WriteLine("The files are equal.");
            return;
        }

        terminal.WriteLine($"A  {first.Path}");
        terminal.WriteLine($"B  {second.Path}");
        terminal.WriteLine();
        Table table = ToolConsole.NewTable("what", "A", "B");
        foreach (Difference difference in differences)
        {
            string where = difference.PageCount == 0 ? difference.Where
                : $"{Units.Address(difference.Gpa)} {Units.Size((ulong)difference.PageCount * 4096)}{difference.ByteCount switch { 0 => "", 1 => ", 1 byte", _ => $", {Units.Number(difference.ByteCount)} bytes" }}";
            ToolConsole.AddRow(table, where, difference.First.Length == 0 ? "-" : difference.First, difference.Second.Length == 0 ? "-" : difference.Second);
        }

        foreach (TableColumn column in table.Columns)
        {
            column.NoWrap = false;
        }

        terminal.Write(table);
    }
}
