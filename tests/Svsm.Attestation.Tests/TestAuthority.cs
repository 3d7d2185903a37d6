// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Plays AMD and a chip: three keys, certificates for them as a test wants them, and reports with any contents. Shared with the tests of the tool.

using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.Formats.Asn1;
using System.Linq;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;

namespace Svsm.Attestation.Tests;

/// <summary>How the certificates of a chip are made.</summary>
internal sealed record ChainOptions
{
    public bool Pss { get; init; } = true;

    public bool AuthorityMaySign { get; init; } = true;

    public bool SmallAuthority { get; init; }

    public DateTimeOffset NotAfter { get; init; } = new(2049, 12, 31, 0, 0, 0, TimeSpan.Zero);

    /// <summary>The chip's certificate is signed by the root itself.</summary>
    public bool WithoutAuthority { get; init; }

    /// <summary>Another key than that of the authority signs the chip's certificate.</summary>
    public bool StrangerSigns { get; init; }

    /// <summary>Extensions of the chip's certificate, behind 1.3.6.1.4.1.3704.1.</summary>
    public Dictionary<string, byte[]> Extensions { get; init; } = TestAuthority.MilanExtensions();
}

internal static class TestAuthority
{
    public const ulong Tcb = 0xDB18_0000_0000_0504;

    private static readonly DateTimeOffset s_notBefore = new(2020, 1, 1, 0, 0, 0, TimeSpan.Zero);
    private static readonly Lazy<RSA> s_ark = new(() => RSA.Create(4096));
    private static readonly Lazy<RSA> s_ask = new(() => RSA.Create(4096));
    private static readonly Lazy<RSA> s_small = new(() => RSA.Create(2048));
    private static readonly Lazy<ECDsa> s_vcek = new(() => ECDsa.Create(ECCurve.NamedCurves.nistP384));

    public static byte[] ChipId { get; } = SHA512.HashData("chip"u8);

    public static DateTimeOffset Now { get; } = new(2026, 1, 1, 0, 0, 0, TimeSpan.Zero);

    public static Dictionary<string, byte[]> MilanExtensions() => new()
    {
        ["1"] = Number(0), ["3.1"] = Number(4), ["3.2"] = Number(5), ["3.3"] = Number(0x18), ["3.4"] = Number(0), ["3.5"] = Number(0), ["3.6"] = Number(0), ["3.7"] = Number(0),
        ["3.8"] = Number(0xDB), ["4"] = ChipId,
    };

    public static byte[] Number(int value)
    {
        var writer = new AsnWriter(AsnEncodingRules.DER);
        writer.WriteInteger(value);
        return writer.Encode();
    }

    /// <summary>The certificates of a chip, DER: root, authority, chip.</summary>
    public static (byte[] Ark, byte[] Ask, byte[] Vcek) MakeChain(ChainOptions? options = null)
    {
        options ??= new ChainOptions();
        RSASignaturePadding padding = options.Pss ? RSASignaturePadding.Pss : RSASignaturePadding.Pkcs1;
        RSA askKey = options.SmallAuthority ? s_small.Value : s_ask.Value;
        byte[] ark = Issue("ARK", "ARK", Authority("ARK", s_ark.Value, true), s_ark.Value, padding, options.NotAfter);
        byte[] ask = Issue("ASK", "ARK", Authority("ASK", askKey, options.AuthorityMaySign), s_ark.Value, padding, options.NotAfter);
        var request = new CertificateRequest(Name("VCEK"), s_vcek.Value, HashAlgorithmName.SHA384);
        foreach ((string name, byte[] value) in options.Extensions)
        {
            request.CertificateExtensions.Add(new X509Extension("1.3.6.1.4.1.3704.1." + name, value, critical: false));
        }

        byte[] vcek = options.WithoutAuthority
            ? Issue("VCEK", "ARK", request, s_ark.Value, padding, options.NotAfter)
            : Issue("VCEK", "ASK", request, options.StrangerSigns ? s_small.Value : askKey, padding, options.NotAfter);
        return (ark, ask, vcek);
    }

    /// <summary>A signed report.</summary>
    /// <param name="change">Changes what is signed.</param>
    public static byte[] MakeReport(Action<byte[]>? change = null)
    {
        byte[] report = new byte[AttestationReport.ByteLength];
        BinaryPrimitives.WriteUInt32LittleEndian(report, 2);
        BinaryPrimitives.WriteUInt64LittleEndian(report.AsSpan(0x008), 0x3_0000);
        BinaryPrimitives.WriteUInt32LittleEndian(report.AsSpan(0x034), 1);
        SHA384.HashData("image"u8, report.AsSpan(0x090));
        report.AsSpan(0x160, 32).Fill(0xFF);
        foreach (int offset in (int[])[0x038, 0x180, 0x1E0, 0x1F0])
        {
            BinaryPrimitives.WriteUInt64LittleEndian(report.AsSpan(offset), Tcb);
        }

        ChipId.CopyTo(report, 0x1A0);
        change?.Invoke(report);
        byte[] signature = s_vcek.Value.SignData(report.AsSpan(0, 0x2A0), HashAlgorithmName.SHA384, DSASignatureFormat.IeeeP1363FixedFieldConcatenation);
        signature.Take(48).Reverse().ToArray().CopyTo(report, 0x2A0);
        signature.Skip(48).Reverse().ToArray().CopyTo(report, 0x2E8);
        return report;
    }

    /// <summary>The table of a host.</summary>
    public static byte[] MakeTable(params byte[][] certificates)
    {
        byte[] head = new byte[24 * (certificates.Length + 1)];
        int at = head.Length;
        for (int i = 0; i < certificates.Length; i++)
        {
            head.AsSpan(24 * i, 16).Fill((byte)(i + 1));
            BinaryPrimitives.WriteInt32LittleEndian(head.AsSpan((24 * i) + 16), at);
            BinaryPrimitives.WriteInt32LittleEndian(head.AsSpan((24 * i) + 20), certificates[i].Length);
            at += certificates[i].Length;
        }

        byte[] table = [.. head, .. certificates.SelectMany(certificate => certificate)];
        Array.Resize(ref table, (table.Length + 4095) / 4096 * 4096);
        return table;
    }

    private static X500DistinguishedName Name(string name) => new($"CN={name}");

    private static CertificateRequest Authority(string name, RSA key, bool maySign)
    {
        var request = new CertificateRequest(Name(name), key, HashAlgorithmName.SHA384, RSASignaturePadding.Pss);
        request.CertificateExtensions.Add(new X509BasicConstraintsExtension(maySign, false, 0, true));
        return request;
    }

    private static byte[] Issue(string name, string issuer, CertificateRequest request, RSA key, RSASignaturePadding padding, DateTimeOffset notAfter)
    {
        using X509Certificate2 certificate = request.Create(
            Name(issuer), X509SignatureGenerator.CreateForRSA(key, padding), s_notBefore, notAfter, [0x40, .. SHA256.HashData(System.Text.Encoding.UTF8.GetBytes(name)).Take(8)]);
        return certificate.RawData;
    }
}
