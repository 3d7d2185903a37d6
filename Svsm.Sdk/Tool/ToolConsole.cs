// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Where the tool writes: results to the output, everything else to the error output. Colour, and signs of life during long work, only on a
// terminal; without one, lines have no trailing spaces and at most 80 columns where contents allow it.

using System;
using System.IO;
using System.Text;
using System.Text.Json;
using System.Threading.Tasks;
using Spectre.Console;

namespace Svsm.Tool;

internal sealed class ToolConsole
{
    private const int RedirectedWidth = 80;

    private readonly TextWriter _output;
    private readonly bool _outputIsTerminal;
    private readonly bool _errorIsTerminal;
    private readonly int _width;

    public ToolConsole(TextWriter output, TextWriter error, bool outputIsTerminal = false, bool errorIsTerminal = false, int width = RedirectedWidth, TextReader? input = null)
    {
        Input = input ?? TextReader.Null;
        _output = output;
        Error = error;
        _outputIsTerminal = outputIsTerminal;
        _errorIsTerminal = errorIsTerminal;
        // Tables are made for 80 columns; a narrower terminal breaks its lines better than a table breaks its cells.
        _width = Math.Max(width, RedirectedWidth);
    }

    public TextReader Input { get; }

    public TextWriter Output => _output;

    public TextWriter Error { get; }

    public static ToolConsole ForProcess()
    {
        // NO_COLOR is honoured by Spectre.Console itself.
        bool terminal = !Console.IsOutputRedirected;
        return new ToolConsole(Console.Out, Console.Error, terminal, !Console.IsErrorRedirected, terminal ? Console.WindowWidth : RedirectedWidth, Console.In);
    }

    /// <summary>Writes text and tables.</summary>
    public void Write(Action<IAnsiConsole> write)
    {
        if (_outputIsTerminal)
        {
            IAnsiConsole terminal = AnsiConsole.Create(new AnsiConsoleSettings { Out = new AnsiConsoleOutput(_output) });
            terminal.Profile.Width = _width;
            write(terminal);
            return;
        }

        var text = new StringWriter { NewLine = "\n" };
        IAnsiConsole plain = AnsiConsole.Create(new AnsiConsoleSettings
        {
            Ansi = AnsiSupport.No,
            ColorSystem = ColorSystemSupport.NoColors,
            Interactive = InteractionSupport.No,
            Out = new AnsiConsoleOutput(text),
        });
        plain.Profile.Width = _width;
        write(plain);
        foreach (string line in text.ToString().Split('\n')[..^1])
        {
            _output.Write(line.TrimEnd());
            _output.Write('\n');
        }
    }

    /// <summary>Writes one JSON object.</summary>
    public void WriteJson(Action<Utf8JsonWriter> write)
    {
        using var stream = new MemoryStream();
        using (var writer = new Utf8JsonWriter(stream, new JsonWriterOptions { Indented = true, NewLine = "\n" }))
        {
            writer.WriteStartObject();
            write(writer);
            writer.WriteEndObject();
        }

        _output.Write(Encoding.UTF8.GetString(stream.GetBuffer().AsSpan(0, (int)stream.Length)));
        _output.Write('\n');
    }

    /// <summary>Writes what became of a file: a line for each property, or one JSON object.</summary>
    public void Report(bool json, string path, (string Name, string Value)[] texts, (string Name, long Value)[] numbers)
    {
        if (json)
        {
            WriteJson(writer =>
            {
                writer.WriteString("file", Path.GetFileName(path));
                foreach ((string name, string value) in texts)
                {
                    writer.WriteString(name, value);
                }

                foreach ((string name, long value) in numbers)
                {
                    writer.WriteNumber(name, value);
                }
            });
            return;
        }

        _output.Write($"file {path}\n");
        foreach ((string name, string value) in texts)
        {
            _output.Write($"{name} {value}\n");
        }

        foreach ((string name, long value) in numbers)
        {
            _output.Write($"{name} {Units.Number(value)}\n");
        }
    }

    /// <summary>Does something that can take a second, and shows on a terminal that it does.</summary>
    public T Work<T>(string what, Func<T> work)
    {
        if (!_errorIsTerminal)
        {
            return work();
        }

        IAnsiConsole terminal = AnsiConsole.Create(new AnsiConsoleSettings { Out = new AnsiConsoleOutput(Error) });
        return terminal.Status().Start(what, _ => work());
    }

    /// <summary>Does something that takes its time, and says how far it is.</summary>
    /// <param name="what">What it does at first.</param>
    /// <param name="work">Gets what writes a line, and what changes the live line: null without a terminal.</param>
    public async Task<T> FollowAsync<T>(string what, Func<Action<string>, Action<string>?, Task<T>> work)
    {
        if (!_errorIsTerminal)
        {
            TextWriter log = TextWriter.Synchronized(Error);
            return await work(log.WriteLine, null).ConfigureAwait(false);
        }

        IAnsiConsole terminal = AnsiConsole.Create(new AnsiConsoleSettings { Out = new AnsiConsoleOutput(Error) });
        return await terminal.Status().StartAsync(
            what, context => work(line => terminal.WriteLine(line), status => context.Status = Markup.Escape(status))).ConfigureAwait(false);
    }

    /// <summary>A table without lines.</summary>
    public static Table NewTable(params ReadOnlySpan<string> columns)
    {
        var table = new Table().Border(TableBorder.None);
        foreach (string column in columns)
        {
            bool right = column.StartsWith('>');
            var header = new TableColumn(new Text(right ? column[1..] : column, new Style(decoration: Decoration.Dim))).NoWrap();
            header.PadLeft(0).PadRight(2);
            table.AddColumn(right ? header.RightAligned() : header);
        }

        table.Columns[^1].NoWrap = false;
        table.Columns[^1].PadRight(0);
        return table;
    }

    /// <summary>Adds a row of plain text.</summary>
    public static void AddRow(Table table, params ReadOnlySpan<string> cells)
    {
        var texts = new Text[cells.Length];
        for (int i = 0; i < cells.Length; i++)
        {
            texts[i] = new Text(cells[i]);
        }

        table.AddRow(texts);
    }
}
