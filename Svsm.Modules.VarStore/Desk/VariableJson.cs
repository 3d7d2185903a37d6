// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Non-volatile variables as a JSON file, which virt-firmware (virt-fw-vars) and QEMU (uefi-vars) read and write:
//
//   { "version": 2, "variables": [ { "name", "guid", "attr": number, "data": hex, "time": hex of an EFI_TIME, "digest": hex of who signed first } ] }
//
// "time" and "digest" are only there for authenticated variables, "digest" not for those of secure boot; virt-firmware does not know it. What the store remembers
// beside variables (deployed mode, keys of an image) has no place in it: what is imported is not in deployed mode.
//
// Source: virt-firmware virt/firmware/efi/efijson.py; QEMU qapi/uefi.json and hw/uefi/var-service-json.c.

using System;
using System.Collections.Generic;
using System.Globalization;
using System.IO;
using System.Text.Json;

namespace Svsm.Modules.VarStore.Desk;

/// <summary>Records of a storage, as JSON and back.</summary>
public static class VariableJson
{
    private const int Version = 2;
    private const int DigestLength = 32;

    /// <summary>Writes the variables of a storage.</summary>
    /// <param name="records">What the storage loads.</param>
    /// <returns>The file, UTF-8.</returns>
    /// <exception cref="InvalidDataException">A record is none, or has a name that JSON cannot have: half of a surrogate pair.</exception>
    public static byte[] Export(IReadOnlyList<StorageRecord> records)
    {
        using var stream = new MemoryStream();
        using (var writer = new Utf8JsonWriter(stream, new JsonWriterOptions { Indented = true }))
        {
            writer.WriteStartObject();
            writer.WriteNumber("version", Version);
            writer.WriteStartArray("variables");
            foreach (Variable variable in VariableEdits.Read(records, out _))
            {
                Write(writer, variable);
            }

            writer.WriteEndArray();
            writer.WriteEndObject();
        }

        return stream.ToArray();
    }

    /// <summary>Reads variables for a storage.</summary>
    /// <param name="json">The file, UTF-8. Untrusted.</param>
    /// <returns>The records of a new storage.</returns>
    /// <exception cref="InvalidDataException">It is no such file, or has a variable that a store cannot have; the text says which and why.</exception>
    public static IReadOnlyList<StorageRecord> Import(ReadOnlyMemory<byte> json)
    {
        JsonDocument document;
        try
        {
            document = JsonDocument.Parse(json);
        }
        catch (JsonException exception)
        {
            throw new InvalidDataException($"not JSON: {exception.Message}", exception);
        }

        using (document)
        {
            if (document.RootElement.ValueKind != JsonValueKind.Object
                || !document.RootElement.TryGetProperty("version", out JsonElement version) || version.ValueKind != JsonValueKind.Number || !version.TryGetInt32(out int number) || number != Version
                || !document.RootElement.TryGetProperty("variables", out JsonElement variables) || variables.ValueKind != JsonValueKind.Array)
            {
                throw new InvalidDataException($"not a file of variables; wanted is an object with \"version\": {Version} and an array \"variables\"");
            }

            var records = new List<StorageRecord>();
            var known = new HashSet<VariableId>();
            foreach (JsonElement element in variables.EnumerateArray())
            {
                Variable variable = Read(element, $"variable {known.Count + 1}");

                // Every start begins with a new one.
                if (variable.Id == KnownVariables.CustomMode)
                {
                    continue;
                }

                VariableEdits.Check(variable);
                if (!known.Add(variable.Id))
                {
                    throw new InvalidDataException($"variable '{StoredVariable.Display(variable.Id.Name)}' of {variable.Id.Vendor} is there twice");
                }

                VariableRecord.AddChanges(records, null, variable with { Number = (uint)known.Count });
            }

            return records;
        }
    }

    private static void Write(Utf8JsonWriter writer, Variable variable)
    {
        string name = variable.Id.Name;
        for (int i = 0; i < name.Length; i++)
        {
            if (char.IsSurrogate(name[i]) && !(char.IsHighSurrogate(name[i]) && i + 1 < name.Length && char.IsLowSurrogate(name[++i])))
            {
                throw new InvalidDataException($"variable {variable.Number} of {variable.Id.Vendor} has half of a surrogate pair in its name, which JSON cannot have");
            }
        }

        writer.WriteStartObject();
        writer.WriteString("name", name);
        writer.WriteString("guid", variable.Id.Vendor);
        writer.WriteNumber("attr", (uint)variable.Attributes);
        writer.WriteString("data", Convert.ToHexStringLower(variable.Data));
        if (variable.IsAuthenticated)
        {
            Span<byte> time = stackalloc byte[EfiTime.Length];
            variable.Time.Write(time);
            writer.WriteString("time", Convert.ToHexStringLower(time));
            if (variable.Signer.Length != 0)
            {
                writer.WriteString("digest", Convert.ToHexStringLower(variable.Signer));
            }
        }

        writer.WriteEndObject();
    }

    private static Variable Read(JsonElement element, string what)
    {
        if (element.ValueKind != JsonValueKind.Object)
        {
            throw new InvalidDataException($"{what} is {element.ValueKind}; wanted is an object");
        }

        string name = ReadText(element, "name", what) ?? throw new InvalidDataException($"{what} has no \"name\"");
        what = $"variable '{StoredVariable.Display(name)}'";
        if (!Guid.TryParseExact(ReadText(element, "guid", what), "D", out Guid vendor))
        {
            throw new InvalidDataException($"{what} has no \"guid\" of the form 01234567-89ab-cdef-0123-456789abcdef");
        }

        if (!element.TryGetProperty("attr", out JsonElement attr) || attr.ValueKind != JsonValueKind.Number || !attr.TryGetUInt32(out uint attributes))
        {
            throw new InvalidDataException($"{what} has no \"attr\" that is a number");
        }

        byte[] data = ReadHex(element, "data", what) ?? [];
        byte[]? time = ReadHex(element, "time", what);
        byte[]? digest = ReadHex(element, "digest", what);
        if (time is not null && time.Length != EfiTime.Length)
        {
            throw new InvalidDataException($"{what} has a \"time\" of {time.Length} bytes; wanted are {EfiTime.Length}");
        }

        if (digest is not null && digest.Length != DigestLength)
        {
            throw new InvalidDataException($"{what} has a \"digest\" of {digest.Length} bytes; wanted are {DigestLength}");
        }

        return new Variable(new(vendor, name), (VariableAttributes)attributes, data) { Time = time is null ? default : EfiTime.Read(time), Signer = digest ?? [] };
    }

    private static string? ReadText(JsonElement element, string property, string what)
    {
        if (!element.TryGetProperty(property, out JsonElement value))
        {
            return null;
        }

        try
        {
            return value.ValueKind == JsonValueKind.String ? value.GetString() : throw new InvalidDataException($"{what} has a \"{property}\" that is no text");
        }
        catch (InvalidOperationException exception)
        {
            throw new InvalidDataException($"{what} has a \"{property}\" with half of a surrogate pair", exception);
        }
    }

    private static byte[]? ReadHex(JsonElement element, string property, string what)
    {
        string? text = ReadText(element, property, what);
        try
        {
            return text is null ? null : Convert.FromHexString(text);
        }
        catch (FormatException exception)
        {
            throw new InvalidDataException(string.Create(CultureInfo.InvariantCulture, $"{what} has \"{property}\" that is not hexadecimal digits"), exception);
        }
    }
}
