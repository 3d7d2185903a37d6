// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// What a report about an image must say. For AttestationVerifier; from the file that a build writes beside the image (NAME.reference-values.json,
// docs/svsm-tool.md), or from the image itself.

using System;
using System.Collections.Generic;
using System.Collections.Immutable;
using System.Globalization;
using System.Text.Json;
using Svsm.Diagnostics;
using Svsm.Measurement;

namespace Svsm.Attestation;

/// <summary>What a report must say.</summary>
public sealed record ReferenceValues
{
    /// <summary>The launch digests that are good: one, or on stock QEMU one for each number of vCPUs.</summary>
    public required ImmutableArray<LaunchDigest> LaunchDigests { get; init; }

    /// <summary>The guest policy.</summary>
    public required GuestPolicy Policy { get; init; }

    /// <summary>The VMPL: 0, that of the SVSM.</summary>
    public uint Vmpl { get; init; }

    /// <summary>Security version of the guest; 0 without an ID block.</summary>
    public uint GuestSvn { get; init; }

    /// <summary>Family id, 16 bytes; zeroes without an ID block.</summary>
    public ReadOnlyMemory<byte> FamilyId { get; init; } = new byte[IdBlock.IdLength];

    /// <summary>Image id, 16 bytes; zeroes without an ID block.</summary>
    public ReadOnlyMemory<byte> ImageId { get; init; } = new byte[IdBlock.IdLength];

    /// <summary>Digest of the ID key; zeroes without an ID block.</summary>
    public LaunchDigest IdKeyDigest { get; init; }

    /// <summary>Digest of the author key; zeroes without one.</summary>
    public LaunchDigest AuthorKeyDigest { get; init; }

    /// <summary>Reads the file that a build writes.</summary>
    /// <param name="json">Its contents.</param>
    /// <param name="name">What it is called in messages.</param>
    /// <returns>The values.</returns>
    /// <exception cref="SvsmDiagnosticException">SVSM3113: it is no such file.</exception>
    public static ReferenceValues Parse(ReadOnlyMemory<byte> json, string name)
    {
        const int KnownFormat = 1;
        try
        {
            using JsonDocument document = JsonDocument.Parse(json);
            JsonElement root = document.RootElement;
            int format = root.GetProperty("formatVersion").GetInt32();
            if (format != KnownFormat)
            {
                throw Unusable($"format version {format}", $"{KnownFormat}", null);
            }

            var digests = ImmutableArray.CreateBuilder<LaunchDigest>();
            digests.Add(LaunchDigest.Parse(Text(root, "launchDigest")));
            if (root.TryGetProperty("launchDigests", out JsonElement list))
            {
                foreach (JsonElement entry in list.EnumerateArray())
                {
                    digests.Add(LaunchDigest.Parse(Text(entry, "launchDigest")));
                }
            }

            return new ReferenceValues
            {
                LaunchDigests = digests.ToImmutable(),
                Policy = new GuestPolicy(Number(Text(root, "policy"))),
                Vmpl = root.GetProperty("vmpl").GetUInt32(),
                GuestSvn = root.GetProperty("guestSvn").GetUInt32(),
                FamilyId = Id(Text(root, "familyId")),
                ImageId = Id(Text(root, "imageId")),
                IdKeyDigest = LaunchDigest.Parse(Text(root, "idKeyDigest")),
                AuthorKeyDigest = LaunchDigest.Parse(Text(root, "authorKeyDigest")),
            };
        }
        catch (Exception e) when (e is JsonException or KeyNotFoundException or FormatException or InvalidOperationException or OverflowException)
        {
            throw Unusable(e.Message.TrimEnd('.'), "the file NAME.reference-values.json of a build", e);
        }

        SvsmDiagnosticException Unusable(string seen, string wanted, Exception? inner) => SvsmDiagnostics.ReferenceValuesUnusable.Error($"'{name}': {seen}", wanted, inner);
    }

    private static string Text(JsonElement element, string property) => element.GetProperty(property).GetString() ?? throw new FormatException($"'{property}' is null");

    private static ulong Number(string text) => text.StartsWith("0x", StringComparison.Ordinal)
        ? ulong.Parse(text.AsSpan(2), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture)
        : throw new FormatException($"'{text}' is no number that begins with 0x");

    private static byte[] Id(string text)
    {
        byte[] id = Convert.FromHexString(text);
        return id.Length == IdBlock.IdLength ? id : throw new FormatException($"an id of {id.Length} bytes");
    }
}
