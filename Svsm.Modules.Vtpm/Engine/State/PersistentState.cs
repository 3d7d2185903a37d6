// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.State;

// What survives power-off. The engine commits it as one blob before it answers the command that changed it.
//
// Blob: UINT32 magic "SVTP", UINT16 version, then the fields below in their order, big-endian, arrays as TPM2B. A reader refuses every
// version but its own and every byte too many.

/// <summary>How the TPM was left.</summary>
internal enum OrderlyState : byte
{
    /// <summary>Running, or powered off without TPM2_Shutdown.</summary>
    None,

    /// <summary>The same, and an authorisation protected against dictionary attacks was checked meanwhile.</summary>
    AttackUsed,

    /// <summary>TPM2_Shutdown(CLEAR).</summary>
    Clear,

    /// <summary>TPM2_Shutdown(STATE).</summary>
    State,
}

[TpmStructure]
internal sealed partial class PersistentState
{
    internal const uint Magic = 0x5356_5450;
    internal const ushort Version = 2;

    /// <summary>Bytes of a seed and of a proof.</summary>
    internal const int SecretSize = 64;

    /// <summary>Enough for what a suspended TPM keeps.</summary>
    internal const int MaxSavedSize = 6144;

    /// <summary>Enough for the largest blob.</summary>
    internal const int MaxBlobSize = 8192 + MaxSavedSize + TpmLimits.NvCapacity;

    [Size(SecretSize)]
    internal byte[] EndorsementSeed = [];
    [Size(SecretSize)]
    internal byte[] OwnerSeed = [];
    [Size(SecretSize)]
    internal byte[] PlatformSeed = [];
    [Size(SecretSize)]
    internal byte[] EndorsementProof = [];
    [Size(SecretSize)]
    internal byte[] OwnerProof = [];
    [Size(SecretSize)]
    internal byte[] PlatformProof = [];

    [Size(TpmLimits.MaxDigest)]
    internal byte[] OwnerAuth = [];
    [Size(TpmLimits.MaxDigest)]
    internal byte[] EndorsementAuth = [];
    [Size(TpmLimits.MaxDigest)]
    internal byte[] LockoutAuth = [];
    internal AuthPolicy OwnerPolicy = AuthPolicy.None;
    internal AuthPolicy EndorsementPolicy = AuthPolicy.None;
    internal AuthPolicy LockoutPolicy = AuthPolicy.None;
    internal bool IsClearDisabled;

    internal uint FailedTries;
    internal uint MaxTries = 3;

    /// <summary>Seconds until one failed try is forgotten; 0 switches the protection off.</summary>
    internal uint RecoveryTime = 1000;

    /// <summary>Seconds until lockoutAuth can be used again after a failure; 0: after the next restart.</summary>
    internal uint LockoutRecovery = 1000;
    internal bool IsLockoutAuthEnabled = true;

    internal ulong TotalResetCount;
    internal uint ResetCount;

    /// <summary>Milliseconds.</summary>
    internal ulong Clock;
    internal bool IsClockSafe = true;
    internal OrderlyState Orderly = OrderlyState.Clear;

    /// <summary>The PCRs of each bank, as the next TPM Reset will have them.</summary>
    [Count(TpmLimits.HashCount)]
    internal PcrSelection[] PcrAllocation = [];

    /// <summary>Of the PCRs that have one.</summary>
    internal AuthPolicy PcrPolicy = AuthPolicy.None;

    /// <summary>The commands of the platform that need physical presence.</summary>
    [Count(TpmLimits.CommandListCount)]
    internal uint[] PresenceCommands = [(uint)CommandCode.PpCommands];

    /// <summary>What TPM2_SetAlgorithmSet set.</summary>
    internal uint AlgorithmSet;

    /// <summary>By ascending handle.</summary>
    [Count(TpmLimits.NvCapacity / NvStorage.Overhead)]
    internal StoredObject[] Objects = [];

    /// <summary>By ascending handle.</summary>
    [Count(TpmLimits.NvCapacity / NvStorage.Overhead)]
    internal NvIndex[] NvIndices = [];

    /// <summary>The greatest value that an NV counter had which is not there any more.</summary>
    internal ulong NvMaxCount;

    /// <summary>The commands on the list of command audit, but the one that is always on it.</summary>
    [Count(256)]
    internal uint[] AuditedCommands = [];

