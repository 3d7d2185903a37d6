// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Modules.Vtpm.Crypto;
using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_MAC_Start, which has the code of TPM2_HMAC_Start: begins an HMAC or CMAC sequence with a loaded key.</summary>
[TpmCommand(CommandCode.HmacStart)]
internal static partial class HmacStart
{
    internal readonly record struct Request(
        [Handle(HandleKind.Object, Role = AuthorizationRole.User)] TpmHandle Handle,
        [Size(TpmLimits.MaxDigest)] ReadOnlyMemory<byte> Auth,
        [Algorithm(AlgorithmUse.Mac), OrNull] AlgorithmId InScheme);

    internal readonly record struct Response([Handle(HandleKind.Object)] TpmHandle SequenceHandle);

    internal static TpmResponseCode Execute(CommandContext context, in Request request, out Response response)
    {
        Tpm tpm = context.Tpm;
        response = default;
        TpmResponseCode code = Hmac.Select(tpm, request.Handle, request.InScheme, At.Handle, At.InScheme, out KeyObject? key, out AlgorithmId mac);
        if (code != TpmResponseCode.Success)
        {
            return code;
        }

        var sequence = new SequenceObject(SequenceKind.Mac, Hmac.StartMac(tpm.Cryptography, key!, mac))
        {
            Algorithm = mac,
            Auth = TpmCryptography.TrimAuth(request.Auth.Span).ToArray(),
        };
        code = tpm.Objects.Add(sequence, out TpmHandle handle);
        response = new Response(handle);
        return code;
    }
}
