// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using System.Security.Cryptography;
using System.Text;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Crypto;

// What TCG TPM 2.0 Library, Part 1, defines on top of the primitives: KDFa (SP 800-108 in counter mode with HMAC), XOR obfuscation and
// CFB with a full-block feedback and a partial last block.
internal static class TpmCryptography
{
    private const int AesBlock = 16;

    internal static byte[] Hash(this ICryptography cryptography, AlgorithmId algorithm, ReadOnlySpan<byte> data)
    {
        IHashState state = cryptography.StartHash(algorithm);
        state.Update(data);
        return state.Finish();
    }

    internal static byte[] Hmac(this ICryptography cryptography, AlgorithmId algorithm, ReadOnlySpan<byte> key, ReadOnlySpan<byte> data)
    {
        IHashState state = cryptography.StartHmac(algorithm, key);
        state.Update(data);
        return state.Finish();
    }

    internal static byte[] Finish(this IHashState state)
    {
        var result = new byte[state.Size];
        state.Finish(result);
        return result;
    }

    internal static void UpdateUInt32(this IHashState state, uint value)
    {
        Span<byte> bytes = stackalloc byte[4];
        BinaryPrimitives.WriteUInt32BigEndian(bytes, value);
        state.Update(bytes);
    }

    /// <summary>KDFa. Source: Part 1, "KDFa()".</summary>
    /// <param name="cryptography">The primitives.</param>
    /// <param name="hash">The hash of the HMAC.</param>
    /// <param name="key">The key.</param>
    /// <param name="label">The label; the terminating zero is added here.</param>
    /// <param name="contextU">First context.</param>
    /// <param name="contextV">Second context.</param>
    /// <param name="bits">Bits of the result; a whole number of bytes.</param>
    internal static byte[] DeriveKey(
        this ICryptography cryptography, AlgorithmId hash, ReadOnlySpan<byte> key, string label, ReadOnlySpan<byte> contextU, ReadOnlySpan<byte> contextV, int bits)
    {
        var result = new byte[bits / 8];
        byte[] labelBytes = Encoding.ASCII.GetBytes(label + "\0");
        Span<byte> block = stackalloc byte[TpmLimits.MaxDigest];
        int done = 0;
        for (uint counter = 1; done < result.Length; counter++)
        {
            IHashState state = cryptography.StartHmac(hash, key);
            state.UpdateUInt32(counter);
            state.Update(labelBytes);
            state.Update(contextU);
            state.Update(contextV);
            state.UpdateUInt32((uint)bits);
            state.Finish(block);
            int count = Math.Min(state.Size, result.Length - done);
            block[..count].CopyTo(result.AsSpan(done));
            done += count;
        }

        CryptographicOperations.ZeroMemory(block);
        return result;
    }

    /// <summary>KDFe: a key from the x coordinate of a shared point. Source: Part 1, "KDFe for ECDH".</summary>
    /// <param name="cryptography">The primitives.</param>
    /// <param name="hash">The hash.</param>
    /// <param name="z">The x coordinate, as long as the curve's.</param>
    /// <param name="use">The label; the terminating zero is added here.</param>
    /// <param name="partyU">The x coordinate of the sender's point.</param>
    /// <param name="partyV">The x coordinate of the receiver's point.</param>
    /// <param name="bits">Bits of the result; a whole number of bytes.</param>
    internal static byte[] DeriveKeyFromPoint(
        this ICryptography cryptography, AlgorithmId hash, ReadOnlySpan<byte> z, string use, ReadOnlySpan<byte> partyU, ReadOnlySpan<byte> partyV, int bits)
    {
        var result = new byte[bits / 8];
        byte[] label = Encoding.ASCII.GetBytes(use + "\0");
        Span<byte> block = stackalloc byte[TpmLimits.MaxDigest];
        int done = 0;
        for (uint counter = 1; done < result.Length; counter++)
        {
            IHashState state = cryptography.StartHash(hash);
            state.UpdateUInt32(counter);
            state.Update(z);
            state.Update(label);
            state.Update(partyU);
            state.Update(partyV);
            state.Finish(block);
            int count = Math.Min(state.Size, result.Length - done);
            block[..count].CopyTo(result.AsSpan(done));
            done += count;
        }

        CryptographicOperations.ZeroMemory(block);
        return result;
    }

