// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The manifest of the virtual TPM: TPMT_PUBLIC of its endorsement key, big-endian. Only its kind and the hash that names it are read here; who makes
// a credential for the key gives all of it to a TPM library.
//   00 u16 type: 1 RSA, 23 ECC | 02 u16 algorithm of the name: B SHA-256, C SHA-384, D SHA-512 | ...
// Source: TPM 2.0 library, part 2 (TPMT_PUBLIC, TPM_ALG_ID), part 1, 16 "Names".

using System;
using System.Buffers.Binary;
using System.Security.Cryptography;

namespace Svsm.Attestation;

/// <summary>The endorsement key of a virtual TPM.</summary>
/// <param name="Kind">RSA, ECC, or a number.</param>
/// <param name="Name">Its name as TPMs have it: the algorithm and the hash of the public part.</param>
public sealed record EndorsementKey(string Kind, ReadOnlyMemory<byte> Name)
{
    /// <summary>Reads the manifest of a virtual TPM.</summary>
    /// <param name="manifest">The manifest. Untrusted.</param>
    /// <returns>The key; null: it is none, or its name has an algorithm that TPMs do not use for keys.</returns>
    public static EndorsementKey? TryRead(ReadOnlySpan<byte> manifest)
    {
        const int HeadLength = 4;
        if (manifest.Length < HeadLength)
        {
            return null;
        }

        byte[]? hash = BinaryPrimitives.ReadUInt16BigEndian(manifest[2..]) switch
        {
            0x000B => SHA256.HashData(manifest),
            0x000C => SHA384.HashData(manifest),
            0x000D => SHA512.HashData(manifest),
            _ => null,
        };
        string? kind = BinaryPrimitives.ReadUInt16BigEndian(manifest) switch { 0x0001 => "RSA", 0x0023 => "ECC", _ => null };
        return hash is null || kind is null ? null : new EndorsementKey(kind, (byte[])[.. manifest[2..HeadLength], .. hash]);
    }
}
