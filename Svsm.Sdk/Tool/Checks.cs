// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// What a command that verifies something has found: checks as a table or in JSON, and what to do about those that failed.

using System.Collections.Generic;
using System.Linq;
using System.Text.Json;
using Spectre.Console;
using Svsm.Attestation;
using Svsm.Diagnostics;

namespace Svsm.Tool;

internal static class Checks
{
    public static void Write(IAnsiConsole terminal, IEnumerable<AttestationCheck> checks)
    {
        Table table = ToolConsole.NewTable("", "", "").HideHeaders();
        foreach (AttestationCheck check in checks)
        {
            Color color = check.Outcome switch { AttestationOutcome.Pass => Color.Green, AttestationOutcome.Note => Color.Yellow, _ => Color.Red };
            table.AddRow(
                new Text(check.Outcome.ToString().ToLowerInvariant(), new Style(color)),
                new Text(check.Name),
                new Text(check.Diagnostic is null ? check.Text : $"{check.Diagnostic.Code}: {check.Text}"));
        }

        terminal.Write(table);
    }

    public static void WriteJson(Utf8JsonWriter writer, IEnumerable<AttestationCheck> checks)
    {
        writer.WriteStartArray("checks");
        foreach (AttestationCheck check in checks)
        {
            writer.WriteStartObject();
            writer.WriteString("check", check.Name);
            writer.WriteString("outcome", check.Outcome.ToString().ToLowerInvariant());
            if (check.Diagnostic is not null)
            {
                writer.WriteString("code", check.Diagnostic.Code);
            }

            writer.WriteString("text", check.Text);
            writer.WriteEndObject();
        }

        writer.WriteEndArray();
    }

    public static void WriteWaysOut(IAnsiConsole terminal, IEnumerable<SvsmDiagnostic?> seen)
    {
        foreach (SvsmDiagnostic diagnostic in seen.OfType<SvsmDiagnostic>().Distinct())
        {
            terminal.WriteLine($"{diagnostic.Code}: {diagnostic.Title}. {diagnostic.WayOut}");
        }
    }
}
