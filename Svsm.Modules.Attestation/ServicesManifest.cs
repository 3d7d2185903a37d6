// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The manifest of all services, little-endian, GUIDs in the byte order of UEFI:
//
//   GUID of this table (16) | u32 all bytes | u32 services
//   for each service: its GUID (16) | u32 offset of its manifest, from the beginning of the table | u32 its bytes, 0: it has none
//   the manifests
//
// Source: Secure VM Service Module specification (58019), "Services Manifest", as COCONUT-SVSM kernel/src/protocols/attest.rs writes it (GUIDs by
// to_bytes_le) and Linux hands it on (guid_t).

using System;
using System.Buffers.Binary;
using System.Collections.Generic;

namespace Svsm.Modules.Attestation;

/// <summary>A service, and its manifest; empty: it has none.</summary>
internal sealed record ServiceManifest(Guid Service, byte[] Manifest);

internal static class ServicesManifest
{
    public static readonly Guid TableId = new(0x63849ebb, 0x3d92, 0x4670, 0xa1, 0xff, 0x58, 0xf9, 0xc9, 0x4b, 0x87, 0xbb); // 63849ebb-3d92-4670-a1ff-58f9c94b87bb

    private const int EntryLength = 24;
    private const int GuidLength = 16;

    public static byte[] Make(IReadOnlyList<ServiceManifest> services)
    {
        int at = EntryLength * (services.Count + 1);
        int length = at;
        foreach (ServiceManifest service in services)
        {
            length += service.Manifest.Length;
        }

        byte[] table = new byte[length];
        WriteEntry(table, TableId, length, services.Count);
        for (int i = 0; i < services.Count; i++)
        {
            (Guid service, byte[] manifest) = services[i];
            WriteEntry(table.AsSpan(EntryLength * (i + 1)), service, at, manifest.Length);
            manifest.CopyTo(table, at);
            at += manifest.Length;
        }

        return table;
    }

    private static void WriteEntry(Span<byte> entry, Guid id, int first, int second)
    {
        id.TryWriteBytes(entry);
        BinaryPrimitives.WriteInt32LittleEndian(entry[GuidLength..], first);
        BinaryPrimitives.WriteInt32LittleEndian(entry[(GuidLength + sizeof(int))..], second);
    }
}
