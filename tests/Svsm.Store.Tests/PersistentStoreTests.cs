// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.Linq;
using Xunit;

namespace Svsm.Store.Tests;

/// <summary>A store on a device that does what it should: what is committed is there, and what may not be committed is refused.</summary>
public sealed class PersistentStoreTests : StoreTest
{
    [Theory]
    [InlineData(512)]
    [InlineData(4096)]
    public void Commit_ThenOpen_EverythingIsThere(int sectorSize)
    {
        var device = new SimulatedDevice(MiB, sectorSize);
        PersistentStore store = Make(device, (A, 100_000), (B, 50_000));
        StoreTransaction transaction = store.Begin(A)!;
        Assert.Equal(StoreResult.Done, transaction.Put(Name("large"), Bytes(65536, 1)));
        Assert.Equal(StoreResult.Done, transaction.Put(Name("empty"), []));
        Assert.Equal(StoreResult.Done, transaction.Put(Bytes(1024, 2), Bytes(17, 3)));
        Assert.Equal(StoreResult.Done, transaction.Commit());
        StoreVersion version = store.Version;
        Assert.Equal(3UL, version.Generation);
        Assert.Equal(StoreResult.Done, Put(store, B, Name("large"), Bytes(5, 4)));

        PersistentStore opened = Open(device, version);
        Assert.Equal(store.Id, opened.Id);
        Assert.Equal(store.Version, opened.Version);
        Assert.Equal(Bytes(65536, 1), Get(opened, A, Name("large")));
        Assert.Empty(Get(opened, A, Name("empty")));
        Assert.Equal(Bytes(17, 3), Get(opened, A, Bytes(1024, 2)));
        Assert.Equal(Bytes(5, 4), Get(opened, B, Name("large")));
        Assert.Equal(store.Namespaces, opened.Namespaces);
        Assert.Equal(new NamespaceUsage(B, 50_000, 5 + 160, 1), opened.Namespaces[1]);
        Assert.Equal(StoreResult.Done, opened.Verify(out IReadOnlyList<StoreFinding> findings));
        Assert.Empty(findings);
    }

    [Fact]
    public void KeyOrigin_StaysWithTheStore_AndIsVouchedFor()
    {
        var origin = new StoreKeyOrigin(0x1234_5678, 0xDB18_0000_0000_0504);
        var device = new SimulatedDevice(4 * MiB);
        Assert.False(PersistentStore.TryReadKeyOrigin(device, out StoreKeyOrigin read));
        PersistentStore store = PersistentStore.Create(device, Key, origin).Store!;
        for (int i = 0; i < 3; i++)
        {
            Assert.Equal(StoreResult.Done, store.DefineNamespace(new Guid(i, 0, 0, new byte[8]), MiB / 16));
            Assert.True(PersistentStore.TryReadKeyOrigin(device, out read));
            Assert.Equal(origin, read);
        }

        // Whatever a host says instead, with a good checksum in both superblocks: the key vouches for it, too.
        byte[] block = new byte[4096];
        for (int slot = 0; slot < 2; slot++)
        {
            device.TryRead(slot * 8, block);
            block[0x94] ^= 1;
            BinaryPrimitives.WriteUInt32LittleEndian(block.AsSpan(0xFC), StoreFormat.Checksum(block.AsSpan(0, 0xFC)));
            device.TryWrite(slot * 8, block);
        }

        Assert.True(PersistentStore.TryReadKeyOrigin(device, out read));
        Assert.Equal(origin.Svn ^ 1, read.Svn);
        Assert.Equal(StoreState.Damaged, PersistentStore.Open(device, Key).State);

        device.ReadsFail = true;
        Assert.False(PersistentStore.TryReadKeyOrigin(device, out read));
    }

    [Fact]
    public void Commit_512Bytes_IsTwoWrites()
    {
        var device = new SimulatedDevice(4 * MiB);
        PersistentStore store = Make(device, (A, 100_000));
        (device.Writes, device.Flushes, device.Reads) = (0, 0, 0);
        Assert.Equal(StoreResult.Done, Put(store, A, Name("nv"), Bytes(512, 1)));
        Assert.Equal((2, 2, 0), (device.Writes, device.Flushes, device.Reads));
    }

