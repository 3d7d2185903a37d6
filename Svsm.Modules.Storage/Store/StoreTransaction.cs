// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;

namespace Svsm.Store;

/// <summary>Reads of a namespace, and changes that are made all at once or not at all. Given up by not committing it.</summary>
public sealed class StoreTransaction
{
    private readonly PersistentStore _store;
    private readonly Namespace _space;
    private readonly Operation? _definition;
    private readonly ulong _generation;

    // A name, and its new value; null: it goes.
    private readonly Dictionary<byte[], byte[]?> _changes = new(NameComparer.Instance);
    private long _used;

    // Bytes of the operations, and of their values.
    private int _operationsLength;
    private int _valuesLength;

    // A definition is the first operation of the commit: the space gets its quota from it, or is not there before.
    internal StoreTransaction(PersistentStore store, Namespace space, Operation? definition, ulong generation)
    {
        _store = store;
        _space = space;
        _definition = definition;
        _generation = generation;
        _used = space.Used;
        _operationsLength = definition?.Length ?? 0;
    }

    private long Quota => _definition?.Quota ?? _space.Quota;

    /// <summary>What the records take, the changes of this transaction included: as <see cref="PersistentStore.Charge"/> says.</summary>
    public long Used => _used;

    /// <summary>All names, the changes of this transaction included, in the order of their bytes.</summary>
    public IReadOnlyList<byte[]> Names
    {
        get
        {
            CheckCurrent();
            SmallHeap.Relieve();
            var names = new List<byte[]>();
            RecordIndex records = _space.Records;
            for (int place = 0; place < records.End; place++)
            {
                if (records.IsUsed(place) && !_changes.ContainsKey(records.NameAt(place)))
                {
                    names.Add(records.NameAt(place));
                }
            }

            foreach ((byte[] name, byte[]? value) in _changes)
            {
                if (value is not null)
                {
                    names.Add(name);
                }
            }

            names.Sort((x, y) => x.AsSpan().SequenceCompareTo(y));
            return names;
        }
    }

    /// <summary>Reads a record.</summary>
    /// <param name="name">Its name.</param>
    /// <param name="value">Its value, the caller's own; empty if there is none.</param>
    /// <returns><see cref="StoreResult.Done"/>, <see cref="StoreResult.NotFound"/>, <see cref="StoreResult.Damaged"/>, <see cref="StoreResult.DeviceFailed"/>, <see cref="StoreResult.Closed"/>.</returns>
    public StoreResult TryGet(ReadOnlySpan<byte> name, out byte[] value)
    {
        CheckCurrent();
        byte[] key = name.ToArray();
        if (_changes.TryGetValue(key, out byte[]? changed))
        {
            value = changed is null ? [] : [.. changed];
            return changed is null ? StoreResult.NotFound : StoreResult.Done;
        }

        int place = _space.Records.Find(name);
        if (place >= 0)
        {
            return _store.ReadValue(_space.Records.ValueAt(place), out value);
        }

        value = [];
        return StoreResult.NotFound;
    }

    /// <summary>Gives a record a value.</summary>
    /// <param name="name">Its name, 1 to 1024 bytes.</param>
    /// <param name="value">Its value, up to 65536 bytes.</param>
    /// <returns><see cref="StoreResult.Done"/>; <see cref="StoreResult.NameInvalid"/>, <see cref="StoreResult.ValueTooLong"/>, <see cref="StoreResult.QuotaExceeded"/>,
    /// <see cref="StoreResult.TransactionTooLarge"/>: the transaction is as it was.</returns>
    public StoreResult Put(ReadOnlySpan<byte> name, ReadOnlySpan<byte> value)
    {
        CheckCurrent();
        if (name.Length is 0 or > StoreFormat.MaxNameLength)
        {
            return StoreResult.NameInvalid;
        }

        return value.Length > StoreFormat.MaxValueLength ? StoreResult.ValueTooLong : Change(name.ToArray(), value.ToArray());
    }

    /// <summary>Removes a record.</summary>
    /// <param name="name">Its name.</param>
    /// <returns><see cref="StoreResult.Done"/>; <see cref="StoreResult.NotFound"/>, <see cref="StoreResult.TransactionTooLarge"/>: the transaction is as it was.</returns>
    public StoreResult Delete(ReadOnlySpan<byte> name)
    {
        CheckCurrent();
        byte[] key = name.ToArray();
        return CurrentCharge(key) == 0 ? StoreResult.NotFound : Change(key, null);
    }

    /// <summary>Makes the changes permanent, all at once. Without changes nothing is written.</summary>
    /// <returns><see cref="StoreResult.Done"/>: it is there after any loss of power. <see cref="StoreResult.NoEntropy"/>, <see cref="StoreResult.ReadOnly"/>,
    /// <see cref="StoreResult.Closed"/>: nothing changed. <see cref="StoreResult.DeviceFailed"/>: the store is closed.</returns>
    public StoreResult Commit()
    {
        CheckCurrent();
        List<Operation> operations = Operations();
        return operations.Count == 0 ? StoreResult.Done : _store.Commit(operations);
    }

    private StoreResult Change(byte[] name, byte[]? value)
    {
        long charge = value is null ? 0 : StoreFormat.Charge(name.Length, value.Length);
        long used = _used - CurrentCharge(name) + charge;

        // Whoever is above a lowered quota may still take less.
        if (used > Quota && used > _used)
        {
            return StoreResult.QuotaExceeded;
        }

        bool wasOperation = _changes.TryGetValue(name, out byte[]? before) && IsOperation(name, before);
        int operationsLength = _operationsLength - (wasOperation ? Operation.HeadLength + name.Length : 0);
        int valuesLength = _valuesLength - StoreFormat.Align(before?.Length ?? 0);
        if (IsOperation(name, value))
        {
            operationsLength += Operation.HeadLength + name.Length;
            valuesLength += StoreFormat.Align(value?.Length ?? 0);
        }

        if (StoreFormat.Align(EntryHead.Length + operationsLength) + valuesLength > StoreFormat.MaxEntryLength)
        {
            return StoreResult.TransactionTooLarge;
        }

        _changes[name] = value;
        (_used, _operationsLength, _valuesLength) = (used, operationsLength, valuesLength);
        return StoreResult.Done;
    }

    // What came and went again within the transaction is nothing.
    private bool IsOperation(byte[] name, byte[]? value) => value is not null || _space.Records.Find(name) >= 0;

    private long CurrentCharge(byte[] name)
    {
        if (_changes.TryGetValue(name, out byte[]? changed))
        {
            return changed is null ? 0 : StoreFormat.Charge(name.Length, changed.Length);
        }

        int place = _space.Records.Find(name);
        return place >= 0 ? StoreFormat.Charge(name.Length, _space.Records.ValueAt(place).Length) : 0;
    }

    // Without LINQ: in an image, looking up how to do that costs more than all else that a commit does.
    private List<Operation> Operations()
    {
        var operations = new List<Operation>();
        if (_definition is not null)
        {
            operations.Add(_definition);
        }

        foreach ((byte[] name, byte[]? value) in _changes)
        {
            if (IsOperation(name, value))
            {
                operations.Add(new Operation
                {
                    Kind = value is null ? OperationKind.Delete : OperationKind.Put,
                    Namespace = _space.Number,
                    Name = name,
                    ValueLength = value?.Length ?? 0,
                    Value = value,
                });
            }
        }

        return operations;
    }

    private void CheckCurrent()
    {
        if (_generation != _store.Generation && !_store.IsClosed)
        {
            throw new InvalidOperationException("The store has been changed since this transaction began.");
        }
    }
}
