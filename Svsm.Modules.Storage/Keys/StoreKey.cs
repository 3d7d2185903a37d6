// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The key of a store, for the module that keeps it. docs/decisions/0017 says why it depends on what.
//
//   chip's key = the security processor's: VCEK, VMPL 0, POLICY, SVN and TCB of the origin, and MEASUREMENT unless the guest has an author key.
//                Firmware mixes in HOST_DATA and the digest of the author key, or of the ID key without one, in any case
//   store key  = HKDF-SHA256 (RFC 5869) of chip's key | broker's secret, without salt; info: the label of what there is
//
// What the key depends on is decided by what this SVSM is, never by what a device says: with the fields of the host's choice, a key would be another guest's
// as well. Versions are the device's word: false ones lead to a key that does not open the store.

using System;
using System.Security.Cryptography;
using Org.BouncyCastle.Crypto.Digests;
using Org.BouncyCastle.Crypto.Generators;
using Org.BouncyCastle.Crypto.Parameters;
using Svsm.Core;
using Svsm.Store;
using Svsm.Wire;

namespace Svsm.StoreKeys;

/// <summary>Makes the key of a store.</summary>
public static class StoreKey
{
    /// <summary>Bytes of a store's key.</summary>
    public const int Length = PersistentStore.KeyLength;

    /// <summary>Bytes of a broker's secret.</summary>
    public const int SecretLength = 32;

    /// <summary>Makes the key from the chip, and from the secret of a broker if there is one.</summary>
    /// <param name="peer">The module that attests.</param>
    /// <param name="identity">Who this SVSM is.</param>
    /// <param name="origin">Of an existing store what <see cref="PersistentStore.TryReadKeyOrigin"/> says, of a new one <see cref="LaunchIdentity.NewOrigin"/>.</param>
    /// <param name="secret">The broker's secret, <see cref="SecretLength"/> bytes; empty: there is no broker.</param>
    /// <param name="key">Gets the key. The caller clears it. Zero if there is none.</param>
    /// <returns>
    /// What became of it. <see cref="AttestingResult.Refused"/>: the store is of a newer version of the guest or of the chip's firmware than these, or of none
    /// at all; or the chip's own key is not for guests.
    /// </returns>
    /// <exception cref="ArgumentException"><paramref name="key"/> or <paramref name="secret"/> has another length.</exception>
    public static AttestingResult Derive(AttestingPeer peer, LaunchIdentity identity, StoreKeyOrigin origin, [Secret] ReadOnlySpan<byte> secret, [Secret] Span<byte> key)
    {
        ArgumentNullException.ThrowIfNull(peer);
        ArgumentNullException.ThrowIfNull(identity);
        CheckLengths(secret, key);
        key.Clear();
        DerivedKeyFields fields = DerivedKeyFields.Policy | DerivedKeyFields.Svn | DerivedKeyFields.Tcb
            | (identity.HasAuthorKey ? DerivedKeyFields.None : DerivedKeyFields.Measurement);
        Span<byte> chip = stackalloc byte[KeyAnswer.KeyLength];
        AttestingResult result = peer.DeriveKey(fields, origin.Svn, origin.Tcb, chip);
        if (result == AttestingResult.Done)
        {
            Combine(chip, secret, secret.IsEmpty ? "svsm store key 1: chip"u8 : "svsm store key 1: chip and broker"u8, key);
        }

        CryptographicOperations.ZeroMemory(chip);
        return result;
    }

    /// <summary>Makes the key from the secret of a broker alone: of a store that goes from chip to chip.</summary>
    /// <param name="secret">The broker's secret, <see cref="SecretLength"/> bytes.</param>
    /// <param name="key">Gets the key. The caller clears it.</param>
    /// <exception cref="ArgumentException"><paramref name="key"/> or <paramref name="secret"/> has another length.</exception>
    public static void FromBroker([Secret] ReadOnlySpan<byte> secret, [Secret] Span<byte> key)
    {
        CheckLengths(secret, key);
        if (secret.IsEmpty)
        {
            throw new ArgumentException($"no secret; wanted are {SecretLength} bytes", nameof(secret));
        }

        Combine(default, secret, "svsm store key 1: broker"u8, key);
    }

    private static void CheckLengths(ReadOnlySpan<byte> secret, ReadOnlySpan<byte> key)
    {
        if (secret.Length is not (0 or SecretLength))
        {
            throw new ArgumentException($"a secret of {secret.Length} bytes; wanted are {SecretLength}", nameof(secret));
        }

        if (key.Length != Length)
        {
            throw new ArgumentException($"{key.Length} bytes for a key; wanted are {Length}", nameof(key));
        }
    }

    private static void Combine(ReadOnlySpan<byte> chip, ReadOnlySpan<byte> secret, ReadOnlySpan<byte> label, Span<byte> key)
    {
        byte[] material = [.. chip, .. secret];
        var hkdf = new HkdfBytesGenerator(new Sha256Digest());
        hkdf.Init(new HkdfParameters(material, null, label.ToArray()));
        hkdf.GenerateBytes(key);
        CryptographicOperations.ZeroMemory(material);
    }
}