    [Fact]
    public void Transaction_BeforeItsCommit_IsSeenByItselfAlone()
    {
        PersistentStore store = Make(new SimulatedDevice(MiB), (A, 10_000));
        Put(store, A, Name("x"), [1]);
        Put(store, A, Name("y"), [2]);
        StoreTransaction transaction = store.Begin(A)!;
        Assert.Equal(StoreResult.Done, transaction.Delete(Name("x")));
        Assert.Equal(StoreResult.NotFound, transaction.Delete(Name("x")));
        Assert.Equal(StoreResult.NotFound, transaction.TryGet(Name("x"), out _));
        Assert.Equal(StoreResult.Done, transaction.Put(Name("a"), [3]));
        Assert.Equal(StoreResult.Done, transaction.TryGet(Name("a"), out byte[] value));
        value[0] = 9;
        transaction.TryGet(Name("a"), out value);
        Assert.Equal([3], value);
        Assert.Equal([Name("a"), Name("y")], transaction.Names);

        Assert.Equal([Name("x"), Name("y")], store.Begin(A)!.Names);
        Assert.Equal([1], Get(store, A, Name("x")));
    }

    [Fact]
    public void Transaction_CameAndWent_IsNothing()
    {
        var device = new SimulatedDevice(MiB);
        PersistentStore store = Make(device, (A, 10_000));
        StoreTransaction transaction = store.Begin(A)!;
        transaction.Put(Name("x"), [1]);
        transaction.Delete(Name("x"));
        device.Writes = 0;
        StoreVersion before = store.Version;
        Assert.Equal(StoreResult.Done, transaction.Commit());
        Assert.Equal((0, before), (device.Writes, store.Version));
    }

    [Fact]
    public void Transaction_AfterAnotherCommit_IsADefect()
    {
        PersistentStore store = Make(new SimulatedDevice(MiB), (A, 10_000));
        StoreTransaction transaction = store.Begin(A)!;
        Put(store, A, Name("x"), [1]);
        Assert.Throws<InvalidOperationException>(() => transaction.Put(Name("y"), [1]));
        Assert.Throws<InvalidOperationException>(() => transaction.Commit());
    }

    [Fact]
    public void Put_Limits_AreErrors()
    {
        PersistentStore store = Make(new SimulatedDevice(4 * MiB), (A, 1_000_000));
        StoreTransaction transaction = store.Begin(A)!;
        Assert.Equal(StoreResult.NameInvalid, transaction.Put([], [1]));
        Assert.Equal(StoreResult.NameInvalid, transaction.Put(new byte[1025], [1]));
        Assert.Equal(StoreResult.ValueTooLong, transaction.Put(Name("x"), new byte[65537]));
        for (int i = 0; i < 3; i++)
        {
            Assert.Equal(StoreResult.Done, transaction.Put(Name(i), new byte[65536]));
        }

        Assert.Equal(StoreResult.TransactionTooLarge, transaction.Put(Name(3), new byte[65536]));
        int rest = StoreFormat.MaxEntryLength - StoreFormat.Align(EntryHead.Length + (4 * (Operation.HeadLength + Name(0).Length))) - (3 * 65536);
        Assert.Equal(StoreResult.TransactionTooLarge, transaction.Put(Name(3), new byte[rest + 1]));
        Assert.Equal(StoreResult.Done, transaction.Put(Name(3), new byte[rest]));
        Assert.Equal(StoreResult.TransactionTooLarge, transaction.Put(Name(4), []));
        Assert.Equal(StoreResult.Done, transaction.Commit());
        Assert.Equal(4, store.Namespaces[0].Records);
    }

