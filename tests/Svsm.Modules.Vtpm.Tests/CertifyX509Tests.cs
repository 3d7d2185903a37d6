// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using System.Formats.Asn1;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using Xunit;

namespace Svsm.Modules.Vtpm.Tests;

// TPM2_CertifyX509: what the caller and the TPM have makes a certificate that the stock .NET library takes, reads and verifies.
public sealed class CertifyX509Tests
{
    private const uint SignAttributes = 0xC_0072;
    private const ushort Ecdsa = 0x18;
    private const ushort RsaSsa = 0x14;
    private const ushort RsaPss = 0x16;

    [Theory]
    [InlineData(false, Ecdsa, 0x0B, false)]
    [InlineData(false, Ecdsa, 0x0C, true)]
    [InlineData(true, RsaSsa, 0x0B, false)]
    [InlineData(true, RsaPss, 0x0D, false)]
    public void Certificate_PutTogether_IsVerifiedByAnotherLibrary(bool isRsa, int scheme, int hash, bool givesAlgorithm)
    {
        var tpm = new TestTpm();
        uint key = Primary(tpm, isRsa ? RsaTemplate(SignAttributes) : EccTemplate(SignAttributes));
        byte[]? algorithm = givesAlgorithm ? AlgorithmOfEcdsaSha384() : null;
        byte[] partial = Partial(algorithm, KeyUsages(0x86), Attributes(SignAttributes));
        byte[] answer = Certify(tpm, key, key, scheme, hash, partial);
        X509Certificate2 certificate = PutTogether(partial, algorithm is not null, answer, isRsa, out byte[] body, out byte[] digest);

        HashAlgorithmName name = hash == 0x0B ? HashAlgorithmName.SHA256 : hash == 0x0C ? HashAlgorithmName.SHA384 : HashAlgorithmName.SHA512;
        Assert.Equal(CryptographicOperations.HashData(name, body), digest);
        Assert.Equal(3, certificate.Version);
        Assert.Equal("CN=subject", certificate.Subject);
        Assert.InRange(certificate.SerialNumberBytes.Length, 16, 21);
        using var chain = new X509Chain();
        chain.ChainPolicy.TrustMode = X509ChainTrustMode.CustomRootTrust;
        chain.ChainPolicy.CustomTrustStore.Add(certificate);
        chain.ChainPolicy.RevocationMode = X509RevocationMode.NoCheck;
        chain.ChainPolicy.VerificationTime = new DateTime(2030, 1, 1, 0, 0, 0, DateTimeKind.Utc);
        Assert.True(chain.Build(certificate), chain.ChainStatus is [{ } first, ..] ? first.StatusInformation : "");

        // Building a chain does not verify a self-signed root everywhere.
        byte[] signature = SignatureOf(answer, isRsa);
        bool isGood = isRsa
            ? certificate.GetRSAPublicKey()!.VerifyData(body, signature, name, scheme == RsaPss ? RSASignaturePadding.Pss : RSASignaturePadding.Pkcs1)
            : certificate.GetECDsaPublicKey()!.VerifyData(body, signature, name, DSASignatureFormat.Rfc3279DerSequence);
        Assert.True(isGood);
    }

    [Fact]
    public void SerialNumber_OtherContent_IsAnother()
    {
        var tpm = new TestTpm();
        uint key = Primary(tpm, EccTemplate(SignAttributes));
        byte[] one = Partial(null, KeyUsages(0x80));
        byte[] first = PutTogether(one, false, Certify(tpm, key, key, Ecdsa, 0x0B, one), false, out _, out _).GetSerialNumber();
        byte[] again = PutTogether(one, false, Certify(tpm, key, key, Ecdsa, 0x0B, one), false, out _, out _).GetSerialNumber();
        byte[] two = Partial(null, KeyUsages(0x82));
        byte[] second = PutTogether(two, false, Certify(tpm, key, key, Ecdsa, 0x0B, two), false, out _, out _).GetSerialNumber();
        Assert.Equal(first, again);
        Assert.NotEqual(first, second);
    }

