// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Security.Cryptography;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.State;

/// <summary>An authorisation session that is loaded.</summary>
internal sealed class Session(TpmHandle handle, SessionType type, AlgorithmId hash, SymmetricDefinition symmetric)
{
    internal TpmHandle Handle { get; } = handle;

    internal SessionType Type { get; } = type;

    internal AlgorithmId Hash { get; } = hash;

    internal SymmetricDefinition Symmetric { get; } = symmetric;

    internal byte[] Key { get; set; } = [];

    internal byte[] NonceTpm { get; set; } = [];

    /// <summary>Name and authValue of the entity that the session is bound to; empty when it is not bound.</summary>
    internal byte[] BoundEntity { get; set; } = [];

    /// <summary>The bound entity is protected against dictionary attacks.</summary>
    internal bool IsAttackBound { get; init; }

    /// <summary>The bound entity is the lockout hierarchy.</summary>
    internal bool IsLockoutBound { get; init; }

    /// <summary>The digest of the commands that the session audits; empty before the first.</summary>
    internal byte[] AuditDigest { get; set; } = [];

    /// <summary>Of a policy or trial session.</summary>
    internal byte[] PolicyDigest { get; } = type == SessionType.Hmac ? [] : new byte[Algorithms.DigestSize(hash)];

    internal void Clear()
    {
        CryptographicOperations.ZeroMemory(Key);
        CryptographicOperations.ZeroMemory(BoundEntity);
    }
}

/// <summary>The loaded sessions.</summary>
internal sealed class SessionTable
{
    private readonly Session?[] _slots = new Session?[TpmLimits.LoadedSessions];
    private readonly bool[] _isHandleUsed = new bool[TpmLimits.ActiveSessions];

    /// <summary>The session that audits and that no command has passed by since.</summary>
    internal TpmHandle ExclusiveAuditSession { get; set; } = TpmHandle.Unassigned;

    internal int LoadedCount
    {
        get
        {
            int count = 0;
            foreach (Session? session in _slots)
            {
                count += session is null ? 0 : 1;
            }

            return count;
        }
    }

    internal int ActiveCount
    {
        get
        {
            int count = 0;
            foreach (bool used in _isHandleUsed)
            {
                count += used ? 1 : 0;
            }

            return count;
        }
    }

    /// <summary>The session, also when the type in the handle is not its type; null when it is not loaded.</summary>
    internal Session? Find(TpmHandle handle)
        => Array.Find(_slots, s => s is not null && s.Handle.Index == handle.Index);

    /// <summary>A handle for a new session.</summary>
    internal TpmResponseCode Reserve(SessionType type, out TpmHandle handle)
    {
        handle = default;
        if (!Array.Exists(_slots, s => s is null))
        {
            return TpmResponseCode.SessionMemory;
        }

        int index = Array.IndexOf(_isHandleUsed, false);
        if (index < 0)
        {
            return TpmResponseCode.SessionHandles;
        }

        handle = TpmHandle.Of(type == SessionType.Hmac ? HandleType.HmacSession : HandleType.PolicySession, index);
        return TpmResponseCode.Success;
    }

    /// <summary>Takes a session whose handle came from <see cref="Reserve"/>.</summary>
    internal void Add(Session session)
    {
        _isHandleUsed[session.Handle.Index] = true;
        _slots[Array.IndexOf(_slots, null)] = session;
    }

    internal void Remove(Session session)
    {
        if (ExclusiveAuditSession == session.Handle)
        {
            ExclusiveAuditSession = TpmHandle.Unassigned;
        }

        session.Clear();
        _isHandleUsed[session.Handle.Index] = false;
        _slots[Array.IndexOf(_slots, session)] = null;
    }

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

    /// <summary>Handles of the loaded sessions in ascending order of their index.</summary>
    internal TpmHandle[] LoadedHandles()
    {
        Session[] loaded = Array.FindAll(_slots, s => s is not null)!;
        Array.Sort(loaded, (a, b) => a.Handle.Index.CompareTo(b.Handle.Index));
        return Array.ConvertAll(loaded, s => s.Handle);
    }
}
