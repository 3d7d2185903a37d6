// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Text;
using Svsm.Core;
using Svsm.Core.Testing;
using Svsm.Modules.VarStore;
using Svsm.Store;
using Xunit;

namespace Svsm.Modules.Storage.Tests;

/// <summary>A store whose last version somebody keeps: older disks, second machines, and a keeper that is away.</summary>
public sealed class AnchorTests : IDisposable
{
    private readonly TestDisk _disk = new();
    private readonly TestAnchor _anchor = new();

    public AnchorTests() => TestImage.Prepare(_disk);

    public void Dispose() => _disk.Dispose();

    private TestImage Boot(TestAnchor? anchor = null)
    {
        _disk.Restart();
        return new TestImage(_disk, anchor: anchor ?? _anchor);
    }

    [Fact]
    public void Commits_AreAnswered_WhenTheAnchorHasThem()
    {
        using (TestImage image = Boot())
        {
            Assert.Contains("an older state of it is refused", image.Log, StringComparison.Ordinal);
            Assert.Equal(7, image.Manifest[4]);
            ModuleStore store = image.Store(2);
            Assert.Equal(StoreStatus.Done, store.TryDescribe(out StoreDescription description));
            Assert.True(description.IsRollbackDetected);
            for (int i = 0; i < 5; i++)
            {
                ulong before = _anchor.Version!.Value.Generation;
                Assert.Equal(StoreStatus.Done, store.Commit(Put("a", i)));
                Assert.True(_anchor.Version!.Value.Generation > before);
            }
        }

        using TestImage next = Boot();
        Assert.Contains("open: generation 5", next.Log, StringComparison.Ordinal);
        Assert.Equal(3, next.Manifest[4]);
    }

    // What a verifier reads in the manifest of the variables.
    [Theory]
    [InlineData(false, 0x5)]
    [InlineData(true, 0xD)]
    public void Variables_TellWhetherAnOlderStateIsRefused(bool hasAnchor, byte flags)
    {
        using TestImage image = hasAnchor ? Boot() : new TestImage(_disk);
        using var variables = new ModuleTest(new VarStoreModule(), 0x10_0000, peers: image.Peers(4));
        Assert.Equal([0, 0, 0, 0, flags, 0, 0, 0], variables.GetManifest(0));
    }

    // Without an anchor the host can do it. It is not told apart, and nobody says that it were.
    [Fact]
    public void OlderDisk_WithoutAnAnchor_IsOpenedAndReportedAsPossible()
    {
        using (var image = new TestImage(_disk))
        {
            Assert.Equal(StoreStatus.Done, image.Store(2).Commit(Put("a", 1)));
        }

        byte[] older = File.ReadAllBytes(_disk.Path);
        _disk.Restart();
        using (var image = new TestImage(_disk))
        {
            Assert.Equal(StoreStatus.Done, image.Store(2).Commit(Put("a", 2)));
        }

        File.WriteAllBytes(_disk.Path, older);
        _disk.Restart();
        using var replayed = new TestImage(_disk);
        Assert.Contains("open: generation 1; an older state of it cannot be told", replayed.Log, StringComparison.Ordinal);
        Assert.Equal(1, replayed.Manifest[4]);
        Assert.Equal(StoreStatus.Done, replayed.Store(2).TryGet("a"u8, out byte[] value));
        Assert.Single(value);
    }

    [Fact]
    public void OlderDisk_IsNotOpened()
    {
        using (TestImage image = Boot())
        {
            Assert.Equal(StoreStatus.Done, image.Store(2).Commit(Put("a", 1)));
        }

        byte[] older = File.ReadAllBytes(_disk.Path);
        using (TestImage image = Boot())
        {
            Assert.Equal(StoreStatus.Done, image.Store(2).Commit(Put("a", 2)));
            Assert.False(_anchor.IsDisposed);
        }

        byte[] newest = File.ReadAllBytes(_disk.Path);
        File.WriteAllBytes(_disk.Path, older);
        using (TestImage image = Boot())
        {
            Assert.Contains("the store is not open: Older", image.Log, StringComparison.Ordinal);
            Assert.True(_anchor.IsDisposed);
            Assert.Equal(StoreStatus.NotOpen, image.Store(2).TryGet("a"u8, out _));
        }

        File.WriteAllBytes(_disk.Path, newest);
        using TestImage again = Boot();
        Assert.Equal(StoreStatus.Done, again.Store(2).TryGet("a"u8, out byte[] value));
        Assert.Equal(2, value.Length);
    }

