// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_Shutdown: what the next startup will find. Any other command afterwards takes it back.</summary>
[TpmCommand(CommandCode.Shutdown, Traits = CommandTraits.Nv)]
internal static partial class Shutdown
{
    internal readonly record struct Request(StartupType ShutdownType);

    internal static TpmResponseCode Execute(CommandContext context, in Request request)
    {
        Tpm tpm = context.Tpm;
        PersistentState persistent = tpm.Persistent;
        if (request.ShutdownType == StartupType.State)
        {
            // The saved PCRs would not fit into the banks of the next startup.
            if (tpm.IsPcrAllocationPending)
            {
                return TpmResponseCode.Type.At(At.ShutdownType);
            }

            uint seconds = tpm.ClearState.CountdownSeconds;
            tpm.ClearState.CountdownSeconds = tpm.Countdown.SecondsToSave;
            tpm.ClearState.SavedPcrs = tpm.Pcrs.Save();
            persistent.Saved = Tpm.Serialize(tpm.ResetState, tpm.ClearState);
            tpm.ClearState.SavedPcrs = [];
            tpm.ClearState.CountdownSeconds = seconds;
            persistent.Orderly = OrderlyState.State;
        }
        else
        {
            persistent.Saved = [];
            persistent.Orderly = OrderlyState.Clear;
        }

        tpm.MarkDirty();
        return TpmResponseCode.Success;
    }
}
