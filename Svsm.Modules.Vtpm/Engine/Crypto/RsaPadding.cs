// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Crypto;

// What goes around a message or digest before RSA: OAEP and PKCS #1 v1.5 for encryption, PSS and PKCS #1 v1.5 for signatures.
//
// The padding of a decrypted message is checked without a branch on its bytes: whoever sends ciphertexts learns whether the whole padding
// is good and nothing about which part is not.
//
// Source: PKCS #1 (RFC 8017), 7.1, 7.2, 8, 9.
internal static class RsaPadding
{
    /// <summary>OAEP.</summary>
    /// <returns>Null when the message is too long.</returns>
    internal static byte[]? EncodeOaep(
        ICryptography cryptography, AlgorithmId hash, ReadOnlySpan<byte> label, ReadOnlySpan<byte> message, int size, IRandomSource random)
    {
        int digest = Algorithms.DigestSize(hash);
        if (message.Length > size - (2 * digest) - 2)
        {
            return null;
        }

        var block = new byte[size];
        Span<byte> seed = block.AsSpan(1, digest);
        Span<byte> data = block.AsSpan(1 + digest);
        cryptography.Hash(hash, label).CopyTo(data);
        data[^(message.Length + 1)] = 1;
        message.CopyTo(data[^message.Length..]);
        random.Fill(seed);
        Xor(data, cryptography.Mask(hash, seed, data.Length));
        Xor(seed, cryptography.Mask(hash, data, digest));
        return block;
    }

    /// <summary>Undoes OAEP.</summary>
    /// <returns>Null when the padding is wrong.</returns>
    internal static byte[]? DecodeOaep(ICryptography cryptography, AlgorithmId hash, ReadOnlySpan<byte> label, Span<byte> block)
    {
        int digest = Algorithms.DigestSize(hash);
        if (block.Length < (2 * digest) + 2)
        {
            return null;
        }

        Span<byte> seed = block.Slice(1, digest);
        Span<byte> data = block[(1 + digest)..];
        Xor(seed, cryptography.Mask(hash, data, digest));
        Xor(data, cryptography.Mask(hash, seed, data.Length));
        int start = FindOaepMessage(
            ref MemoryMarshal.GetReference(block), ref MemoryMarshal.GetReference(data), ref MemoryMarshal.GetArrayDataReference(cryptography.Hash(hash, label)), digest, data.Length);
        return start == 0 ? null : data[start..].ToArray();
    }

    /// <summary>PKCS #1 v1.5 for encryption.</summary>
    /// <returns>Null when the message is too long.</returns>
    internal static byte[]? EncodeEs(ReadOnlySpan<byte> message, int size, IRandomSource random)
    {
        if (message.Length > size - 11)
        {
            return null;
        }

        var block = new byte[size];
        block[1] = 2;
        Span<byte> filler = block.AsSpan(2, size - message.Length - 3);
        random.Fill(filler);
        Span<byte> one = stackalloc byte[1];
        for (int i = 0; i < filler.Length; i++)
        {
            while (filler[i] == 0)
            {
                random.Fill(one);
                filler[i] = one[0];
            }
        }

        message.CopyTo(block.AsSpan(size - message.Length));
        return block;
    }

    /// <summary>Undoes PKCS #1 v1.5.</summary>
    /// <returns>Null when the padding is wrong.</returns>
    internal static byte[]? DecodeEs(ReadOnlySpan<byte> block)
    {
        int start = block.Length < 11 ? 0 : FindEsMessage(ref MemoryMarshal.GetReference(block), block.Length);
        return start == 0 ? null : block[start..].ToArray();
    }

    /// <summary>PKCS #1 v1.5 for signatures.</summary>
    /// <returns>Null when the digest does not fit.</returns>
    internal static byte[]? EncodeSsa(AlgorithmId hash, ReadOnlySpan<byte> digest, int size)
    {
        // DER: SEQUENCE { SEQUENCE { OID, NULL }, OCTET STRING of the digest }.
        ReadOnlySpan<byte> prefix = hash switch
        {
            AlgorithmId.Sha1 => [0x30, 0x21, 0x30, 0x09, 0x06, 0x05, 0x2B, 0x0E, 0x03, 0x02, 0x1A, 0x05, 0x00, 0x04, 0x14],
            AlgorithmId.Sha256 => [0x30, 0x31, 0x30, 0x0D, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20],
            AlgorithmId.Sha384 => [0x30, 0x41, 0x30, 0x0D, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02, 0x05, 0x00, 0x04, 0x30],
            _ => [0x30, 0x51, 0x30, 0x0D, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x03, 0x05, 0x00, 0x04, 0x40],
        };
        if (size < prefix.Length + digest.Length + 11)
        {
            return null;
        }

        var block = new byte[size];
        block.AsSpan().Fill(0xFF);
        block[0] = 0;
        block[1] = 1;
        block[^(prefix.Length + digest.Length + 1)] = 0;
        prefix.CopyTo(block.AsSpan(size - prefix.Length - digest.Length));
        digest.CopyTo(block.AsSpan(size - digest.Length));
        return block;
    }

