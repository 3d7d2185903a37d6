// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using System.Security.Cryptography;

namespace Svsm.Attestation;

/// <summary>The root that a verifier trusts: AMD's root key (ARK) of a generation of chips, of which it has the certificate or a fingerprint.</summary>
/// <remarks>Where either comes from decides about everything else: AMD publishes both, and nothing that comes with a report can stand in for them.</remarks>
public sealed class TrustedRoot
{
    /// <summary>Bytes of a fingerprint.</summary>
    public const int FingerprintLength = SHA256.HashSizeInBytes;

    // One of them: a certificate, or the fingerprint of one that has to come with the report.
    private readonly byte[]? _certificate;
    private readonly byte[]? _fingerprint;

    private TrustedRoot(byte[]? certificate, byte[]? fingerprint)
    {
        _certificate = certificate;
        _fingerprint = fingerprint;
    }

    /// <summary>Trusts a certificate.</summary>
    /// <param name="certificate">The certificate, DER.</param>
    /// <returns>The root.</returns>
    public static TrustedRoot FromCertificate(ReadOnlySpan<byte> certificate) => new(certificate.ToArray(), null);

    /// <summary>Trusts the certificate with a fingerprint.</summary>
    /// <param name="fingerprint">SHA-256 of the certificate's DER form, 32 bytes.</param>
    /// <returns>The root.</returns>
    /// <exception cref="ArgumentException">The length differs.</exception>
    public static TrustedRoot FromFingerprint(ReadOnlySpan<byte> fingerprint) => fingerprint.Length == FingerprintLength
        ? new(null, fingerprint.ToArray())
        : throw new ArgumentException($"A fingerprint has {FingerprintLength} bytes; {fingerprint.Length} were given.", nameof(fingerprint));

    // The root's certificate: the trusted one, or the one among those of a report that has the fingerprint.
    internal byte[]? Find(IReadOnlyList<byte[]> certificates)
    {
        if (_certificate is not null)
        {
            return _certificate;
        }

        foreach (byte[] certificate in certificates)
        {
            if (SHA256.HashData(certificate).AsSpan().SequenceEqual(_fingerprint))
            {
                return certificate;
            }
        }

        return null;
    }
}
