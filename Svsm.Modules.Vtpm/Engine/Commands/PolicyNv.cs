// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_PolicyNV: what is in an NV index compares so.</summary>
[TpmCommand(CommandCode.PolicyNv, Traits = CommandTraits.NvRead)]
internal static partial class PolicyNv
{
    internal readonly record struct Request(
        [Handle(HandleKind.NvAuth, Role = AuthorizationRole.User)] TpmHandle AuthHandle,
        [Handle(HandleKind.NvIndex)] TpmHandle NvIndex,
        [Handle(HandleKind.PolicySession)] TpmHandle PolicySession,
        [Size(TpmLimits.MaxDigest)] ReadOnlyMemory<byte> OperandB,
        ushort Offset,
        PolicyOperation Operation);

    internal static TpmResponseCode Execute(CommandContext context, in Request request)
    {
        Tpm tpm = context.Tpm;
        Session session = tpm.Sessions.Find(request.PolicySession)!;
        NvIndex index = tpm.Nv.Find(request.NvIndex)!;
        if (session.Type != SessionType.Trial)
        {
            TpmResponseCode code = index.CheckRead(request.AuthHandle);
            if (code != TpmResponseCode.Success)
            {
                return code;
            }

            if (request.Offset > index.Data.Length)
            {
                return TpmResponseCode.Value.At(At.Offset);
            }

            if (request.OperandB.Length > index.Data.Length - request.Offset)
            {
                return TpmResponseCode.Size.At(At.OperandB);
            }

            if (!Policies.Compare(index.Data.AsSpan(request.Offset, request.OperandB.Length), request.OperandB.Span, request.Operation))
            {
                return TpmResponseCode.Policy;
            }
        }

        byte[] arguments = Policies.Arguments(tpm, session, request.OperandB.Span, request.Offset, request.Operation);
        Policies.Extend(tpm, session, CommandCode.PolicyNv, arguments, context.Names[1]);
        return TpmResponseCode.Success;
    }
}
