// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Keys, certificates, PKCS #7 messages and authenticated writes of tests: the keys and certificates by the class library, which is OpenSSL, the messages by hand,
// so that a test can have them wrong in each way.

using System;
using System.Buffers.Binary;
using System.Collections.Concurrent;
using System.Linq;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;

namespace Svsm.Modules.VarStore.Tests;

/// <summary>How a message is made.</summary>
internal sealed record MessageShape
{
    public HashAlgorithmName Hash { get; init; } = HashAlgorithmName.SHA256;

    public bool HasAttributes { get; init; }

    public bool IsWrapped { get; init; }

    public byte[]? Content { get; init; }

    public TestSigner[] Chain { get; init; } = [];

    public TestSigner[] MoreSigners { get; init; } = [];

    public bool OmitsCertificates { get; init; }

    public byte[] Trailer { get; init; } = [];
}

/// <summary>Who signs.</summary>
internal sealed class TestSigner : IDisposable
{
    private static readonly ConcurrentDictionary<string, TestSigner> s_named = new();

    private readonly RSA _key;
    private readonly X509Certificate2 _certificate;

    private TestSigner(RSA key, X509Certificate2 certificate)
    {
        _key = key;
        _certificate = certificate;
    }

    public byte[] Der => _certificate.RawData;

    /// <summary>One with a certificate that it issued to itself; the same for the same name.</summary>
    public static TestSigner Named(string name) => s_named.GetOrAdd(name, _ => Make(name));

    public static TestSigner Make(
        string name, TestSigner? issuer = null, int bits = 2048, HashAlgorithmName? hash = null, Action<CertificateRequest>? change = null, string? subject = null)
    {
        RSA key = RSA.Create(bits);
        var request = new CertificateRequest(subject ?? $"CN={name}", key, hash ?? HashAlgorithmName.SHA256, RSASignaturePadding.Pkcs1);
        if (change is null)
        {
            request.CertificateExtensions.Add(new X509BasicConstraintsExtension(true, false, 0, true));
        }
        else
        {
            change(request);
        }

        // Long expired, as many a platform key is.
        DateTimeOffset from = new(2001, 1, 1, 0, 0, 0, TimeSpan.Zero);
        DateTimeOffset to = new(2002, 1, 1, 0, 0, 0, TimeSpan.Zero);
        X509Certificate2 certificate = issuer is null
            ? request.Create(request.SubjectName, X509SignatureGenerator.CreateForRSA(key, RSASignaturePadding.Pkcs1), from, to, [1, 2, 3, (byte)name.Length])
            : request.Create(
                issuer._certificate.SubjectName,
                hash == HashAlgorithmName.SHA1 ? new Sha1Generator(issuer._key) : X509SignatureGenerator.CreateForRSA(issuer._key, RSASignaturePadding.Pkcs1),
                from,
                to,
                [4, 5, 6, (byte)name.Length]);
        return new(key, certificate);
    }

    public void Dispose()
    {
        _key.Dispose();
        _certificate.Dispose();
    }

    /// <summary>A signature list with the certificate.</summary>
    public byte[] List(params TestSigner[] more) => [.. SignatureLists.OfCertificate(TestFirmware.Vendor, Der), .. more.SelectMany(signer => signer.List())];

    /// <summary>A message that signs.</summary>
    public byte[] Sign(byte[] content, MessageShape? shape = null)
    {
        shape ??= new();
        TestSigner[] signers = [this, .. shape.MoreSigners];
        byte[] digest = Algorithm(DigestIdentifier(shape.Hash));
        byte[] inner = shape.Content is null ? [] : Der_(0xA0, Der_(4, shape.Content));
        byte[] signedData = Der_(
            0x30,
            Der_(2, [1]),
            Der_(0x31, digest),
            Der_(0x30, Der_(6, [0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 1, 7, 1]), inner),
            shape.OmitsCertificates ? [] : Der_(0xA0, [.. signers.Concat(shape.Chain).SelectMany(signer => signer.Der)]),
            Der_(0x31, [.. signers.SelectMany(signer => signer.Signer(content, shape))]));
        signedData = [.. signedData, .. shape.Trailer];
        return shape.IsWrapped ? Der_(0x30, Der_(6, [0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 1, 7, 2]), Der_(0xA0, signedData)) : signedData;
    }

