// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// An attestation report of the security processor: for who verifies one. 0x4A0 bytes, little-endian, of which 0x000 to 0x29F are signed; the offsets are in
// the properties.
//
// Reading it proves nothing: AttestationVerifier says whether a chip signed it, and whether it is about the right guest.
//
// Source: AMD SEV-SNP ABI specification (56860), ATTESTATION_REPORT, as collected from COCONUT-SVSM and virtee/sev (versions 3 and 5).

using System;
using System.Buffers.Binary;
using System.Globalization;
using Svsm.Diagnostics;
using Svsm.Measurement;

namespace Svsm.Attestation;

/// <summary>An attestation report, as somebody handed it over.</summary>
public sealed class AttestationReport
{
    /// <summary>Bytes of a report.</summary>
    public const int ByteLength = 0x4A0;

    /// <summary>Bytes of <see cref="ReportData"/>.</summary>
    public const int ReportDataLength = 64;

    private const int SignedLength = 0x2A0;
    private const int FieldLength = 72;
    private const int NumberLength = 48;
    private const uint EcdsaP384Sha384 = 1;

    private readonly byte[] _bytes;

    private AttestationReport(byte[] bytes) => _bytes = bytes;

    /// <summary>Version of the format: 2, 3 or 5.</summary>
    public uint Version => Read32(0x000);

    /// <summary>Security version of the guest, from its ID block.</summary>
    public uint GuestSvn => Read32(0x004);

    /// <summary>What the guest's owner allows the host.</summary>
    public GuestPolicy Policy => new(Read64(0x008));

    /// <summary>Family id of the ID block, 16 bytes.</summary>
    public ReadOnlyMemory<byte> FamilyId => _bytes.AsMemory(0x010, IdBlock.IdLength);

    /// <summary>Image id of the ID block, 16 bytes.</summary>
    public ReadOnlyMemory<byte> ImageId => _bytes.AsMemory(0x020, IdBlock.IdLength);

    /// <summary>The VMPL that the report is about; who asked for it has it or a more privileged one.</summary>
    public uint Vmpl => Read32(0x030);

    /// <summary>Versions of the firmware that runs.</summary>
    public TcbVersion CurrentTcb => new(Read64(0x038));

    /// <summary>What the platform has on: bit 0 SMT, bit 1 TSME, and others.</summary>
    public ulong PlatformInfo => Read64(0x040);

    /// <summary>Whether an author key signed the ID key.</summary>
    public bool HasAuthorKey => (Read32(0x048) & 1) != 0;

    /// <summary>The key that signed.</summary>
    public ReportSigner Signer => (ReportSigner)((Read32(0x048) >> 2) & 7);

    /// <summary>What the guest wanted to have in it, 64 bytes. Of an SVSM: SHA-512 of nonce and manifest.</summary>
    public ReadOnlyMemory<byte> ReportData => _bytes.AsMemory(0x050, ReportDataLength);

    /// <summary>The launch digest.</summary>
    public LaunchDigest LaunchDigest => new(_bytes.AsSpan(0x090, LaunchDigest.ByteLength));

    /// <summary>What the host said about the guest when it launched it, 32 bytes.</summary>
    public ReadOnlyMemory<byte> HostData => _bytes.AsMemory(0x0C0, 32);

    /// <summary>Digest of the key that signed the ID block; zeroes: there is none.</summary>
    public LaunchDigest IdKeyDigest => new(_bytes.AsSpan(0x0E0, LaunchDigest.ByteLength));

    /// <summary>Digest of the author key; zeroes: there is none.</summary>
    public LaunchDigest AuthorKeyDigest => new(_bytes.AsSpan(0x110, LaunchDigest.ByteLength));

    /// <summary>Versions of the firmware that the chip's certificate is for.</summary>
    public TcbVersion ReportedTcb => new(Read64(0x180));

    /// <summary>The chip, 64 bytes; zeroes: the host left it out.</summary>
    public ReadOnlyMemory<byte> ChipId => _bytes.AsMemory(0x1A0, 64);

