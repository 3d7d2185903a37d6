// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// AES-256-GCM with the processor's instructions for it, for the pages of a guest that moves: BouncyCastle's takes 57,000 instructions for a page, which is
// most of what a migration costs, and keeps copies of keys that cannot be cleared. This one takes 20,000, has its keys in one array, and no table and no
// branch that depends on them.
//
// AES: FIPS 197; counter mode and the tag: NIST SP 800-38D, 6.4, 6.5, 7.1, 7.2. GHASH is computed as POLYVAL, which has the order of bits that CLMUL has:
// RFC 8452, appendix A. A product is reduced as Montgomery does it: what is multiplied is a * b / x^128, and the key of the hash has the x^128 in it.
//
//   Seal     Cipher(text) -> Tag(associated, encrypted)
//   TryOpen  Tag(associated, encrypted) is the right one -> Cipher(encrypted)

using System;
using System.Buffers.Binary;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;
using System.Security.Cryptography;
using Aes = System.Runtime.Intrinsics.X86.Aes;

namespace Svsm.Cryptography;

/// <summary>AES-256-GCM with nonces of 12 bytes and tags of 16. Not for use by two threads at once.</summary>
internal sealed class AesGcm256 : IDisposable
{
    /// <summary>Bytes of a key.</summary>
    public const int KeyLength = 32;

    /// <summary>Bytes of a nonce.</summary>
    public const int NonceLength = 12;

    /// <summary>Bytes of a tag.</summary>
    public const int TagLength = 16;

    private const int Block = 16;
    private const int Rounds = 14;

    // Blocks that are worked on at a time.
    private const int Wide = 4;

    // Of RFC 8452, 3: x^128 + x^127 + x^126 + x^121 + 1; the terms between the first and the last.
    private const ulong Polynomial = 0xC200_0000_0000_0000;

    // Keys of the rounds, and H, H^2, H^3, H^4. Pinned: the collector leaves no copy of them elsewhere.
    private readonly Vector128<byte>[] _keys = GC.AllocateUninitializedArray<Vector128<byte>>(Rounds + 1 + Wide, pinned: true);
    private bool _isDisposed;

    /// <summary>Takes a key.</summary>
    /// <param name="key">The key: <see cref="KeyLength"/> bytes.</param>
    /// <exception cref="ArgumentException">The key has another length.</exception>
    /// <exception cref="PlatformNotSupportedException">The processor has no AES or CLMUL instructions. All with SEV-SNP have.</exception>
    public AesGcm256(ReadOnlySpan<byte> key)
    {
        if (key.Length != KeyLength)
        {
            throw new ArgumentException($"a key has {key.Length} bytes; wanted are {KeyLength}", nameof(key));
        }

        if (!Aes.IsSupported || !Pclmulqdq.IsSupported || !Ssse3.IsSupported)
        {
            throw new PlatformNotSupportedException("the processor has no instructions for AES, or for multiplying without carries");
        }

        ExpandKey(key);
        Vector128<ulong> h = TimesX(Reverse(Encrypt(Vector128<byte>.Zero)));
        Vector128<ulong> power = h;
        for (int i = 0; i < Wide; i++)
        {
            Power(i) = power.AsByte();
            power = Multiply(power, h);
        }
    }

    /// <summary>Encrypts.</summary>
    /// <param name="nonce">The nonce: <see cref="NonceLength"/> bytes, another one each time.</param>
    /// <param name="associated">What is authentic with it, in the clear.</param>
    /// <param name="text">The text.</param>
    /// <param name="encrypted">Gets the encrypted text: as long.</param>
    /// <param name="tag">Gets the tag: <see cref="TagLength"/> bytes.</param>
    /// <exception cref="ArgumentException">A length is another one.</exception>
    /// <exception cref="ObjectDisposedException">The key was cleared.</exception>
    public void Seal(ReadOnlySpan<byte> nonce, ReadOnlySpan<byte> associated, ReadOnlySpan<byte> text, Span<byte> encrypted, Span<byte> tag)
    {
        Check(nonce, text, encrypted, tag);
        Cipher(nonce, text, encrypted);
        Tag(nonce, associated, encrypted).CopyTo(tag);
    }

