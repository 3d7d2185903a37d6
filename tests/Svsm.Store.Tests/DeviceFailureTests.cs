// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using Xunit;

namespace Svsm.Store.Tests;

/// <summary>What a device can be and do besides working; and what each is called.</summary>
public sealed class DeviceFailureTests : StoreTest
{
    [Fact]
    public void Open_ZeroDevice_IsFreshAndStaysSo()
    {
        var device = new SimulatedDevice(MiB);
        Assert.Equal(StoreState.Fresh, PersistentStore.Open(device, Key).State);
        Assert.Equal(StoreState.Fresh, StoreSurvey.Read(device).State);
        Assert.Equal(0, device.Writes);
    }

    [Fact]
    public void Create_AStoreOrSomethingElse_IsRefused()
    {
        var device = new SimulatedDevice(MiB);
        Make(device);
        byte[] before = device.Save();
        Assert.Equal(StoreState.NotFresh, PersistentStore.Create(device, Key).State);
        Assert.Equal(StoreState.NotFresh, PersistentStore.Create(device, Bytes(32, 1)).State);
        Assert.Equal(before, device.Save());

        var other = new SimulatedDevice(MiB);
        Bytes(MiB, 1).CopyTo(other.Bytes);
        Assert.Equal(StoreState.NotFresh, PersistentStore.Create(other, Key).State);
        Assert.Equal(0, other.Writes);
    }

    [Fact]
    public void Create_Interrupted_IsAStoreOrStillFresh()
    {
        int stores = 0;
        int fresh = 0;
        for (int seed = 0; seed < 400; seed++)
        {
            var random = new Random(seed);
            var device = new SimulatedDevice(MiB) { StepsLeft = seed % 6 };
            StoreState first = PersistentStore.Create(device, Key).State;
            Assert.Equal(seed % 6 == 5 ? StoreState.Opened : StoreState.DeviceFailed, first);
            device.CutPower(random);
            StoreState surveyed = StoreSurvey.Read(device).State;
            StoreState state = PersistentStore.Open(device, Key).State;
            Assert.Equal(state, surveyed);
            Assert.True(state == StoreState.Opened || (state == StoreState.Fresh && first != StoreState.Opened), $"seed {seed}: {state}");
            stores += first != StoreState.Opened && state == StoreState.Opened ? 1 : 0;
            if (state == StoreState.Fresh)
            {
                fresh++;
                Make(device);
            }
        }

        Assert.True(stores > 10 && fresh > 10, $"{stores} stores, {fresh} fresh");
    }

    [Fact]
    public void Open_WrongKey_IsCalledSo()
    {
        var device = new SimulatedDevice(MiB);
        Make(device, (A, 1000));
        Assert.Equal(StoreState.WrongKey, PersistentStore.Open(device, Bytes(32, 1)).State);

        // As long as one superblock says so.
        device.Bytes[0x30] ^= 1;
        Assert.Equal(StoreState.WrongKey, PersistentStore.Open(device, Bytes(32, 1)).State);
        device.Bytes[4096 + 0x30] ^= 1;
        Assert.Equal(StoreState.Damaged, PersistentStore.Open(device, Bytes(32, 1)).State);
        Assert.Throws<ArgumentOutOfRangeException>(() => PersistentStore.Open(device, new byte[16]));
    }

    [Fact]
    public void Open_OtherVersion_IsCalledSo()
    {
        var device = new SimulatedDevice(MiB);
        Make(device, (A, 1000));
        Span<byte> superblock = device.Bytes[4096..];
        superblock[8] = 2;
        BinaryPrimitives.WriteUInt32LittleEndian(superblock[0xFC..], StoreFormat.Checksum(superblock[..0xFC]));
        Assert.Equal(StoreState.UnknownVersion, PersistentStore.Open(device, Key).State);
        Assert.Equal(StoreState.UnknownVersion, StoreSurvey.Read(device).State);
    }

    [Theory]
    [InlineData(0, 512)]
    [InlineData(8192, 512)]
    [InlineData(MiB, 1024)]
    [InlineData(MiB, 1)]
    public void Open_DeviceOfNoStore_IsUnusable(int length, int sectorSize)
    {
        var device = new SimulatedDevice(length) { SectorSize = sectorSize };
        Assert.Equal(StoreState.DeviceUnusable, PersistentStore.Open(device, Key).State);
        Assert.Equal(StoreState.DeviceUnusable, PersistentStore.Create(device, Key).State);
        Assert.Equal(StoreState.DeviceUnusable, StoreSurvey.Read(device).State);
    }

