// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.State;

// TPM_PT: what GetCapability says about the TPM as a whole. One row per property, ascending; a row computes its value from the TPM.
//
// Source: TCG TPM 2.0 Library, Part 2, "TPM_PT (Property Tag)"; values of the profile: TCG PC Client Platform TPM Profile.
internal static class TpmProperties
{
    /// <summary>Properties of one answer.</summary>
    internal const int MaxList = TpmLimits.MaxCapabilityData / 8;

    private const uint Fixed = 0x100;
    private const uint Variable = 0x200;

    private static readonly (uint Tag, Func<Tpm, uint> Value)[] s_rows =
    [
        (Fixed + 0, static _ => 0x322E_3000), // TPM_PT_FAMILY_INDICATOR "2.0"
        (Fixed + 1, static _ => 0), // TPM_PT_LEVEL
        (Fixed + 2, static _ => 159), // TPM_PT_REVISION: 1.59
        (Fixed + 3, static _ => 312), // TPM_PT_DAY_OF_YEAR of that revision
        (Fixed + 4, static _ => 2019), // TPM_PT_YEAR
        (Fixed + 5, static _ => 0x5356_534D), // TPM_PT_MANUFACTURER "SVSM"
        (Fixed + 6, static _ => 0x5376_736D), // TPM_PT_VENDOR_STRING_1 "Svsm"
        (Fixed + 7, static _ => 0x2E56_7470), // _2 ".Vtp"
        (Fixed + 8, static _ => 0x6D00_0000), // _3 "m"
        (Fixed + 9, static _ => 0), // _4
        (Fixed + 10, static _ => 1), // TPM_PT_VENDOR_TPM_TYPE
        (Fixed + 11, static _ => Attestation.FirmwareVersion1), // TPM_PT_FIRMWARE_VERSION_1
        (Fixed + 12, Attestation.FirmwareVersion2), // TPM_PT_FIRMWARE_VERSION_2
        (Fixed + 13, static _ => TpmLimits.MaxBuffer), // TPM_PT_INPUT_BUFFER
        (Fixed + 14, static _ => TpmLimits.LoadedObjects), // TPM_PT_HR_TRANSIENT_MIN
        (Fixed + 15, static _ => TpmLimits.NvCapacity / TpmLimits.MaxContext), // TPM_PT_HR_PERSISTENT_MIN: of the largest objects
        (Fixed + 16, static _ => TpmLimits.LoadedSessions), // TPM_PT_HR_LOADED_MIN
        (Fixed + 17, static _ => TpmLimits.ActiveSessions), // TPM_PT_ACTIVE_SESSIONS_MAX
        (Fixed + 18, static _ => TpmLimits.PcrCount), // TPM_PT_PCR_COUNT
        (Fixed + 19, static _ => TpmLimits.PcrSelectSize), // TPM_PT_PCR_SELECT_MIN
        (Fixed + 20, static _ => 0xFFFF), // TPM_PT_CONTEXT_GAP_MAX
        (Fixed + 22, static _ => 0), // TPM_PT_NV_COUNTERS_MAX: no limit of its own
        (Fixed + 23, static _ => TpmLimits.MaxNvIndex), // TPM_PT_NV_INDEX_MAX
        (Fixed + 24, static _ => 0x6), // TPM_PT_MEMORY: transient objects and sessions from RAM of their own
        (Fixed + 25, static _ => (uint)Tpm.ClockUpdateInterval), // TPM_PT_CLOCK_UPDATE
        (Fixed + 26, static _ => (uint)Tickets.Hash), // TPM_PT_CONTEXT_HASH
        (Fixed + 27, static _ => (uint)AlgorithmId.Aes), // TPM_PT_CONTEXT_SYM
        (Fixed + 28, static _ => 256), // TPM_PT_CONTEXT_SYM_SIZE
        (Fixed + 29, static _ => 0xFF), // TPM_PT_ORDERLY_COUNT
        (Fixed + 30, static tpm => (uint)tpm.MessageSize), // TPM_PT_MAX_COMMAND_SIZE
        (Fixed + 31, static tpm => (uint)tpm.MessageSize), // TPM_PT_MAX_RESPONSE_SIZE
        (Fixed + 32, static _ => TpmLimits.MaxDigest), // TPM_PT_MAX_DIGEST
        (Fixed + 33, static _ => TpmLimits.MaxContext), // TPM_PT_MAX_OBJECT_CONTEXT
        (Fixed + 34, static _ => TpmLimits.MaxContext), // TPM_PT_MAX_SESSION_CONTEXT
        (Fixed + 35, static _ => 1), // TPM_PT_PS_FAMILY_INDICATOR: PC client
        (Fixed + 36, static _ => 0), // TPM_PT_PS_LEVEL
        (Fixed + 37, static _ => 0x107), // TPM_PT_PS_REVISION
        (Fixed + 38, static _ => 0), // TPM_PT_PS_DAY_OF_YEAR
        (Fixed + 39, static _ => 0), // TPM_PT_PS_YEAR
        (Fixed + 40, static _ => 0), // TPM_PT_SPLIT_MAX
        (Fixed + 41, static _ => (uint)CommandTable.All.Length), // TPM_PT_TOTAL_COMMANDS
        (Fixed + 42, static _ => (uint)CommandTable.All.Length), // TPM_PT_LIBRARY_COMMANDS
        (Fixed + 43, static _ => 0), // TPM_PT_VENDOR_COMMANDS
        (Fixed + 44, static _ => TpmLimits.MaxBuffer), // TPM_PT_NV_BUFFER_MAX
        (Fixed + 45, static _ => 0), // TPM_PT_MODES
        (Fixed + 46, static _ => TpmLimits.MaxBuffer), // TPM_PT_MAX_CAP_BUFFER
        (Variable + 0, Permanent), // TPM_PT_PERMANENT
        (Variable + 1, StartupClear), // TPM_PT_STARTUP_CLEAR
        (Variable + 2, static tpm => (uint)tpm.Persistent.NvIndices.Length), // TPM_PT_HR_NV_INDEX
        (Variable + 3, static tpm => (uint)tpm.Sessions.LoadedCount), // TPM_PT_HR_LOADED
        (Variable + 4, static tpm => (uint)(TpmLimits.LoadedSessions - tpm.Sessions.LoadedCount)), // TPM_PT_HR_LOADED_AVAIL
        (Variable + 5, static tpm => (uint)tpm.Sessions.ActiveCount), // TPM_PT_HR_ACTIVE
        (Variable + 6, static tpm => (uint)(TpmLimits.ActiveSessions - tpm.Sessions.ActiveCount)), // TPM_PT_HR_ACTIVE_AVAIL
        (Variable + 7, static tpm => (uint)(TpmLimits.LoadedObjects - tpm.Objects.LoadedCount)), // TPM_PT_HR_TRANSIENT_AVAIL
        (Variable + 8, static tpm => (uint)tpm.Persistent.Objects.Length), // TPM_PT_HR_PERSISTENT
        (Variable + 9, static tpm => (uint)((TpmLimits.NvCapacity - NvStorage.Used(tpm)) / TpmLimits.MaxContext)), // TPM_PT_HR_PERSISTENT_AVAIL
        (Variable + 10, static tpm => (uint)System.Array.FindAll(tpm.Persistent.NvIndices, i => i.Type == NvType.Counter).Length), // TPM_PT_NV_COUNTERS
        (Variable + 11, static tpm => (uint)((TpmLimits.NvCapacity - NvStorage.Used(tpm)) / (NvStorage.Overhead + sizeof(ulong)))), // TPM_PT_NV_COUNTERS_AVAIL
        (Variable + 12, static tpm => tpm.Persistent.AlgorithmSet), // TPM_PT_ALGORITHM_SET
        (Variable + 13, static _ => (uint)Algorithms.Curves.Length), // TPM_PT_LOADED_CURVES
        (Variable + 14, static tpm => tpm.Persistent.FailedTries), // TPM_PT_LOCKOUT_COUNTER
        (Variable + 15, static tpm => tpm.Persistent.MaxTries), // TPM_PT_MAX_AUTH_FAIL
        (Variable + 16, static tpm => tpm.Persistent.RecoveryTime), // TPM_PT_LOCKOUT_INTERVAL
        (Variable + 17, static tpm => tpm.Persistent.LockoutRecovery), // TPM_PT_LOCKOUT_RECOVERY
        (Variable + 18, static _ => 0), // TPM_PT_NV_WRITE_RECOVERY
        (Variable + 19, static tpm => (uint)(tpm.Persistent.AuditCounter >> 32)), // TPM_PT_AUDIT_COUNTER_0
        (Variable + 20, static tpm => (uint)tpm.Persistent.AuditCounter), // TPM_PT_AUDIT_COUNTER_1
    ];

