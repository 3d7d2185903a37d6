// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The map as SVG: one column of memory, low addresses on top. Heights grow with the logarithm of sizes, or else one page would not be seen
// beside a region of 4096; every row has room for its line of text, so that nothing overlaps. Unused memory is a gap with a torn edge.

using System;
using System.Collections.Generic;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Numerics;
using System.Xml;

namespace Svsm.Tool.Commands;

internal static class MapDrawing
{
    private const string Namespace = "http://www.w3.org/2000/svg";
    private const int Width = 860;
    private const int Margin = 28;
    private const int BarLeft = 190;
    private const int BarWidth = 190;
    private const int RowHeight = 22;
    private const int GapHeight = 34;
    private const string Ink = "#22272e";
    private const string Faint = "#6b7480";

    private static readonly (LayoutKind Kind, string Fill, string Legend)[] s_kinds =
    [
        (LayoutKind.Data, "#3f72af", "contents, measured"),
        (LayoutKind.Zero, "#a8c5e6", "zeroes, measured"),
        (LayoutKind.Vmsa, "#3c9d74", "registers, measured"),
        (LayoutKind.Parameter, "#f0b849", "written by the host"),
        (LayoutKind.Unmeasured, "#f5d796", "contents, not measured"),
        (LayoutKind.Cpuid, "#8d6bb5", "CPUID page"),
        (LayoutKind.Secrets, "#c8553d", "secrets page"),
        (LayoutKind.Required, "url(#free)", "not launched"),
    ];

    public static string Draw(string title, List<LayoutRange> ranges)
    {
        var text = new StringWriter(CultureInfo.InvariantCulture) { NewLine = "\n" };
        using (var svg = XmlWriter.Create(text, new XmlWriterSettings { Indent = true, NewLineChars = "\n", OmitXmlDeclaration = true }))
        {
            int legendRows = (s_kinds.Length + 3) / 4;
            int top = 108 + (legendRows * 24);
            int height = top + Rows(ranges).Sum(row => row.Height) + 58;
            svg.WriteStartElement("svg", Namespace);
            Attributes(svg, ("width", Width), ("height", height), ("viewBox", $"0 0 {Width} {height}"), ("font-family", "DejaVu Sans, Verdana, sans-serif"), ("font-size", 13), ("fill", Ink));
            WritePattern(svg);
            Element(svg, "rect", ("width", Width), ("height", height), ("fill", "#ffffff"));
            Label(svg, Margin, 40, title, ("font-size", 19), ("font-weight", "bold"));
            Label(svg, Margin, 64, MapCommand.Sums(ranges), ("fill", Faint));
            WriteLegend(svg, 84);
            WriteRows(svg, top, ranges);
            Label(svg, Margin, height - 24, "Heights grow with the logarithm of the size. Rights are those of the image's own page tables.", ("fill", Faint), ("font-size", 11));
            svg.WriteEndElement();
        }

        text.Write('\n');
        return text.ToString();
    }

    private static IEnumerable<(LayoutRange? Range, ulong Gap, int Height)> Rows(List<LayoutRange> ranges)
    {
        ulong end = ranges.Count == 0 ? 0 : ranges[0].Gpa;
        foreach (LayoutRange range in ranges)
        {
            if (range.Gpa > end)
            {
                yield return (null, range.Gpa - end, GapHeight);
            }

            yield return (range, 0, RowHeight + (5 * BitOperations.Log2(Math.Max(1, range.Length / 4096))));
            end = Math.Max(end, range.Gpa + range.Length);
        }
    }