    [Fact]
    public void Create_JustTooSmall_IsUnusable()
    {
        var device = new SimulatedDevice(MiB - 512);
        Assert.Equal(StoreState.DeviceUnusable, PersistentStore.Create(device, Key).State);
        Assert.Equal(0, device.Writes);
    }

    [Fact]
    public void Open_Truncated_IsCalledSo()
    {
        var device = new SimulatedDevice(2 * MiB);
        Make(device, (A, 1000));
        device.Resize((2 * MiB) - 512);
        Assert.Equal(StoreState.Truncated, PersistentStore.Open(device, Key).State);
        Assert.Equal(StoreState.Truncated, StoreSurvey.Read(device).State);
        device.Resize(3 * 4096);
        Assert.Equal(StoreState.Truncated, PersistentStore.Open(device, Key).State);
    }

    [Fact]
    public void Open_SwappedForAnotherStoresDevice_IsAnotherHistory()
    {
        var device = new SimulatedDevice(MiB);
        var other = new SimulatedDevice(MiB);
        StoreVersion version = Make(device, (A, 1000)).Version;
        StoreVersion otherVersion = Make(other, (A, 1000)).Version;
        Assert.Equal(version.Generation, otherVersion.Generation);
        Assert.Equal(StoreState.Forked, PersistentStore.Open(other, Key, version).State);

        // The superblocks of one, the log of the other; and one superblock of each.
        other.Bytes[..8192].CopyTo(device.Bytes);
        Assert.Equal(StoreState.Damaged, PersistentStore.Open(device, Key).State);
    }

    [Fact]
    public void Open_OlderDevice_IsFoundWithTheWantedVersion()
    {
        var device = new SimulatedDevice(MiB);
        PersistentStore store = Make(device, (A, 10_000));
        Put(store, A, Name("x"), [1]);
        byte[] old = device.Save();
        Put(store, A, Name("x"), [2]);
        StoreVersion version = store.Version;
        Assert.Equal(StoreState.Opened, PersistentStore.Open(device, Key, version).State);

        device.Restore(old);
        StoreOpening opening = PersistentStore.Open(device, Key, version);
        Assert.Equal(StoreState.Older, opening.State);
        Assert.Null(opening.Store);

        // Without it nobody can know. What goes on from there has another root.
        PersistentStore replayed = Open(device);
        Assert.Equal([1], Get(replayed, A, Name("x")));
        Put(replayed, A, Name("x"), [2]);
        Assert.Equal(version.Generation, replayed.Version.Generation);
        Assert.Equal(StoreState.Forked, PersistentStore.Open(device, Key, version).State);
        Put(replayed, A, Name("x"), [3]);
        Assert.Equal(StoreState.Forked, PersistentStore.Open(device, Key, version).State);
    }

    [Fact]
    public void Open_NewerThanWanted_IsOpenedWhileItsHistoryIsThere()
    {
        var device = new SimulatedDevice(MiB);
        PersistentStore store = Make(device, (A, 10_000));
        var versions = new List<StoreVersion> { store.Version };
        int refused = 0;
        for (int i = 0; i < 300; i++)
        {
            Assert.Equal(StoreResult.Done, Put(store, A, Name(i % 3), Bytes(200, i)));
            versions.Add(store.Version);

            // The last but one is always there, even when the commit behind it has compacted the log.
            Assert.Equal(StoreState.Opened, PersistentStore.Open(device, Key, versions[^1]).State);
            Assert.Equal(StoreState.Opened, PersistentStore.Open(device, Key, versions[^2]).State);
            Assert.Equal(StoreState.Forked, PersistentStore.Open(device, Key, versions[^2] with { Root = versions[^1].Root }).State);
            refused += PersistentStore.Open(device, Key, versions[0]).State == StoreState.Forked ? 1 : 0;
        }

        Assert.InRange(refused, 150, 250);
        Assert.Equal(StoreState.Older, PersistentStore.Open(device, Key, new StoreVersion(ulong.MaxValue, "")).State);
    }

