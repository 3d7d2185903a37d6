// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_ClockRateAdjust: makes time and clock run a little faster or slower.</summary>
[TpmCommand(CommandCode.ClockRateAdjust, Traits = CommandTraits.PhysicalPresence | CommandTraits.NotReadOnly)]
internal static partial class ClockRateAdjust
{
    internal readonly record struct Request(
        [Handle(HandleKind.Provision, Role = AuthorizationRole.User)] TpmHandle Auth, ClockAdjustment RateAdjust);

    internal static TpmResponseCode Execute(CommandContext context, in Request request)
    {
        context.Tpm.AdjustClock(request.RateAdjust switch
        {
            ClockAdjustment.CoarseSlower => 300,
            ClockAdjustment.MediumSlower => 30,
            ClockAdjustment.FineSlower => 1,
            ClockAdjustment.FineFaster => -1,
            ClockAdjustment.MediumFaster => -30,
            ClockAdjustment.CoarseFaster => -300,
            _ => 0,
        });
        return TpmResponseCode.Success;
    }
}

/// <summary>TPM_CLOCK_ADJUST: a signed byte.</summary>
internal enum ClockAdjustment : byte
{
    CoarseSlower = 0xFD,
    MediumSlower = 0xFE,
    FineSlower = 0xFF,
    None = 0,
    FineFaster = 1,
    MediumFaster = 2,
    CoarseFaster = 3,
}
