// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Modules.Vtpm.Crypto;
using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_EncryptDecrypt: AES with a loaded key; its data cannot be encrypted by a session.</summary>
[TpmCommand(CommandCode.EncryptDecrypt)]
internal static partial class EncryptDecrypt
{
    private const int BlockSize = 16;

    internal readonly record struct Request(
        [Handle(HandleKind.Object, Role = AuthorizationRole.User)] TpmHandle KeyHandle,
        bool Decrypt,
        [Algorithm(AlgorithmUse.CipherMode), OrNull] AlgorithmId Mode,
        [Size(BlockSize)] ReadOnlyMemory<byte> IvIn,
        [Size(TpmLimits.MaxBuffer)] ReadOnlyMemory<byte> InData);

    internal readonly record struct Response([Size(TpmLimits.MaxBuffer)] byte[] OutData, [Size(BlockSize)] byte[] IvOut);

    internal static TpmResponseCode Execute(CommandContext context, in Request request, out Response response)
    {
        Places places = new(At.KeyHandle, At.Mode, At.IvIn, At.InData);
        TpmResponseCode code = Transform(
            context.Tpm, request.KeyHandle, request.Decrypt, request.Mode, request.IvIn, request.InData, places, out byte[] data, out byte[] iv);
        response = new Response(data, iv);
        return code;
    }

    /// <summary>What both commands do.</summary>
    internal static TpmResponseCode Transform(
        Tpm tpm,
        TpmHandle handle,
        bool decrypt,
        AlgorithmId wanted,
        ReadOnlyMemory<byte> ivIn,
        ReadOnlyMemory<byte> input,
        in Places at,
        out byte[] data,
        out byte[] iv)
    {
        data = [];
        iv = [];
        if (tpm.Objects.Find(handle) is not KeyObject { IsPublicOnly: false } key || key.Public.Type != AlgorithmId.SymmetricCipher)
        {
            return TpmResponseCode.Key.At(at.Key);
        }

        if (key.Public.Has(ObjectAttributes.Restricted) || !key.Public.Has(decrypt ? ObjectAttributes.Decrypt : ObjectAttributes.Sign))
        {
            return TpmResponseCode.Attributes.At(at.Key);
        }

        AlgorithmId own = key.Public.Parameters.Symmetric.Mode;
        if (own == AlgorithmId.Cmac)
        {
            return TpmResponseCode.Mode.At(at.Key);
        }

        AlgorithmId mode = own == AlgorithmId.Null ? wanted : own;
        if (mode == AlgorithmId.Null || (wanted != AlgorithmId.Null && wanted != mode))
        {
            return TpmResponseCode.Mode.At(at.Mode);
        }

        if (ivIn.Length != (mode == AlgorithmId.CodeBook ? 0 : BlockSize))
        {
            return TpmResponseCode.Size.At(at.Iv);
        }

        if (mode is AlgorithmId.CodeBook or AlgorithmId.BlockChaining && input.Length % BlockSize != 0)
        {
            return TpmResponseCode.Size.At(at.Data);
        }

        data = input.ToArray();
        iv = ivIn.ToArray();
        tpm.Cryptography.TransformMode(mode, key.Secret, iv, data, !decrypt);
        return TpmResponseCode.Success;
    }

    /// <summary>Where the errors of a command's parameters are.</summary>
    internal readonly record struct Places(ErrorPlace Key, ErrorPlace Mode, ErrorPlace Iv, ErrorPlace Data);
}
