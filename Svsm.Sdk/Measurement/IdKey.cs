// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Keys and signatures in the form of the security processor.
//
// Public key, 0x404 bytes: u32 curve (2 = P-384) · X[72] · Y[72] · 880 zeroes. Signature, 512 bytes: R[72] · S[72] · 368 zeroes.
// Numbers are little-endian, 48 bytes, zero-extended to 72. An IGVM file has 4 more zero bytes behind the curve, which are not part of the key.
//
// Source: SEV-SNP firmware ABI, chapter on signature and public key formats.

using System;
using System.Buffers.Binary;
using System.Security.Cryptography;
using Org.BouncyCastle.Asn1.Sec;
using Org.BouncyCastle.Asn1.X9;
using Org.BouncyCastle.Crypto.Digests;
using Org.BouncyCastle.Crypto.Parameters;
using Org.BouncyCastle.Crypto.Signers;
using Org.BouncyCastle.Math;
using Svsm.Igvm;

namespace Svsm.Measurement;

/// <summary>A public key that signs ID blocks, or other such keys.</summary>
public sealed record IdKey
{
    /// <summary>Bytes of the key record.</summary>
    public const int ByteLength = 0x404;

    internal const int SignatureLength = 512;
    internal const int NumberLength = 48;

    private static readonly ECDomainParameters s_domain = new(ECNamedCurveTable.GetByOid(SecObjectIdentifiers.SecP384r1));

    private readonly byte[] _record;

    private IdKey(byte[] record) => _record = record;

    /// <summary>SHA-384 of the key record: what an attestation report says about the key (ID_KEY_DIGEST, AUTHOR_KEY_DIGEST).</summary>
    public LaunchDigest Digest => new(SHA384.HashData(_record));

    /// <summary>Loads a private key.</summary>
    /// <param name="pem">An EC private key in PEM form, SEC1 or PKCS#8, not encrypted.</param>
    /// <returns>The key, to sign with. Dispose it.</returns>
    /// <exception cref="MeasurementException">The text holds no such key, or its curve is not P-384.</exception>
    public static ECDsa LoadPrivateKey(string pem)
    {
        ECDsa key = ImportPem(pem);
        try
        {
            // Also refuses public keys.
            _ = RequireP384(key.ExportParameters(includePrivateParameters: true));
            return key;
        }
        catch (CryptographicException e)
        {
            key.Dispose();
            throw new MeasurementException(MeasurementError.BadKey, "The PEM text holds a public key; a private one is needed to sign.", e);
        }
        catch (MeasurementException)
        {
            key.Dispose();
            throw;
        }
    }

    /// <summary>The public part of a key in PEM form.</summary>
    /// <param name="pem">An EC key in PEM form, public or private.</param>
    /// <returns>The public key.</returns>
    /// <exception cref="MeasurementException">The text holds no such key, or its curve is not P-384.</exception>
    public static IdKey FromPem(string pem)
    {
        using ECDsa key = ImportPem(pem);
        return FromKey(key);
    }

    /// <summary>The public part of a key.</summary>
    /// <param name="key">The key, on curve P-384.</param>
    /// <returns>The public key.</returns>
    /// <exception cref="MeasurementException">The curve is another one.</exception>
    public static IdKey FromKey(ECDsa key)
    {
        ArgumentNullException.ThrowIfNull(key);
        ECParameters parameters = RequireP384(key.ExportParameters(includePrivateParameters: false));
        byte[] record = new byte[ByteLength];
        BinaryPrimitives.WriteUInt32LittleEndian(record, IgvmSnpPublicKey.P384);
        WriteNumber(parameters.Q.X, record.AsSpan(4));
        WriteNumber(parameters.Q.Y, record.AsSpan(4 + IgvmSnpSignature.NumberLength));
        return new IdKey(record);
    }

    /// <summary>The bytes of the key record.</summary>
    /// <returns>0x404 bytes, a copy.</returns>
    public byte[] ToArray() => (byte[])_record.Clone();

    /// <summary>Compares by content.</summary>
    /// <param name="other">The other key.</param>
    /// <returns>True when both records are equal.</returns>
    public bool Equals(IdKey? other) => other is not null && _record.AsSpan().SequenceEqual(other._record);

    /// <inheritdoc/>
    public override int GetHashCode() => Digest.GetHashCode();

