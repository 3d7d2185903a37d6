// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The last version of the store, where the host cannot change it: with the broker (docs/keys.md, "Anchors"). For StoreKeeper, which brings it up after every commit,
// before anybody is told of it: so the store on the disk is never more than one commit ahead, and an older one is always noticed.
//
// A session that ends, for whatever reason, is replaced by a new one, which asks how far the broker is: it may have done what it was asked last, or not.

using System;
using System.Diagnostics;
using System.Security.Cryptography;
using Svsm.Core;
using Svsm.Store;
using Svsm.StoreKeys;

namespace Svsm.Modules.Storage;

/// <summary>What became of the wish to bring the anchor up.</summary>
internal enum AnchorResult
{
    /// <summary>It is there.</summary>
    Done,

    /// <summary>The broker is not reached: again later.</summary>
    Unreachable,

    /// <summary>The broker has another version: another machine goes on from a copy of the disk.</summary>
    Lost,
}

/// <summary>The last version of the store, outside of the host.</summary>
internal abstract class StoreAnchor : IDisposable
{
    /// <summary>The version that is known to be there; null: none.</summary>
    public abstract StoreVersion? Known { get; }

    /// <summary>Brings it up to a version.</summary>
    /// <param name="version">The version; nothing happens if it is there already.</param>
    /// <returns>What became of it.</returns>
    public abstract AnchorResult TryMove(StoreVersion version);

    /// <summary>Gives it up, and clears what is secret.</summary>
    public abstract void Dispose();
}

/// <summary>The anchor of a broker.</summary>
/// <param name="open">Opens a session; null: the broker is not reached.</param>
/// <param name="session">The session that there is.</param>
/// <param name="known">What it has said.</param>
/// <param name="log">The log.</param>
internal sealed class BrokerAnchor(Func<BrokerSession?> open, BrokerSession session, StoreVersion? known, ModuleLog log) : StoreAnchor
{
    private static readonly TimeSpan s_patience = TimeSpan.FromSeconds(5);

    private BrokerSession _session = session;
    private StoreVersion? _known = known;
    private bool _isAway;

    /// <inheritdoc/>
    public override StoreVersion? Known => _known;

    /// <inheritdoc/>
    public override AnchorResult TryMove(StoreVersion version)
    {
        if (_known == version)
        {
            return AnchorResult.Done;
        }

        if (!_isAway)
        {
            long start = Stopwatch.GetTimestamp();
            BrokerResult result = _session.MoveAnchor(_known, version, out StoreVersion? current);
            if (result is BrokerResult.Done or BrokerResult.OtherVersion)
            {
                return Settle(version, current);
            }

            if (result == BrokerResult.NotWritten)
            {
                return NotMoved(result);
            }

            // Whoever was waited for in vain is not waited for again at once.
            if (Stopwatch.GetElapsedTime(start) > s_patience)
            {
                return Away();
            }
        }

        return TryAnew(version);
    }

    /// <inheritdoc/>
    public override void Dispose() => _session.Dispose();

    private AnchorResult TryAnew(StoreVersion version)
    {
        BrokerSession? next = open();
        if (next is null || !CryptographicOperations.FixedTimeEquals(next.Secret, _session.Secret) || next.GetAnchor(out StoreVersion? current) != BrokerResult.Done)
        {
            next?.Dispose();
            return Away();
        }

        _session.Dispose();
        _session = next;
        if (_isAway)
        {
            _isAway = false;
            log.Information("the broker is reached again");
        }

        if (current == _known)
        {
            BrokerResult result = _session.MoveAnchor(_known, version, out current);
            if (result is not (BrokerResult.Done or BrokerResult.OtherVersion))
            {
                return NotMoved(result);
            }
        }

        return Settle(version, current);
    }

    private AnchorResult NotMoved(BrokerResult result)
    {
        if (result == BrokerResult.NotWritten)
        {
            log.Error("the broker has not written the last version of the store");
        }

        return AnchorResult.Unreachable;
    }

    private AnchorResult Away()
    {
        if (!_isAway)
        {
            _isAway = true;
            log.Error("the broker is not reached: nothing is committed until it is");
        }

        return AnchorResult.Unreachable;
    }

    private AnchorResult Settle(StoreVersion version, StoreVersion? current)
    {
        if (current != version)
        {
            return AnchorResult.Lost;
        }

        _known = version;
        return AnchorResult.Done;
    }
}
