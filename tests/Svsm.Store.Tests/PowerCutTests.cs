// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using System.Linq;
using Xunit;

namespace Svsm.Store.Tests;

/// <summary>Histories with power cuts at any step: every answered commit is there afterwards, and nothing half.</summary>
public sealed class PowerCutTests : StoreTest
{
    private static readonly Guid[] s_spaces = [A, B];

    [Fact]
    public void Histories_CutAtAnyStep_KeepEveryAnsweredCommit() => RunHistories(0, 60, 40);

    [Fact]
    [Trait("Run", "all")]
    public void Histories_CutAtAnyStep_KeepEveryAnsweredCommitFarMore() => RunHistories(1000, 2000, 50);

    [Fact]
    public void Histories_DeviceThatSwallowsFlushes_IsAnEarlierStateOrAnError()
    {
        int errors = 0;
        int earlier = 0;
        for (int seed = 0; seed < 400; seed++)
        {
            var random = new Random(seed);
            var inner = new SimulatedDevice(MiB);
            PersistentStore store = Make(inner, (A, 100_000), (B, 20_000));
            var states = new List<Dictionary<string, string>>();
            var liar = new LyingDevice(inner);
            store = PersistentStore.Open(liar, Key).Store!;
            states.Add(Content(store));
            for (int i = 0; i < 6; i++)
            {
                Assert.Equal(StoreResult.Done, RandomCommit(store, random));
                states.Add(Content(store));
            }

            StoreVersion version = store.Version;
            inner.CutPower(random);
            StoreOpening opening = PersistentStore.Open(inner, Key);
            if (opening.State == StoreState.Opened)
            {
                Dictionary<string, string>? content = TryContent(opening.Store!);
                errors += content is null ? 1 : 0;
                Assert.True(content is null || states.Any(state => Same(state, content)), $"seed {seed}: a state that never was");
                if (opening.Store!.Version != version)
                {
                    earlier++;
                    Assert.Equal(StoreState.Older, PersistentStore.Open(inner, Key, version).State);
                }
            }
            else
            {
                Assert.Equal(StoreState.Damaged, opening.State);
                errors++;
            }
        }

        Assert.True(errors > 20 && earlier > 20, $"{errors} errors, {earlier} earlier states");
    }

    [Fact]
    public void Grow_CutAtAnyStep_KeepsEverything()
    {
        int grown = 0;
        int cut = 0;
        for (int seed = 0; seed < 150; seed++)
        {
            var random = new Random(seed);
            var device = new SimulatedDevice(MiB);
            PersistentStore store = Make(device, (A, 50_000));
            for (int i = 0; i < (seed % 2) * 130; i++)
            {
                Put(store, A, Name(i % 7), Bytes(300, i));
            }

            Dictionary<string, string> content = Content(store);
            device.Resize(2 * MiB);
            device.StepsLeft = random.Next(10);
            StoreResult result = store.Grow();
            device.CutPower(random);
            PersistentStore opened = Open(device, store.Version);
            Assert.Equal(content, Content(opened));
            Assert.True(result != StoreResult.Done || opened.Length == 2 * MiB);
            _ = result == StoreResult.Done ? grown++ : cut++;
            Assert.Equal(StoreResult.Done, opened.Grow());
            Assert.Equal(2 * MiB, Open(device).Length);
        }

        Assert.True(grown > 10 && cut > 10, $"{grown} grown, {cut} cut");
    }

    private static void RunHistories(int firstSeed, int count, int cuts)
    {
        int lost = 0;
        int kept = 0;
        for (int seed = firstSeed; seed < firstSeed + count; seed++)
        {
            var random = new Random(seed);
            var device = new SimulatedDevice(MiB, seed % 4 == 0 ? 4096 : 512);
            PersistentStore store = Make(device, (A, 100_000), (B, 20_000));
            StoreVersion answered = store.Version;
            Dictionary<string, string> before = Content(store);
            for (int cut = 0; cut < cuts; cut++)
            {
                // Most commits are four steps, a compaction is one for each entry and five more.
                device.StepsLeft = random.Next(random.Next(2) == 0 ? 8 : 120);
                StoreResult result = StoreResult.Done;
                Dictionary<string, string> after = before;
                while (result == StoreResult.Done)
                {
                    before = after;
                    answered = store.Version;
                    List<Action<Dictionary<string, string>>> changes = [];
                    result = RandomCommit(store, random, changes);
                    after = new Dictionary<string, string>(before);
                    changes.ForEach(change => change(after));
                }

                Assert.Equal(StoreResult.DeviceFailed, result);
                device.CutPower(random);

                // Power goes again while it is being opened, and once more.
                while (random.Next(3) == 0)
                {
                    device.StepsLeft = random.Next(6);
                    PersistentStore.Open(device, Key);
                    device.CutPower(random);
                }

                StoreOpening opening = PersistentStore.Open(device, Key, answered);
                Assert.True(opening.State == StoreState.Opened, $"seed {seed}, cut {cut}: {opening.State}, {opening.Detail}, block {opening.Block}");
                store = opening.Store!;
                Dictionary<string, string> content = Content(store);
                bool isBefore = Same(content, before);
                Assert.True(isBefore || Same(content, after), $"seed {seed}, cut {cut}: neither the state before the commit nor the one after it");
                _ = isBefore ? lost++ : kept++;
                before = content;
            }
        }

        Assert.True(lost > count && kept > count, $"{lost} commits were lost, {kept} kept: the cuts are at too few places");
    }

    private static StoreResult RandomCommit(PersistentStore store, Random random, List<Action<Dictionary<string, string>>>? changes = null)
    {
        Guid space = s_spaces[random.Next(2)];
        StoreTransaction transaction = store.Begin(space)!;
        int count = random.Next(1, 6);
        bool any = false;
        for (int i = 0; i < count || !any; i++)
        {
            byte[] name = Name(random.Next(12));
            string key = $"{space}/{Convert.ToHexString(name)}";
            if (random.Next(4) == 0)
            {
                if (transaction.Delete(name) == StoreResult.Done)
                {
                    changes?.Add(content => content.Remove(key));
                }

                continue;
            }

            byte[] value = Bytes(random.Next(10) == 0 ? random.Next(15_000) : random.Next(600), random.Next());
            StoreResult result = transaction.Put(name, value);
            if (result == StoreResult.Done)
            {
                // Never the bytes that are there: an empty commit would not show that power is gone.
                any = true;
                changes?.Add(content => content[key] = Convert.ToHexString(value));
            }
            else
            {
                Assert.Equal(StoreResult.QuotaExceeded, result);
            }
        }

        return transaction.Commit();
    }

    private static bool Same(Dictionary<string, string> one, Dictionary<string, string> other) =>
        one.Count == other.Count && one.All(pair => other.TryGetValue(pair.Key, out string? value) && value == pair.Value);

    private static Dictionary<string, string>? TryContent(PersistentStore store)
    {
        Assert.Equal(StoreResult.Done, store.Verify(out IReadOnlyList<StoreFinding> findings));
        return findings.Count == 0 ? Content(store) : null;
    }

    private sealed class LyingDevice(SimulatedDevice inner) : IBlockDevice
    {
        public int SectorSize => inner.SectorSize;

        public long SectorCount => inner.SectorCount;

        public bool TryRead(long sector, Span<byte> destination) => inner.TryRead(sector, destination);

        public bool TryWrite(long sector, ReadOnlySpan<byte> source) => inner.TryWrite(sector, source);

        public bool TryFlush() => true;
    }
}
