// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// A message between a guest and the security processor: a page, which the host carries. For GuestRequests.
//
//   00 tag (32, 16 used) | 20 u64 number | 28 zero (8) | 30 u8 algorithm 1 | 31 u8 header version 1 | 32 u16 header bytes 0x60 |
//   34 u8 type | 35 u8 version of the type 1 | 36 u16 payload bytes | 38 zero (4) | 3C u8 key | 3D zero (35) | 60 payload
//
// AES-256-GCM with the key of the VMPL: the nonce is the number and four zero bytes, the bytes 0x30 to 0x5F are authenticated with the payload. A
// request's answer has the next number, and the next type.
//
// BouncyCastle keeps copies of the key in objects that cannot be cleared; they stay in the memory of the module's process until it needs the place. Who
// can read that can read the key from the kernel, too: the process is the one that has it.
//
// Source: AMD SEV-SNP ABI specification (56860), guest messages, as collected from COCONUT-SVSM kernel/src/greq and Linux drivers/virt/coco/sev-guest.

using System;
using System.Buffers.Binary;
using System.Security.Cryptography;
using Org.BouncyCastle.Crypto;
using Org.BouncyCastle.Crypto.Modes;
using Org.BouncyCastle.Crypto.Parameters;
using Svsm.Core;

namespace Svsm.Modules.Attestation;

internal static class GuestMessage
{
    public const int HeaderLength = 0x60;
    public const int MaxPayload = SecurityProcessor.PageLength - HeaderLength;

    private const int SequenceOffset = 0x20;
    private const int AuthenticatedOffset = 0x30;
    private const int HeaderVersionOffset = 0x31;
    private const int HeaderLengthOffset = 0x32;
    private const int TypeOffset = 0x34;
    private const int VersionOffset = 0x35;
    private const int PayloadLengthOffset = 0x36;
    private const int KeyOffset = 0x3C;
    private const byte AesGcm256 = 1;
    private const byte HeaderVersion = 1;
    private const byte MessageVersion = 1;
    private const byte KeyOfVmpl0 = 0;
    private const int TagLength = 16;
    private const int NonceLength = 12;
    private const int BitsPerByte = 8;

    /// <summary>The type that a page has.</summary>
    public static byte TypeOf(ReadOnlySpan<byte> page) => page[TypeOffset];

    /// <summary>Makes a request.</summary>
    /// <param name="key">The key of VMPL0.</param>
    /// <param name="sequence">Its number. There must never be another message with it.</param>
    /// <param name="type">Its type.</param>
    /// <param name="payload">What is encrypted.</param>
    /// <param name="page">The page, all of which is written.</param>
    public static void Seal(ReadOnlySpan<byte> key, ulong sequence, byte type, ReadOnlySpan<byte> payload, Span<byte> page)
    {
        page.Clear();
        BinaryPrimitives.WriteUInt64LittleEndian(page[SequenceOffset..], sequence);
        page[AuthenticatedOffset] = AesGcm256;
        page[HeaderVersionOffset] = HeaderVersion;
        BinaryPrimitives.WriteUInt16LittleEndian(page[HeaderLengthOffset..], HeaderLength);
        page[TypeOffset] = type;
        page[VersionOffset] = MessageVersion;
        BinaryPrimitives.WriteUInt16LittleEndian(page[PayloadLengthOffset..], (ushort)payload.Length);
        page[KeyOffset] = KeyOfVmpl0;

        // The tag comes behind the text.
        byte[] text = new byte[payload.Length + TagLength];
        GcmBlockCipher cipher = Cipher(forEncryption: true, key, sequence, page);
        int length = cipher.ProcessBytes(payload, text);
        cipher.DoFinal(text.AsSpan(length));
        text.AsSpan(0, payload.Length).CopyTo(page[HeaderLength..]);
        text.AsSpan(payload.Length).CopyTo(page);
    }

    /// <summary>Reads an answer, or a request.</summary>
    /// <param name="key">The key of VMPL0.</param>
    /// <param name="sequence">The number that it must have.</param>
    /// <param name="type">The type that it must have.</param>
    /// <param name="page">The page. Untrusted.</param>
    /// <param name="payload">What was encrypted; the caller clears it. Empty if it is no such answer.</param>
    /// <returns>False: it is not the security processor's, or not to this request.</returns>
    public static bool TryOpen(ReadOnlySpan<byte> key, ulong sequence, byte type, ReadOnlySpan<byte> page, out byte[] payload)
    {
        payload = [];
        int size = BinaryPrimitives.ReadUInt16LittleEndian(page[PayloadLengthOffset..]);
        if (BinaryPrimitives.ReadUInt64LittleEndian(page[SequenceOffset..]) != sequence || page[AuthenticatedOffset] != AesGcm256
            || page[HeaderVersionOffset] != HeaderVersion || BinaryPrimitives.ReadUInt16LittleEndian(page[HeaderLengthOffset..]) != HeaderLength
            || page[TypeOffset] != type || page[VersionOffset] != MessageVersion || page[KeyOffset] != KeyOfVmpl0 || size is 0 or > MaxPayload)
        {
            return false;
        }

        byte[] text = new byte[size];
        try
        {
            GcmBlockCipher cipher = Cipher(forEncryption: false, key, sequence, page);
            int length = cipher.ProcessBytes(page.Slice(HeaderLength, size), text);
            length += cipher.ProcessBytes(page[..TagLength], text.AsSpan(length));
            cipher.DoFinal(text.AsSpan(length));
            payload = text;
            return true;
        }
        catch (InvalidCipherTextException)
        {
            // Decrypted before it was authenticated: nobody may see it.
            CryptographicOperations.ZeroMemory(text);
            return false;
        }
    }

    private static GcmBlockCipher Cipher(bool forEncryption, ReadOnlySpan<byte> key, ulong sequence, ReadOnlySpan<byte> page)
    {
        byte[] nonce = new byte[NonceLength];
        BinaryPrimitives.WriteUInt64LittleEndian(nonce, sequence);
        var cipher = new GcmBlockCipher(AesUtilities.CreateEngine());
        cipher.Init(forEncryption, new AeadParameters(new KeyParameter(key), TagLength * BitsPerByte, nonce, page[AuthenticatedOffset..HeaderLength].ToArray()));
        return cipher;
    }
}
