// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_SetPrimaryPolicy: sets the policy of a hierarchy or of lockout.</summary>
[TpmCommand(CommandCode.SetPrimaryPolicy, Traits = CommandTraits.Nv | CommandTraits.PhysicalPresence | CommandTraits.NotReadOnly)]
internal static partial class SetPrimaryPolicy
{
    internal readonly record struct Request(
        [Handle(HandleKind.HierarchyPolicy, Role = AuthorizationRole.User)] TpmHandle AuthHandle,
        [Size(TpmLimits.MaxDigest)] byte[] AuthPolicy,
        [Algorithm(AlgorithmUse.Hash), OrNull] AlgorithmId HashAlg);

    internal static TpmResponseCode Execute(CommandContext context, in Request request)
    {
        if (request.AuthPolicy.Length != Algorithms.DigestSize(request.HashAlg))
        {
            return TpmResponseCode.Size.At(At.AuthPolicy);
        }

        context.Tpm.Hierarchies.SetPolicy(request.AuthHandle, new AuthPolicy(request.HashAlg, request.AuthPolicy));
        return TpmResponseCode.Success;
    }
}
