// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Security.Cryptography;
using System.Text.Json;
using Spectre.Console;
using Svsm.Diagnostics;
using Svsm.Store;

namespace Svsm.Tool.Commands;

/// <summary><c>svsm store</c>: the persistent store of an SVSM, on the file that a machine has as a disk.</summary>
internal static class StoreCommand
{
    private const int BlockLength = 4096;

    /// <summary>Makes a file with an empty store. A file that is there stays as it is.</summary>
    public static int Create(ToolConsole console, string path, long length, string keyPath, bool json)
    {
        StoreVersion version = default;
        Guid id = default;
        byte[] key = StoreFile.ReadKey(keyPath);
        try
        {
            Make(path, length, file =>
            {
                StoreOpening opening = PersistentStore.Create(file, key);
                PersistentStore store = opening.Store ?? throw file.Unusable(opening);
                (id, version) = (store.Id, store.Version);
            });
        }
        finally
        {
            CryptographicOperations.ZeroMemory(key);
        }

        console.Report(json, path, [("store", id.ToString()), ("root", version.Root)], [("generation", (long)version.Generation), ("byteLength", length)]);
        return ExitStatus.Success;
    }

    /// <summary>Makes a file on which an SVSM makes its store, with a key that it alone has. A file that is there stays as it is.</summary>
    public static int Prepare(ToolConsole console, string path, long length, bool json)
    {
        Make(path, length, file =>
        {
            StoreState state = PreparedDevice.Prepare(file);
            if (state != StoreState.Fresh)
            {
                throw file.Unusable(StoreState.DeviceFailed, "the mark cannot be written", block: 0);
            }
        });
        console.Report(json, path, [], [("byteLength", length)]);
        return ExitStatus.Success;
    }

    // Under another name until it is whole, in the same folder: a name is all that changes then.
    private static void Make(string path, long length, Action<StoreFile> fill)
    {
        if (length < PersistentStore.MinDeviceLength || length > PersistentStore.MaxDeviceLength || length % BlockLength != 0)
        {
            throw InvalidSize(length, PersistentStore.MinDeviceLength);
        }

        string newPath = $"{path}.{Guid.NewGuid():N}.new";
        StoreFile file = StoreFile.Create(newPath);
        try
        {
            using (file)
            {
                file.SetLength(length);
                fill(file);
            }

            Rename(newPath, path);
        }
        catch
        {
            File.Delete(newPath);
            throw;
        }
    }

