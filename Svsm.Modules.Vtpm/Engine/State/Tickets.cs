// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using Svsm.Modules.Vtpm.Crypto;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.State;

// Tickets: the TPM's word to itself about something it checked or made, an HMAC with the proof of a hierarchy.
//
// Source: TCG TPM 2.0 Library, Part 2, "Tickets". The hash is that of saved contexts (TPM_PT_CONTEXT_HASH).
internal static class Tickets
{
    /// <summary>The hash of tickets and saved contexts.</summary>
    internal const AlgorithmId Hash = AlgorithmId.Sha512;

    // TPM_GENERATED_VALUE: how every attestation of a TPM begins.
    internal const uint GeneratedValue = 0xFF54_4347;

    /// <summary>Whether data cannot be an attestation that somebody made up, so that a restricted key may sign its digest.</summary>
    /// <param name="data">All of the data, or at least its first four bytes.</param>
    internal static bool IsSafe(ReadOnlySpan<byte> data)
        => data.Length < sizeof(uint) || BinaryPrimitives.ReadUInt32BigEndian(data) != GeneratedValue;

    /// <summary>TPMT_TK_HASHCHECK without a statement.</summary>
    internal static Ticket EmptyHashCheck => new(StructureTag.HashCheck, TpmHandle.Null, default);

    /// <summary>TPMT_TK_HASHCHECK: "this TPM made the digest, of safe data".</summary>
    internal static Ticket HashCheck(Tpm tpm, TpmHandle hierarchy, AlgorithmId algorithm, ReadOnlySpan<byte> digest)
    {
        IHashState state = tpm.Cryptography.StartHmac(Hash, tpm.Hierarchies.Proof(hierarchy));
        Span<byte> head = stackalloc byte[4];
        BinaryPrimitives.WriteUInt16BigEndian(head, (ushort)StructureTag.HashCheck);
        BinaryPrimitives.WriteUInt16BigEndian(head[2..], (ushort)algorithm);
        state.Update(head);
        state.Update(digest);
        return new Ticket(StructureTag.HashCheck, hierarchy, state.Finish());
    }

    /// <summary>TPMT_TK_AUTH: "the entity authorised this, until then".</summary>
    /// <param name="tpm">The TPM.</param>
    /// <param name="tag">TPM_ST_AUTH_SIGNED or TPM_ST_AUTH_SECRET.</param>
    /// <param name="hierarchy">The entity's.</param>
    /// <param name="timeout">Milliseconds, with <see cref="Policies.ExpiresOnReset"/>; 0 for never.</param>
    /// <param name="commandHash">The cpHash, or nothing.</param>
    /// <param name="policyRef">The caller's reference.</param>
    /// <param name="name">The entity's Name.</param>
    internal static Ticket Authorization(
        Tpm tpm,
        StructureTag tag,
        TpmHandle hierarchy,
        ulong timeout,
        ReadOnlySpan<byte> commandHash,
        ReadOnlySpan<byte> policyRef,
        ReadOnlySpan<byte> name)
    {
        ulong end = timeout & ~Policies.ExpiresOnReset;
        var writer = new TpmWriter(stackalloc byte[32]);
        writer.WriteUInt64(end);
        if (end != 0)
        {
            writer.WriteUInt64(tpm.TimeEpoch);
            if (end != timeout)
            {
                writer.WriteUInt64(tpm.Persistent.TotalResetCount);
            }
        }

        IHashState state = tpm.Cryptography.StartHmac(Hash, tpm.Hierarchies.Proof(hierarchy));
        Span<byte> head = stackalloc byte[2];
        BinaryPrimitives.WriteUInt16BigEndian(head, (ushort)tag);
        state.Update(head);
        state.Update(commandHash);
        state.Update(policyRef);
        state.Update(name);
        state.Update(writer.Written);
        return new Ticket(tag, hierarchy, state.Finish());
    }

    /// <summary>TPMT_TK_VERIFIED: "the key signed the digest".</summary>
    internal static Ticket Verified(Tpm tpm, TpmHandle hierarchy, ReadOnlySpan<byte> digest, ReadOnlySpan<byte> name)
    {
        IHashState state = tpm.Cryptography.StartHmac(Hash, tpm.Hierarchies.Proof(hierarchy));
        Span<byte> head = stackalloc byte[2];
        BinaryPrimitives.WriteUInt16BigEndian(head, (ushort)StructureTag.Verified);
        state.Update(head);
        state.Update(digest);
        state.Update(name);
        return new Ticket(StructureTag.Verified, hierarchy, state.Finish());
    }

    /// <summary>Whether a ticket says what another one says that was just made. The tag was checked when it was read.</summary>
    internal static bool AreSame(in Ticket given, in Ticket made) => TpmCryptography.AreEqual(given.Digest.Span, made.Digest.Span);

    /// <summary>TPMT_TK_CREATION: "this TPM made the object, with this creation data".</summary>
    internal static Ticket Creation(Tpm tpm, TpmHandle hierarchy, ReadOnlySpan<byte> name, ReadOnlySpan<byte> creationHash)
    {
        IHashState state = tpm.Cryptography.StartHmac(Hash, tpm.Hierarchies.Proof(hierarchy));
        Span<byte> tag = stackalloc byte[2];
        BinaryPrimitives.WriteUInt16BigEndian(tag, (ushort)StructureTag.Creation);
        state.Update(tag);
        state.Update(name);
        state.Update(creationHash);
        return new Ticket(StructureTag.Creation, hierarchy, state.Finish());
    }
}
