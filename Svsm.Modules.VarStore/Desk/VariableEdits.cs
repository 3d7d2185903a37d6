// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Variables of a storage, changed by who has the storage and not by the guest: nothing is signed, and what only the engine writes cannot be written here
// either. From the records that are there to those that are to be, and from both to what a storage has to change.

using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;

namespace Svsm.Modules.VarStore.Desk;

/// <summary>Looks into the records of a storage, and edits them.</summary>
public static class VariableEdits
{
    /// <summary>Lists variables, in the order in which the guest is told their names.</summary>
    /// <param name="records">What the storage loads.</param>
    /// <exception cref="InvalidDataException">A record is none.</exception>
    public static IReadOnlyList<StoredVariable> List(IReadOnlyList<StorageRecord> records) => [.. Read(records, out _).Select(StoredVariable.Of)];

    /// <summary>Whether the platform is in deployed mode: then secure boot cannot be switched off by who is present.</summary>
    /// <param name="records">What the storage loads.</param>
    /// <exception cref="InvalidDataException">A record is none.</exception>
    public static bool IsDeployed(IReadOnlyList<StorageRecord> records) => Read(records, out StoreState state).Exists(variable => variable.Id == KnownVariables.PlatformKey) && state.IsDeployed;

    /// <summary>Finds the vendor of a variable that UEFI or EDK2 names.</summary>
    /// <param name="name">Its name.</param>
    /// <returns>Null: they name none so.</returns>
    public static Guid? FindVendor(string name) => VariableProperties.FindDefinedVendor(name);

    /// <summary>Gives a variable a value.</summary>
    /// <param name="records">What the storage loads.</param>
    /// <param name="vendor">GUID of the variable's vendor.</param>
    /// <param name="name">Its name.</param>
    /// <param name="attributes">Its attributes; null: those that it has or that UEFI says it has, otherwise <see cref="VariableAttributes.NonVolatile"/> and <see cref="VariableAttributes.Access"/>.</param>
    /// <param name="data">Its data, 1 to 65536 bytes. When it was signed, and by whom, stays as it is.</param>
    /// <returns>The records afterwards.</returns>
    /// <exception cref="InvalidDataException">A record is none, or there can be no such variable; the text says why.</exception>
    public static IReadOnlyList<StorageRecord> Set(IReadOnlyList<StorageRecord> records, Guid vendor, string name, VariableAttributes? attributes, ReadOnlyMemory<byte> data)
    {
        ArgumentNullException.ThrowIfNull(name);
        List<Variable> variables = Read(records, out _);
        var id = new VariableId(vendor, name);
        int index = variables.FindIndex(variable => variable.Id == id);
        Variable? old = index < 0 ? null : variables[index];
        VariableAttributes wanted = attributes ?? old?.Attributes ?? VariableProperties.FindDefinedAttributes(id) ?? (VariableAttributes.NonVolatile | VariableAttributes.Access);
        Variable made = (old ?? new Variable(id, wanted, []) { Number = variables.Count == 0 ? 1 : variables[^1].Number + 1 }) with { Attributes = wanted, Data = data.ToArray() };
        Check(made);
        if (old is null)
        {
            variables.Add(made);
        }
        else
        {
            variables[index] = made;
        }

        return Write(records, variables);
    }

    /// <summary>Removes a variable.</summary>
    /// <param name="records">What the storage loads.</param>
    /// <param name="vendor">GUID of the variable's vendor.</param>
    /// <param name="name">Its name.</param>
    /// <returns>The records afterwards: the same if there is no such variable.</returns>
    /// <exception cref="InvalidDataException">A record is none.</exception>
    public static IReadOnlyList<StorageRecord> Delete(IReadOnlyList<StorageRecord> records, Guid vendor, string name)
    {
        List<Variable> variables = Read(records, out _);
        variables.RemoveAll(variable => variable.Id == new VariableId(vendor, name));
        return Write(records, variables);
    }

