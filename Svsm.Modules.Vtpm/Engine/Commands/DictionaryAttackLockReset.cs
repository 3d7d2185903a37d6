// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_DictionaryAttackLockReset: ends a lockout.</summary>
[TpmCommand(CommandCode.DictionaryAttackLockReset, Traits = CommandTraits.Nv)]
internal static partial class DictionaryAttackLockReset
{
    internal readonly record struct Request([Handle(HandleKind.Lockout, Role = AuthorizationRole.User)] TpmHandle LockHandle);

    internal static TpmResponseCode Execute(CommandContext context, in Request request)
    {
        context.Tpm.Persistent.FailedTries = 0;
        context.Tpm.DictionaryAttack.RestartTimers();
        context.Tpm.MarkDirty();
        return TpmResponseCode.Success;
    }
}