    [Fact]
    public void Certify_BadPartialOrKeys_HaveTheirCodes()
    {
        var tpm = new TestTpm();
        uint key = Primary(tpm, EccTemplate(SignAttributes));
        byte[] good = Partial(null, KeyUsages(0x80));

        // Cut off, longer, not a sequence, nothing.
        Assert.Equal(0x3C4u, Try(tpm, key, key, Ecdsa, good[..^1]));
        Assert.Equal(0x3D5u, Try(tpm, key, key, Ecdsa, [.. good, 0]));
        Assert.Equal(0x3D5u, Try(tpm, key, key, Ecdsa, [4, 1, 0]));
        Assert.Equal(0x3C4u, Try(tpm, key, key, Ecdsa, []));
        Assert.Equal(0x3C4u, Try(tpm, key, key, Ecdsa, [0x30, 0]));

        // No usages; usages that the key has not: encipherment, non-repudiation it has (fixedTPM); a bit that is none; other attributes.
        Assert.Equal(0x3C4u, Try(tpm, key, key, Ecdsa, Partial(null, Attributes(SignAttributes))));
        Assert.Equal(0x3C4u, Try(tpm, key, key, Ecdsa, Partial(null, KeyUsages(0x20))));
        Assert.Equal(0x3C4u, Try(tpm, key, key, Ecdsa, Partial(null, KeyUsages(0x08))));
        Assert.Equal(0u, Try(tpm, key, key, Ecdsa, Partial(null, KeyUsages(0x40))));
        Assert.Equal(0x3E1u, Try(tpm, key, key, Ecdsa, Partial(null, KeyUsages(0x80, 0x40))));
        Assert.Equal(0x182u, Try(tpm, key, key, Ecdsa, Partial(null, KeyUsages(0x80), Attributes(SignAttributes ^ 0x10))));

        // A scheme of another kind of key, one without an identifier, and with the identifier from the caller.
        Assert.Equal(0x292u, Try(tpm, key, key, 0x1C, good));
        Assert.Equal(0u, Try(tpm, key, key, 0x1C, Partial(AlgorithmOfEcdsaSha384(), KeyUsages(0x80))));

        // Neither a key that has an encoding nor one that signs.
        uint hmac = Primary(tpm, [0, 8, 0, 0x0B, .. TestTpm.U32(0x4_0072), 0, 0, 0, 5, 0, 0x0B, 0, 0]);
        Assert.Equal(0x181u, Try(tpm, hmac, key, Ecdsa, good));
        uint storage = Primary(tpm, [0, 0x23, 0, 0x0B, .. TestTpm.U32(0x3_0072), 0, 0, 0, 6, 0, 128, 0, 0x43, 0, 0x10, 0, 3, 0, 0x10, 0, 0, 0, 0]);
        Assert.Equal(0x29Cu, Try(tpm, key, storage, Ecdsa, good));
    }

    // Every byte of the partial certificate changed, and every prefix: an answer, and no failure mode.
    [Fact]
    public void Certify_AnyPartial_IsAnswered()
    {
        var tpm = new TestTpm();
        uint key = Primary(tpm, EccTemplate(SignAttributes));
        byte[] good = Partial(null, KeyUsages(0x80), Attributes(SignAttributes));
        for (int i = 0; i < good.Length; i++)
        {
            Try(tpm, key, key, Ecdsa, good[..i]);
            foreach (byte flip in (byte[])[1, 0x20, 0x80, 0xFF])
            {
                byte[] bad = [.. good];
                bad[i] ^= flip;
                Try(tpm, key, key, Ecdsa, bad);
            }
        }

        Assert.False(tpm.Engine.IsFailed);
    }

    private static byte[] EccTemplate(uint attributes) => [0, 0x23, 0, 0x0B, .. TestTpm.U32(attributes), 0, 0, 0, 0x10, 0, 0x10, 0, 3, 0, 0x10, 0, 0, 0, 0];

    private static byte[] RsaTemplate(uint attributes) => [0, 1, 0, 0x0B, .. TestTpm.U32(attributes), 0, 0, 0, 0x10, 0, 0x10, 8, 0, 0, 0, 0, 0, 0, 0];

    private static uint Primary(TestTpm tpm, byte[] template)
        => BinaryPrimitives.ReadUInt32BigEndian(tpm.Send(TestTpm.Command(
            0x131, [TestTpm.Owner], [.. TestTpm.Sized(0, 0, 0, 0), .. TestTpm.Sized(template), 0, 0, 0, 0, 0, 0], TestTpm.PasswordSession())).AsSpan(10));

    private static byte[] Request(int scheme, int hash, byte[] partial)
        => [0, 0, .. TestTpm.U16(scheme), .. TestTpm.U16(hash), .. TestTpm.Sized(partial)];

    private static byte[] Certify(TestTpm tpm, uint subject, uint signer, int scheme, int hash, byte[] partial)
        => tpm.Do(0x197, [subject, signer], Request(scheme, hash, partial), [.. TestTpm.PasswordSession(), .. TestTpm.PasswordSession()]);

    private static uint Try(TestTpm tpm, uint subject, uint signer, int scheme, byte[] partial)
        => tpm.Try(0x197, [subject, signer], Request(scheme, 0x0B, partial), [.. TestTpm.PasswordSession(), .. TestTpm.PasswordSession()]);

    private static byte[] AlgorithmOfEcdsaSha384()
    {
        var writer = new AsnWriter(AsnEncodingRules.DER);
        using (writer.PushSequence())
        {
            writer.WriteObjectIdentifier("1.2.840.10045.4.3.3");
        }

        return writer.Encode();
    }

