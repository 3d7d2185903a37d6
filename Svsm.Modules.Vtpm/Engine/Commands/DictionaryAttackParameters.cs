// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_DictionaryAttackParameters: how many failures are allowed and how fast they are forgotten.</summary>
[TpmCommand(CommandCode.DictionaryAttackParameters, Traits = CommandTraits.Nv | CommandTraits.NotReadOnly)]
internal static partial class DictionaryAttackParameters
{
    internal readonly record struct Request(
        [Handle(HandleKind.Lockout, Role = AuthorizationRole.User)] TpmHandle LockHandle,
        uint NewMaxTries,
        uint NewRecoveryTime,
        uint LockoutRecovery);

    internal static TpmResponseCode Execute(CommandContext context, in Request request)
    {
        PersistentState state = context.Tpm.Persistent;
        state.MaxTries = request.NewMaxTries;
        state.RecoveryTime = request.NewRecoveryTime;
        state.LockoutRecovery = request.LockoutRecovery;

        // With new parameters the count begins anew.
        state.FailedTries = 0;
        context.Tpm.DictionaryAttack.RestartTimers();
        context.Tpm.MarkDirty();
        return TpmResponseCode.Success;
    }
}
