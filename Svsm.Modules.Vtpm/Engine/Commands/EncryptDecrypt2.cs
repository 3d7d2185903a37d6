// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Modules.Vtpm.Crypto;
using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_EncryptDecrypt2: AES with a loaded key; a session may encrypt its data on the way.</summary>
[TpmCommand(CommandCode.EncryptDecrypt2)]
internal static partial class EncryptDecrypt2
{
    internal readonly record struct Request(
        [Handle(HandleKind.Object, Role = AuthorizationRole.User)] TpmHandle KeyHandle,
        [Size(TpmLimits.MaxBuffer)] ReadOnlyMemory<byte> InData,
        bool Decrypt,
        [Algorithm(AlgorithmUse.CipherMode), OrNull] AlgorithmId Mode,
        [Size(16)] ReadOnlyMemory<byte> IvIn);

    internal readonly record struct Response([Size(TpmLimits.MaxBuffer)] byte[] OutData, [Size(16)] byte[] IvOut);

    internal static TpmResponseCode Execute(CommandContext context, in Request request, out Response response)
    {
        EncryptDecrypt.Places places = new(At.KeyHandle, At.Mode, At.IvIn, At.InData);
        TpmResponseCode code = EncryptDecrypt.Transform(
            context.Tpm, request.KeyHandle, request.Decrypt, request.Mode, request.IvIn, request.InData, places, out byte[] data, out byte[] iv);
        response = new Response(data, iv);
        return code;
    }
}
