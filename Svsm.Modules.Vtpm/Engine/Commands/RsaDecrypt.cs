// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Security.Cryptography;
using Svsm.Modules.Vtpm.Crypto;
using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_RSA_Decrypt: decrypts with an RSA key.</summary>
[TpmCommand(CommandCode.RsaDecrypt)]
internal static partial class RsaDecrypt
{
    internal readonly record struct Request(
        [Handle(HandleKind.Object, Role = AuthorizationRole.User)] TpmHandle KeyHandle,
        [Size(TpmLimits.MaxRsaKey)] ReadOnlyMemory<byte> CipherText,
        [OrNull] RsaDecryptScheme InScheme,
        [Size(TpmLimits.MaxData)] ReadOnlyMemory<byte> Label);

    internal readonly record struct Response([Size(TpmLimits.MaxRsaKey)] byte[] Message);

    internal static TpmResponseCode Execute(CommandContext context, in Request request, out Response response)
    {
        Tpm tpm = context.Tpm;
        response = default;
        if (tpm.Objects.Find(request.KeyHandle) is not KeyObject key || key.Public.Type != AlgorithmId.Rsa)
        {
            return TpmResponseCode.Key.At(At.KeyHandle);
        }

        if (key.Public.Has(ObjectAttributes.Restricted) || !key.Public.Has(ObjectAttributes.Decrypt))
        {
            return TpmResponseCode.Attributes.At(At.KeyHandle);
        }

        if (!RsaEncrypt.IsLabel(request.Label.Span))
        {
            return TpmResponseCode.Value.At(At.Label);
        }

        if (!RsaEncrypt.TrySelectScheme(key, request.InScheme.Scheme, out AsymmetricScheme scheme))
        {
            return TpmResponseCode.Scheme.At(At.InScheme);
        }

        if (request.CipherText.Length != key.Public.Unique.Length)
        {
            return TpmResponseCode.Size;
        }

        TpmResponseCode code = SecretExchange.PrivateOperation(tpm, key, request.CipherText.Span, out byte[] block);
        if (code != TpmResponseCode.Success)
        {
            return code;
        }

        byte[]? message = scheme.Scheme switch
        {
            AlgorithmId.Oaep => RsaPadding.DecodeOaep(tpm.Cryptography, scheme.Hash, request.Label.Span, block),
            AlgorithmId.RsaEs => RsaPadding.DecodeEs(block),
            _ => block,
        };
        if (message != block)
        {
            CryptographicOperations.ZeroMemory(block);
        }

        if (message is null)
        {
            return TpmResponseCode.Value;
        }

        tpm.ClearAfterCommand(message);
        response = new Response(message);
        return TpmResponseCode.Success;
    }
}
