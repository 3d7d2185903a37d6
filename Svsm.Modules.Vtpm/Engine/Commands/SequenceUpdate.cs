// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_SequenceUpdate: adds data to a sequence.</summary>
[TpmCommand(CommandCode.SequenceUpdate)]
internal static partial class SequenceUpdate
{
    internal readonly record struct Request(
        [Handle(HandleKind.Object, Role = AuthorizationRole.User)] TpmHandle SequenceHandle,
        [Size(TpmLimits.MaxBuffer)] ReadOnlyMemory<byte> Buffer);

    internal static TpmResponseCode Execute(CommandContext context, in Request request)
    {
        if (context.Tpm.Objects.Find(request.SequenceHandle) is not SequenceObject sequence)
        {
            return TpmResponseCode.Mode.At(At.SequenceHandle);
        }

        sequence.Update(request.Buffer.Span);
        return TpmResponseCode.Success;
    }
}
