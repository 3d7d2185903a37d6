// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Modules.Vtpm.Crypto;
using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_RSA_Encrypt: encrypts with the public part of an RSA key.</summary>
[TpmCommand(CommandCode.RsaEncrypt)]
internal static partial class RsaEncrypt
{
    internal readonly record struct Request(
        [Handle(HandleKind.Object)] TpmHandle KeyHandle,
        [Size(TpmLimits.MaxRsaKey)] ReadOnlyMemory<byte> Message,
        [OrNull] RsaDecryptScheme InScheme,
        [Size(TpmLimits.MaxData)] ReadOnlyMemory<byte> Label);

    internal readonly record struct Response([Size(TpmLimits.MaxRsaKey)] byte[] OutData);

    internal static TpmResponseCode Execute(CommandContext context, in Request request, out Response response)
    {
        Tpm tpm = context.Tpm;
        response = default;
        if (tpm.Objects.Find(request.KeyHandle) is not KeyObject key || key.Public.Type != AlgorithmId.Rsa)
        {
            return TpmResponseCode.Key.At(At.KeyHandle);
        }

        if (!key.Public.Has(ObjectAttributes.Decrypt))
        {
            return TpmResponseCode.Attributes.At(At.KeyHandle);
        }

        if (!IsLabel(request.Label.Span))
        {
            return TpmResponseCode.Value.At(At.Label);
        }

        if (!TrySelectScheme(key, request.InScheme.Scheme, out AsymmetricScheme scheme))
        {
            return TpmResponseCode.Scheme.At(At.InScheme);
        }

        int size = key.Public.Unique.Length;
        byte[]? block = scheme.Scheme switch
        {
            AlgorithmId.Oaep => RsaPadding.EncodeOaep(tpm.Cryptography, scheme.Hash, request.Label.Span, request.Message.Span, size, tpm.Random),
            AlgorithmId.RsaEs => RsaPadding.EncodeEs(request.Message.Span, size, tpm.Random),
            _ => request.Message.ToArray(),
        };
        byte[]? result = block is null ? null : RsaPublicKey.Apply(key.Public, block);
        if (result is null)
        {
            return TpmResponseCode.Value;
        }

        response = new Response(result);
        return TpmResponseCode.Success;
    }

    /// <summary>Whether a label is empty or ends with a zero.</summary>
    internal static bool IsLabel(ReadOnlySpan<byte> label) => label.IsEmpty || label[^1] == 0;

    /// <summary>The scheme of an encryption: the key's, or the caller's where the key has none; both have to agree.</summary>
    internal static bool TrySelectScheme(KeyObject key, in AsymmetricScheme given, out AsymmetricScheme scheme)
    {
        AsymmetricScheme own = key.Public.Parameters.KeyScheme;
        scheme = own.Scheme == AlgorithmId.Null ? given : own;
        return given.Scheme == AlgorithmId.Null || (scheme.Scheme == given.Scheme && scheme.Hash == given.Hash);
    }
}