    [Fact]
    public void NewDisk_WhereThereWasAStore_IsNotOpened()
    {
        using (TestImage image = Boot())
        {
            Assert.Equal(StoreStatus.Done, image.Store(2).Commit(Put("a", 1)));
        }

        File.WriteAllBytes(_disk.Path, new byte[2 << 20]);
        _disk.Restart();
        TestImage.Prepare(_disk);
        using TestImage next = Boot();
        Assert.Contains("this disk is new, and the broker knows a store of generation 1", next.Log, StringComparison.Ordinal);
        Assert.Equal(StoreStatus.NotOpen, next.Store(2).TryGet("a"u8, out _));
    }

    // Power goes after the commit and before the anchor: the disk is ahead by one, and open.
    [Fact]
    public void DiskAheadOfTheAnchor_IsOpenedAndAnchored()
    {
        using (TestImage image = Boot())
        {
            Assert.Equal(StoreStatus.Done, image.Store(2).Commit(Put("a", 1)));
            _anchor.Result = AnchorResult.Unreachable;
            Assert.Equal(StoreStatus.Failed, image.Store(2).Commit(Put("a", 2)));
        }

        Assert.Equal(1u, _anchor.Version!.Value.Generation);
        _anchor.Result = AnchorResult.Done;
        using TestImage next = Boot();
        Assert.Contains("open: generation 2", next.Log, StringComparison.Ordinal);
        Assert.Equal(2u, _anchor.Version!.Value.Generation);
        Assert.Equal(StoreStatus.Done, next.Store(2).TryGet("a"u8, out byte[] value));
        Assert.Equal(2, value.Length);
    }

    [Fact]
    public void AnchorIsAway_NothingIsCommittedUntilItIsBack()
    {
        using TestImage image = Boot();
        ModuleStore one = image.Store(2);
        ModuleStore other = image.Store(4);
        Assert.Equal(StoreStatus.Done, one.Commit(Put("a", 1)));
        Assert.Equal(StoreStatus.Done, other.Commit(Put("a", 1)));

        _anchor.Result = AnchorResult.Unreachable;
        Assert.Equal(StoreStatus.Failed, one.Commit(Put("a", 2)));
        Assert.Equal(StoreStatus.DeviceFailed, other.Commit(Put("a", 2)));
        Assert.Equal(StoreStatus.Done, other.TryGet("a"u8, out byte[] value));
        Assert.Single(value);

        // Nobody is told what may be gone after a restart.
        Assert.Equal(StoreStatus.DeviceFailed, one.TryGet("a"u8, out _));
        Assert.Equal(StoreStatus.DeviceFailed, one.List(out _));

        // The commit of the first one is there; it has to look before the next one.
        _anchor.Result = AnchorResult.Done;
        Assert.Equal(StoreStatus.Failed, one.Commit(Put("a", 3)));
        Assert.Equal(StoreStatus.Done, one.List(out _));
        Assert.Equal(StoreStatus.Done, one.TryGet("a"u8, out value));
        Assert.Equal(2, value.Length);
        Assert.Equal(StoreStatus.Done, one.Commit(Put("a", 3)));
        Assert.Equal(StoreStatus.Done, other.Commit(Put("a", 4)));
    }

    [Fact]
    public void AnchorIsAwayAtTheStart_StoreIsNotOpen()
    {
        _anchor.Result = AnchorResult.Unreachable;
        using TestImage image = Boot();
        Assert.Contains("the store is not open: the broker is not reached any more", image.Log, StringComparison.Ordinal);
        Assert.Equal(StoreStatus.NotOpen, image.Store(2).TryGet("a"u8, out _));
    }

