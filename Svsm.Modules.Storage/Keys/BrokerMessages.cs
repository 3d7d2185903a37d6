// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Bytes between the SVSM and the proxy on its host, of a broker's secret, and of what is signed; docs/keys.md has them in tables. For both ends: the SVSM's
// (BrokerSession), and the proxy and the broker (Svsm.Sdk/Keys), which compile this file in.

using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.Text;

namespace Svsm.StoreKeys;

/// <summary>What the SVSM asks the proxy.</summary>
internal enum BrokerRequest : uint
{
    Hello = 1,
    Attest = 2,
    Anchor = 3,
}

/// <summary>What the proxy answers. Nobody vouches for it.</summary>
internal enum BrokerStatus : uint
{
    Done = 0,

    // The broker does not answer, or not as one.
    Unreachable = 1,

    // The broker does not believe the SVSM.
    Refused = 2,

    NoResource = 3,
    BadRequest = 4,

    // The broker has forgotten the session, or ended it.
    NoSession = 5,
}

/// <summary>What the SVSM asks the broker about the last version of its store.</summary>
internal enum AnchorOperation : uint
{
    Get = 1,
    Replace = 2,
}

internal enum AnchorStatus : uint
{
    Done = 0,
    OtherVersion = 1,
    NotWritten = 2,
}

/// <summary>A version of a store, as it is in messages.</summary>
internal readonly record struct AnchorVersion(ulong Generation, UInt128 RootLow, UInt128 RootHigh)
{
    public const int RootLength = 32;

    public static AnchorVersion FromRoot(ulong generation, ReadOnlySpan<byte> root) =>
        new(generation, BinaryPrimitives.ReadUInt128LittleEndian(root), BinaryPrimitives.ReadUInt128LittleEndian(root[16..]));

    public void WriteRoot(Span<byte> root)
    {
        BinaryPrimitives.WriteUInt128LittleEndian(root, RootLow);
        BinaryPrimitives.WriteUInt128LittleEndian(root[16..], RootHigh);
    }
}

/// <summary>A request about the last version, in the clear.</summary>
internal readonly record struct AnchorRequest(AnchorOperation Operation, AnchorVersion? Old, AnchorVersion New)
{
    public const int Length = 88;

    public byte[] ToBytes()
    {
        byte[] bytes = new byte[Length];
        BinaryPrimitives.WriteUInt32LittleEndian(bytes, (uint)Operation);
        BinaryPrimitives.WriteUInt32LittleEndian(bytes.AsSpan(4), Old is null ? 0u : 1u);
        BinaryPrimitives.WriteUInt64LittleEndian(bytes.AsSpan(8), Old.GetValueOrDefault().Generation);
        Old.GetValueOrDefault().WriteRoot(bytes.AsSpan(16));
        BinaryPrimitives.WriteUInt64LittleEndian(bytes.AsSpan(48), New.Generation);
        New.WriteRoot(bytes.AsSpan(56));
        return bytes;
    }

    public static bool TryRead(ReadOnlySpan<byte> bytes, out AnchorRequest request)
    {
        request = default;
        if (bytes.Length != Length)
        {
            return false;
        }

        uint hasOld = BinaryPrimitives.ReadUInt32LittleEndian(bytes[4..]);
        AnchorVersion old = AnchorVersion.FromRoot(BinaryPrimitives.ReadUInt64LittleEndian(bytes[8..]), bytes[16..]);
        request = new(
            (AnchorOperation)BinaryPrimitives.ReadUInt32LittleEndian(bytes),
            hasOld == 0 ? null : old,
            AnchorVersion.FromRoot(BinaryPrimitives.ReadUInt64LittleEndian(bytes[48..]), bytes[56..]));
        return hasOld <= 1 && (hasOld == 1 || old == default) && request.Operation switch
        {
            AnchorOperation.Get => request.Old is null && request.New == default,
            AnchorOperation.Replace => true,
            _ => false,
        };
    }
}