    [Fact]
    public void Commit_DeviceFailsAtAnyStep_ClosesAndOpeningDecides()
    {
        for (int steps = 0; steps < 4; steps++)
        {
            var device = new SimulatedDevice(MiB);
            PersistentStore store = Make(device, (A, 10_000));
            Put(store, A, Name("x"), [1]);
            device.StepsLeft = steps;
            StoreVersion before = store.Version;
            StoreTransaction transaction = store.Begin(A)!;
            transaction.Put(Name("x"), [2]);
            Assert.Equal(StoreResult.DeviceFailed, transaction.Commit());
            Assert.Equal(before, store.Version);
            Assert.Equal(StoreResult.Closed, transaction.Commit());
            Assert.Equal(StoreResult.Closed, store.Begin(A)!.TryGet(Name("x"), out _));
            Assert.Equal(StoreResult.Closed, store.DefineNamespace(B, 5));
            Assert.Equal(StoreResult.Closed, store.Grow());

            device.StepsLeft = int.MaxValue;
            PersistentStore opened = Open(device);
            Assert.Equal([(byte)(steps == 0 ? 1 : 2)], Get(opened, A, Name("x")));
            Assert.Equal(StoreResult.Done, Put(opened, A, Name("x"), [3]));
            Assert.Equal([3], Get(Open(device), A, Name("x")));
        }
    }

    [Fact]
    public void Open_DeviceFailsWhileItRepairs_IsAnErrorAndRepairsTheNextTime()
    {
        for (int steps = 0; steps < 5; steps++)
        {
            var device = new SimulatedDevice(MiB);
            PersistentStore store = Make(device, (A, 10_000));
            device.StepsLeft = 2;
            Put(store, A, Name("x"), [1]);
            device.StepsLeft = steps;
            Assert.Equal(StoreState.DeviceFailed, PersistentStore.Open(device, Key).State);
            device.StepsLeft = int.MaxValue;
            StoreOpening opening = PersistentStore.Open(device, Key);
            Assert.True(opening.IsRepaired || steps == 4);
            Assert.Equal([1], Get(opening.Store!, A, Name("x")));
            Assert.False(PersistentStore.Open(device, Key).IsRepaired);
        }
    }

    [Fact]
    public void Read_Fails_IsAnErrorAndNoMore()
    {
        var device = new SimulatedDevice(MiB);
        PersistentStore store = Make(device, (A, 10_000));
        Put(store, A, Name("x"), [1]);
        device.ReadsFail = true;
        Assert.Equal(StoreResult.DeviceFailed, store.Begin(A)!.TryGet(Name("x"), out _));
        Assert.Equal(StoreResult.DeviceFailed, store.Verify(out _));
        Assert.Equal(StoreState.DeviceFailed, PersistentStore.Open(device, Key).State);
        Assert.Equal(StoreState.DeviceFailed, StoreSurvey.Read(device).State);
        Assert.Equal(StoreResult.Done, Put(store, A, Name("y"), [2]));
        device.ReadsFail = false;
        Assert.Equal([1], Get(store, A, Name("x")));
    }

    [Fact]
    public void Open_EveryReadFailsOnce_IsDeviceFailed()
    {
        var device = new SimulatedDevice(MiB);
        PersistentStore store = Make(device, (A, 40_000));
        for (int i = 0; i < 30; i++)
        {
            Put(store, A, Name(i % 4), Bytes(9000, i));
        }

        device.Reads = 0;
        Open(device);
        int reads = device.Reads;
        for (int i = 0; i < reads; i++)
        {
            device.Reads = 0;
            device.OnRead = (_, _) => device.ReadsFail = device.Reads >= i;
            device.ReadsFail = i == 0;
            StoreState state = PersistentStore.Open(device, Key).State;
            Assert.Equal(StoreState.DeviceFailed, state);
            device.ReadsFail = false;
        }
    }

