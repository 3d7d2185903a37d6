// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_PolicySecret: somebody knows the authValue of an entity.</summary>
[TpmCommand(CommandCode.PolicySecret, Traits = CommandTraits.NvRead | CommandTraits.NoPinReadOnly)]
internal static partial class PolicySecret
{
    internal readonly record struct Request(
        [Handle(HandleKind.Entity, Role = AuthorizationRole.User)] TpmHandle AuthHandle,
        [Handle(HandleKind.PolicySession)] TpmHandle PolicySession,
        [Size(TpmLimits.MaxDigest)] ReadOnlyMemory<byte> NonceTpm,
        [Size(TpmLimits.MaxDigest)] ReadOnlyMemory<byte> CpHashA,
        [Size(TpmLimits.MaxDigest)] ReadOnlyMemory<byte> PolicyRef,
        uint Expiration);

    internal readonly record struct Response([Size(sizeof(ulong))] byte[] Timeout, Ticket PolicyTicket);

    internal static TpmResponseCode Execute(CommandContext context, in Request request, out Response response)
    {
        Tpm tpm = context.Tpm;
        response = default;
        Session session = tpm.Sessions.Find(request.PolicySession)!;
        int expiration = (int)request.Expiration;
        ulong timeout = 0;
        if (session.Type != SessionType.Trial)
        {
            timeout = Policies.Timeout(session, expiration, request.NonceTpm.Span);
            TpmResponseCode code = Policies.Check(
                tpm, session, timeout, request.CpHashA.Span, request.NonceTpm.Span, (At.Expiration, At.CpHashA, At.NonceTpm));
            if (code != TpmResponseCode.Success)
            {
                return code;
            }
        }

        byte[] name = context.Names[0];
        Policies.Authorize(tpm, session, CommandCode.PolicySecret, name, request.PolicyRef, request.CpHashA.Span, timeout);

        // Each use of a PIN that is counted has to be counted: no ticket stands for it.
        bool isCounted = tpm.Nv.Find(request.AuthHandle)?.Type == NvType.PinPass;
        (byte[] bytes, Ticket ticket) = Policies.Ticket(
            tpm,
            session,
            StructureTag.AuthSecret,
            Entities.Hierarchy(tpm, request.AuthHandle),
            isCounted ? 0 : expiration,
            timeout,
            request.NonceTpm.Span,
            request.CpHashA.Span,
            request.PolicyRef.Span,
            name);
        response = new Response(bytes, ticket);
        return TpmResponseCode.Success;
    }
}
