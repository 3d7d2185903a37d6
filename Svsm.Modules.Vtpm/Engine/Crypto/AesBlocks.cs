// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using System.Security.Cryptography;
using Instructions = System.Runtime.Intrinsics.X86.Aes;

namespace Svsm.Modules.Vtpm.Crypto;

/// <summary>
/// AES with the processor's instructions: no tables, so no trace of the key in caches, and round keys that can be cleared, which those of
/// BouncyCastle cannot. Source: FIPS 197, 5.2 (key expansion), 5.3.5 (equivalent inverse cipher).
/// </summary>
internal sealed class AesBlocks : IBlockTransform
{
    private const int BlockWords = 4;
    private const int BlockSize = 16;

    private readonly Vector128<byte>[] _keys;
    private readonly bool _encrypts;

    /// <param name="key">16, 24 or 32 bytes.</param>
    /// <param name="encrypts">The direction.</param>
    internal AesBlocks(ReadOnlySpan<byte> key, bool encrypts)
    {
        int keyWords = key.Length / sizeof(uint);
        int rounds = keyWords + 6;
        _keys = new Vector128<byte>[rounds + 1];
        _encrypts = encrypts;
        Span<uint> words = MemoryMarshal.Cast<Vector128<byte>, uint>(_keys.AsSpan());
        MemoryMarshal.Cast<byte, uint>(key).CopyTo(words);
        uint constant = 1;
        for (int i = keyWords; i < words.Length; i++)
        {
            uint word = words[i - 1];
            if (i % keyWords == 0)
            {
                // Words are little-endian, so the standard's rotation to the left is one to the right.
                word = SubstituteBytes(uint.RotateRight(word, 8)) ^ constant;
                constant = (constant << 1) ^ ((constant >> 7) * 0x11B);
            }
            else if (keyWords > 6 && i % keyWords == BlockWords)
            {
                word = SubstituteBytes(word);
            }

            words[i] = words[i - keyWords] ^ word;
        }

        if (!encrypts)
        {
            Array.Reverse(_keys);
            for (int i = 1; i < rounds; i++)
            {
                _keys[i] = Instructions.InverseMixColumns(_keys[i]);
            }
        }
    }

    /// <summary>Whether this machine can do it.</summary>
    internal static bool IsSupported => Instructions.IsSupported && BitConverter.IsLittleEndian;

    public void Transform(ReadOnlySpan<byte> input, Span<byte> output)
    {
        Vector128<byte>[] keys = _keys;
        Vector128<byte> block = Vector128.Create(input[..BlockSize]) ^ keys[0];
        if (_encrypts)
        {
            for (int i = 1; i < keys.Length - 1; i++)
            {
                block = Instructions.Encrypt(block, keys[i]);
            }

            block = Instructions.EncryptLast(block, keys[^1]);
        }
        else
        {
            for (int i = 1; i < keys.Length - 1; i++)
            {
                block = Instructions.Decrypt(block, keys[i]);
            }

            block = Instructions.DecryptLast(block, keys[^1]);
        }

        block.CopyTo(output);
    }

    public void Clear() => CryptographicOperations.ZeroMemory(MemoryMarshal.AsBytes(_keys.AsSpan()));

    // The lowest word of what the instruction makes is the substitution of the second one of what it gets.
    private static uint SubstituteBytes(uint word) => Instructions.KeygenAssist(Vector128.Create(word).AsByte(), 0).AsUInt32().ToScalar();
}
