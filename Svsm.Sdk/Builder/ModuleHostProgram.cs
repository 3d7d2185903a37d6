// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using System.Linq;
using System.Text;

namespace Svsm.Builder;

/// <summary>Writes the program that all modules of an image are: C# that makes one of them and serves its requests.</summary>
public static class ModuleHostProgram
{
    /// <summary>Writes the program.</summary>
    /// <param name="typeNames">Classes of the modules, with their namespaces; none twice.</param>
    /// <returns>C#, the same for the same classes in any order.</returns>
    /// <remarks>Which module it is, is the program's first argument; in an image, where there is none, its name (argv[0]). Exit status 127: none of them.</remarks>
    public static string Write(IEnumerable<string> typeNames)
    {
        ArgumentNullException.ThrowIfNull(typeNames);
        var text = new StringBuilder();
        text.Append("// The program of the modules of an image. Made by Svsm.Sdk.\n\n");
        text.Append("internal static class Program\n{\n    private static int Main(string[] args) =>\n");
        text.Append("        (args.Length != 0 ? args[0] : global::System.Environment.GetCommandLineArgs()[0]) switch\n        {\n");
        foreach (string name in typeNames.Order(StringComparer.Ordinal))
        {
            // A part may be a word of the language.
            text.Append("            \"").Append(name).Append("\" => global::Svsm.Core.ModuleHost.Run(static () => new global::");
            text.Append(string.Join('.', name.Split('.').Select(part => "@" + part))).Append("()),\n");
        }

        return text.Append("            _ => 127,\n        };\n}\n").ToString();
    }
}