    [Fact]
    public void Put_ManyTimesInOneTransaction_CountsOnce()
    {
        PersistentStore store = Make(new SimulatedDevice(4 * MiB), (A, 200_000));
        Put(store, A, Name(0), new byte[100]);
        StoreTransaction transaction = store.Begin(A)!;
        for (int i = 0; i < 100; i++)
        {
            Assert.Equal(StoreResult.Done, transaction.Put(Name(i % 2), new byte[65536]));
            Assert.Equal(StoreResult.Done, transaction.Delete(Name(i % 2)));
        }

        Assert.Equal(StoreResult.Done, transaction.Put(Name(1), [1]));
        Assert.Equal(StoreResult.Done, transaction.Commit());
        Assert.Equal(new NamespaceUsage(A, 200_000, StoreFormat.Charge(Name(1).Length, 1), 1), store.Namespaces[0]);
    }

    [Fact]
    public void Quota_Exhausted_IsTheNamespacesErrorAlone()
    {
        var device = new SimulatedDevice(MiB);
        PersistentStore store = Make(device, (A, 1000));
        long rest = store.Capacity - 1000 - (2 * 64);
        Assert.Equal(StoreResult.NoRoom, store.DefineNamespace(B, rest + 1));
        Assert.Equal(StoreResult.NoRoom, store.DefineNamespace(B, long.MaxValue));
        Assert.Equal(StoreResult.Done, store.DefineNamespace(B, rest));

        StoreTransaction transaction = store.Begin(A)!;
        Assert.Equal(StoreResult.QuotaExceeded, transaction.Put(Name("x"), new byte[976]));
        Assert.Equal(StoreResult.Done, transaction.Put(Name("x"), new byte[960 - 32]));
        Assert.Equal(StoreResult.QuotaExceeded, transaction.Put(Name("y"), [1]));
        Assert.Equal(StoreResult.Done, transaction.Commit());
        Assert.Equal(StoreResult.QuotaExceeded, Put(store, A, Name("y"), [1]));

        // The other one can take all that it was promised, and change it for ever.
        int count = (int)(rest / StoreFormat.Charge(7, 4096));
        for (int round = 0; round < 5; round++)
        {
            for (int i = 0; i < count; i++)
            {
                Assert.Equal(StoreResult.Done, Put(store, B, Name($"n-{i:00000}"), Bytes(4096, round + i)));
            }
        }

        Assert.Equal(StoreResult.Done, Put(store, A, Name("x"), [1]));
        Assert.Equal(StoreResult.Done, Put(store, A, Name("y"), [1]));
        Assert.Equal(Content(store), Content(Open(device)));
        Assert.Equal(Bytes(4096, 4 + count - 1), Get(store, B, Name($"n-{count - 1:00000}")));
    }

    [Fact]
    public void Quota_SmallestRecords_FitAsMuchAsPromised()
    {
        var device = new SimulatedDevice(MiB);
        PersistentStore store = Make(device);
        Assert.Equal(StoreResult.Done, store.DefineNamespace(A, store.Capacity - 64));
        int number = 0;
        for (StoreResult result = StoreResult.Done; result == StoreResult.Done;)
        {
            StoreTransaction transaction = store.Begin(A)!;
            for (int i = 0; i < 500 && result == StoreResult.Done; i++)
            {
                result = transaction.Put(Name($"{number++:00000}"), i % 2 == 0 ? [] : [1]);
            }

            Assert.Equal(StoreResult.Done, transaction.Commit());
        }

        Assert.True(store.Namespaces[0].Used > store.Capacity - 64 - 64);
        for (int i = 0; i < 300; i++)
        {
            Assert.Equal(StoreResult.Done, Put(store, A, Name("00001"), [(byte)i]));
        }

        Assert.Equal(Content(store), Content(Open(device)));
    }

