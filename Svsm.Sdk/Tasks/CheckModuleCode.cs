// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Immutable;
using System.IO;
using System.Linq;
using System.Xml;
using System.Xml.Linq;
using Microsoft.Build.Framework;
using Svsm.Builder;
using Svsm.Diagnostics;

namespace Svsm.Sdk.Tasks;

/// <summary>
/// Looks for native code that the program of modules would need and cannot have. Runs twice when there is some: to find it, and, with the graph that the
/// compiler makes for the second run only, to tell who reaches it.
/// </summary>
public sealed class CheckModuleCode : SvsmTask
{
    private const int NamedFunctions = 3;

    /// <summary>The compiler's map of the program.</summary>
    [Required]
    public string MapFile { get; set; } = "";

    /// <summary>The compiler's graph of dependencies, or nothing: the first run.</summary>
    public string GraphFile { get; set; } = "";

    /// <summary>The assemblies that the program is compiled from, without the class library.</summary>
    [Required]
    public string[] Assemblies { get; set; } = [];

    /// <summary>The class library.</summary>
    [Required]
    public string[] ClassLibrary { get; set; } = [];

    /// <summary>Number of native functions that were found.</summary>
    [Output]
    public int Count { get; private set; }

    /// <inheritdoc/>
    protected override void Run()
    {
        try
        {
            string[] all = [.. Assemblies, .. ClassLibrary];
            using FileStream map = File.OpenRead(MapFile);
            ImmutableArray<ModuleNativeCall> calls = ModuleNativeCalls.Find(map, all);
            Count = calls.Length;
            if (GraphFile.Length != 0)
            {
                Explain(calls, XDocument.Load(GraphFile), all);
            }
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException or XmlException)
        {
            throw SvsmDiagnostics.ModuleCompilationFailed.Error($"'{MapFile}' or '{GraphFile}': {exception.Message}", "the files that the compiler writes", exception);
        }
    }

    // One message for each way into a library: OpenSSL's functions come by the dozen.
    private void Explain(ImmutableArray<ModuleNativeCall> calls, XDocument graph, string[] all)
    {
        foreach (var group in calls
            .Select(call => (Call: call, Way: ModuleNativeCalls.Explain(graph, call, Assemblies, all)))
            .GroupBy(found => (found.Way.Caller, found.Way.Called, found.Call.Assembly, found.Call.Library)))
        {
            string functions = string.Join(", ", group.Select(found => found.Call.Function).Take(NamedFunctions)) + (group.Count() > NamedFunctions ? $" and {group.Count() - NamedFunctions} more" : "");
            string way = group.Key.Caller is null ? "" : group.Key.Caller + (group.Key.Called is null ? "" : $" calls {group.Key.Called}") + ", and ";
            Error(
                SvsmDiagnostics.NativeCodeReached, $"{way}{group.Key.Assembly} needs {functions} of the native library '{group.Key.Library}'",
                group.Key.Library.Contains("Cryptography", StringComparison.Ordinal) ? "a managed package, such as BouncyCastle.Cryptography"
                    : group.Key.Library.Contains("IO_Compression", StringComparison.Ordinal) ? "a managed package, such as SharpZipLib"
                    : "managed code");
        }
    }
}
