// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Security.Cryptography;
using Svsm.Modules.Vtpm.Crypto;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.State;

// How secrets leave the TPM and come back.
//
//   outer wrap    TPM2B integrity || [TPM2B iv] || CFB(data)
//                 key KDFa(seed, "STORAGE", Name), integrity HMAC(KDFa(seed, "INTEGRITY"), [iv] || CFB(data) || Name)
//                 cipher and hash: those of the protector
//   inner wrap    CFB(TPM2B H(data || Name) || data), with a key that the caller has
//   data          TPM2B TPMT_SENSITIVE, or TPM2B secret of a credential
//
//   child         outer wrap with iv; the seed is the parent's
//   duplicate     outer wrap without iv, if there is a seed; in it the inner wrap, if there is a key
//   credential    outer wrap without iv
//
// Source: TCG TPM 2.0 Library, Part 1, "Protected Storage", "Credential Protection", "Duplication".
internal static class ObjectProtection
{
    private const int BlockSize = 16;

    /// <summary>TPM2B_PRIVATE of a child.</summary>
    internal static byte[] ToPrivate(Tpm tpm, in Sensitive sensitive, in PublicArea area, ReadOnlySpan<byte> name, KeyObject parent)
    {
        byte[] data = Marshal(sensitive, area.NameHash);
        byte[] iv = tpm.Random.Generate(BlockSize);
        byte[] wrapped = WrapOuter(tpm.Cryptography, parent.Public, parent.SeedValue, name, iv, data);
        CryptographicOperations.ZeroMemory(data);
        return wrapped;
    }

    /// <summary>The secret part of a child.</summary>
    /// <returns>TPM_RC_INTEGRITY; TPM_RC_SENSITIVE for what does not parse; TPM_RC_SIZE, TPM_RC_INSUFFICIENT or TPM_RC_VALUE for a broken wrap.</returns>
    internal static TpmResponseCode FromPrivate(
        ICryptography cryptography, ReadOnlyMemory<byte> wrapped, ReadOnlySpan<byte> name, KeyObject parent, out Sensitive sensitive)
    {
        sensitive = default;
        TpmResponseCode code = UnwrapOuter(cryptography, parent.Public, parent.SeedValue, name, hasIv: true, wrapped, out byte[] data);
        if (code == TpmResponseCode.Success && Unmarshal(data, out sensitive) != TpmResponseCode.Success)
        {
            code = TpmResponseCode.Sensitive;
        }

        CryptographicOperations.ZeroMemory(data);
        return code;
    }

    /// <summary>TPM2B_PRIVATE of a duplicate.</summary>
    /// <param name="tpm">The TPM.</param>
    /// <param name="sensitive">The secret part.</param>
    /// <param name="nameHash">The object's name algorithm.</param>
    /// <param name="name">The object's Name.</param>
    /// <param name="newParent">Null for none, together with an empty seed.</param>
    /// <param name="seed">The seed of the outer wrap.</param>
    /// <param name="innerKey">The key of the inner wrap, or nothing.</param>
    internal static byte[] ToDuplicate(
        Tpm tpm, in Sensitive sensitive, AlgorithmId nameHash, ReadOnlySpan<byte> name, KeyObject? newParent, ReadOnlySpan<byte> seed, ReadOnlySpan<byte> innerKey)
    {
        byte[] data = Marshal(sensitive, nameHash);
        if (!innerKey.IsEmpty)
        {
            data = [.. TwoB(tpm.Cryptography.Hash(nameHash, [.. data, .. name])), .. data];
            tpm.Cryptography.TransformCfb(innerKey, stackalloc byte[BlockSize], data, encrypt: true);
        }

        if (newParent is null)
        {
            return data;
        }

        byte[] wrapped = WrapOuter(tpm.Cryptography, newParent.Public, seed, name, [], data);
        CryptographicOperations.ZeroMemory(data);
        return wrapped;
    }

    /// <summary>The secret part of a duplicate.</summary>
    internal static TpmResponseCode FromDuplicate(
        ICryptography cryptography,
        ReadOnlyMemory<byte> wrapped,
        AlgorithmId nameHash,
        ReadOnlySpan<byte> name,
        KeyObject newParent,
        ReadOnlySpan<byte> seed,
        ReadOnlySpan<byte> innerKey,
        out Sensitive sensitive)
    {
        sensitive = default;
        byte[] data = wrapped.ToArray();
        TpmResponseCode code = TpmResponseCode.Success;
        if (!seed.IsEmpty)
        {
            code = UnwrapOuter(cryptography, newParent.Public, seed, name, hasIv: false, wrapped, out data);
        }

        ReadOnlyMemory<byte> content = data;
        if (code == TpmResponseCode.Success && !innerKey.IsEmpty)
        {
            cryptography.TransformCfb(innerKey, stackalloc byte[BlockSize], data, encrypt: false);
            var reader = new TpmReader(data);
            code = reader.ReadSized(TpmLimits.MaxDigest, out ReadOnlyMemory<byte> integrity);
            content = reader.Rest;
            if (code == TpmResponseCode.Success
                && !TpmCryptography.AreEqual(integrity.Span, cryptography.Hash(nameHash, [.. content.Span, .. name])))
            {
                code = TpmResponseCode.Integrity;
            }
        }

        if (code == TpmResponseCode.Success)
        {
            code = Unmarshal(content, out sensitive);
        }

        CryptographicOperations.ZeroMemory(data);
        return code;
    }

