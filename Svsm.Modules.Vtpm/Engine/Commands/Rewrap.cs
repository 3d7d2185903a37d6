// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Modules.Vtpm.Crypto;
using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_Rewrap: takes the outer wrap of a duplicate off and puts another on; the inner one stays.</summary>
[TpmCommand(CommandCode.Rewrap)]
internal static partial class Rewrap
{
    internal readonly record struct Request(
        [Handle(HandleKind.Object, Role = AuthorizationRole.User), OrNull] TpmHandle OldParent,
        [Handle(HandleKind.Object), OrNull] TpmHandle NewParent,
        [Size(TpmLimits.MaxPrivate)] ReadOnlyMemory<byte> InDuplicate,
        [Size(TpmLimits.MaxData)] ReadOnlyMemory<byte> Name,
        [Size(TpmLimits.MaxEncryptedSecret)] ReadOnlyMemory<byte> InSymSeed);

    internal readonly record struct Response([Size(TpmLimits.MaxPrivate)] byte[] OutDuplicate, [Size(TpmLimits.MaxEncryptedSecret)] byte[] OutSymSeed);

    internal static TpmResponseCode Execute(CommandContext context, in Request request, out Response response)
    {
        Tpm tpm = context.Tpm;
        response = default;
        bool hasOld = request.OldParent != TpmHandle.Null;
        if (hasOld != (request.InSymSeed.Length != 0))
        {
            return TpmResponseCode.Handle.At(At.OldParent);
        }

        byte[] data = request.InDuplicate.ToArray();
        TpmResponseCode code;
        if (hasOld)
        {
            if (tpm.Objects.Find(request.OldParent) is not KeyObject { IsStorageParent: true } oldParent || !oldParent.Public.Parameters.IsAsymmetric)
            {
                return TpmResponseCode.Type.At(At.OldParent);
            }

            if (SecretExchange.Decrypt(tpm, oldParent, SecretExchange.Duplicate, request.InSymSeed, [], out byte[] oldSeed) != TpmResponseCode.Success)
            {
                return TpmResponseCode.Value.At(At.InSymSeed);
            }

            code = ObjectProtection.UnwrapOuter(tpm.Cryptography, oldParent.Public, oldSeed, request.Name.Span, hasIv: false, request.InDuplicate, out data);
            oldSeed.AsSpan().Clear();
            if (code != TpmResponseCode.Success)
            {
                return code.At(At.InDuplicate);
            }
        }

        byte[] encryptedSeed = [];
        if (request.NewParent != TpmHandle.Null)
        {
            if (tpm.Objects.Find(request.NewParent) is not KeyObject newParent || !newParent.Public.IsParent || newParent.Public.Type == AlgorithmId.KeyedHash)
            {
                return TpmResponseCode.Type.At(At.NewParent);
            }

            code = SecretExchange.Encrypt(tpm, newParent.Public, SecretExchange.Duplicate, out byte[] seed, out encryptedSeed);
            if (code != TpmResponseCode.Success)
            {
                return code;
            }

            if (data.Length + 2 + Algorithms.DigestSize(newParent.Public.NameHash) > TpmLimits.MaxPrivate)
            {
                return TpmResponseCode.Value.At(At.InDuplicate);
            }

            data = ObjectProtection.WrapOuter(tpm.Cryptography, newParent.Public, seed, request.Name.Span, [], data);
            seed.AsSpan().Clear();
        }

        response = new Response(data, encryptedSeed);
        return TpmResponseCode.Success;
    }
}
