// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Modules.Vtpm.Crypto;

namespace Svsm.Modules.Vtpm.Wire;

// The algorithms of this TPM: one row each. GetCapability answers from it, parameters are checked against it. An algorithm that nothing
// served yet can use has no row.
//
// Source: TCG Algorithm Registry (identifiers, attributes); TCG TPM 2.0 Library, Part 2, "Algorithm interface types" (errors).

/// <summary>TPM_ALG_ID.</summary>
[OpenEnum]
internal enum AlgorithmId : ushort
{
    None = 0,
    Rsa = 0x0001,
    Sha1 = 0x0004,
    Hmac = 0x0005,
    Aes = 0x0006,
    Mgf1 = 0x0007,
    KeyedHash = 0x0008,
    Xor = 0x000A,
    Sha256 = 0x000B,
    Sha384 = 0x000C,
    Sha512 = 0x000D,
    Null = 0x0010,
    RsaSsa = 0x0014,
    RsaEs = 0x0015,
    RsaPss = 0x0016,
    Oaep = 0x0017,
    EcDsa = 0x0018,
    EcDh = 0x0019,
    EcDaa = 0x001A,
    EcSchnorr = 0x001C,
    EcMqv = 0x001D,
    Kdf1Sp80056A = 0x0020,
    Kdf2 = 0x0021,
    Kdf1Sp800108 = 0x0022,
    Ecc = 0x0023,
    SymmetricCipher = 0x0025,
    Cmac = 0x003F,
    Counter = 0x0040,
    OutputFeedback = 0x0041,
    BlockChaining = 0x0042,
    CipherFeedback = 0x0043,
    CodeBook = 0x0044,
}

/// <summary>TPMA_ALGORITHM.</summary>
[Flags]
internal enum AlgorithmAttributes : uint
{
    Asymmetric = 0x001,
    Symmetric = 0x002,
    Hash = 0x004,
    Object = 0x008,
    Signing = 0x100,
    Encrypting = 0x200,
    Method = 0x400,
}

/// <summary>What a parameter wants an algorithm for (the TPMI_ALG_* types).</summary>
[Flags]
internal enum AlgorithmUse
{
    /// <summary>TPMI_ALG_HASH.</summary>
    Hash = 1,

    /// <summary>TPMI_ALG_SYM: a block cipher, or XOR.</summary>
    Symmetric = 2,

    /// <summary>TPMI_ALG_SYM_OBJECT: a block cipher.</summary>
    SymmetricObject = 4,

    /// <summary>TPMI_ALG_SYM_MODE: of a key, which may be one for MACs.</summary>
    SymmetricMode = 8,

    /// <summary>TPMI_ALG_KDF.</summary>
    KeyDerivation = 16,

    /// <summary>TPMI_ALG_PUBLIC.</summary>
    Public = 32,

    /// <summary>TPMI_ALG_KEYEDHASH_SCHEME.</summary>
    KeyedHashScheme = 64,

    /// <summary>TPMI_ALG_MAC_SCHEME: a hash algorithm, or TPM_ALG_CMAC.</summary>
    Mac = 128,

    /// <summary>TPMI_ALG_RSA_SCHEME: for signing or decrypting.</summary>
    RsaScheme = 256,

    /// <summary>TPMI_ALG_RSA_DECRYPT.</summary>
    RsaDecrypt = 512,

    /// <summary>TPMI_ALG_ECC_SCHEME: for signing or key exchange.</summary>
    EccScheme = 1024,

    /// <summary>TPMI_ALG_SIG_SCHEME.</summary>
    SignatureScheme = 2048,

    /// <summary>TPMI_ECC_KEY_EXCHANGE.</summary>
    KeyExchange = 4096,

    /// <summary>TPMI_ALG_CIPHER_MODE: of an encryption.</summary>
    CipherMode = 8192,
}