    private static byte[] KeyUsages(params byte[] bits)
    {
        var value = new AsnWriter(AsnEncodingRules.DER);
        value.WriteBitString(bits, System.Numerics.BitOperations.TrailingZeroCount(bits[^1]));
        return Extension("2.5.29.15", isCritical: true, value.Encode());
    }

    private static byte[] Attributes(uint attributes)
    {
        var value = new AsnWriter(AsnEncodingRules.DER);
        value.WriteBitString(TestTpm.U32(attributes));
        return Extension("2.23.133.10.1.1.1", isCritical: false, value.Encode());
    }

    private static byte[] Extension(string identifier, bool isCritical, byte[] value)
    {
        var writer = new AsnWriter(AsnEncodingRules.DER);
        using (writer.PushSequence())
        {
            writer.WriteObjectIdentifier(identifier);
            if (isCritical)
            {
                writer.WriteBoolean(true);
            }

            writer.WriteOctetString(value);
        }

        return writer.Encode();
    }

    private static byte[] Partial(byte[]? algorithm, params byte[][] extensions)
    {
        var writer = new AsnWriter(AsnEncodingRules.DER);
        byte[] name = new X500DistinguishedName("CN=subject").RawData;
        using (writer.PushSequence())
        {
            if (algorithm is not null)
            {
                writer.WriteEncodedValue(algorithm);
            }

            writer.WriteEncodedValue(name);
            using (writer.PushSequence())
            {
                writer.WriteUtcTime(new DateTimeOffset(2020, 1, 1, 0, 0, 0, TimeSpan.Zero));
                writer.WriteUtcTime(new DateTimeOffset(2040, 1, 1, 0, 0, 0, TimeSpan.Zero));
            }

            writer.WriteEncodedValue(name);
            using (writer.PushSequence(new Asn1Tag(TagClass.ContextSpecific, 3, isConstructed: true)))
            using (writer.PushSequence())
            {
                foreach (byte[] extension in extensions)
                {
                    writer.WriteEncodedValue(extension);
                }
            }
        }

        return writer.Encode();
    }

    // As RFC 5280 has it, from the two parts and the signature.
    private static X509Certificate2 PutTogether(byte[] partial, bool hasAlgorithm, byte[] answer, bool isRsa, out byte[] body, out byte[] digest)
    {
        int addedSize = BinaryPrimitives.ReadUInt16BigEndian(answer);
        byte[] added = answer[2..(2 + addedSize)];
        int digestSize = BinaryPrimitives.ReadUInt16BigEndian(answer.AsSpan(2 + addedSize));
        digest = answer[(4 + addedSize)..(4 + addedSize + digestSize)];

        AsnReader own = new AsnReader(added, AsnEncodingRules.DER).ReadSequence();
        AsnReader given = new AsnReader(partial, AsnEncodingRules.DER).ReadSequence();
        var writer = new AsnWriter(AsnEncodingRules.DER);
        byte[] algorithm;
        using (writer.PushSequence())
        {
            writer.WriteEncodedValue(own.ReadEncodedValue().Span);
            writer.WriteEncodedValue(own.ReadEncodedValue().Span);
            algorithm = (hasAlgorithm ? given : own).ReadEncodedValue().ToArray();
            writer.WriteEncodedValue(algorithm);
            for (int i = 0; i < 3; i++)
            {
                writer.WriteEncodedValue(given.ReadEncodedValue().Span);
            }

            writer.WriteEncodedValue(own.ReadEncodedValue().Span);
            writer.WriteEncodedValue(given.ReadEncodedValue().Span);
        }

        own.ThrowIfNotEmpty();
        given.ThrowIfNotEmpty();
        body = writer.Encode();
        var certificate = new AsnWriter(AsnEncodingRules.DER);
        using (certificate.PushSequence())
        {
            certificate.WriteEncodedValue(body);
            certificate.WriteEncodedValue(algorithm);
            certificate.WriteBitString(SignatureOf(answer, isRsa));
        }

        return X509CertificateLoader.LoadCertificate(certificate.Encode());
    }

    private static byte[] SignatureOf(byte[] answer, bool isRsa)
    {
        int place = 2 + BinaryPrimitives.ReadUInt16BigEndian(answer);
        place += 2 + BinaryPrimitives.ReadUInt16BigEndian(answer.AsSpan(place)) + 4;
        byte[] first = Next();
        if (isRsa)
        {
            return first;
        }

        var writer = new AsnWriter(AsnEncodingRules.DER);
        using (writer.PushSequence())
        {
            writer.WriteInteger(new System.Numerics.BigInteger(first, isUnsigned: true, isBigEndian: true));
            writer.WriteInteger(new System.Numerics.BigInteger(Next(), isUnsigned: true, isBigEndian: true));
        }

        return writer.Encode();

        byte[] Next()
        {
            int size = BinaryPrimitives.ReadUInt16BigEndian(answer.AsSpan(place));
            place += 2 + size;
            return answer[(place - size)..place];
        }
    }
}
