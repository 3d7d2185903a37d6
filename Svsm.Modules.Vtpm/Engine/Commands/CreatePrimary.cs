// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Modules.Vtpm.Crypto;
using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_CreatePrimary: an object from a hierarchy's seed and a template; the same ones give the same object.</summary>
[TpmCommand(CommandCode.CreatePrimary, Traits = CommandTraits.PhysicalPresence | CommandTraits.NotReadOnly)]
internal static partial class CreatePrimary
{
    internal readonly record struct Request(
        [Handle(HandleKind.Hierarchy, Role = AuthorizationRole.User), OrNull] TpmHandle PrimaryHandle,
        [Sized] SensitiveCreate InSensitive,
        [Sized] PublicArea InPublic,
        [Size(TpmLimits.MaxData)] ReadOnlyMemory<byte> OutsideInfo,
        [Count(TpmLimits.HashCount)] PcrSelection[] CreationPcr);

    internal readonly record struct Response(
        [Handle(HandleKind.Object)] TpmHandle ObjectHandle,
        [Sized] PublicArea OutPublic,
        [Sized] CreationData CreationData,
        [Size(TpmLimits.MaxDigest)] byte[] CreationHash,
        Ticket CreationTicket,
        [Size(TpmLimits.MaxData)] byte[] Name);

    internal static TpmResponseCode Execute(CommandContext context, in Request request, out Response response)
    {
        Tpm tpm = context.Tpm;
        response = default;
        if (!tpm.Objects.HasFreeSlot)
        {
            return TpmResponseCode.ObjectMemory;
        }

        TpmHandle hierarchy = request.PrimaryHandle;
        PublicArea template = request.InPublic;
        ReadOnlyMemory<byte> data = request.InSensitive.Data;
        TpmResponseCode code = ObjectCreation.CheckTemplate(null, template, data.Length != 0);
        if (code != TpmResponseCode.Success)
        {
            return code.At(At.InPublic);
        }

        if (TpmCryptography.TrimAuth(request.InSensitive.UserAuth.Span).Length > Algorithms.DigestSize(template.NameHash))
        {
            return TpmResponseCode.Size.At(At.InSensitive);
        }

        code = ObjectCreation.Generate(
            context,
            template,
            request.InSensitive.UserAuth.Span,
            data.Span,
            () => ObjectCreation.PrimaryRandom(tpm, hierarchy, template, data.Span),
            hierarchy == TpmHandle.Endorsement,
            out PublicArea area,
            out Sensitive sensitive);
        if (code != TpmResponseCode.Success)
        {
            return code;
        }

        KeyObject made = ObjectCreation.ToObject(tpm.Cryptography, area, sensitive, hierarchy, ObjectCreation.HandleBytes(hierarchy));
        CreationData creation = ObjectCreation.CreationDataOf(
            context, null, hierarchy, area.NameHash, request.OutsideInfo, request.CreationPcr, out byte[] creationHash);
        Ticket ticket = Tickets.Creation(tpm, hierarchy, made.Name, creationHash);
        code = tpm.Objects.Add(made, out TpmHandle handle);
        response = new Response(handle, area, creation, creationHash, ticket, made.Name);
        return code;
    }
}
