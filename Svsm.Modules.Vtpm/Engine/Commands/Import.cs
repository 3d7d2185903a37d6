// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Modules.Vtpm.Crypto;
using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_Import: makes a duplicate a child of a storage key of this TPM.</summary>
[TpmCommand(CommandCode.Import)]
internal static partial class Import
{
    internal readonly record struct Request(
        [Handle(HandleKind.Object, Role = AuthorizationRole.User)] TpmHandle ParentHandle,
        [Size(TpmLimits.MaxData)] ReadOnlyMemory<byte> EncryptionKey,
        [Sized] PublicArea ObjectPublic,
        [Size(TpmLimits.MaxPrivate)] ReadOnlyMemory<byte> Duplicate,
        [Size(TpmLimits.MaxEncryptedSecret)] ReadOnlyMemory<byte> InSymSeed,
        [OrNull] ObjectCipher SymmetricAlg);

    internal readonly record struct Response([Size(TpmLimits.MaxPrivate)] byte[] OutPrivate);

    internal static TpmResponseCode Execute(CommandContext context, in Request request, out Response response)
    {
        Tpm tpm = context.Tpm;
        response = default;
        PublicArea area = request.ObjectPublic;
        if (area.HasAny(ObjectAttributes.FixedTpm | ObjectAttributes.FixedParent))
        {
            return TpmResponseCode.Attributes.At(At.ObjectPublic);
        }

        if (tpm.Objects.Find(request.ParentHandle) is not KeyObject { IsStorageParent: true } parent)
        {
            return TpmResponseCode.Type.At(At.ParentHandle);
        }

        if (request.EncryptionKey.Length != request.SymmetricAlg.KeyBits / 8)
        {
            return TpmResponseCode.Size.At(At.EncryptionKey);
        }

        bool isEncrypted = area.Has(ObjectAttributes.EncryptedDuplication);
        if (isEncrypted && request.EncryptionKey.Length == 0)
        {
            return TpmResponseCode.Attributes.At(At.EncryptionKey);
        }

        byte[] seed = [];
        TpmResponseCode code;
        if (request.InSymSeed.Length != 0)
        {
            if (!parent.Public.Parameters.IsAsymmetric)
            {
                return TpmResponseCode.Type.At(At.ParentHandle);
            }

            code = SecretExchange.Decrypt(tpm, parent, SecretExchange.Duplicate, request.InSymSeed, [], out seed);
            if (code != TpmResponseCode.Success)
            {
                return code.At(At.InSymSeed);
            }
        }
        else if (isEncrypted)
        {
            return TpmResponseCode.Attributes.At(At.InSymSeed);
        }

        byte[] name = ObjectCreation.Name(tpm.Cryptography, area);
        code = ObjectProtection.FromDuplicate(
            tpm.Cryptography, request.Duplicate, area.NameHash, name, parent, seed, request.EncryptionKey.Span, out Sensitive sensitive);
        seed.AsSpan().Clear();
        if (code != TpmResponseCode.Success)
        {
            return code.At(At.Duplicate);
        }

        // Children of a parent that stays here are not checked when they are loaded.
        if (parent.Public.Has(ObjectAttributes.FixedTpm))
        {
            code = ObjectLoading.Check(tpm.Cryptography, null, area, sensitive, At.ObjectPublic, At.Duplicate);
        }

        if (code == TpmResponseCode.Success)
        {
            response = new Response(ObjectProtection.ToPrivate(tpm, sensitive, area, name, parent));
        }

        sensitive.Clear();
        return code;
    }
}
