// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The store behind the requests of the other modules: each has a namespace, which is called after its protocol, with the quota that the image gives it.
//
// When the device has failed in a commit, only the device knows whether it happened. Then the store is opened again at once, as what it was before or
// what it should be now, and not as something older; and what the commit was to change is compared. If that fails as well, the module that asked gets
// Failed, and no commit until it has looked (List), which it can when the anchor has what the disk has. Other modules go on as soon as the store can be opened.
//
// With an anchor (StoreAnchor), a commit is answered when the anchor has its version, and none is begun before the anchor has that of the last one: the log of
// the store goes back far enough for one commit, whatever is compacted.
//
// A store whose guest is away is marked, and is not opened by a VM that is started anew: from TryLeave, when the guest goes or before it comes, until TryArrive,
// when it is here. Modules of a target store what they get meanwhile, under the mark. No request is served as long as the mark is not what it should be: what
// such a commit keeps would be lost with the next start, or be used without its guest.

using System;
using System.Collections.Generic;
using System.Security.Cryptography;
using Svsm.Core;
using Svsm.Store;

namespace Svsm.Modules.Storage;

internal sealed class StoreKeeper : StoreServer
{
    private readonly IBlockDevice _device;
    private readonly byte[] _key;
    private readonly StoreAnchor? _anchor;
    private readonly long _maxQuotas;
    private readonly ModuleLog _log;

    // Protocols of modules whose last commit may have happened or not.
    private readonly List<uint> _unsure = [];

    private PersistentStore _store;
    private bool _isLost;

    // Whether the store is to have the mark.
    private bool _isAway;

    /// <summary>Serves a store.</summary>
    /// <param name="store">The store, open.</param>
    /// <param name="device">Its device.</param>
    /// <param name="key">Its key, to open it again; cleared when the store is given up.</param>
    /// <param name="anchor">Who keeps its last version, and has this one; null: nobody does.</param>
    /// <param name="maxQuotas">What all quotas together may be, for names and places of all records are in memory.</param>
    /// <param name="log">The log.</param>
    public StoreKeeper(PersistentStore store, IBlockDevice device, byte[] key, StoreAnchor? anchor, long maxQuotas, ModuleLog log) =>
        (_store, _device, _key, _anchor, _maxQuotas, _log) = (store, device, key, anchor, maxQuotas, log);

    /// <summary>Marks the store: its guest is not here.</summary>
    /// <returns>False: the disk or the anchor does not have the mark, or that is not certain; the guest stays.</returns>
    public bool TryLeave()
    {
        _isAway = true;
        if (TryMark() == StoreStatus.Done)
        {
            _log.Information($"the guest is not here: the store is marked as moved, with generation {_store.Version.Generation}");
            return true;
        }

        _log.Error($"the store cannot be marked as moved: the guest stays{(TryArrive() ? "" : ", and the mark may be there")}");
        return false;
    }

    /// <summary>Takes the mark back: the guest is here.</summary>
    /// <returns>False: the disk or the anchor does not have that, or it is not certain. Each request tries it again before it is served.</returns>
    public bool TryArrive()
    {
        _isAway = false;
        if (TryMark() == StoreStatus.Done)
        {
            return true;
        }

        _log.Error("the mark of the store, that it was moved, cannot be taken back yet: nothing is stored until it is");
        return false;
    }

    protected override StoreStatus Get(in PeerRequest request, ReadOnlySpan<byte> name, out byte[] value)
    {
        value = [];
        StoreStatus status = TryBegin(in request, out StoreTransaction? transaction);
        return status == StoreStatus.Done ? Translate(transaction!.TryGet(name, out value)) : status;
    }

    protected override StoreStatus List(in PeerRequest request, out IReadOnlyList<byte[]> names)
    {
        names = [];
        StoreStatus status = TryBegin(in request, out StoreTransaction? transaction);
        if (status == StoreStatus.Done)
        {
            names = transaction!.Names;
            _unsure.Remove(request.Protocol);
        }

        return status;
    }

