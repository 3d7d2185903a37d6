// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Linq;
using System.Security.Cryptography;
using System.Text;
using Svsm.Core;
using Svsm.Modules.Attestation.Tests;
using Svsm.Store;
using Svsm.Store.Tests;
using Xunit;

namespace Svsm.StoreKeys.Tests;

/// <summary>Who has the key of a store, and who has not.</summary>
[Collection(ChipGroup.Name)]
public sealed class StoreKeyTests(ChipFixture fixture)
{
    private static readonly byte[] s_secret = [.. Enumerable.Range(0, 32).Select(i => (byte)i)];

    [Fact]
    public void WithoutIdBlock_KeyIsThatOfTheImage()
    {
        using var launch = new TestLaunch(fixture.Chip);
        using var again = new TestLaunch(fixture.Chip);
        using var image = new TestLaunch(fixture.Chip, image: "another");
        using var policy = new TestLaunch(fixture.Chip, policy: 0xB_0000);
        using var chip = new TestLaunch(fixture.Other);

        byte[] key = launch.NewKey();
        Assert.False(launch.Identity().HasAuthorKey);
        Assert.Equal(key, again.NewKey());
        Assert.NotEqual(key, image.NewKey());
        Assert.NotEqual(key, policy.NewKey());
        Assert.NotEqual(key, chip.NewKey());
    }

    // Whoever has the ID key signs what he likes, but an update of the image is for authors.
    [Fact]
    public void WithIdKeyOnly_KeyIsThatOfTheImage()
    {
        using var launch = new TestLaunch(fixture.Chip, idKey: 1);
        using var image = new TestLaunch(fixture.Chip, image: "another", idKey: 1);
        using var none = new TestLaunch(fixture.Chip);
        using var key = new TestLaunch(fixture.Chip, idKey: 2);

        Assert.False(launch.Identity().HasAuthorKey);
        Assert.Equal(4, new[] { launch, image, none, key }.Select(each => Convert.ToHexString(each.NewKey())).Distinct().Count());
    }

    [Fact]
    public void WithAuthorKey_KeyIsThatOfTheAuthorsImages()
    {
        using var launch = new TestLaunch(fixture.Chip, author: 1);
        using var image = new TestLaunch(fixture.Chip, image: "another", author: 1, idKey: 2);
        using var other = new TestLaunch(fixture.Chip, author: 2);
        using var policy = new TestLaunch(fixture.Chip, policy: 0xB_0000, author: 1);
        using var none = new TestLaunch(fixture.Chip);

        Assert.True(launch.Identity().HasAuthorKey);
        byte[] key = launch.NewKey();
        Assert.Equal(key, image.NewKey());
        Assert.NotEqual(key, other.NewKey());
        Assert.NotEqual(key, policy.NewKey());
        Assert.NotEqual(key, none.NewKey());
    }

    [Fact]
    public void NewerImage_HasTheKeyOfTheOlderOne_AndNotTheOtherWayRound()
    {
        using var old = new TestLaunch(fixture.Chip, author: 1, svn: 3);
        using var updated = new TestLaunch(fixture.Chip, image: "updated", author: 1, svn: 5);
        StoreKeyOrigin oldOrigin = old.Identity().NewOrigin;
        StoreKeyOrigin newOrigin = updated.Identity().NewOrigin;

        Assert.Equal((3u, 5u), (oldOrigin.Svn, newOrigin.Svn));
        Assert.Equal(old.KeyOf(oldOrigin), updated.KeyOf(oldOrigin));
        Assert.NotEqual(updated.KeyOf(oldOrigin), updated.KeyOf(newOrigin));
        AssertRefused(old, newOrigin);
    }

    [Fact]
    public void NewerFirmware_HasTheKeyOfTheOlderOne_AndNotTheOtherWayRound()
    {
        using var launch = new TestLaunch(fixture.Chip);
        StoreKeyOrigin current = launch.Identity().NewOrigin;
        Assert.NotEqual(0ul, current.Tcb);
        Assert.NotEqual(launch.KeyOf(current), launch.KeyOf(current with { Tcb = current.Tcb - 1 }));
        AssertRefused(launch, current with { Tcb = current.Tcb + 1 });
        AssertRefused(launch, current with { Tcb = ulong.MaxValue });
        AssertRefused(launch, current with { Svn = 1 });
    }

    // Of the chip alone, of both and of the broker alone: no one stands in for another.
    [Fact]
    public void Secret_MakesAnotherKey()
    {
        using var launch = new TestLaunch(fixture.Chip);
        using var chip = new TestLaunch(fixture.Other);
        StoreKeyOrigin origin = launch.Identity().NewOrigin;
        byte[] broker = new byte[32];
        StoreKey.FromBroker(s_secret, broker);

        byte[] both = launch.KeyOf(origin, s_secret);
        Assert.Equal(4, new[] { launch.KeyOf(origin), both, launch.KeyOf(origin, new byte[32]), broker }.Select(Convert.ToHexString).Distinct().Count());
        Assert.Equal(both, launch.KeyOf(origin, s_secret));
        Assert.NotEqual(both, chip.KeyOf(origin, s_secret));
        Assert.Equal(HKDF.DeriveKey(HashAlgorithmName.SHA256, s_secret, 32, null, Encoding.ASCII.GetBytes("svsm store key 1: broker")), broker);
    }

