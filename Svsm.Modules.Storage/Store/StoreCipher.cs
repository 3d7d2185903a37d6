// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// What encrypts a store. A key of the store alone is derived from the caller's (HKDF-SHA256, RFC 5869, salt: the store's id). Every superblock and every
// entry of the log has a seed of 20 random bytes; its units (an entry's operations, each value) are encrypted with XAES-256-GCM, whose nonce of 24 bytes
// is the seed and the unit's number, big-endian. XAES-256-GCM derives an AES-256-GCM key from the first 12 bytes of the nonce by CMAC (SP 800-108r1)
// and takes the other 12 as the nonce of AES-256-GCM.
//
// BouncyCastle keeps copies of keys in objects that cannot be cleared. Who can read the memory of the process has its key anyway.
//
// Source: C2SP, XAES-256-GCM (https://c2sp.org/XAES-256-GCM); NIST SP 800-38D; RFC 5869.

using System;
using System.Buffers.Binary;
using System.Security.Cryptography;
using Org.BouncyCastle.Crypto;
using Org.BouncyCastle.Crypto.Digests;
using Org.BouncyCastle.Crypto.Generators;
using Org.BouncyCastle.Crypto.Modes;
using Org.BouncyCastle.Crypto.Parameters;

namespace Svsm.Store;

/// <summary>Sees what is encrypted: for tests.</summary>
internal delegate void SealObserver(ReadOnlySpan<byte> key, ReadOnlySpan<byte> nonce, ReadOnlySpan<byte> associated, ReadOnlySpan<byte> text);

internal sealed class StoreCipher
{
    public const int KeyLength = 32;
    public const int SeedLength = 20;
    public const int TagLength = 16;

    private const int AesBlockLength = 16;
    private const int DerivingLength = 12;
    private const int NonceLength = 12;
    private const int BitsPerByte = 8;

    private readonly IBlockCipher _aes = AesUtilities.CreateEngine();
    private readonly GcmBlockCipher _gcm = new(AesUtilities.CreateEngine());
    private readonly byte[] _subkey = new byte[AesBlockLength];
    private readonly SealObserver? _observer;

    public StoreCipher(ReadOnlySpan<byte> key, Guid storeId, SealObserver? observer = null)
        : this(Derive(key, storeId, "svsm-store 1 encryption"u8, KeyLength), observer)
    {
        KeyCheck = BinaryPrimitives.ReadUInt128LittleEndian(Derive(key, storeId, "svsm-store 1 key check"u8, TagLength));
    }

    /// <summary>The cipher with a key that is not derived.</summary>
    internal StoreCipher(byte[] key, SealObserver? observer)
    {
        _observer = observer;
        _aes.Init(true, new KeyParameter(key));
        CryptographicOperations.ZeroMemory(key);

        // The first subkey of CMAC (SP 800-38B, 6.1): AES of zero, doubled.
        _aes.ProcessBlock(new byte[AesBlockLength], _subkey);
        UInt128 doubled = BinaryPrimitives.ReadUInt128BigEndian(_subkey);
        BinaryPrimitives.WriteUInt128BigEndian(_subkey, (doubled << 1) ^ (doubled >> 127 != 0 ? 0x87u : 0u));
    }

    /// <summary>A value that tells one key from another, and nothing about either.</summary>
    public UInt128 KeyCheck { get; }

    /// <summary>The cipher of the units of one seed.</summary>
    /// <param name="seed">The seed. A new one for whatever is written.</param>
    public UnitCipher ForSeed(ReadOnlySpan<byte> seed)
    {
        Span<byte> key = stackalloc byte[KeyLength];
        Span<byte> message = stackalloc byte[AesBlockLength];
        for (byte half = 0; half < 2; half++)
        {
            message[0] = 0;
            message[1] = (byte)(half + 1);
            message[2] = (byte)'X';
            message[3] = 0;
            seed[..DerivingLength].CopyTo(message[4..]);
            for (int i = 0; i < AesBlockLength; i++)
            {
                message[i] ^= _subkey[i];
            }

            _aes.ProcessBlock(message, key[(half * AesBlockLength)..]);
        }

        var unit = new UnitCipher(this, new KeyParameter(key), BinaryPrimitives.ReadUInt64LittleEndian(seed[DerivingLength..]));
        CryptographicOperations.ZeroMemory(key);
        return unit;
    }