    internal ReadOnlySpan<byte> Signed => _bytes.AsSpan(0, SignedLength);

    /// <summary>Reads a report.</summary>
    /// <param name="bytes">All of it, and nothing else. Untrusted.</param>
    /// <param name="name">What it is called in messages.</param>
    /// <returns>The report; nothing about it is verified.</returns>
    /// <exception cref="SvsmDiagnosticException">SVSM3101: it is no report.</exception>
    public static AttestationReport Parse(ReadOnlySpan<byte> bytes, string name)
    {
        if (bytes.Length != ByteLength)
        {
            throw Damaged($"{bytes.Length} bytes", $"{ByteLength}");
        }

        var report = new AttestationReport(bytes.ToArray());
        if (report.Version is not (2 or 3 or 5))
        {
            throw Damaged($"version {report.Version}", "2, 3 or 5");
        }

        uint algorithm = report.Read32(0x034);
        if (algorithm != EcdsaP384Sha384)
        {
            throw Damaged($"signature algorithm {algorithm}", "1, ECDSA P-384 with SHA-384");
        }

        // Behind the signed part there are the two numbers, and nothing else that somebody could hide something in.
        if (bytes.Slice(SignedLength + NumberLength, FieldLength - NumberLength).ContainsAnyExcept((byte)0)
            || bytes[(SignedLength + FieldLength + NumberLength)..].ContainsAnyExcept((byte)0))
        {
            throw Damaged("other bytes than zeroes around its signature", "zeroes");
        }

        return report;

        SvsmDiagnosticException Damaged(string seen, string wanted) => SvsmDiagnostics.ReportDamaged.Error($"'{name}' with {seen}", wanted);
    }

    // R and S, big-endian, 48 bytes each.
    internal byte[] Signature()
    {
        byte[] signature = new byte[2 * NumberLength];
        for (int i = 0; i < NumberLength; i++)
        {
            signature[NumberLength - 1 - i] = _bytes[SignedLength + i];
            signature[(2 * NumberLength) - 1 - i] = _bytes[SignedLength + FieldLength + i];
        }

        return signature;
    }

    private uint Read32(int offset) => BinaryPrimitives.ReadUInt32LittleEndian(_bytes.AsSpan(offset));

    private ulong Read64(int offset) => BinaryPrimitives.ReadUInt64LittleEndian(_bytes.AsSpan(offset));
}

/// <summary>The key that signed a report.</summary>
public enum ReportSigner
{
    /// <summary>The chip's own (VCEK).</summary>
    Vcek = 0,

    /// <summary>One that AMD lends to a cloud provider (VLEK).</summary>
    Vlek = 1,

    /// <summary>None: it is not signed.</summary>
    None = 7,
}

/// <summary>A guest policy.</summary>
/// <param name="Value">Its bits.</param>
public readonly record struct GuestPolicy(ulong Value)
{
    /// <summary>A migration agent may be there.</summary>
    public bool AllowsMigration => (Value & (1ul << 18)) != 0;

    /// <summary>The host may read and change the guest's memory.</summary>
    public bool AllowsDebug => (Value & (1ul << 19)) != 0;

    /// <inheritdoc/>
    public override string ToString() => string.Create(CultureInfo.InvariantCulture, $"0x{Value:x}");
}

/// <summary>Security versions of a chip's firmware, a byte each; which part has which byte, the generation of the chip says.</summary>
/// <param name="Value">All of them.</param>
public readonly record struct TcbVersion(ulong Value)
{
    /// <summary>The version in a byte.</summary>
    /// <param name="index">The byte, 0 to 7.</param>
    /// <returns>The version.</returns>
    public byte Part(int index) => (byte)(Value >> (8 * index));

    /// <inheritdoc/>
    public override string ToString() => string.Create(CultureInfo.InvariantCulture, $"0x{Value:x16}");
}
