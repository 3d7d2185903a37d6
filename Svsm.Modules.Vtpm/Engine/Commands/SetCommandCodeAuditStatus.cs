// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Modules.Vtpm.Crypto;
using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_SetCommandCodeAuditStatus: which commands are audited, or with which hash.</summary>
[TpmCommand(CommandCode.SetCommandCodeAuditStatus, Traits = CommandTraits.Nv | CommandTraits.PhysicalPresence | CommandTraits.NotReadOnly)]
internal static partial class SetCommandCodeAuditStatus
{
    private const int MaxList = TpmLimits.MaxCapabilityData / 4;

    internal readonly record struct Request(
        [Handle(HandleKind.Provision, Role = AuthorizationRole.User)] TpmHandle Auth,
        [Algorithm(AlgorithmUse.Hash), OrNull] AlgorithmId AuditAlg,
        [Count(MaxList)] CommandCode[] SetList,
        [Count(MaxList)] CommandCode[] ClearList);

    internal static TpmResponseCode Execute(CommandContext context, in Request request)
    {
        Tpm tpm = context.Tpm;
        if (request.AuditAlg != AlgorithmId.Null && request.AuditAlg != tpm.Persistent.AuditHash)
        {
            if (request.SetList.Length != 0 || request.ClearList.Length != 0)
            {
                return TpmResponseCode.Value.At(At.AuditAlg);
            }

            // The old log cannot go on with another hash, and this command has no place in the next one.
            tpm.Persistent.AuditHash = request.AuditAlg;
            tpm.ResetState.CommandAuditDigest = [];
            context.CommandAuditHash = [];
            tpm.MarkDirty();
            return TpmResponseCode.Success;
        }

        foreach (CommandCode code in request.SetList)
        {
            tpm.CommandAudit.Set(code, true);
        }

        foreach (CommandCode code in request.ClearList)
        {
            tpm.CommandAudit.Set(code, false);
        }

        return TpmResponseCode.Success;
    }
}
