// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using Xunit;

namespace Svsm.Store.Tests;

/// <summary>The mark of a store whose guest is at another SVSM: a commit as others, and a store that is not opened.</summary>
public sealed class MovedTests : StoreTest
{
    [Fact]
    public void SetMoved_StoreIsNotOpenedUntilItIsTakenBack()
    {
        var device = new SimulatedDevice(MiB);
        PersistentStore store = Make(device, (A, 10_000));
        Put(store, A, Name(1), Bytes(100, 1));
        StoreVersion before = store.Version;

        Assert.Equal(StoreResult.Done, store.SetMoved(true));

        Assert.True(store.IsMoved);
        Assert.Equal(before.Generation + 1, store.Version.Generation);
        foreach (bool readOnly in (bool[])[true, false])
        {
            StoreOpening refused = PersistentStore.Open(device, Key, store.Version, readOnly);
            Assert.Equal(StoreState.Moved, refused.State);
            Assert.Null(refused.Store);
        }

        Assert.Equal(StoreState.Moved, PersistentStore.Open(device, Key, before).State);
        Assert.Equal(StoreState.NotFresh, PersistentStore.Create(device, Key).State);
        Assert.True(StoreSurvey.Read(device).IsMoved);

        PersistentStore taken = PersistentStore.Open(device, Key, before, takesMoved: true).Store!;
        Assert.True(taken.IsMoved);
        Assert.Equal(Bytes(100, 1), Get(taken, A, Name(1)));
        Assert.Equal(StoreResult.Done, taken.SetMoved(true));
        Assert.Equal(store.Version, taken.Version);
        Assert.Equal(StoreResult.Done, taken.SetMoved(false));
        Assert.Equal(before.Generation + 2, taken.Version.Generation);
        Assert.False(StoreSurvey.Read(device).IsMoved);
        Assert.False(Open(device, before).IsMoved);

        // An older copy is told apart, marked or not.
        Assert.Equal(StoreState.Older, PersistentStore.Open(device, Key, new(taken.Version.Generation + 1, taken.Version.Root), takesMoved: true).State);
    }

    [Fact]
    public void SetMoved_ReadOnlyStore_IsRefused()
    {
        var device = new SimulatedDevice(MiB);
        Make(device);

        Assert.Equal(StoreResult.ReadOnly, PersistentStore.Open(device, Key, readOnly: true).Store!.SetMoved(true));
    }

    // What a guest that comes stores under the mark is compacted with it.
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Compaction_KeepsTheMark(bool isMoved)
    {
        var device = new SimulatedDevice(MiB);
        PersistentStore store = Make(device, (A, 100_000));
        Assert.Equal(StoreResult.Done, store.SetMoved(true));
        Assert.Equal(StoreResult.Done, store.SetMoved(isMoved));
        long start = StoreSurvey.Read(device).LogLength;
        for (int i = 0; i < 300; i++)
        {
            Assert.Equal(StoreResult.Done, Put(store, A, Name(i % 5), Bytes(3000, i)));
        }

        Assert.True(StoreSurvey.Read(device).LogLength < start + (300 * 4096));
        Assert.Equal(isMoved, StoreSurvey.Read(device).IsMoved);
        Assert.Equal(isMoved ? StoreState.Moved : StoreState.Opened, PersistentStore.Open(device, Key).State);
        PersistentStore taken = PersistentStore.Open(device, Key, store.Version, takesMoved: true).Store!;
        Assert.Equal(Content(store), Content(taken));
        Assert.Equal(StoreResult.Done, taken.SetMoved(false));
        Assert.Equal(StoreResult.Done, taken.Grow());
        Open(device);
    }

    [Fact]
    public void Compaction_OfAMarkedStoreWithNothingInIt_KeepsTheMark()
    {
        var device = new SimulatedDevice(MiB);
        PersistentStore store = Make(device);
        Assert.Equal(StoreResult.Done, store.SetMoved(true));
        for (int i = 0; i < 200; i++)
        {
            Assert.Equal(StoreResult.Done, store.DefineNamespace(A, 10));
            Assert.Equal(StoreResult.Done, store.RemoveNamespace(A));
        }

        Assert.Equal(StoreState.Moved, PersistentStore.Open(device, Key).State);
    }

    // Power goes at any step of marking and of taking it back: it is marked or not, and all else is there; and what was answered holds.
    [Fact]
    public void SetMoved_CutAtAnyStep_IsMarkedOrNot()
    {
        int marked = 0;
        int cut = 0;
        for (int seed = 0; seed < 600; seed++)
        {
            var random = new Random(seed);
            var device = new SimulatedDevice(MiB, seed % 4 == 0 ? 4096 : 512);
            PersistentStore store = Make(device, (A, 50_000));
            for (int i = random.Next(2) * 120; i >= 0; i--)
            {
                Put(store, A, Name(i % 7), Bytes(3000, i));
            }

            bool isMoved = random.Next(2) == 0;
            if (!isMoved)
            {
                Assert.Equal(StoreResult.Done, store.SetMoved(true));
            }

            Dictionary<string, string> content = Content(store);
            StoreVersion version = store.Version;
            device.StepsLeft = random.Next(6);
            StoreResult result = store.SetMoved(isMoved);
            device.CutPower(random);
            StoreOpening opening = PersistentStore.Open(device, Key, version);
            Assert.True(opening.State is StoreState.Opened or StoreState.Moved, $"seed {seed}: {opening.State}, {opening.Detail}");

            // It stays what it was found to be.
            bool isFoundMoved = opening.State == StoreState.Moved;
            Assert.Equal(isFoundMoved ? StoreState.Moved : StoreState.Opened, PersistentStore.Open(device, Key, version).State);
            Assert.Equal(isFoundMoved, StoreSurvey.Read(device).IsMoved);
            Assert.True(result != StoreResult.Done || isFoundMoved == isMoved, $"seed {seed}: what was answered is not there");
            Assert.Equal(content, Content(PersistentStore.Open(device, Key, version, takesMoved: true).Store!));
            _ = result == StoreResult.Done ? marked++ : cut++;
        }

        Assert.True(marked > 50 && cut > 50, $"{marked} marked, {cut} cut");
    }

    // The flag of the superblock is for whoever has no key; changing it does not make a store of another one.
    [Fact]
    public void Mark_ChangedInTheSuperblock_IsNoSuperblock()
    {
        var device = new SimulatedDevice(MiB);
        PersistentStore store = Make(device, (A, 10_000));
        Assert.Equal(StoreResult.Done, store.SetMoved(true));
        byte[] blocks = new byte[2 * 4096];
        Assert.True(device.TryRead(0, blocks));
        for (int slot = 0; slot < 2; slot++)
        {
            blocks.AsSpan((slot * 4096) + 0x58, 4).Clear();
            BitConverter.TryWriteBytes(blocks.AsSpan((slot * 4096) + 0xFC), StoreFormat.Checksum(blocks.AsSpan(slot * 4096, 0xFC)));
        }

        Assert.True(device.TryWrite(0, blocks));
        Assert.False(StoreSurvey.Read(device).IsMoved);
        Assert.Equal(StoreState.Moved, PersistentStore.Open(device, Key).State);
    }
}
