// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_SetCapability: sets a capability. None of this TPM's can be set.</summary>
[TpmCommand(CommandCode.SetCapability, Traits = CommandTraits.NotReadOnly)]
internal static partial class SetCapability
{
    internal readonly record struct Request(
        [Handle(HandleKind.Hierarchy, Role = AuthorizationRole.User)] TpmHandle AuthHandle,
        [Size(TpmLimits.MaxBuffer)] ReadOnlyMemory<byte> SetCapabilityData);

    internal static TpmResponseCode Execute(CommandContext context, in Request request)
    {
        var reader = new TpmReader(request.SetCapabilityData);
        return (reader.ReadUInt32(out _) == TpmResponseCode.Success ? TpmResponseCode.Value : TpmResponseCode.Insufficient).At(At.SetCapabilityData);
    }
}
