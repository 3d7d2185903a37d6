// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Makes TPMs with endorsement keys and their certificates, as a vendor does before delivery.
//
//   NV 0x01C00002   certificate of the RSA-2048 endorsement key (template L-1)
//   NV 0x01C0000A   certificate of the ECC P-256 endorsement key (template L-2)
//
// Everything happens in memory; the storage is written once, at the end. A manufacture that was interrupted has made nothing.
//
// Source: TCG EK Credential Profile for TPM Family 2.0, 2.2 (templates, indices), 3.1 (certificates).

using System;
using System.Buffers.Binary;
using System.Formats.Asn1;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;

namespace Svsm.Modules.Vtpm.Desk;

/// <summary>Makes TPMs.</summary>
public static class TpmFactory
{
    private const uint Platform = 0x4000_000C;

    // Written by the platform once; read by everybody; no dictionary attack protection.
    private const uint CertificateAttributes = 0x4207_2001;

    private const int NvPiece = 1024;

    /// <summary>Makes a TPM in a storage that has none.</summary>
    /// <param name="storage">Where its state goes.</param>
    /// <param name="authority">The certificate authority with its private key; null for a TPM without certificates.</param>
    /// <param name="swtpmState">An swtpm's permanent state to take the seeds from; null for new ones.</param>
    /// <param name="problem">What in the swtpm's state cannot be taken.</param>
    /// <param name="hasSha1Bank">False for a TPM whose SHA-1 bank of PCRs is switched off from the beginning.</param>
    /// <exception cref="CryptographicException">The authority's key cannot sign.</exception>
    /// <exception cref="InvalidOperationException">The TPM refused what has to work on a new one.</exception>
    public static TpmOpenResult TryManufacture(ITpmStorage storage, X509Certificate2? authority, byte[]? swtpmState, out string problem, bool hasSha1Bank = true)
    {
        ArgumentNullException.ThrowIfNull(storage);
        problem = "";
        TpmStorageResult read = storage.Read(out _);
        if (read != TpmStorageResult.Absent)
        {
            return read == TpmStorageResult.Done ? TpmOpenResult.AlreadyManufactured : TpmOpenResult.StorageFailed;
        }

        var desk = new DeskPlatform();
        var memory = new MemoryStorage();

        // Time stands still meanwhile: making a key takes what it takes.
        var platform = new TpmPlatform(new StoppedClock(), desk, memory);
        TpmOpenResult result = swtpmState is null
            ? Tpm.TryManufacture(platform, out Tpm? tpm)
            : Tpm.TryImportSwtpm(platform, swtpmState, out tpm, out problem);
        if (result != TpmOpenResult.Done)
        {
            return result;
        }

        if (authority is not null || !hasSha1Bank)
        {
            var client = new Client(tpm!);
            client.Do(0x144, [], [0, 0]);
            if (!hasSha1Bank)
            {
                // TPM2_PCR_Allocate, in effect from the next startup on.
                client.Do(0x12B, [Platform], [0, 0, 0, 1, 0, 4, 3, 0, 0, 0]);
            }

            if (authority is not null)
            {
                Certify(tpm!, client, authority);
            }

            client.Do(0x145, [], [0, 0]);
        }

        TpmStorageResult written = storage.Write(memory.Content);
        CryptographicOperations.ZeroMemory(memory.Content);
        return written == TpmStorageResult.Done ? TpmOpenResult.Done : TpmOpenResult.StorageFailed;
    }

    private static void Certify(Tpm tpm, Client client, X509Certificate2 authority)
    {
        using (RSA key = RsaKey(tpm))
        {
            var request = new CertificateRequest(new X500DistinguishedName(""), key, HashAlgorithmName.SHA256, RSASignaturePadding.Pkcs1);
            Store(client, 0x01C0_0002, Certificate(request, X509KeyUsageFlags.KeyEncipherment, authority));
        }

        using (ECDiffieHellman key = EccKey(tpm))
        {
            var request = new CertificateRequest(new X500DistinguishedName(""), new PublicKey(key), HashAlgorithmName.SHA256);
            Store(client, 0x01C0_000A, Certificate(request, X509KeyUsageFlags.KeyAgreement, authority));
        }
    }

    private static RSA RsaKey(Tpm tpm)
    {
        byte[] area = EndorsementKey(tpm, EndorsementKeyKind.Rsa2048);
        return RSA.Create(new RSAParameters { Modulus = area[^256..], Exponent = [1, 0, 1] });
    }

    private static ECDiffieHellman EccKey(Tpm tpm)
    {
        byte[] area = EndorsementKey(tpm, EndorsementKeyKind.EccP256);
        return ECDiffieHellman.Create(new ECParameters
        {
            Curve = ECCurve.NamedCurves.nistP256,
            Q = new ECPoint { X = area[^66..^34], Y = area[^32..] },
        });
    }

    private static byte[] EndorsementKey(Tpm tpm, EndorsementKeyKind kind)
    {
        byte[] area;
        while (!tpm.TryGetEndorsementKey(kind, out area))
        {
            // One slice more.
        }

        return area;
    }