    /// <summary>Shows what a store is: without its key sizes alone.</summary>
    public static int Inspect(ToolConsole console, string path, string? keyPath, bool json)
    {
        using StoreFile file = StoreFile.OpenToRead(path);
        StoreSurvey survey = StoreSurvey.Read(file);
        if (survey.State != StoreState.Opened)
        {
            throw file.Unusable(survey.State, survey.Detail);
        }

        PersistentStore? store = keyPath is null ? null : file.OpenStore(keyPath, readOnly: true, takesMoved: true);
        bool isMoved = store?.IsMoved ?? survey.IsMoved;
        ulong generation = store?.Version.Generation ?? survey.Generation;
        if (json)
        {
            console.WriteJson(writer =>
            {
                writer.WriteString("file", Path.GetFileName(path));
                writer.WriteNumber("fileLength", file.Length);
                writer.WriteString("store", survey.Id.ToString());
                writer.WriteNumber("generation", generation);
                if (store is not null)
                {
                    writer.WriteString("root", store.Version.Root);
                }

                writer.WriteBoolean("moved", isMoved);
                writer.WriteNumber("byteLength", survey.Length);
                writer.WriteNumber("capacity", survey.Capacity);
                writer.WriteNumber("logLength", survey.LogLength);
                writer.WriteNumber("logLimit", survey.HalfLength);
                writer.WriteNumber("entries", survey.Entries);
                if (store is not null)
                {
                    writer.WriteStartArray("namespaces");
                    foreach (NamespaceUsage usage in store.Namespaces)
                    {
                        writer.WriteStartObject();
                        writer.WriteString("id", usage.Id.ToString());
                        writer.WriteNumber("quota", usage.Quota);
                        writer.WriteNumber("used", usage.Used);
                        writer.WriteNumber("records", usage.Records);
                        writer.WriteEndObject();
                    }

                    writer.WriteEndArray();
                }
            });
            return ExitStatus.Success;
        }

        console.Write(terminal =>
        {
            Table table = ToolConsole.NewTable("", "").HideHeaders();
            ToolConsole.AddRow(table, "store", survey.Id.ToString());
            ToolConsole.AddRow(table, "generation", generation.ToString(System.Globalization.CultureInfo.InvariantCulture));
            if (isMoved)
            {
                ToolConsole.AddRow(table, "moved", "its guest is at another SVSM, or was to come from one and never did: it is not used any more");
            }

            ToolConsole.AddRow(table, "size", $"{Units.Size((ulong)survey.Length)} of a file of {Units.Size((ulong)file.Length)}");
            ToolConsole.AddRow(table, "capacity", $"{Units.Size((ulong)survey.Capacity)} for all quotas");
            ToolConsole.AddRow(table, "log", $"{Units.Size((ulong)survey.LogLength)} of {Units.Size((ulong)survey.HalfLength)}, {Units.Number(survey.Entries)} entries");
            terminal.Write(table);
            if (store is null)
            {
                return;
            }

            terminal.WriteLine();
            Table namespaces = ToolConsole.NewTable("namespace", ">records", ">used", ">quota");
            foreach (NamespaceUsage usage in store.Namespaces)
            {
                ToolConsole.AddRow(namespaces, usage.Id.ToString(), Units.Number(usage.Records), Units.Number(usage.Used), Units.Number(usage.Quota));
            }

            terminal.Write(namespaces);
        });
        if (store is not null)
        {
            console.Output.Write($"root\n{store.Version.Root}\n");
        }

        return ExitStatus.Success;
    }

    /// <summary>Checks a store: its checksums, and with the key everything that counts.</summary>
    public static int Verify(ToolConsole console, string path, string? keyPath, StoreVersion? expected, bool json)
    {
        using StoreFile file = StoreFile.OpenToRead(path);
        byte[]? key = keyPath is null ? null : StoreFile.ReadKey(keyPath);
        var findings = new List<(SvsmDiagnostic Diagnostic, long? Block, string Text)>();
        StoreSurvey survey = StoreSurvey.Read(file);
        Note(survey.State, survey.Detail, block: null);
        findings.AddRange(survey.Findings.Select(finding => (SvsmDiagnostics.StoreDamaged, (long?)finding.Block, finding.Text)));
        PersistentStore? store = null;
        if (key is not null && survey.State == StoreState.Opened)
        {
            StoreOpening opening = PersistentStore.Open(file, key, expected, readOnly: true, takesMoved: true);
            CryptographicOperations.ZeroMemory(key);
            Note(opening.State, opening.Detail, opening.Block);
            store = opening.Store;
            if (store is not null)
            {
                if (store.Verify(out IReadOnlyList<StoreFinding> values) != StoreResult.Done)
                {
                    throw file.Unusable(StoreState.DeviceFailed, "a value cannot be read");
                }

                findings.AddRange(values.Select(finding => (SvsmDiagnostics.StoreDamaged, (long?)finding.Block, finding.Text)));
            }
        }

        if (store?.IsMoved ?? survey.IsMoved)
        {
            findings.Add((SvsmDiagnostics.StoreMoved, null, "the store's guest is at another SVSM, or was to come from one and never did"));
        }

        bool isGood = findings.Count == 0;
        if (json)
        {
            console.WriteJson(writer => WriteFindings(writer));
        }
        else
        {
            console.Write(terminal =>
            {
                foreach ((SvsmDiagnostic diagnostic, long? block, string text) in findings)
                {
                    terminal.WriteLine(block is long at ? $"{diagnostic.Code}: block {Units.Number(at)}: {text}" : $"{diagnostic.Code}: {text}");
                }

                terminal.WriteLine($"{Path.GetFileName(path)}: {(!isGood ? "NOT verified" : key is null ? "checksums are right; without the key nothing more is known" : "verified")}");
                Checks.WriteWaysOut(terminal, findings.Select(finding => finding.Diagnostic));
            });
        }

        return isGood ? ExitStatus.Success : ExitStatus.Difference;

        void Note(StoreState state, string detail, long? block)
        {
            if (state is StoreState.Damaged or StoreState.Truncated or StoreState.Older or StoreState.Forked)
            {
                findings.Add((StoreFile.DiagnosticOf(state), block, detail));
            }
            else if (state != StoreState.Opened)
            {
                throw file.Unusable(state, detail, block);
            }
        }

        void WriteFindings(Utf8JsonWriter writer)
        {
            writer.WriteString("file", Path.GetFileName(path));
            writer.WriteBoolean("verified", isGood);
            writer.WriteBoolean("authenticated", isGood && key is not null);
            if (store is not null)
            {
                writer.WriteNumber("generation", store.Version.Generation);
                writer.WriteString("root", store.Version.Root);
            }

            writer.WriteStartArray("findings");
            foreach ((SvsmDiagnostic diagnostic, long? block, string text) in findings)
            {
                writer.WriteStartObject();
                writer.WriteString("code", diagnostic.Code);
                if (block is long at)
                {
                    writer.WriteNumber("block", at);
                }

                writer.WriteString("text", text);
                writer.WriteEndObject();
            }

            writer.WriteEndArray();
        }
    }

