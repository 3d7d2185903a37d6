// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Modules.Vtpm.Crypto;
using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_MAC, which has the code of TPM2_HMAC: the HMAC or CMAC of a piece of data with a loaded key.</summary>
[TpmCommand(CommandCode.Hmac)]
internal static partial class Hmac
{
    internal readonly record struct Request(
        [Handle(HandleKind.Object, Role = AuthorizationRole.User)] TpmHandle Handle,
        [Size(TpmLimits.MaxBuffer)] ReadOnlyMemory<byte> Buffer,
        [Algorithm(AlgorithmUse.Mac), OrNull] AlgorithmId InScheme);

    internal readonly record struct Response([Size(TpmLimits.MaxDigest)] ReadOnlyMemory<byte> OutMac);

    internal static TpmResponseCode Execute(CommandContext context, in Request request, out Response response)
    {
        response = default;
        TpmResponseCode code = Select(context.Tpm, request.Handle, request.InScheme, At.Handle, At.InScheme, out KeyObject? key, out AlgorithmId mac);
        if (code != TpmResponseCode.Success)
        {
            return code;
        }

        IHashState state = StartMac(context.Tpm.Cryptography, key!, mac);
        state.Update(request.Buffer.Span);
        response = new Response(state.Finish());
        return TpmResponseCode.Success;
    }

    /// <summary>Begins a MAC.</summary>
    /// <param name="cryptography">The primitives.</param>
    /// <param name="key">The key.</param>
    /// <param name="mac">The algorithm, from <see cref="Select"/>.</param>
    internal static IHashState StartMac(ICryptography cryptography, KeyObject key, AlgorithmId mac)
        => mac == AlgorithmId.Cmac ? new Cmac(cryptography, key.Secret) : cryptography.StartHmac(mac, key.Secret);

    /// <summary>The key and the algorithm of a MAC: the hash of an HMAC, or TPM_ALG_CMAC for a cipher's key.</summary>
    /// <param name="tpm">The TPM.</param>
    /// <param name="handle">The key's handle.</param>
    /// <param name="wanted">The caller's algorithm, or TPM_ALG_NULL for the key's own.</param>
    /// <param name="atHandle">Where an error of the key is.</param>
    /// <param name="atScheme">Where an error of the algorithm is.</param>
    /// <param name="key">The key.</param>
    /// <param name="mac">The algorithm.</param>
    internal static TpmResponseCode Select(
        Tpm tpm, TpmHandle handle, AlgorithmId wanted, ErrorPlace atHandle, ErrorPlace atScheme, out KeyObject? key, out AlgorithmId mac)
    {
        mac = wanted;
        key = tpm.Objects.Find(handle) as KeyObject;
        if (key is null || key.Public.Type is not (AlgorithmId.KeyedHash or AlgorithmId.SymmetricCipher))
        {
            return TpmResponseCode.Type.At(atHandle);
        }

        bool isCipher = key.Public.Type == AlgorithmId.SymmetricCipher;
        AlgorithmId own = isCipher ? key.Public.Parameters.Symmetric.Mode : key.Public.Parameters.SchemeHash;
        mac = wanted == AlgorithmId.Null ? own : wanted;
        if (mac == AlgorithmId.Null || (own != AlgorithmId.Null && own != mac))
        {
            return TpmResponseCode.Value.At(atScheme);
        }

        if (isCipher != (mac == AlgorithmId.Cmac))
        {
            return TpmResponseCode.Scheme.At(atScheme);
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

        return TpmResponseCode.Success;
    }
}
