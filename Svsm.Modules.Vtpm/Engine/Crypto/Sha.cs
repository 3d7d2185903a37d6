// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Crypto;

// SHA-1, SHA-256, SHA-384 and SHA-512, and HMAC with them. They are here because a hash in progress is saved with its sequence object
// (TPM2_ContextSave) and the digests of BouncyCastle give their inner state to nobody.
//
// A saved state: the chaining value, UINT64 number of bytes so far, and of them those that do not fill a block.
//
// Source: FIPS 180-4, FIPS 198-1.

/// <summary>A digest in progress.</summary>
internal abstract class Sha : IHashState
{
    private readonly byte[] _block;
    private int _used;
    private ulong _total;

    private Sha(int size, int blockSize)
    {
        Size = size;
        _block = new byte[blockSize];
    }

    public int Size { get; }

    internal int BlockSize => _block.Length;

    // The length at the end of the last block has a quarter of it in words: 8 or 16 bytes.
    private int LengthSize => _block.Length / 8;

    internal static Sha Create(AlgorithmId algorithm) => algorithm switch
    {
        AlgorithmId.Sha1 => new Sha1(),
        AlgorithmId.Sha256 => new Sha256(),
        AlgorithmId.Sha384 => new Sha512(48),
        AlgorithmId.Sha512 => new Sha512(64),
        _ => throw new ArgumentOutOfRangeException(nameof(algorithm), algorithm, "not a hash algorithm of this TPM"),
    };

    public void Update(ReadOnlySpan<byte> data)
    {
        _total += (ulong)data.Length;
        if (_used != 0)
        {
            int count = Math.Min(_block.Length - _used, data.Length);
            data[..count].CopyTo(_block.AsSpan(_used));
            _used += count;
            data = data[count..];
            if (_used < _block.Length)
            {
                return;
            }

            Compress(_block);
            _used = 0;
        }

        for (; data.Length >= _block.Length; data = data[_block.Length..])
        {
            Compress(data[.._block.Length]);
        }

        data.CopyTo(_block);
        _used = data.Length;
    }

    public void Finish(Span<byte> result)
    {
        _block[_used++] = 0x80;
        if (_used > _block.Length - LengthSize)
        {
            _block.AsSpan(_used).Clear();
            Compress(_block);
            _used = 0;
        }

        _block.AsSpan(_used).Clear();
        BinaryPrimitives.WriteUInt64BigEndian(_block.AsSpan(_block.Length - sizeof(ulong)), _total * 8);
        Compress(_block);
        Span<byte> chain = stackalloc byte[TpmLimits.MaxDigest];
        WriteChain(chain);
        chain[..Size].CopyTo(result);
        CryptographicOperations.ZeroMemory(chain);
        Clear();
    }

    public void Save(ref TpmWriter writer)
    {
        Span<byte> chain = stackalloc byte[TpmLimits.MaxDigest];
        writer.WriteBytes(chain[..WriteChain(chain)]);
        writer.WriteUInt64(_total);
        writer.WriteBytes(_block.AsSpan(0, _used));
        CryptographicOperations.ZeroMemory(chain);
    }

    /// <summary>Takes the state that <see cref="Save"/> wrote.</summary>
    public TpmResponseCode Load(ref TpmReader reader)
    {
        Span<byte> chain = stackalloc byte[TpmLimits.MaxDigest];
        TpmResponseCode code;
        if ((code = reader.ReadBytes(WriteChain(chain), out ReadOnlyMemory<byte> saved)) != TpmResponseCode.Success
            || (code = reader.ReadUInt64(out _total)) != TpmResponseCode.Success
            || (code = reader.ReadBytes((int)(_total % (ulong)_block.Length), out ReadOnlyMemory<byte> rest)) != TpmResponseCode.Success)
        {
            return code;
        }

        ReadChain(saved.Span);
        rest.Span.CopyTo(_block);
        _used = rest.Length;
        return TpmResponseCode.Success;
    }

    public virtual void Clear() => CryptographicOperations.ZeroMemory(_block);

    /// <returns>Bytes of the chaining value, also those that the digest leaves out.</returns>
    private protected abstract int WriteChain(Span<byte> chain);

    private protected abstract void ReadChain(ReadOnlySpan<byte> chain);

    private protected abstract void Compress(ReadOnlySpan<byte> block);

    private abstract class Words32(int size, uint[] initial) : Sha(size, 64)
    {
        private protected uint[] Chain { get; } = initial;

        public override void Clear()
        {
            base.Clear();
            Chain.AsSpan().Clear();
        }