    private static byte[] Certificate(CertificateRequest request, X509KeyUsageFlags usage, X509Certificate2 authority)
    {
        request.CertificateExtensions.Add(new X509BasicConstraintsExtension(false, false, 0, critical: true));
        request.CertificateExtensions.Add(new X509KeyUsageExtension(usage, critical: true));
        request.CertificateExtensions.Add(new X509EnhancedKeyUsageExtension([new Oid("2.23.133.8.1")], critical: false));
        request.CertificateExtensions.Add(new X509Extension("2.5.29.17", SubjectAlternativeName(), critical: true));
        request.CertificateExtensions.Add(X509AuthorityKeyIdentifierExtension.CreateFromCertificate(authority, true, false));
        byte[] serial = RandomNumberGenerator.GetBytes(16);
        serial[0] = (byte)((serial[0] & 0x7F) | 1);
        using X509Certificate2 made = authority.GetRSAPrivateKey() is RSA rsa
            ? request.Create(authority.SubjectName, X509SignatureGenerator.CreateForRSA(rsa, RSASignaturePadding.Pkcs1), authority.NotBefore, authority.NotAfter, serial)
            : request.Create(
                authority.SubjectName,
                X509SignatureGenerator.CreateForECDsa(authority.GetECDsaPrivateKey() ?? throw new CryptographicException("the authority's key is neither RSA nor EC")),
                authority.NotBefore,
                authority.NotAfter,
                serial);
        return made.RawData;
    }

    // A directory name with manufacturer, model and version of the TPM, as its properties say them.
    private static byte[] SubjectAlternativeName()
    {
        var writer = new AsnWriter(AsnEncodingRules.DER);
        using (writer.PushSequence())
        using (writer.PushSequence(new Asn1Tag(TagClass.ContextSpecific, 4, isConstructed: true)))
        using (writer.PushSequence())
        {
            foreach ((string type, string value) in ((string, string)[])[("2.23.133.2.1", "id:5356534D"), ("2.23.133.2.2", "Svsm.Vtpm"), ("2.23.133.2.3", "id:00010000")])
            {
                using (writer.PushSetOf())
                using (writer.PushSequence())
                {
                    writer.WriteObjectIdentifier(type);
                    writer.WriteCharacterString(UniversalTagNumber.UTF8String, value);
                }
            }
        }

        return writer.Encode();
    }

    private static void Store(Client client, uint index, byte[] certificate)
    {
        byte[] area = [.. U32(index), 0, 0x0B, .. U32(CertificateAttributes), 0, 0, .. U16(certificate.Length)];
        client.Do(0x12A, [Platform], [0, 0, .. Sized(area)]);
        for (int offset = 0; offset < certificate.Length; offset += NvPiece)
        {
            byte[] piece = certificate[offset..Math.Min(certificate.Length, offset + NvPiece)];
            client.Do(0x137, [Platform, index], [.. Sized(piece), .. U16(offset)]);
        }

        client.Do(0x138, [Platform, index], []);
    }

    private static byte[] U16(int value) => [(byte)(value >> 8), (byte)value];

    private static byte[] U32(uint value) => [(byte)(value >> 24), (byte)(value >> 16), (byte)(value >> 8), (byte)value];

    private static byte[] Sized(byte[] value) => [.. U16(value.Length), .. value];

    private sealed class Client(Tpm tpm)
    {
        private readonly byte[] _response = new byte[Tpm.MaxCommandSize];

        /// <summary>Does a command, with an empty password where there is a handle, and gives what follows the header.</summary>
        internal byte[] Do(uint code, uint[] handles, byte[] parameters)
        {
            byte[] body = [];
            foreach (uint handle in handles)
            {
                body = [.. body, .. U32(handle)];
            }

            if (handles.Length != 0)
            {
                body = [.. body, 0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 1, 0, 0];
            }

            byte[] command = [.. U16(handles.Length == 0 ? 0x8001 : 0x8002), .. U32((uint)(10 + body.Length + parameters.Length)), .. U32(code), .. body, .. parameters];
            int size = tpm.Execute(command, 0, _response);
            uint result = BinaryPrimitives.ReadUInt32BigEndian(_response.AsSpan(6));
            return result == 0 ? _response[10..size] : throw new InvalidOperationException($"command 0x{code:X} on a new TPM: {TpmTrace.Describe((Wire.TpmResponseCode)result)}");
        }
    }

    private sealed class StoppedClock : ITpmClock
    {
        public long Milliseconds => 0;
    }

    private sealed class MemoryStorage : ITpmStorage
    {
        internal byte[] Content { get; private set; } = [];

        public TpmStorageResult Read(out byte[] content)
        {
            content = Content;
            return Content.Length == 0 ? TpmStorageResult.Absent : TpmStorageResult.Done;
        }

        public TpmStorageResult Write(ReadOnlySpan<byte> content)
        {
            Content = content.ToArray();
            return TpmStorageResult.Done;
        }
    }
}
