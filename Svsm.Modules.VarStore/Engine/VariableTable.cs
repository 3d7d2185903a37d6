// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// All variables, in the order in which GetNextVariableName tells them: volatile ones first, then the others, each kind in the order in which it was
// made. A variable that is written again keeps its place.
//
// A change goes this way: VariableChanges collects what one call of the guest does, Commit checks the quotas, has the storage take it, and only then
// the table has it. If the storage does not, the table is as it was.

using System;
using System.Collections.Generic;

namespace Svsm.Modules.VarStore;

/// <summary>A variable that is written, or removed: null.</summary>
internal sealed record VariableChange(VariableId Id, Variable? Variable);

/// <summary>What one call changes.</summary>
internal sealed class VariableChanges
{
    private readonly List<VariableChange> _changes = [];

    public IReadOnlyList<VariableChange> All => _changes;

    /// <summary>What the store is to remember; null: what it did.</summary>
    public StoreState? State { get; set; }

    public void Set(Variable variable) => Change(variable.Id, variable);

    public void Remove(VariableId id) => Change(id, null);

    private void Change(VariableId id, Variable? variable)
    {
        _changes.RemoveAll(change => change.Id == id);
        _changes.Add(new(id, variable));
    }
}

internal sealed class VariableTable(IVariableStorage storage)
{
    private readonly Dictionary<VariableId, Variable> _variables = [];
    private readonly SortedList<uint, Variable> _volatile = [];
    private readonly SortedList<uint, Variable> _nonVolatile = [];

    // What fits into one commit of any storage, with what it needs for itself.
    private const int MaxCommit = 0x3_0000;
    private const int RecordOverhead = 64;

    public IVariableStorage Storage => storage;

    public int NonVolatileSize { get; private set; }

    public int VolatileSize { get; private set; }

    /// <summary>What the storage remembers beside variables.</summary>
    public StoreState State { get; private set; } = StoreState.New;

    public Variable? Find(VariableId id) => _variables.GetValueOrDefault(id);

    /// <summary>The first variable, or the one after another.</summary>
    public Variable? Next(Variable? after)
    {
        if (after is not { IsNonVolatile: true })
        {
            return After(_volatile, after) ?? After(_nonVolatile, null);
        }

        return After(_nonVolatile, after);

        static Variable? After(SortedList<uint, Variable> list, Variable? variable)
        {
            int index = variable is null ? 0 : list.IndexOfKey(variable.Number) + 1;
            return index < list.Count ? list.GetValueAtIndex(index) : null;
        }
    }

    public bool TryLoad()
    {
        if (!storage.TryLoad(out IReadOnlyList<StorageRecord> records))
        {
            return false;
        }

        if (!VariableRecord.TryRead(records, out List<Variable> variables, out StoreState state))
        {
            return false;
        }

        State = state;
        foreach (Variable variable in variables)
        {
            if (!TryAdd(variable with { IsStored = true }))
            {
                return false;
            }
        }

        // More than the quota is what another version may have left; it may be read, and less of it be written.
        return true;
    }

    /// <summary>Adds a variable as it is, with its number. Neither quota nor storage is asked.</summary>
    /// <returns>False: there is one of that name, or with that number.</returns>
    public bool TryAdd(Variable variable)
    {
        if (_variables.ContainsKey(variable.Id) || (variable.IsNonVolatile ? _nonVolatile : _volatile).ContainsKey(variable.Number))
        {
            return false;
        }

        Put(variable);
        return true;
    }

    public void SetState(StoreState state) => State = state;

    /// <summary>Has the storage keep this table, and nothing of another one which it has now.</summary>
    /// <returns>False: the storage did not take it, or a part of it. What it has then is read as damaged, or is what it had.</returns>
    public bool TryStoreInsteadOf(VariableTable other)
    {
        // What was there goes first, also where another record gets its number: so there is room in a storage that has it for one table.
        var changes = new List<StorageRecord>();
        foreach (Variable variable in other._nonVolatile.Values)
        {
            if (variable.IsStored)
            {
                VariableRecord.AddChanges(changes, variable, null);
            }
        }

        foreach (Variable variable in _nonVolatile.Values)
        {
            if (variable.IsStored)
            {
                VariableRecord.AddChanges(changes, null, variable);
            }
        }

        changes.Add(new(VariableRecord.StateNumber, VariableRecord.Write(State)));
        int length = 0;
        foreach (StorageRecord change in changes)
        {
            length += LengthOf(change);
        }

        if (length > MaxCommit)
        {
            // Several commits, of which the last one says that it is whole.
            changes.Insert(0, new(VariableRecord.StateNumber, VariableRecord.WriteIncomplete()));
        }

        int first = 0;
        length = 0;
        for (int i = 0; i < changes.Count; i++)
        {
            if (length + LengthOf(changes[i]) > MaxCommit)
            {
                if (!storage.TryCommit(changes.GetRange(first, i - first).ToArray()))
                {
                    return false;
                }

                first = i;
                length = 0;
            }

            length += LengthOf(changes[i]);
        }

        return storage.TryCommit(changes.GetRange(first, changes.Count - first).ToArray());

        static int LengthOf(StorageRecord change) => (change.Value?.Length ?? 0) + RecordOverhead;
    }

