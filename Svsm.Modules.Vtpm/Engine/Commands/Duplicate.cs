// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Modules.Vtpm.Crypto;
using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_Duplicate: the private part of an object for another parent.</summary>
[TpmCommand(CommandCode.Duplicate)]
internal static partial class Duplicate
{
    internal readonly record struct Request(
        [Handle(HandleKind.Object, Role = AuthorizationRole.Duplicate)] TpmHandle ObjectHandle,
        [Handle(HandleKind.Object), OrNull] TpmHandle NewParentHandle,
        [Size(TpmLimits.MaxData)] ReadOnlyMemory<byte> EncryptionKeyIn,
        [OrNull] ObjectCipher SymmetricAlg);

    internal readonly record struct Response(
        [Size(TpmLimits.MaxData)] byte[] EncryptionKeyOut,
        [Size(TpmLimits.MaxPrivate)] byte[] Duplicate,
        [Size(TpmLimits.MaxEncryptedSecret)] byte[] OutSymSeed);

    internal static TpmResponseCode Execute(CommandContext context, in Request request, out Response response)
    {
        Tpm tpm = context.Tpm;
        response = default;
        if (tpm.Objects.Find(request.ObjectHandle) is not KeyObject found || found.IsPublicOnly || found.Public.NameHash == AlgorithmId.Null)
        {
            return TpmResponseCode.Type.At(At.ObjectHandle);
        }

        if (found.Public.Has(ObjectAttributes.FixedParent))
        {
            return TpmResponseCode.Attributes.At(At.ObjectHandle);
        }

        KeyObject? newParent = tpm.Objects.Find(request.NewParentHandle) as KeyObject;
        bool hasParent = request.NewParentHandle != TpmHandle.Null;
        if (hasParent && (newParent is null || !newParent.Public.IsParent || newParent.Public.Type == AlgorithmId.KeyedHash))
        {
            return TpmResponseCode.Type.At(At.NewParentHandle);
        }

        bool hasInner = request.SymmetricAlg.Algorithm != AlgorithmId.Null;
        if (found.Public.Has(ObjectAttributes.EncryptedDuplication) && !(hasInner && hasParent))
        {
            return hasInner ? TpmResponseCode.Hierarchy.At(At.NewParentHandle) : TpmResponseCode.Symmetric.At(At.SymmetricAlg);
        }

        byte[] innerKey = request.EncryptionKeyIn.ToArray();
        int keySize = request.SymmetricAlg.KeyBits / 8;
        if (innerKey.Length != 0 && innerKey.Length != keySize)
        {
            return TpmResponseCode.Size.At(At.EncryptionKeyIn);
        }

        byte[] seed = [];
        byte[] encryptedSeed = [];
        if (newParent is not null)
        {
            TpmResponseCode code = SecretExchange.Encrypt(tpm, newParent.Public, SecretExchange.Duplicate, out seed, out encryptedSeed);
            if (code != TpmResponseCode.Success)
            {
                return code;
            }
        }

        bool isMade = hasInner && innerKey.Length == 0;
        innerKey = isMade ? tpm.Random.Generate(keySize) : innerKey;
        byte[] wrapped = ObjectProtection.ToDuplicate(tpm, found.Sensitive, found.Public.NameHash, found.Name, newParent, seed, innerKey);
        seed.AsSpan().Clear();
        response = new Response(isMade ? innerKey : [], wrapped, encryptedSeed);
        return TpmResponseCode.Success;
    }
}
