// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Modules.Vtpm.Crypto;
using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_CreateLoaded: a new primary, ordinary or derived object, which is loaded at once.</summary>
[TpmCommand(CommandCode.CreateLoaded, Traits = CommandTraits.PhysicalPresence | CommandTraits.NotReadOnly)]
internal static partial class CreateLoaded
{
    internal readonly record struct Request(
        [Handle(HandleKind.Parent, Role = AuthorizationRole.User), OrNull] TpmHandle ParentHandle,
        [Sized] SensitiveCreate InSensitive,
        [Size(TpmLimits.MaxTemplate)] ReadOnlyMemory<byte> InPublic);

    internal readonly record struct Response(
        [Handle(HandleKind.Object)] TpmHandle ObjectHandle,
        [Size(TpmLimits.MaxPrivate)] byte[] OutPrivate,
        [Sized] PublicArea OutPublic,
        [Size(TpmLimits.MaxData)] byte[] Name);

    internal static TpmResponseCode Execute(CommandContext context, in Request request, out Response response)
    {
        Tpm tpm = context.Tpm;
        response = default;
        TransientObject? found = tpm.Objects.Find(request.ParentHandle);
        KeyObject? parent = found as KeyObject;
        if (found is not null && parent is not { IsParent: true })
        {
            return TpmResponseCode.Type.At(At.ParentHandle);
        }

        if (!tpm.Objects.HasFreeSlot)
        {
            return TpmResponseCode.ObjectMemory;
        }

        bool isDerived = parent is { IsDerivationParent: true };
        TpmResponseCode code = ReadTemplate(request.InPublic, isDerived, out PublicArea template);
        if (code != TpmResponseCode.Success)
        {
            return code.At(At.InPublic);
        }

        if (TpmCryptography.TrimAuth(request.InSensitive.UserAuth.Span).Length > Algorithms.DigestSize(template.NameHash))
        {
            return TpmResponseCode.Size.At(At.InSensitive);
        }

        TpmHandle hierarchy = parent?.Hierarchy ?? request.ParentHandle;
        Func<IRandomSource> random;
        ReadOnlyMemory<byte> data = request.InSensitive.Data;
        if (isDerived)
        {
            code = CheckDerivation(parent!, template, data, out byte[] label, out byte[] labelContext);
            random = () => new DerivationRandom(tpm.Cryptography, parent!.Public.Parameters.SchemeHash, parent.Secret, label, labelContext);
            template = template with { Unique = [], UniqueY = [] };
        }
        else
        {
            code = ObjectCreation.CheckTemplate(parent, template, data.Length != 0).At(At.InPublic);
            PublicArea primary = template;
            random = () => parent is null ? ObjectCreation.PrimaryRandom(tpm, hierarchy, primary, data.Span) : tpm.Random;
        }

        if (code != TpmResponseCode.Success)
        {
            return code;
        }

        code = ObjectCreation.Generate(
            context,
            template,
            request.InSensitive.UserAuth.Span,
            isDerived ? default : data.Span,
            random,
            parent is null && hierarchy == TpmHandle.Endorsement,
            out PublicArea area,
            out Sensitive sensitive);
        if (code != TpmResponseCode.Success)
        {
            return code;
        }

        KeyObject made = ObjectCreation.ToObject(
            tpm.Cryptography, area, sensitive, hierarchy, parent is null ? ObjectCreation.HandleBytes(hierarchy) : parent.QualifiedName);
        byte[] wrapped = parent is { IsStorageParent: true } ? ObjectProtection.ToPrivate(tpm, sensitive, area, made.Name, parent) : [];
        code = tpm.Objects.Add(made, out TpmHandle handle);
        response = new Response(handle, wrapped, area, made.Name);
        return code;
    }

    private static TpmResponseCode ReadTemplate(ReadOnlyMemory<byte> bytes, bool isDerived, out PublicArea template)
    {
        var reader = new TpmReader(bytes);
        TpmResponseCode code = isDerived ? PublicArea.ReadDerivation(ref reader, out template) : PublicArea.Read(ref reader, out template);
        return code == TpmResponseCode.Success && reader.Remaining != 0 ? TpmResponseCode.Size : code;
    }

    // Label and context come from the template; what it does not have, from the sensitive data (TPMS_DERIVE).
    private static TpmResponseCode CheckDerivation(
        KeyObject parent, in PublicArea template, ReadOnlyMemory<byte> data, out byte[] label, out byte[] labelContext)
    {
        label = template.Unique;
        labelContext = template.UniqueY;
        if (template.Type == AlgorithmId.Rsa)
        {
            return TpmResponseCode.Type.At(At.InPublic);
        }

        if (template.Has(ObjectAttributes.SensitiveDataOrigin))
        {
            return TpmResponseCode.Attributes;
        }

        TpmResponseCode code = ObjectCreation.CheckPublic(parent, template);
        if (code != TpmResponseCode.Success)
        {
            return code.At(At.InPublic);
        }

        if (data.Length == 0)
        {
            return TpmResponseCode.Success;
        }

        var reader = new TpmReader(data);
        if ((code = reader.ReadSizedCopy(TpmLimits.MaxLabel, out byte[] given)) != TpmResponseCode.Success
            || (code = reader.ReadSizedCopy(TpmLimits.MaxLabel, out byte[] givenContext)) != TpmResponseCode.Success)
        {
            return code;
        }

        label = label.Length == 0 ? given : label;
        labelContext = labelContext.Length == 0 ? givenContext : labelContext;
        return TpmResponseCode.Success;
    }
}