    /// <summary>Decrypts what is authentic; of what is not, nothing.</summary>
    /// <param name="nonce">The nonce: <see cref="NonceLength"/> bytes.</param>
    /// <param name="associated">What must be authentic with it. Untrusted.</param>
    /// <param name="encrypted">The encrypted text. Untrusted.</param>
    /// <param name="tag">The tag: <see cref="TagLength"/> bytes. Untrusted.</param>
    /// <param name="text">Gets the text: as long as the encrypted one. Unchanged if the result is false.</param>
    /// <returns>False: it is not authentic.</returns>
    /// <exception cref="ArgumentException">A length is another one.</exception>
    /// <exception cref="ObjectDisposedException">The key was cleared.</exception>
    public bool TryOpen(ReadOnlySpan<byte> nonce, ReadOnlySpan<byte> associated, ReadOnlySpan<byte> encrypted, ReadOnlySpan<byte> tag, Span<byte> text)
    {
        Check(nonce, encrypted, text, tag);
        Span<byte> due = stackalloc byte[TagLength];
        Tag(nonce, associated, encrypted).CopyTo(due);
        if (!CryptographicOperations.FixedTimeEquals(due, tag))
        {
            return false;
        }

        Cipher(nonce, encrypted, text);
        return true;
    }

    /// <summary>Clears the key. Nothing is done with zeroes in its place.</summary>
    public void Dispose()
    {
        _isDisposed = true;
        CryptographicOperations.ZeroMemory(MemoryMarshal.AsBytes(_keys.AsSpan()));
    }

    private void Check(ReadOnlySpan<byte> nonce, ReadOnlySpan<byte> from, ReadOnlySpan<byte> to, ReadOnlySpan<byte> tag)
    {
        ObjectDisposedException.ThrowIf(_isDisposed, this);
        if (nonce.Length != NonceLength || from.Length != to.Length || tag.Length != TagLength)
        {
            throw new ArgumentException(
                $"a nonce has {nonce.Length} bytes, a tag {tag.Length}, the texts {from.Length} and {to.Length}; wanted are {NonceLength}, {TagLength}, and the same");
        }
    }

    private ref Vector128<byte> Power(int index) => ref _keys[Rounds + 1 + index];

    // FIPS 197, 5.2: every second key is made as the others, without rotation and constant.
    private void ExpandKey(ReadOnlySpan<byte> key)
    {
        const byte WithRotation = 0xFF;
        const byte WithoutRotation = 0xAA;
        Vector128<byte> even = Vector128.Create(key);
        Vector128<byte> odd = Vector128.Create(key[Block..]);
        (_keys[0], _keys[1]) = (even, odd);
        uint constant = 1;
        for (int i = 2; i <= Rounds; i += 2)
        {
            Vector128<uint> word = Sse2.Shuffle(Aes.KeygenAssist(odd, 0).AsUInt32(), WithRotation) ^ Vector128.Create(constant);
            even = Spread(even) ^ word.AsByte();
            _keys[i] = even;
            if (i < Rounds)
            {
                odd = Spread(odd) ^ Sse2.Shuffle(Aes.KeygenAssist(even, 0).AsUInt32(), WithoutRotation).AsByte();
                _keys[i + 1] = odd;
            }

            constant <<= 1;
        }
    }

    // Each word, and all below it.
    private static Vector128<byte> Spread(Vector128<byte> key)
    {
        key ^= Sse2.ShiftLeftLogical128BitLane(key, sizeof(uint));
        return key ^ Sse2.ShiftLeftLogical128BitLane(key, sizeof(ulong));
    }

