// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Finds calls of native functions that the program of modules does not have. For the tasks of the SDK.
//
// What the program has is compiled as a direct call. For every other function the compiler makes a cell that looks for a shared library when
// it is first called, and there are no shared libraries in a module's process. The compiler's map lists the cells:
//
//   <PInvokeMethodFixup Name="__pinvoke_ASSEMBLY__Module__LIBRARY[_FLAGS]__FUNCTION" ... />
//
// with every character of a name that is no letter or digit as '_'. Who needs a cell is told by the compiler's graph of dependencies (DGML), which
// is made when there is something to explain: nodes, and links from what needs to what is needed.

using System;
using System.Collections.Generic;
using System.Collections.Immutable;
using System.IO;
using System.Linq;
using System.Reflection.Metadata;
using System.Reflection.PortableExecutable;
using System.Text;
using System.Xml;
using System.Xml.Linq;

namespace Svsm.Builder;

/// <summary>A call of a native function that the program does not have.</summary>
/// <param name="Symbol">The cell, as the compiler's files name it.</param>
/// <param name="Assembly">The assembly that declares the function; '_' for other characters than letters and digits if it is not a known one.</param>
/// <param name="Library">The library that the function is in.</param>
/// <param name="Function">The function.</param>
public sealed record ModuleNativeCall(string Symbol, string Assembly, string Library, string Function);

/// <summary>Finds calls of native functions that the program of modules does not have.</summary>
public static class ModuleNativeCalls
{
    private const string Prefix = "__pinvoke_";
    private const string Separator = "__Module__";
    private const string TentativePrefix = "Tentative instance method: ";

    /// <summary>Finds the calls.</summary>
    /// <param name="map">The compiler's map of the program.</param>
    /// <param name="assemblies">Paths of all assemblies that it was compiled from.</param>
    /// <returns>The calls, sorted.</returns>
    /// <exception cref="XmlException">The map is damaged.</exception>
    public static ImmutableArray<ModuleNativeCall> Find(Stream map, IReadOnlyCollection<string> assemblies)
    {
        ArgumentNullException.ThrowIfNull(map);
        Dictionary<string, string> names = assemblies.Select(Path.GetFileNameWithoutExtension).Distinct().ToDictionary(name => Mangle(name!))!;
        var calls = new List<ModuleNativeCall>();
        using XmlReader reader = XmlReader.Create(map);
        while (reader.ReadToFollowing("PInvokeMethodFixup"))
        {
            string symbol = reader.GetAttribute("Name") ?? "";
            int module = symbol.IndexOf(Separator, StringComparison.Ordinal);
            if (!symbol.StartsWith(Prefix, StringComparison.Ordinal) || module < 0)
            {
                throw new XmlException($"'{symbol}' is not the name of a native call.");
            }

            string assembly = symbol[Prefix.Length..module];
            string rest = symbol[(module + Separator.Length)..];
            int function = rest.IndexOf("__", StringComparison.Ordinal);
            string library = function < 0 ? rest : rest[..function];
            calls.Add(new ModuleNativeCall(
                symbol, names.GetValueOrDefault(assembly, assembly), WithoutFlags(library), function < 0 ? "" : rest[(function + 2)..]));
        }

        return [.. calls.OrderBy(call => call.Symbol, StringComparer.Ordinal)];
    }

