// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// A PKCS #7 message that signs something which is not in it, as authenticated variables have it: SignedData, alone or in a ContentInfo.
//
//   SignedData   SEQUENCE { version, SET { digest algorithm }, SEQUENCE { content, ignored }, [0] certificates, [1] revocations, ignored, SET { signer } }
//   signer       SEQUENCE { version, SEQUENCE { issuer, serial }, digest algorithm, [0] attributes, signature algorithm, OCTET STRING, [1], ignored }
//
// With attributes, one of them is the hash of what is signed, and the signature is over the attributes. Every signer has to be good: its certificate is in the
// message, its signature fits, and a chain of certificates of the message leads from it to the one that is trusted. The chain may end at any certificate
// that is trusted, not only at one that signed itself; so a certificate that is trusted itself needs no chain.
//
// Read, then IsSigned once for what is signed: signatures of the signers, and each one's chain as far as the message's certificates go. Then LeadsTo for each
// certificate that is trusted, of which there may be hundreds: they are compared with those of the chains, and only whose name fits costs another signature.
//
// Source: RFC 2315, 9; UEFI specification 2.10, 8.2.2; what OpenSSL's PKCS7_verify does for EDK2's Pkcs7Verify.

using System;
using System.Collections.Generic;

namespace Svsm.Modules.VarStore;

internal sealed class SignedMessage
{
    private const int MaxCertificates = 10;
    private const int MaxSigners = 4;

    // 1.2.840.113549.1.7.2, 1.2.840.113549.1.9.4
    private static readonly byte[] s_signedData = [0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 1, 7, 2];
    private static readonly byte[] s_messageDigest = [0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 1, 9, 4];

    private readonly List<Certificate> _certificates = [];
    private readonly List<Signer> _signers = [];
    private readonly List<List<Link>> _chains = [];

    private SignedMessage(HashAlgorithm hash) => Hash = hash;

    /// <summary>The hash of what is signed.</summary>
    public HashAlgorithm Hash { get; }

    /// <summary>The certificate of the first signer.</summary>
    public Certificate First => _signers[0].Certificate;

    /// <summary>The certificate of the last signer, which is the first one's if there is one.</summary>
    public Certificate Last => _signers[^1].Certificate;

    /// <summary>Reads a message. Untrusted.</summary>
    /// <returns>Null: it is none, or not one that could be good.</returns>
    public static SignedMessage? Read(ReadOnlyMemory<byte> der)
    {
        var outer = new DerReader(der);
        if (!outer.TryRead(DerReader.Sequence, out ReadOnlyMemory<byte> contents) || !outer.IsEmpty)
        {
            return null;
        }

        var reader = new DerReader(contents);
        if (reader.IsNext(DerReader.ObjectIdentifier))
        {
            if (!reader.TryRead(DerReader.ObjectIdentifier, out ReadOnlyMemory<byte> type) || !type.Span.SequenceEqual(s_signedData)
                || !reader.TryRead(DerReader.Context(0), out ReadOnlyMemory<byte> wrapped) || !reader.IsEmpty)
            {
                return null;
            }

            var inner = new DerReader(wrapped);
            if (!inner.TryRead(DerReader.Sequence, out contents) || !inner.IsEmpty)
            {
                return null;
            }

            reader = new DerReader(contents);
        }

        if (!reader.TryRead(DerReader.Integer, out _) || !reader.TryRead(DerReader.Set, out ReadOnlyMemory<byte> digests)
            || !new DerReader(digests).TryReadAlgorithm(out ReadOnlyMemory<byte> identifier) || HashAlgorithm.Find(identifier.Span) is not HashAlgorithm hash
            || !reader.TryRead(DerReader.Sequence, out _))
        {
            return null;
        }

        var message = new SignedMessage(hash);
        return message.TryReadCertificates(ref reader) && message.TryReadSigners(ref reader) && reader.IsEmpty ? message : null;
    }

    /// <summary>Checks the signatures of all signers, whoever they are.</summary>
    /// <param name="contentHash">Hash of what is signed, by <see cref="Hash"/>.</param>
    public bool IsSigned(ReadOnlySpan<byte> contentHash)
    {
        foreach (Signer signer in _signers)
        {
            if (!signer.HasSigned(Hash, contentHash))
            {
                return false;
            }
        }

        foreach (Signer signer in _signers)
        {
            _chains.Add(NewChain(signer.Certificate));
        }

        return true;
    }

    /// <summary>Whether all signers are a certificate's owner, or have certificates that lead to it. Only after <see cref="IsSigned"/>.</summary>
    /// <param name="trusted">The certificate that is trusted.</param>
    public bool LeadsTo(Certificate trusted) => _chains.TrueForAll(chain => LeadsTo(chain, trusted));

    private bool TryReadCertificates(ref DerReader reader)
    {
        if (!reader.TryRead(DerReader.Context(0), out ReadOnlyMemory<byte> certificates))
        {
            return false;
        }

        var list = new DerReader(certificates);
        while (!list.IsEmpty)
        {
            if (_certificates.Count == MaxCertificates || !list.TryRead(DerReader.Sequence, out ReadOnlyMemory<byte> whole, out _) || Certificate.Read(whole) is not Certificate certificate)
            {
                return false;
            }

            _certificates.Add(certificate);
        }

        return !reader.IsNext(DerReader.Context(1)) || reader.TryReadAny(out _, out _);
    }

