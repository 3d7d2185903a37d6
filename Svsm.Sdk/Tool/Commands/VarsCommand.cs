// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Text.Json;
using Spectre.Console;
using Svsm.Diagnostics;
using Svsm.Modules.VarStore;
using Svsm.Modules.VarStore.Desk;
using Svsm.Store;

namespace Svsm.Tool.Commands;

/// <summary><c>svsm vars</c>: UEFI variables in a store, on the file that a machine has as a disk.</summary>
internal static class VarsCommand
{
    private static readonly (VariableAttributes Attribute, string Letters)[] s_letters =
    [
        (VariableAttributes.NonVolatile, "NV"),
        (VariableAttributes.BootServiceAccess, "BS"),
        (VariableAttributes.RuntimeAccess, "RT"),
        (VariableAttributes.TimeBasedAuthenticatedWriteAccess, "AT"),
    ];

    /// <summary>Lists all variables.</summary>
    public static int List(ToolConsole console, string path, string keyPath, bool json)
    {
        using StoreFile file = StoreFile.OpenToRead(path);
        IReadOnlyList<StorageRecord> records = Load(file, keyPath);
        IReadOnlyList<StoredVariable> variables = Read(file, records);
        bool isDeployed = VariableEdits.IsDeployed(records);
        if (json)
        {
            console.WriteJson(writer =>
            {
                writer.WriteString("file", Path.GetFileName(path));
                writer.WriteBoolean("deployedMode", isDeployed);
                writer.WriteStartArray("variables");
                foreach (StoredVariable variable in variables)
                {
                    writer.WriteStartObject();
                    WriteHead(writer, variable);
                    writer.WriteEndObject();
                }

                writer.WriteEndArray();
            });
            return ExitStatus.Success;
        }

        console.Write(terminal =>
        {
            Table table = ToolConsole.NewTable("vendor", "attributes", ">bytes", "name");
            foreach (StoredVariable variable in variables)
            {
                ToolConsole.AddRow(table, variable.Vendor.ToString(), Letters(variable.Attributes), Units.Number(variable.Data.Length), variable.DisplayName);
            }

            terminal.Write(table);
            terminal.WriteLine(isDeployed ? $"{Units.Number(variables.Count)} variables, deployed mode" : $"{Units.Number(variables.Count)} variables");
        });
        return ExitStatus.Success;
    }

    /// <summary>Shows one variable.</summary>
    public static int Get(ToolConsole console, string path, string keyPath, string name, Guid? vendor, string? output, bool json)
    {
        using StoreFile file = StoreFile.OpenToRead(path);
        StoredVariable variable = Find(file, Read(file, Load(file, keyPath)), name, vendor) ?? throw NotFound(file, name, vendor);
        if (output is not null)
        {
            ImageFile.Write(output, variable.Data.ToArray());
        }

        string data = Convert.ToHexStringLower(variable.Data.Span);
        if (json)
        {
            console.WriteJson(writer =>
            {
                writer.WriteString("file", Path.GetFileName(path));
                WriteHead(writer, variable);
                writer.WriteString("data", data);
            });
            return ExitStatus.Success;
        }

        console.Write(terminal =>
        {
            Table table = ToolConsole.NewTable("", "").HideHeaders();
            ToolConsole.AddRow(table, "name", variable.DisplayName);
            ToolConsole.AddRow(table, "vendor", variable.Vendor.ToString());
            ToolConsole.AddRow(table, "attributes", $"{Units.Number((uint)variable.Attributes)}: {Letters(variable.Attributes)}");
            ToolConsole.AddRow(table, "bytes", Units.Number(variable.Data.Length));
            if (variable.Time is not null)
            {
                ToolConsole.AddRow(table, "signed", variable.Time);
            }

            terminal.Write(table);
        });
        if (variable.Signer is not null)
        {
            console.Output.Write($"signer\n{variable.Signer}\n");
        }

        if (output is null)
        {
            console.Output.Write($"data\n{data}\n");
        }

        return ExitStatus.Success;
    }

