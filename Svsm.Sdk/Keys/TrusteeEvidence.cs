// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Evidence as Trustee takes it: an attestation report as the Rust library "sev" writes it as JSON, number by number. Versions of that library differ in names; each
// ignores what it does not know, so both are given: author key as "_author_key_en" and "key_info", versions as bytes and as objects.
//
// "svsm-report" and "svsm-certificates" are the same in bytes, for svsm keys serve.
//
// Source: confidential-containers/trustee, kbs/docs/kbs_attestation_protocol.md (0.4.0), kbs/src/attestation/backend.rs, deps/verifier/src/snp; virtee/sev,
// src/firmware/guest/types/snp.rs and src/firmware/host. Offsets: AMD SEV-SNP ABI specification (56860), ATTESTATION_REPORT.

using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.IO;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text.Json;
using Svsm.Attestation;
using Svsm.Diagnostics;
using Svsm.StoreKeys;

namespace Svsm.Keys;

internal static class TrusteeEvidence
{
    // The first processor whose TCB has a version of the FMC, in the first byte (AMD, family 1Ah).
    private const byte TurinFamily = 0x1A;
    private const int FamilyOffset = 0x188;
    private const uint FirstVersionWithFamily = 3;

    /// <summary>Makes the content of <c>/kbs/v0/attest</c>.</summary>
    /// <param name="nonce">The broker's nonce.</param>
    /// <param name="teeKey">The SVSM's fresh key, x and y.</param>
    /// <param name="report">The report.</param>
    /// <param name="certificates">The host's table of certificates.</param>
    public static byte[] Make(string nonce, ReadOnlySpan<byte> teeKey, ReadOnlySpan<byte> report, ReadOnlySpan<byte> certificates)
    {
        var stream = new MemoryStream();
        using (var json = new Utf8JsonWriter(stream))
        {
            json.WriteStartObject();
            json.WriteStartObject("runtime-data");
            json.WriteString("nonce", nonce);
            json.WriteStartObject("tee-pubkey");
            json.WriteString("kty", "EC");
            json.WriteString("crv", "P-521");
            json.WriteString("alg", "ECDH-ES+A256KW");
            json.WriteString("x", BrokerFormat.ToBase64Url(teeKey[..BrokerFormat.TeeNumberLength]));
            json.WriteString("y", BrokerFormat.ToBase64Url(teeKey[BrokerFormat.TeeNumberLength..]));
            json.WriteEndObject();
            json.WriteEndObject();
            json.WriteStartObject("tee-evidence");
            json.WriteStartObject("primary_evidence");
            WriteReport(json, report);
            WriteCertificates(json, certificates);
            json.WriteBase64String("svsm-report", report);
            json.WriteBase64String("svsm-certificates", certificates);
            json.WriteEndObject();
            json.WriteString("additional_evidence", "");
            json.WriteEndObject();
            json.WriteEndObject();
        }

        return stream.ToArray();
    }

    private static void WriteReport(Utf8JsonWriter json, ReadOnlySpan<byte> report)
    {
        uint version = BinaryPrimitives.ReadUInt32LittleEndian(report);
        bool hasFamily = version >= FirstVersionWithFamily;
        bool isTurin = hasFamily && report[FamilyOffset] >= TurinFamily;
        json.WriteStartObject("attestation_report");
        Number32(json, "version", report);
        Number32(json, "guest_svn", report[0x004..]);
        Number64(json, "policy", report[0x008..]);
        Bytes(json, "family_id", report.Slice(0x010, 16));
        Bytes(json, "image_id", report.Slice(0x020, 16));
        Number32(json, "vmpl", report[0x030..]);
        Number32(json, "sig_algo", report[0x034..]);
        Tcb(json, "current_tcb", report[0x038..], isTurin);
        Number64(json, "plat_info", report[0x040..]);
        Number32(json, "key_info", report[0x048..]);
        Number32(json, "_author_key_en", report[0x048..]);
        Number32(json, "_reserved_0", report[0x04C..]);
        Bytes(json, "report_data", report.Slice(0x050, 64));
        Bytes(json, "measurement", report.Slice(0x090, 48));
        Bytes(json, "host_data", report.Slice(0x0C0, 32));
        Bytes(json, "id_key_digest", report.Slice(0x0E0, 48));
        Bytes(json, "author_key_digest", report.Slice(0x110, 48));
        Bytes(json, "report_id", report.Slice(0x140, 32));
        Bytes(json, "report_id_ma", report.Slice(0x160, 32));
        Tcb(json, "reported_tcb", report[0x180..], isTurin);
        if (hasFamily)
        {
            json.WriteNumber("cpuid_fam_id", report[FamilyOffset]);
            json.WriteNumber("cpuid_mod_id", report[FamilyOffset + 1]);
            json.WriteNumber("cpuid_step", report[FamilyOffset + 2]);
        }

        Bytes(json, "_reserved_1", report.Slice(0x188, 24));
        Bytes(json, "chip_id", report.Slice(0x1A0, 64));
        Tcb(json, "committed_tcb", report[0x1E0..], isTurin);
        FirmwareVersion(json, "current", report[0x1E8..]);
        json.WriteNumber("_reserved_2", report[0x1EB]);
        FirmwareVersion(json, "committed", report[0x1EC..]);
        json.WriteNumber("_reserved_3", report[0x1EF]);
        Tcb(json, "launch_tcb", report[0x1F0..], isTurin);
        Bytes(json, "_reserved_4", report.Slice(0x1F8, 168));
        const uint FirstVersionWithMitigations = 5;
        if (version >= FirstVersionWithMitigations)
        {
            Number64(json, "launch_mit_vector", report[0x1F8..]);
            Number64(json, "current_mit_vector", report[0x200..]);
        }

        json.WriteStartObject("signature");
        Bytes(json, "r", report.Slice(0x2A0, 72));
        Bytes(json, "s", report.Slice(0x2E8, 72));
        Bytes(json, "_reserved", report.Slice(0x330, 368));
        json.WriteEndObject();
        json.WriteEndObject();
    }

