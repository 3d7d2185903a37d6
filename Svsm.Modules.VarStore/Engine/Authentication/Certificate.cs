// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// An X.509 certificate, as much of it as decides whether it may stand in a chain, with an RSA key. Dates are not looked at: a module has no clock, and EDK2
// does not look at them either.
//
// Which certificate may issue others, and which extensions are understood, is what OpenSSL's X509_verify_cert does with the flags that EDK2 sets:
//
//   keyUsage without keyCertSign    may not issue
//   basicConstraints                may issue if CA
//   neither                         may issue if it is of version 1 and names itself as its issuer
//   keyUsage with keyCertSign only  may issue
//   critical extensions             those in s_understood; others spoil the chain, as do nameConstraints, which are not evaluated here
//
// Signatures: RSA, PKCS #1 v1.5, with SHA-256, SHA-384, SHA-512; keys of 2048 to 4096 bits, so that a message has its end.
//
// Source: RFC 5280, 4.1 and 4.2; RFC 8017, 8.2.2; EDK2 CryptoPkg/Library/BaseCryptLib/Pk/CryptPkcs7VerifyCommon.c (Pkcs7Verify: partial chains, no dates,
// any purpose).

using System;
using System.Numerics;

namespace Svsm.Modules.VarStore;

internal sealed class Certificate
{
    private const int MinKeyBits = 2048;
    private const int MaxKeyBits = 4096;
    private const int MaxExponentLength = 4;
    private const byte KeyCertSign = 0x04;
    private const int NoLimit = int.MaxValue;

    // Last arc of 2.5.29.
    private const byte KeyUsage = 15;
    private const byte BasicConstraints = 19;
    private const byte NameConstraints = 30;

    // subjectAltName, certificatePolicies, cRLDistributionPoints, policyMappings, policyConstraints, extKeyUsage, inhibitAnyPolicy; and Netscape's type.
    private static readonly byte[] s_understood = [KeyUsage, BasicConstraints, 17, 32, 31, 33, 36, 37, 54];
    private static readonly byte[] s_netscapeType = [0x60, 0x86, 0x48, 1, 0x86, 0xF8, 0x42, 1, 1];
    private static readonly byte[] s_commonName = [0x55, 4, 3];

    private byte[] _modulus = [];
    private byte[] _exponent = [];
    private HashAlgorithm? _signatureHash;
    private ReadOnlyMemory<byte> _signature;
    private ReadOnlyMemory<byte> _body;
    private bool _isVersion1 = true;
    private bool? _isAuthority;
    private bool? _mayIssue;

    private Certificate(ReadOnlyMemory<byte> der) => Der = der;

    /// <summary>All of it.</summary>
    public ReadOnlyMemory<byte> Der { get; }

    public ReadOnlyMemory<byte> Serial { get; private set; }

    public ReadOnlyMemory<byte> Issuer { get; private set; }

    public ReadOnlyMemory<byte> Subject { get; private set; }

    /// <summary>The first common name of the subject, as it is encoded; empty: it has none.</summary>
    public ReadOnlyMemory<byte> CommonName { get; private set; }

    /// <summary>Whether it has an RSA key, of whatever size.</summary>
    public bool HasRsaKey => _modulus.Length != 0;

    /// <summary>Whether there is an extension that may not be ignored and is not understood.</summary>
    public bool HasUnknownExtension { get; private set; }

    /// <summary>How many certificates may be between this and the last one of a chain.</summary>
    public int PathLimit { get; private set; } = NoLimit;

    public bool IsSelfIssued => Subject.Span.SequenceEqual(Issuer.Span);

    public bool MayIssue => _mayIssue != false && (_isAuthority ?? (_mayIssue == true || (_isVersion1 && IsSelfIssued)));

    /// <summary>Reads a certificate.</summary>
    /// <param name="der">It, and nothing behind it. Untrusted.</param>
    /// <returns>Null: it is none.</returns>
    public static Certificate? Read(ReadOnlyMemory<byte> der)
    {
        var certificate = new Certificate(der);
        var outer = new DerReader(der);
        return outer.TryRead(DerReader.Sequence, out ReadOnlyMemory<byte> contents) && outer.IsEmpty && certificate.TryRead(contents) ? certificate : null;
    }

