// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Modules.Vtpm.Crypto;
using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_PolicyPCR: PCRs have these values, and do not change until the policy is used.</summary>
[TpmCommand(CommandCode.PolicyPcr)]
internal static partial class PolicyPcr
{
    internal readonly record struct Request(
        [Handle(HandleKind.PolicySession)] TpmHandle PolicySession,
        [Size(TpmLimits.MaxDigest)] ReadOnlyMemory<byte> PcrDigest,
        [Count(TpmLimits.HashCount)] PcrSelection[] Pcrs);

    internal static TpmResponseCode Execute(CommandContext context, in Request request)
    {
        Tpm tpm = context.Tpm;
        Session session = tpm.Sessions.Find(request.PolicySession)!;
        PcrSelection[] selection = Array.ConvertAll(request.Pcrs, tpm.Pcrs.Filter);
        ReadOnlyMemory<byte> digest = tpm.Pcrs.Digest(selection, session.Hash);
        if (session.Type == SessionType.Trial)
        {
            digest = request.PcrDigest.Length != 0 ? request.PcrDigest : digest;
        }
        else
        {
            if (session.Policy.Demand(PolicyDemands.Pcrs) && session.Policy.PcrCounter != tpm.ResetState.PcrCounter)
            {
                return TpmResponseCode.PcrChanged;
            }

            if (request.PcrDigest.Length != 0 && !TpmCryptography.AreEqual(request.PcrDigest.Span, digest.Span))
            {
                return TpmResponseCode.Value.At(At.PcrDigest);
            }

            session.Policy.Demands |= PolicyDemands.Pcrs;
            session.Policy.PcrCounter = tpm.ResetState.PcrCounter;
        }

        var writer = new TpmWriter(new byte[64]);
        writer.WriteUInt32((uint)selection.Length);
        foreach (PcrSelection bank in selection)
        {
            bank.Write(ref writer);
        }

        Policies.Extend(tpm, session, CommandCode.PolicyPcr, writer.Written.ToArray(), digest);
        return TpmResponseCode.Success;
    }
}