    /// <summary>PSS with the largest salt up to the digest's size.</summary>
    /// <returns>Null when the digest does not fit.</returns>
    internal static byte[]? EncodePss(ICryptography cryptography, AlgorithmId hash, ReadOnlySpan<byte> digest, int size, IRandomSource random)
    {
        int saltSize = Math.Min(digest.Length, size - digest.Length - 2);
        if (saltSize < 0)
        {
            return null;
        }

        var salt = new byte[saltSize];
        random.Fill(salt);
        byte[] hashed = PssHash(cryptography, hash, digest, salt);
        var block = new byte[size];
        Span<byte> data = block.AsSpan(0, size - hashed.Length - 1);
        data[^(saltSize + 1)] = 1;
        salt.CopyTo(data[^saltSize..]);
        Xor(data, cryptography.Mask(hash, hashed, data.Length));
        data[0] &= 0x7F;
        hashed.CopyTo(block.AsSpan(data.Length));
        block[^1] = 0xBC;
        return block;
    }

    /// <summary>Whether a block is a PSS encoding of a digest, with a salt of any size. All of it is public.</summary>
    internal static bool IsPss(ICryptography cryptography, AlgorithmId hash, ReadOnlySpan<byte> digest, byte[] block)
    {
        int size = Algorithms.DigestSize(hash);
        if (digest.Length != size || block.Length < size + 2 || block[^1] != 0xBC || (block[0] & 0x80) != 0)
        {
            return false;
        }

        Span<byte> data = block.AsSpan(0, block.Length - size - 1);
        ReadOnlySpan<byte> hashed = block.AsSpan(data.Length, size);
        Xor(data, cryptography.Mask(hash, hashed, data.Length));
        data[0] &= 0x7F;
        int start = data.IndexOfAnyExcept((byte)0);
        return start >= 0 && data[start] == 1 && hashed.SequenceEqual(PssHash(cryptography, hash, digest, data[(start + 1)..]));
    }

    // The inner routines. SAFETY: references to the first of `size` bytes, at least 11 of them, or of `digest` bytes of the label's digest, which are
    // not more than `size`; the callers have checked the lengths. References instead of spans keep range checks, hence jumps, out of them.

    /// <summary>Where the message begins in unmasked OAEP data; 0 when anything of the padding is wrong.</summary>
    /// <param name="zero">The byte before seed and data.</param>
    /// <param name="data">Digest of the label, zeros, a one, the message.</param>
    /// <param name="labelDigest">The digest that is wanted.</param>
    /// <param name="digest">Its size.</param>
    /// <param name="size">Bytes of data.</param>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal static int FindOaepMessage(ref byte zero, ref byte data, ref byte labelDigest, int digest, int size)
    {
        uint wrong = NotZero(zero);
        for (int i = 0; i < digest; i++)
        {
            wrong |= NotZero((uint)(Unsafe.Add(ref labelDigest, i) ^ Unsafe.Add(ref data, i)));
        }

        // The first byte that is not zero has to be a one.
        uint found = 0;
        uint start = 0;
        for (int i = digest; i < size; i++)
        {
            uint isFirst = NotZero(Unsafe.Add(ref data, i)) & (found ^ 1);
            wrong |= isFirst & NotZero(Unsafe.Add(ref data, i) ^ 1u);
            start |= (0 - isFirst) & (uint)(i + 1);
            found |= isFirst;
        }

        wrong |= found ^ 1;
        return (int)(start & (wrong - 1));
    }

    /// <summary>Where the message begins in a block of PKCS #1 v1.5; 0 when anything of the padding is wrong.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal static int FindEsMessage(ref byte block, int size)
    {
        uint wrong = NotZero(block) | NotZero(Unsafe.Add(ref block, 1) ^ 2u);
        uint found = 0;
        uint start = 0;
        for (int i = 2; i < size; i++)
        {
            uint isFirst = (NotZero(Unsafe.Add(ref block, i)) ^ 1) & (found ^ 1);
            start |= (0 - isFirst) & (uint)(i + 1);
            found |= isFirst;
        }

        // At least eight bytes of filler: the message begins at 11 or later.
        wrong |= (found ^ 1) | ((start - 11) >> 31);
        return (int)(start & (wrong - 1));
    }

    private static byte[] PssHash(ICryptography cryptography, AlgorithmId hash, ReadOnlySpan<byte> digest, ReadOnlySpan<byte> salt)
    {
        IHashState state = cryptography.StartHash(hash);
        state.Update(stackalloc byte[8]);
        state.Update(digest);
        state.Update(salt);
        return state.Finish();
    }

    // 1 for a byte that is not zero.
    private static uint NotZero(uint value) => (0 - value) >> 31;

    private static void Xor(Span<byte> data, byte[] mask)
    {
        for (int i = 0; i < data.Length; i++)
        {
            data[i] ^= mask[i];
        }

        CryptographicOperations.ZeroMemory(mask);
    }
}