    internal void Observe(KeyParameter key, ReadOnlySpan<byte> nonce, ReadOnlySpan<byte> associated, ReadOnlySpan<byte> text) =>
        _observer?.Invoke(key.GetKey(), nonce, associated, text);

    internal GcmBlockCipher Gcm(bool forEncryption, KeyParameter key, ulong nonceHead, uint unit, ReadOnlySpan<byte> associated, out byte[] nonce)
    {
        nonce = new byte[NonceLength];
        BinaryPrimitives.WriteUInt64LittleEndian(nonce, nonceHead);
        BinaryPrimitives.WriteUInt32BigEndian(nonce.AsSpan(sizeof(ulong)), unit);
        _gcm.Init(forEncryption, new AeadParameters(key, TagLength * BitsPerByte, nonce, associated.ToArray()));
        return _gcm;
    }

    private static byte[] Derive(ReadOnlySpan<byte> key, Guid storeId, ReadOnlySpan<byte> info, int length)
    {
        var generator = new HkdfBytesGenerator(new Sha256Digest());
        byte[] secret = key.ToArray();
        generator.Init(new HkdfParameters(secret, storeId.ToByteArray(), info.ToArray()));
        CryptographicOperations.ZeroMemory(secret);
        byte[] derived = new byte[length];
        generator.GenerateBytes(derived, 0, length);
        return derived;
    }
}

/// <summary>Encrypts and decrypts the units of one seed.</summary>
internal sealed class UnitCipher
{
    private readonly StoreCipher _store;
    private readonly KeyParameter _key;
    private readonly ulong _nonceHead;

    internal UnitCipher(StoreCipher store, KeyParameter key, ulong nonceHead)
    {
        _store = store;
        _key = key;
        _nonceHead = nonceHead;
    }

    /// <summary>Encrypts a unit, once for each number.</summary>
    /// <param name="unit">Its number.</param>
    /// <param name="associated">What is authenticated with it.</param>
    /// <param name="text">The unit.</param>
    /// <param name="destination">At least as long as the text.</param>
    /// <returns>The tag.</returns>
    public UInt128 Seal(uint unit, ReadOnlySpan<byte> associated, ReadOnlySpan<byte> text, Span<byte> destination)
    {
        // The last bytes come together with the tag, for which there is no room behind the text.
        Span<byte> end = stackalloc byte[3 * StoreCipher.TagLength];
        GcmBlockCipher cipher = _store.Gcm(forEncryption: true, _key, _nonceHead, unit, associated, out byte[] nonce);
        _store.Observe(_key, nonce, associated, text);
        int length = cipher.ProcessBytes(text, destination);
        cipher.DoFinal(end);
        end[..(text.Length - length)].CopyTo(destination[length..]);
        return BinaryPrimitives.ReadUInt128LittleEndian(end[(text.Length - length)..]);
    }

    /// <summary>Decrypts a unit.</summary>
    /// <param name="unit">Its number.</param>
    /// <param name="associated">What is authenticated with it.</param>
    /// <param name="encrypted">The encrypted unit. Untrusted.</param>
    /// <param name="tag">The tag that it must have.</param>
    /// <param name="destination">As long as the unit; zero if it is not the one.</param>
    /// <returns>False: it was not encrypted so.</returns>
    public bool TryOpen(uint unit, ReadOnlySpan<byte> associated, ReadOnlySpan<byte> encrypted, UInt128 tag, Span<byte> destination)
    {
        Span<byte> tagBytes = stackalloc byte[StoreCipher.TagLength];
        BinaryPrimitives.WriteUInt128LittleEndian(tagBytes, tag);
        GcmBlockCipher cipher = _store.Gcm(forEncryption: false, _key, _nonceHead, unit, associated, out _);
        try
        {
            int length = cipher.ProcessBytes(encrypted, destination);
            length += cipher.ProcessBytes(tagBytes, destination[length..]);
            cipher.DoFinal(destination[length..]);
            return true;
        }
        catch (InvalidCipherTextException)
        {
            // Decrypted before it was authenticated: nobody may see it.
            CryptographicOperations.ZeroMemory(destination);
            return false;
        }
    }
}
