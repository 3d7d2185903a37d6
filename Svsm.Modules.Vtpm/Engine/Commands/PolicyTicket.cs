// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Modules.Vtpm.Crypto;
using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_PolicyTicket: an authorisation that was given before, and has not expired.</summary>
[TpmCommand(CommandCode.PolicyTicket)]
internal static partial class PolicyTicket
{
    internal readonly record struct Request(
        [Handle(HandleKind.PolicySession)] TpmHandle PolicySession,
        [Size(sizeof(ulong))] ReadOnlyMemory<byte> Timeout,
        [Size(TpmLimits.MaxDigest)] ReadOnlyMemory<byte> CpHashA,
        [Size(TpmLimits.MaxDigest)] ReadOnlyMemory<byte> PolicyRef,
        [Size(TpmLimits.MaxData)] ReadOnlyMemory<byte> AuthName,
        Ticket Ticket);

    internal static TpmResponseCode Execute(CommandContext context, in Request request)
    {
        Tpm tpm = context.Tpm;
        Session session = tpm.Sessions.Find(request.PolicySession)!;
        if (request.Ticket.Tag is not (StructureTag.AuthSigned or StructureTag.AuthSecret))
        {
            return TpmResponseCode.Tag.At(At.Ticket);
        }

        if (session.Type == SessionType.Trial)
        {
            return TpmResponseCode.Attributes.At(At.PolicySession);
        }

        if (request.Timeout.Length != sizeof(ulong))
        {
            return TpmResponseCode.Size.At(At.Timeout);
        }

        ulong withFlag = System.Buffers.Binary.BinaryPrimitives.ReadUInt64BigEndian(request.Timeout.Span);
        ulong timeout = withFlag & ~Policies.ExpiresOnReset;
        TpmResponseCode code = Policies.Check(tpm, session, timeout, request.CpHashA.Span, default, (At.Timeout, At.CpHashA, default));
        if (code != TpmResponseCode.Success)
        {
            return code;
        }

        Ticket right = Tickets.Authorization(
            tpm, request.Ticket.Tag, request.Ticket.Hierarchy, withFlag, request.CpHashA.Span, request.PolicyRef.Span, request.AuthName.Span);
        if (!TpmCryptography.AreEqual(right.Digest.Span, request.Ticket.Digest.Span))
        {
            return TpmResponseCode.Ticket.At(At.Ticket);
        }

        Policies.Authorize(
            tpm,
            session,
            request.Ticket.Tag == StructureTag.AuthSecret ? CommandCode.PolicySecret : CommandCode.PolicySigned,
            request.AuthName,
            request.PolicyRef,
            request.CpHashA.Span,
            timeout);
        return TpmResponseCode.Success;
    }
}