    // Of Milan and Genoa: boot loader, TEE, 4 reserved, SNP, microcode. Of Turin: FMC, boot loader, TEE, SNP, 3 reserved, microcode.
    private static void Tcb(Utf8JsonWriter json, string name, ReadOnlySpan<byte> tcb, bool isTurin)
    {
        int at = isTurin ? 1 : 0;
        json.WriteStartObject(name);
        if (isTurin)
        {
            json.WriteNumber("fmc", tcb[0]);
        }
        else
        {
            json.WriteNull("fmc");
        }

        json.WriteNumber("bootloader", tcb[at]);
        json.WriteNumber("tee", tcb[at + 1]);
        Bytes(json, "_reserved", isTurin ? tcb.Slice(4, 3) : tcb.Slice(2, 4));
        json.WriteNumber("snp", isTurin ? tcb[3] : tcb[6]);
        json.WriteNumber("microcode", tcb[7]);
        json.WriteEndObject();
    }

    private static void FirmwareVersion(Utf8JsonWriter json, string name, ReadOnlySpan<byte> version)
    {
        json.WriteNumber(name + "_build", version[0]);
        json.WriteNumber(name + "_minor", version[1]);
        json.WriteNumber(name + "_major", version[2]);
        json.WriteStartObject(name);
        json.WriteNumber("build", version[0]);
        json.WriteNumber("minor", version[1]);
        json.WriteNumber("major", version[2]);
        json.WriteEndObject();
    }

    // The chip's certificate alone: Trustee has the others, and gets this one from AMD if there is none.
    private static void WriteCertificates(Utf8JsonWriter json, ReadOnlySpan<byte> table)
    {
        foreach (byte[] der in ReadTable(table))
        {
            if (TryGetSigner(der) is string signer)
            {
                json.WriteStartArray("cert_chain");
                json.WriteStartObject();
                json.WriteString("cert_type", signer);
                Bytes(json, "data", der);
                json.WriteEndObject();
                json.WriteEndArray();
                return;
            }
        }

        json.WriteNull("cert_chain");
    }

    // Null: no key of reports, or one on a curve that nobody knows.
    private static string? TryGetSigner(byte[] der)
    {
        try
        {
            using X509Certificate2 certificate = X509CertificateLoader.LoadCertificate(der);
            using ECDsa? key = certificate.GetECDsaPublicKey();
            return key is null ? null : certificate.Subject.Contains("VLEK", StringComparison.Ordinal) ? "VLEK" : "VCEK";
        }
        catch (CryptographicException)
        {
            return null;
        }
    }

    private static IReadOnlyList<byte[]> ReadTable(ReadOnlySpan<byte> table)
    {
        try
        {
            return table.IsEmpty ? [] : CertificateFile.Read(table, "certificates");
        }
        catch (SvsmDiagnosticException)
        {
            return [];
        }
    }

    private static void Number32(Utf8JsonWriter json, string name, ReadOnlySpan<byte> bytes) => json.WriteNumber(name, BinaryPrimitives.ReadUInt32LittleEndian(bytes));

    private static void Number64(Utf8JsonWriter json, string name, ReadOnlySpan<byte> bytes) => json.WriteNumber(name, BinaryPrimitives.ReadUInt64LittleEndian(bytes));

    private static void Bytes(Utf8JsonWriter json, string name, ReadOnlySpan<byte> bytes)
    {
        json.WriteStartArray(name);
        foreach (byte value in bytes)
        {
            json.WriteNumberValue(value);
        }

        json.WriteEndArray();
    }
}