    protected override StoreStatus Commit(in PeerRequest request, IReadOnlyList<StoreChange> changes)
    {
        if (_unsure.Contains(request.Protocol))
        {
            return StoreStatus.Failed;
        }

        StoreStatus status = TryBegin(in request, out StoreTransaction? transaction);
        if (status != StoreStatus.Done)
        {
            return status;
        }

        status = TryAnchor();
        if (status != StoreStatus.Done)
        {
            return status;
        }

        foreach (StoreChange change in changes)
        {
            StoreResult result = change.Value is ReadOnlyMemory<byte> value ? transaction!.Put(change.Name.Span, value.Span) : transaction!.Delete(change.Name.Span);
            if (result is not (StoreResult.Done or StoreResult.NotFound))
            {
                return Translate(result);
            }
        }

        StoreResult committed = transaction!.Commit();
        status = committed == StoreResult.DeviceFailed ? FindOut(in request, changes) : Translate(committed);
        if (status != StoreStatus.Done || TryAnchor() == StoreStatus.Done)
        {
            return status;
        }

        // The commit is on the disk. Without the anchor it is not certain to be there after a restart: an older disk could be put back.
        _unsure.Add(request.Protocol);
        return StoreStatus.Failed;
    }

    // Makes the mark what it is to be.
    private StoreStatus TryMark()
    {
        if (!TryOpenAgain())
        {
            return _isLost ? StoreStatus.NotOpen : StoreStatus.DeviceFailed;
        }

        StoreStatus status = TryAnchor();
        if (status != StoreStatus.Done || _store.IsMoved == _isAway)
        {
            return status;
        }

        StoreResult result = _store.SetMoved(_isAway);
        if (result == StoreResult.DeviceFailed)
        {
            // It happened or not, and is the only thing that did.
            status = TryOpenAgain() && _store.IsMoved == _isAway ? TryAnchor() : StoreStatus.DeviceFailed;
        }
        else
        {
            status = result == StoreResult.Done ? TryAnchor() : Translate(result);
        }

        if (status == StoreStatus.Done && !_isAway)
        {
            _log.Information($"the guest is here: the store is not moved any more, with generation {_store.Version.Generation}");
        }

        return status;
    }

    // Whether the anchor has the version that was reached.
    private StoreStatus TryAnchor()
    {
        switch (_anchor?.TryMove(_store.Version) ?? AnchorResult.Done)
        {
            case AnchorResult.Done:
                return StoreStatus.Done;
            case AnchorResult.Lost:
                Lose("another machine goes on from a copy of it, says the broker");
                return StoreStatus.NotOpen;
            default:
                return StoreStatus.DeviceFailed;
        }
    }

    protected override StoreStatus Describe(in PeerRequest request, out StoreDescription description)
    {
        description = default;
        StoreStatus status = TryBegin(in request, out StoreTransaction? transaction);
        if (status == StoreStatus.Done)
        {
            description = new(request.StoreQuota, transaction!.Used, IsRollbackDetected: _anchor is not null);
        }

        return status;
    }

    // The device has failed in a commit.
    private StoreStatus FindOut(in PeerRequest request, IReadOnlyList<StoreChange> changes)
    {
        StoreVersion before = _store.Version;
        if (TryBegin(in request, out StoreTransaction? transaction) != StoreStatus.Done)
        {
            _unsure.Add(request.Protocol);
            return StoreStatus.Failed;
        }

        if (_store.Version == before)
        {
            return StoreStatus.DeviceFailed;
        }

        // One more commit: this one, unless another machine goes on from a copy of the device.
        var last = new Dictionary<string, StoreChange>();
        foreach (StoreChange change in changes)
        {
            last[Convert.ToHexString(change.Name.Span)] = change;
        }

        foreach (StoreChange change in last.Values)
        {
            StoreResult result = transaction!.TryGet(change.Name.Span, out byte[] value);
            bool isThere = change.Value is ReadOnlyMemory<byte> wanted ? result == StoreResult.Done && value.AsSpan().SequenceEqual(wanted.Span) : result == StoreResult.NotFound;
            if (!isThere)
            {
                Lose("it has gone on without this machine");
                return StoreStatus.Failed;
            }
        }

        return StoreStatus.Done;
    }

