// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The table of certificates that a host gives, in whole pages: entries of 24 bytes, GUID (16) | u32 offset | u32 length; an entry of zeroes; what they point at. The
// guest gets it as it is, without the rest of the last page, so that a buffer for a table need not be larger than the table.
// Source: GHCB specification (56421), SNP Extended Guest Request; Linux drivers/virt/coco/sev-guest measures the table in the same way.

using System;
using System.Buffers.Binary;

namespace Svsm.Modules.Attestation;

internal static class CertificateTable
{
    private const int EntryLength = 24;
    private const int GuidLength = 16;

    /// <summary>Cuts a table off behind its last certificate.</summary>
    /// <param name="pages">What the host gave. Untrusted.</param>
    /// <returns>The table; all of it if it is none, which is for the verifier to find; empty if there is nothing in it.</returns>
    public static byte[] Trim(byte[] pages)
    {
        int end = 0;
        for (int at = 0; at <= pages.Length - EntryLength; at += EntryLength)
        {
            ReadOnlySpan<byte> entry = pages.AsSpan(at, EntryLength);
            if (!entry.ContainsAnyExcept((byte)0))
            {
                return at == 0 ? [] : pages[..Math.Max(end, at + EntryLength)];
            }

            uint offset = BinaryPrimitives.ReadUInt32LittleEndian(entry[GuidLength..]);
            uint length = BinaryPrimitives.ReadUInt32LittleEndian(entry[(GuidLength + sizeof(uint))..]);
            if (offset > pages.Length || length > pages.Length - offset)
            {
                break;
            }

            end = Math.Max(end, (int)(offset + length));
        }

        return pages;
    }
}