    /// <summary>Tells what a storage has to change.</summary>
    /// <param name="before">What it loads.</param>
    /// <param name="after">What it is to load.</param>
    /// <returns>The changes, for <see cref="IVariableStorage.TryCommit"/>; empty: none.</returns>
    /// <exception cref="InvalidDataException">A record is none, or the variables have become more than a guest may have.</exception>
    public static StorageRecord[] Changes(IReadOnlyList<StorageRecord> before, IReadOnlyList<StorageRecord> after)
    {
        int size = Read(after, out _).Sum(variable => variable.Size);
        if (size > VariableLimits.NonVolatileQuota && size > Read(before, out _).Sum(variable => variable.Size))
        {
            throw new InvalidDataException($"the variables would take {size} bytes, each counted with 128 beside name and data; wanted are at most {VariableLimits.NonVolatileQuota}");
        }

        var wanted = after.ToDictionary(record => record.Number, record => record.Value);
        var changes = new List<StorageRecord>();
        foreach (StorageRecord record in before)
        {
            if (!wanted.Remove(record.Number, out ReadOnlyMemory<byte>? value))
            {
                changes.Add(new(record.Number, null));
            }
            else if (!value.GetValueOrDefault().Span.SequenceEqual(record.Value.GetValueOrDefault().Span))
            {
                changes.Add(new(record.Number, value));
            }
        }

        return [.. changes, .. wanted.OrderBy(record => record.Key).Select(record => new StorageRecord(record.Key, record.Value))];
    }

    internal static List<Variable> Read(IReadOnlyList<StorageRecord> records, out StoreState state)
    {
        ArgumentNullException.ThrowIfNull(records);
        if (!VariableRecord.TryRead(records, out List<Variable> variables, out state))
        {
            throw new InvalidDataException("the storage has records that are no variables");
        }

        variables.Sort((x, y) => x.Number.CompareTo(y.Number));
        return variables;
    }

    /// <summary>Checks a variable as if the guest wrote it, but for signatures: what the engine relies on, and what firmware would stumble over.</summary>
    /// <exception cref="InvalidDataException">There can be no such variable; the text says why.</exception>
    internal static void Check(Variable variable)
    {
        VariableId id = variable.Id;
        string what = $"variable '{StoredVariable.Display(id.Name)}' of {id.Vendor}";
        if (id.Name.Length == 0 || id.Name.Contains('\0', StringComparison.Ordinal) || Variable.NameLength(id.Name) > VariableLimits.MaxNameLength)
        {
            throw new InvalidDataException($"{what}: a name of {id.Name.Length} characters; wanted are 1 to {(VariableLimits.MaxNameLength / sizeof(char)) - 1}, none of them 0");
        }

        if (!Variable.CanBeStored(variable.Attributes))
        {
            throw new InvalidDataException($"{what} has attributes {(uint)variable.Attributes}; wanted are 3 and any of 4 and 32");
        }

        if (VariableProperties.FindDefinedAttributes(id) is VariableAttributes wanted && variable.Attributes != wanted)
        {
            throw new InvalidDataException($"{what} has attributes {(uint)variable.Attributes}; wanted is {(uint)wanted}");
        }

        if (variable.Data.Length is 0 or > VariableLimits.MaxData)
        {
            throw new InvalidDataException($"{what} has {variable.Data.Length} bytes of data; wanted are 1 to {VariableLimits.MaxData}");
        }

        if (KnownVariables.IsSecureBootKey(id) && !SignatureLists.AreGood(variable.Data, out _))
        {
            throw new InvalidDataException($"{what} is not signature lists with RSA certificates");
        }

        if (id == KnownVariables.PlatformKey && !SignatureLists.IsOneCertificate(variable.Data))
        {
            throw new InvalidDataException($"{what} is not one certificate");
        }

        if (!VariableProperties.IsGood(id, variable.Data))
        {
            throw new InvalidDataException($"{what} has data that it cannot have");
        }

        if (id == KnownVariables.CustomMode)
        {
            throw new InvalidDataException($"{what} is made anew by every start of the guest, and not stored");
        }
    }

    // The state stays as it is.
    private static List<StorageRecord> Write(IReadOnlyList<StorageRecord> before, List<Variable> variables)
    {
        List<StorageRecord> records = [.. before.Where(record => record.Number == VariableRecord.StateNumber)];
        foreach (Variable variable in variables)
        {
            VariableRecord.AddChanges(records, null, variable);
        }

        return records;
    }
}
