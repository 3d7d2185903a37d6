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

    /// <summary>Writes all of it.</summary>
    internal abstract void Save(ref TpmWriter writer);

    /// <summary>Writes what it is and all of it: a byte 1 and a <see cref="KeyObject"/>, or a byte 2 and a <see cref="SequenceObject"/>.</summary>
    internal void Serialize(ref TpmWriter writer)
    {
        writer.WriteByte((byte)(this is SequenceObject ? 2 : 1));
        Save(ref writer);
    }

    /// <summary>Reads what <see cref="Serialize"/> wrote.</summary>
    /// <returns>Null for anything else.</returns>
    internal static TransientObject? Deserialize(ICryptography cryptography, ReadOnlyMemory<byte> bytes)
    {
        var reader = new TpmReader(bytes);
        TransientObject? loaded = null;
        return reader.ReadByte(out byte kind) == TpmResponseCode.Success
            && (kind == 2 ? SequenceObject.Load(cryptography, ref reader, out loaded) : KeyObject.Load(ref reader, out loaded)) == TpmResponseCode.Success
            && kind is 1 or 2
            && reader.Remaining == 0
            ? loaded
            : null;
    }

    internal virtual void Clear() => CryptographicOperations.ZeroMemory(Auth);
}

/// <summary>A hash, MAC or event sequence in progress.</summary>
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

    /// <summary>The algorithm of a hash or MAC sequence.</summary>
    internal AlgorithmId Algorithm { get; init; }

    /// <summary>Whether the data does not begin like a structure that the TPM itself makes.</summary>
    internal bool IsSafeForTicket => Tickets.IsSafe(_head.AsSpan(0, _headSize));

    internal override void Save(ref TpmWriter writer)
    {
        writer.WriteByte((byte)Kind);
        writer.WriteUInt16((ushort)Algorithm);
        writer.WriteSized(Auth);
        writer.WriteByte((byte)_headSize);
        writer.WriteBytes(_head);
        foreach (IHashState state in States)
        {
            state.Save(ref writer);
        }
    }

    /// <summary>Reads what <see cref="Save"/> wrote.</summary>
    internal static TpmResponseCode Load(ICryptography cryptography, ref TpmReader reader, out TransientObject? loaded)
    {
        loaded = null;
        TpmResponseCode code;
        if ((code = reader.ReadByte(out byte kind)) != TpmResponseCode.Success
            || (code = reader.ReadUInt16(out ushort number)) != TpmResponseCode.Success
            || (code = reader.ReadSizedCopy(TpmLimits.MaxDigest, out byte[] auth)) != TpmResponseCode.Success
            || (code = reader.ReadByte(out byte headSize)) != TpmResponseCode.Success
            || (code = reader.ReadBytes(sizeof(uint), out ReadOnlyMemory<byte> head)) != TpmResponseCode.Success)
        {
            return code;
        }

        var algorithm = (AlgorithmId)number;
        var states = new System.Collections.Generic.List<IHashState>();
        if (algorithm == AlgorithmId.Cmac)
        {
            code = Cmac.Load(cryptography, ref reader, out IHashState cmac);
            if (code != TpmResponseCode.Success)
            {
                return code;
            }

            states.Add(cmac);
        }

        foreach (AlgorithmRow row in Algorithms.Rows)
        {
            if ((row.Uses & AlgorithmUse.Hash) == 0 || ((SequenceKind)kind != SequenceKind.Event && row.Id != algorithm))
            {
                continue;
            }

            IHashState state;
            code = (SequenceKind)kind == SequenceKind.Mac
                ? cryptography.LoadHmac(row.Id, ref reader, out state)
                : cryptography.LoadHash(row.Id, ref reader, out state);
            if (code != TpmResponseCode.Success)
            {
                return code;
            }

            states.Add(state);
        }

        var sequence = new SequenceObject((SequenceKind)kind, [.. states]) { Algorithm = algorithm, Auth = auth, _headSize = headSize };
        head.CopyTo(sequence._head);
        loaded = sequence;
        return TpmResponseCode.Success;
    }

    internal override void Clear()
    {
        base.Clear();
        foreach (IHashState state in States)
        {
            state.Clear();
        }
    }

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
    Mac,
    Event,
}

/// <summary>The transient slots and the persistent objects.</summary>
internal sealed class ObjectTable(Tpm tpm)
{
    private readonly TransientObject?[] _slots = new TransientObject?[TpmLimits.LoadedObjects];

