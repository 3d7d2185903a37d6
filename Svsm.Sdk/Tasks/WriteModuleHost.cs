// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Immutable;
using System.IO;
using System.Linq;
using Microsoft.Build.Framework;
using Svsm.Builder;
using Svsm.Diagnostics;

namespace Svsm.Sdk.Tasks;

/// <summary>Checks the modules of an image, and writes the program that they are.</summary>
public sealed class WriteModuleHost : SvsmTask
{
    /// <summary>The modules (items SvsmModule).</summary>
    [Required]
    public ITaskItem[] Modules { get; set; } = [];

    /// <summary>The assemblies that the program is compiled from, without the class library.</summary>
    [Required]
    public string[] Assemblies { get; set; } = [];

    /// <summary>The C# file to write.</summary>
    [Required]
    public string OutputFile { get; set; } = "";

    /// <inheritdoc/>
    protected override void Run()
    {
        ImmutableArray<ModuleOptions> modules = ModuleItems.Read(Modules, Assemblies);
        try
        {
            File.WriteAllText(OutputFile, ModuleHostProgram.Write(modules.Select(module => module.TypeName)));
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            throw SvsmDiagnostics.ImageFileFailed.Error($"'{OutputFile}': {exception.Message}", "a file that can be written", exception);
        }
    }
}