        private protected override int WriteChain(Span<byte> chain)
        {
            for (int i = 0; i < Chain.Length; i++)
            {
                BinaryPrimitives.WriteUInt32BigEndian(chain[(i * sizeof(uint))..], Chain[i]);
            }

            return Chain.Length * sizeof(uint);
        }

        private protected override void ReadChain(ReadOnlySpan<byte> chain)
        {
            for (int i = 0; i < Chain.Length; i++)
            {
                Chain[i] = BinaryPrimitives.ReadUInt32BigEndian(chain[(i * sizeof(uint))..]);
            }
        }
    }

    private sealed class Sha1() : Words32(20, [0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0])
    {
        private protected override void Compress(ReadOnlySpan<byte> block)
        {
            Span<uint> schedule = stackalloc uint[80];
            for (int i = 0; i < 16; i++)
            {
                schedule[i] = BinaryPrimitives.ReadUInt32BigEndian(block[(i * sizeof(uint))..]);
            }

            for (int i = 16; i < schedule.Length; i++)
            {
                schedule[i] = BitOperations.RotateLeft(schedule[i - 3] ^ schedule[i - 8] ^ schedule[i - 14] ^ schedule[i - 16], 1);
            }

            (uint a, uint b, uint c, uint d, uint e) = (Chain[0], Chain[1], Chain[2], Chain[3], Chain[4]);
            for (int i = 0; i < schedule.Length; i++)
            {
                uint mixed = i < 20 ? ((b & c) | (~b & d)) + 0x5A827999
                    : i < 40 ? (b ^ c ^ d) + 0x6ED9EBA1
                    : i < 60 ? ((b & c) | (b & d) | (c & d)) + 0x8F1BBCDC
                    : (b ^ c ^ d) + 0xCA62C1D6;
                uint next = BitOperations.RotateLeft(a, 5) + mixed + e + schedule[i];
                (e, d, c, b, a) = (d, c, BitOperations.RotateLeft(b, 30), a, next);
            }

            Chain[0] += a;
            Chain[1] += b;
            Chain[2] += c;
            Chain[3] += d;
            Chain[4] += e;
            CryptographicOperations.ZeroMemory(MemoryMarshal.AsBytes(schedule));
        }
    }

    private sealed class Sha256() : Words32(32, [.. s_initial])
    {
        private const int Rounds = 64;

        private static readonly uint[] s_initial =
        [
            0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19,
        ];

        private static ReadOnlySpan<uint> Constants =>
        [
            0x428A2F98, 0x71374491, 0xB5C0FBCF, 0xE9B5DBA5, 0x3956C25B, 0x59F111F1, 0x923F82A4, 0xAB1C5ED5,
            0xD807AA98, 0x12835B01, 0x243185BE, 0x550C7DC3, 0x72BE5D74, 0x80DEB1FE, 0x9BDC06A7, 0xC19BF174,
            0xE49B69C1, 0xEFBE4786, 0x0FC19DC6, 0x240CA1CC, 0x2DE92C6F, 0x4A7484AA, 0x5CB0A9DC, 0x76F988DA,
            0x983E5152, 0xA831C66D, 0xB00327C8, 0xBF597FC7, 0xC6E00BF3, 0xD5A79147, 0x06CA6351, 0x14292967,
            0x27B70A85, 0x2E1B2138, 0x4D2C6DFC, 0x53380D13, 0x650A7354, 0x766A0ABB, 0x81C2C92E, 0x92722C85,
            0xA2BFE8A1, 0xA81A664B, 0xC24B8B70, 0xC76C51A3, 0xD192E819, 0xD6990624, 0xF40E3585, 0x106AA070,
            0x19A4C116, 0x1E376C08, 0x2748774C, 0x34B0BCB5, 0x391C0CB3, 0x4ED8AA4A, 0x5B9CCA4F, 0x682E6FF3,
            0x748F82EE, 0x78A5636F, 0x84C87814, 0x8CC70208, 0x90BEFFFA, 0xA4506CEB, 0xBEF9A3F7, 0xC67178F2,
        ];

