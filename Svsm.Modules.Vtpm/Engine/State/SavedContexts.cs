// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using System.Security.Cryptography;
using Svsm.Modules.Vtpm.Crypto;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.State;

// Contexts outside of the TPM: objects, sequences and sessions that somebody else keeps, encrypted.
//
//   blob       TPM2B integrity, ciphertext to the end
//   plaintext  objects and sequences: TransientObject.Serialize; sessions: Session
//   key, IV    KDFa(proof, "CONTEXT", sequence, saved handle), AES-256-CFB
//   integrity  HMAC(proof, total reset count || clear count, of stClear objects only || sequence || saved handle || ciphertext)
//
// The proof is that of the hierarchy; for sequences and sessions the null hierarchy's, which a TPM Reset makes anew. A context of an object
// can be loaded any number of times until the TPM Reset; one of a session once, and only the last one that was made of it.
//
// Source: TCG TPM 2.0 Library, Part 1, "Context Management"; Part 2, "Context Data". The blob is the TPM's own affair.
internal static class SavedContexts
{
    // What the handle of a saved object says: TPMI_DH_SAVED.
    private const int Ordinary = 0;
    private const int Sequence = 1;
    private const int ClearedByStartup = 2;

    private const int KeySize = 32;
    private const int BlockSize = 16;
    private const int IntegritySize = 64;

    /// <summary>Makes the context of an object, which stays loaded.</summary>
    internal static SavedContext Save(Tpm tpm, TransientObject saved)
    {
        var writer = new TpmWriter(new byte[TpmLimits.MaxContext]);
        saved.Serialize(ref writer);
        int kind = saved is SequenceObject ? Sequence
            : ((KeyObject)saved).Public.Has(ObjectAttributes.StClear) ? ClearedByStartup
            : Ordinary;
        return Protect(tpm, ++tpm.ResetState.ObjectContextCounter, TpmHandle.Of(HandleType.Transient, kind), saved.Hierarchy, writer.Written);
    }

    /// <summary>Makes the context of a session, which is not loaded any more.</summary>
    /// <returns><see cref="TpmResponseCode.ContextGap"/> when an older session has to be loaded first.</returns>
    internal static TpmResponseCode Save(Tpm tpm, Session saved, out SavedContext context)
    {
        context = default;
        if (tpm.Sessions.IsGapFull)
        {
            return TpmResponseCode.ContextGap;
        }

        var writer = new TpmWriter(new byte[TpmLimits.MaxContext]);
        saved.Write(ref writer);
        context = Protect(tpm, ++tpm.ResetState.ContextCounter, saved.Handle, TpmHandle.Null, writer.Written);
        tpm.Sessions.Save(saved, context.Sequence);
        return TpmResponseCode.Success;
    }

    /// <summary>Takes a context back.</summary>
    /// <param name="tpm">The TPM.</param>
    /// <param name="context">The context, from anybody.</param>
    /// <param name="handle">The handle of what was loaded.</param>
    /// <returns>
    /// TPM_RC_SIZE, TPM_RC_INTEGRITY, TPM_RC_HIERARCHY, or TPM_RC_HANDLE for a session that is not saved in this context, without a place;
    /// TPM_RC_OBJECT_MEMORY or TPM_RC_SESSION_MEMORY.
    /// </returns>
    internal static TpmResponseCode Load(Tpm tpm, in SavedContext context, out TpmHandle handle)
    {
        handle = default;
        bool isObject = context.SavedHandle.Type == HandleType.Transient;
        if (isObject && context.SavedHandle.Index > ClearedByStartup)
        {
            return TpmResponseCode.Handle;
        }

        if (!tpm.Hierarchies.IsEnabled(context.Hierarchy))
        {
            return TpmResponseCode.Hierarchy;
        }

        TpmResponseCode code = Open(tpm, context, out byte[] plain);
        if (code != TpmResponseCode.Success)
        {
            return code;
        }

        try
        {
            return isObject ? LoadObject(tpm, plain, out handle) : LoadSession(tpm, context, plain, out handle);
        }
        finally
        {
            CryptographicOperations.ZeroMemory(plain);
        }
    }

    private static TpmResponseCode LoadObject(Tpm tpm, byte[] plain, out TpmHandle handle)
    {
        TransientObject loaded = TransientObject.Deserialize(tpm.Cryptography, plain) ?? throw new InvalidOperationException("an authentic context does not parse");
        return tpm.Objects.Add(loaded, out handle);
    }

