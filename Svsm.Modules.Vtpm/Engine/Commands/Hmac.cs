// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Modules.Vtpm.Crypto;
using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_HMAC: the HMAC of a piece of data with a loaded key.</summary>
[TpmCommand(CommandCode.Hmac)]
internal static partial class Hmac
{
    internal readonly record struct Request(
        [Handle(HandleKind.Object, Role = AuthorizationRole.User)] TpmHandle Handle,
        [Size(TpmLimits.MaxBuffer)] ReadOnlyMemory<byte> Buffer,
        [Algorithm(AlgorithmUse.Mac), OrNull] AlgorithmId HashAlg);

    internal readonly record struct Response([Size(TpmLimits.MaxDigest)] ReadOnlyMemory<byte> OutHmac);

    internal static TpmResponseCode Execute(CommandContext context, in Request request, out Response response)
    {
        response = default;
        TpmResponseCode code = Select(context.Tpm, request.Handle, request.HashAlg, At.Handle, At.HashAlg, out KeyObject? key, out AlgorithmId hash);
        if (code != TpmResponseCode.Success)
        {
            return code;
        }

        response = new Response(context.Tpm.Cryptography.Hmac(hash, key!.Secret, request.Buffer.Span));
        return TpmResponseCode.Success;
    }

    /// <summary>The key and the hash algorithm of an HMAC.</summary>
    /// <param name="tpm">The TPM.</param>
    /// <param name="handle">The key's handle.</param>
    /// <param name="wanted">The caller's algorithm, or TPM_ALG_NULL for the key's own.</param>
    /// <param name="atHandle">Where an error of the key is.</param>
    /// <param name="atHash">Where an error of the algorithm is.</param>
    /// <param name="key">The key.</param>
    /// <param name="hash">The algorithm.</param>
    internal static TpmResponseCode Select(
        Tpm tpm, TpmHandle handle, AlgorithmId wanted, ErrorPlace atHandle, ErrorPlace atHash, out KeyObject? key, out AlgorithmId hash)
    {
        hash = wanted;
        key = tpm.Objects.Find(handle) as KeyObject;
        if (key is null || key.Public.Type != AlgorithmId.KeyedHash)
        {
            return TpmResponseCode.Type.At(atHandle);
        }

        AlgorithmId own = key.Public.Parameters.SchemeHash;
        if (own == AlgorithmId.Null ? wanted == AlgorithmId.Null : wanted != AlgorithmId.Null && wanted != own)
        {
            return TpmResponseCode.Value.At(atHash);
        }

        // Data of the TPM's own kind may be in the buffer: a restricted key signs only what the TPM has hashed.
        if (key.Public.Has(ObjectAttributes.Restricted))
        {
            return TpmResponseCode.Attributes.At(atHandle);
        }

        if (!key.Public.Has(ObjectAttributes.Sign))
        {
            return TpmResponseCode.Key.At(atHandle);
        }

        hash = own == AlgorithmId.Null ? wanted : own;
        return TpmResponseCode.Success;
    }
}
