// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_PolicyCapability: a capability of the TPM compares so.</summary>
[TpmCommand(CommandCode.PolicyCapability)]
internal static partial class PolicyCapability
{
    internal readonly record struct Request(
        [Handle(HandleKind.PolicySession)] TpmHandle PolicySession,
        [Size(TpmLimits.MaxDigest)] ReadOnlyMemory<byte> OperandB,
        ushort Offset,
        PolicyOperation Operation,
        Capability Capability,
        uint Property);

    internal static TpmResponseCode Execute(CommandContext context, in Request request)
    {
        Tpm tpm = context.Tpm;
        Session session = tpm.Sessions.Find(request.PolicySession)!;
        if (session.Type != SessionType.Trial)
        {
            // The first item of the list that TPM2_GetCapability gives, if it is the one that was asked for.
            byte[]? item = GetCapability.Item(tpm, request.Capability, request.Property);
            if (item is null)
            {
                return TpmResponseCode.Value.At(At.Property);
            }

            if (request.Offset > item.Length)
            {
                return TpmResponseCode.Value.At(At.Offset);
            }

            if (request.OperandB.Length > item.Length - request.Offset)
            {
                return TpmResponseCode.Size.At(At.OperandB);
            }

            if (!Policies.Compare(item.AsSpan(request.Offset, request.OperandB.Length), request.OperandB.Span, request.Operation))
            {
                return TpmResponseCode.Policy;
            }
        }

        byte[] arguments = Policies.Arguments(
            tpm, session, request.OperandB.Span, request.Offset, request.Operation, (uint)request.Capability, request.Property);
        Policies.Extend(tpm, session, CommandCode.PolicyCapability, arguments);
        return TpmResponseCode.Success;
    }
}