    /// <summary>Checks a signature that was made with the certificate's key.</summary>
    public bool HasSigned(HashAlgorithm algorithm, ReadOnlySpan<byte> hash, ReadOnlySpan<byte> signature)
    {
        int length = _modulus.Length;
        if (!IsGoodKey() || signature.Length != length)
        {
            return false;
        }

        var modulus = new BigInteger(_modulus, isUnsigned: true, isBigEndian: true);
        var value = new BigInteger(signature, isUnsigned: true, isBigEndian: true);
        if (value >= modulus)
        {
            return false;
        }

        // The whole block is compared with what it has to be: there is nothing to parse in it.
        byte[] block = BigInteger.ModPow(value, new BigInteger(_exponent, isUnsigned: true, isBigEndian: true), modulus).ToByteArray(isUnsigned: true, isBigEndian: true);
        byte[] wanted = new byte[length];
        wanted.AsSpan().Fill(0xFF);
        wanted[0] = 0;
        wanted[1] = 1;
        int at = length - hash.Length;
        hash.CopyTo(wanted.AsSpan(at));
        at -= algorithm.DigestInfoPrefix.Length;
        algorithm.DigestInfoPrefix.CopyTo(wanted, at);
        wanted[at - 1] = 0;
        return block.AsSpan().SequenceEqual(wanted.AsSpan(1));
    }

    /// <summary>Checks that it was issued with another certificate's key.</summary>
    public bool IsIssuedBy(Certificate issuer) =>
        Issuer.Span.SequenceEqual(issuer.Subject.Span) && _signatureHash is HashAlgorithm hash && issuer.HasSigned(hash, hash.Compute(_body), _signature.Span);

    private static int Bits(ReadOnlySpan<byte> number) => (number.Length * 8) - byte.LeadingZeroCount(number[0]);

    private bool IsGoodKey() =>
        HasRsaKey && Bits(_modulus) is >= MinKeyBits and <= MaxKeyBits && (_modulus[^1] & 1) != 0
        && _exponent.Length <= MaxExponentLength && (_exponent[^1] & 1) != 0 && !(_exponent.Length == 1 && _exponent[0] == 1);

    private bool TryRead(ReadOnlyMemory<byte> contents)
    {
        var reader = new DerReader(contents);
        if (!reader.TryRead(DerReader.Sequence, out ReadOnlyMemory<byte> body, out ReadOnlyMemory<byte> bodyContents)
            || !reader.TryRead(DerReader.Sequence, out ReadOnlyMemory<byte> algorithm, out ReadOnlyMemory<byte> algorithmContents)
            || !reader.TryReadBytes(out _signature) || !reader.IsEmpty
            || !new DerReader(algorithmContents).TryRead(DerReader.ObjectIdentifier, out ReadOnlyMemory<byte> identifier))
        {
            return false;
        }

        _body = body;
        _signatureHash = HashAlgorithm.FindOfSignature(identifier.Span);
        return TryReadBody(bodyContents, algorithm.Span);
    }

    private bool TryReadBody(ReadOnlyMemory<byte> contents, ReadOnlySpan<byte> outerAlgorithm)
    {
        var reader = new DerReader(contents);
        if (reader.IsNext(DerReader.Context(0)))
        {
            if (!reader.TryRead(DerReader.Context(0), out ReadOnlyMemory<byte> version) || !new DerReader(version).TryReadUnsigned(out _))
            {
                return false;
            }

            _isVersion1 = false;
        }

        if (!reader.TryRead(DerReader.Integer, out ReadOnlyMemory<byte> serial)
            || !reader.TryRead(DerReader.Sequence, out ReadOnlyMemory<byte> algorithm, out _) || !algorithm.Span.SequenceEqual(outerAlgorithm)
            || !reader.TryRead(DerReader.Sequence, out ReadOnlyMemory<byte> issuer, out _)
            || !reader.TryRead(DerReader.Sequence, out _)
            || !reader.TryRead(DerReader.Sequence, out ReadOnlyMemory<byte> subject, out ReadOnlyMemory<byte> subjectContents)
            || !reader.TryRead(DerReader.Sequence, out ReadOnlyMemory<byte> key)
            || !TryReadKey(key) || !TryReadCommonName(subjectContents))
        {
            return false;
        }

        Serial = serial;
        Issuer = issuer;
        Subject = subject;

        // Unique identifiers, which nobody uses, then extensions.
        while (!reader.IsEmpty)
        {
            if (reader.IsNext(DerReader.Context(3)))
            {
                return reader.TryRead(DerReader.Context(3), out ReadOnlyMemory<byte> extensions) && reader.IsEmpty && TryReadExtensions(extensions);
            }

            if (!reader.TryReadAny(out _, out _))
            {
                return false;
            }
        }

        return true;
    }

