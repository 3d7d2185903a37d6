// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.IO;
using System.Text.Json;
using Svsm.Diagnostics;

namespace Svsm.Simulator;

/// <summary>Reads the launch digest that a run shall have.</summary>
public static class LaunchDigestFile
{
    private const int HexLength = 2 * SecurityProcessor.DigestLength;

    /// <summary>Reads a digest from what a user gave.</summary>
    /// <param name="value">96 hexadecimal digits; or the path of a JSON file with the digits in its property <c>launchDigest</c>, as the SDK writes it beside an image.</param>
    /// <returns>48 bytes.</returns>
    /// <exception cref="SvsmDiagnosticException">SVSM6006: the file cannot be read. SVSM6007: there is no digest in it.</exception>
    public static ReadOnlyMemory<byte> Read(string value)
    {
        ArgumentNullException.ThrowIfNull(value);
        if (TryParse(value) is byte[] digest)
        {
            return digest;
        }

        string text;
        try
        {
            text = File.ReadAllText(value);
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException or ArgumentException or NotSupportedException)
        {
            throw SvsmDiagnostics.RunFileUnreadable.Error($"digest '{value}': {exception.Message}", $"{HexLength} hexadecimal digits, or a readable file", exception);
        }

        try
        {
            using JsonDocument document = JsonDocument.Parse(text);
            if (document.RootElement.ValueKind == JsonValueKind.Object &&
                document.RootElement.TryGetProperty("launchDigest", out JsonElement element) &&
                element.ValueKind == JsonValueKind.String && TryParse(element.GetString()!) is byte[] fromJson)
            {
                return fromJson;
            }
        }
        catch (JsonException exception)
        {
            throw SvsmDiagnostics.RunOptionInvalid.Error($"digest file '{value}': {exception.Message}", "JSON", exception);
        }

        throw SvsmDiagnostics.RunOptionInvalid.Error($"digest file '{value}' without a digest", $"the property launchDigest with {HexLength} hexadecimal digits");
    }

    private static byte[]? TryParse(string value)
    {
        byte[] digest = new byte[SecurityProcessor.DigestLength];
        return value.Length == HexLength && Convert.FromHexString(value, digest, out _, out _) == System.Buffers.OperationStatus.Done ? digest : null;
    }
}
