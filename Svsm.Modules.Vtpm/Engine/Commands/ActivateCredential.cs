// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Modules.Vtpm.Crypto;
using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_ActivateCredential: the secret that TPM2_MakeCredential encrypted, if the object it was made for is loaded.</summary>
[TpmCommand(CommandCode.ActivateCredential)]
internal static partial class ActivateCredential
{
    internal readonly record struct Request(
        [Handle(HandleKind.Object, Role = AuthorizationRole.Admin)] TpmHandle ActivateHandle,
        [Handle(HandleKind.Object, Role = AuthorizationRole.User)] TpmHandle KeyHandle,
        [Size(TpmLimits.MaxCredential)] ReadOnlyMemory<byte> CredentialBlob,
        [Size(TpmLimits.MaxEncryptedSecret)] ReadOnlyMemory<byte> Secret);

    internal readonly record struct Response([Size(TpmLimits.MaxDigest)] ReadOnlyMemory<byte> CertInfo);

    internal static TpmResponseCode Execute(CommandContext context, in Request request, out Response response)
    {
        Tpm tpm = context.Tpm;
        response = default;
        if (tpm.Objects.Find(request.KeyHandle) is not KeyObject key || !CanProtect(key))
        {
            return TpmResponseCode.Type.At(At.KeyHandle);
        }

        TpmResponseCode code = SecretExchange.Decrypt(tpm, key, SecretExchange.Identity, request.Secret, [], out byte[] seed);
        if (code != TpmResponseCode.Success)
        {
            return code.At(At.Secret);
        }

        byte[] name = tpm.Objects.Find(request.ActivateHandle)!.Name;
        code = ObjectProtection.UnwrapOuter(tpm.Cryptography, key.Public, seed, name, hasIv: false, request.CredentialBlob, out byte[] data);
        seed.AsSpan().Clear();
        var reader = new TpmReader(data);
        ReadOnlyMemory<byte> credential = default;
        if (code == TpmResponseCode.Success && (code = reader.ReadSized(TpmLimits.MaxDigest, out credential)) == TpmResponseCode.Success && reader.Remaining != 0)
        {
            code = TpmResponseCode.Size;
        }

        response = new Response(credential);
        return code.At(At.CredentialBlob);
    }

    /// <summary>Whether a key is an asymmetric storage key: it can protect credentials.</summary>
    internal static bool CanProtect(KeyObject key)
        => key.Public.Parameters.IsAsymmetric && key.Public.Has(ObjectAttributes.Decrypt) && key.Public.Has(ObjectAttributes.Restricted)
            && key.Public.Parameters.Symmetric.Algorithm != AlgorithmId.Null;
}
