// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using Svsm.Modules.Vtpm.Crypto;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.State;

// What policy commands have in common: how they extend a session's digest, and the checks that an authorisation by somebody else brings.
//
//   digest     H(digest || command code || what the command states)
//   update     the same with a Name, and then H(digest || policyRef)
//
// Source: TCG TPM 2.0 Library, Part 1, "Enhanced Authorization"; Part 3, "Enhanced Authorization (EA) Commands".
internal static class Policies
{
    // In the timeout of a ticket: it ends with a TPM Reset.
    internal const ulong ExpiresOnReset = 1UL << 63;

    /// <summary>Extends the digest with a statement.</summary>
    internal static void Extend(Tpm tpm, Session session, CommandCode code, params ReadOnlySpan<ReadOnlyMemory<byte>> statement)
    {
        IHashState state = tpm.Cryptography.StartHash(session.Hash);
        state.Update(session.Policy.Digest);
        state.UpdateUInt32((uint)code);
        foreach (ReadOnlyMemory<byte> part in statement)
        {
            state.Update(part.Span);
        }

        session.Policy.Digest = state.Finish();
    }

    /// <summary>Extends the digest with an entity and the caller's reference (PolicyUpdate).</summary>
    internal static void Update(Tpm tpm, Session session, CommandCode code, ReadOnlyMemory<byte> name, ReadOnlyMemory<byte> policyRef)
    {
        Extend(tpm, session, code, name);
        IHashState state = tpm.Cryptography.StartHash(session.Hash);
        state.Update(session.Policy.Digest);
        state.Update(policyRef.Span);
        session.Policy.Digest = state.Finish();
    }

    /// <summary>Sets the digest to zero: what was stated before is approved as a whole.</summary>
    internal static void Reset(Session session) => session.Policy.Digest = new byte[Algorithms.DigestSize(session.Hash)];

    /// <summary>When an authorisation ends.</summary>
    /// <param name="session">The session.</param>
    /// <param name="expiration">Seconds, negative ones count the same; 0 for never.</param>
    /// <param name="nonce">With a nonce seconds count from the start of the session, without one from power-on.</param>
    /// <returns>Milliseconds of <see cref="Tpm.Time"/>; 0 for never.</returns>
    internal static ulong Timeout(Session session, int expiration, ReadOnlySpan<byte> nonce)
        => expiration == 0 ? 0 : ((ulong)Math.Abs((long)expiration) * 1000) + (nonce.IsEmpty ? 0 : session.StartTime);

    /// <summary>Checks what an authorisation is bound to.</summary>
    /// <param name="tpm">The TPM.</param>
    /// <param name="session">The session.</param>
    /// <param name="timeout">When the authorisation ends, or 0.</param>
    /// <param name="commandHash">The cpHash that it is for, or nothing.</param>
    /// <param name="nonce">The session's nonce, or nothing.</param>
    /// <param name="at">Where errors of timeout, cpHash and nonce are.</param>
    internal static TpmResponseCode Check(
        Tpm tpm,
        Session session,
        ulong timeout,
        ReadOnlySpan<byte> commandHash,
        ReadOnlySpan<byte> nonce,
        (ErrorPlace Timeout, ErrorPlace CommandHash, ErrorPlace Nonce) at)
    {
        if (!nonce.IsEmpty && !TpmCryptography.AreEqual(nonce, session.NonceTpm))
        {
            return TpmResponseCode.Nonce.At(at.Nonce);
        }

        if (timeout != 0 && timeout < tpm.Time)
        {
            return TpmResponseCode.Expired.At(at.Timeout);
        }

        if (commandHash.IsEmpty)
        {
            return TpmResponseCode.Success;
        }

        return commandHash.Length != session.Policy.Digest.Length ? TpmResponseCode.Size.At(at.CommandHash)
            : CanBind(session, PolicyBinding.Command, commandHash) ? TpmResponseCode.Success
            : TpmResponseCode.CpHash;
    }

    /// <summary>Whether a session can be bound so: it is not bound yet, or the same way.</summary>
    internal static bool CanBind(Session session, PolicyBinding binding, ReadOnlySpan<byte> digest)
        => session.Policy.Binding == PolicyBinding.None
            || (session.Policy.Binding == binding && TpmCryptography.AreEqual(session.Policy.BoundDigest, digest));

    internal static void Bind(Session session, PolicyBinding binding, ReadOnlySpan<byte> digest)
    {
        session.Policy.Binding = binding;
        session.Policy.BoundDigest = digest.ToArray();
    }

