// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;

namespace Svsm.Diagnostics;

/// <summary>
/// An occurrence of a <see cref="SvsmDiagnostic"/>. The message does not contain the code: a task logs the code beside the text,
/// a command-line program prints <c>error SVSMnnnn: text</c>.
/// </summary>
public sealed class SvsmDiagnosticException : Exception
{
    internal SvsmDiagnosticException(SvsmDiagnostic diagnostic, string seen, string wanted, Exception? cause)
        : base(diagnostic.Format(seen, wanted), cause)
    {
        Diagnostic = diagnostic;
    }

    /// <summary>What went wrong.</summary>
    public SvsmDiagnostic Diagnostic { get; }
}
