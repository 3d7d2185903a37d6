// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using Svsm.Modules.Vtpm.Crypto;
using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_CreatePrimary: an object from a hierarchy's seed and a template; the same ones give the same object.</summary>
[TpmCommand(CommandCode.CreatePrimary, Traits = CommandTraits.PhysicalPresence)]
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

        PublicArea template = request.InPublic;
        TpmResponseCode code = ObjectCreation.CheckTemplate(template, request.InSensitive.Data.Length != 0);
        if (code != TpmResponseCode.Success)
        {
            return code.At(At.InPublic);
        }

        ReadOnlySpan<byte> auth = TpmCryptography.TrimAuth(request.InSensitive.UserAuth.Span);
        if (auth.Length > Algorithms.DigestSize(template.NameHash))
        {
            return TpmResponseCode.Size.At(At.InSensitive);
        }

        code = ObjectCreation.CreatePrimary(tpm, request.PrimaryHandle, template, auth, request.InSensitive.Data.Span, out KeyObject? made);
        if (code != TpmResponseCode.Success)
        {
            return code;
        }

        var parent = new byte[sizeof(uint)];
        BinaryPrimitives.WriteUInt32BigEndian(parent, request.PrimaryHandle.Value);
        PcrSelection[] selection = Array.ConvertAll(request.CreationPcr, tpm.Pcrs.Filter);
        var creation = new CreationData(
            selection,
            tpm.Pcrs.Digest(selection, template.NameHash),
            context.Locality < 5 ? (byte)(1 << context.Locality) : context.Locality,
            AlgorithmId.Null,
            parent,
            parent,
            request.OutsideInfo);
        var writer = new TpmWriter(new byte[512]);
        creation.Write(ref writer);
        byte[] creationHash = tpm.Cryptography.Hash(template.NameHash, writer.Written);
        Ticket ticket = Tickets.Creation(tpm, request.PrimaryHandle, made!.Name, creationHash);
        code = tpm.Objects.Add(made, out TpmHandle handle);
        response = new Response(handle, made.Public, creation, creationHash, ticket, made.Name);
        return code;
    }
}