    /// <summary>The outer wrap.</summary>
    /// <param name="cryptography">The primitives.</param>
    /// <param name="protector">The public area of the object that protects: its name algorithm and cipher are used.</param>
    /// <param name="seed">The seed.</param>
    /// <param name="name">The Name of what is protected.</param>
    /// <param name="iv">The initial value, or nothing.</param>
    /// <param name="data">What is encrypted, a copy of it.</param>
    internal static byte[] WrapOuter(
        ICryptography cryptography, in PublicArea protector, ReadOnlySpan<byte> seed, ReadOnlySpan<byte> name, ReadOnlySpan<byte> iv, ReadOnlySpan<byte> data)
    {
        byte[] body = [.. iv.IsEmpty ? [] : TwoB(iv), .. data];
        Span<byte> start = stackalloc byte[BlockSize];
        iv.CopyTo(start);
        byte[] key = cryptography.DeriveKey(protector.NameHash, seed, "STORAGE", name, [], protector.Parameters.Symmetric.KeyBits);
        cryptography.TransformCfb(key, start, body.AsSpan(body.Length - data.Length), encrypt: true);
        CryptographicOperations.ZeroMemory(key);
        return [.. TwoB(OuterIntegrity(cryptography, protector, seed, name, body)), .. body];
    }

    /// <summary>Undoes <see cref="WrapOuter"/>; the integrity is checked before anything else.</summary>
    internal static TpmResponseCode UnwrapOuter(
        ICryptography cryptography, in PublicArea protector, ReadOnlySpan<byte> seed, ReadOnlySpan<byte> name, bool hasIv, ReadOnlyMemory<byte> wrapped, out byte[] data)
    {
        data = [];
        var reader = new TpmReader(wrapped);
        TpmResponseCode code = reader.ReadSized(TpmLimits.MaxDigest, out ReadOnlyMemory<byte> integrity);
        if (code != TpmResponseCode.Success)
        {
            return code;
        }

        if (!TpmCryptography.AreEqual(integrity.Span, OuterIntegrity(cryptography, protector, seed, name, reader.Rest.Span)))
        {
            return TpmResponseCode.Integrity;
        }

        Span<byte> start = stackalloc byte[BlockSize];
        if (hasIv)
        {
            code = reader.ReadSized(BlockSize, out ReadOnlyMemory<byte> iv);
            if (code != TpmResponseCode.Success || iv.Length != BlockSize)
            {
                return code != TpmResponseCode.Success ? code : TpmResponseCode.Value;
            }

            iv.Span.CopyTo(start);
        }

        data = reader.Rest.ToArray();
        byte[] key = cryptography.DeriveKey(protector.NameHash, seed, "STORAGE", name, [], protector.Parameters.Symmetric.KeyBits);
        cryptography.TransformCfb(key, start, data, encrypt: false);
        CryptographicOperations.ZeroMemory(key);
        return TpmResponseCode.Success;
    }

    /// <summary>TPM2B of bytes.</summary>
    internal static byte[] TwoB(ReadOnlySpan<byte> value) => [(byte)(value.Length >> 8), (byte)value.Length, .. value];

    private static byte[] OuterIntegrity(
        ICryptography cryptography, in PublicArea protector, ReadOnlySpan<byte> seed, ReadOnlySpan<byte> name, ReadOnlySpan<byte> body)
    {
        byte[] key = cryptography.DeriveKey(protector.NameHash, seed, "INTEGRITY", [], [], Algorithms.DigestSize(protector.NameHash) * 8);
        IHashState hmac = cryptography.StartHmac(protector.NameHash, key);
        hmac.Update(body);
        hmac.Update(name);
        CryptographicOperations.ZeroMemory(key);
        return hmac.Finish();
    }

    // The authValue is as long as the name algorithm's digest, so that its length does not show.
    private static byte[] Marshal(in Sensitive sensitive, AlgorithmId nameHash)
    {
        var auth = new byte[Math.Max(Algorithms.DigestSize(nameHash), sensitive.Auth.Length)];
        sensitive.Auth.CopyTo(auth, 0);
        Span<byte> buffer = stackalloc byte[Sensitive.MaxSize + 2];
        var writer = new TpmWriter(buffer);
        int mark = writer.BeginSized();
        (sensitive with { Auth = auth }).Write(ref writer);
        writer.EndSized(mark);
        byte[] data = writer.Written.ToArray();
        buffer.Clear();
        CryptographicOperations.ZeroMemory(auth);
        return data;
    }

    private static TpmResponseCode Unmarshal(ReadOnlyMemory<byte> data, out Sensitive sensitive)
    {
        sensitive = default;
        var reader = new TpmReader(data);
        TpmResponseCode code = reader.ReadUInt16(out ushort size);
        if (code != TpmResponseCode.Success || size != reader.Remaining)
        {
            return code != TpmResponseCode.Success ? code : TpmResponseCode.Size;
        }

        code = Sensitive.Read(ref reader, out sensitive);
        return code == TpmResponseCode.Success && reader.Remaining != 0 ? TpmResponseCode.Size : code;
    }
}
