// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Modules.Vtpm.Crypto;
using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_MakeCredential: encrypts a secret so that only the TPM with a key pair and an object of a given Name can read it.</summary>
[TpmCommand(CommandCode.MakeCredential)]
internal static partial class MakeCredential
{
    internal readonly record struct Request(
        [Handle(HandleKind.Object)] TpmHandle Handle,
        [Size(TpmLimits.MaxDigest)] ReadOnlyMemory<byte> Credential,
        [Size(TpmLimits.MaxData)] ReadOnlyMemory<byte> ObjectName);

    internal readonly record struct Response([Size(TpmLimits.MaxCredential)] byte[] CredentialBlob, [Size(TpmLimits.MaxEncryptedSecret)] byte[] Secret);

    internal static TpmResponseCode Execute(CommandContext context, in Request request, out Response response)
    {
        Tpm tpm = context.Tpm;
        response = default;
        if (tpm.Objects.Find(request.Handle) is not KeyObject key || !ActivateCredential.CanProtect(key))
        {
            return TpmResponseCode.Type.At(At.Handle);
        }

        if (request.Credential.Length > Algorithms.DigestSize(key.Public.NameHash))
        {
            return TpmResponseCode.Size.At(At.Credential);
        }

        TpmResponseCode code = SecretExchange.Encrypt(tpm, key.Public, SecretExchange.Identity, out byte[] seed, out byte[] secret);
        if (code != TpmResponseCode.Success)
        {
            return code;
        }

        byte[] blob = ObjectProtection.WrapOuter(
            tpm.Cryptography, key.Public, seed, request.ObjectName.Span, [], ObjectProtection.TwoB(request.Credential.Span));
        seed.AsSpan().Clear();
        response = new Response(blob, secret);
        return TpmResponseCode.Success;
    }
}