    private static void WriteRows(XmlWriter svg, int y, List<LayoutRange> ranges)
    {
        foreach ((LayoutRange? range, ulong gap, int height) in Rows(ranges))
        {
            int middle = y + (height / 2) + 5;
            if (range is null)
            {
                WriteGap(svg, y, gap);
            }
            else
            {
                string fill = s_kinds.First(kind => kind.Kind == range.Kind).Fill;
                Element(svg, "rect", ("x", BarLeft), ("y", y), ("width", BarWidth), ("height", height), ("fill", fill), ("stroke", Ink), ("stroke-width", 0.8));
                Label(svg, BarLeft - 12, y + 15, Units.Address(range.Gpa), ("text-anchor", "end"), ("font-family", "DejaVu Sans Mono, monospace"), ("font-size", 12), ("fill", Faint));
                Label(svg, BarLeft + BarWidth + 16, middle, range.Name);
                Label(svg, 660, middle, Units.Size(range.Length), ("text-anchor", "end"));
                Label(svg, 684, middle, range.RightsText, ("font-family", "DejaVu Sans Mono, monospace"), ("font-size", 12));
                Label(svg, 730, middle, range.KindName, ("fill", Faint));
            }

            y += height;
        }
    }

    private static void WriteGap(XmlWriter svg, int y, ulong length)
    {
        foreach (int edge in (ReadOnlySpan<int>)[y + 6, y + GapHeight - 6])
        {
            string path = $"M {BarLeft} {edge}";
            for (int step = 1; step <= 19; step++)
            {
                path += string.Create(CultureInfo.InvariantCulture, $" L {BarLeft + (step * 10)} {edge + (step % 2 == 0 ? 0 : step % 4 == 1 ? -3 : 3)}");
            }

            Element(svg, "path", ("d", path), ("fill", "none"), ("stroke", "#b6bdc6"), ("stroke-width", 1));
        }

        Label(svg, BarLeft + (BarWidth / 2), y + (GapHeight / 2) + 4, $"{Units.Size(length)} not used", ("text-anchor", "middle"), ("fill", Faint), ("font-size", 11));
    }

    private static void WriteLegend(XmlWriter svg, int y)
    {
        for (int i = 0; i < s_kinds.Length; i++)
        {
            int x = Margin + (i % 4 * 202);
            int top = y + (i / 4 * 24);
            Element(svg, "rect", ("x", x), ("y", top), ("width", 18), ("height", 14), ("fill", s_kinds[i].Fill), ("stroke", Ink), ("stroke-width", 0.8));
            Label(svg, x + 26, top + 12, s_kinds[i].Legend, ("font-size", 12));
        }
    }

    private static void WritePattern(XmlWriter svg)
    {
        svg.WriteStartElement("defs", Namespace);
        svg.WriteStartElement("pattern", Namespace);
        Attributes(svg, ("id", "free"), ("width", 8), ("height", 8), ("patternUnits", "userSpaceOnUse"), ("patternTransform", "rotate(45)"));
        Element(svg, "rect", ("width", 8), ("height", 8), ("fill", "#f4f6f8"));
        Element(svg, "line", ("x1", 0), ("y1", 0), ("x2", 0), ("y2", 8), ("stroke", "#cfd6de"), ("stroke-width", 3));
        svg.WriteEndElement();
        svg.WriteEndElement();
    }

    private static void Label(XmlWriter svg, int x, int y, string text, params ReadOnlySpan<(string Name, object Value)> attributes)
    {
        if (text.Length == 0)
        {
            return;
        }

        svg.WriteStartElement("text", Namespace);
        Attributes(svg, ("x", x), ("y", y));
        Attributes(svg, attributes);

        // A file name can contain what XML cannot.
        svg.WriteString(string.Concat(text.Select(c => XmlConvert.IsXmlChar(c) ? c : '?')));
        svg.WriteEndElement();
    }

    private static void Element(XmlWriter svg, string name, params ReadOnlySpan<(string Name, object Value)> attributes)
    {
        svg.WriteStartElement(name, Namespace);
        Attributes(svg, attributes);
        svg.WriteEndElement();
    }

    private static void Attributes(XmlWriter svg, params ReadOnlySpan<(string Name, object Value)> attributes)
    {
        foreach ((string name, object value) in attributes)
        {
            svg.WriteAttributeString(name, Convert.ToString(value, CultureInfo.InvariantCulture));
        }
    }
}
