// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Modules.Vtpm.Crypto;
using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_LoadExternal: takes a public key, or a key pair that is no secret of this TPM, into a transient slot.</summary>
[TpmCommand(CommandCode.LoadExternal)]
internal static partial class LoadExternal
{
    internal readonly record struct Request(
        [Size(Sensitive.MaxSize)] ReadOnlyMemory<byte> InPrivate,
        [Sized, OrNull] PublicArea InPublic,
        [HandleParameter(HandleKind.Hierarchy), OrNull] TpmHandle Hierarchy);

    internal readonly record struct Response([Handle(HandleKind.Object)] TpmHandle ObjectHandle, [Size(TpmLimits.MaxData)] byte[] Name);

    internal static TpmResponseCode Execute(CommandContext context, in Request request, out Response response)
    {
        Tpm tpm = context.Tpm;
        response = default;
        if (!tpm.Objects.HasFreeSlot)
        {
            return TpmResponseCode.ObjectMemory;
        }

        // What has a secret that others know is no part of a hierarchy that has secrets.
        bool hasSecret = request.InPrivate.Length != 0;
        if (!tpm.Hierarchies.IsEnabled(request.Hierarchy) || (hasSecret && request.Hierarchy != TpmHandle.Null))
        {
            return TpmResponseCode.Hierarchy.At(At.Hierarchy);
        }

        if (hasSecret && request.InPublic.HasAny(ObjectAttributes.FixedTpm | ObjectAttributes.FixedParent | ObjectAttributes.Restricted))
        {
            return TpmResponseCode.Attributes.At(At.InPublic);
        }

        Sensitive? sensitive = null;
        TpmResponseCode code;
        if (hasSecret)
        {
            var reader = new TpmReader(request.InPrivate);
            code = Sensitive.Read(ref reader, out Sensitive read);
            if (code != TpmResponseCode.Success || reader.Remaining != 0)
            {
                read.Clear();
                return (code != TpmResponseCode.Success ? code : TpmResponseCode.Size).At(At.InPrivate);
            }

            tpm.ClearAfterCommand(read.Auth);
            sensitive = read with { Auth = TpmCryptography.TrimAuth(read.Auth).ToArray() };
        }

        code = ObjectLoading.Check(tpm.Cryptography, null, request.InPublic, sensitive, At.InPublic, At.InPrivate);
        if (code != TpmResponseCode.Success)
        {
            sensitive?.Clear();
            return code;
        }

        byte[] name = ObjectCreation.Name(tpm.Cryptography, request.InPublic);
        var loaded = new KeyObject(request.InPublic)
        {
            Auth = sensitive?.Auth ?? [],
            Name = name,
            QualifiedName = name,
            Hierarchy = request.Hierarchy,
            Secret = sensitive?.Secret ?? [],
            SeedValue = sensitive?.SeedValue ?? [],
            IsPublicOnly = !hasSecret,
            IsExternal = true,
        };
        code = tpm.Objects.Add(loaded, out TpmHandle handle);
        response = new Response(handle, name);
        return code;
    }
}
