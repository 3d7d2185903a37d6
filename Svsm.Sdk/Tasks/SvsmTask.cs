// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.IO;
using Microsoft.Build.Framework;
using Microsoft.Build.Utilities;
using Svsm.Diagnostics;

namespace Svsm.Sdk.Tasks;

/// <summary>A task whose failures of the integrator's making are logged as SVSM messages.</summary>
public abstract class SvsmTask : Task
{
    /// <summary>The project, which messages name.</summary>
    [Required]
    public string ProjectFile { get; set; } = "";

    /// <summary>Folder with the pages that explain messages.</summary>
    [Required]
    public string HelpRoot { get; set; } = "";

    /// <summary>Runs the task.</summary>
    /// <returns>True when no error was logged.</returns>
    public sealed override bool Execute()
    {
        try
        {
            Run();
            return !Log.HasLoggedErrors;
        }
        catch (SvsmDiagnosticException exception)
        {
            string page = PageOf(exception.Diagnostic);
            string text = exception.Message.Replace(exception.Diagnostic.HelpPage, page, StringComparison.Ordinal);
            Log.LogError(null, exception.Diagnostic.Code, null, page, ProjectFile, 0, 0, 0, 0, "{0}", text);
            return false;
        }
    }

    /// <summary>Does the work.</summary>
    /// <exception cref="SvsmDiagnosticException">It cannot be done.</exception>
    protected abstract void Run();

    /// <summary>Logs an error and goes on.</summary>
    protected void Error(SvsmDiagnostic diagnostic, string seen, string wanted)
    {
        (string page, string text) = Format(diagnostic, seen, wanted);
        Log.LogError(null, diagnostic.Code, null, page, ProjectFile, 0, 0, 0, 0, "{0}", text);
    }

    /// <summary>Logs a warning.</summary>
    protected void Warn(SvsmDiagnostic diagnostic, string seen, string wanted)
    {
        (string page, string text) = Format(diagnostic, seen, wanted);
        Log.LogWarning(null, diagnostic.Code, null, page, ProjectFile, 0, 0, 0, 0, "{0}", text);
    }

    private (string Page, string Text) Format(SvsmDiagnostic diagnostic, string seen, string wanted)
    {
        string page = PageOf(diagnostic);
        return (page, diagnostic.Format(seen, wanted).Replace(diagnostic.HelpPage, page, StringComparison.Ordinal));
    }

    private string PageOf(SvsmDiagnostic diagnostic) => Path.Combine(HelpRoot, Path.GetFileName(diagnostic.HelpPage));
}
