// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using Svsm.Modules.Vtpm.Crypto;
using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_PolicySigned: whoever has a key has signed an authorisation.</summary>
[TpmCommand(CommandCode.PolicySigned)]
internal static partial class PolicySigned
{
    internal readonly record struct Request(
        [Handle(HandleKind.Object)] TpmHandle AuthObject,
        [Handle(HandleKind.PolicySession)] TpmHandle PolicySession,
        [Size(TpmLimits.MaxDigest)] ReadOnlyMemory<byte> NonceTpm,
        [Size(TpmLimits.MaxDigest)] ReadOnlyMemory<byte> CpHashA,
        [Size(TpmLimits.MaxDigest)] ReadOnlyMemory<byte> PolicyRef,
        uint Expiration,
        Signature Auth);

    internal readonly record struct Response([Size(sizeof(ulong))] byte[] Timeout, Ticket PolicyTicket);

    internal static TpmResponseCode Execute(CommandContext context, in Request request, out Response response)
    {
        Tpm tpm = context.Tpm;
        response = default;
        Session session = tpm.Sessions.Find(request.PolicySession)!;
        if (tpm.Objects.Find(request.AuthObject) is not KeyObject key)
        {
            return TpmResponseCode.Scheme.At(At.Auth);
        }

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

            var seconds = new byte[sizeof(uint)];
            BinaryPrimitives.WriteUInt32BigEndian(seconds, request.Expiration);
            byte[] signed = tpm.Cryptography.Hash(
                request.Auth.Hash, [.. request.NonceTpm.Span, .. seconds, .. request.CpHashA.Span, .. request.PolicyRef.Span]);
            code = Signing.Verify(tpm, key, signed, request.Auth);
            if (code != TpmResponseCode.Success)
            {
                return code.At(At.Auth);
            }
        }

        Policies.Authorize(tpm, session, CommandCode.PolicySigned, key.Name, request.PolicyRef, request.CpHashA.Span, timeout);
        (byte[] bytes, Ticket ticket) = Policies.Ticket(
            tpm,
            session,
            StructureTag.AuthSigned,
            key.Hierarchy,
            expiration,
            timeout,
            request.NonceTpm.Span,
            request.CpHashA.Span,
            request.PolicyRef.Span,
            key.Name);
        response = new Response(bytes, ticket);
        return TpmResponseCode.Success;
    }
}
