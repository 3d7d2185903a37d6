// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Modules.Vtpm.Crypto;
using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_Create: a new object under a storage key, as public and encrypted private part.</summary>
[TpmCommand(CommandCode.Create, Traits = CommandTraits.NotReadOnly)]
internal static partial class Create
{
    internal readonly record struct Request(
        [Handle(HandleKind.Object, Role = AuthorizationRole.User)] TpmHandle ParentHandle,
        [Sized] SensitiveCreate InSensitive,
        [Sized] PublicArea InPublic,
        [Size(TpmLimits.MaxData)] ReadOnlyMemory<byte> OutsideInfo,
        [Count(TpmLimits.HashCount)] PcrSelection[] CreationPcr);

    internal readonly record struct Response(
        [Size(TpmLimits.MaxPrivate)] byte[] OutPrivate,
        [Sized] PublicArea OutPublic,
        [Sized] CreationData CreationData,
        [Size(TpmLimits.MaxDigest)] byte[] CreationHash,
        Ticket CreationTicket);

    internal static TpmResponseCode Execute(CommandContext context, in Request request, out Response response)
    {
        Tpm tpm = context.Tpm;
        response = default;
        if (!tpm.Objects.HasFreeSlot)
        {
            return TpmResponseCode.ObjectMemory;
        }

        if (tpm.Objects.Find(request.ParentHandle) is not KeyObject { IsStorageParent: true } parent)
        {
            return TpmResponseCode.Type.At(At.ParentHandle);
        }

        TpmResponseCode code = ObjectCreation.CheckTemplate(parent, request.InPublic, request.InSensitive.Data.Length != 0);
        if (code != TpmResponseCode.Success)
        {
            return code.At(At.InPublic);
        }

        if (TpmCryptography.TrimAuth(request.InSensitive.UserAuth.Span).Length > Algorithms.DigestSize(request.InPublic.NameHash))
        {
            return TpmResponseCode.Size.At(At.InSensitive);
        }

        code = ObjectCreation.Generate(
            context, request.InPublic, request.InSensitive.UserAuth.Span, request.InSensitive.Data.Span, () => tpm.Random, false, out PublicArea area, out Sensitive sensitive);
        if (code != TpmResponseCode.Success)
        {
            return code;
        }

        byte[] name = ObjectCreation.Name(tpm.Cryptography, area);
        CreationData creation = ObjectCreation.CreationDataOf(
            context, parent, TpmHandle.Null, area.NameHash, request.OutsideInfo, request.CreationPcr, out byte[] creationHash);
        byte[] wrapped = ObjectProtection.ToPrivate(tpm, sensitive, area, name, parent);
        sensitive.Clear();
        response = new Response(wrapped, area, creation, creationHash, Tickets.Creation(tpm, parent.Hierarchy, name, creationHash));
        return TpmResponseCode.Success;
    }
}
