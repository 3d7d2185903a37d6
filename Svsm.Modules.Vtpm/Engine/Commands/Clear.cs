// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_Clear: ends what the owner made: seeds, proofs, authorisations, objects of the owner and endorsement hierarchies.</summary>
[TpmCommand(CommandCode.Clear, Traits = CommandTraits.Nv | CommandTraits.Extensive | CommandTraits.PhysicalPresence | CommandTraits.NotReadOnly)]
internal static partial class Clear
{
    internal readonly record struct Request([Handle(HandleKind.Clear, Role = AuthorizationRole.User)] TpmHandle AuthHandle);

    internal static TpmResponseCode Execute(CommandContext context, in Request request)
    {
        Tpm tpm = context.Tpm;
        PersistentState state = tpm.Persistent;
        if (state.IsClearDisabled)
        {
            return TpmResponseCode.Disabled;
        }

        tpm.ClearAfterCommand(state.OwnerSeed);
        tpm.ClearAfterCommand(state.OwnerProof);
        tpm.ClearAfterCommand(state.EndorsementProof);
        tpm.ClearAfterCommand(state.OwnerAuth);
        tpm.ClearAfterCommand(state.EndorsementAuth);
        tpm.ClearAfterCommand(state.LockoutAuth);
        state.OwnerSeed = tpm.NewSecret();
        state.OwnerProof = tpm.NewSecret();

        // The endorsement seed stays: the endorsement key is the TPM's identity. What was made with its proof does not.
        state.EndorsementProof = tpm.NewSecret();
        state.OwnerAuth = [];
        state.EndorsementAuth = [];
        state.LockoutAuth = [];
        state.OwnerPolicy = AuthPolicy.None;
        state.EndorsementPolicy = AuthPolicy.None;
        state.LockoutPolicy = AuthPolicy.None;
        state.FailedTries = 0;
        state.IsLockoutAuthEnabled = true;
        state.Clock = 0;
        state.IsClockSafe = true;
        state.ResetCount = 0;
        tpm.ResetState.RestartCount = 0;
        tpm.ResetState.ClearCount = 0;
        tpm.ClearState.IsOwnerEnabled = true;
        tpm.ClearState.IsEndorsementEnabled = true;
        tpm.Objects.RemoveHierarchy(TpmHandle.Owner);
        tpm.Objects.RemoveHierarchy(TpmHandle.Endorsement);
        tpm.Nv.Remove(static i => !i.Has(NvAttributes.PlatformCreate));
        tpm.DictionaryAttack.RestartTimers();
        tpm.ResetState.PcrCounter++;
        tpm.MarkDirty();
        return TpmResponseCode.Success;
    }
}
