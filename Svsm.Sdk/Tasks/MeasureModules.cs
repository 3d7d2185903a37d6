// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Text;
using System.Xml;
using Microsoft.Build.Framework;
using Svsm.Builder;
using Svsm.Diagnostics;

namespace Svsm.Sdk.Tasks;

/// <summary>Writes down how large the program of modules is, and what of it is compiled from which assembly.</summary>
public sealed class MeasureModules : SvsmTask
{
    /// <summary>The program.</summary>
    [Required]
    public string ModuleProgram { get; set; } = "";

    /// <summary>The compiler's map of the program.</summary>
    [Required]
    public string MapFile { get; set; } = "";

    /// <summary>The assemblies that the program is compiled from, without the class library.</summary>
    [Required]
    public string[] Assemblies { get; set; } = [];

    /// <summary>The file to write: one line, for the build's log too.</summary>
    [Required]
    public string OutputFile { get; set; } = "";

    /// <inheritdoc/>
    protected override void Run()
    {
        try
        {
            ulong length = (ulong)new FileInfo(ModuleProgram).Length;
            using FileStream map = File.OpenRead(MapFile);
            var text = new StringBuilder();
            text.Append(CultureInfo.InvariantCulture, $"modules: {length} bytes");
            text.AppendJoin("", Builder.ModuleProgram.Measure(length, map, Assemblies).Select((part, index) =>
                string.Create(CultureInfo.InvariantCulture, $"{(index == 0 ? ": " : ", ")}{(part.Name.Length == 0 ? "runtime, class library and data" : part.Name)} {part.Length}")));
            File.WriteAllText(OutputFile, text.Append('\n').ToString());
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException or XmlException)
        {
            throw SvsmDiagnostics.ImageFileFailed.Error($"'{ModuleProgram}', '{MapFile}', '{OutputFile}': {exception.Message}", "files that can be read and written", exception);
        }
    }
}
