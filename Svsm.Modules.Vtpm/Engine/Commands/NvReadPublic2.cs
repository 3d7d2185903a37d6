// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_NV_ReadPublic2: public area, with the kind of handle, and Name of an NV index.</summary>
[TpmCommand(CommandCode.NvReadPublic2)]
internal static partial class NvReadPublic2
{
    internal readonly record struct Request([Handle(HandleKind.NvIndex)] TpmHandle NvIndex);

    internal readonly record struct Response([Sized] NvPublic2 NvPublic, [Size(TpmLimits.MaxData)] byte[] NvName);

    internal static TpmResponseCode Execute(CommandContext context, in Request request, out Response response)
    {
        response = new Response(new NvPublic2(context.Tpm.Nv.Find(request.NvIndex)!.Public), context.Names[0]);
        return TpmResponseCode.Success;
    }
}

/// <summary>TPMT_NV_PUBLIC_2; of the kinds of handles that it can say, this TPM has NV indices.</summary>
internal readonly record struct NvPublic2(NvPublic Area)
{
    internal static TpmResponseCode Read(ref TpmReader reader, out NvPublic2 value)
    {
        value = default;
        TpmResponseCode code = reader.ReadByte(out byte type);
        if (code != TpmResponseCode.Success)
        {
            return code;
        }

        if (type != (byte)HandleType.NvIndex)
        {
            return TpmResponseCode.Handle;
        }

        code = NvPublic.Read(ref reader, out NvPublic area);
        value = new NvPublic2(area);
        return code;
    }

    internal void Write(ref TpmWriter writer)
    {
        writer.WriteByte((byte)HandleType.NvIndex);
        Area.Write(ref writer);
    }
}
