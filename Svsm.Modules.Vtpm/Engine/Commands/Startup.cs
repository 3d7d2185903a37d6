// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_Startup: TPM Reset, Restart or Resume.</summary>
[TpmCommand(CommandCode.Startup, Traits = CommandTraits.Nv | CommandTraits.NoSessions)]
internal static partial class Startup
{
    internal readonly record struct Request(StartupType StartupType);

    internal static TpmResponseCode Execute(CommandContext context, in Request request)
    {
        Tpm tpm = context.Tpm;
        if (tpm.IsStarted)
        {
            return TpmResponseCode.Initialize;
        }

        // Only the platform's firmware starts a TPM, from where it may say that it measured itself.
        if (context.Locality is not (0 or 3))
        {
            return TpmResponseCode.Locality;
        }

        PersistentState persistent = tpm.Persistent;
        OrderlyState previous = persistent.Orderly;
        ResetState? reset = null;
        ClearState? clear = null;
        if (previous == OrderlyState.State && !Tpm.TryDeserialize(persistent.Saved, out reset, out clear))
        {
            // The blob is authentic, so the engine wrote this itself.
            throw new InvalidOperationException("the state saved by TPM2_Shutdown(STATE) does not parse");
        }

        bool isResume = request.StartupType == StartupType.State;
        if (isResume && clear is null)
        {
            return TpmResponseCode.Value.At(At.StartupType);
        }

        if (reset is null)
        {
            // TPM Reset.
            reset = new ResetState
            {
                NullProof = tpm.NewSecret(),
                NullSeed = tpm.NewSecret(),
                CommitNonce = tpm.NewSecret(),
                PcrAllocation = persistent.PcrAllocation,
            };
            persistent.ResetCount++;
            persistent.TotalResetCount++;
        }
        else
        {
            reset.RestartCount++;
        }

        if (!isResume)
        {
            clear = new ClearState();
            reset.ClearCount++;
        }

        tpm.ResetState = reset;
        tpm.ClearState = clear!;
        tpm.Countdown.Startup();
        MeasuredDigest[] measured = tpm.TakeStaticMeasurement();
        tpm.Pcrs.Initialize(reset.PcrAllocation, measured.Length != 0 ? 4 : context.Locality);
        foreach ((AlgorithmId hash, byte[] digest) in measured)
        {
            tpm.ExtendPcr(hash, 0, digest);
        }

        if (isResume && !tpm.Pcrs.Restore(clear!.SavedPcrs))
        {
            throw new InvalidOperationException("the saved PCRs are not those of the banks");
        }

        for (int pcr = 0; pcr < TpmLimits.PcrCount; pcr++)
        {
            if (!isResume || !PcrBanks.Has(PcrProperty.Save, pcr))
            {
                tpm.CountPcrChange(pcr);
            }
        }

        tpm.WasOrderly = previous is OrderlyState.Clear or OrderlyState.State;
        if (!tpm.WasOrderly)
        {
            tpm.RecoverClock();
        }

        tpm.Nv.Startup(isResume, tpm.WasOrderly);
        tpm.DictionaryAttack.Startup(isResume, previous);
        persistent.Orderly = OrderlyState.None;
        persistent.Saved = [];
        tpm.MarkDirty();
        tpm.IsStarted = true;
        return TpmResponseCode.Success;
    }
}
