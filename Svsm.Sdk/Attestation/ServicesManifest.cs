// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// What an SVSM says about its services, to read. Little-endian, GUIDs in the byte order of UEFI:
//   GUID of this table (16) | u32 all bytes | u32 services
//   for each service: its GUID (16) | u32 offset of its manifest, from the beginning of the table | u32 its bytes, 0: it has none
//   the manifests
// Source: Secure VM Service Module specification (58019), "Services Manifest", as COCONUT-SVSM kernel/src/protocols/attest.rs writes it.

using System;
using System.Buffers.Binary;
using System.Collections.Immutable;
using Svsm.Diagnostics;

namespace Svsm.Attestation;

/// <summary>A service and its manifest.</summary>
/// <param name="Id">The service's GUID.</param>
/// <param name="Manifest">Its manifest; empty: it has none.</param>
public sealed record ServiceManifest(Guid Id, ReadOnlyMemory<byte> Manifest)
{
    /// <summary>The virtual TPM: its manifest is the public part of the endorsement key, a TPMT_PUBLIC.</summary>
    public static Guid Vtpm { get; } = new("c476f1eb-0123-45a5-9641-b4e7dde5bfe3");

    /// <summary>UEFI variables.</summary>
    public static Guid UefiMm { get; } = new("a4453a59-9e1b-4787-a033-1986d6adbe55");

    /// <summary>The service's name; null: it is not known here.</summary>
    public string? Name => Id == Vtpm ? "vTPM" : Id == UefiMm ? "UEFI MM" : null;
}

/// <summary>Reads a manifest of all services.</summary>
public static class ServicesManifest
{
    private const int EntryLength = 24;
    private const int GuidLength = 16;

    private static readonly Guid s_table = new("63849ebb-3d92-4670-a1ff-58f9c94b87bb");

    /// <summary>Reads a manifest.</summary>
    /// <param name="bytes">All of it, and nothing else. Untrusted.</param>
    /// <param name="name">What it is called in messages.</param>
    /// <returns>The services, in their order.</returns>
    /// <exception cref="SvsmDiagnosticException">SVSM3112: it is no such manifest.</exception>
    public static ImmutableArray<ServiceManifest> Parse(ReadOnlySpan<byte> bytes, string name)
    {
        if (bytes.Length < EntryLength || new Guid(bytes[..GuidLength]) != s_table)
        {
            throw Damaged("without the head of a table of services", $"the GUID {s_table} first; for the manifest of a single service, name the service");
        }

        (uint length, uint count) = Numbers(bytes);
        if (length != bytes.Length)
        {
            throw Damaged($"with {bytes.Length} bytes", $"the {length} that it speaks of");
        }

        if (count > (bytes.Length / EntryLength) - 1)
        {
            throw Damaged($"with {count} services in {bytes.Length} bytes", $"at most {(bytes.Length / EntryLength) - 1}");
        }

        var services = ImmutableArray.CreateBuilder<ServiceManifest>((int)count);
        for (int i = 1; i <= count; i++)
        {
            ReadOnlySpan<byte> entry = bytes.Slice(i * EntryLength, EntryLength);
            var id = new Guid(entry[..GuidLength]);
            (uint offset, uint size) = Numbers(entry);
            if (offset < EntryLength * (count + 1) || offset > length || size > length - offset)
            {
                throw Damaged($"with {size} bytes at {offset} for the service {id}", "a place behind the table");
            }

            foreach (ServiceManifest other in services)
            {
                if (other.Id == id)
                {
                    throw Damaged($"with the service {id} twice", "each service once");
                }
            }

            services.Add(new ServiceManifest(id, bytes.Slice((int)offset, (int)size).ToArray()));
        }

        return services.MoveToImmutable();

        SvsmDiagnosticException Damaged(string seen, string wanted) => SvsmDiagnostics.ManifestDamaged.Error($"'{name}' {seen}", wanted);
    }

    private static (uint First, uint Second) Numbers(ReadOnlySpan<byte> entry) =>
        (BinaryPrimitives.ReadUInt32LittleEndian(entry[GuidLength..]), BinaryPrimitives.ReadUInt32LittleEndian(entry[(GuidLength + sizeof(uint))..]));
}
