// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Modules.Vtpm.Crypto;
using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_PolicyDuplicationSelect: the policy is good for duplication to one new parent.</summary>
[TpmCommand(CommandCode.PolicyDuplicationSelect)]
internal static partial class PolicyDuplicationSelect
{
    internal readonly record struct Request(
        [Handle(HandleKind.PolicySession)] TpmHandle PolicySession,
        [Size(TpmLimits.MaxData)] ReadOnlyMemory<byte> ObjectName,
        [Size(TpmLimits.MaxData)] ReadOnlyMemory<byte> NewParentName,
        bool IncludeObject);

    internal static TpmResponseCode Execute(CommandContext context, in Request request)
    {
        Tpm tpm = context.Tpm;
        Session session = tpm.Sessions.Find(request.PolicySession)!;
        if (session.Policy.Binding != PolicyBinding.None)
        {
            return TpmResponseCode.CpHash;
        }

        if (session.Policy.Command != 0)
        {
            return TpmResponseCode.CommandCode;
        }

        byte[] names = tpm.Cryptography.Hash(session.Hash, [.. request.ObjectName.Span, .. request.NewParentName.Span]);
        Policies.Bind(session, PolicyBinding.Names, names);
        session.Policy.Command = (uint)CommandCode.Duplicate;
        Policies.Extend(
            tpm,
            session,
            CommandCode.PolicyDuplicationSelect,
            request.IncludeObject ? request.ObjectName : default,
            request.NewParentName,
            new[] { request.IncludeObject ? (byte)1 : (byte)0 });
        return TpmResponseCode.Success;
    }
}
