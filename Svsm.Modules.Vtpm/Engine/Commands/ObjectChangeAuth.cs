// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Modules.Vtpm.Crypto;
using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_ObjectChangeAuth: the private part of an object with another authValue; the loaded object keeps its own.</summary>
[TpmCommand(CommandCode.ObjectChangeAuth, Traits = CommandTraits.NotReadOnly)]
internal static partial class ObjectChangeAuth
{
    internal readonly record struct Request(
        [Handle(HandleKind.Object, Role = AuthorizationRole.Admin)] TpmHandle ObjectHandle,
        [Handle(HandleKind.Object)] TpmHandle ParentHandle,
        [Size(TpmLimits.MaxDigest)] ReadOnlyMemory<byte> NewAuth);

    internal readonly record struct Response([Size(TpmLimits.MaxPrivate)] byte[] OutPrivate);

    internal static TpmResponseCode Execute(CommandContext context, in Request request, out Response response)
    {
        Tpm tpm = context.Tpm;
        response = default;
        if (tpm.Objects.Find(request.ObjectHandle) is not KeyObject found)
        {
            return TpmResponseCode.Type.At(At.ObjectHandle);
        }

        byte[] auth = TpmCryptography.TrimAuth(request.NewAuth.Span).ToArray();
        tpm.ClearAfterCommand(auth);
        if (auth.Length > Algorithms.DigestSize(found.Public.NameHash))
        {
            return TpmResponseCode.Size.At(At.NewAuth);
        }

        // The qualified name says who the parent is.
        if (tpm.Objects.Find(request.ParentHandle) is not KeyObject { IsStorageParent: true } parent
            || !ObjectCreation.QualifiedName(tpm.Cryptography, found.Public.NameHash, parent.QualifiedName, found.Name).AsSpan().SequenceEqual(found.QualifiedName))
        {
            return TpmResponseCode.Type.At(At.ParentHandle);
        }

        response = new Response(ObjectProtection.ToPrivate(tpm, found.Sensitive with { Auth = auth }, found.Public, found.Name, parent));
        return TpmResponseCode.Success;
    }
}