    private Vector128<byte> Encrypt(Vector128<byte> block)
    {
        block ^= _keys[0];
        for (int i = 1; i < Rounds; i++)
        {
            block = Aes.Encrypt(block, _keys[i]);
        }

        return Aes.EncryptLast(block, _keys[Rounds]);
    }

    // SP 800-38D, 7.1: the first block of the text is that of counter 2.
    private void Cipher(ReadOnlySpan<byte> nonce, ReadOnlySpan<byte> from, Span<byte> to)
    {
        const int Step = Wide * Block;
        Vector128<uint> start = Counter(nonce, 0);
        uint counter = 2;
        for (; from.Length >= Step; from = from[Step..], to = to[Step..])
        {
            Stream(start, counter, out Vector128<byte> a, out Vector128<byte> b, out Vector128<byte> c, out Vector128<byte> d);
            (a ^ Vector128.Create(from)).CopyTo(to);
            (b ^ Vector128.Create(from[Block..])).CopyTo(to[Block..]);
            (c ^ Vector128.Create(from[(2 * Block)..])).CopyTo(to[(2 * Block)..]);
            (d ^ Vector128.Create(from[(3 * Block)..])).CopyTo(to[(3 * Block)..]);
            counter += Wide;
        }

        Span<byte> stream = stackalloc byte[Block];
        for (; !from.IsEmpty; counter++)
        {
            Encrypt(start.WithElement(3, BinaryPrimitives.ReverseEndianness(counter)).AsByte()).CopyTo(stream);
            int length = Math.Min(from.Length, Block);
            for (int i = 0; i < length; i++)
            {
                to[i] = (byte)(from[i] ^ stream[i]);
            }

            from = from[length..];
            to = to[length..];
        }

        CryptographicOperations.ZeroMemory(stream);
    }

    private static Vector128<uint> Counter(ReadOnlySpan<byte> nonce, uint counter)
    {
        Span<byte> block = stackalloc byte[Block];
        nonce.CopyTo(block);
        BinaryPrimitives.WriteUInt32BigEndian(block[NonceLength..], counter);
        return Vector128.Create<byte>(block).AsUInt32();
    }

    // The stream of four blocks: the processor works on them at the same time.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private void Stream(Vector128<uint> start, uint counter, out Vector128<byte> a, out Vector128<byte> b, out Vector128<byte> c, out Vector128<byte> d)
    {
        ReadOnlySpan<Vector128<byte>> keys = _keys.AsSpan(0, Rounds + 1);
        Vector128<byte> key = keys[0];
        a = start.WithElement(3, BinaryPrimitives.ReverseEndianness(counter)).AsByte() ^ key;
        b = start.WithElement(3, BinaryPrimitives.ReverseEndianness(counter + 1)).AsByte() ^ key;
        c = start.WithElement(3, BinaryPrimitives.ReverseEndianness(counter + 2)).AsByte() ^ key;
        d = start.WithElement(3, BinaryPrimitives.ReverseEndianness(counter + 3)).AsByte() ^ key;
        for (int i = 1; i < Rounds; i++)
        {
            key = keys[i];
            a = Aes.Encrypt(a, key);
            b = Aes.Encrypt(b, key);
            c = Aes.Encrypt(c, key);
            d = Aes.Encrypt(d, key);
        }

        key = keys[Rounds];
        a = Aes.EncryptLast(a, key);
        b = Aes.EncryptLast(b, key);
        c = Aes.EncryptLast(c, key);
        d = Aes.EncryptLast(d, key);
    }

    // SP 800-38D, 7.1: the hash of both and of their lengths in bits, encrypted with counter 1.
    private Vector128<byte> Tag(ReadOnlySpan<byte> nonce, ReadOnlySpan<byte> associated, ReadOnlySpan<byte> encrypted)
    {
        const int BitsPerByte = 8;
        Vector128<ulong> hash = Hash(Hash(default, associated), encrypted);
        var lengths = Vector128.Create((ulong)encrypted.Length * BitsPerByte, (ulong)associated.Length * BitsPerByte);
        hash = Multiply(hash ^ lengths, Power(0).AsUInt64());
        return Reverse(hash.AsByte()).AsByte() ^ Encrypt(Counter(nonce, 1).AsByte());
    }

