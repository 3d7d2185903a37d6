// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Modules.Vtpm.Crypto;
using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_NV_DefineSpace: makes an NV index.</summary>
[TpmCommand(CommandCode.NvDefineSpace, Traits = CommandTraits.Nv | CommandTraits.PhysicalPresence | CommandTraits.NotReadOnly)]
internal static partial class NvDefineSpace
{
    private const NvAttributes States = NvAttributes.Written | NvAttributes.WriteLocked | NvAttributes.ReadLocked;

    private const NvAttributes Readers =
        NvAttributes.OwnerRead | NvAttributes.PlatformRead | NvAttributes.AuthRead | NvAttributes.PolicyRead;

    private const NvAttributes Writers =
        NvAttributes.OwnerWrite | NvAttributes.PlatformWrite | NvAttributes.AuthWrite | NvAttributes.PolicyWrite;

    internal readonly record struct Request(
        [Handle(HandleKind.Provision, Role = AuthorizationRole.User)] TpmHandle AuthHandle,
        [Size(TpmLimits.MaxDigest)] ReadOnlyMemory<byte> Auth,
        [Sized] NvPublic PublicInfo);

    internal static TpmResponseCode Execute(CommandContext context, in Request request)
        => Define(context.Tpm, request.AuthHandle, request.Auth.Span, request.PublicInfo, At.AuthHandle, At.Auth, At.PublicInfo);

    /// <summary>Defines an index.</summary>
    internal static TpmResponseCode Define(
        Tpm tpm, TpmHandle authHandle, ReadOnlySpan<byte> auth, in NvPublic area, ErrorPlace atHandle, ErrorPlace atAuth, ErrorPlace atPublic)
    {
        auth = TpmCryptography.TrimAuth(auth);
        int digestSize = Algorithms.DigestSize(area.NameHash);
        if (area.Policy.Length != 0 && area.Policy.Length != digestSize)
        {
            return TpmResponseCode.Size.At(atPublic);
        }

        if (auth.Length > digestSize)
        {
            return TpmResponseCode.Size.At(atAuth);
        }

        bool isPlatform = authHandle == TpmHandle.Platform;
        if (isPlatform && !tpm.ClearState.IsPlatformNvEnabled)
        {
            return TpmResponseCode.Hierarchy.At(atHandle);
        }

        TpmResponseCode code = CheckType(area, digestSize);
        if (code == TpmResponseCode.Success)
        {
            code = CheckAttributes(area);
        }

        if (code != TpmResponseCode.Success)
        {
            return code.At(atPublic);
        }

        if (area.Has(NvAttributes.PlatformCreate) != isPlatform)
        {
            return TpmResponseCode.Attributes.At(atHandle);
        }

        // An index that only a policy can remove belongs to the platform.
        if (area.Has(NvAttributes.PolicyDelete) && !isPlatform)
        {
            return TpmResponseCode.Attributes.At(atPublic);
        }

        return area.Has(NvAttributes.WriteAll) && area.DataSize > TpmLimits.MaxBuffer
            ? TpmResponseCode.Size.At(atPublic)
            : tpm.Nv.Add(area, auth.ToArray());
    }

    private static TpmResponseCode CheckType(in NvPublic area, int digestSize)
    {
        switch (area.Type)
        {
            case NvType.Ordinary:
                return area.DataSize > TpmLimits.MaxNvIndex ? TpmResponseCode.Size : TpmResponseCode.Success;
            case NvType.Extend:
                return area.DataSize != digestSize ? TpmResponseCode.Size : TpmResponseCode.Success;
            case NvType.Counter or NvType.Bits:
                return area.DataSize != sizeof(ulong) ? TpmResponseCode.Size : TpmResponseCode.Success;
            case NvType.PinFail or NvType.PinPass:
                // The count of a PIN has to be the only thing that a wrong PIN counts in, and out of reach of whoever knows it.
                return area.DataSize != sizeof(ulong) ? TpmResponseCode.Size
                    : (area.Type == NvType.PinFail && !area.Has(NvAttributes.NoDictionaryAttack))
                    || area.Has(NvAttributes.AuthWrite | NvAttributes.GlobalLock | NvAttributes.WriteDefine) ? TpmResponseCode.Attributes
                    : TpmResponseCode.Success;
            default:
                return TpmResponseCode.Attributes;
        }
    }

    private static TpmResponseCode CheckAttributes(in NvPublic area)
        => area.Has(States) || !area.Has(Readers) || !area.Has(Writers)
            || (area.Has(NvAttributes.ClearStClear) && (area.Type == NvType.Counter || area.Has(NvAttributes.WriteDefine)))
            ? TpmResponseCode.Attributes
            : TpmResponseCode.Success;
}