/// <summary>An answer about the last version, in the clear.</summary>
internal readonly record struct AnchorAnswer(AnchorStatus Status, AnchorVersion? Version)
{
    public const int Length = 48;

    public byte[] ToBytes()
    {
        byte[] bytes = new byte[Length];
        BinaryPrimitives.WriteUInt32LittleEndian(bytes, (uint)Status);
        BinaryPrimitives.WriteUInt32LittleEndian(bytes.AsSpan(4), Version is null ? 0u : 1u);
        BinaryPrimitives.WriteUInt64LittleEndian(bytes.AsSpan(8), Version.GetValueOrDefault().Generation);
        Version.GetValueOrDefault().WriteRoot(bytes.AsSpan(16));
        return bytes;
    }

    public static bool TryRead(ReadOnlySpan<byte> bytes, out AnchorAnswer answer)
    {
        answer = default;
        if (bytes.Length != Length)
        {
            return false;
        }

        uint hasVersion = BinaryPrimitives.ReadUInt32LittleEndian(bytes[4..]);
        AnchorVersion version = AnchorVersion.FromRoot(BinaryPrimitives.ReadUInt64LittleEndian(bytes[8..]), bytes[16..]);
        answer = new((AnchorStatus)BinaryPrimitives.ReadUInt32LittleEndian(bytes), hasVersion == 0 ? null : version);
        return answer.Status <= AnchorStatus.NotWritten && hasVersion <= 1 && (hasVersion == 1 || version == default);
    }
}

/// <summary>A secret, encrypted by a broker for the SVSM: what a JWE has, and the signature that goes with it.</summary>
internal sealed record BrokerAnswer(byte[] SenderKey, byte[] Protected, byte[] EncryptedKey, byte[] Iv, byte[] Ciphertext, byte[] Tag, byte[] Signature)
{
    private const int HeadLength = (4 * sizeof(uint)) + BrokerFormat.TeeKeyLength + BrokerFormat.IvLength + BrokerFormat.TagLength;

    public byte[] ToBytes()
    {
        byte[] head = new byte[4 * sizeof(uint)];
        BinaryPrimitives.WriteInt32LittleEndian(head, Protected.Length);
        BinaryPrimitives.WriteInt32LittleEndian(head.AsSpan(4), EncryptedKey.Length);
        BinaryPrimitives.WriteInt32LittleEndian(head.AsSpan(8), Ciphertext.Length);
        BinaryPrimitives.WriteInt32LittleEndian(head.AsSpan(12), Signature.Length);
        return [.. head, .. SenderKey, .. Iv, .. Tag, .. Protected, .. EncryptedKey, .. Ciphertext, .. Signature];
    }

    /// <summary>Reads an answer.</summary>
    /// <param name="bytes">All of it. Untrusted.</param>
    /// <returns>Null: it is none.</returns>
    public static BrokerAnswer? TryRead(ReadOnlySpan<byte> bytes)
    {
        if (bytes.Length < HeadLength)
        {
            return null;
        }

        Span<int> lengths = stackalloc int[4];
        int left = bytes.Length - HeadLength;
        for (int i = 0; i < lengths.Length; i++)
        {
            lengths[i] = BinaryPrimitives.ReadInt32LittleEndian(bytes[(i * sizeof(int))..]);
            if (lengths[i] < 0 || lengths[i] > left)
            {
                return null;
            }

            left -= lengths[i];
        }

        if (left != 0 || lengths[3] is not (0 or BrokerFormat.SignatureLength))
        {
            return null;
        }

        ReadOnlySpan<byte> rest = bytes[(4 * sizeof(uint))..];
        byte[] sender = Take(ref rest, BrokerFormat.TeeKeyLength);
        byte[] iv = Take(ref rest, BrokerFormat.IvLength);
        byte[] tag = Take(ref rest, BrokerFormat.TagLength);
        byte[] header = Take(ref rest, lengths[0]);
        byte[] key = Take(ref rest, lengths[1]);
        byte[] text = Take(ref rest, lengths[2]);
        return new(sender, header, key, iv, text, tag, Take(ref rest, lengths[3]));

        static byte[] Take(ref ReadOnlySpan<byte> rest, int length)
        {
            byte[] taken = rest[..length].ToArray();
            rest = rest[length..];
            return taken;
        }
    }

    /// <summary>What the signature of an answer is over.</summary>
    /// <param name="report">The report that it answers.</param>
    public byte[] Signed(ReadOnlySpan<byte> report)
    {
        byte[] length = new byte[sizeof(uint)];
        List<byte> signed = [.. "svsm broker 1 answer"u8, 0, .. report];
        foreach (byte[] part in (byte[][])[SenderKey, Protected, EncryptedKey, Iv, Ciphertext, Tag])
        {
            BinaryPrimitives.WriteInt32LittleEndian(length, part.Length);
            signed.AddRange(length);
            signed.AddRange(part);
        }

        return [.. signed];
    }
}