    private static TpmResponseCode LoadSession(Tpm tpm, in SavedContext context, byte[] plain, out TpmHandle handle)
    {
        handle = context.SavedHandle;
        if (!tpm.Sessions.IsLatest(handle, context.Sequence))
        {
            return TpmResponseCode.Handle;
        }

        var reader = new TpmReader(plain);
        if (Session.Read(ref reader, out Session session) != TpmResponseCode.Success || reader.Remaining != 0)
        {
            throw new InvalidOperationException("an authentic context does not parse");
        }

        return tpm.Sessions.Add(session);
    }

    private static SavedContext Protect(Tpm tpm, ulong sequence, TpmHandle savedHandle, TpmHandle hierarchy, Span<byte> plain)
    {
        var blob = new byte[sizeof(ushort) + IntegritySize + plain.Length];
        BinaryPrimitives.WriteUInt16BigEndian(blob, IntegritySize);
        Span<byte> text = blob.AsSpan(sizeof(ushort) + IntegritySize);
        plain.CopyTo(text);
        CryptographicOperations.ZeroMemory(plain);
        Transform(tpm, sequence, savedHandle, hierarchy, text, encrypt: true);
        Integrity(tpm, sequence, savedHandle, hierarchy, text).CopyTo(blob, sizeof(ushort));
        return new SavedContext(sequence, savedHandle, hierarchy, blob);
    }

    private static TpmResponseCode Open(Tpm tpm, in SavedContext context, out byte[] plain)
    {
        plain = [];
        ReadOnlySpan<byte> blob = context.Blob.Span;
        int head = sizeof(ushort) + IntegritySize;
        if (blob.Length <= head || BinaryPrimitives.ReadUInt16BigEndian(blob) != IntegritySize)
        {
            return TpmResponseCode.Size;
        }

        byte[] integrity = Integrity(tpm, context.Sequence, context.SavedHandle, context.Hierarchy, blob[head..]);
        if (!TpmCryptography.AreEqual(integrity, blob.Slice(sizeof(ushort), IntegritySize)))
        {
            return TpmResponseCode.Integrity;
        }

        plain = blob[head..].ToArray();
        Transform(tpm, context.Sequence, context.SavedHandle, context.Hierarchy, plain, encrypt: false);
        return TpmResponseCode.Success;
    }

    private static void Transform(Tpm tpm, ulong sequence, TpmHandle savedHandle, TpmHandle hierarchy, Span<byte> text, bool encrypt)
    {
        Span<byte> contextU = stackalloc byte[sizeof(ulong)];
        Span<byte> contextV = stackalloc byte[sizeof(uint)];
        BinaryPrimitives.WriteUInt64BigEndian(contextU, sequence);
        BinaryPrimitives.WriteUInt32BigEndian(contextV, savedHandle.Value);
        byte[] key = tpm.Cryptography.DeriveKey(
            Tickets.Hash, tpm.Hierarchies.Proof(hierarchy), "CONTEXT", contextU, contextV, (KeySize + BlockSize) * 8);
        tpm.Cryptography.TransformCfb(key.AsSpan(0, KeySize), key.AsSpan(KeySize), text, encrypt);
        CryptographicOperations.ZeroMemory(key);
    }

    private static byte[] Integrity(Tpm tpm, ulong sequence, TpmHandle savedHandle, TpmHandle hierarchy, ReadOnlySpan<byte> text)
    {
        var writer = new TpmWriter(stackalloc byte[24]);
        writer.WriteUInt64(tpm.Persistent.TotalResetCount);
        if (savedHandle == TpmHandle.Of(HandleType.Transient, ClearedByStartup))
        {
            writer.WriteUInt32(tpm.ResetState.ClearCount);
        }

        writer.WriteUInt64(sequence);
        writer.WriteUInt32(savedHandle.Value);
        IHashState state = tpm.Cryptography.StartHmac(Tickets.Hash, tpm.Hierarchies.Proof(hierarchy));
        state.Update(writer.Written);
        state.Update(text);
        return state.Finish();
    }
}

/// <summary>TPMS_CONTEXT.</summary>
[TpmStructure]
internal readonly partial record struct SavedContext(
    ulong Sequence,
    [HandleParameter(HandleKind.Context)] TpmHandle SavedHandle,
    [HandleParameter(HandleKind.Hierarchy), OrNull] TpmHandle Hierarchy,
    [Size(TpmLimits.MaxContext)] ReadOnlyMemory<byte> Blob);
