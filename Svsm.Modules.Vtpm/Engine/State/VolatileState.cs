// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using System.Security.Cryptography;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.State;

// What a running TPM has that its storage has not: for a host that suspends or moves it between two commands. The guest notices nothing.
//
// Blob: UINT32 magic "SVTV", UINT16 version, then the fields below in their order, big-endian, arrays as TPM2B. Of a TPM without storage its
// persistent blob follows. A reader refuses every version but its own, every byte too many, and a persistent state that is not the one the
// TPM was suspended with: a volatile blob is good until the TPM has changed its storage once more.
//
// Not in it: the random number generator, which is seeded anew, and physical presence, which the platform asserts.
[TpmStructure]
internal sealed partial class VolatileState
{
    internal const uint Magic = 0x5356_5456;
    internal const ushort Version = 1;

    /// <summary>Enough for the largest, without the persistent blob.</summary>
    internal const int MaxSize = 48 * 1024;

    /// <summary>SHA-256 of the persistent blob.</summary>
    [Size(SHA256.HashSizeInBytes)]
    internal byte[] PersistentDigest = [];
    internal bool IsStarted;
    internal bool WasOrderly;
    internal bool IsPcrAllocationPending;

    /// <summary><see cref="Tpm.Time"/> and what belongs to it.</summary>
    internal ulong Time;
    internal ulong TimeEpoch;
    internal ulong ClockRate;
    internal ulong ClockRemainder;

    /// <summary>The times that <see cref="Dispatch.DictionaryAttack"/> counts from.</summary>
    internal ulong SelfHealTime;
    internal ulong LockoutTime;

    internal ResetState Reset = new();
    internal ClearState Clear = new();

    /// <summary>Every PCR of every bank, bank by bank.</summary>
    [Size(Algorithms.AllDigests * TpmLimits.PcrCount)]
    internal byte[] Pcrs = [];

    [Count(TpmLimits.LoadedSessions)]
    internal Session[] Sessions = [];
    internal TpmHandle ExclusiveAuditSession = TpmHandle.Unassigned;

    /// <summary>The algorithms that no self test was done of.</summary>
    [Count(SelfTests.MaxList)]
    internal AlgorithmId[] Untested = [];

    /// <summary>Objects and sequences with their handles, as <see cref="TransientObject.Serialize"/> writes them.</summary>
    [Count(TpmLimits.LoadedObjects)]
    internal StoredObject[] Objects = [];

    /// <summary>A measurement between _TPM_Hash_Start and _TPM_Hash_End: an event sequence, or nothing.</summary>
    [Size(TpmLimits.MaxContext)]
    internal byte[] Measurement = [];

    /// <summary>What was measured before TPM2_Startup, which has not come yet.</summary>
    [Count(TpmLimits.HashCount)]
    internal MeasuredDigest[] StaticMeasurement = [];

    /// <summary>Whether sessions and objects have handles that a TPM can have given them, each another one.</summary>
    internal bool HasGoodHandles()
    {
        var seen = new HashSet<int>();
        foreach (Session session in Sessions)
        {
            if (session.Handle.Type is not (HandleType.HmacSession or HandleType.PolicySession) || session.Handle.Index >= TpmLimits.ActiveSessions || !seen.Add(session.Handle.Index))
            {
                return false;
            }
        }

        seen.Clear();
        return Array.TrueForAll(Objects, o => o.Handle.Type == HandleType.Transient && o.Handle.Index < TpmLimits.LoadedObjects && seen.Add(o.Handle.Index));
    }

    /// <summary>Clears the objects, which a TPM has copies of. Everything else is the TPM's own.</summary>
    internal void Clean()
    {
        foreach (StoredObject stored in Objects)
        {
            CryptographicOperations.ZeroMemory(stored.Blob);
        }
    }

    /// <summary>Clears all that is secret: no TPM has it.</summary>
    internal void Discard()
    {
        Clean();
        CryptographicOperations.ZeroMemory(Reset.NullProof);
        CryptographicOperations.ZeroMemory(Reset.NullSeed);
        CryptographicOperations.ZeroMemory(Reset.CommitNonce);
        CryptographicOperations.ZeroMemory(Clear.PlatformAuth);
        CryptographicOperations.ZeroMemory(Clear.PcrAuth);
        foreach (Session session in Sessions)
        {
            session.Clear();
        }
    }
}

/// <summary>A digest of a measurement.</summary>
[TpmStructure]
internal readonly partial record struct MeasuredDigest([Algorithm(AlgorithmUse.Hash)] AlgorithmId Hash, [Size(TpmLimits.MaxDigest)] byte[] Digest);
