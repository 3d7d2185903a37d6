// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Modules.Vtpm.Crypto;
using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_NV_ChangeAuth: a new authValue for an NV index.</summary>
[TpmCommand(CommandCode.NvChangeAuth, Traits = CommandTraits.Nv | CommandTraits.NotReadOnly)]
internal static partial class NvChangeAuth
{
    internal readonly record struct Request(
        [Handle(HandleKind.NvIndex, Role = AuthorizationRole.Admin)] TpmHandle NvIndex,
        [Size(TpmLimits.MaxDigest)] ReadOnlyMemory<byte> NewAuth);

    internal static TpmResponseCode Execute(CommandContext context, in Request request)
    {
        NvIndex index = context.Tpm.Nv.Find(request.NvIndex)!;
        ReadOnlySpan<byte> auth = TpmCryptography.TrimAuth(request.NewAuth.Span);
        if (auth.Length > Algorithms.DigestSize(index.Public.NameHash))
        {
            return TpmResponseCode.Size.At(At.NewAuth);
        }

        context.Tpm.ClearAfterCommand(index.Auth);
        index.Auth = auth.ToArray();
        context.Tpm.MarkDirty();
        return TpmResponseCode.Success;
    }
}