    // RFC 5869 by another implementation, over what the security processor gives.
    [Fact]
    public void Key_IsHkdfOfTheChipsKey()
    {
        using var launch = new TestLaunch(fixture.Chip, author: 1, svn: 2);
        StoreKeyOrigin origin = launch.Identity().NewOrigin;
        byte[] chip = new byte[32];
        Assert.Equal(AttestingResult.Done, launch.Peer.DeriveKey(Wire.DerivedKeyFields.Policy | Wire.DerivedKeyFields.Svn | Wire.DerivedKeyFields.Tcb, 2, origin.Tcb, chip));
        Assert.Equal(HKDF.DeriveKey(HashAlgorithmName.SHA256, chip, 32, null, Encoding.ASCII.GetBytes("svsm store key 1: chip")), launch.KeyOf(origin));
        Assert.Equal(
            HKDF.DeriveKey(HashAlgorithmName.SHA256, [.. chip, .. s_secret], 32, null, Encoding.ASCII.GetBytes("svsm store key 1: chip and broker")), launch.KeyOf(origin, s_secret));
    }

    [Fact]
    public void Store_IsOpenedByTheNextLaunch_WithTheVersionsOfTheFirst()
    {
        using var first = new TestLaunch(fixture.Chip, author: 1, svn: 3);
        var device = new SimulatedDevice(1 << 20);
        Assert.False(PersistentStore.TryReadKeyOrigin(device, out StoreKeyOrigin origin));
        Assert.Equal(default, origin);
        Guid space = Guid.NewGuid();
        PersistentStore store = PersistentStore.Create(device, first.NewKey(), first.Identity().NewOrigin).Store!;
        for (int i = 0; i < 3; i++)
        {
            Assert.Equal(StoreResult.Done, store.DefineNamespace(new Guid(i, 0, 0, space.ToByteArray()[..8]), 0x1000));
        }

        using var next = new TestLaunch(fixture.Chip, image: "updated", author: 1, svn: 5);
        Assert.True(PersistentStore.TryReadKeyOrigin(device, out origin));
        Assert.Equal(first.Identity().NewOrigin, origin);
        StoreOpening opening = PersistentStore.Open(device, next.KeyOf(origin));
        Assert.Equal(StoreState.Opened, opening.State);
        Assert.Equal(3, opening.Store!.Namespaces.Count);

        using var stranger = new TestLaunch(fixture.Chip, author: 2, svn: 5);
        Assert.Equal(StoreState.WrongKey, PersistentStore.Open(device, stranger.KeyOf(origin)).State);
    }

    [Fact]
    public void HostIsBusyOrRefuses_IsReported()
    {
        using var launch = new TestLaunch(fixture.Chip);
        LaunchIdentity identity = launch.Identity();
        byte[] key = [.. Enumerable.Repeat((byte)1, 32)];
        launch.Kernel.SetBusy(100);
        Assert.Equal(AttestingResult.Busy, StoreKey.Derive(launch.Peer, identity, identity.NewOrigin, default, key));
        Assert.Equal(AttestingResult.Busy, LaunchIdentity.TryGet(launch.Peer, out LaunchIdentity? none));
        Assert.Null(none);
        launch.Kernel.SetBusy(0);
        launch.Kernel.Host.Enqueue(HostDeed.Refuse);
        Assert.Equal(AttestingResult.NoKey, StoreKey.Derive(launch.Peer, identity, identity.NewOrigin, default, key));
        Assert.Equal(AttestingResult.NoKey, LaunchIdentity.TryGet(launch.Peer, out _));
        Assert.Equal(new byte[32], key);
    }

    [Fact]
    public void BuffersOfAnotherLength_Throw()
    {
        using var launch = new TestLaunch(fixture.Chip);
        LaunchIdentity identity = launch.Identity();
        Assert.Throws<ArgumentException>(() => StoreKey.Derive(launch.Peer, identity, default, default, new byte[31]));
        Assert.Throws<ArgumentException>(() => StoreKey.Derive(launch.Peer, identity, default, new byte[31], new byte[32]));
        Assert.Throws<ArgumentException>(() => StoreKey.FromBroker([], new byte[32]));
        Assert.Throws<ArgumentException>(() => StoreKey.FromBroker(new byte[33], new byte[32]));
        Assert.Throws<ArgumentException>(() => StoreKey.FromBroker(new byte[32], new byte[16]));
    }

    private static void AssertRefused(TestLaunch launch, StoreKeyOrigin origin)
    {
        byte[] key = [.. Enumerable.Repeat((byte)1, 32)];
        Assert.Equal(AttestingResult.Refused, StoreKey.Derive(launch.Peer, launch.Identity(), origin, default, key));
        Assert.Equal(new byte[32], key);
    }
}
