// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using Svsm.Modules.Vtpm.Crypto;
using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_HashSequenceStart: begins a hash sequence, or with TPM_ALG_NULL an event sequence.</summary>
[TpmCommand(CommandCode.HashSequenceStart)]
internal static partial class HashSequenceStart
{
    internal readonly record struct Request(
        [Size(TpmLimits.MaxDigest)] ReadOnlyMemory<byte> Auth,
        [Algorithm(AlgorithmUse.Hash), OrNull] AlgorithmId HashAlg);

    internal readonly record struct Response([Handle(HandleKind.Object)] TpmHandle SequenceHandle);

    internal static TpmResponseCode Execute(CommandContext context, in Request request, out Response response)
    {
        var states = new List<IHashState>();
        foreach (AlgorithmRow row in Algorithms.Rows)
        {
            if ((row.Uses & AlgorithmUse.Hash) != 0 && (row.Id == request.HashAlg || request.HashAlg == AlgorithmId.Null))
            {
                states.Add(context.Tpm.Cryptography.StartHash(row.Id));
            }
        }

        SequenceKind kind = request.HashAlg == AlgorithmId.Null ? SequenceKind.Event : SequenceKind.Hash;
        var sequence = new SequenceObject(kind, [.. states]) { Algorithm = request.HashAlg, Auth = TpmCryptography.TrimAuth(request.Auth.Span).ToArray() };
        TpmResponseCode code = context.Tpm.Objects.Add(sequence, out TpmHandle handle);
        response = new Response(handle);
        return code;
    }
}
