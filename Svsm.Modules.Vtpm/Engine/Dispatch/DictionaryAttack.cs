// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Dispatch;

// Protection against dictionary attacks: failed authorisations of protected entities are counted, and above a limit none is checked.
// The counter goes down with time. lockoutAuth has a lock of its own: one failure.
//
// Source: TCG TPM 2.0 Library, Part 1, "Dictionary attack protection".
internal sealed class DictionaryAttack(Tpm tpm)
{
    private ulong _selfHealTime;
    private ulong _lockoutTime;

    /// <summary>The times that the counters count from, for a TPM that is suspended.</summary>
    internal (ulong SelfHeal, ulong Lockout) Times
    {
        get => (_selfHealTime, _lockoutTime);
        set => (_selfHealTime, _lockoutTime) = value;
    }

    /// <summary>Whether protected authorisations are refused now.</summary>
    internal bool IsLockedOut => tpm.Persistent.FailedTries >= tpm.Persistent.MaxTries;

    /// <summary>What a startup does.</summary>
    /// <param name="isResume">The startup is a TPM Resume.</param>
    /// <param name="previous">How the TPM was left.</param>
    internal void Startup(bool isResume, OrderlyState previous)
    {
        PersistentState state = tpm.Persistent;
        if (!isResume && state.LockoutRecovery == 0)
        {
            state.IsLockoutAuthEnabled = true;
        }

        // Power may have been taken away to prevent that a failure was recorded.
        if (previous == OrderlyState.AttackUsed && state.RecoveryTime != 0 && state.FailedTries < state.MaxTries)
        {
            state.FailedTries++;
        }

        _selfHealTime = 0;
        _lockoutTime = 0;
        tpm.MarkDirty();
    }

    /// <summary>Whether an authorisation may be checked.</summary>
    internal TpmResponseCode CheckAllowed(bool isLockoutAuth)
    {
        PersistentState state = tpm.Persistent;
        if (isLockoutAuth ? !state.IsLockoutAuthEnabled : IsLockedOut)
        {
            return TpmResponseCode.Lockout;
        }

        if (!isLockoutAuth && state.Orderly != OrderlyState.AttackUsed)
        {
            state.Orderly = OrderlyState.AttackUsed;
            tpm.MarkDirty();
        }

        return TpmResponseCode.Success;
    }

    /// <summary>Counts a failure.</summary>
    internal void Register(bool isLockoutAuth)
    {
        PersistentState state = tpm.Persistent;
        if (isLockoutAuth)
        {
            state.IsLockoutAuthEnabled = false;
            _lockoutTime = tpm.Time;
        }
        else if (state.RecoveryTime != 0)
        {
            state.FailedTries++;
            _selfHealTime = tpm.Time;
        }

        tpm.MarkDirty();
    }

    /// <summary>Starts the timers again, after parameters or counter were set.</summary>
    internal void RestartTimers() => _selfHealTime = _lockoutTime = tpm.Time;

    /// <summary>Forgets what time has healed.</summary>
    internal void Advance()
    {
        PersistentState state = tpm.Persistent;
        if (state.FailedTries != 0 && state.RecoveryTime != 0)
        {
            ulong interval = state.RecoveryTime * 1000UL;
            ulong healed = Math.Min((tpm.Time - _selfHealTime) / interval, state.FailedTries);
            if (healed != 0)
            {
                state.FailedTries -= (uint)healed;
                _selfHealTime += healed * interval;
                tpm.MarkDirty();
            }
        }

        if (!state.IsLockoutAuthEnabled && state.LockoutRecovery != 0 && tpm.Time - _lockoutTime >= state.LockoutRecovery * 1000UL)
        {
            state.IsLockoutAuthEnabled = true;
            tpm.MarkDirty();
        }
    }
}