    /// <summary>Gives a variable a value.</summary>
    public static int Set(ToolConsole console, string path, string keyPath, string name, Guid? vendor, uint? attributes, byte[] data, bool json) =>
        Edit(console, path, keyPath, json, (file, records, variables) =>
        {
            StoredVariable? old = Find(file, variables, name, vendor);
            Guid owner = old?.Vendor ?? vendor ?? VariableEdits.FindVendor(name) ?? throw SvsmDiagnostics.VariableNotFound.Error(
                $"'{file.Path}' has no variable '{name}', and UEFI names none so", "--guid with a new variable");
            return VariableEdits.Set(records, owner, old?.Name ?? name, (VariableAttributes?)attributes, data);
        });

    /// <summary>Removes a variable.</summary>
    public static int Delete(ToolConsole console, string path, string keyPath, string name, Guid? vendor, bool json) =>
        Edit(console, path, keyPath, json, (file, records, variables) =>
        {
            StoredVariable variable = Find(file, variables, name, vendor) ?? throw NotFound(file, name, vendor);
            return VariableEdits.Delete(records, variable.Vendor, variable.Name);
        });

    /// <summary>Writes all variables to a JSON file.</summary>
    public static int Export(ToolConsole console, string path, string keyPath, string output, bool json)
    {
        using StoreFile file = StoreFile.OpenToRead(path);
        IReadOnlyList<StorageRecord> records = Load(file, keyPath);
        int count = Read(file, records).Count;
        byte[] variables;
        try
        {
            variables = VariableJson.Export(records);
        }
        catch (InvalidDataException e)
        {
            throw SvsmDiagnostics.VariableInvalid.Error($"'{path}': {e.Message}", "names that are text", e);
        }

        ImageFile.Write(output, variables);
        console.Report(json, path, [], [("variables", count)]);
        return ExitStatus.Success;
    }

    /// <summary>Replaces all variables by those of a JSON file.</summary>
    public static int Import(ToolConsole console, string path, string keyPath, string input, bool json)
    {
        byte[] variables = ImageFile.Read(input);
        return Edit(console, path, keyPath, json, (_, _, _) =>
        {
            try
            {
                return VariableJson.Import(variables);
            }
            catch (InvalidDataException e)
            {
                throw SvsmDiagnostics.VariableInvalid.Error($"'{input}': {e.Message}", "a file of variables as virt-firmware and QEMU have them", e);
            }
        });
    }

    // Everything is checked before anything is written: the whole store, then what is to be.
    private static int Edit(
        ToolConsole console, string path, string keyPath, bool json, Func<StoreFile, IReadOnlyList<StorageRecord>, IReadOnlyList<StoredVariable>, IReadOnlyList<StorageRecord>> edit)
    {
        using StoreFile file = StoreFile.OpenToWrite(path);
        PersistentStore store = file.OpenStore(keyPath, readOnly: true);
        if (store.Verify(out IReadOnlyList<StoreFinding> findings) != StoreResult.Done)
        {
            throw file.Unusable(StoreState.DeviceFailed, "a value cannot be read");
        }

        if (findings.Count != 0)
        {
            throw file.Unusable(StoreState.Damaged, findings[0].Text, findings[0].Block);
        }

        IReadOnlyList<StorageRecord> before = Load(file, store);
        IReadOnlyList<StoredVariable> variables = Read(file, before);
        StorageRecord[] changes;
        int count;
        try
        {
            IReadOnlyList<StorageRecord> after = edit(file, before, variables);
            changes = VariableEdits.Changes(before, after);
            count = VariableEdits.List(after).Count;
        }
        catch (InvalidDataException e)
        {
            throw SvsmDiagnostics.VariableInvalid.Error($"'{file.Path}': {e.Message}", "a variable that a guest could have written", e);
        }

        if (changes.Length != 0)
        {
            store = file.OpenStore(keyPath, readOnly: false);
            var storage = new StoreVariableStorage(store);
            if (!storage.TryCommit(changes))
            {
                throw storage.Result switch
                {
                    StoreResult.NoRoom => SvsmDiagnostics.StoreFull.Error(
                        $"'{file.Path}' has {Units.Number(store.Capacity)} bytes for the quotas of all modules, and too few left for the variables", "room for them"),
                    StoreResult.TransactionTooLarge => SvsmDiagnostics.StoreFull.Error($"{Units.Number(changes.Length)} records of '{file.Path}' would change at once", "at most 256 KiB of them in one commit"),
                    StoreResult.NoEntropy => file.Unusable(StoreState.NoEntropy, "there are no random bytes"),
                    _ => file.Unusable(StoreState.DeviceFailed, "the variables could not be written"),
                };
            }
        }

        console.Report(json, file.Path, [("root", store.Version.Root)], [("generation", (long)store.Version.Generation), ("variables", count), ("changes", changes.Length)]);
        return ExitStatus.Success;
    }

