// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using System.Linq;
using Svsm.Core;
using Svsm.Core.Testing;
using Svsm.Core.Tests;
using Svsm.Store;
using Svsm.Wire;
using Xunit;

namespace Svsm.Modules.Storage.Tests;

/// <summary>An image on the desk: the module that keeps the store, and what the kernel does between it and those that ask.</summary>
internal sealed class TestImage : IDisposable
{
    public static readonly byte[] Key = [.. Enumerable.Range(0, PersistentStore.KeyLength).Select(i => (byte)(i + 1))];

    private readonly ModuleTest _module;

    /// <summary>Boots an image with a disk.</summary>
    public TestImage(TestDisk disk, byte[]? key = null, int timeout = 50, StoreAnchor? anchor = null, long maxQuotas = long.MaxValue) =>
        _module = new ModuleTest(new StorageModule(
            (ModulePeers _, StoreKeyOrigin? origin, out string why) =>
            {
                why = "";
                return new KeyOfStore([.. key ?? Key], origin ?? new StoreKeyOrigin(3, 4), anchor);
            },
            timeout,
            maxQuotas), disks: disk.Disks);

    /// <summary>Boots an image that trusts a broker.</summary>
    /// <param name="timeout">Milliseconds; only who tests silence waits for it.</param>
    public TestImage(TestDisk disk, byte[] pin, ModulePeers peers, int timeout = 60_000) =>
        _module = new ModuleTest(new StorageModule(pin, timeout), peers: peers, disks: disk.Disks);

    /// <summary>What the module that keeps the store has in its log.</summary>
    public string Log => string.Join('\n', _module.Log.Select(line => line.Line));

    /// <summary>The module that keeps the store, as the kernel sees it.</summary>
    public ModuleTest Module => _module;

    public byte[] Manifest => _module.GetManifest(0)!;

    /// <summary>The other modules, as the one with a protocol sees them.</summary>
    public ModulePeers Peers(uint protocol, long quota = 0x4_0000) => new Peer(_module, protocol, quota);

    /// <summary>The store, as the module with a protocol sees it.</summary>
    public ModuleStore Store(uint protocol, long quota = 0x4_0000) => StorePart.Of(Peers(protocol, quota));

    /// <summary>Makes a disk one on which a store may be made.</summary>
    public static void Prepare(TestDisk disk) => Assert.Equal(StoreState.Fresh, PreparedDevice.Prepare(new VirtioDisk(disk.Disks, 0, 50)));

    public void Dispose() => _module.Dispose();

    private sealed class Peer(ModuleTest module, uint protocol, long quota) : ModulePeers
    {
        public override PeerResult Ask(ModuleMessageKind kind, ReadOnlySpan<byte> request, out byte[] answer)
        {
            Assert.Equal(ModuleMessageKind.Store, kind);
            Assert.InRange(request.Length, 0, ModuleMessage.MaxPayload);
            answer = module.Ask(kind, protocol, request.ToArray(), quota)!;
            return PeerResult.Answered;
        }
    }
}
