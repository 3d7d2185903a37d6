// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using System.Linq;
using System.Numerics;
using System.Text;
using System.Text.Json;
using Spectre.Console;
using Svsm.Builder;

namespace Svsm.Tool.Commands;

internal static class MapCommand
{
    // The longest bar: 2^12 pages, a whole region.
    private const int MaxBar = 13;

    public static int Run(ToolConsole console, ImageFile image, string? svg, bool json)
    {
        List<LayoutRange> ranges = LaunchLayout.Create(image);
        string title = $"{image.Name} on host {HostFlavourNames.ToName(image.Flavour(null))}";
        if (svg is not null)
        {
            ImageFile.Write(svg, Encoding.UTF8.GetBytes(MapDrawing.Draw(title, ranges)));
        }

        if (json)
        {
            console.WriteJson(writer => WriteJson(writer, image, ranges));
        }
        else
        {
            console.Write(terminal => WriteText(terminal, title, ranges));
            if (svg is not null)
            {
                console.Error.WriteLine($"drawn into {svg}");
            }
        }

        return ExitStatus.Success;
    }

    /// <summary>"3.1 MiB launched, ...": the sums that belong under a map.</summary>
    public static string Sums(List<LayoutRange> ranges)
    {
        ulong measured = 0;
        ulong launched = 0;
        ulong other = 0;
        foreach (LayoutRange range in ranges)
        {
            measured += range.IsMeasured ? range.Length : 0;
            launched += range.IsLaunched ? range.Length : 0;
            other += range.IsLaunched ? 0 : range.Length;
        }

        return $"{Units.Size(launched)} launched, {Units.Size(measured)} of it measured; {Units.Size(other)} validated at run time";
    }

    private static void WriteText(IAnsiConsole terminal, string title, List<LayoutRange> ranges)
    {
        terminal.WriteLine(title);
        terminal.WriteLine();
        Table table = ToolConsole.NewTable("address", ">size", "", "kind", "rights", "");
        ulong end = ranges.Count == 0 ? 0 : ranges[0].Gpa;
        foreach (LayoutRange range in ranges)
        {
            if (range.Gpa > end)
            {
                var dim = new Style(decoration: Decoration.Dim);
                table.AddRow(new Text(":", dim), new Text(Units.Size(range.Gpa - end), dim), Text.Empty, Text.Empty, Text.Empty, new Text("not used", dim));
            }

            table.AddRow(
                new Text(Units.Address(range.Gpa)), new Text(Units.Size(range.Length)), new Text(Bar(range), new Style(Color(range.Kind))),
                new Text(range.KindName), new Text(range.RightsText), new Text(range.Name));
            end = Math.Max(end, range.Gpa + range.Length);
        }

        terminal.Write(table);
        terminal.WriteLine();
        terminal.WriteLine("# contents measured   = address measured   . not launched");
        terminal.WriteLine(Sums(ranges) + ".");
    }

    // One character for one page, one more for each doubling.
    private static string Bar(LayoutRange range)
    {
        int length = Math.Min(MaxBar, BitOperations.Log2(Math.Max(1, range.Length / 4096)) + 1);
        return new string(range.IsMeasured ? '#' : range.IsLaunched ? '=' : '.', length);
    }

    private static Color Color(LayoutKind kind) => kind switch
    {
        LayoutKind.Data => Spectre.Console.Color.Blue,
        LayoutKind.Zero => Spectre.Console.Color.Aqua,
        LayoutKind.Unmeasured or LayoutKind.Parameter => Spectre.Console.Color.Yellow,
        LayoutKind.Secrets => Spectre.Console.Color.Red,
        LayoutKind.Cpuid => Spectre.Console.Color.Fuchsia,
        LayoutKind.Vmsa => Spectre.Console.Color.Green,
        _ => Spectre.Console.Color.Grey,
    };

    private static void WriteJson(Utf8JsonWriter writer, ImageFile image, List<LayoutRange> ranges)
    {
        writer.WriteString("file", image.Name);
        writer.WriteString("host", HostFlavourNames.ToName(image.Flavour(null)));
        writer.WriteStartArray("ranges");
        foreach (LayoutRange range in ranges)
        {
            writer.WriteStartObject();
            writer.WriteString("gpa", Units.Hex(range.Gpa));
            writer.WriteNumber("byteLength", range.Length);
            writer.WriteString("kind", range.KindName);
            writer.WriteBoolean("launched", range.IsLaunched);
            writer.WriteBoolean("measured", range.IsMeasured);
            if (range.Rights is not null)
            {
                writer.WriteString("rights", range.RightsText);
            }

            writer.WriteString("name", range.Name);
            writer.WriteEndObject();
        }

        writer.WriteEndArray();
    }
}