    // A last block that is not whole is filled with zeroes.
    private Vector128<ulong> Hash(Vector128<ulong> hash, ReadOnlySpan<byte> data)
    {
        const int Step = Wide * Block;
        for (; data.Length >= Step; data = data[Step..])
        {
            // ((((hash + a) h + b) h + c) h + d) h
            Vector128<ulong> low = default;
            Vector128<ulong> middle = default;
            Vector128<ulong> high = default;
            Add(hash ^ Reverse(Vector128.Create(data)), Power(3), ref low, ref middle, ref high);
            Add(Reverse(Vector128.Create(data[Block..])), Power(2), ref low, ref middle, ref high);
            Add(Reverse(Vector128.Create(data[(2 * Block)..])), Power(1), ref low, ref middle, ref high);
            Add(Reverse(Vector128.Create(data[(3 * Block)..])), Power(0), ref low, ref middle, ref high);
            hash = Reduce(low, middle, high);
        }

        Span<byte> block = stackalloc byte[Block];
        while (!data.IsEmpty)
        {
            int length = Math.Min(data.Length, Block);
            block.Clear();
            data[..length].CopyTo(block);
            hash = Multiply(hash ^ Reverse(Vector128.Create<byte>(block)), Power(0).AsUInt64());
            data = data[length..];
        }

        return hash;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector128<ulong> Reverse(Vector128<byte> block) =>
        Ssse3.Shuffle(block, Vector128.Create((byte)15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0)).AsUInt64();

    // RFC 8452, appendix A: mulX_POLYVAL. Without a branch.
    private static Vector128<ulong> TimesX(Vector128<ulong> value)
    {
        ulong low = value[0];
        ulong high = value[1];
        ulong over = 0 - (high >> 63);
        return Vector128.Create((low << 1) ^ (over & 1), ((high << 1) | (low >> 63)) ^ (over & Polynomial));
    }

    private static Vector128<ulong> Multiply(Vector128<ulong> left, Vector128<ulong> right)
    {
        Vector128<ulong> low = default;
        Vector128<ulong> middle = default;
        Vector128<ulong> high = default;
        Add(left, right.AsByte(), ref low, ref middle, ref high);
        return Reduce(low, middle, high);
    }

    // A product of 255 bits, in three parts: middle is 64 bits above low, and high as many above it.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Add(Vector128<ulong> left, Vector128<byte> power, ref Vector128<ulong> low, ref Vector128<ulong> middle, ref Vector128<ulong> high)
    {
        Vector128<ulong> right = power.AsUInt64();
        low ^= Pclmulqdq.CarrylessMultiply(left, right, 0x00);
        middle ^= Pclmulqdq.CarrylessMultiply(left, right, 0x01) ^ Pclmulqdq.CarrylessMultiply(left, right, 0x10);
        high ^= Pclmulqdq.CarrylessMultiply(left, right, 0x11);
    }

    // Adds so much of the polynomial that the lowest 64 bits are zero, and shifts them out; twice.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector128<ulong> Reduce(Vector128<ulong> low, Vector128<ulong> middle, Vector128<ulong> high)
    {
        const byte Swap = 0x4E;
        var polynomial = Vector128.CreateScalar(Polynomial);
        low ^= Sse2.ShiftLeftLogical128BitLane(middle, sizeof(ulong));
        high ^= Sse2.ShiftRightLogical128BitLane(middle, sizeof(ulong));
        low = Sse2.Shuffle(low.AsUInt32(), Swap).AsUInt64() ^ Pclmulqdq.CarrylessMultiply(low, polynomial, 0x00);
        low = Sse2.Shuffle(low.AsUInt32(), Swap).AsUInt64() ^ Pclmulqdq.CarrylessMultiply(low, polynomial, 0x00);
        return high ^ low;
    }
}