    /// <summary>Finds out by which methods a call is reached.</summary>
    /// <param name="graph">The compiler's graph of dependencies.</param>
    /// <param name="call">The call.</param>
    /// <param name="modules">Paths of the assemblies that are not the class library's.</param>
    /// <param name="assemblies">Paths of all assemblies.</param>
    /// <returns>Method of a module, and the method of another assembly that it calls, as Namespace.Type.Method; null where that is not known.</returns>
    /// <exception cref="XmlException">The graph is damaged.</exception>
    public static (string? Caller, string? Called) Explain(
        XDocument graph, ModuleNativeCall call, IReadOnlyCollection<string> modules, IReadOnlyCollection<string> assemblies)
    {
        ArgumentNullException.ThrowIfNull(graph);
        ArgumentNullException.ThrowIfNull(call);
        XNamespace space = graph.Root?.Name.Namespace ?? XNamespace.None;
        Dictionary<string, string> labels = graph.Descendants(space + "Node").ToDictionary(node => (string)node.Attribute("Id")!, node => (string)node.Attribute("Label")!);
        ILookup<string, string> needers = graph.Descendants(space + "Link").ToLookup(link => (string)link.Attribute("Target")!, link => (string)link.Attribute("Source")!);
        string[] prefixes = [.. modules.Select(path => Mangle(Path.GetFileNameWithoutExtension(path)) + "_")];

        // Backwards from the cell, the shortest way to a method of a module.
        var next = new Dictionary<string, string>();
        var queue = new Queue<string>();
        foreach ((string id, string label) in labels)
        {
            if (label == call.Symbol)
            {
                queue.Enqueue(id);
                next.Add(id, "");
            }
        }

        // The declaration of the function may be a module's own: then its caller is what counts, if there is one.
        string? declaration = null;
        while (queue.TryDequeue(out string? id))
        {
            string label = labels[id];
            if (prefixes.Any(prefix => label.StartsWith(prefix, StringComparison.Ordinal)))
            {
                string called = labels[next[id]];
                if (called != call.Symbol)
                {
                    return (Demangle(label, modules), Demangle(called, assemblies));
                }

                declaration ??= label;
            }

            foreach (string needer in needers[id])
            {
                if (labels.ContainsKey(needer) && next.TryAdd(needer, id))
                {
                    queue.Enqueue(needer);
                }
            }
        }

        return (declaration is null ? null : Demangle(declaration, modules), null);
    }

    // The same letters and digits that the compiler leaves as they are.
    internal static string Mangle(string name)
    {
        var text = new StringBuilder(name.Length);
        foreach (char c in name)
        {
            text.Append(char.IsAsciiLetterOrDigit(c) ? c : '_');
        }

        // The compiler's own abbreviation, for the assemblies of the class library that no program can do without.
        return text.ToString().StartsWith("System_Private_", StringComparison.Ordinal) ? "S_P_" + text.ToString()["System_Private_".Length..] : text.ToString();
    }

    // libcrypto_2050: the flags of DefaultDllImportSearchPaths, which are a number.
    private static string WithoutFlags(string library)
    {
        int flags = library.LastIndexOf('_');
        return flags > 0 && flags < library.Length - 1 && library[(flags + 1)..].All(char.IsAsciiDigit) ? library[..flags] : library;
    }

    private static string? Demangle(string label, IReadOnlyCollection<string> paths)
    {
        // A method of an object of which the compiler did not know at once whether there is one.
        label = label.StartsWith(TentativePrefix, StringComparison.Ordinal) ? label[TentativePrefix.Length..] : label;
        foreach (string path in paths)
        {
            string assembly = Mangle(Path.GetFileNameWithoutExtension(path)) + "_";
            if (label.StartsWith(assembly, StringComparison.Ordinal) && FindMethod(path, label[assembly.Length..]) is string name)
            {
                return name;
            }
        }

        return null;
    }

    // NAMESPACE_TYPE__METHOD, and a number behind it where there are several. Generic ones have more in angle brackets' place; they stay unknown.
    private static string? FindMethod(string path, string label)
    {
        try
        {
            using var file = new PEReader(File.OpenRead(path));
            MetadataReader reader = file.GetMetadataReader();
            string? found = null;
            foreach (TypeDefinitionHandle handle in reader.TypeDefinitions)
            {
                TypeDefinition type = reader.GetTypeDefinition(handle);
                string name = FullName(reader, type);
                string prefix = Mangle(name) + "__";
                if (!label.StartsWith(prefix, StringComparison.Ordinal))
                {
                    continue;
                }

                foreach (MethodDefinitionHandle method in type.GetMethods())
                {
                    string methodName = reader.GetString(reader.GetMethodDefinition(method).Name);
                    string rest = label[prefix.Length..];
                    string mangled = Mangle(methodName);
                    if (rest == mangled || (rest.StartsWith(mangled + "_", StringComparison.Ordinal) && rest[(mangled.Length + 1)..].All(char.IsAsciiDigit)))
                    {
                        found = $"{name}.{methodName}";
                    }
                }
            }

            return found;
        }
        catch (Exception exception) when (exception is IOException or BadImageFormatException or InvalidOperationException or UnauthorizedAccessException)
        {
            return null;
        }
    }

    private static string FullName(MetadataReader reader, TypeDefinition type)
    {
        string name = reader.GetString(type.Name);
        for (; type.IsNested; name = reader.GetString(type.Name) + "." + name)
        {
            type = reader.GetTypeDefinition(type.GetDeclaringType());
        }

        string space = reader.GetString(type.Namespace);
        return space.Length == 0 ? name : space + "." + name;
    }
}
