// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using Svsm.Modules.Vtpm.Crypto;
using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_PolicyAuthorizeNV: an NV index has the policy that was stated so far.</summary>
[TpmCommand(CommandCode.PolicyAuthorizeNv, Traits = CommandTraits.NvRead)]
internal static partial class PolicyAuthorizeNv
{
    internal readonly record struct Request(
        [Handle(HandleKind.NvAuth, Role = AuthorizationRole.User)] TpmHandle AuthHandle,
        [Handle(HandleKind.NvIndex)] TpmHandle NvIndex,
        [Handle(HandleKind.PolicySession)] TpmHandle PolicySession);

    internal static TpmResponseCode Execute(CommandContext context, in Request request)
    {
        Tpm tpm = context.Tpm;
        Session session = tpm.Sessions.Find(request.PolicySession)!;
        if (session.Type != SessionType.Trial)
        {
            NvIndex index = tpm.Nv.Find(request.NvIndex)!;
            TpmResponseCode code = index.CheckRead(request.AuthHandle);
            if (code != TpmResponseCode.Success)
            {
                return code;
            }

            // What follows the policy in the index does not matter.
            var reader = new TpmReader(index.Data);
            if ((code = HashValue.Read(ref reader, out HashValue policy)) != TpmResponseCode.Success)
            {
                return code;
            }

            if (policy.Algorithm != session.Hash)
            {
                return TpmResponseCode.Hash;
            }

            if (!TpmCryptography.AreEqual(policy.Digest.Span, session.Policy.Digest))
            {
                return TpmResponseCode.Value;
            }
        }

        Policies.Reset(session);
        Policies.Extend(tpm, session, CommandCode.PolicyAuthorizeNv, context.Names[1]);
        return TpmResponseCode.Success;
    }
}
