// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Security.Cryptography;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Crypto;

// CMAC with AES. The last block is kept back until it is known to be the last: a whole one is mixed with the first subkey, a part of one,
// padded by a one and zeros, with the second.
//
// Source: NIST SP 800-38B.
internal sealed class Cmac : IHashState
{
    internal const int BlockSize = 16;

    private readonly byte[] _key;
    private readonly IBlockTransform _cipher;
    private readonly byte[] _chain = new byte[BlockSize];
    private readonly byte[] _last = new byte[BlockSize];
    private int _count;

    /// <summary>Begins.</summary>
    /// <param name="cryptography">For AES.</param>
    /// <param name="key">An AES key.</param>
    internal Cmac(ICryptography cryptography, ReadOnlySpan<byte> key)
    {
        _key = key.ToArray();
        _cipher = cryptography.AesEncryptor(key);
    }

    public int Size => BlockSize;

    public void Update(ReadOnlySpan<byte> data)
    {
        while (!data.IsEmpty)
        {
            if (_count == BlockSize)
            {
                Mix(_last);
                _count = 0;
            }

            int size = Math.Min(BlockSize - _count, data.Length);
            data[..size].CopyTo(_last.AsSpan(_count));
            _count += size;
            data = data[size..];
        }
    }

    public void Finish(Span<byte> result)
    {
        Span<byte> subkey = stackalloc byte[BlockSize];
        subkey.Clear();
        _cipher.Transform(subkey, subkey);
        Double(subkey);
        if (_count < BlockSize)
        {
            Double(subkey);
            _last.AsSpan(_count).Clear();
            _last[_count] = 0x80;
        }

        for (int i = 0; i < BlockSize; i++)
        {
            _last[i] ^= subkey[i];
        }

        Mix(_last);
        _chain.CopyTo(result);
        CryptographicOperations.ZeroMemory(subkey);
        Clear();
    }

    public void Save(ref TpmWriter writer)
    {
        writer.WriteSized(_key);
        writer.WriteBytes(_chain);
        writer.WriteBytes(_last);
        writer.WriteByte((byte)_count);
    }

    /// <summary>Goes on with what <see cref="Save"/> wrote.</summary>
    internal static TpmResponseCode Load(ICryptography cryptography, ref TpmReader reader, out IHashState state)
    {
        state = null!;
        TpmResponseCode code;
        if ((code = reader.ReadSizedCopy(32, out byte[] key)) != TpmResponseCode.Success
            || (code = reader.ReadBytes(BlockSize, out ReadOnlyMemory<byte> chain)) != TpmResponseCode.Success
            || (code = reader.ReadBytes(BlockSize, out ReadOnlyMemory<byte> last)) != TpmResponseCode.Success
            || (code = reader.ReadByte(out byte count)) != TpmResponseCode.Success)
        {
            return code;
        }

        if (key.Length is not (16 or 32) || count > BlockSize)
        {
            return TpmResponseCode.Value;
        }

        var loaded = new Cmac(cryptography, key);
        CryptographicOperations.ZeroMemory(key);
        chain.CopyTo(loaded._chain);
        last.CopyTo(loaded._last);
        loaded._count = count;
        state = loaded;
        return TpmResponseCode.Success;
    }

    public void Clear()
    {
        CryptographicOperations.ZeroMemory(_key);
        CryptographicOperations.ZeroMemory(_chain);
        CryptographicOperations.ZeroMemory(_last);
        _cipher.Clear();
    }

    private void Mix(ReadOnlySpan<byte> block)
    {
        for (int i = 0; i < BlockSize; i++)
        {
            _chain[i] ^= block[i];
        }

        _cipher.Transform(_chain, _chain);
    }

    // Times x in GF(2^128), without a branch on the secret.
    private static void Double(Span<byte> block)
    {
        int carry = 0;
        for (int i = BlockSize - 1; i >= 0; i--)
        {
            int value = (block[i] << 1) | carry;
            block[i] = (byte)value;
            carry = value >> 8;
        }

        block[^1] ^= (byte)(0x87 & -carry);
    }
}
