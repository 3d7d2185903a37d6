// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Certificates of a chip, in the forms in which they come: PEM, one DER certificate, or the table that a host hands to a guest (auxblob of Linux):
//   entries of 24 bytes: GUID (16) | u32 offset of the certificate | u32 its length
//   an entry of zeroes | the certificates, DER
//
// What a certificate is for is told by the certificate, not by the GUID: public tables have these in both byte orders. An entry that is no certificate, such
// as a revocation list, is left out.
//
// Source: GHCB specification (56421), SNP Extended Guest Request; virtee/sev (CertTableEntry).

using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using Svsm.Diagnostics;

namespace Svsm.Attestation;

/// <summary>Reads certificates.</summary>
public static class CertificateFile
{
    /// <summary>Most bytes of a file: far more than any chain has.</summary>
    public const int MaxLength = 0x10_0000;

    private const int EntryLength = 24;
    private const int GuidLength = 16;

    // Far more than any chain has. Entries may name the same bytes, and each is copied.
    private const int MaxEntries = 64;

    /// <summary>Reads a file.</summary>
    /// <param name="bytes">PEM, DER or a host's table. Untrusted.</param>
    /// <param name="name">What it is called in messages.</param>
    /// <returns>The certificates, DER, at least one; nothing about them is verified.</returns>
    /// <exception cref="SvsmDiagnosticException">SVSM3102: there is no certificate in it.</exception>
    public static IReadOnlyList<byte[]> Read(ReadOnlySpan<byte> bytes, string name)
    {
        if (bytes.Length > MaxLength)
        {
            throw SvsmDiagnostics.CertificatesUnusable.Error($"'{name}' with {bytes.Length} bytes", $"at most {MaxLength}");
        }

        List<byte[]> certificates = bytes.IndexOf("-----BEGIN CERTIFICATE-----"u8) >= 0 ? ReadPem(bytes, name) : ReadBinary(bytes);
        return certificates.Count != 0
            ? certificates
            : throw SvsmDiagnostics.CertificatesUnusable.Error($"'{name}' without a certificate", "PEM, DER, or the table of a host's certificates");
    }

    private static List<byte[]> ReadPem(ReadOnlySpan<byte> bytes, string name)
    {
        var certificates = new List<byte[]>();
        ReadOnlySpan<char> text = Encoding.Latin1.GetString(bytes);
        while (PemEncoding.TryFind(text, out PemFields fields))
        {
            if (text[fields.Label].SequenceEqual("CERTIFICATE"))
            {
                byte[] der = Convert.FromBase64String(text[fields.Base64Data].ToString());
                certificates.Add(IsCertificate(der)
                    ? der
                    : throw SvsmDiagnostics.CertificatesUnusable.Error($"'{name}' with a block CERTIFICATE that is none", "X.509 certificates"));
            }

            text = text[fields.Location.End..];
        }

        return certificates;
    }

    private static List<byte[]> ReadBinary(ReadOnlySpan<byte> bytes)
    {
        var certificates = new List<byte[]>();
        byte[] all = bytes.ToArray();
        if (IsCertificate(all))
        {
            certificates.Add(all);
            return certificates;
        }

        for (int i = 0; i < MaxEntries && bytes.Length - (i * EntryLength) >= EntryLength; i++)
        {
            ReadOnlySpan<byte> entry = bytes.Slice(i * EntryLength, EntryLength);
            if (!entry.ContainsAnyExcept((byte)0))
            {
                break;
            }

            uint offset = BinaryPrimitives.ReadUInt32LittleEndian(entry[GuidLength..]);
            uint length = BinaryPrimitives.ReadUInt32LittleEndian(entry[(GuidLength + sizeof(uint))..]);
            if (offset <= bytes.Length && length <= bytes.Length - offset)
            {
                byte[] der = bytes.Slice((int)offset, (int)length).ToArray();
                if (IsCertificate(der))
                {
                    certificates.Add(der);
                }
            }
        }

        return certificates;
    }

    private static bool IsCertificate(byte[] der)
    {
        try
        {
            using X509Certificate2 certificate = X509CertificateLoader.LoadCertificate(der);
            return certificate.RawData.AsSpan().SequenceEqual(der);
        }
        catch (CryptographicException)
        {
            return false;
        }
    }
}