    private bool TryReadKey(ReadOnlyMemory<byte> contents)
    {
        var reader = new DerReader(contents);
        if (!reader.TryReadAlgorithm(out ReadOnlyMemory<byte> identifier))
        {
            return false;
        }

        // Another algorithm's key is a certificate all the same.
        if (!HashAlgorithm.IsRsaKey(identifier.Span))
        {
            return true;
        }

        if (!reader.TryReadBytes(out ReadOnlyMemory<byte> bits) || !reader.IsEmpty)
        {
            return false;
        }

        var outer = new DerReader(bits);
        if (!outer.TryRead(DerReader.Sequence, out ReadOnlyMemory<byte> numbers) || !outer.IsEmpty)
        {
            return false;
        }

        var inner = new DerReader(numbers);
        if (!inner.TryReadUnsigned(out ReadOnlyMemory<byte> modulus) || !inner.TryReadUnsigned(out ReadOnlyMemory<byte> exponent) || !inner.IsEmpty)
        {
            return false;
        }

        _modulus = modulus.ToArray();
        _exponent = exponent.ToArray();
        return true;
    }

    private bool TryReadCommonName(ReadOnlyMemory<byte> contents)
    {
        var names = new DerReader(contents);
        while (!names.IsEmpty)
        {
            if (!names.TryRead(DerReader.Set, out ReadOnlyMemory<byte> set))
            {
                return false;
            }

            var attributes = new DerReader(set);
            while (!attributes.IsEmpty)
            {
                if (!attributes.TryRead(DerReader.Sequence, out ReadOnlyMemory<byte> attribute))
                {
                    return false;
                }

                var parts = new DerReader(attribute);
                if (!parts.TryRead(DerReader.ObjectIdentifier, out ReadOnlyMemory<byte> type) || !parts.TryReadAny(out _, out ReadOnlyMemory<byte> value))
                {
                    return false;
                }

                if (CommonName.IsEmpty && type.Span.SequenceEqual(s_commonName))
                {
                    CommonName = value;
                }
            }
        }

        return true;
    }

    private bool TryReadExtensions(ReadOnlyMemory<byte> contents)
    {
        var outer = new DerReader(contents);
        if (!outer.TryRead(DerReader.Sequence, out ReadOnlyMemory<byte> list) || !outer.IsEmpty)
        {
            return false;
        }

        var extensions = new DerReader(list);
        while (!extensions.IsEmpty)
        {
            if (!extensions.TryRead(DerReader.Sequence, out ReadOnlyMemory<byte> extension))
            {
                return false;
            }

            var reader = new DerReader(extension);
            if (!reader.TryRead(DerReader.ObjectIdentifier, out ReadOnlyMemory<byte> identifier))
            {
                return false;
            }

            bool isCritical = false;
            if (reader.IsNext(DerReader.Boolean))
            {
                if (!TryReadBoolean(ref reader, out isCritical))
                {
                    return false;
                }
            }

            if (!reader.TryRead(DerReader.OctetString, out ReadOnlyMemory<byte> value) || !reader.IsEmpty || !TryReadExtension(identifier.Span, isCritical, value))
            {
                return false;
            }
        }

        return true;
    }

    private bool TryReadExtension(ReadOnlySpan<byte> identifier, bool isCritical, ReadOnlyMemory<byte> value)
    {
        // 2.5.29.n
        if (identifier is [0x55, 0x1D, byte number])
        {
            switch (number)
            {
                case KeyUsage:
                    if (_mayIssue is not null || !new DerReader(value).TryRead(DerReader.BitString, out ReadOnlyMemory<byte> usage) || usage.Length < 1)
                    {
                        return false;
                    }

                    _mayIssue = usage.Length > 1 && (usage.Span[1] & KeyCertSign) != 0;
                    return true;
                case BasicConstraints:
                    return _isAuthority is null && TryReadBasicConstraints(value);
                case NameConstraints:
                    HasUnknownExtension = true;
                    return true;
                default:
                    HasUnknownExtension |= isCritical && !s_understood.AsSpan().Contains(number);
                    return true;
            }
        }

        HasUnknownExtension |= isCritical && !identifier.SequenceEqual(s_netscapeType);
        return true;
    }

    private bool TryReadBasicConstraints(ReadOnlyMemory<byte> value)
    {
        if (!new DerReader(value).TryRead(DerReader.Sequence, out ReadOnlyMemory<byte> contents))
        {
            return false;
        }

        var reader = new DerReader(contents);
        bool isAuthority = false;
        if (reader.IsNext(DerReader.Boolean) && !TryReadBoolean(ref reader, out isAuthority))
        {
            return false;
        }

        _isAuthority = isAuthority;
        if (!reader.IsEmpty)
        {
            if (!reader.TryReadUnsigned(out ReadOnlyMemory<byte> limit) || !reader.IsEmpty)
            {
                return false;
            }

            PathLimit = limit.Length == 1 ? limit.Span[0] : NoLimit;
        }

        return true;
    }

    private static bool TryReadBoolean(ref DerReader reader, out bool value)
    {
        value = reader.TryRead(DerReader.Boolean, out ReadOnlyMemory<byte> contents) && contents.Length == 1 && contents.Span[0] != 0;
        return contents.Length == 1;
    }
}
