// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using System.Linq;
using Svsm.Modules.VarStore.Desk;
using Svsm.Store;
using Svsm.Store.Tests;
using Xunit;

namespace Svsm.Modules.VarStore.Tests;

/// <summary>Variables in a store.</summary>
public sealed class StoreVariableStorageTests
{
    private static readonly byte[] s_key = new byte[32];
    private static readonly Guid s_namespace = ModuleNamespaces.IdOf(4);

    private readonly SimulatedDevice _device = new(2 << 20);
    private readonly PersistentStore _store;
    private readonly StoreVariableStorage _storage;

    public StoreVariableStorageTests()
    {
        _store = PersistentStore.Create(_device, s_key).Store!;
        _storage = new(_store);
    }

    private NamespaceUsage Usage => _store.Namespaces.Single(space => space.Id == s_namespace);

    private static PersistentStore Open(SimulatedDevice device) => PersistentStore.Open(device, s_key).Store!;

    private IReadOnlyList<StorageRecord> Load()
    {
        Assert.True(_storage.TryLoad(out IReadOnlyList<StorageRecord> records));
        Assert.Equal(StoreResult.Done, _storage.Result);
        return records;
    }

    [Fact]
    public void Engine_OverAStore_FindsItsVariablesAgain()
    {
        TestSigner owner = TestSigner.Named("Owner");
        var firmware = new TestFirmware(_storage);
        Assert.Empty(_store.Namespaces);
        byte[] large = [.. Enumerable.Range(0, VariableLimits.MaxData).Select(i => (byte)i)];
        firmware.Set("Large", TestFirmware.NonVolatile, large);
        firmware.Set("Small", TestFirmware.NonVolatile, 1);
        firmware.Set("Gone", TestFirmware.NonVolatile, 2);
        firmware.Set("Volatile", TestFirmware.Volatile, 3);
        Assert.Equal(EfiStatus.Success, firmware.Set(KnownVariables.PlatformKey, TestFirmware.Authenticated, owner.Write(KnownVariables.PlatformKey, TestFirmware.Authenticated, new(2024, 1, 1), owner.List())));
        Assert.Equal(EfiStatus.Success, firmware.Set(KnownVariables.DeployedMode, TestFirmware.Volatile, 1));
        firmware.Set("Gone", TestFirmware.NonVolatile);

        PersistentStore again = Open(_device);
        Assert.Equal(_store.Version, again.Version);
        firmware = new TestFirmware(new StoreVariableStorage(again));
        Assert.Equal(large, firmware.Get("Large"));
        Assert.Equal([1], firmware.Get("Small"));
        Assert.Null(firmware.Get("Gone"));
        Assert.Null(firmware.Get("Volatile"));
        Assert.Equal(1, firmware.Flag(KnownVariables.DeployedMode));
        Assert.Equal(StoreResult.Done, again.Verify(out IReadOnlyList<StoreFinding> findings));
        Assert.Empty(findings);
    }

    [Fact]
    public void Commit_Quota_IsWhatTheRecordsTake_UnlessTheNamespaceHasMore()
    {
        Assert.True(_storage.TryCommit([new(1, new byte[100]), new(2, new byte[1000])]));
        Assert.Equal((Usage.Used, 2), (Usage.Quota, Usage.Records));
        Assert.True(_storage.TryCommit([new(1, new byte[1100]), new(2, new byte[10]), new(3, new byte[1])]));
        Assert.Equal(Usage.Used, Usage.Quota);

        // One grows by what another gives up: the quota suffices at each step.
        long quota = Usage.Quota;
        Assert.True(_storage.TryCommit([new(2, new byte[1000]), new(1, new byte[100]), new(3, null), new(4, new byte[1])]));
        Assert.Equal(quota, Usage.Quota);
        Assert.True(_storage.TryCommit([new(2, null), new(1, null), new(4, null)]));
        Assert.Equal((quota, 0), (Usage.Quota, Usage.Records));

        Assert.Equal(StoreResult.Done, _store.DefineNamespace(s_namespace, 100_000));
        Assert.True(_storage.TryCommit([new(1, new byte[100])]));
        Assert.Equal(100_000, Usage.Quota);
    }

    [Fact]
    public void Commit_MoreThanFits_ChangesNothing()
    {
        Assert.True(_storage.TryCommit([new(1, new byte[] { 1 })]));

        // In one commit.
        Assert.False(_storage.TryCommit([.. Enumerable.Range(1, 5).Select(i => new StorageRecord((uint)i, new byte[65536]))]));
        Assert.Equal(StoreResult.TransactionTooLarge, _storage.Result);
        Assert.Equal((1ul, Usage.Used), (_store.Version.Generation, Usage.Quota));
        Assert.Equal([1], Assert.Single(Load()).Value!.Value.ToArray());

        // In the store.
        Assert.Equal(StoreResult.Done, _store.DefineNamespace(Guid.NewGuid(), _store.Capacity - Usage.Quota - 128));
        StoreVersion version = _store.Version;
        Assert.False(_storage.TryCommit([new(1, new byte[1000])]));
        Assert.Equal(StoreResult.NoRoom, _storage.Result);
        Assert.Equal(version, _store.Version);
        Assert.Equal([1], Assert.Single(Load()).Value!.Value.ToArray());
    }

    [Fact]
    public void Load_WhatIsNoRecord_SaysSo()
    {
        Assert.Empty(Load());
        Assert.True(_storage.TryCommit([new(0x8000_0001, new byte[] { 7 }), new(1, new byte[] { 6 })]));
        Assert.Equal([1, 0x8000_0001], Load().Select(record => record.Number));

        StoreTransaction transaction = _store.Begin(s_namespace)!;
        transaction.Delete(VariableRecord.NameOf(1));
        Assert.Equal(StoreResult.Done, transaction.Put("abc"u8, [1]));
        Assert.Equal(StoreResult.Done, transaction.Commit());
        Assert.False(_storage.TryLoad(out _));
        Assert.Equal(StoreResult.NameInvalid, _storage.Result);
    }

    [Fact]
    public void Load_DamagedValueOrDevice_SaysSo()
    {
        byte[] value = [.. Enumerable.Range(0, 64).Select(i => (byte)i)];
        Assert.True(_storage.TryCommit([new(1, value)]));
        _device.OnRead = (_, bytes) => bytes.Fill(0xAA);
        Assert.False(_storage.TryLoad(out _));
        Assert.Equal(StoreResult.Damaged, _storage.Result);
        Assert.Equal(VariableStoreResult.Damaged, VariableStore.TryOpen(_storage, null, out _));
        _device.OnRead = null;
        _device.ReadsFail = true;
        _device.StepsLeft = 0;
        Assert.False(_storage.TryLoad(out _));
        Assert.Equal(StoreResult.DeviceFailed, _storage.Result);
        Assert.False(_storage.TryCommit([new(1, new byte[] { 2 })]));
        Assert.Equal(StoreResult.DeviceFailed, _storage.Result);
    }
}
