// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Puts the bytes of all consoles together into lines, shows each line with its source in front, and keeps it for the result.
// A line is shown when it is complete, so that sources do not tear each other's lines apart. The vCPUs of a guest are one source, as they have one UART:
// Linux begins a line on the vCPU that writes and goes on with it on the one that gets the UART's interrupt. The line is shown as the first one's.
// Each vCPU of an SVSM is a source: it writes lines as a whole, and in a panic of several CPUs all at once.

using System;
using System.Collections.Generic;
using System.Collections.Immutable;
using System.Globalization;
using System.IO;
using System.Text;

namespace Svsm.Simulator;

internal sealed class ConsoleCollector
{
    // A line that is longer is cut: memory stays bounded, and nobody reads such a line.
    public const int MaxLineLength = 4096;

    // Characters that are kept for the result, each line counted with its overhead.
    public const int MaxKept = 16 * 1024 * 1024;

    private const int LineOverhead = 64;

    private readonly Dictionary<ConsoleSource, Source> _sources = [];
    private readonly ImmutableArray<ConsoleLine>.Builder _lines = ImmutableArray.CreateBuilder<ConsoleLine>();
    private readonly TextWriter? _output;
    private readonly SymbolMap _symbols;
    private readonly bool _showVcpu;
    private readonly bool _hasSvsm;
    private int _kept;

    // hasSvsm: an SVSM is at VMPL0, not the guest.
    public ConsoleCollector(TextWriter? output, SymbolMap symbols, bool showVcpu, bool hasSvsm)
    {
        _output = output;
        _symbols = symbols;
        _showVcpu = showVcpu;
        _hasSvsm = hasSvsm;
    }

    // Called for each line, on the thread that writes.
    public Action<ConsoleLine>? LineCompleted { get; set; }

    public bool Truncated { get; private set; }

    public ImmutableArray<ConsoleLine> Lines => _lines.ToImmutable();

    // The caller bounds the number of sources.
    public void Write(ConsoleSource from, ReadOnlySpan<byte> bytes)
    {
        ConsoleSource uart = from == ConsoleSource.Host || (_hasSvsm && from.Vmpl == 0) ? from : new ConsoleSource(0, from.Vmpl);
        if (!_sources.TryGetValue(uart, out Source? source))
        {
            _sources.Add(uart, source = new Source());
        }

        Span<char> characters = stackalloc char[512];
        while (!bytes.IsEmpty)
        {
            source.Decoder.Convert(bytes, characters, flush: false, out int bytesUsed, out int charactersUsed, out _);
            bytes = bytes[bytesUsed..];
            foreach (char character in characters[..charactersUsed])
            {
                if (source.Line.Length == 0)
                {
                    source.From = from;
                }

                if (character == '\n')
                {
                    Complete(source);
                }
                else
                {
                    // A character of two code units stays whole.
                    if (source.Line.Length >= MaxLineLength && !char.IsLowSurrogate(character))
                    {
                        Complete(source);
                        source.From = from;
                    }

                    source.Line.Append(character);
                }
            }
        }
    }

    // The end of the run: unfinished lines are shown as they are.
    public void Flush()
    {
        foreach (Source source in _sources.Values)
        {
            if (source.Line.Length != 0)
            {
                Complete(source, isUnfinished: true);
            }
        }
    }

    private void Complete(Source source, bool isUnfinished = false)
    {
        ConsoleSource from = source.From;
        if (source.Line.Length != 0 && source.Line[^1] == '\r')
        {
            source.Line.Length--;
        }

        string text = source.Line.ToString();
        source.Line.Clear();
        if (from.Vmpl == 0)
        {
            text = _symbols.Annotate(text);
        }

        var line = new ConsoleLine(from, text) { IsUnfinished = isUnfinished };
        if (text.Length + LineOverhead > MaxKept - _kept)
        {
            Truncated = true;
        }
        else
        {
            _kept += text.Length + LineOverhead;
            _lines.Add(line);
        }

        _output?.WriteLine(Prefix(from) + MakeVisible(text));
        LineCompleted?.Invoke(line);
    }

    private string Prefix(ConsoleSource from) =>
        from == ConsoleSource.Host ? "[host] "
        : _showVcpu ? string.Create(CultureInfo.InvariantCulture, $"[cpu{from.Vcpu} vmpl{from.Vmpl}] ")
        : string.Create(CultureInfo.InvariantCulture, $"[vmpl{from.Vmpl}] ");

    // A guest is untrusted: what it writes must not move the cursor over another source's lines.
    private static string MakeVisible(string text)
    {
        int first = text.AsSpan().IndexOfAnyInRange('\0', '\x1F');
        if (first < 0 && text.AsSpan().IndexOfAnyInRange('\x7F', '\x9F') < 0)
        {
            return text;
        }

        return string.Create(text.Length, text, static (span, from) =>
        {
            for (int i = 0; i < span.Length; i++)
            {
                char character = from[i];
                span[i] = character switch
                {
                    '\t' => '\t',
                    < ' ' => (char)('\u2400' + character),
                    '\x7F' => '\u2421',
                    >= '\x80' and <= '\x9F' => '\uFFFD',
                    _ => character,
                };
            }
        });
    }

    private sealed class Source
    {
        public Decoder Decoder { get; } = Encoding.UTF8.GetDecoder();

        public StringBuilder Line { get; } = new();

        // Who began the line.
        public ConsoleSource From { get; set; }
    }
}
