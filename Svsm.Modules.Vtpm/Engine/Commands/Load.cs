// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Modules.Vtpm.Crypto;
using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_Load: takes what TPM2_Create made back into a transient slot.</summary>
[TpmCommand(CommandCode.Load)]
internal static partial class Load
{
    internal readonly record struct Request(
        [Handle(HandleKind.Object, Role = AuthorizationRole.User)] TpmHandle ParentHandle,
        [Size(TpmLimits.MaxPrivate)] ReadOnlyMemory<byte> InPrivate,
        [Sized] PublicArea InPublic);

    internal readonly record struct Response([Handle(HandleKind.Object)] TpmHandle ObjectHandle, [Size(TpmLimits.MaxData)] byte[] Name);

    internal static TpmResponseCode Execute(CommandContext context, in Request request, out Response response)
    {
        Tpm tpm = context.Tpm;
        response = default;
        if (!tpm.Objects.HasFreeSlot)
        {
            return TpmResponseCode.ObjectMemory;
        }

        if (request.InPrivate.Length == 0)
        {
            return TpmResponseCode.Size.At(At.InPrivate);
        }

        if (tpm.Objects.Find(request.ParentHandle) is not KeyObject { IsStorageParent: true } parent)
        {
            return TpmResponseCode.Type.At(At.ParentHandle);
        }

        byte[] name = ObjectCreation.Name(tpm.Cryptography, request.InPublic);
        TpmResponseCode code = ObjectProtection.FromPrivate(tpm.Cryptography, request.InPrivate, name, parent, out Sensitive sensitive);
        if (code != TpmResponseCode.Success)
        {
            return code.At(At.InPrivate);
        }

        code = ObjectLoading.Check(tpm.Cryptography, parent, request.InPublic, sensitive, At.InPublic, At.InPrivate);
        if (code != TpmResponseCode.Success)
        {
            sensitive.Clear();
            return code;
        }

        tpm.ClearAfterCommand(sensitive.Auth);
        Sensitive kept = sensitive with { Auth = TpmCryptography.TrimAuth(sensitive.Auth).ToArray() };
        KeyObject loaded = ObjectCreation.ToObject(tpm.Cryptography, request.InPublic, kept, parent.Hierarchy, parent.QualifiedName);
        code = tpm.Objects.Add(loaded, out TpmHandle handle);
        response = new Response(handle, loaded.Name);
        return code;
    }
}
