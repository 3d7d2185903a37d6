// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Signatures of AMD's certificates: RSA of 4096 bits, PSS with SHA-384, MGF1 with SHA-384 and a salt of 48 bytes. To verify only, so nothing here is secret. The
// class library's RSA is OpenSSL's, which no module has, and BouncyCastle's wants random numbers for a test of the modulus, and for those the time of day.
//
// Source: RFC 8017, 8.1.2 (RSASSA-PSS-VERIFY), 9.1.2 (EMSA-PSS-VERIFY), B.2.1 (MGF1).

using System;
using System.Buffers.Binary;
using System.Numerics;

namespace Svsm.Migration;

internal static class RsaPss
{
    public const int KeyLength = 512;

    private const int HashLength = 48;
    private const int SaltLength = 48;
    private const int MaskedLength = KeyLength - HashLength - 1;
    private const int PaddingLength = MaskedLength - SaltLength - 1;
    private const byte Trailer = 0xBC;

    // The modulus has 4096 bits, so what is encoded has 4095.
    private const byte FirstBit = 0x80;

    /// <summary>Verifies a signature.</summary>
    /// <param name="modulus">Big-endian, <see cref="KeyLength"/> bytes, the first bit set.</param>
    /// <param name="exponent">Big-endian.</param>
    /// <param name="message">What is signed.</param>
    /// <param name="signature">The signature. Untrusted.</param>
    public static bool Verify(ReadOnlySpan<byte> modulus, ReadOnlySpan<byte> exponent, ReadOnlySpan<byte> message, ReadOnlySpan<byte> signature)
    {
        var n = new BigInteger(modulus, isUnsigned: true, isBigEndian: true);
        var s = new BigInteger(signature, isUnsigned: true, isBigEndian: true);
        if (signature.Length != KeyLength || modulus.Length != KeyLength || (modulus[0] & FirstBit) == 0 || s >= n)
        {
            return false;
        }

        byte[] encoded = new byte[KeyLength];
        byte[] number = BigInteger.ModPow(s, new BigInteger(exponent, isUnsigned: true, isBigEndian: true), n).ToByteArray(isUnsigned: true, isBigEndian: true);
        number.CopyTo(encoded, KeyLength - number.Length);
        ReadOnlySpan<byte> hash = encoded.AsSpan(MaskedLength, HashLength);
        Span<byte> data = encoded.AsSpan(0, MaskedLength);
        if (encoded[^1] != Trailer || (data[0] & FirstBit) != 0)
        {
            return false;
        }

        Unmask(data, hash);
        data[0] &= FirstBit - 1;
        return !data[..PaddingLength].ContainsAnyExcept((byte)0) && data[PaddingLength] == 1
            && PeerReport.Sha384(new byte[sizeof(ulong)], PeerReport.Sha384(message.ToArray()), data[(PaddingLength + 1)..].ToArray()).AsSpan().SequenceEqual(hash);
    }

    private static void Unmask(Span<byte> data, ReadOnlySpan<byte> hash)
    {
        byte[] seed = [.. hash, 0, 0, 0, 0];
        for (int at = 0; at < data.Length; at += HashLength)
        {
            BinaryPrimitives.WriteInt32BigEndian(seed.AsSpan(HashLength), at / HashLength);
            byte[] mask = PeerReport.Sha384(seed);
            for (int i = 0; i < HashLength && at + i < data.Length; i++)
            {
                data[at + i] ^= mask[i];
            }
        }
    }
}