/// <summary>A row of the table.</summary>
/// <param name="Id">The algorithm.</param>
/// <param name="Attributes">What GetCapability says about it.</param>
/// <param name="Uses">What parameters may name it for.</param>
/// <param name="DigestSize">For hashes: bytes.</param>
/// <param name="BlockSize">For hashes: bytes.</param>
internal sealed record AlgorithmRow(AlgorithmId Id, AlgorithmAttributes Attributes, AlgorithmUse Uses, int DigestSize = 0, int BlockSize = 0);

/// <summary>The table of algorithms.</summary>
internal static class Algorithms
{
    /// <summary>Bytes of one digest of each hash algorithm.</summary>
    internal const int AllDigests = 20 + 32 + 48 + 64;

    private const AlgorithmUse HashUse = AlgorithmUse.Hash | AlgorithmUse.Mac;
    private const AlgorithmUse CipherUse = AlgorithmUse.SymmetricMode | AlgorithmUse.CipherMode;

    private static readonly AlgorithmRow[] s_rows =
    [
        new(AlgorithmId.Rsa, AlgorithmAttributes.Asymmetric | AlgorithmAttributes.Object, AlgorithmUse.Public),
        new(AlgorithmId.Sha1, AlgorithmAttributes.Hash, HashUse, 20, 64),
        new(AlgorithmId.Hmac, AlgorithmAttributes.Hash | AlgorithmAttributes.Signing, AlgorithmUse.KeyedHashScheme | AlgorithmUse.SignatureScheme),
        new(AlgorithmId.Aes, AlgorithmAttributes.Symmetric, AlgorithmUse.Symmetric | AlgorithmUse.SymmetricObject),
        new(AlgorithmId.Mgf1, AlgorithmAttributes.Hash | AlgorithmAttributes.Method, AlgorithmUse.KeyDerivation),
        new(AlgorithmId.KeyedHash, AlgorithmAttributes.Hash | AlgorithmAttributes.Object | AlgorithmAttributes.Signing | AlgorithmAttributes.Encrypting, AlgorithmUse.Public),
        new(AlgorithmId.Xor, AlgorithmAttributes.Hash | AlgorithmAttributes.Symmetric, AlgorithmUse.Symmetric | AlgorithmUse.KeyedHashScheme),
        new(AlgorithmId.Sha256, AlgorithmAttributes.Hash, HashUse, 32, 64),
        new(AlgorithmId.Sha384, AlgorithmAttributes.Hash, HashUse, 48, 128),
        new(AlgorithmId.Sha512, AlgorithmAttributes.Hash, HashUse, 64, 128),
        new(AlgorithmId.RsaSsa, AlgorithmAttributes.Asymmetric | AlgorithmAttributes.Signing, AlgorithmUse.RsaScheme | AlgorithmUse.SignatureScheme),
        new(AlgorithmId.RsaEs, AlgorithmAttributes.Asymmetric | AlgorithmAttributes.Encrypting, AlgorithmUse.RsaScheme | AlgorithmUse.RsaDecrypt),
        new(AlgorithmId.RsaPss, AlgorithmAttributes.Asymmetric | AlgorithmAttributes.Signing, AlgorithmUse.RsaScheme | AlgorithmUse.SignatureScheme),
        new(AlgorithmId.Oaep, AlgorithmAttributes.Asymmetric | AlgorithmAttributes.Encrypting, AlgorithmUse.RsaScheme | AlgorithmUse.RsaDecrypt),
        new(AlgorithmId.EcDsa, AlgorithmAttributes.Asymmetric | AlgorithmAttributes.Signing, AlgorithmUse.EccScheme | AlgorithmUse.SignatureScheme),
        new(AlgorithmId.EcDh, AlgorithmAttributes.Asymmetric | AlgorithmAttributes.Method, AlgorithmUse.EccScheme | AlgorithmUse.KeyExchange),
        new(AlgorithmId.EcDaa, AlgorithmAttributes.Asymmetric | AlgorithmAttributes.Signing, AlgorithmUse.EccScheme | AlgorithmUse.SignatureScheme),
        new(AlgorithmId.EcSchnorr, AlgorithmAttributes.Asymmetric | AlgorithmAttributes.Signing, AlgorithmUse.EccScheme | AlgorithmUse.SignatureScheme),
        new(AlgorithmId.Kdf1Sp80056A, AlgorithmAttributes.Hash | AlgorithmAttributes.Method, AlgorithmUse.KeyDerivation),
        new(AlgorithmId.Kdf2, AlgorithmAttributes.Hash | AlgorithmAttributes.Method, AlgorithmUse.KeyDerivation),
        new(AlgorithmId.Kdf1Sp800108, AlgorithmAttributes.Hash | AlgorithmAttributes.Method, AlgorithmUse.KeyDerivation),
        new(AlgorithmId.Ecc, AlgorithmAttributes.Asymmetric | AlgorithmAttributes.Object, AlgorithmUse.Public),
        new(AlgorithmId.SymmetricCipher, AlgorithmAttributes.Object | AlgorithmAttributes.Symmetric, AlgorithmUse.Public),
        new(AlgorithmId.Cmac, AlgorithmAttributes.Symmetric | AlgorithmAttributes.Signing, AlgorithmUse.SymmetricMode | AlgorithmUse.Mac),
        new(AlgorithmId.Counter, AlgorithmAttributes.Symmetric | AlgorithmAttributes.Encrypting, CipherUse),
        new(AlgorithmId.OutputFeedback, AlgorithmAttributes.Symmetric | AlgorithmAttributes.Encrypting, CipherUse),
        new(AlgorithmId.BlockChaining, AlgorithmAttributes.Symmetric | AlgorithmAttributes.Encrypting, CipherUse),
        new(AlgorithmId.CipherFeedback, AlgorithmAttributes.Symmetric | AlgorithmAttributes.Encrypting, CipherUse),
        new(AlgorithmId.CodeBook, AlgorithmAttributes.Symmetric | AlgorithmAttributes.Encrypting, CipherUse),
    ];

