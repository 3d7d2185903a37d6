// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_ReadPublic: the public area and Names of a loaded object.</summary>
[TpmCommand(CommandCode.ReadPublic)]
internal static partial class ReadPublic
{
    internal readonly record struct Request([Handle(HandleKind.Object)] TpmHandle ObjectHandle);

    internal readonly record struct Response(
        [Sized] PublicArea OutPublic, [Size(TpmLimits.MaxData)] byte[] Name, [Size(TpmLimits.MaxData)] byte[] QualifiedName);

    internal static TpmResponseCode Execute(CommandContext context, in Request request, out Response response)
    {
        if (context.Tpm.Objects.Find(request.ObjectHandle) is not KeyObject found)
        {
            // A sequence has no public area.
            response = default;
            return TpmResponseCode.Sequence;
        }

        response = new Response(found.Public, found.Name, found.QualifiedName);
        return TpmResponseCode.Success;
    }
}
