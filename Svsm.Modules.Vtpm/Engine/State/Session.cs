// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Security.Cryptography;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.State;

/// <summary>What a policy session has bound the command's parameters to, if anything.</summary>
internal enum PolicyBinding : byte
{
    None,

    /// <summary>The cpHash.</summary>
    Command,

    /// <summary>The digest of the handles' Names.</summary>
    Names,

    /// <summary>The digest of the template of a creation.</summary>
    Template,

    /// <summary>The digest of the parameters.</summary>
    Parameters,
}

/// <summary>What else a policy session asks for.</summary>
[Flags]
internal enum PolicyDemands : byte
{
    None = 0,

    /// <summary>An HMAC with the authValue.</summary>
    AuthValue = 1,

    /// <summary>The authValue as a password.</summary>
    Password = 2,

    /// <summary>Physical presence.</summary>
    PhysicalPresence = 4,

    /// <summary>PCRs as they were: <see cref="PolicyState.PcrCounter"/>.</summary>
    Pcrs = 8,

    /// <summary>An NV index in the state of writing that <see cref="NvWritten"/> says.</summary>
    NvWrittenState = 16,

    /// <summary>The index has to be written.</summary>
    NvWritten = 32,
}

/// <summary>What the policy commands have put together in a session. TPM2_PolicyRestart and use for an authorisation make it anew.</summary>
[TpmStructure]
internal sealed partial class PolicyState
{
    [Size(TpmLimits.MaxDigest)]
    internal byte[] Digest = [];

    /// <summary>The only command that the session is good for; 0 for any.</summary>
    internal uint Command;
    internal PolicyBinding Binding;
    [Size(TpmLimits.MaxDigest)]
    internal byte[] BoundDigest = [];
    internal PolicyDemands Demands;
    internal uint PcrCounter;

    /// <summary>TPMA_LOCALITY; 0 for any.</summary>
    internal byte Locality;

    /// <summary>Milliseconds of <see cref="Tpm.Time"/> after which the policy is not good any more; 0 for never.</summary>
    internal ulong Timeout;

    internal static PolicyState Create(AlgorithmId hash) => new() { Digest = new byte[Algorithms.DigestSize(hash)] };

    internal bool Demand(PolicyDemands demand) => (Demands & demand) != 0;
}

/// <summary>An authorisation session that is loaded.</summary>
[TpmStructure]
internal sealed partial class Session
{
    internal TpmHandle Handle;
    internal SessionType Type;
    [Algorithm(AlgorithmUse.Hash)]
    internal AlgorithmId Hash;
    [OrNull]
    internal SymmetricDefinition Symmetric = SymmetricDefinition.None;

    [Size(TpmLimits.MaxDigest)]
    internal byte[] Key = [];
    [Size(TpmLimits.MaxDigest)]
    internal byte[] NonceTpm = [];

    /// <summary>Name and authValue of the entity that the session is bound to; empty when it is not bound.</summary>
    [Size(TpmLimits.MaxData + TpmLimits.MaxDigest)]
    internal byte[] BoundEntity = [];

    /// <summary>The bound entity is protected against dictionary attacks.</summary>
    internal bool IsAttackBound;

    /// <summary>The bound entity is the lockout hierarchy.</summary>
    internal bool IsLockoutBound;

    /// <summary>The digest of the commands that the session audits; empty before the first.</summary>
    [Size(TpmLimits.MaxDigest)]
    internal byte[] AuditDigest = [];

    /// <summary><see cref="Tpm.Time"/> when the session was started, and the epoch of that time.</summary>
    internal ulong StartTime;
    internal ulong TimeEpoch;

    /// <summary>Of a policy or trial session.</summary>
    internal PolicyState Policy = new();

    internal void Clear()
    {
        CryptographicOperations.ZeroMemory(Key);
        CryptographicOperations.ZeroMemory(BoundEntity);
    }
}

/// <summary>The loaded sessions, and which handles saved ones have.</summary>
internal sealed class SessionTable(Tpm tpm)
{
    // How far the counter of contexts may be ahead of the oldest saved session (TPM_PT_CONTEXT_GAP_MAX).
    internal const uint MaxGap = 0xFFFF;

    private readonly Session?[] _slots = new Session?[TpmLimits.LoadedSessions];

    /// <summary>The session that audits and that no command has passed by since.</summary>
    internal TpmHandle ExclusiveAuditSession { get; set; } = TpmHandle.Unassigned;

    internal int LoadedCount => Array.FindAll(_slots, s => s is not null).Length;

    internal int ActiveCount => LoadedCount + Array.FindAll(Saved, id => id != 0).Length;