    /// <summary>What an authorisation by an entity does to the session.</summary>
    internal static void Authorize(
        Tpm tpm, Session session, CommandCode code, ReadOnlyMemory<byte> name, ReadOnlyMemory<byte> policyRef, ReadOnlySpan<byte> commandHash, ulong timeout)
    {
        Update(tpm, session, code, name, policyRef);
        if (!commandHash.IsEmpty)
        {
            Bind(session, PolicyBinding.Command, commandHash);
        }

        if (timeout != 0 && (session.Policy.Timeout == 0 || session.Policy.Timeout > timeout))
        {
            session.Policy.Timeout = timeout;
        }
    }

    /// <summary>Whether a comparison holds. Both values have the same size.</summary>
    internal static bool Compare(ReadOnlySpan<byte> left, ReadOnlySpan<byte> right, PolicyOperation operation)
    {
        int unsigned = left.SequenceCompareTo(right);

        // Two's complement: with unlike signs the greater one has no sign bit.
        int signed = left.Length != 0 && ((left[0] ^ right[0]) & 0x80) != 0 ? -unsigned : unsigned;
        switch (operation)
        {
            case PolicyOperation.Equal:
                return unsigned == 0;
            case PolicyOperation.NotEqual:
                return unsigned != 0;
            case PolicyOperation.SignedGreater:
                return signed > 0;
            case PolicyOperation.UnsignedGreater:
                return unsigned > 0;
            case PolicyOperation.SignedLess:
                return signed < 0;
            case PolicyOperation.UnsignedLess:
                return unsigned < 0;
            case PolicyOperation.SignedGreaterOrEqual:
                return signed >= 0;
            case PolicyOperation.UnsignedGreaterOrEqual:
                return unsigned >= 0;
            case PolicyOperation.SignedLessOrEqual:
                return signed <= 0;
            case PolicyOperation.UnsignedLessOrEqual:
                return unsigned <= 0;
            default:
                for (int i = 0; i < left.Length; i++)
                {
                    if ((left[i] & right[i]) != (operation == PolicyOperation.BitsSet ? right[i] : 0))
                    {
                        return false;
                    }
                }

                return true;
        }
    }

    /// <summary>The digest of a comparison's arguments.</summary>
    internal static byte[] Arguments(Tpm tpm, Session session, ReadOnlySpan<byte> operand, ushort offset, PolicyOperation operation, params ReadOnlySpan<uint> more)
    {
        var writer = new TpmWriter(stackalloc byte[16]);
        writer.WriteUInt16(offset);
        writer.WriteUInt16((ushort)operation);
        foreach (uint value in more)
        {
            writer.WriteUInt32(value);
        }

        IHashState state = tpm.Cryptography.StartHash(session.Hash);
        state.Update(operand);
        state.Update(writer.Written);
        return state.Finish();
    }

    /// <summary>TPMT_TK_AUTH and its timeout, when the caller wants one: with a negative expiration, outside of trials.</summary>
    internal static (byte[] Timeout, Ticket Ticket) Ticket(
        Tpm tpm,
        Session session,
        StructureTag tag,
        TpmHandle hierarchy,
        int expiration,
        ulong timeout,
        ReadOnlySpan<byte> nonce,
        ReadOnlySpan<byte> commandHash,
        ReadOnlySpan<byte> policyRef,
        ReadOnlySpan<byte> name)
    {
        if (expiration >= 0 || session.Type == SessionType.Trial)
        {
            return ([], new Ticket(tag, TpmHandle.Null, default));
        }

        if (nonce.IsEmpty)
        {
            timeout |= ExpiresOnReset;
        }

        var bytes = new byte[sizeof(ulong)];
        BinaryPrimitives.WriteUInt64BigEndian(bytes, timeout);
        return (bytes, Tickets.Authorization(tpm, tag, hierarchy, timeout, commandHash, policyRef, name));
    }
}

/// <summary>TPM_EO.</summary>
internal enum PolicyOperation : ushort
{
    Equal = 0,
    NotEqual = 1,
    SignedGreater = 2,
    UnsignedGreater = 3,
    SignedLess = 4,
    UnsignedLess = 5,
    SignedGreaterOrEqual = 6,
    UnsignedGreaterOrEqual = 7,
    SignedLessOrEqual = 8,
    UnsignedLessOrEqual = 9,
    BitsSet = 10,
    BitsClear = 11,
}
