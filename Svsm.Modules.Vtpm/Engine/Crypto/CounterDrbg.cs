// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Security.Cryptography;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Crypto;

// CTR_DRBG with AES-256 of NIST SP 800-90A, with the derivation function in the form that the TCG reference implementation has. It makes
// the TPM's random numbers and, from a hierarchy's seed, primary keys; for the latter every bit counts: seeds that come from another TPM
// have to give the same keys. The reference's derivation function differs from the standard's in two ways that are kept here:
//   - the accumulator of the three chains is not cleared between them, so each chain's block also depends on the ones before;
//   - the header {input length, seed length} goes into the chaining value of the first chain, not into the first block, which has
//     four zero bytes in its place.
//
// Source: NIST SP 800-90A, 10.2.1; the form of the derivation function was established by re-computing keys of a TPM with known seeds
// (tests: PrimaryVectors).
internal sealed class CounterDrbg : IRandomSource, IUnfinishedWork
{
    private const int Block = 16;
    private const int KeySize = 32;
    private const int SeedSize = KeySize + Block;
    private const int Chains = SeedSize / Block;

    private readonly ICryptography _cryptography;
    private readonly byte[] _key = new byte[KeySize];
    private readonly byte[] _counter = new byte[Block];

    private CounterDrbg(ICryptography cryptography) => _cryptography = cryptography;

    /// <summary>Instantiates from the concatenation of the inputs.</summary>
    internal static CounterDrbg Create(ICryptography cryptography, params ReadOnlySpan<byte[]> inputs)
    {
        var drbg = new CounterDrbg(cryptography);
        byte[] seed = drbg.DeriveSeed(inputs);
        drbg.Update(seed);
        CryptographicOperations.ZeroMemory(seed);
        return drbg;
    }

    /// <summary>Mixes data in.</summary>
    internal void Reseed(params ReadOnlySpan<byte[]> inputs)
    {
        byte[] seed = DeriveSeed(inputs);
        Update(seed);
        CryptographicOperations.ZeroMemory(seed);
    }

    public void Fill(Span<byte> result)
    {
        IBlockTransform aes = _cryptography.AesEncryptor(_key);
        Span<byte> block = stackalloc byte[Block];
        for (int offset = 0; offset < result.Length; offset += Block)
        {
            Next(aes, block);
            block[..Math.Min(Block, result.Length - offset)].CopyTo(result[offset..]);
        }

        aes.Clear();
        CryptographicOperations.ZeroMemory(block);
        Update(default);
    }

    internal byte[] Generate(int count)
    {
        var result = new byte[count];
        Fill(result);
        return result;
    }

    public void Clear()
    {
        CryptographicOperations.ZeroMemory(_key);
        CryptographicOperations.ZeroMemory(_counter);
    }

    private void Next(IBlockTransform aes, Span<byte> block)
    {
        for (int i = Block - 1; i >= 0; i--)
        {
            if (++_counter[i] != 0)
            {
                break;
            }
        }

        aes.Transform(_counter, block);
    }

    private void Update(ReadOnlySpan<byte> provided)
    {
        IBlockTransform aes = _cryptography.AesEncryptor(_key);
        Span<byte> fresh = stackalloc byte[SeedSize];
        for (int i = 0; i < Chains; i++)
        {
            Next(aes, fresh.Slice(i * Block, Block));
        }

        for (int i = 0; i < provided.Length; i++)
        {
            fresh[i] ^= provided[i];
        }

        aes.Clear();
        fresh[..KeySize].CopyTo(_key);
        fresh[KeySize..].CopyTo(_counter);
        CryptographicOperations.ZeroMemory(fresh);
    }

    private byte[] DeriveSeed(ReadOnlySpan<byte[]> inputs)
    {
        uint total = 0;
        foreach (byte[] input in inputs)
        {
            total += (uint)input.Length;
        }

        Span<byte> key = stackalloc byte[KeySize];
        for (int i = 0; i < KeySize; i++)
        {
            key[i] = (byte)i;
        }

        IBlockTransform aes = _cryptography.AesEncryptor(key);
        var chains = new byte[SeedSize];
        Span<byte> block = stackalloc byte[Block];
        block.Clear();
        for (int i = 0; i < Chains; i++)
        {
            chains[(i * Block) + 3] = (byte)i;
        }

        Absorb(aes, chains, block);
        System.Buffers.Binary.BinaryPrimitives.WriteUInt32BigEndian(chains, total);
        System.Buffers.Binary.BinaryPrimitives.WriteUInt32BigEndian(chains.AsSpan(4), SeedSize);

        int used = 4;
        foreach (byte[] input in inputs)
        {
            foreach (byte value in input)
            {
                block[used++] = value;
                if (used == Block)
                {
                    Absorb(aes, chains, block);
                    used = 0;
                }
            }
        }

        block[used] = 0x80;
        Absorb(aes, chains, block);
        aes.Clear();
        return chains;
    }

    private static void Absorb(IBlockTransform aes, Span<byte> chains, Span<byte> block)
    {
        Span<byte> accumulator = stackalloc byte[Block];
        accumulator.Clear();
        for (int chain = 0; chain < Chains; chain++)
        {
            Span<byte> value = chains.Slice(chain * Block, Block);
            for (int i = 0; i < Block; i++)
            {
                accumulator[i] ^= (byte)(value[i] ^ block[i]);
            }

            aes.Transform(accumulator, value);
        }

        CryptographicOperations.ZeroMemory(accumulator);
        block.Clear();
    }
}