    /// <summary>Whether the counter cannot go on before the oldest saved session is loaded or flushed.</summary>
    internal bool IsGapFull
    {
        get
        {
            foreach (ulong id in Saved)
            {
                if (id != 0 && tpm.ResetState.ContextCounter - id >= MaxGap)
                {
                    return true;
                }
            }

            return false;
        }
    }

    // By the index in the handle: the number of the context that the session was saved in last; 0 for one that is not saved.
    private ulong[] Saved => tpm.ResetState.SavedSessions;

    /// <summary>The session, also when the type in the handle is not its type; null when it is not loaded.</summary>
    internal Session? Find(TpmHandle handle)
        => Array.Find(_slots, s => s is not null && s.Handle.Index == handle.Index);

    internal bool IsSaved(TpmHandle handle) => handle.Index < Saved.Length && Saved[handle.Index] != 0;

    /// <summary>A handle for a new session.</summary>
    internal TpmResponseCode Reserve(SessionType type, out TpmHandle handle)
    {
        handle = default;
        if (!Array.Exists(_slots, s => s is null))
        {
            return TpmResponseCode.SessionMemory;
        }

        if (IsGapFull)
        {
            return TpmResponseCode.ContextGap;
        }

        for (int i = 0; i < Saved.Length; i++)
        {
            handle = TpmHandle.Of(type == SessionType.Hmac ? HandleType.HmacSession : HandleType.PolicySession, i);
            if (Saved[i] == 0 && Find(handle) is null)
            {
                return TpmResponseCode.Success;
            }
        }

        return TpmResponseCode.SessionHandles;
    }

    /// <summary>Takes a session whose handle came from <see cref="Reserve"/> or that was saved.</summary>
    /// <returns><see cref="TpmResponseCode.SessionMemory"/> when every slot is taken.</returns>
    internal TpmResponseCode Add(Session session)
    {
        int slot = Array.IndexOf(_slots, null);
        if (slot < 0)
        {
            return TpmResponseCode.SessionMemory;
        }

        Saved[session.Handle.Index] = 0;
        _slots[slot] = session;
        return TpmResponseCode.Success;
    }

    /// <summary>Frees the slot of a session that is saved; its handle stays taken.</summary>
    /// <param name="session">The session.</param>
    /// <param name="context">The number of the context.</param>
    internal void Save(Session session, ulong context)
    {
        Remove(session);
        Saved[session.Handle.Index] = context;
    }

    /// <summary>Whether this is the context that the session was saved in last.</summary>
    internal bool IsLatest(TpmHandle handle, ulong context) => IsSaved(handle) && Saved[handle.Index] == context;

    internal void Remove(Session session)
    {
        if (ExclusiveAuditSession == session.Handle)
        {
            ExclusiveAuditSession = TpmHandle.Unassigned;
        }

        session.Clear();
        _slots[Array.IndexOf(_slots, session)] = null;
    }

    /// <summary>Forgets a saved session: no context of it can be loaded any more.</summary>
    internal void RemoveSaved(TpmHandle handle) => Saved[handle.Index] = 0;

    /// <summary>Removes the loaded sessions.</summary>
    internal void Clear()
    {
        foreach (Session? session in (Session?[])_slots.Clone())
        {
            if (session is not null)
            {
                Remove(session);
            }
        }
    }

    /// <summary>The loaded sessions in ascending order of their index, for a TPM that is suspended: which slots they are in makes no difference.</summary>
    internal Session[] Loaded()
    {
        Session[] loaded = Array.FindAll(_slots, s => s is not null)!;
        Array.Sort(loaded, (a, b) => a.Handle.Index.CompareTo(b.Handle.Index));
        return loaded;
    }

    /// <summary>Takes back what <see cref="Loaded"/> gave, when no session is loaded.</summary>
    internal void Restore(Session[] sessions) => sessions.CopyTo(_slots, 0);

    /// <summary>Handles of the loaded sessions in ascending order of their index.</summary>
    internal TpmHandle[] LoadedHandles() => Array.ConvertAll(Loaded(), s => s.Handle);

    /// <summary>Handles of the saved sessions in ascending order of their index, as those of HMAC sessions.</summary>
    internal TpmHandle[] SavedHandles()
    {
        var handles = new System.Collections.Generic.List<TpmHandle>();
        for (int i = 0; i < Saved.Length; i++)
        {
            if (Saved[i] != 0)
            {
                handles.Add(TpmHandle.Of(HandleType.HmacSession, i));
            }
        }

        return [.. handles];
    }
}
