// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using System.Security.Cryptography;
using Svsm.Modules.Vtpm.Crypto;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.State;

// The first half of a signature or key exchange in two commands: a number r that the TPM does not keep but can make again from a nonce, a
// count and a Name. A bit per count says whether it is still good: it is for one use.
//
// Source: TCG TPM 2.0 Library, Part 1, annex C.2 ("Split operations"); the number of bits is that of the TCG reference implementation.
internal static class Commitments
{
    /// <summary>Commitments that can be open at one time.</summary>
    internal const int Count = 128;

    /// <summary>The number of the next commitment.</summary>
    /// <param name="tpm">The TPM.</param>
    /// <param name="curve">The curve.</param>
    /// <param name="name">The key's Name, or nothing.</param>
    internal static byte[] Next(Tpm tpm, EllipticCurve curve, ReadOnlySpan<byte> name) => Number(tpm, curve, name, tpm.ResetState.CommitCounter);

    /// <summary>Keeps the next commitment open.</summary>
    /// <returns>Its count.</returns>
    internal static ushort Begin(Tpm tpm)
    {
        ResetState state = tpm.ResetState;
        ushort count = (ushort)state.CommitCounter++;
        state.Commitments[count % Count / 8] |= (byte)(1 << (count % 8));
        return count;
    }

    /// <summary>The number of an open commitment; null when there is none with the count.</summary>
    internal static byte[]? Find(Tpm tpm, EllipticCurve curve, ReadOnlySpan<byte> name, ushort count)
    {
        ResetState state = tpm.ResetState;
        if ((state.Commitments[count % Count / 8] >> (count % 8) & 1) == 0)
        {
            return null;
        }

        // The last one with these low bits; the higher bits have to be its own.
        ulong latest = state.CommitCounter - 1 - ((state.CommitCounter - 1 - count) % Count);
        return (ushort)latest == count ? Number(tpm, curve, name, latest) : null;
    }

    /// <summary>Ends a commitment.</summary>
    internal static void End(Tpm tpm, ushort count) => tpm.ResetState.Commitments[count % Count / 8] &= (byte)~(1 << (count % 8));

    private static byte[] Number(Tpm tpm, EllipticCurve curve, ReadOnlySpan<byte> name, ulong counter)
    {
        Span<byte> bytes = stackalloc byte[sizeof(ulong)];
        BinaryPrimitives.WriteUInt64BigEndian(bytes, counter);
        byte[] random = tpm.Cryptography.DeriveKey(Tickets.Hash, tpm.ResetState.CommitNonce, "COMMIT", name, bytes, (curve.Size + 8) * 8);
        byte[] number = curve.PrivateKeyFrom(random);
        CryptographicOperations.ZeroMemory(random);
        tpm.ClearAfterCommand(number);
        return number;
    }
}
