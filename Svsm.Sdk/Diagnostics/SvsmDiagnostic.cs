// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;

namespace Svsm.Diagnostics;

/// <summary>
/// A failure that an integrator can cause or mend: a row of <see cref="SvsmDiagnostics"/>. What is the same each time stands
/// in the row; the value seen and the value wanted are given where the failure is found.
/// </summary>
public sealed class SvsmDiagnostic
{
    internal SvsmDiagnostic(string code, string title, string wayOut)
    {
        Code = code;
        Title = title;
        WayOut = wayOut;
    }

    /// <summary>The code: <c>SVSM</c> and four digits. Never used for another failure, not even when this one is gone.</summary>
    public string Code { get; }

    /// <summary>What happened: a clause with neither values nor a full stop.</summary>
    public string Title { get; }

    /// <summary>What to do: whole sentences.</summary>
    public string WayOut { get; }

    /// <summary>The page that explains the failure, relative to the repository and to the SDK package.</summary>
    public string HelpPage => $"docs/errors/{Code}.md";

    /// <summary>The text of one occurrence, without the code.</summary>
    /// <param name="seen">The value found, and where. A full stop at its end, as exceptions have, is left out.</param>
    /// <param name="wanted">The value, or the values, that would have been right.</param>
    /// <returns>What happened, the value seen, the value wanted, the way out, and the page.</returns>
    /// <exception cref="ArgumentException">A text is empty.</exception>
    public string Format(string seen, string wanted)
    {
        ArgumentException.ThrowIfNullOrWhiteSpace(seen);
        ArgumentException.ThrowIfNullOrWhiteSpace(wanted);

        return $"{Title}: {seen.TrimEnd('.')}; wanted is {wanted}. {WayOut} See {HelpPage}.";
    }

    /// <summary>An occurrence, to be thrown.</summary>
    /// <param name="seen">The value found, and where.</param>
    /// <param name="wanted">The value, or the values, that would have been right.</param>
    /// <param name="cause">What led to it, if that was an exception.</param>
    /// <returns>The exception.</returns>
    /// <exception cref="ArgumentException">A text is empty.</exception>
    public SvsmDiagnosticException Error(string seen, string wanted, Exception? cause = null) => new(this, seen, wanted, cause);
}