    // Null for a record of zeroes, which stands for "none".
    internal static IdKey? ParseRecord(ReadOnlySpan<byte> record)
    {
        if (!record.ContainsAnyExcept((byte)0))
        {
            return null;
        }

        uint curve = BinaryPrimitives.ReadUInt32LittleEndian(record);
        if (curve != IgvmSnpPublicKey.P384)
        {
            throw new MeasurementException(MeasurementError.BadKey, $"The curve of a key is {curve}; it must be {IgvmSnpPublicKey.P384} (P-384).");
        }

        RequireNumber(record.Slice(4, IgvmSnpSignature.NumberLength), "X of a key");
        RequireNumber(record.Slice(4 + IgvmSnpSignature.NumberLength, IgvmSnpSignature.NumberLength), "Y of a key");
        if (record[(4 + (2 * IgvmSnpSignature.NumberLength))..].ContainsAnyExcept((byte)0))
        {
            throw new MeasurementException(MeasurementError.BadKey, "The key record has other bytes than zeroes behind Y.");
        }

        return new IdKey(record.ToArray());
    }

    internal static void RequireNumber(ReadOnlySpan<byte> number, string name)
    {
        if (number[NumberLength..].ContainsAnyExcept((byte)0))
        {
            throw new MeasurementException(MeasurementError.BadKey, $"{name} is longer than {NumberLength} bytes.");
        }
    }

    // The nonce comes from key and message (RFC 6979), not from random numbers: the same image signed with the same key has the same bytes.
    internal static byte[] Sign(ECDsa key, ReadOnlySpan<byte> data)
    {
        byte[] d = key.ExportParameters(includePrivateParameters: true).D!;
        try
        {
            var signer = new ECDsaSigner(new HMacDsaKCalculator(new Sha384Digest()));
            signer.Init(true, new ECPrivateKeyParameters(new BigInteger(1, d), s_domain));
            BigInteger[] signature = signer.GenerateSignature(SHA384.HashData(data));
            byte[] record = new byte[SignatureLength];
            WriteNumber(signature[0].ToByteArrayUnsigned(), record);
            WriteNumber(signature[1].ToByteArrayUnsigned(), record.AsSpan(IgvmSnpSignature.NumberLength));
            return record;
        }
        finally
        {
            CryptographicOperations.ZeroMemory(d);
        }
    }

    internal bool Verify(ReadOnlySpan<byte> data, ReadOnlySpan<byte> signatureRecord)
    {
        byte[] x = ReadNumber(_record.AsSpan(4));
        byte[] y = ReadNumber(_record.AsSpan(4 + IgvmSnpSignature.NumberLength));
        byte[] signature = [.. ReadNumber(signatureRecord), .. ReadNumber(signatureRecord[IgvmSnpSignature.NumberLength..])];
        try
        {
            using ECDsa key = ECDsa.Create(new ECParameters { Curve = ECCurve.NamedCurves.nistP384, Q = new ECPoint { X = x, Y = y } });
            return key.VerifyData(data, signature, HashAlgorithmName.SHA384, DSASignatureFormat.IeeeP1363FixedFieldConcatenation);
        }
        catch (CryptographicException)
        {
            // The point is not on the curve.
            return false;
        }
    }

    private static ECDsa ImportPem(string pem)
    {
        ArgumentNullException.ThrowIfNull(pem);
        var key = ECDsa.Create();
        try
        {
            key.ImportFromPem(pem);
            return key;
        }
        catch (Exception e) when (e is ArgumentException or CryptographicException)
        {
            key.Dispose();
            throw new MeasurementException(MeasurementError.BadKey, "The text holds no EC key in PEM form, or more than one. Make one with: openssl ecparam -name secp384r1 -genkey -noout", e);
        }
    }

    private static ECParameters RequireP384(ECParameters parameters) =>
        parameters.Curve.Oid?.Value == ECCurve.NamedCurves.nistP384.Oid.Value || parameters.Curve.Oid?.FriendlyName is "nistP384" or "ECDSA_P384" or "secp384r1"
            ? parameters
            : throw new MeasurementException(MeasurementError.BadKey, $"The curve of the key is {parameters.Curve.Oid?.FriendlyName ?? "not a named one"}; it must be P-384 (secp384r1).");

    private static void WriteNumber(ReadOnlySpan<byte> bigEndian, Span<byte> destination)
    {
        for (int i = 0; i < bigEndian.Length; i++)
        {
            destination[i] = bigEndian[bigEndian.Length - 1 - i];
        }
    }

    private static byte[] ReadNumber(ReadOnlySpan<byte> littleEndian)
    {
        byte[] number = littleEndian[..NumberLength].ToArray();
        number.AsSpan().Reverse();
        return number;
    }
}
