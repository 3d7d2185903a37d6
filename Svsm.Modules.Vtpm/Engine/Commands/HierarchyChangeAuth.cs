// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Modules.Vtpm.Crypto;
using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_HierarchyChangeAuth: sets the authValue of a hierarchy or of lockout.</summary>
[TpmCommand(CommandCode.HierarchyChangeAuth, Traits = CommandTraits.Nv | CommandTraits.PhysicalPresence | CommandTraits.NotReadOnly)]
internal static partial class HierarchyChangeAuth
{
    internal readonly record struct Request(
        [Handle(HandleKind.HierarchyAuth, Role = AuthorizationRole.User)] TpmHandle AuthHandle,
        [Size(TpmLimits.MaxDigest)] ReadOnlyMemory<byte> NewAuth);

    internal static TpmResponseCode Execute(CommandContext context, in Request request)
    {
        ReadOnlySpan<byte> auth = TpmCryptography.TrimAuth(request.NewAuth.Span);

        // Not longer than the digest with which proofs and tickets are made.
        if (auth.Length > Algorithms.DigestSize(Tickets.Hash))
        {
            return TpmResponseCode.Size.At(At.NewAuth);
        }

        context.Tpm.Hierarchies.SetAuth(request.AuthHandle, auth.ToArray());
        return TpmResponseCode.Success;
    }
}