    [Fact]
    public void Quota_Lowered_LetsRecordsGoAndNoneCome()
    {
        PersistentStore store = Make(new SimulatedDevice(MiB), (A, 10_000));
        Put(store, A, Name("x"), new byte[1000]);
        Put(store, A, Name("y"), new byte[1000]);
        Assert.Equal(StoreResult.Done, store.DefineNamespace(A, 500));
        Assert.Equal(StoreResult.QuotaExceeded, Put(store, A, Name("z"), []));
        Assert.Equal(StoreResult.QuotaExceeded, Put(store, A, Name("x"), new byte[1017]));
        Assert.Equal(StoreResult.Done, Put(store, A, Name("x"), new byte[900]));
        Assert.Equal(StoreResult.Done, Delete(store, A, Name("y")));
        Assert.Equal(StoreResult.NoRoom, store.DefineNamespace(B, store.Capacity - 500 - 128));
    }

    [Fact]
    public void Namespace_RemovedAndMadeAgain_IsEmpty()
    {
        var device = new SimulatedDevice(MiB);
        PersistentStore store = Make(device, (A, 10_000), (B, 10_000));
        Put(store, B, Name("x"), [1]);
        Assert.Equal(StoreResult.Done, store.RemoveNamespace(B));
        Assert.Equal(StoreResult.NotFound, store.RemoveNamespace(B));
        Assert.Null(store.Begin(B));
        Assert.Equal(StoreResult.Done, store.DefineNamespace(B, 5));
        Assert.Empty(store.Begin(B)!.Names);
        Assert.Equal([new(A, 10_000, 0, 0), new NamespaceUsage(B, 5, 0, 0)], Open(device).Namespaces);
    }

    [Fact]
    public void Begin_WithAQuota_MakesItWithTheCommit()
    {
        var device = new SimulatedDevice(MiB);
        PersistentStore store = Make(device);
        StoreTransaction transaction = store.Begin(A, 300)!;
        Assert.Equal(StoreResult.NotFound, transaction.TryGet(Name("x"), out _));
        Assert.Equal(StoreResult.Done, transaction.Put(Name("x"), [1]));
        Assert.Equal(StoreResult.QuotaExceeded, transaction.Put(Name("y"), new byte[64]));
        Assert.Empty(store.Namespaces);
        Assert.Empty(Open(device).Namespaces);
        Assert.Equal(StoreResult.Done, transaction.Commit());
        StoreVersion version = store.Version;
        Assert.Equal(1ul, version.Generation);
        Assert.Equal(new NamespaceUsage(A, 300, 161, 1), Assert.Single(Open(device).Namespaces));

        // Another quota, the same one, and one without room.
        transaction = store.Begin(A, 400)!;
        Assert.Equal([Name("x")], transaction.Names);
        Assert.Equal(StoreResult.Done, transaction.Put(Name("y"), new byte[64]));
        Assert.Equal(StoreResult.Done, transaction.Commit());
        version = store.Version;
        Assert.Equal((2ul, 400), (version.Generation, Open(device).Namespaces[0].Quota));
        Assert.Equal(StoreResult.Done, store.Begin(A, 400)!.Commit());
        version = store.Version;
        Assert.Equal(2ul, version.Generation);
        Assert.Equal(StoreResult.Done, store.Begin(A, 300)!.Commit());
        version = store.Version;
        Assert.Equal((3ul, 300), (version.Generation, Open(device).Namespaces[0].Quota));
        Assert.Null(store.Begin(B, store.Capacity));
        Assert.Equal([1], Get(Open(device), A, Name("x")));
    }

    [Fact]
    public void DefineNamespace_TooMany_IsNoRoom()
    {
        PersistentStore store = Make(new SimulatedDevice(4 * MiB));
        for (int i = 1; i <= 256; i++)
        {
            Assert.Equal(StoreResult.Done, store.DefineNamespace(new Guid(i, 0, 0, new byte[8]), 100));
        }

        Assert.Equal(StoreResult.NoRoom, store.DefineNamespace(A, 100));
        Assert.Equal(StoreResult.Done, store.DefineNamespace(new Guid(256, 0, 0, new byte[8]), 200));
    }