    private static IReadOnlyList<StorageRecord> Load(StoreFile file, string keyPath) => Load(file, file.OpenStore(keyPath, readOnly: true));

    private static IReadOnlyList<StorageRecord> Load(StoreFile file, PersistentStore store)
    {
        var storage = new StoreVariableStorage(store);
        if (storage.TryLoad(out IReadOnlyList<StorageRecord> records))
        {
            return records;
        }

        throw storage.Result switch
        {
            StoreResult.Damaged => file.Unusable(StoreState.Damaged, "a value of a variable is damaged"),
            StoreResult.NameInvalid => Unknown(file, null),
            _ => file.Unusable(StoreState.DeviceFailed, "a value cannot be read"),
        };
    }

    private static IReadOnlyList<StoredVariable> Read(StoreFile file, IReadOnlyList<StorageRecord> records)
    {
        try
        {
            return VariableEdits.List(records);
        }
        catch (InvalidDataException e)
        {
            throw Unknown(file, e);
        }
    }

    private static StoredVariable? Find(StoreFile file, IReadOnlyList<StoredVariable> variables, string name, Guid? vendor)
    {
        StoredVariable[] found = [.. variables.Where(variable => (variable.Name == name || variable.DisplayName == name) && (vendor is null || variable.Vendor == vendor))];
        return found.Length <= 1
            ? found.SingleOrDefault()
            : throw SvsmDiagnostics.VariableNotFound.Error($"'{file.Path}' has {Units.Number(found.Length)} variables '{name}', of {string.Join(", ", found.Select(variable => variable.Vendor))}", "one of them, with --guid");
    }

    private static SvsmDiagnosticException NotFound(StoreFile file, string name, Guid? vendor) => SvsmDiagnostics.VariableNotFound.Error(
        $"'{file.Path}' has no variable '{name}'{(vendor is null ? "" : $" of {vendor}")}", "the name of one that is there");

    private static SvsmDiagnosticException Unknown(StoreFile file, Exception? inner) => SvsmDiagnostics.StoredVariablesUnknown.Error(
        $"'{file.Path}': the namespace of UEFI variables has records that are none", "records of variables, version 1", inner);

    private static string Letters(VariableAttributes attributes) => string.Join(' ', s_letters.Where(pair => (attributes & pair.Attribute) != 0).Select(pair => pair.Letters));

    private static void WriteHead(Utf8JsonWriter writer, StoredVariable variable)
    {
        writer.WriteString("name", variable.DisplayName);
        writer.WriteString("guid", variable.Vendor);
        writer.WriteNumber("attributes", (uint)variable.Attributes);
        writer.WriteNumber("byteLength", variable.Data.Length);
        if (variable.Time is not null)
        {
            writer.WriteString("time", variable.Time);
        }

        if (variable.Signer is not null)
        {
            writer.WriteString("signer", variable.Signer);
        }
    }
}