    /// <summary>The hash of command audit.</summary>
    internal AlgorithmId AuditHash = Tickets.Hash;

    /// <summary>Logs of command audit that were begun.</summary>
    internal ulong AuditCounter;

    /// <summary>What TPM2_Shutdown(STATE) saved: <see cref="ResetState"/>, <see cref="ClearState"/>; empty otherwise.</summary>
    [Size(MaxSavedSize)]
    internal byte[] Saved = [];
}

/// <summary>A policy and its hash algorithm; TPM_ALG_NULL and nothing for none.</summary>
[TpmStructure]
internal readonly partial record struct AuthPolicy(
    [Algorithm(AlgorithmUse.Hash), OrNull] AlgorithmId Algorithm, [Size(TpmLimits.MaxDigest)] byte[] Digest)
{
    internal static AuthPolicy None => new(AlgorithmId.Null, []);
}

/// <summary>What a TPM Reset makes anew and a TPM Restart or Resume keeps.</summary>
[TpmStructure]
internal sealed partial class ResetState
{
    [Size(PersistentState.SecretSize)]
    internal byte[] NullProof = [];
    [Size(PersistentState.SecretSize)]
    internal byte[] NullSeed = [];
    internal uint ClearCount;
    internal uint RestartCount;

    /// <summary>Counts the changes of PCRs.</summary>
    internal uint PcrCounter;

    /// <summary>Numbers the contexts that TPM2_ContextSave makes of objects.</summary>
    internal ulong ObjectContextCounter;

    /// <summary>Numbers those of sessions.</summary>
    internal ulong ContextCounter;

    /// <summary>For each session handle the number of the context that the session is saved in; 0 for none.</summary>
    [Count(TpmLimits.ActiveSessions)]
    internal ulong[] SavedSessions = new ulong[TpmLimits.ActiveSessions];

    /// <summary>The PCR allocation in effect.</summary>
    [Count(TpmLimits.HashCount)]
    internal PcrSelection[] PcrAllocation = [];

    /// <summary>The digest of the audited commands; empty when none was audited since it was read.</summary>
    [Size(TpmLimits.MaxDigest)]
    internal byte[] CommandAuditDigest = [];

    /// <summary>What the numbers of <see cref="State.Commitments"/> are made of.</summary>
    [Size(PersistentState.SecretSize)]
    internal byte[] CommitNonce = [];
    internal ulong CommitCounter;

    /// <summary>A bit per open commitment.</summary>
    [Size(State.Commitments.Count / 8)]
    internal byte[] Commitments = new byte[State.Commitments.Count / 8];
}

/// <summary>What a TPM Resume keeps and every TPM2_Startup(CLEAR) makes anew.</summary>
[TpmStructure]
internal sealed partial class ClearState
{
    internal bool IsPlatformEnabled = true;
    internal bool IsPlatformNvEnabled = true;
    internal bool IsOwnerEnabled = true;
    internal bool IsEndorsementEnabled = true;
    [Size(TpmLimits.MaxDigest)]
    internal byte[] PlatformAuth = [];
    internal AuthPolicy PlatformPolicy = AuthPolicy.None;

    /// <summary>Of the PCRs that have one.</summary>
    [Size(TpmLimits.MaxDigest)]
    internal byte[] PcrAuth = [];

    /// <summary>TPM2_ReadOnlyControl: what the TPM keeps is not to be changed.</summary>
    internal bool IsReadOnly;

    /// <summary>The countdown timer: seconds that are left; 0 when it does not run.</summary>
    internal uint CountdownSeconds;

    /// <summary>Milliseconds of the second that runs.</summary>
    internal uint CountdownMilliseconds;

    /// <summary>The timer has run out and was not set since.</summary>
    internal bool IsCountdownSignaled;

    /// <summary>It had run out before the last TPM Resume and was not set since.</summary>
    internal bool WasCountdownSignaled;

    /// <summary>It was set since the last startup.</summary>
    internal bool IsCountdownSet;
    internal AuthPolicy CountdownPolicy = AuthPolicy.None;

    /// <summary>The PCRs that survive TPM2_Shutdown(STATE), bank by bank in their order; filled when they are saved.</summary>
    [Size(2048 + 1024)]
    internal byte[] SavedPcrs = [];
}