    /// <summary>MGF1: a mask from a seed. Source: PKCS #1 (RFC 8017), B.2.1.</summary>
    internal static byte[] Mask(this ICryptography cryptography, AlgorithmId hash, ReadOnlySpan<byte> seed, int size)
    {
        var mask = new byte[size];
        Span<byte> block = stackalloc byte[TpmLimits.MaxDigest];
        int done = 0;
        for (uint counter = 0; done < size; counter++)
        {
            IHashState state = cryptography.StartHash(hash);
            state.Update(seed);
            state.UpdateUInt32(counter);
            state.Finish(block);
            int count = Math.Min(state.Size, size - done);
            block[..count].CopyTo(mask.AsSpan(done));
            done += count;
        }

        CryptographicOperations.ZeroMemory(block);
        return mask;
    }

    /// <summary>AES in any mode in place.</summary>
    /// <param name="cryptography">The primitives.</param>
    /// <param name="mode">The mode.</param>
    /// <param name="key">The key.</param>
    /// <param name="iv">The initial value; afterwards the one to go on with.</param>
    /// <param name="data">The data; whole blocks for CBC and ECB.</param>
    /// <param name="encrypt">The direction.</param>
    internal static void TransformMode(this ICryptography cryptography, AlgorithmId mode, ReadOnlySpan<byte> key, Span<byte> iv, Span<byte> data, bool encrypt)
    {
        bool isBlockwise = mode is AlgorithmId.BlockChaining or AlgorithmId.CodeBook;
        IBlockTransform aes = isBlockwise && !encrypt ? cryptography.AesDecryptor(key) : cryptography.AesEncryptor(key);
        Span<byte> block = stackalloc byte[AesBlock];
        for (int offset = 0; offset < data.Length; offset += AesBlock)
        {
            Span<byte> part = data.Slice(offset, Math.Min(AesBlock, data.Length - offset));
            switch (mode)
            {
                case AlgorithmId.CodeBook:
                    aes.Transform(part, part);
                    break;
                case AlgorithmId.BlockChaining when encrypt:
                    Xor(iv, part);
                    aes.Transform(iv, iv);
                    iv.CopyTo(part);
                    break;
                case AlgorithmId.BlockChaining:
                    aes.Transform(part, block);
                    Xor(block, iv);
                    part.CopyTo(iv);
                    block.CopyTo(part);
                    break;
                case AlgorithmId.CipherFeedback:
                    aes.Transform(iv, block);
                    iv.Clear();
                    if (!encrypt)
                    {
                        part.CopyTo(iv);
                    }

                    Xor(part, block);
                    if (encrypt)
                    {
                        part.CopyTo(iv);
                    }

                    break;
                case AlgorithmId.OutputFeedback:
                    aes.Transform(iv, iv);
                    Xor(part, iv);
                    break;
                default:
                    aes.Transform(iv, block);
                    Xor(part, block);
                    Increment(iv);
                    break;
            }
        }

        aes.Clear();
        CryptographicOperations.ZeroMemory(block);
    }

    private static void Xor(Span<byte> data, ReadOnlySpan<byte> mask)
    {
        for (int i = 0; i < data.Length; i++)
        {
            data[i] ^= mask[i];
        }
    }

    private static void Increment(Span<byte> counter)
    {
        for (int i = counter.Length - 1; i >= 0 && ++counter[i] == 0; i--)
        {
        }
    }

    /// <summary>AES-CFB in place.</summary>
    internal static void TransformCfb(this ICryptography cryptography, ReadOnlySpan<byte> key, ReadOnlySpan<byte> iv, Span<byte> data, bool encrypt)
    {
        IBlockTransform aes = cryptography.AesEncryptor(key);
        Span<byte> feedback = stackalloc byte[AesBlock];
        Span<byte> stream = stackalloc byte[AesBlock];
        iv.CopyTo(feedback);
        for (int offset = 0; offset < data.Length; offset += AesBlock)
        {
            Span<byte> part = data.Slice(offset, Math.Min(AesBlock, data.Length - offset));
            aes.Transform(feedback, stream);
            if (!encrypt)
            {
                part.CopyTo(feedback);
            }

            for (int i = 0; i < part.Length; i++)
            {
                part[i] ^= stream[i];
            }

            if (encrypt)
            {
                part.CopyTo(feedback);
            }
        }

        aes.Clear();
        CryptographicOperations.ZeroMemory(stream);
    }

    /// <summary>Compares secrets of any length; the time depends on the lengths only.</summary>
    internal static bool AreEqual(ReadOnlySpan<byte> left, ReadOnlySpan<byte> right) => CryptographicOperations.FixedTimeEquals(left, right);

    /// <summary>An authValue without its trailing zeros: they do not count.</summary>
    internal static ReadOnlySpan<byte> TrimAuth(ReadOnlySpan<byte> auth) => auth.TrimEnd((byte)0);
}
