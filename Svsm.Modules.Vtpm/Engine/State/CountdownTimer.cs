// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using Svsm.Modules.Vtpm.Commands;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.State;

// The authenticated countdown timer (ACT), a watchdog: seconds that run down while the TPM is powered, until somebody who may sets them anew.
// When none are left, the timer is signaled and the platform does something about it (Tpm.CheckCountdown).
//
//   TPM Reset, Restart   the timer stops, its policy is empty, it is not signaled
//   TPM Resume           it goes on: with what was left if it was set since the startup before, else with half of that, so that nobody keeps
//                        it from running out by suspending the TPM again and again
//
// Its state is in ClearState. Sources: TCG TPM 2.0 Library, Part 1, "ACT"; Part 3, TPM2_ACT_SetTimeout; TPMA_ACT.
internal sealed class CountdownTimer(Tpm tpm)
{
    /// <summary>Seconds that mean: take the signal back and do not run.</summary>
    internal const uint Stop = uint.MaxValue;

    private const uint SignaledAttribute = 1;
    private const uint PreserveSignaledAttribute = 2;

    /// <summary>Sets the timer.</summary>
    /// <param name="seconds">How long it runs; 0 lets it run out at once if it runs; <see cref="Stop"/> ends a signal.</param>
    /// <returns>TPM_RC_VALUE for <see cref="Stop"/> without a signal.</returns>
    internal TpmResponseCode Set(uint seconds)
    {
        ClearState state = tpm.ClearState;
        if (seconds == Stop)
        {
            if (!state.IsCountdownSignaled)
            {
                return TpmResponseCode.Value;
            }

            seconds = 0;
            state.IsCountdownSignaled = false;
        }
        else if (seconds != 0)
        {
            state.IsCountdownSignaled = false;
        }
        else if (state.CountdownSeconds != 0)
        {
            state.IsCountdownSignaled = true;
        }

        state.CountdownSeconds = seconds;
        state.CountdownMilliseconds = 0;
        state.WasCountdownSignaled = false;
        state.IsCountdownSet = true;
        return TpmResponseCode.Success;
    }

    /// <summary>Lets time pass.</summary>
    internal void Advance(ulong milliseconds)
    {
        ClearState state = tpm.ClearState;
        if (state.CountdownSeconds == 0)
        {
            return;
        }

        milliseconds += state.CountdownMilliseconds;
        ulong seconds = milliseconds / 1000;
        if (seconds >= state.CountdownSeconds)
        {
            state.CountdownSeconds = 0;
            state.CountdownMilliseconds = 0;
            state.IsCountdownSignaled = true;
            return;
        }

        state.CountdownSeconds -= (uint)seconds;
        state.CountdownMilliseconds = (uint)(milliseconds % 1000);
    }

    /// <summary>The seconds that TPM2_Shutdown(STATE) saves.</summary>
    internal uint SecondsToSave
    {
        get
        {
            ClearState state = tpm.ClearState;
            return state.IsCountdownSet || state.CountdownSeconds <= 1 ? state.CountdownSeconds : state.CountdownSeconds / 2;
        }
    }

    /// <summary>TPM2_Startup, with the state that it has made or taken back.</summary>
    internal void Startup()
    {
        ClearState state = tpm.ClearState;
        state.WasCountdownSignaled |= state.IsCountdownSignaled;
        state.CountdownMilliseconds = 0;
        state.IsCountdownSet = false;
    }

    /// <summary>TPMS_ACT_DATA.</summary>
    internal CapabilityItem ToCapability()
    {
        ClearState state = tpm.ClearState;
        return new CapabilityItem(
            TpmHandle.CountdownTimer,
            state.CountdownSeconds,
            (state.IsCountdownSignaled ? SignaledAttribute : 0) | (state.WasCountdownSignaled ? PreserveSignaledAttribute : 0));
    }
}
