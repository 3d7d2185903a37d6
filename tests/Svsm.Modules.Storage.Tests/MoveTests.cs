// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.IO;
using System.Text;
using Svsm.Core;
using Svsm.Core.Testing;
using Svsm.Modules.VarStore;
using Svsm.Modules.Vtpm;
using Svsm.Store;
using Xunit;

namespace Svsm.Modules.Storage.Tests;

/// <summary>A guest with a store that moves: the store that it leaves, and the one that it comes to, are not used without it.</summary>
public sealed class MoveTests : IDisposable
{
    private const uint Tpm = 2;
    private const uint Variables = 4;
    private const long VariablesQuota = 0x2_0000;

    private readonly TestDisk _disk = new();
    private readonly TestDisk _otherDisk = new();
    private readonly AnchorOfTwo _anchor = new();

    public MoveTests()
    {
        TestImage.Prepare(_disk);
        TestImage.Prepare(_otherDisk);
    }

    public void Dispose()
    {
        _disk.Dispose();
        _otherDisk.Dispose();
    }

    [Fact]
    public void Module_HasNoStateOfItsOwn()
    {
        using var image = new TestImage(_disk);

        Assert.Equal(1u, image.Module.GetStateVersion());
        ModuleState state = Assert.NotNull(image.Module.Save());
        Assert.Equal((1u, 0), (state.Version, state.Bytes.Length));
        Assert.True(image.Module.Restore(state));
        Assert.DoesNotContain("moved", image.Log, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Leave_StoreIsNotOpenedAgain(bool hasAnchor)
    {
        StoreAnchor? anchor = hasAnchor ? _anchor : null;
        using (var image = new TestImage(_disk, anchor: anchor))
        {
            Assert.Equal(StoreStatus.Done, image.Store(Tpm).Commit(Put("a", 1)));
            byte[] older = File.ReadAllBytes(_disk.Path);

            Assert.True(image.Module.Leave());

            Assert.Contains("the store is marked as moved", image.Log, StringComparison.Ordinal);
            Assert.Equal(hasAnchor ? 2u : null, _anchor.Known?.Generation);
            Assert.True(image.Module.Leave());
            Assert.Equal(hasAnchor ? 2u : null, _anchor.Known?.Generation);
            if (hasAnchor)
            {
                // The copy of before is no way around it.
                byte[] newest = File.ReadAllBytes(_disk.Path);
                File.WriteAllBytes(_disk.Path, older);
                _disk.Restart();
                using (var replayed = new TestImage(_disk, anchor: anchor))
                {
                    Assert.Contains("the store is not open: Older", replayed.Log, StringComparison.Ordinal);
                }

                File.WriteAllBytes(_disk.Path, newest);
            }
        }

        _disk.Restart();
        using var again = new TestImage(_disk, anchor: anchor);
        Assert.Contains("the store is not open: Moved, the guest of this store is at another SVSM", again.Log, StringComparison.Ordinal);
        Assert.Equal(StoreStatus.NotOpen, again.Store(Tpm).TryGet("a"u8, out _));
        Assert.Throws<InvalidOperationException>(() => new ModuleTest(new VtpmModule(), peers: again.Peers(Tpm)));
        Assert.Equal(0, again.Manifest[4]);
        Assert.True(again.Module.Leave());
    }

    [Theory]
    [InlineData(false, false)]
    [InlineData(false, true)]
    [InlineData(true, false)]
    [InlineData(true, true)]
    public void Arrive_AlsoBehindRequests_TakesTheMarkBack(bool hasAnchor, bool arrives)
    {
        StoreAnchor? anchor = hasAnchor ? _anchor : null;
        using (var image = new TestImage(_disk, anchor: anchor))
        {
            ModuleStore store = image.Store(Tpm);
            Assert.Equal(StoreStatus.Done, store.Commit(Put("a", 1)));
            Assert.True(image.Module.Leave());

            // As a module of a target stores the state that it gets. It does not say that the guest is here.
            Assert.Equal(StoreStatus.Done, store.TryGet("a"u8, out _));
            Assert.Equal(StoreStatus.Done, store.List(out _));
            Assert.Equal(StoreStatus.Done, store.TryDescribe(out _));
            Assert.Equal(StoreStatus.Done, store.Commit(Put("b", 2)));
            Assert.DoesNotContain("not moved any more", image.Log, StringComparison.Ordinal);
            if (arrives)
            {
                Assert.True(image.Module.Arrive());
                Assert.True(image.Module.Arrive());
                Assert.Equal(1, Count(image.Log, "the guest is here: the store is not moved any more"));
                Assert.Equal(hasAnchor ? 4u : null, _anchor.Known?.Generation);
            }
        }

        _disk.Restart();
        using var again = new TestImage(_disk, anchor: anchor);
        Assert.Equal(!arrives, again.Log.Contains("Moved", StringComparison.Ordinal));
        Assert.Equal(arrives ? StoreStatus.Done : StoreStatus.NotOpen, again.Store(Tpm).TryGet("b"u8, out _));
    }

    [Fact]
    public void Arrive_GuestThatNeverLeft_IsNothing()
    {
        using var image = new TestImage(_disk, anchor: _anchor);
        Assert.Equal(StoreStatus.Done, image.Store(Tpm).Commit(Put("a", 1)));

        Assert.True(image.Module.Arrive());

        Assert.Equal(1u, _anchor.Known?.Generation);
        Assert.Equal(StoreStatus.Done, image.Store(Tpm).TryGet("a"u8, out _));
    }

    // The guest runs all the same: what it changes is refused until the mark can be taken back, for it would be lost with the next start.
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Arrive_MarkThatCannotBeTakenBackYet_StoresNothingUntilItIs(bool failsDisk)
    {
        using (var image = new TestImage(_disk, anchor: _anchor))
        {
            ModuleStore store = image.Store(Tpm);
            Assert.Equal(StoreStatus.Done, store.Commit(Put("a", 1)));
            Assert.True(image.Module.Leave());
            _anchor.Result = failsDisk ? AnchorResult.Done : AnchorResult.Unreachable;
            _disk.Device.IsLost = failsDisk ? _ => true : null;

            Assert.False(image.Module.Arrive());

            Assert.Contains("cannot be taken back yet", image.Log, StringComparison.Ordinal);
            Assert.NotEqual(StoreStatus.Done, store.Commit(Put("b", 1)));
            (_anchor.Result, _disk.Device.IsLost) = (AnchorResult.Done, null);
            _ = store.List(out _);
            Assert.Equal(StoreStatus.Done, store.Commit(Put("c", 1)));
        }

        _disk.Restart();
        using var again = new TestImage(_disk, anchor: _anchor);
        Assert.Equal(StoreStatus.NotFound, again.Store(Tpm).TryGet("b"u8, out _));
        Assert.Equal(StoreStatus.Done, again.Store(Tpm).TryGet("c"u8, out _));
    }

    // The disk fails at any of the writes and flushes; power goes or not. The guest has left, or the store can be had.
    [Fact]
    public void Leave_DiskThatFails_HasLeftOrStays()
    {
        int left = 0;
        int stayed = 0;
        for (int fails = 0; fails < 12; fails++)
        {
            using var disk = new TestDisk();
            TestImage.Prepare(disk);
            bool hasLeft;
            using (var image = new TestImage(disk))
            {
                Assert.Equal(StoreStatus.Done, image.Store(Tpm).Commit(Put("a", 1)));
                int requests = 0;
                disk.Device.IsLost = _ => ++requests > fails && requests <= fails + 2;
                hasLeft = image.Module.Leave();
                disk.Device.IsLost = null;
                if (!hasLeft && fails % 2 == 0)
                {
                    // It goes on.
                    Assert.Equal(StoreStatus.Done, image.Store(Tpm).TryGet("a"u8, out _));
                    Assert.Equal(StoreStatus.Done, image.Store(Tpm).Commit(Put("b", 1)));
                }
            }

            disk.Restart();
            using var again = new TestImage(disk);
            if (hasLeft)
            {
                left++;
                Assert.Contains("Moved", again.Log, StringComparison.Ordinal);
            }
            else
            {
                stayed++;
                Assert.Equal(StoreStatus.Done, again.Store(Tpm).TryGet("a"u8, out _));
            }
        }

        Assert.True(left > 0 && stayed > 2, $"{left} left, {stayed} stayed");
    }

    [Fact]
    public void Leave_AnchorThatIsAway_Stays()
    {
        using var image = new TestImage(_disk, anchor: _anchor);
        Assert.Equal(StoreStatus.Done, image.Store(Tpm).Commit(Put("a", 1)));
        _anchor.Result = AnchorResult.Unreachable;

        // Nothing is written that the anchor would have to have.
        Assert.False(image.Module.Leave() && _anchor.Known?.Generation == 1);
        Assert.Contains("the guest stays", image.Log, StringComparison.Ordinal);

        _anchor.Result = AnchorResult.Done;
        Assert.Equal(StoreStatus.Done, image.Store(Tpm).Commit(Put("b", 1)));
        Assert.True(image.Module.Leave());
    }

    [Fact]
    public void Leave_WithoutAStore_IsNothing()
    {
        using var disk = new TestDisk();
        using var image = new TestImage(disk);

        Assert.Contains("the store is not open", image.Log, StringComparison.Ordinal);
        Assert.True(image.Module.Leave());
    }

    // From one image with a TPM, variables and a store to another one, with the power cut at the target at any moment before the guest is there.
    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public void Image_GuestThatMoves_HasItsStoreAtTheTargetAlone(int moment)
    {
        using var source = new TestImage(_disk, anchor: _anchor);
        using var tpm = new ModuleTest(new VtpmModule(), peers: source.Peers(Tpm));
        using var variables = new ModuleTest(new VarStoreModule(), 0x10_0000, peers: source.Peers(Variables, VariablesQuota));
        byte[] manifest = tpm.GetManifest(0)!;
        var anchor = new AnchorOfTwo();
        using (var target = new TestImage(_otherDisk, anchor: anchor))
        using (var targetTpm = new ModuleTest(new VtpmModule(), peers: target.Peers(Tpm)))
        using (var targetVariables = new ModuleTest(new VarStoreModule(), 0x10_0000, peers: target.Peers(Variables, VariablesQuota)))
        {
            if (moment >= 1)
            {
                Assert.True(target.Module.Leave());
                Assert.True(targetTpm.Restore(Assert.NotNull(tpm.Save())));
            }

            if (moment >= 2)
            {
                Assert.True(targetVariables.Restore(Assert.NotNull(variables.Save())));
                Assert.Equal(1, Count(target.Log, "marked as moved"));
                Assert.True(source.Module.Leave());
            }

            if (moment >= 3)
            {
                // The guest runs at the target.
                Assert.True(target.Module.Arrive());
                targetTpm.Reset();
                Assert.Contains("the guest is here", target.Log, StringComparison.Ordinal);
            }
        }

        // The target's disk without the guest: as it was before, or not used.
        _otherDisk.Restart();
        using (var target = new TestImage(_otherDisk, anchor: anchor))
        {
            Assert.Equal(moment is 1 or 2, target.Log.Contains("Moved", StringComparison.Ordinal));
            if (moment is 0 or 3)
            {
                using var targetTpm = new ModuleTest(new VtpmModule(), peers: target.Peers(Tpm));
                Assert.Equal(moment == 3, manifest.AsSpan().SequenceEqual(targetTpm.GetManifest(0)));
            }
        }

        // And the source's: gone if it has left.
        _disk.Restart();
        using var again = new TestImage(_disk, anchor: _anchor);
        Assert.Equal(moment >= 2, again.Log.Contains("Moved", StringComparison.Ordinal));
    }

    [Fact]
    public void Restore_ThatIsRefused_LeavesTheStoreMarked()
    {
        using var source = new TestImage(_disk);
        using var tpm = new ModuleTest(new VtpmModule(), peers: source.Peers(Tpm));
        ModuleState state = Assert.NotNull(tpm.Save());
        using var target = new TestImage(_otherDisk);
        using var targetTpm = new ModuleTest(new VtpmModule(), peers: target.Peers(Tpm, 0x1000));
        using var small = new ModuleTest(new VarStoreModule(), 0x10_0000, peers: target.Peers(Variables, 10));
        Assert.True(target.Module.Leave());

        // Its part of the store is too small: nothing of it is there.
        using var variables = new ModuleTest(new VarStoreModule(), 0x10_0000, peers: source.Peers(Variables, VariablesQuota));
        Assert.False(small.Restore(Assert.NotNull(variables.Save())));
        Assert.False(targetTpm.Restore(new(1, state.Bytes[..^1])));
        _otherDisk.Restart();
        using var again = new TestImage(_otherDisk);
        Assert.Contains("Moved", again.Log, StringComparison.Ordinal);
    }

    private static int Count(string text, string wanted) => text.Split(wanted).Length - 1;

    private static StoreChange Put(string name, int length) => StoreChange.Put(Encoding.ASCII.GetBytes(name), new byte[length]);

    // What somebody keeps outside of both machines, for one of them.
    private sealed class AnchorOfTwo : StoreAnchor
    {
        private StoreVersion? _known;

        public AnchorResult Result { get; set; }

        public override StoreVersion? Known => _known;

        public override AnchorResult TryMove(StoreVersion version)
        {
            if (_known == version || Result != AnchorResult.Done)
            {
                return _known == version ? AnchorResult.Done : Result;
            }

            Assert.True(version.Generation - (_known?.Generation ?? 0) <= 1 || _known is null, "the anchor is behind by more than one");
            _known = version;
            return AnchorResult.Done;
        }

        public override void Dispose()
        {
        }
    }
}
