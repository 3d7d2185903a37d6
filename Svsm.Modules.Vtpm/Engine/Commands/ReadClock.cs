// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_ReadClock: time since power-on, clock and counters.</summary>
[TpmCommand(CommandCode.ReadClock)]
internal static partial class ReadClock
{
    internal readonly record struct Response(TimeInfo CurrentTime);

    internal static TpmResponseCode Execute(CommandContext context, out Response response)
    {
        response = new Response(new TimeInfo(context.Tpm.Time, context.Tpm.ClockInfo()));
        return TpmResponseCode.Success;
    }
}
