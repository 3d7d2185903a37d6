// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using Microsoft.CodeAnalysis;

namespace Svsm.Core.Analyzers;

/// <summary>What the analyzers report. Each rule has a page under docs/errors.</summary>
internal static class Rules
{
    /// <summary>A result that nobody looks at.</summary>
    public static readonly DiagnosticDescriptor IgnoredResult = Make(
        "SVSM5001", "A result is ignored", "'{0}' returns {1}, and nobody looks at it; wanted is a decision on it. Test the result, or write '_ =' and say why.");

    /// <summary>An owner that nobody disposes of.</summary>
    public static readonly DiagnosticDescriptor OwnerLeaks = Make(
        "SVSM5002", "An owner is neither disposed nor handed on", "'{0}' of type {1} is neither; wanted is one of the two. Declare it with 'using', call Dispose, Move or Release, return it, or pass it on.");

    /// <summary>An allocation of the runtime's heap.</summary>
    public static readonly DiagnosticDescriptor ClassAllocation = Make(
        "SVSM5003", "An object is allocated outside of boot", "This allocates {0}, which is never freed; wanted is a value, or an owner of memory from an allocator. Mark the method [Boot] if it runs once while booting.");

    /// <summary>Pointers without a reason.</summary>
    public static readonly DiagnosticDescriptor UnsafeWithoutSafety = Make(
        "SVSM5004", "Unsafe code does not say why it is safe", "'{0}' uses pointers without a comment 'SAFETY:'; wanted is one that says what makes it safe. Write it above the code, above the member, or once for the type: 'SAFETY (whole class):'.");

    /// <summary>A comparison that takes as long as the secrets are alike.</summary>
    public static readonly DiagnosticDescriptor SecretComparison = Make(
        "SVSM5005", "A secret is compared in a time that depends on it", "'{0}' is marked [Secret] and compared by {1}; wanted is a comparison whose time does not depend on the contents. Compare all bytes with OR and XOR, and look at the sum once.");

    /// <summary>A part of the class library that does not work in a module.</summary>
    public static readonly DiagnosticDescriptor NotInAModule = Make(
        "SVSM5006", "A module uses what it does not have", "'{0}' does not work in a module: {1}; wanted is {2}. Do without it; suppress the message for code that no module runs.");

    private static DiagnosticDescriptor Make(string code, string title, string message) =>
        new(code, title, title + ": " + message + " See docs/errors/" + code + ".md.", "Svsm", DiagnosticSeverity.Warning, isEnabledByDefault: true);
}
