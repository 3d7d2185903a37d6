// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The certificates that a host hands to a guest with an extended request, so that the guest need not fetch them:
//   entries of 24 bytes: GUID (16, in the order of its text) | u32 offset of the certificate | u32 its length
//   an entry of zeroes | the certificates, DER
// Source: GHCB specification (56421), SNP Extended Guest Request; virtee/sev (CertTableEntry); Linux drivers/virt/coco/sev-guest for the end.

using System;
using System.Buffers.Binary;

namespace Svsm.Simulator;

internal static class CertificateTable
{
    private const int EntryLength = 24;
    private const int GuidLength = 16;

    private static readonly Guid s_ark = new("c0b406a4-a803-4952-9743-3fb6014cd0ae");
    private static readonly Guid s_ask = new("4ab7b379-bbac-4fe4-a02f-05aef327c782");
    private static readonly Guid s_vcek = new("63da758d-e664-4564-adc5-f4b93be8accd");

    // Whole pages, filled up with zeroes.
    public static byte[] Make(SimulatedChip chip)
    {
        (Guid Guid, ReadOnlyMemory<byte> Certificate)[] entries = [(s_vcek, chip.Vcek), (s_ask, chip.Ask), (s_ark, chip.Ark)];
        int length = EntryLength * (entries.Length + 1);
        int at = length;
        foreach ((_, ReadOnlyMemory<byte> certificate) in entries)
        {
            length += certificate.Length;
        }

        byte[] table = new byte[(length + SecurityProcessor.PageSize - 1) / SecurityProcessor.PageSize * SecurityProcessor.PageSize];
        Span<byte> entry = table;
        foreach ((Guid guid, ReadOnlyMemory<byte> certificate) in entries)
        {
            guid.ToByteArray(bigEndian: true).CopyTo(entry);
            BinaryPrimitives.WriteInt32LittleEndian(entry[GuidLength..], at);
            BinaryPrimitives.WriteInt32LittleEndian(entry[(GuidLength + sizeof(int))..], certificate.Length);
            certificate.CopyTo(table.AsMemory(at));
            at += certificate.Length;
            entry = entry[EntryLength..];
        }

        return table;
    }
}