    private StoreStatus TryBegin(in PeerRequest request, out StoreTransaction? transaction)
    {
        transaction = null;
        if (!TryOpenAgain())
        {
            return _isLost ? StoreStatus.NotOpen : StoreStatus.DeviceFailed;
        }

        if (_store.IsMoved != _isAway && TryMark() is StoreStatus marked and not StoreStatus.Done)
        {
            return marked;
        }

        // What the disk has now may be gone after a restart: whoever looks is told nothing that is not certain.
        if (_unsure.Contains(request.Protocol) && TryAnchor() is StoreStatus status and not StoreStatus.Done)
        {
            return status;
        }

        // The first commit makes the namespace, or gives it the quota that it has now. A disk may have been made larger meanwhile.
        Guid id = ModuleNamespaces.IdOf(request.Protocol);
        long others = QuotasBut(id);
        if (request.StoreQuota > _maxQuotas - others)
        {
            _log.Error(
                $"there is no memory for {request.StoreQuota} bytes of the module with protocol 0x{request.Protocol:X} in the store, besides the {others} of others: for {_maxQuotas} in all (HeapLimit)");
            return StoreStatus.QuotaExceeded;
        }

        transaction = _store.Begin(id, request.StoreQuota);
        if (transaction is null && _store.Grow() == StoreResult.Done)
        {
            transaction = _store.Begin(id, request.StoreQuota);
        }

        if (transaction is null)
        {
            _log.Error($"the store has no room for {request.StoreQuota} bytes of the module with protocol 0x{request.Protocol:X}: it has {_store.Capacity} for all");
            return StoreStatus.QuotaExceeded;
        }

        return StoreStatus.Done;
    }

    private long QuotasBut(Guid id)
    {
        long quotas = 0;
        foreach (NamespaceUsage usage in _store.Namespaces)
        {
            quotas += usage.Id == id ? 0 : Math.Max(usage.Quota, usage.Used);
        }

        return quotas;
    }

    private bool TryOpenAgain()
    {
        if (!_store.IsClosed || _isLost)
        {
            return !_isLost;
        }

        StoreVersion done = _store.Version;
        StoreOpening opening = PersistentStore.Open(_device, _key, done, takesMoved: true);
        if (opening.Store is PersistentStore store)
        {
            if (store.Version.Generation > done.Generation + 1)
            {
                Lose("it has gone on without this machine");
                return false;
            }

            _log.Warning($"the store was opened again: generation {store.Version.Generation}");
            _store = store;
            return true;
        }

        // Whatever is no failure of the device will not get better: it is another device, or an older state of this one.
        if (opening.State is not (StoreState.DeviceFailed or StoreState.NoEntropy or StoreState.DeviceUnusable))
        {
            Lose($"{opening.State}, {opening.Detail}");
        }

        return false;
    }

    private void Lose(string why)
    {
        _isLost = true;
        CryptographicOperations.ZeroMemory(_key);
        _anchor?.Dispose();
        _log.Error($"the store is not what it was, and is not used any more: {why}");
    }

    private static StoreStatus Translate(StoreResult result) => result switch
    {
        StoreResult.Done => StoreStatus.Done,
        StoreResult.NotFound => StoreStatus.NotFound,
        StoreResult.QuotaExceeded or StoreResult.NoRoom => StoreStatus.QuotaExceeded,
        StoreResult.NameInvalid => StoreStatus.NameInvalid,
        StoreResult.ValueTooLong => StoreStatus.ValueTooLong,
        StoreResult.TransactionTooLarge => StoreStatus.TooLarge,
        StoreResult.Damaged => StoreStatus.Damaged,
        _ => StoreStatus.DeviceFailed,
    };
}
