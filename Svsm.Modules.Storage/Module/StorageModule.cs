// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The module that keeps the store: a process with the SVSM's disk, the key, and the store of Svsm.Modules.Storage/Store. Other modules reach their part of it
// through the kernel (SvsmModule.Store). It serves no guest; its protocol is a name.
//
// It is started before those who ask it. Start finds the disk, gets the key and opens the store. A store that is not there, is damaged, has another key or
// is older than what the broker knows is never replaced by a new one: it is not open, which whoever asks is told, so the TPM and the variables do not start, and
// the log says why. A new store is made on one kind of disk alone: one that was marked for it (svsm store prepare).
//
// A guest that moves to another SVSM takes what it has here along in the states of those who store it: this module has no state. When the guest has left, the
// store is marked, and is not opened again (StoreKeeper).
//
// Manifest, version 0, 64 bytes: u32 0 | u32 flags | 08 id of the store (16) | 18 u64 generation with which it was opened | 20 its root (32)
//   flags: bit 0 the store is open, bit 1 an older state would have been refused, bit 2 the store was made by this VM
//   All zero behind the flags if it is not open.

using System;
using System.Buffers.Binary;
using System.IO;
using System.Security.Cryptography;
using Svsm.Core;
using Svsm.Store;
using Svsm.Wire;

namespace Svsm.Modules.Storage;

/// <summary>Keeps the store of the other modules.</summary>
[SvsmProtocol(ProtocolNumber, Service = "d76e4d24-880d-433f-93a9-11c5fd9a2e0b")]
public sealed class StorageModule : SvsmModule
{
    /// <summary>The protocol that is its name: of the range that the specification leaves to vendors, and no guest can call it.</summary>
    public const uint ProtocolNumber = 0x8000_5302;

    private const int TimeoutMilliseconds = 20_000;
    private const int ManifestLength = 64;
    private const uint OpenFlag = 1;
    private const uint AnchoredFlag = 2;
    private const uint CreatedFlag = 4;

    // Null: as the image says.
    private readonly StoreKeySource? _keys;
    private readonly byte[]? _pin;
    private readonly int _timeout;

    // Half of the heap (HeapLimit): the rest is for what a commit and a compaction have in hand, and for what is not collected yet.
    private readonly long _maxQuotas = GC.GetGCMemoryInfo().TotalAvailableMemoryBytes / 2;
    private readonly byte[] _manifest = new byte[ManifestLength];
    private StoreKeeper? _keeper;

    /// <summary>Makes the module of an image.</summary>
    public StorageModule()
    {
        _timeout = TimeoutMilliseconds;
        _pin = File.Exists(BrokerKeys.PinPath) ? File.ReadAllBytes(BrokerKeys.PinPath) : null;
    }

    internal StorageModule(StoreKeySource keys, int timeoutMilliseconds, long maxQuotas = long.MaxValue) => (_keys, _timeout, _maxQuotas) = (keys, timeoutMilliseconds, maxQuotas);

    internal StorageModule(byte[] pin, int timeoutMilliseconds) => (_pin, _timeout) = (pin, timeoutMilliseconds);

    /// <inheritdoc/>
    protected override uint StateVersion => 1;

    /// <inheritdoc/>
    protected override void Start()
    {
        if (!VirtioDriver.TryFind(Disks, VirtioDisk.Kind, out int slot))
        {
            Log.Error("the store is not open: the host gives the SVSM no virtio disk of version 2");
            return;
        }

        var disk = new VirtioDisk(Disks, slot, _timeout);
        StoreKeyOrigin? origin = PersistentStore.TryReadKeyOrigin(disk, out StoreKeyOrigin there) ? there : null;
        StoreKeySource keys = _keys ?? (_pin is null ? ChipKey.TryGet : new BrokerKeys(Disks, _pin, Log).TryGet);
        if (keys(Peers, origin, out string why) is not KeyOfStore key)
        {
            Log.Error($"the store is not open: there is no key. {why}");
            return;
        }

        _keeper = TryOpen(disk, in key, out why);
        if (_keeper is null)
        {
            Log.Error($"the store is not open: {why}");
            CryptographicOperations.ZeroMemory(key.Key);
            key.Anchor?.Dispose();
        }
    }

    /// <inheritdoc/>
    protected override SvsmResult Handle(in SvsmRequest request) => SvsmResultCode.UnsupportedCall;

    /// <inheritdoc/>
    protected override bool TryServe(in PeerRequest request, out ReadOnlyMemory<byte> answer)
    {
        answer = default;
        if (request.Kind != ModuleMessageKind.Store)
        {
            return false;
        }

        answer = _keeper is null ? StoreServer.Refuse(StoreStatus.NotOpen) : _keeper.Answer(in request);
        return true;
    }

    /// <inheritdoc/>
    protected override bool TryGetManifest(uint version, out ReadOnlyMemory<byte> manifest)
    {
        manifest = _manifest;
        return version == 0;
    }

    /// <inheritdoc/>
    protected override bool TryLeave() => _keeper?.TryLeave() ?? true;

    /// <inheritdoc/>
    protected override bool TryArrive() => _keeper?.TryArrive() ?? true;

    private StoreKeeper? TryOpen(VirtioDisk disk, in KeyOfStore key, out string why)
    {
        StoreOpening opening = PersistentStore.Open(disk, key.Key, key.Anchor?.Known);
        bool isNew = opening.State == StoreState.Fresh && PreparedDevice.IsPrepared(disk);
        if (isNew && key.Anchor?.Known is StoreVersion last)
        {
            why = $"this disk is new, and the broker knows a store of generation {last.Generation}";
            return null;
        }

        if (isNew)
        {
            opening = PersistentStore.Create(disk, key.Key, key.Origin);
        }

        if (opening.Store is not PersistentStore store)
        {
            string failure = disk.Failure.Length == 0 ? "" : $"; the disk: {disk.Failure}";
            string block = opening.Block is long number ? $" (block {number})" : "";
            why = $"{opening.State}, {opening.Detail}{block}{failure}";
            return null;
        }

        StoreResult grown = store.Grow();
        if (grown != StoreResult.Done)
        {
            Log.Warning($"the store did not grow with its disk: {grown}");
        }

        if (key.Anchor is StoreAnchor anchor && anchor.TryMove(store.Version) is AnchorResult moved and not AnchorResult.Done)
        {
            why = moved == AnchorResult.Lost ? "another machine goes on from a copy of it" : "the broker is not reached any more";
            return null;
        }

        why = "";
        Describe(store, isNew, key.Anchor is not null);
        Log.Information(
            $"store {store.Id} {(isNew ? "made" : opening.IsRepaired ? "open, and repaired" : "open")}: generation {store.Version.Generation}; "
            + (key.Anchor is null ? "an older state of it cannot be told" : "an older state of it is refused"));
        return new StoreKeeper(store, disk, key.Key, key.Anchor, _maxQuotas, Log);
    }

    private void Describe(PersistentStore store, bool isNew, bool isAnchored)
    {
        Span<byte> manifest = _manifest;
        BinaryPrimitives.WriteUInt32LittleEndian(manifest[4..], OpenFlag | (isAnchored ? AnchoredFlag : 0) | (isNew ? CreatedFlag : 0));
        store.Id.TryWriteBytes(manifest[8..]);
        BinaryPrimitives.WriteUInt64LittleEndian(manifest[0x18..], store.Version.Generation);
        Convert.FromHexString(store.Version.Root).CopyTo(manifest[0x20..]);
    }
}
