// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Security.Cryptography;
using Svsm.Modules.Vtpm.Crypto;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.State;

/// <summary>What lies in a transient slot.</summary>
internal abstract class TransientObject
{
    /// <summary>Without trailing zeros.</summary>
    internal byte[] Auth { get; init; } = [];

    /// <summary>The Name; empty for sequences.</summary>
    internal byte[] Name { get; init; } = [];

    internal AuthPolicy Policy { get; init; } = AuthPolicy.None;

    /// <summary>A wrong authorisation is not counted against dictionary attacks.</summary>
    internal bool IsNoDictionaryAttack { get; init; }

    /// <summary>The authValue is good for the user role.</summary>
    internal bool IsUserWithAuth { get; init; }

    /// <summary>The admin role takes a policy only.</summary>
    internal bool IsAdminWithPolicy { get; init; }

    /// <summary>The hierarchy whose end ends the object too.</summary>
    internal TpmHandle Hierarchy { get; init; } = TpmHandle.Null;

    internal virtual void Clear() => CryptographicOperations.ZeroMemory(Auth);
}

/// <summary>A hash, HMAC or event sequence in progress.</summary>
internal sealed class SequenceObject : TransientObject
{
    // However the data is cut into pieces, its first bytes tell whether it could be an attestation.
    private readonly byte[] _head = new byte[sizeof(uint)];
    private int _headSize;

    internal SequenceObject(SequenceKind kind, params IHashState[] states)
    {
        Kind = kind;
        States = states;
        IsUserWithAuth = true;
        IsNoDictionaryAttack = true;
    }

    internal SequenceKind Kind { get; }

    /// <summary>One state; for an event sequence one per hash algorithm in the order of the table.</summary>
    internal IHashState[] States { get; }

    /// <summary>The algorithm of a hash or HMAC sequence.</summary>
    internal AlgorithmId Algorithm { get; init; }

    /// <summary>Whether the data does not begin like a structure that the TPM itself makes.</summary>
    internal bool IsSafeForTicket => Tickets.IsSafe(_head.AsSpan(0, _headSize));

    internal void Update(ReadOnlySpan<byte> data)
    {
        int count = Math.Min(_head.Length - _headSize, data.Length);
        data[..count].CopyTo(_head.AsSpan(_headSize));
        _headSize += count;

        foreach (IHashState state in States)
        {
            state.Update(data);
        }
    }
}

internal enum SequenceKind
{
    Hash,
    Hmac,
    Event,
}

/// <summary>The transient slots.</summary>
internal sealed class ObjectTable
{
    private readonly TransientObject?[] _slots = new TransientObject?[TpmLimits.LoadedObjects];

    internal int LoadedCount => Array.FindAll(_slots, s => s is not null).Length;

    internal TransientObject? Find(TpmHandle handle)
        => handle.Type == HandleType.Transient && handle.Index < _slots.Length ? _slots[handle.Index] : null;

    /// <summary>Takes an object.</summary>
    /// <returns><see cref="TpmResponseCode.ObjectMemory"/> when every slot is taken.</returns>
    internal TpmResponseCode Add(TransientObject added, out TpmHandle handle)
    {
        int slot = Array.IndexOf(_slots, null);
        handle = slot < 0 ? TpmHandle.Null : TpmHandle.Of(HandleType.Transient, slot);
        if (slot < 0)
        {
            return TpmResponseCode.ObjectMemory;
        }

        _slots[slot] = added;
        return TpmResponseCode.Success;
    }

    internal bool HasFreeSlot => Array.IndexOf(_slots, null) >= 0;

    internal void Remove(TpmHandle handle)
    {
        _slots[handle.Index]?.Clear();
        _slots[handle.Index] = null;
    }

    /// <summary>Removes the objects of a hierarchy.</summary>
    internal void RemoveAll(Predicate<TransientObject> match)
    {
        for (int i = 0; i < _slots.Length; i++)
        {
            if (_slots[i] is TransientObject found && match(found))
            {
                found.Clear();
                _slots[i] = null;
            }
        }
    }

    internal TpmHandle[] LoadedHandles()
    {
        var handles = new System.Collections.Generic.List<TpmHandle>();
        for (int i = 0; i < _slots.Length; i++)
        {
            if (_slots[i] is not null)
            {
                handles.Add(TpmHandle.Of(HandleType.Transient, i));
            }
        }

        return [.. handles];
    }
}
