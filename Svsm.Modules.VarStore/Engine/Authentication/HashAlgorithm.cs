// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The hashes that a signature may be made with: those that EDK2 takes of authenticated variables. Algorithms are BouncyCastle's.
// Source: EDK2 SecurityPkg/Library/AuthVariableLib/AuthService.c (mHashInfo); RFC 8017, 9.2 (DigestInfo); NIST's and PKCS's object identifiers.

using System;
using Org.BouncyCastle.Crypto;
using Org.BouncyCastle.Crypto.Digests;

namespace Svsm.Modules.VarStore;

internal sealed class HashAlgorithm
{
    // 1.2.840.113549.1.1.1
    private static readonly byte[] s_rsa = [0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 1, 1, 1];

    private static readonly HashAlgorithm[] s_all =
    [
        new(32, 1, 11, () => new Sha256Digest()),
        new(48, 2, 12, () => new Sha384Digest()),
        new(64, 3, 13, () => new Sha512Digest()),
    ];

    private readonly byte[] _identifier;
    private readonly byte[] _rsaIdentifier;
    private readonly Func<IDigest> _create;

    private HashAlgorithm(int length, byte number, byte rsaNumber, Func<IDigest> create)
    {
        Length = length;
        _identifier = [0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, number];
        _rsaIdentifier = [.. s_rsa[..^1], rsaNumber];
        _create = create;

        // SEQUENCE { SEQUENCE { identifier, NULL }, OCTET STRING } up to the hash.
        DigestInfoPrefix = [DerReader.Sequence, (byte)(17 + length), DerReader.Sequence, 13, DerReader.ObjectIdentifier, 9, .. _identifier, 5, 0, DerReader.OctetString, (byte)length];
    }

    public static HashAlgorithm Sha256 => s_all[0];

    public int Length { get; }

    public byte[] DigestInfoPrefix { get; }

    public static HashAlgorithm? Find(ReadOnlySpan<byte> identifier) => Find(identifier, static algorithm => algorithm._identifier);

    /// <summary>The hash of an algorithm of signatures with RSA and that hash.</summary>
    public static HashAlgorithm? FindOfSignature(ReadOnlySpan<byte> identifier) => Find(identifier, static algorithm => algorithm._rsaIdentifier);

    /// <summary>Whether an algorithm of a signature is RSA, with this hash or without saying which.</summary>
    public bool IsRsaSignature(ReadOnlySpan<byte> identifier) => identifier.SequenceEqual(s_rsa) || identifier.SequenceEqual(_rsaIdentifier);

    public static bool IsRsaKey(ReadOnlySpan<byte> identifier) => identifier.SequenceEqual(s_rsa);

    public byte[] Compute(params ReadOnlySpan<ReadOnlyMemory<byte>> parts)
    {
        IDigest digest = _create();
        foreach (ReadOnlyMemory<byte> part in parts)
        {
            digest.BlockUpdate(part.Span);
        }

        byte[] hash = new byte[Length];
        digest.DoFinal(hash);
        return hash;
    }

    private static HashAlgorithm? Find(ReadOnlySpan<byte> identifier, Func<HashAlgorithm, byte[]> identifierOf)
    {
        foreach (HashAlgorithm algorithm in s_all)
        {
            if (identifier.SequenceEqual(identifierOf(algorithm)))
            {
                return algorithm;
            }
        }

        return null;
    }
}