    [Fact]
    public void Compact_ReadFails_ClosesAndLosesNothing()
    {
        var device = new SimulatedDevice(MiB);
        PersistentStore store = Make(device, (A, 180_000));
        for (int i = 0; i < 3; i++)
        {
            Put(store, A, Name(i), Bytes(50_000, i));
        }

        int failing = int.MaxValue;
        device.OnRead = (_, _) => device.ReadsFail = --failing <= 0;
        for (int reads = 0; reads < 3; reads++)
        {
            // Some records are in the other half already when it fails.
            failing = reads;
            device.ReadsFail = failing == 0;
            StoreResult result = StoreResult.Done;
            byte last = 0;
            for (; result == StoreResult.Done; last++)
            {
                result = Put(store, A, Name("y"), [last]);
            }

            Assert.Equal(StoreResult.DeviceFailed, result);
            Assert.Equal(StoreResult.Closed, store.Begin(A)!.TryGet(Name(0), out _));
            failing = int.MaxValue;
            device.ReadsFail = false;
            store = Open(device);
            Assert.Equal([(byte)(last - 2)], Get(store, A, Name("y")));
            Assert.Equal(StoreResult.Done, Put(store, A, Name("y"), [7]));
            for (int i = 0; i < 3; i++)
            {
                Assert.Equal(Bytes(50_000, i), Get(store, A, Name(i)));
            }

            Assert.Equal(Content(store), Content(Open(device)));
        }
    }

    // Of 64 KiB, nothing of which is in the compacted log: what is lost has a length, and no place.
    [Theory]
    [InlineData(100)]
    [InlineData(5000)]
    [InlineData(65536)]
    public void Compact_DamagedValue_IsLostAloneAndStaysAnError(int length)
    {
        var device = new SimulatedDevice(MiB);
        PersistentStore store = Make(device, (A, 100_000), (B, 1000));
        Put(store, A, Name("x"), Bytes(length, 1));
        Put(store, A, Name("y"), Bytes(100, 2));

        // The entry of x is the third; its value ends before the padding.
        int value = (4 * 4096) + StoreFormat.Align(EntryHead.Length + Operation.HeadLength + 1);
        device.Bytes[value + 5] ^= 0x40;
        Assert.Equal(StoreResult.Damaged, store.Begin(A)!.TryGet(Name("x"), out byte[] bytes));
        Assert.Empty(bytes);
        for (int i = 0; i < 300; i++)
        {
            Assert.Equal(StoreResult.Done, Put(store, B, Name("z"), Bytes(10, i)));
        }

        for (int i = 0; i < 2; i++)
        {
            Assert.Equal(StoreResult.Damaged, store.Begin(A)!.TryGet(Name("x"), out _));
            Assert.Equal(Bytes(100, 2), Get(store, A, Name("y")));
            Assert.Equal([Name("x"), Name("y")], store.Begin(A)!.Names);
            Assert.Equal(StoreResult.Done, store.Verify(out IReadOnlyList<StoreFinding> findings));
            Assert.Contains("'x'", Assert.Single(findings).Text, StringComparison.Ordinal);
            store = Open(device);
        }

        Assert.Equal(StoreResult.Done, Put(store, A, Name("x"), [1]));
        Assert.Equal([1], Get(Open(device), A, Name("x")));
    }

    [Fact]
    public void Entropy_None_IsAnErrorAndNothingIsWritten()
    {
        bool has = true;
        var hooks = new StoreHooks(destination => has && StoreHooks.Default.Random(destination), null);
        var device = new SimulatedDevice(MiB);
        has = false;
        Assert.Equal(StoreState.NoEntropy, PersistentStore.Create(device, Key, hooks).State);
        Assert.Equal(StoreState.Fresh, PersistentStore.Open(device, Key).State);
        has = true;
        PersistentStore store = PersistentStore.Create(device, Key, hooks).Store!;
        store.DefineNamespace(A, 1000);
        has = false;
        device.Writes = 0;
        Assert.Equal(StoreResult.NoEntropy, Put(store, A, Name("x"), [1]));
        Assert.Equal(0, device.Writes);
        has = true;
        Assert.Equal(StoreResult.Done, Put(store, A, Name("x"), [1]));
    }

