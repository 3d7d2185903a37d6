// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_NV_DefineSpace2: makes an NV index whose kind of handle is said too.</summary>
[TpmCommand(CommandCode.NvDefineSpace2, Traits = CommandTraits.Nv | CommandTraits.PhysicalPresence | CommandTraits.NotReadOnly)]
internal static partial class NvDefineSpace2
{
    internal readonly record struct Request(
        [Handle(HandleKind.Provision, Role = AuthorizationRole.User)] TpmHandle AuthHandle,
        [Size(TpmLimits.MaxDigest)] ReadOnlyMemory<byte> Auth,
        [Sized] NvPublic2 PublicInfo);

    internal static TpmResponseCode Execute(CommandContext context, in Request request)
        => NvDefineSpace.Define(context.Tpm, request.AuthHandle, request.Auth.Span, request.PublicInfo.Area, At.AuthHandle, At.Auth, At.PublicInfo);
}
