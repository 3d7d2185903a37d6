// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using System.Collections.Immutable;
using System.Linq;
using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.Diagnostics;
using Microsoft.CodeAnalysis.Operations;

namespace Svsm.Core.Analyzers;

/// <summary>
/// SVSM5006: what the class library has and a module has not. In a class library with a class that derives from SvsmModule: calls, constructors and properties of
/// the table below, and finalizers. docs/write-a-module.md has the same table for people.
/// </summary>
[DiagnosticAnalyzer(LanguageNames.CSharp)]
public sealed class ModuleLibraryAnalyzer : DiagnosticAnalyzer
{
    private const string Threads = "a module has one thread;the work in the call itself, which may take its time";
    private const string Timers = "a module has one thread, and nothing runs between its calls;the work in the next call";
    private const string Date = "a module has no time of day, and its process ends when it asks for it;Stopwatch or Environment.TickCount64, which only grow";
    private const string Files = "a module has no file system, but for reading the files that the image has for it;File.ReadAllBytes or a FileStream on one of those (SvsmFile), or state in its memory";
    private const string Network = "a module has no network;a guest that calls it";
    private const string Processes = "a module's process is alone;a module of its own for each service";
    private const string Console = "a module has no console;Log, which the module has from SvsmModule";
    private const string Cryptography = "it is OpenSSL's, which no module has;a managed package, such as BouncyCastle.Cryptography";
    private const string Compression = "it is a native library, which no module has;a managed package, such as SharpZipLib";
    private const string Finalizers = "finalizers do not run;Dispose";

    // A type (all of it), or a member; a constructor is .ctor.
    private static readonly Dictionary<string, string> s_table = new()
    {
        ["System.Threading.Thread..ctor"] = Threads,
        ["System.Threading.Thread.Sleep"] = Threads,
        ["System.Threading.ThreadPool"] = Threads,
        ["System.Threading.Tasks.Task.Run"] = Threads,
        ["System.Threading.Tasks.Task.Yield"] = Threads,
        ["System.Threading.Tasks.TaskFactory.StartNew"] = Threads,
        ["System.Threading.Tasks.TaskFactory`1.StartNew"] = Threads,
        ["System.Threading.Tasks.Parallel"] = Threads,
        ["System.Linq.ParallelEnumerable"] = Threads,
        ["System.Threading.Tasks.Task.Delay"] = Timers,
        ["System.Threading.Timer"] = Timers,
        ["System.Threading.PeriodicTimer"] = Timers,
        ["System.Timers.Timer"] = Timers,
        ["System.Threading.CancellationTokenSource.CancelAfter"] = Timers,
        ["System.DateTime.Now"] = Date,
        ["System.DateTime.UtcNow"] = Date,
        ["System.DateTime.Today"] = Date,
        ["System.DateTimeOffset.Now"] = Date,
        ["System.DateTimeOffset.UtcNow"] = Date,
        ["System.TimeProvider.GetUtcNow"] = Date,
        ["System.TimeProvider.GetLocalNow"] = Date,
        ["System.IO.File"] = Files,
        ["System.IO.Directory"] = Files,
        ["System.IO.FileInfo"] = Files,
        ["System.IO.DirectoryInfo"] = Files,
        ["System.IO.FileSystemWatcher"] = Files,
        ["System.Diagnostics.Process"] = Processes,
        ["System.Console"] = Console,
        ["System.GC.WaitForPendingFinalizers"] = Finalizers,
    };

    // Of System.IO.File: what reads, in the call itself.
    private static readonly ImmutableHashSet<string> s_fileReaders = ["Exists", "OpenRead", "OpenText", "OpenHandle", "ReadAllBytes", "ReadAllText", "ReadAllLines", "ReadLines"];

    private static readonly ImmutableHashSet<string> s_managedCryptography =
        ["RandomNumberGenerator", "CryptographicOperations", "CryptographicException", "AuthenticationTagMismatchException", "HashAlgorithmName", "Oid", "KeySizes", "ECPoint"];

