// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// A signing key of a guest's virtual TPM and its quotes over a PCR: the commands, and what is to be true of their responses.

using System;
using System.Buffers.Binary;
using System.Security.Cryptography;
using Xunit;
using static Svsm.Vtpm.Clients.Tests.Messages;

namespace Svsm.Moving.Tests;

internal static class Quotes
{
    /// <summary>The PCR.</summary>
    public const uint Pcr = 10;

    // The first key that is loaded.
    private const uint Key = 0x8000_0000;

    /// <summary>Makes a key: ECDSA on P-256, restricted to what the TPM itself says.</summary>
    public static byte[] CreateKey() => Command(
        0x131, [Endorsement],
        [
            .. Sized(0, 0, 0, 0),
            .. Sized(0, 0x23, 0, 0x0B, 0, 5, 0, 0x72, 0, 0, 0, 0x10, 0, 0x18, 0, 0x0B, 0, 3, 0, 0x10, 0, 0, 0, 0),
            .. Sized(), .. U32(0),
        ],
        Auth());

    /// <summary>The key.</summary>
    /// <param name="response">The response to <see cref="CreateKey"/>.</param>
    public static ECDsa PublicKeyOf(byte[] response)
    {
        Assert.Equal(Key, BinaryPrimitives.ReadUInt32BigEndian(response.AsSpan(10)));
        int end = 20 + BinaryPrimitives.ReadUInt16BigEndian(response.AsSpan(18));
        return ECDsa.Create(new ECParameters
        {
            Curve = ECCurve.NamedCurves.nistP256,
            Q = new ECPoint { X = response[(end - 66)..(end - 34)], Y = response[(end - 32)..end] },
        });
    }

    /// <summary>Quotes the PCR.</summary>
    /// <param name="nonce">What the quote is to contain.</param>
    public static byte[] Quote(byte[] nonce) => Command(0x158, [Key], [.. Sized(nonce), 0, 0x10, .. U32(1), 0, 0x0B, 3, 0, 4, 0], Auth());

    /// <summary>Checks a quote with the key and the log.</summary>
    /// <param name="response">The response to <see cref="Quote"/>.</param>
    /// <param name="key">The key.</param>
    /// <param name="pcr">The PCR by the log.</param>
    /// <param name="nonce">What the quote is to contain.</param>
    /// <returns>Clock in milliseconds, reset count and restart count.</returns>
    public static (ulong Clock, uint Resets, uint Restarts) Check(byte[] response, ECDsa key, byte[] pcr, byte[] nonce)
    {
        int length = BinaryPrimitives.ReadUInt16BigEndian(response.AsSpan(14));
        byte[] attest = response[16..(16 + length)];
        int at = 16 + length + 4;
        byte[] signature = [.. Number(response, ref at), .. Number(response, ref at)];
        Assert.True(key.VerifyData(attest, signature, HashAlgorithmName.SHA256));
        int name = BinaryPrimitives.ReadUInt16BigEndian(attest.AsSpan(6));
        int clockInfo = 8 + name + 2 + nonce.Length;
        Assert.Equal(nonce, attest[(8 + name + 2)..clockInfo]);
        Assert.Equal(SHA256.HashData(pcr), attest[^32..]);
        return (BinaryPrimitives.ReadUInt64BigEndian(attest.AsSpan(clockInfo)), BinaryPrimitives.ReadUInt32BigEndian(attest.AsSpan(clockInfo + 8)),
            BinaryPrimitives.ReadUInt32BigEndian(attest.AsSpan(clockInfo + 12)));
    }

    private static byte[] Number(byte[] response, ref int at)
    {
        int length = BinaryPrimitives.ReadUInt16BigEndian(response.AsSpan(at));
        byte[] number = new byte[32];
        response.AsSpan(at + 2, length).CopyTo(number.AsSpan(32 - length));
        at += 2 + length;
        return number;
    }
}