        private protected override void Compress(ReadOnlySpan<byte> block)
        {
            Span<uint> schedule = stackalloc uint[Rounds];
            for (int i = 0; i < 16; i++)
            {
                schedule[i] = BinaryPrimitives.ReadUInt32BigEndian(block[(i * sizeof(uint))..]);
            }

            // SAFETY: references to the first of as many words as there are rounds; they keep range checks out of the loops.
            ref uint word = ref MemoryMarshal.GetReference(schedule);
            for (int i = 16; i < Rounds; i++)
            {
                uint w15 = Unsafe.Add(ref word, i - 15);
                uint w2 = Unsafe.Add(ref word, i - 2);
                Unsafe.Add(ref word, i) = Unsafe.Add(ref word, i - 16) + Unsafe.Add(ref word, i - 7)
                    + (BitOperations.RotateRight(w15, 7) ^ BitOperations.RotateRight(w15, 18) ^ (w15 >> 3))
                    + (BitOperations.RotateRight(w2, 17) ^ BitOperations.RotateRight(w2, 19) ^ (w2 >> 10));
            }

            (uint a, uint b, uint c, uint d) = (Chain[0], Chain[1], Chain[2], Chain[3]);
            (uint e, uint f, uint g, uint h) = (Chain[4], Chain[5], Chain[6], Chain[7]);
            ref uint constant = ref MemoryMarshal.GetReference(Constants);
            for (int i = 0; i < Rounds; i += 8)
            {
                Round(a, b, c, ref d, e, f, g, ref h, Unsafe.Add(ref constant, i) + Unsafe.Add(ref word, i));
                Round(h, a, b, ref c, d, e, f, ref g, Unsafe.Add(ref constant, i + 1) + Unsafe.Add(ref word, i + 1));
                Round(g, h, a, ref b, c, d, e, ref f, Unsafe.Add(ref constant, i + 2) + Unsafe.Add(ref word, i + 2));
                Round(f, g, h, ref a, b, c, d, ref e, Unsafe.Add(ref constant, i + 3) + Unsafe.Add(ref word, i + 3));
                Round(e, f, g, ref h, a, b, c, ref d, Unsafe.Add(ref constant, i + 4) + Unsafe.Add(ref word, i + 4));
                Round(d, e, f, ref g, h, a, b, ref c, Unsafe.Add(ref constant, i + 5) + Unsafe.Add(ref word, i + 5));
                Round(c, d, e, ref f, g, h, a, ref b, Unsafe.Add(ref constant, i + 6) + Unsafe.Add(ref word, i + 6));
                Round(b, c, d, ref e, f, g, h, ref a, Unsafe.Add(ref constant, i + 7) + Unsafe.Add(ref word, i + 7));
            }

            Chain[0] += a;
            Chain[1] += b;
            Chain[2] += c;
            Chain[3] += d;
            Chain[4] += e;
            Chain[5] += f;
            Chain[6] += g;
            Chain[7] += h;
            CryptographicOperations.ZeroMemory(MemoryMarshal.AsBytes(schedule));
        }

        // The registers are not moved round: the next round has them in other places.
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        private static void Round(uint a, uint b, uint c, ref uint d, uint e, uint f, uint g, ref uint h, uint word)
        {
            h += (BitOperations.RotateRight(e, 6) ^ BitOperations.RotateRight(e, 11) ^ BitOperations.RotateRight(e, 25)) + (g ^ (e & (f ^ g))) + word;
            d += h;
            h += (BitOperations.RotateRight(a, 2) ^ BitOperations.RotateRight(a, 13) ^ BitOperations.RotateRight(a, 22)) + ((a & b) | (c & (a | b)));
        }
    }

    private sealed class Sha512(int size) : Sha(size, 128)
    {
        private const int Rounds = 80;

        private static readonly ulong[] s_initial384 =
        [
            0xCBBB9D5DC1059ED8, 0x629A292A367CD507, 0x9159015A3070DD17, 0x152FECD8F70E5939,
            0x67332667FFC00B31, 0x8EB44A8768581511, 0xDB0C2E0D64F98FA7, 0x47B5481DBEFA4FA4,
        ];

        private static readonly ulong[] s_initial512 =
        [
            0x6A09E667F3BCC908, 0xBB67AE8584CAA73B, 0x3C6EF372FE94F82B, 0xA54FF53A5F1D36F1,
            0x510E527FADE682D1, 0x9B05688C2B3E6C1F, 0x1F83D9ABFB41BD6B, 0x5BE0CD19137E2179,
        ];

        private readonly ulong[] _chain = [.. size == 48 ? s_initial384 : s_initial512];