    // What was read from the persistent state already.
    private readonly System.Collections.Generic.Dictionary<TpmHandle, KeyObject> _persistent = [];

    internal int LoadedCount => Array.FindAll(_slots, s => s is not null).Length;

    internal TransientObject? Find(TpmHandle handle)
        => handle.Type == HandleType.Transient && handle.Index < _slots.Length ? _slots[handle.Index]
            : handle.Type == HandleType.Persistent ? FindPersistent(handle)
            : null;

    /// <summary>Stores a copy of an object.</summary>
    /// <returns>TPM_RC_NV_DEFINED when the handle is taken, TPM_RC_NV_SPACE when there is no room.</returns>
    internal TpmResponseCode AddPersistent(TpmHandle handle, KeyObject added)
    {
        StoredObject[] objects = tpm.Persistent.Objects;
        if (Array.Exists(objects, o => o.Handle == handle))
        {
            return TpmResponseCode.NvDefined;
        }

        var writer = new TpmWriter(new byte[TpmLimits.MaxContext]);
        added.Save(ref writer);
        if (!NvStorage.HasRoom(tpm, writer.Length))
        {
            return TpmResponseCode.NvSpace;
        }

        StoredObject[] more = [.. objects, new StoredObject(handle, writer.Written.ToArray())];
        CryptographicOperations.ZeroMemory(writer.Written);
        Array.Sort(more, static (a, b) => a.Handle.Value.CompareTo(b.Handle.Value));
        tpm.Persistent.Objects = more;
        tpm.MarkDirty();
        return TpmResponseCode.Success;
    }

    internal void RemovePersistent(TpmHandle handle) => RemovePersistent(o => o.Handle == handle);

    /// <summary>Forgets what was read from a persistent state that is another one now.</summary>
    internal void Reload() => _persistent.Clear();

    /// <summary>Removes the objects of a hierarchy for good, the persistent ones too.</summary>
    internal void RemoveHierarchy(TpmHandle hierarchy)
    {
        RemoveAll(o => o.Hierarchy == hierarchy);
        RemovePersistent(o => FindPersistent(o.Handle)!.Hierarchy == hierarchy);
    }

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

    /// <summary>The loaded objects with their handles, for a TPM that is suspended.</summary>
    internal StoredObject[] Save()
    {
        var buffer = new byte[TpmLimits.MaxContext];
        StoredObject[] saved = Array.ConvertAll(LoadedHandles(), handle =>
        {
            var writer = new TpmWriter(buffer);
            _slots[handle.Index]!.Serialize(ref writer);
            return new StoredObject(handle, writer.Written.ToArray());
        });
        CryptographicOperations.ZeroMemory(buffer);
        return saved;
    }

    /// <summary>Takes back what <see cref="Save"/> gave, into slots that are free.</summary>
    /// <returns>False when it is something else.</returns>
    internal bool Restore(StoredObject[] saved)
    {
        foreach (StoredObject stored in saved)
        {
            if (TransientObject.Deserialize(tpm.Cryptography, stored.Blob) is not TransientObject loaded)
            {
                return false;
            }

            _slots[stored.Handle.Index] = loaded;
        }

        return true;
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

    private KeyObject? FindPersistent(TpmHandle handle)
    {
        if (_persistent.TryGetValue(handle, out KeyObject? found))
        {
            return found;
        }

        foreach (StoredObject stored in tpm.Persistent.Objects)
        {
            if (stored.Handle == handle)
            {
                var reader = new TpmReader(stored.Blob);
                if (KeyObject.Load(ref reader, out TransientObject? loaded) != TpmResponseCode.Success || reader.Remaining != 0)
                {
                    throw new InvalidOperationException($"the persistent object {handle.Value:X8} does not parse");
                }

                found = (KeyObject)loaded!;
                _persistent[handle] = found;
                return found;
            }
        }

        return null;
    }

    private void RemovePersistent(Predicate<StoredObject> match)
    {
        foreach (StoredObject stored in Array.FindAll(tpm.Persistent.Objects, match))
        {
            if (_persistent.Remove(stored.Handle, out KeyObject? removed))
            {
                removed.Clear();
            }

            CryptographicOperations.ZeroMemory(stored.Blob);
            tpm.Persistent.Objects = Array.FindAll(tpm.Persistent.Objects, o => o.Handle != stored.Handle);
            tpm.MarkDirty();
        }
    }
}
