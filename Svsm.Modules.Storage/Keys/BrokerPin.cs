// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The broker that an image trusts: a file of the image, so it is measured. Without it the host could be the broker.

using System;
using System.Buffers.Binary;
using Org.BouncyCastle.Crypto.Digests;
using Svsm.Cryptography;

namespace Svsm.StoreKeys;

/// <summary>Which kind of broker it is: what its key signs.</summary>
public enum BrokerKind
{
    /// <summary><c>svsm keys serve</c>: every answer, and it keeps the last version of the store.</summary>
    Svsm = 1,

    /// <summary>Trustee: the owner's key has signed the secret. Nobody keeps versions.</summary>
    Trustee = 2,
}

/// <summary>The broker that an image trusts.</summary>
public sealed class BrokerPin
{
    private readonly NistCurve _curve;
    private readonly CurvePoint _key;

    private BrokerPin(BrokerKind kind, NistCurve curve, CurvePoint key)
    {
        Kind = kind;
        _curve = curve;
        _key = key;
    }

    /// <summary>Which kind of broker it is.</summary>
    public BrokerKind Kind { get; }

    /// <summary>Reads the file of an image.</summary>
    /// <param name="bytes">All of it.</param>
    /// <returns>The broker; null: it is no such file, or has no public key in it.</returns>
    public static BrokerPin? TryRead(ReadOnlySpan<byte> bytes)
    {
        if (bytes.Length != BrokerFormat.PinLength || !bytes.StartsWith(BrokerFormat.PinMagic) || BinaryPrimitives.ReadUInt32LittleEndian(bytes[(BrokerFormat.PinKindOffset + 4)..]) != 0)
        {
            return null;
        }

        var kind = (BrokerKind)BinaryPrimitives.ReadUInt32LittleEndian(bytes[BrokerFormat.PinKindOffset..]);
        NistCurve curve = NistCurve.P384();
        return kind is BrokerKind.Svsm or BrokerKind.Trustee && curve.TryReadPoint(bytes[BrokerFormat.PinKeyOffset..]) is CurvePoint key ? new(kind, curve, key) : null;
    }

    internal bool Verifies(ReadOnlySpan<byte> signed, ReadOnlySpan<byte> signature) => _curve.Verifies(_key, Sha384(signed), signature);

    internal static byte[] Sha384(ReadOnlySpan<byte> bytes)
    {
        var sha384 = new Sha384Digest();
        sha384.BlockUpdate(bytes);
        byte[] hash = new byte[sha384.GetDigestSize()];
        sha384.DoFinal(hash);
        return hash;
    }
}