    [Fact]
    public void Entropy_NoneInACompaction_IsAnErrorAndNothingIsWritten()
    {
        bool compacted = false;
        for (int left = 0; !compacted; left++)
        {
            int draws = int.MaxValue;
            var hooks = new StoreHooks(destination => draws-- > 0 && StoreHooks.Default.Random(destination), null);
            var device = new SimulatedDevice(MiB);
            PersistentStore store = PersistentStore.Create(device, Key, hooks).Store!;
            store.DefineNamespace(A, 180_000);
            int count = CommitsUntilCompaction();
            for (int i = 0; i < count; i++)
            {
                Assert.Equal(StoreResult.Done, Put(store, A, Name(i % 3), Bytes(50_000, i)));
            }

            Dictionary<string, string> before = Content(store);
            draws = left;
            device.Writes = 0;
            StoreResult result = Put(store, A, Name(count % 3), Bytes(50_000, count));
            compacted = result == StoreResult.Done;
            if (!compacted)
            {
                Assert.Equal(StoreResult.NoEntropy, result);
                Assert.Equal(0, device.Writes);
                Assert.Equal(before, Content(store));
                draws = int.MaxValue;
                Assert.Equal(StoreResult.Done, Put(store, A, Name(count % 3), Bytes(50_000, count)));
            }

            Assert.True(device.Writes > 4);
            Assert.Equal(Bytes(50_000, count), Get(Open(device, store.Version), A, Name(count % 3)));
        }

        static int CommitsUntilCompaction()
        {
            var device = new SimulatedDevice(MiB);
            PersistentStore store = Make(device, (A, 180_000));
            for (int i = 0; ; i++)
            {
                device.Writes = 0;
                Put(store, A, Name(i % 3), Bytes(50_000, i));
                if (device.Writes > 2)
                {
                    return i;
                }
            }
        }
    }

    [Fact]
    public void Entropy_NoneToGrowOrToRepair_IsAnErrorAndNothingIsWritten()
    {
        for (int left = 0; left < 2; left++)
        {
            // In the upper half: growing is a compaction and a superblock.
            int draws = int.MaxValue;
            var hooks = new StoreHooks(destination => draws-- > 0 && StoreHooks.Default.Random(destination), null);
            var device = new SimulatedDevice(MiB);
            PersistentStore store = PersistentStore.Create(device, Key, hooks).Store!;
            store.DefineNamespace(A, 100_000);
            for (int i = 0; i < 150; i++)
            {
                Put(store, A, Name("x"), [(byte)i]);
            }

            device.Resize(2 * MiB);
            draws = left;
            device.Writes = 0;
            Assert.Equal(StoreResult.NoEntropy, store.Grow());
            Assert.Equal(0, device.Writes);
            Assert.Equal([149], Get(store, A, Name("x")));
            draws = int.MaxValue;
            Assert.Equal(StoreResult.Done, store.Grow());
            Assert.Equal(2 * MiB, Open(device).Length);

            device.StepsLeft = 2;
            Put(store, A, Name("x"), [7]);
            device.StepsLeft = int.MaxValue;
            draws = 0;
            device.Writes = 0;
            Assert.Equal(StoreState.NoEntropy, PersistentStore.Open(device, Key, null, readOnly: false, hooks).State);
            Assert.Equal(0, device.Writes);
            Assert.Equal([7], Get(Open(device), A, Name("x")));
        }
    }

    [Fact]
    public void Survey_ReadsTheLogOnce()
    {
        var device = new SimulatedDevice(MiB);
        PersistentStore store = Make(device, (A, 180_000));
        for (int i = 0; i < 30; i++)
        {
            Put(store, A, Name(i % 4), Bytes(i % 3 == 0 ? 30_000 : 10, i));
        }

        var seen = new HashSet<long>();
        device.OnRead = (sector, bytes) =>
        {
            for (long i = sector; i < sector + (bytes.Length / device.SectorSize); i++)
            {
                // The first block of the lower half is read with the superblocks, too.
                Assert.True(seen.Add(i) || i * device.SectorSize / 4096 == 2);
            }
        };
        Assert.Empty(StoreSurvey.Read(device).Findings);
    }

    [Fact]
    public void ReadOnly_InterruptedCommit_IsReadAndNothingIsWritten()
    {
        var device = new SimulatedDevice(MiB);
        PersistentStore store = Make(device, (A, 10_000));
        device.StepsLeft = 2;
        Put(store, A, Name("x"), [1]);
        device.StepsLeft = 0;
        (device.Writes, device.Flushes) = (0, 0);
        StoreOpening opening = PersistentStore.Open(device, Key, readOnly: true);
        Assert.Equal([1], Get(opening.Store!, A, Name("x")));
        Assert.Equal(StoreResult.ReadOnly, Put(opening.Store!, A, Name("x"), [2]));
        Assert.Equal(StoreResult.ReadOnly, opening.Store!.Grow());
        Assert.Equal((0, 0), (device.Writes, device.Flushes));
    }
}