    // Two machines from copies of one disk: the one that is second to commit stops.
    [Fact]
    public void SecondMachine_IsTold()
    {
        using (TestImage image = Boot())
        {
            Assert.Equal(StoreStatus.Done, image.Store(2).Commit(Put("a", 1)));
        }

        using var copy = new TestDisk();
        copy.Disks.Dispose();
        File.WriteAllBytes(copy.Path, File.ReadAllBytes(_disk.Path));
        copy.Restart();
        TestAnchor another = _anchor.Another();
        using var second = new TestImage(copy, anchor: another);
        using TestImage first = Boot(_anchor.Another());
        Assert.Equal(StoreStatus.Done, first.Store(2).Commit(Put("a", 2)));
        Assert.Equal(StoreStatus.Failed, second.Store(2).Commit(Put("a", 3)));
        Assert.Equal(StoreStatus.NotOpen, second.Store(2).TryGet("a"u8, out _));
        Assert.Equal(StoreStatus.NotOpen, second.Store(4).Commit(Put("a", 3)));
        Assert.Contains("another machine goes on from a copy of it", second.Log, StringComparison.Ordinal);
        Assert.True(another.IsDisposed);
        Assert.Equal(StoreStatus.Done, first.Store(2).Commit(Put("a", 4)));
    }

    // Compactions in between, and an anchor that misses some: the store always opens with what the anchor has.
    [Fact]
    public void ManyCommits_WithAnAnchorThatComesAndGoes_AlwaysOpen()
    {
        var random = new Random(1);
        int opened = 0;
        for (int boot = 0; boot < 12; boot++)
        {
            _anchor.Result = AnchorResult.Done;
            using TestImage image = Boot();
            Assert.True(image.Manifest[4] is 3 or 7, image.Log);
            opened++;
            foreach (int commit in Enumerable.Range(0, 60))
            {
                _anchor.Result = random.Next(6) == 0 ? AnchorResult.Unreachable : AnchorResult.Done;
                ModuleStore store = image.Store((uint)(2 * random.Next(1, 4)), 0x1_8000);
                store.List(out _);
                StoreStatus status = store.Commit(Put("a" + random.Next(3), random.Next(20_000)));
                Assert.True(status is StoreStatus.Done or StoreStatus.Failed or StoreStatus.DeviceFailed, status.ToString());
            }
        }

        Assert.Equal(12, opened);
    }

    private static StoreChange Put(string name, int length) => StoreChange.Put(Encoding.ASCII.GetBytes(name), new byte[length]);

    private sealed class TestAnchor : StoreAnchor
    {
        private readonly List<StoreVersion?> _kept = [null];
        private bool _isOwn = true;
        private StoreVersion? _known;

        /// <summary>Not done: the next wishes end so, and nothing is kept.</summary>
        public AnchorResult Result { get; set; }

        public StoreVersion? Version => _kept[0];

        public bool IsDisposed { get; private set; }

        public override StoreVersion? Known => _isOwn ? _kept[0] : _known;

        /// <summary>Of another machine, which knows what there is now.</summary>
        public TestAnchor Another() => new(_kept) { _isOwn = false, _known = _kept[0] };

        public TestAnchor()
        {
        }

        private TestAnchor(List<StoreVersion?> kept) => _kept = kept;

        public override AnchorResult TryMove(StoreVersion version)
        {
            if (Known == version || Result != AnchorResult.Done)
            {
                return Known == version ? AnchorResult.Done : Result;
            }

            if (_kept[0] != Known)
            {
                return AnchorResult.Lost;
            }

            Assert.True(version.Generation - (Known?.Generation ?? 0) <= 1 || Known is null, "the anchor is behind by more than one");
            _kept[0] = version;
            _known = version;
            return AnchorResult.Done;
        }

        public override void Dispose() => IsDisposed = true;
    }
}
