// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Immutable;
using System.IO;
using System.Linq;
using System.Threading.Tasks;
using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.CSharp;
using Microsoft.CodeAnalysis.Diagnostics;
using Xunit;

namespace Svsm.Analyzers.Tests;

/// <summary>Compiles C# and runs an analyzer over it.</summary>
internal static class Snippet
{
    private static readonly string[] s_references =
    [
        "System.Private.CoreLib.dll", "System.Runtime.dll", "System.Memory.dll", "System.Collections.dll", "System.Collections.Concurrent.dll", "System.Console.dll", "System.Linq.dll", "System.Linq.Parallel.dll",
        "System.Threading.dll", "System.Threading.Tasks.Parallel.dll", "System.Net.Sockets.dll", "System.Net.Primitives.dll", "System.Security.Cryptography.dll", "System.IO.Compression.dll",
        "System.Diagnostics.Process.dll", "System.ComponentModel.Primitives.dll",
    ];

    private const string Common = """
        using System;
        [AttributeUsage(AttributeTargets.Struct)] sealed class OwnerAttribute : Attribute;
        sealed class BootAttribute : Attribute;
        sealed class SecretAttribute : Attribute;
        enum Result { Fine, Bad }
        [Owner] struct Thing : IDisposable
        {
            public int Value;
            public static Result Create(out Thing thing) { thing = default; return Result.Fine; }
            public readonly bool IsEmpty => Value == 0;
            public static bool TryCreate(out Thing thing) { thing = default; return true; }
            public static Thing Make() => default;
            public Thing Move() => this;
            public void Dispose() { }
        }

        """;

    /// <summary>Codes of what the analyzer says, each with the line of the snippet, "SVSM5001@2", in order.</summary>
    /// <param name="code">Members of a class. It must compile.</param>
    /// <param name="typeComment">A comment line inside the class, before the members.</param>
    /// <param name="types">Other types, whole lines.</param>
    public static async Task<string> AnalyzeAsync<TAnalyzer>(string code, string typeComment = "", string types = "")
        where TAnalyzer : DiagnosticAnalyzer, new()
    {
        string head = Common + types + "static unsafe class Program\n{\n" + (typeComment.Length == 0 ? "" : typeComment + "\n");
        int firstLine = head.Count(character => character == '\n');
        string folder = Path.GetDirectoryName(typeof(object).Assembly.Location)!;
        CSharpCompilation compilation = CSharpCompilation.Create(
            "Snippet",
            [CSharpSyntaxTree.ParseText(head + code + "\n}\n", new CSharpParseOptions(LanguageVersion.CSharp14), cancellationToken: TestContext.Current.CancellationToken)],
            [.. s_references.Select(name => MetadataReference.CreateFromFile(Path.Combine(folder, name)))],
            new CSharpCompilationOptions(OutputKind.DynamicallyLinkedLibrary, allowUnsafe: true));
        Assert.Empty(compilation.GetDiagnostics(TestContext.Current.CancellationToken).Where(diagnostic => diagnostic.Severity == DiagnosticSeverity.Error).Select(diagnostic => diagnostic.ToString()));
        ImmutableArray<Diagnostic> found = await compilation
            .WithAnalyzers([new TAnalyzer()], new AnalyzerOptions([]))
            .GetAnalyzerDiagnosticsAsync(TestContext.Current.CancellationToken);
        Assert.All(found, diagnostic => Assert.EndsWith($" See docs/errors/{diagnostic.Id}.md.", diagnostic.GetMessage(System.Globalization.CultureInfo.InvariantCulture), StringComparison.Ordinal));
        return string.Join(' ', found
            .OrderBy(diagnostic => diagnostic.Location.SourceSpan.Start)
            .Select(diagnostic => $"{diagnostic.Id}@{diagnostic.Location.GetLineSpan().StartLinePosition.Line - firstLine + 1}"));
    }
}
