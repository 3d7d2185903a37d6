// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_Unseal: the data in a sealed data object.</summary>
[TpmCommand(CommandCode.Unseal)]
internal static partial class Unseal
{
    private const ObjectAttributes NotSealed = ObjectAttributes.Decrypt | ObjectAttributes.Sign | ObjectAttributes.Restricted;

    internal readonly record struct Request([Handle(HandleKind.Object, Role = AuthorizationRole.User)] TpmHandle ItemHandle);

    internal readonly record struct Response([Size(TpmLimits.MaxSensitiveData)] ReadOnlyMemory<byte> OutData);

    internal static TpmResponseCode Execute(CommandContext context, in Request request, out Response response)
    {
        response = default;
        if (context.Tpm.Objects.Find(request.ItemHandle) is not KeyObject found || found.Public.Type != AlgorithmId.KeyedHash)
        {
            return TpmResponseCode.Type.At(At.ItemHandle);
        }

        if (found.Public.Has(NotSealed))
        {
            return TpmResponseCode.Attributes.At(At.ItemHandle);
        }

        response = new Response(found.Secret);
        return TpmResponseCode.Success;
    }
}