        private static ReadOnlySpan<ulong> Constants =>
        [
            0x428A2F98D728AE22, 0x7137449123EF65CD, 0xB5C0FBCFEC4D3B2F, 0xE9B5DBA58189DBBC, 0x3956C25BF348B538,
            0x59F111F1B605D019, 0x923F82A4AF194F9B, 0xAB1C5ED5DA6D8118, 0xD807AA98A3030242, 0x12835B0145706FBE,
            0x243185BE4EE4B28C, 0x550C7DC3D5FFB4E2, 0x72BE5D74F27B896F, 0x80DEB1FE3B1696B1, 0x9BDC06A725C71235,
            0xC19BF174CF692694, 0xE49B69C19EF14AD2, 0xEFBE4786384F25E3, 0x0FC19DC68B8CD5B5, 0x240CA1CC77AC9C65,
            0x2DE92C6F592B0275, 0x4A7484AA6EA6E483, 0x5CB0A9DCBD41FBD4, 0x76F988DA831153B5, 0x983E5152EE66DFAB,
            0xA831C66D2DB43210, 0xB00327C898FB213F, 0xBF597FC7BEEF0EE4, 0xC6E00BF33DA88FC2, 0xD5A79147930AA725,
            0x06CA6351E003826F, 0x142929670A0E6E70, 0x27B70A8546D22FFC, 0x2E1B21385C26C926, 0x4D2C6DFC5AC42AED,
            0x53380D139D95B3DF, 0x650A73548BAF63DE, 0x766A0ABB3C77B2A8, 0x81C2C92E47EDAEE6, 0x92722C851482353B,
            0xA2BFE8A14CF10364, 0xA81A664BBC423001, 0xC24B8B70D0F89791, 0xC76C51A30654BE30, 0xD192E819D6EF5218,
            0xD69906245565A910, 0xF40E35855771202A, 0x106AA07032BBD1B8, 0x19A4C116B8D2D0C8, 0x1E376C085141AB53,
            0x2748774CDF8EEB99, 0x34B0BCB5E19B48A8, 0x391C0CB3C5C95A63, 0x4ED8AA4AE3418ACB, 0x5B9CCA4F7763E373,
            0x682E6FF3D6B2B8A3, 0x748F82EE5DEFB2FC, 0x78A5636F43172F60, 0x84C87814A1F0AB72, 0x8CC702081A6439EC,
            0x90BEFFFA23631E28, 0xA4506CEBDE82BDE9, 0xBEF9A3F7B2C67915, 0xC67178F2E372532B, 0xCA273ECEEA26619C,
            0xD186B8C721C0C207, 0xEADA7DD6CDE0EB1E, 0xF57D4F7FEE6ED178, 0x06F067AA72176FBA, 0x0A637DC5A2C898A6,
            0x113F9804BEF90DAE, 0x1B710B35131C471B, 0x28DB77F523047D84, 0x32CAAB7B40C72493, 0x3C9EBE0A15C9BEBC,
            0x431D67C49C100D4C, 0x4CC5D4BECB3E42B6, 0x597F299CFC657E2A, 0x5FCB6FAB3AD6FAEC, 0x6C44198C4A475817,
        ];

        public override void Clear()
        {
            base.Clear();
            _chain.AsSpan().Clear();
        }

        private protected override int WriteChain(Span<byte> chain)
        {
            for (int i = 0; i < _chain.Length; i++)
            {
                BinaryPrimitives.WriteUInt64BigEndian(chain[(i * sizeof(ulong))..], _chain[i]);
            }

            return _chain.Length * sizeof(ulong);
        }

        private protected override void ReadChain(ReadOnlySpan<byte> chain)
        {
            for (int i = 0; i < _chain.Length; i++)
            {
                _chain[i] = BinaryPrimitives.ReadUInt64BigEndian(chain[(i * sizeof(ulong))..]);
            }
        }

