// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// What a broker computes with the class library's cryptography: the JWE of a secret, and the keys of a session. The SVSM's side (Svsm.Modules.Storage/Keys) has
// BouncyCastle's, so each is a test of the other.

using System;
using System.Buffers.Binary;
using System.Security.Cryptography;
using System.Text;
using Svsm.StoreKeys;

namespace Svsm.Keys;

internal static class BrokerCrypto
{
    /// <summary>Encrypts for an SVSM: ECDH-ES+A256KW, A256GCM.</summary>
    /// <param name="secret">What is encrypted.</param>
    /// <param name="teeKey">The SVSM's key, x and y.</param>
    /// <param name="agreed">What both ends have agreed on: the caller clears it.</param>
    /// <returns>The JWE, without a signature.</returns>
    /// <exception cref="CryptographicException">It is no point on P-521.</exception>
    public static BrokerAnswer Encrypt(ReadOnlySpan<byte> secret, ReadOnlySpan<byte> teeKey, out byte[] agreed)
    {
        using ECDiffieHellman mine = ECDiffieHellman.Create(ECCurve.NamedCurves.nistP521);
        ECParameters sender = mine.ExportParameters(includePrivateParameters: false);
        using ECDiffieHellman other = ECDiffieHellman.Create(new ECParameters
        {
            Curve = ECCurve.NamedCurves.nistP521,
            Q = new ECPoint { X = teeKey[..BrokerFormat.TeeNumberLength].ToArray(), Y = teeKey[BrokerFormat.TeeNumberLength..].ToArray() },
        });
        agreed = mine.DeriveRawSecretAgreement(other.PublicKey);

        byte[] contentKey = RandomNumberGenerator.GetBytes(BrokerFormat.SessionKeyLength);
        byte[] iv = RandomNumberGenerator.GetBytes(BrokerFormat.IvLength);
        byte[] header = Encoding.ASCII.GetBytes(BrokerFormat.ToBase64Url(Encoding.ASCII.GetBytes(
            "{\"alg\":\"ECDH-ES+A256KW\",\"enc\":\"A256GCM\",\"epk\":{\"crv\":\"P-521\",\"kty\":\"EC\",\"x\":\""
            + BrokerFormat.ToBase64Url(sender.Q.X) + "\",\"y\":\"" + BrokerFormat.ToBase64Url(sender.Q.Y) + "\"}}")));
        byte[] text = new byte[secret.Length];
        byte[] tag = new byte[BrokerFormat.TagLength];
        using var cipher = new AesGcm(contentKey, BrokerFormat.TagLength);
        cipher.Encrypt(iv, secret, text, tag, header);
        byte[] wrapped = Wrap(SHA256.HashData(BrokerFormat.ConcatKdfInput(agreed)), contentKey);
        CryptographicOperations.ZeroMemory(contentKey);
        return new([.. sender.Q.X!, .. sender.Q.Y!], header, wrapped, iv, text, tag, []);
    }

    /// <summary>The keys of a session: for requests, for answers.</summary>
    public static byte[] SessionKeys(byte[] agreed, byte[] signed) =>
        HKDF.DeriveKey(HashAlgorithmName.SHA256, agreed, BrokerFormat.SessionKeysLength, SHA384.HashData(signed), BrokerFormat.SessionLabel.ToArray());

    public static byte[]? TryOpen(ReadOnlySpan<byte> key, ulong number, ReadOnlySpan<byte> message)
    {
        if (message.Length < BrokerFormat.TagLength)
        {
            return null;
        }

        int length = message.Length - BrokerFormat.TagLength;
        byte[] text = new byte[length];
        using var cipher = new AesGcm(key, BrokerFormat.TagLength);
        try
        {
            cipher.Decrypt(BrokerFormat.SealNonce(number), message[..length], message[length..], text);
            return text;
        }
        catch (AuthenticationTagMismatchException)
        {
            return null;
        }
    }

    public static byte[] Seal(ReadOnlySpan<byte> key, ulong number, ReadOnlySpan<byte> text)
    {
        byte[] message = new byte[text.Length + BrokerFormat.TagLength];
        using var cipher = new AesGcm(key, BrokerFormat.TagLength);
        cipher.Encrypt(BrokerFormat.SealNonce(number), text, message.AsSpan(0, text.Length), message.AsSpan(text.Length));
        return message;
    }

    // AES key wrap, RFC 3394, 2.2.1.
    private static byte[] Wrap(byte[] wrapping, ReadOnlySpan<byte> key)
    {
        const int Half = 8;
        const int Rounds = 6;
        using var aes = Aes.Create();
        aes.Key = wrapping;
        byte[] wrapped = new byte[key.Length + Half];
        wrapped.AsSpan(0, Half).Fill(0xA6);
        key.CopyTo(wrapped.AsSpan(Half));
        Span<byte> block = stackalloc byte[2 * Half];
        int count = key.Length / Half;
        for (int round = 0; round < Rounds; round++)
        {
            for (int i = 1; i <= count; i++)
            {
                wrapped.AsSpan(0, Half).CopyTo(block);
                wrapped.AsSpan(i * Half, Half).CopyTo(block[Half..]);
                aes.EncryptEcb(block, block, PaddingMode.None);
                ulong step = (ulong)((count * round) + i);
                BinaryPrimitives.WriteUInt64BigEndian(wrapped, BinaryPrimitives.ReadUInt64BigEndian(block) ^ step);
                block[Half..].CopyTo(wrapped.AsSpan(i * Half));
            }
        }

        CryptographicOperations.ZeroMemory(wrapping);
        return wrapped;
    }
}