    internal static ReadOnlySpan<(uint Tag, Func<Tpm, uint> Value)> Rows => s_rows;

    // TPMA_PERMANENT.
    private static uint Permanent(Tpm tpm)
        => (tpm.Persistent.OwnerAuth.Length != 0 ? 1u : 0)
            | (tpm.Persistent.EndorsementAuth.Length != 0 ? 1u << 1 : 0)
            | (tpm.Persistent.LockoutAuth.Length != 0 ? 1u << 2 : 0)
            | (tpm.Persistent.IsClearDisabled ? 1u << 8 : 0)
            | (tpm.DictionaryAttack.IsLockedOut ? 1u << 9 : 0)
            | (1u << 10);

    // TPMA_STARTUP_CLEAR.
    private static uint StartupClear(Tpm tpm)
        => (tpm.ClearState.IsPlatformEnabled ? 1u : 0)
            | (tpm.ClearState.IsOwnerEnabled ? 1u << 1 : 0)
            | (tpm.ClearState.IsEndorsementEnabled ? 1u << 2 : 0)
            | (tpm.ClearState.IsPlatformNvEnabled ? 1u << 3 : 0)
            | (tpm.ClearState.IsReadOnly ? 1u << 4 : 0)
            | (tpm.WasOrderly ? 1u << 31 : 0);
}