        private protected override void Compress(ReadOnlySpan<byte> block)
        {
            Span<ulong> schedule = stackalloc ulong[Rounds];
            for (int i = 0; i < 16; i++)
            {
                schedule[i] = BinaryPrimitives.ReadUInt64BigEndian(block[(i * sizeof(ulong))..]);
            }

            // SAFETY: references to the first of as many words as there are rounds; they keep range checks out of the loops.
            ref ulong word = ref MemoryMarshal.GetReference(schedule);
            for (int i = 16; i < Rounds; i++)
            {
                ulong w15 = Unsafe.Add(ref word, i - 15);
                ulong w2 = Unsafe.Add(ref word, i - 2);
                Unsafe.Add(ref word, i) = Unsafe.Add(ref word, i - 16) + Unsafe.Add(ref word, i - 7)
                    + (BitOperations.RotateRight(w15, 1) ^ BitOperations.RotateRight(w15, 8) ^ (w15 >> 7))
                    + (BitOperations.RotateRight(w2, 19) ^ BitOperations.RotateRight(w2, 61) ^ (w2 >> 6));
            }

            (ulong a, ulong b, ulong c, ulong d) = (_chain[0], _chain[1], _chain[2], _chain[3]);
            (ulong e, ulong f, ulong g, ulong h) = (_chain[4], _chain[5], _chain[6], _chain[7]);
            ref ulong constant = ref MemoryMarshal.GetReference(Constants);
            for (int i = 0; i < Rounds; i += 8)
            {
                Round(a, b, c, ref d, e, f, g, ref h, Unsafe.Add(ref constant, i) + Unsafe.Add(ref word, i));
                Round(h, a, b, ref c, d, e, f, ref g, Unsafe.Add(ref constant, i + 1) + Unsafe.Add(ref word, i + 1));
                Round(g, h, a, ref b, c, d, e, ref f, Unsafe.Add(ref constant, i + 2) + Unsafe.Add(ref word, i + 2));
                Round(f, g, h, ref a, b, c, d, ref e, Unsafe.Add(ref constant, i + 3) + Unsafe.Add(ref word, i + 3));
                Round(e, f, g, ref h, a, b, c, ref d, Unsafe.Add(ref constant, i + 4) + Unsafe.Add(ref word, i + 4));
                Round(d, e, f, ref g, h, a, b, ref c, Unsafe.Add(ref constant, i + 5) + Unsafe.Add(ref word, i + 5));
                Round(c, d, e, ref f, g, h, a, ref b, Unsafe.Add(ref constant, i + 6) + Unsafe.Add(ref word, i + 6));
                Round(b, c, d, ref e, f, g, h, ref a, Unsafe.Add(ref constant, i + 7) + Unsafe.Add(ref word, i + 7));
            }

            _chain[0] += a;
            _chain[1] += b;
            _chain[2] += c;
            _chain[3] += d;
            _chain[4] += e;
            _chain[5] += f;
            _chain[6] += g;
            _chain[7] += h;
            CryptographicOperations.ZeroMemory(MemoryMarshal.AsBytes(schedule));
        }

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        private static void Round(ulong a, ulong b, ulong c, ref ulong d, ulong e, ulong f, ulong g, ref ulong h, ulong word)
        {
            h += (BitOperations.RotateRight(e, 14) ^ BitOperations.RotateRight(e, 18) ^ BitOperations.RotateRight(e, 41)) + (g ^ (e & (f ^ g))) + word;
            d += h;
            h += (BitOperations.RotateRight(a, 28) ^ BitOperations.RotateRight(a, 34) ^ BitOperations.RotateRight(a, 39)) + ((a & b) | (c & (a | b)));
        }
    }
}

/// <summary>An HMAC in progress: the two digests, whose states say nothing about the key.</summary>
internal sealed class ShaHmac : IHashState
{
    private readonly Sha _inner;
    private readonly Sha _outer;

    /// <summary>Begins with a key of any length.</summary>
    internal ShaHmac(AlgorithmId algorithm, ReadOnlySpan<byte> key)
        : this(algorithm)
    {
        Span<byte> block = stackalloc byte[128];
        block = block[.._inner.BlockSize];
        block.Clear();
        if (key.Length <= block.Length)
        {
            key.CopyTo(block);
        }
        else
        {
            Sha hash = Sha.Create(algorithm);
            hash.Update(key);
            hash.Finish(block);
        }

        Xor(block, 0x36);
        _inner.Update(block);
        Xor(block, 0x36 ^ 0x5C);
        _outer.Update(block);
        CryptographicOperations.ZeroMemory(block);
    }

    /// <summary>For <see cref="Load"/>.</summary>
    internal ShaHmac(AlgorithmId algorithm)
    {
        _inner = Sha.Create(algorithm);
        _outer = Sha.Create(algorithm);
    }

    public int Size => _inner.Size;

    public void Update(ReadOnlySpan<byte> data) => _inner.Update(data);

    public void Finish(Span<byte> result)
    {
        Span<byte> digest = stackalloc byte[TpmLimits.MaxDigest];
        digest = digest[..Size];
        _inner.Finish(digest);
        _outer.Update(digest);
        _outer.Finish(result);
        CryptographicOperations.ZeroMemory(digest);
    }

    public void Save(ref TpmWriter writer)
    {
        _inner.Save(ref writer);
        _outer.Save(ref writer);
    }

    public TpmResponseCode Load(ref TpmReader reader)
    {
        TpmResponseCode code = _inner.Load(ref reader);
        return code != TpmResponseCode.Success ? code : _outer.Load(ref reader);
    }

    public void Clear()
    {
        _inner.Clear();
        _outer.Clear();
    }

    private static void Xor(Span<byte> block, byte value)
    {
        for (int i = 0; i < block.Length; i++)
        {
            block[i] ^= value;
        }
    }
}