    /// <summary>Drops what does not survive a start of the guest.</summary>
    public void DropVolatile()
    {
        while (_volatile.Count != 0)
        {
            Take(_volatile.GetValueAtIndex(_volatile.Count - 1));
        }

        if (Find(KnownVariables.CustomMode) is Variable customMode)
        {
            Take(customMode);
        }
    }

    /// <summary>Makes changes.</summary>
    /// <param name="changes">The changes.</param>
    /// <param name="isOfGuest">Whether quotas count: they are the guest's.</param>
    /// <returns><see cref="EfiStatus.Success"/>; <see cref="EfiStatus.OutOfResources"/>: a quota, or the guest has used up the numbers; <see cref="EfiStatus.DeviceError"/>: the storage. Nothing
    /// changed unless it is a success.</returns>
    public EfiStatus Commit(VariableChanges changes, bool isOfGuest = true)
    {
        int nonVolatile = NonVolatileSize;
        int @volatile = VolatileSize;
        bool grows = false;
        bool volatileGrows = false;
        bool hasNumbers = true;
        var replaced = new List<Replacement>();
        uint nextVolatile = NextNumber(_volatile);
        uint nextNonVolatile = NextNumber(_nonVolatile);
        foreach ((VariableId id, Variable? wanted) in changes.All)
        {
            Variable? old = Find(id);
            Variable? made = wanted;
            if (made is not null)
            {
                bool stays = old is not null && old.IsNonVolatile == made.IsNonVolatile;
                hasNumbers &= stays || (made.IsNonVolatile ? nextNonVolatile : nextVolatile) <= VariableLimits.MaxNumber;
                made = made with
                {
                    Number = stays ? old!.Number : made.IsNonVolatile ? nextNonVolatile++ : nextVolatile++,

                    // Non-volatile by its attributes, but every start of the guest begins with a new one.
                    IsStored = made.IsNonVolatile && made.Id != KnownVariables.CustomMode,
                };
            }

            int delta = (made is { IsNonVolatile: true } ? made.Size : 0) - (old is { IsNonVolatile: true } ? old.Size : 0);
            int volatileDelta = (made is { IsNonVolatile: false } ? made.Size : 0) - (old is { IsNonVolatile: false } ? old.Size : 0);
            nonVolatile += delta;
            @volatile += volatileDelta;
            grows |= delta > 0;
            volatileGrows |= volatileDelta > 0;
            replaced.Add(new(old, made));
        }

        // What does not take more is allowed also when there is too much already.
        if (isOfGuest && (!hasNumbers || (grows && nonVolatile > VariableLimits.NonVolatileQuota) || (volatileGrows && @volatile > VariableLimits.VolatileQuota)))
        {
            return EfiStatus.OutOfResources;
        }

        var records = new List<StorageRecord>();
        if (changes.State is StoreState state && !(state.IsDeployed == State.IsDeployed && state.ImageKeys.Span.SequenceEqual(State.ImageKeys.Span)))
        {
            records.Add(new(VariableRecord.StateNumber, VariableRecord.Write(state)));
        }

        foreach ((Variable? old, Variable? made) in replaced)
        {
            Variable? storedOld = old is { IsStored: true } ? old : null;
            Variable? storedNew = made is { IsStored: true } ? made : null;
            if (storedOld is not null || storedNew is not null)
            {
                VariableRecord.AddChanges(records, storedOld, storedNew);
            }
        }

        if (records.Count != 0 && !storage.TryCommit(records.ToArray()))
        {
            return EfiStatus.DeviceError;
        }

        State = changes.State ?? State;
        foreach ((Variable? old, Variable? made) in replaced)
        {
            if (old is not null)
            {
                Take(old);
            }

            if (made is not null)
            {
                Put(made);
            }
        }

        return EfiStatus.Success;
    }

    // Of variables that the engine itself makes when the guest starts: neither quota nor storage is asked.
    public void PutOwn(Variable variable)
    {
        if (Find(variable.Id) is Variable old)
        {
            Take(old);
        }

        Put(variable with { Number = NextNumber(variable.IsNonVolatile ? _nonVolatile : _volatile), IsStored = false });
    }

    private static uint NextNumber(SortedList<uint, Variable> list) => list.Count == 0 ? 1 : list.GetKeyAtIndex(list.Count - 1) + 1;

    private void Put(Variable variable)
    {
        _variables.Add(variable.Id, variable);
        if (variable.IsNonVolatile)
        {
            _nonVolatile.Add(variable.Number, variable);
            NonVolatileSize += variable.Size;
        }
        else
        {
            _volatile.Add(variable.Number, variable);
            VolatileSize += variable.Size;
        }
    }

    private void Take(Variable variable)
    {
        _variables.Remove(variable.Id);
        if (variable.IsNonVolatile)
        {
            _nonVolatile.Remove(variable.Number);
            NonVolatileSize -= variable.Size;
        }
        else
        {
            _volatile.Remove(variable.Number);
            VolatileSize -= variable.Size;
        }
    }

    private sealed record Replacement(Variable? Old, Variable? New);
}