    /// <summary>Makes the file longer, and with the key the store, too.</summary>
    public static int Resize(ToolConsole console, string path, long length, string? keyPath, bool json)
    {
        using StoreFile file = StoreFile.OpenToWrite(path);
        StoreSurvey survey = StoreSurvey.Read(file);
        if (survey.State != StoreState.Opened)
        {
            throw file.Unusable(survey.State, survey.Detail);
        }

        long before = file.Length;
        if (length < before || length > PersistentStore.MaxDeviceLength || length % BlockLength != 0)
        {
            throw InvalidSize(length, before);
        }

        if (survey.IsMoved)
        {
            throw file.Unusable(StoreState.Moved, "the store is not used any more");
        }

        long storeLength = survey.Length;
        if (keyPath is null)
        {
            file.SetLength(length);
        }
        else
        {
            // A wrong key, or damage, before anything has changed.
            PersistentStore store = file.OpenStore(keyPath, readOnly: false);
            file.SetLength(length);
            StoreResult result = store.Grow();
            if (result != StoreResult.Done)
            {
                // The superblock may be there all the same: then the store needs the new length.
                StoreSurvey after = StoreSurvey.Read(file);
                if (after.State == StoreState.Opened && after.Length <= before)
                {
                    file.SetLength(before);
                }

                throw file.Unusable(result == StoreResult.NoEntropy ? StoreState.NoEntropy : StoreState.DeviceFailed, "the store could not be made larger");
            }

            storeLength = store.Length;
        }

        console.Report(json, path, [("store", survey.Id.ToString())], [("byteLength", storeLength), ("fileLength", length)]);
        return ExitStatus.Success;
    }

    // Fails if the path is taken: what is there is not ours.
    private static void Rename(string from, string to)
    {
        try
        {
            File.Move(from, to, overwrite: false);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw SvsmDiagnostics.StoreFileFailed.Error($"'{to}': {e.Message}", "a path where nothing is", e);
        }
    }

    private static SvsmDiagnosticException InvalidSize(long length, long least) => SvsmDiagnostics.StoreSizeInvalid.Error(
        $"{Units.Number(length)} bytes", $"a multiple of {Units.Number(BlockLength)}, {Units.Number(least)} to {Units.Number(PersistentStore.MaxDeviceLength)}");
}