/// <summary>Sizes and fixed texts.</summary>
internal static class BrokerFormat
{
    // Of a request or an answer on the channel, without the head: u32 bytes | u32 number.
    public const int MaxFrame = 0x1_0000;
    public const int FrameHeadLength = 8;

    public const uint Version = 1;
    public const int MaxNonce = 128;
    public const int MaxCertificates = 0x4000;

    // A point on P-521, and one of its numbers; on P-384; a signature.
    public const int TeeNumberLength = 66;
    public const int TeeKeyLength = 2 * TeeNumberLength;
    public const int BrokerNumberLength = 48;
    public const int BrokerKeyLength = 2 * BrokerNumberLength;
    public const int SignatureLength = 2 * BrokerNumberLength;

    public const int IvLength = 12;
    public const int TagLength = 16;
    public const int WrappedKeyLength = 40;
    public const int SessionKeysLength = 64;
    public const int SessionKeyLength = 32;

    // A secret: magic (8) | u32 flags | zero (4) | secret (32) | signature (96).
    public const int SecretLength = 0x90;
    public const int SecretOffset = 0x10;
    public const int SecretSize = 32;
    public const int SecretSignatureOffset = 0x30;
    public const int SecretFlagsOffset = 8;
    public const uint MovableFlag = 1;

    // The file of the image: magic (8) | u32 kind | zero (4) | public key (96).
    public const int PinLength = 0x70;
    public const int PinKindOffset = 8;
    public const int PinKeyOffset = 0x10;

    public static ReadOnlySpan<byte> SecretMagic => "SVSMSEC1"u8;

    public static ReadOnlySpan<byte> PinMagic => "SVSMBRK1"u8;

    public static ReadOnlySpan<byte> SessionLabel => "svsm broker 1 session"u8;

    // Of the Concat KDF (RFC 7518, 4.6.2): round 1 | Z | algorithm with its length | no PartyUInfo, no PartyVInfo | bits of the key.
    public static byte[] ConcatKdfInput(ReadOnlySpan<byte> agreed) => [0, 0, 0, 1, .. agreed, 0, 0, 0, 14, .. "ECDH-ES+A256KW"u8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0];

    /// <summary>What the signature of a secret is over.</summary>
    public static byte[] SignedSecret(ReadOnlySpan<byte> secret) => [.. "svsm broker 1 secret"u8, 0, .. secret[..SecretSignatureOffset]];

    /// <summary>Runtime data: the JSON whose hash is in the report.</summary>
    /// <param name="nonce">The broker's nonce: characters of base64 only.</param>
    /// <param name="teeKey">The SVSM's fresh public key.</param>
    public static byte[] RuntimeData(string nonce, ReadOnlySpan<byte> teeKey) => Encoding.ASCII.GetBytes(
        "{\"additional-evidence\":\"\",\"nonce\":\"" + nonce + "\",\"tee-pubkey\":{\"alg\":\"ECDH-ES+A256KW\",\"crv\":\"P-521\",\"kty\":\"EC\",\"x\":\""
        + ToBase64Url(teeKey[..TeeNumberLength]) + "\",\"y\":\"" + ToBase64Url(teeKey[TeeNumberLength..]) + "\"}}");

    /// <summary>Whether a nonce has nothing in it that JSON would have to escape.</summary>
    public static bool IsNonce(ReadOnlySpan<byte> nonce)
    {
        foreach (byte character in nonce)
        {
            if (!char.IsAsciiLetterOrDigit((char)character) && !"+/=-_"u8.Contains(character))
            {
                return false;
            }
        }

        return nonce.Length is > 0 and <= MaxNonce;
    }

    public static string ToBase64Url(ReadOnlySpan<byte> bytes) => Convert.ToBase64String(bytes).TrimEnd('=').Replace('+', '-').Replace('/', '_');

    /// <summary>The nonce of a sealed message: its number, and zeroes.</summary>
    public static byte[] SealNonce(ulong number)
    {
        byte[] nonce = new byte[IvLength];
        BinaryPrimitives.WriteUInt64LittleEndian(nonce, number);
        return nonce;
    }
}