    /// <summary>The data of an authenticated write.</summary>
    public byte[] Write(VariableId id, VariableAttributes attributes, DateTime time, byte[] payload, MessageShape? shape = null)
    {
        byte[] content = Content(id, attributes, time, payload);
        return Descriptor(time, Sign(content, shape), payload);
    }

    public static byte[] Content(VariableId id, VariableAttributes attributes, DateTime time, byte[] payload)
    {
        byte[] attributeBytes = new byte[4];
        BinaryPrimitives.WriteUInt32LittleEndian(attributeBytes, (uint)attributes);
        return [.. MemoryMarshal.AsBytes(id.Name.AsSpan()), .. id.Vendor.ToByteArray(), .. attributeBytes, .. Time(time), .. payload];
    }

    /// <summary>The data of an authenticated write with some message.</summary>
    public static byte[] Descriptor(DateTime time, byte[] message, byte[] payload)
    {
        byte[] header = new byte[24];
        BinaryPrimitives.WriteInt32LittleEndian(header, header.Length + message.Length);
        BinaryPrimitives.WriteUInt16LittleEndian(header.AsSpan(4), 0x200);
        BinaryPrimitives.WriteUInt16LittleEndian(header.AsSpan(6), 0xEF1);
        new Guid("4aafd29d-68df-49ee-8aa9-347d375665a7").TryWriteBytes(header.AsSpan(8));
        return [.. Time(time), .. header, .. message, .. payload];
    }

    public static byte[] Time(DateTime time)
    {
        byte[] bytes = new byte[16];
        BinaryPrimitives.WriteUInt16LittleEndian(bytes, (ushort)time.Year);
        bytes[2] = (byte)time.Month;
        bytes[3] = (byte)time.Day;
        bytes[4] = (byte)time.Hour;
        bytes[5] = (byte)time.Minute;
        bytes[6] = (byte)time.Second;
        return bytes;
    }

    public static byte[] Der_(byte tag, params byte[][] parts)
    {
        byte[] contents = [.. parts.SelectMany(part => part)];
        int length = contents.Length;
        byte[] header = length < 0x80 ? [tag, (byte)length]
            : length < 0x100 ? [tag, 0x81, (byte)length]
            : length < 0x1_0000 ? [tag, 0x82, (byte)(length >> 8), (byte)length]
            : [tag, 0x83, (byte)(length >> 16), (byte)(length >> 8), (byte)length];
        return [.. header, .. contents];
    }

    private static byte[] DigestIdentifier(HashAlgorithmName hash) => hash == HashAlgorithmName.SHA1
        ? [0x2B, 0x0E, 3, 2, 0x1A]
        : [0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, (byte)(hash == HashAlgorithmName.SHA256 ? 1 : hash == HashAlgorithmName.SHA384 ? 2 : 3)];

    private static byte[] Algorithm(byte[] identifier) => Der_(0x30, Der_(6, identifier), [5, 0]);

    private byte[] Signer(byte[] content, MessageShape shape)
    {
        byte[] attributes = [];
        byte[] signed = content;
        if (shape.HasAttributes)
        {
            byte[] digest = CryptographicOperations.HashData(shape.Hash, content);
            byte[] list =
            [
                .. Der_(0x30, Der_(6, [0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 1, 9, 3]), Der_(0x31, Der_(6, [0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 1, 7, 1]))),
                .. Der_(0x30, Der_(6, [0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 1, 9, 4]), Der_(0x31, Der_(4, digest))),
            ];
            attributes = Der_(0xA0, list);
            signed = Der_(0x31, list);
        }

        return Der_(
            0x30,
            Der_(2, [1]),
            Der_(0x30, _certificate.IssuerName.RawData, Der_(2, [.. _certificate.SerialNumberBytes.Span])),
            Algorithm(DigestIdentifier(shape.Hash)),
            attributes,
            Algorithm([0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 1, 1, 1]),
            Der_(4, _key.SignData(signed, shape.Hash, RSASignaturePadding.Pkcs1)));
    }

    // The class library does not sign certificates with SHA-1 any more.
    private sealed class Sha1Generator(RSA key) : X509SignatureGenerator
    {
        public override byte[] GetSignatureAlgorithmIdentifier(HashAlgorithmName hashAlgorithm) => Algorithm([0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 1, 1, 5]);

        public override byte[] SignData(byte[] data, HashAlgorithmName hashAlgorithm) => key.SignData(data, HashAlgorithmName.SHA1, RSASignaturePadding.Pkcs1);

        protected override PublicKey BuildPublicKey() => new(key);
    }
}