    [Fact]
    public void Open_TenThousandRecords_ReadsFewBlocksAndOpensAgain()
    {
        var device = new SimulatedDevice(16 * MiB);
        PersistentStore store = Make(device, (A, 3_000_000), (B, 1_000_000));
        for (int i = 0; i < 10_000;)
        {
            StoreTransaction transaction = store.Begin(A)!;
            for (int n = 0; n < 100; n++, i++)
            {
                Assert.Equal(StoreResult.Done, transaction.Put(Name(i), Bytes(100 + (i % 100), i)));
            }

            Assert.Equal(StoreResult.Done, transaction.Commit());
        }

        // Enough commits for a compacted log with a tail.
        for (int i = 0; i < 2500; i++)
        {
            Assert.Equal(StoreResult.Done, Put(store, B, Name(i % 10), Bytes(512, i)));
        }

        device.Reads = 0;
        PersistentStore opened = Open(device);
        Assert.True(device.Reads < 1000, $"{device.Reads} reads");
        Assert.Equal([10_000, 10], opened.Namespaces.Select(space => space.Records));
        for (int i = 0; i < 10_000; i += 97)
        {
            Assert.Equal(Bytes(100 + (i % 100), i), Get(opened, A, Name(i)));
        }
    }

    [Theory]
    [InlineData(0)]
    [InlineData(150)]
    public void Grow_EitherHalf_HasMoreRoomAndKeepsEverything(int commits)
    {
        var device = new SimulatedDevice(MiB);
        PersistentStore store = Make(device, (A, 50_000));
        for (int i = 0; i < commits; i++)
        {
            Put(store, A, Name(i % 7), Bytes(300, i));
        }

        Assert.Equal(StoreResult.Done, store.Grow());
        Assert.Equal(MiB, store.Length);
        StoreVersion version = store.Version;
        Dictionary<string, string> content = Content(store);
        device.Resize((3 * MiB) + 512);
        Assert.Equal(StoreResult.NoRoom, store.DefineNamespace(B, 400_000));
        Assert.Equal(StoreResult.Done, store.Grow());
        Assert.Equal((3 * MiB, version), (store.Length, store.Version));
        Assert.Equal(content, Content(Open(device, version)));
        Assert.Equal(StoreResult.Done, store.DefineNamespace(B, 400_000));
        for (int i = 0; i < 1000; i++)
        {
            Assert.Equal(StoreResult.Done, Put(store, B, Name(i % 50), Bytes(7000, i)));
        }

        content = Content(store);
        Assert.Equal(content, Content(Open(device)));
        device.Resize(2 * MiB);
        Assert.Equal(StoreState.Truncated, PersistentStore.Open(device, Key).State);
    }

    [Fact]
    public void Nonces_ReplaysCutsAndCompactions_NeverRepeat()
    {
        var uses = new HashSet<string>();
        SealObserver observer = (key, nonce, associated, text) => Assert.True(uses.Add(Convert.ToHexString(key) + Convert.ToHexString(nonce)), "a nonce was used twice");
        var hooks = new StoreHooks(StoreHooks.Default.Random, observer);
        var random = new Random(5);
        var device = new SimulatedDevice(MiB);
        PersistentStore store = PersistentStore.Create(device, Key, hooks).Store!;
        store.DefineNamespace(A, 20_000);
        byte[] yesterday = device.Save();
        for (int day = 0; day < 30; day++)
        {
            for (int i = 0; i < 150; i++)
            {
                device.StepsLeft = i == 149 ? random.Next(4) : int.MaxValue;

                // The same changes each time: a nonce that repeats would meet the same text at another place, or another one.
                Put(store, A, Name(i % 5), Bytes(100, i));
            }

            device.CutPower(random);
            if (day % 3 == 0)
            {
                device.Restore(yesterday);
            }

            StoreOpening opening = PersistentStore.Open(device, Key, null, readOnly: false, hooks);
            Assert.Equal(StoreState.Opened, opening.State);
            store = opening.Store!;
            if (day % 4 == 3)
            {
                yesterday = device.Save();
            }
        }

        Assert.True(uses.Count > 10_000);
    }
}
