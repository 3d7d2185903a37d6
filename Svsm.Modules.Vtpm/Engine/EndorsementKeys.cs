// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using Svsm.Modules.Vtpm.Crypto;
using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm;

/// <summary>The endorsement keys that a TPM has by default.</summary>
public enum EndorsementKeyKind
{
    /// <summary>RSA-2048: template L-1 of the TCG EK Credential Profile.</summary>
    Rsa2048,

    /// <summary>ECC P-256: template L-2.</summary>
    EccP256,
}

// The public areas of the default endorsement keys, for those who certify them or attest to them. They are made from the endorsement seed
// alone, so each is made once for as long as that stays the same, in slices as a command does it, and takes no transient slot. TPM2_Clear
// changes what such a key protects, not its public area.
//
// Source: TCG EK Credential Profile for TPM Family 2.0, 2.2, "Default EK Public Area Template".
internal sealed class EndorsementKeys(Tpm tpm)
{
    // Fixed, from the TPM, its policy only, restricted decryption.
    private const ObjectAttributes Attributes = ObjectAttributes.FixedTpm | ObjectAttributes.FixedParent | ObjectAttributes.SensitiveDataOrigin
        | ObjectAttributes.AdminWithPolicy | ObjectAttributes.Restricted | ObjectAttributes.Decrypt;

    // TPM2_PolicySecret with the endorsement hierarchy.
    private static readonly byte[] s_policy = Convert.FromHexString("837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa");

    private readonly Dictionary<EndorsementKeyKind, Work> _keys = [];

    /// <summary>The public area of a key.</summary>
    /// <param name="kind">Which one.</param>
    /// <param name="area">TPMT_PUBLIC; empty while the result is false.</param>
    /// <returns>False when the slice is over and the key is not made yet.</returns>
    internal bool TryGet(EndorsementKeyKind kind, out byte[] area)
    {
        area = [];
        byte[] origin = tpm.Cryptography.Hash(AlgorithmId.Sha256, tpm.Persistent.EndorsementSeed);
        if (!_keys.TryGetValue(kind, out Work? work) || !TpmCryptography.AreEqual(work.Origin, origin))
        {
            work?.Context.EndWork();
            work = new Work(origin, new CommandContext(tpm, CommandTable.Find((uint)CommandCode.CreatePrimary)!, locality: 0));
            _keys[kind] = work;
        }

        if (work.Area.Length == 0 && !TryMake(kind, work))
        {
            return false;
        }

        area = [.. work.Area];
        return true;
    }

    private bool TryMake(EndorsementKeyKind kind, Work work)
    {
        PublicArea template = Template(kind);
        TpmResponseCode code = State.ObjectCreation.Generate(
            work.Context,
            template,
            auth: [],
            data: [],
            () => State.ObjectCreation.PrimaryRandom(tpm, TpmHandle.Endorsement, template, []),
            isEndorsementPrimary: true,
            out PublicArea made,
            out Sensitive sensitive);
        if (code == CommandContext.Unfinished)
        {
            return false;
        }

        if (code != TpmResponseCode.Success)
        {
            throw new InvalidOperationException($"the default endorsement key {kind} cannot be made: {code}");
        }

        sensitive.Clear();
        work.Area = made.ToBytes();
        return true;
    }

    private static PublicArea Template(EndorsementKeyKind kind)
    {
        var cipher = new SymmetricDefinition(AlgorithmId.Aes, 128, AlgorithmId.CipherFeedback);
        return kind == EndorsementKeyKind.Rsa2048
            ? new PublicArea(
                new PublicParameters(AlgorithmId.Rsa) { Symmetric = cipher, KeyBits = 2048 }, AlgorithmId.Sha256, Attributes, s_policy, new byte[256], [])
            : new PublicArea(
                new PublicParameters(AlgorithmId.Ecc) { Symmetric = cipher, Curve = EccCurve.NistP256 }, AlgorithmId.Sha256, Attributes, s_policy, new byte[32], new byte[32]);
    }

    private sealed class Work(byte[] origin, CommandContext context)
    {
        /// <summary>The digest of the seed.</summary>
        internal byte[] Origin { get; } = origin;

        internal CommandContext Context { get; } = context;

        internal byte[] Area { get; set; } = [];
    }
}