    /// <summary>All rows, by identifier.</summary>
    internal static ReadOnlySpan<AlgorithmRow> Rows => s_rows;

    /// <summary>All curves, by identifier.</summary>
    internal static ReadOnlySpan<EccCurve> Curves => [EccCurve.NistP256, EccCurve.NistP384, EccCurve.NistP521, EccCurve.BnP256];

    /// <summary>The row, or null for what this TPM does not have.</summary>
    internal static AlgorithmRow? Find(AlgorithmId id)
    {
        foreach (AlgorithmRow row in s_rows)
        {
            if (row.Id == id)
            {
                return row;
            }
        }

        return null;
    }

    /// <summary>The digest size in bytes; 0 for what is not a hash.</summary>
    internal static int DigestSize(AlgorithmId id) => Find(id)?.DigestSize ?? 0;

    /// <summary>A digest in progress for each hash algorithm, in the order of the table.</summary>
    internal static (AlgorithmId Hash, IHashState State)[] StartAllHashes(ICryptography cryptography)
        => Array.ConvertAll(Array.FindAll(s_rows, r => (r.Uses & AlgorithmUse.Hash) != 0), r => (r.Id, cryptography.StartHash(r.Id)));

    /// <summary>Success, or the error of the interface type.</summary>
    internal static TpmResponseCode Check(AlgorithmId id, AlgorithmUse use, bool orNull)
    {
        if ((orNull && id == AlgorithmId.Null) || (Find(id) is AlgorithmRow row && (row.Uses & use) != 0))
        {
            return TpmResponseCode.Success;
        }

        return use switch
        {
            AlgorithmUse.Hash => TpmResponseCode.Hash,
            AlgorithmUse.Symmetric or AlgorithmUse.SymmetricObject or AlgorithmUse.Mac => TpmResponseCode.Symmetric,
            AlgorithmUse.SymmetricMode or AlgorithmUse.CipherMode => TpmResponseCode.Mode,
            AlgorithmUse.KeyDerivation => TpmResponseCode.KeyDerivation,
            AlgorithmUse.Public => TpmResponseCode.Type,
            AlgorithmUse.EccScheme or AlgorithmUse.SignatureScheme or AlgorithmUse.KeyExchange => TpmResponseCode.Scheme,
            _ => TpmResponseCode.Value,
        };
    }
}
