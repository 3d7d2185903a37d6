// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The keys for secure boot that an image brings: each as signature lists, or one certificate in DER.

using System;

namespace Svsm.Modules.VarStore;

/// <summary>Keys for secure boot, as the image's owner gives them.</summary>
/// <param name="PlatformKey">PK: one certificate.</param>
/// <param name="KeyExchangeKeys">KEK; empty: none.</param>
/// <param name="Allowed">db; empty: none.</param>
/// <param name="Forbidden">dbx; empty: none.</param>
public sealed record SecureBootKeys(ReadOnlyMemory<byte> PlatformKey, ReadOnlyMemory<byte> KeyExchangeKeys, ReadOnlyMemory<byte> Allowed, ReadOnlyMemory<byte> Forbidden)
{
    /// <summary>The keys as signature lists.</summary>
    /// <param name="lists">The lists; null if there are none.</param>
    /// <returns>False: one of them is neither lists nor a certificate with an RSA key, or too long; or PK is not one certificate.</returns>
    internal bool TryGetLists(out SecureBootKeys? lists)
    {
        lists = null;
        if (!TryGetLists(PlatformKey, out ReadOnlyMemory<byte> platformKey) || !SignatureLists.IsOneCertificate(platformKey)
            || !TryGetLists(KeyExchangeKeys, out ReadOnlyMemory<byte> keyExchangeKeys)
            || !TryGetLists(Allowed, out ReadOnlyMemory<byte> allowed)
            || !TryGetLists(Forbidden, out ReadOnlyMemory<byte> forbidden))
        {
            return false;
        }

        lists = new(platformKey, keyExchangeKeys, allowed, forbidden);
        return true;
    }

    /// <summary>Hash of the keys but dbx, each with its length: whether an image brings the same ones as before.</summary>
    internal byte[] Hash()
    {
        ReadOnlyMemory<byte> Length(ReadOnlyMemory<byte> key) => BitConverter.GetBytes(key.Length);
        return HashAlgorithm.Sha256.Compute(Length(PlatformKey), PlatformKey, Length(KeyExchangeKeys), KeyExchangeKeys, Length(Allowed), Allowed);
    }

    private static bool TryGetLists(ReadOnlyMemory<byte> bytes, out ReadOnlyMemory<byte> lists)
    {
        lists = Certificate.Read(bytes) is null ? bytes : SignatureLists.OfCertificate(SignatureLists.ServiceOwner, bytes.Span);
        return SignatureLists.AreGood(lists, out _) && lists.Length <= VariableLimits.MaxData;
    }
}
