// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_PolicyCounterTimer: time, clock or counters compare so.</summary>
[TpmCommand(CommandCode.PolicyCounterTimer)]
internal static partial class PolicyCounterTimer
{
    internal readonly record struct Request(
        [Handle(HandleKind.PolicySession)] TpmHandle PolicySession,
        [Size(TpmLimits.MaxDigest)] ReadOnlyMemory<byte> OperandB,
        ushort Offset,
        PolicyOperation Operation);

    internal static TpmResponseCode Execute(CommandContext context, in Request request)
    {
        Tpm tpm = context.Tpm;
        Session session = tpm.Sessions.Find(request.PolicySession)!;
        var writer = new TpmWriter(stackalloc byte[32]);
        new TimeInfo(tpm.Time, tpm.ClockInfo()).Write(ref writer);
        if (request.Offset > writer.Length)
        {
            return TpmResponseCode.Value.At(At.Offset);
        }

        if (request.OperandB.Length > writer.Length - request.Offset)
        {
            return TpmResponseCode.Range;
        }

        if (session.Type != SessionType.Trial)
        {
            if (!Policies.Compare(writer.Written.Slice(request.Offset, request.OperandB.Length), request.OperandB.Span, request.Operation))
            {
                return TpmResponseCode.Policy;
            }
        }

        byte[] arguments = Policies.Arguments(tpm, session, request.OperandB.Span, request.Offset, request.Operation);
        Policies.Extend(tpm, session, CommandCode.PolicyCounterTimer, arguments);
        return TpmResponseCode.Success;
    }
}