    /// <inheritdoc/>
    public override ImmutableArray<DiagnosticDescriptor> SupportedDiagnostics => [Rules.NotInAModule];

    /// <inheritdoc/>
    public override void Initialize(AnalysisContext context)
    {
        context.ConfigureGeneratedCodeAnalysis(GeneratedCodeAnalysisFlags.None);
        context.EnableConcurrentExecution();
        context.RegisterCompilationStartAction(start =>
        {
            // A program that has a module in it is one for the desk: what an image has is a class library.
            if (start.Compilation.Options.OutputKind == OutputKind.DynamicallyLinkedLibrary &&
                start.Compilation.GetTypeByMetadataName("Svsm.Core.SvsmModule") is INamedTypeSymbol module && HasModule(start.Compilation.Assembly.GlobalNamespace, module))
            {
                start.RegisterOperationAction(Analyze, OperationKind.Invocation, OperationKind.ObjectCreation, OperationKind.PropertyReference);
                start.RegisterSymbolAction(AnalyzeMethod, SymbolKind.Method);
            }
        });
    }

    private static bool HasModule(INamespaceOrTypeSymbol container, INamedTypeSymbol module) => container.GetMembers().OfType<INamespaceOrTypeSymbol>().Any(member =>
        (member is INamedTypeSymbol type && DerivesFrom(type, module)) || HasModule(member, module));

    private static bool DerivesFrom(INamedTypeSymbol type, INamedTypeSymbol module)
    {
        for (INamedTypeSymbol? ancestor = type.BaseType; ancestor is not null; ancestor = ancestor.BaseType)
        {
            if (SymbolEqualityComparer.Default.Equals(ancestor.OriginalDefinition, module))
            {
                return true;
            }
        }

        return false;
    }

    private static void Analyze(OperationAnalysisContext context)
    {
        ISymbol? used = context.Operation switch
        {
            IInvocationOperation call => call.TargetMethod,
            IObjectCreationOperation creation => creation.Constructor,
            _ => ((IPropertyReferenceOperation)context.Operation).Property,
        };
        if (used?.ContainingType is INamedTypeSymbol type && Find(type, used) is string entry)
        {
            string name = used.Name == ".ctor" ? type.Name : type.Name + "." + used.Name;
            Report(context.ReportDiagnostic, context.Operation.Syntax.GetLocation(), name, entry);
        }
    }

    private static void AnalyzeMethod(SymbolAnalysisContext context)
    {
        if (context.Symbol is IMethodSymbol { MethodKind: MethodKind.Destructor } finalizer)
        {
            Report(context.ReportDiagnostic, finalizer.Locations[0], "~" + finalizer.ContainingType.Name, Finalizers);
        }
    }

    private static string? Find(INamedTypeSymbol type, ISymbol used)
    {
        string space = type.ContainingNamespace.ToDisplayString();
        string name = space + "." + type.MetadataName;
        return name == "System.IO.File" && s_fileReaders.Contains(used.Name) ? null
            : s_table.TryGetValue(name, out string? entry) || s_table.TryGetValue(name + "." + used.Name, out entry) ? entry
            : space == "System.IO.Compression" && used is IMethodSymbol ? Compression
            : space == "System.Security.Cryptography" && !s_managedCryptography.Contains(type.Name) && used is IMethodSymbol ? Cryptography
            : space.StartsWith("System.Security.Cryptography.X509Certificates", StringComparison.Ordinal) && used is IMethodSymbol ? Cryptography
            : space is "System.Net" or "System.Net.Http" or "System.Net.Sockets" or "System.Net.Security" or "System.Net.NetworkInformation" &&
                type.Name is "Dns" or "HttpClient" or "Socket" or "TcpClient" or "TcpListener" or "UdpClient" or "SslStream" or "NetworkInterface" or "Ping" ? Network
            : null;
    }

    private static void Report(Action<Diagnostic> report, Location location, string name, string entry)
    {
        string[] parts = entry.Split(';');
        report(Diagnostic.Create(Rules.NotInAModule, location, name, parts[0], parts[1]));
    }
}
