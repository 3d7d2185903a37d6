// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using Svsm.Modules.Vtpm.Crypto;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.State;

// What the TPM says about itself, signed: TPMS_ATTEST.
//
//   UINT32 TPM_GENERATED_VALUE, UINT16 type, TPM2B qualified name of the signer, TPM2B extra data, TPMS_CLOCK_INFO, UINT64 firmware version,
//   then what the type has
//
// A signer outside of the endorsement and platform hierarchies must not be recognisable by the TPM's counters: a number that depends on the
// signer is added to them. An anonymous scheme (ECDAA) has neither signer nor extra data in it; the extra data is hashed with the rest.
//
// Source: TCG TPM 2.0 Library, Part 1, "Attestation"; Part 2, "Attestation Structures"; Part 3, "Attestation Commands".
internal static class Attestation
{
    /// <summary>Enough for the largest structure: a piece of an NV index.</summary>
    internal const int MaxSize = TpmLimits.MaxBuffer + 512;

    /// <summary>TPM_PT_FIRMWARE_VERSION_1.</summary>
    internal const uint FirmwareVersion1 = 1;

    private const uint Ephemeral = 1;

    /// <summary>TPM_PT_FIRMWARE_VERSION_2, which is in attestations too: bit 0 tells a verifier that the TPM's state ends with it.</summary>
    internal static uint FirmwareVersion2(Tpm tpm) => tpm.IsEphemeral ? Ephemeral : 0;

    internal delegate void WriteBody(ref TpmWriter writer);

    /// <summary>Puts an attestation together and signs it.</summary>
    /// <param name="tpm">The TPM.</param>
    /// <param name="signer">The key, or null.</param>
    /// <param name="scheme">From <see cref="Signing.TrySelectScheme"/>.</param>
    /// <param name="extraData">From the caller.</param>
    /// <param name="type">TPM_ST_ATTEST_*.</param>
    /// <param name="body">Writes what the type has.</param>
    /// <param name="attest">TPMS_ATTEST.</param>
    /// <param name="signature">The signature.</param>
    internal static TpmResponseCode Make(
        Tpm tpm,
        KeyObject? signer,
        in AsymmetricScheme scheme,
        ReadOnlySpan<byte> extraData,
        StructureTag type,
        WriteBody body,
        out byte[] attest,
        out Signature signature)
    {
        bool isAnonymous = scheme.Scheme == AlgorithmId.EcDaa;
        byte[] signerName = signer is null ? ObjectCreation.HandleBytes(TpmHandle.Null) : isAnonymous ? [] : signer.QualifiedName;
        ClockInfo clock = tpm.ClockInfo();
        ulong firmware = ((ulong)FirmwareVersion1 << 32) | FirmwareVersion2(tpm);
        if (signer is null || (signer.Hierarchy != TpmHandle.Endorsement && signer.Hierarchy != TpmHandle.Platform))
        {
            // The reference implementation reads the derived bytes as its processor's numbers; so it is here, that both say the same.
            byte[] mask = tpm.Cryptography.DeriveKey(Tickets.Hash, tpm.Hierarchies.Proof(TpmHandle.Owner), "OBFUSCATE", signerName, [], 128);
            firmware += BinaryPrimitives.ReadUInt64LittleEndian(mask);
            clock = clock with
            {
                ResetCount = clock.ResetCount + BinaryPrimitives.ReadUInt32LittleEndian(mask.AsSpan(12)),
                RestartCount = clock.RestartCount + BinaryPrimitives.ReadUInt32LittleEndian(mask.AsSpan(8)),
            };
        }

        var writer = new TpmWriter(new byte[MaxSize]);
        writer.WriteUInt32(Tickets.GeneratedValue);
        writer.WriteUInt16((ushort)type);
        writer.WriteSized(signerName);
        writer.WriteSized(isAnonymous ? default : extraData);
        clock.Write(ref writer);
        writer.WriteUInt64(firmware);
        body(ref writer);
        attest = writer.Written.ToArray();
        signature = Signature.None;
        if (signer is null)
        {
            return TpmResponseCode.Success;
        }

        byte[] digest = tpm.Cryptography.Hash(scheme.Hash, attest);
        if (isAnonymous && !extraData.IsEmpty)
        {
            digest = tpm.Cryptography.Hash(scheme.Hash, [.. extraData, .. digest]);
        }

        return Signing.Sign(tpm, signer, scheme, digest, out signature);
    }
}