    private bool TryReadSigners(ref DerReader reader)
    {
        if (!reader.TryRead(DerReader.Set, out ReadOnlyMemory<byte> signers))
        {
            return false;
        }

        var list = new DerReader(signers);
        while (!list.IsEmpty)
        {
            if (_signers.Count == MaxSigners || !list.TryRead(DerReader.Sequence, out ReadOnlyMemory<byte> contents) || ReadSigner(contents) is not Signer signer)
            {
                return false;
            }

            _signers.Add(signer);
        }

        return _signers.Count != 0;
    }

    private Signer? ReadSigner(ReadOnlyMemory<byte> contents)
    {
        var reader = new DerReader(contents);
        if (!reader.TryRead(DerReader.Integer, out _) || !reader.TryRead(DerReader.Sequence, out ReadOnlyMemory<byte> name))
        {
            return null;
        }

        var names = new DerReader(name);
        if (!names.TryRead(DerReader.Sequence, out ReadOnlyMemory<byte> issuer, out _) || !names.TryRead(DerReader.Integer, out ReadOnlyMemory<byte> serial)
            || Find(issuer.Span, serial.Span) is not Certificate certificate
            || !reader.TryReadAlgorithm(out ReadOnlyMemory<byte> digest) || HashAlgorithm.Find(digest.Span) != Hash)
        {
            return null;
        }

        ReadOnlyMemory<byte> attributes = default;
        ReadOnlyMemory<byte> attributeContents = default;
        if (reader.IsNext(DerReader.Context(0)) && !reader.TryRead(DerReader.Context(0), out attributes, out attributeContents))
        {
            return null;
        }

        if (!reader.TryReadAlgorithm(out ReadOnlyMemory<byte> algorithm) || !Hash.IsRsaSignature(algorithm.Span)
            || !reader.TryRead(DerReader.OctetString, out ReadOnlyMemory<byte> signature)
            || (reader.IsNext(DerReader.Context(1)) && !reader.TryReadAny(out _, out _)) || !reader.IsEmpty)
        {
            return null;
        }

        if (attributes.IsEmpty)
        {
            return new Signer(certificate, signature, default, default);
        }

        return TryReadMessageDigest(attributeContents, out ReadOnlyMemory<byte> messageDigest) ? new Signer(certificate, signature, attributes, messageDigest) : null;
    }

    private static bool TryReadMessageDigest(ReadOnlyMemory<byte> attributes, out ReadOnlyMemory<byte> digest)
    {
        digest = default;
        bool found = false;
        var list = new DerReader(attributes);
        while (!list.IsEmpty)
        {
            if (!list.TryRead(DerReader.Sequence, out ReadOnlyMemory<byte> attribute))
            {
                return false;
            }

            var reader = new DerReader(attribute);
            if (!reader.TryRead(DerReader.ObjectIdentifier, out ReadOnlyMemory<byte> type) || !reader.TryRead(DerReader.Set, out ReadOnlyMemory<byte> values) || !reader.IsEmpty)
            {
                return false;
            }

            if (type.Span.SequenceEqual(s_messageDigest))
            {
                var value = new DerReader(values);
                if (found || !value.TryRead(DerReader.OctetString, out digest) || !value.IsEmpty)
                {
                    return false;
                }

                found = true;
            }
        }

        return found;
    }

    private Certificate? Find(ReadOnlySpan<byte> issuer, ReadOnlySpan<byte> serial)
    {
        foreach (Certificate certificate in _certificates)
        {
            if (certificate.Issuer.Span.SequenceEqual(issuer) && certificate.Serial.Span.SequenceEqual(serial))
            {
                return certificate;
            }
        }

        return null;
    }

    private static bool LeadsTo(List<Link> chain, Certificate trusted)
    {
        foreach (Link link in chain)
        {
            if (link.Certificate.Der.Span.SequenceEqual(trusted.Der.Span))
            {
                return true;
            }

            if (CanIssue(trusted, link.Between) && link.Certificate.IsIssuedBy(trusted))
            {
                return !trusted.HasUnknownExtension;
            }
        }

        return false;
    }

    private static bool CanIssue(Certificate certificate, int between) => certificate.MayIssue && between <= certificate.PathLimit;

    // Each certificate of the message stands in the chain at most once, so it ends. One with an extension that spoils the chain does not stand in it.
    private List<Link> NewChain(Certificate signer)
    {
        var chain = new List<Link>();
        var left = new List<Certificate>(_certificates);
        Certificate? current = signer;
        int between = 0;
        while (current is { HasUnknownExtension: false })
        {
            Certificate certificate = current;
            chain.Add(new(certificate, between));
            left.RemoveAll(other => other.Der.Span.SequenceEqual(certificate.Der.Span));
            current = left.Find(issuer => CanIssue(issuer, between) && certificate.IsIssuedBy(issuer));
            between += current is null or { IsSelfIssued: true } ? 0 : 1;
        }

        return chain;
    }

    /// <summary>A certificate of a chain, and how many others an issuer of it has to allow between itself and the signer's.</summary>
    private sealed record Link(Certificate Certificate, int Between);

    private sealed record Signer(Certificate Certificate, ReadOnlyMemory<byte> Signature, ReadOnlyMemory<byte> Attributes, ReadOnlyMemory<byte> MessageDigest)
    {
        // What is signed of attributes is a SET; in the message they have the tag of the place that they are in.
        private static readonly byte[] s_setTag = [DerReader.Set];

        public bool HasSigned(HashAlgorithm hash, ReadOnlySpan<byte> contentHash)
        {
            if (Attributes.IsEmpty)
            {
                return Certificate.HasSigned(hash, contentHash, Signature.Span);
            }

            return MessageDigest.Span.SequenceEqual(contentHash) && Certificate.HasSigned(hash, hash.Compute(s_setTag, Attributes[1..]), Signature.Span);
        }
    }
}
