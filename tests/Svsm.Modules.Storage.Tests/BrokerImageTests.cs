// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.IO;
using System.Threading;
using System.Threading.Tasks;
using Svsm.Core;
using Svsm.Keys;
using Svsm.StoreKeys.Tests;
using Xunit;

namespace Svsm.Modules.Storage.Tests;

/// <summary>
/// An image that trusts a broker, with all that there is: the module that keeps the store, the attesting module with the simulated chip, the channel, the proxy, HTTP, the
/// broker.
/// </summary>
public sealed class BrokerImageTests(ChipFixture fixture) : IClassFixture<ChipFixture>, IAsyncLifetime
{
    private readonly TestDisk _disk = new();
    private readonly string _url = Serving.FreeUrl();
    private CancellationTokenSource _proxyEnd = new();
    private BrokerHarness _harness = null!;
    private CancellationTokenSource _brokerEnd = new();
    private Task _broker = Task.CompletedTask;
    private Task _proxy = Task.CompletedTask;

    public async ValueTask InitializeAsync()
    {
        _harness = new BrokerHarness(fixture.Chip);
        await StartBrokerAsync();
        await StartProxyAsync();
        TestImage.Prepare(_disk);
        _disk.Channel = _harness.PathOf("vm1.sock");
        _disk.Restart();
    }

    public async ValueTask DisposeAsync()
    {
        await StopBrokerAsync();
        await StopProxyAsync();
        _disk.Dispose();
        _harness.Dispose();
        _brokerEnd.Dispose();
        _proxyEnd.Dispose();
    }

    [Fact]
    public void Store_IsMadeAndOpenedAgain_AndAnOlderOneIsRefused()
    {
        byte[] older;
        using (TestLaunch launch = _harness.NewLaunch())
        using (TestImage image = Boot(launch))
        {
            Assert.Contains("made: generation 0; an older state of it is refused", image.Log, StringComparison.Ordinal);
            older = File.ReadAllBytes(_disk.Path);
            Assert.Equal(StoreStatus.Done, image.Store(2).Commit(StoreChange.Put("a"u8.ToArray(), "b"u8.ToArray())));
        }

        Assert.StartsWith("1 ", File.ReadAllText(_harness.PathOf("default.svsm.vm1.anchor")), StringComparison.Ordinal);
        using (TestLaunch launch = _harness.NewLaunch())
        using (TestImage image = Boot(launch))
        {
            Assert.Contains("open: generation 1; an older state of it is refused", image.Log, StringComparison.Ordinal);
            Assert.Equal(StoreStatus.Done, image.Store(2).TryGet("a"u8, out byte[] value));
            Assert.Equal("b"u8.ToArray(), value);
        }

        File.WriteAllBytes(_disk.Path, older);
        using (TestLaunch launch = _harness.NewLaunch())
        using (TestImage image = Boot(launch))
        {
            Assert.Contains("the store is not open: Older", image.Log, StringComparison.Ordinal);
        }
    }

    // The broker goes and comes back, with other sessions: commits wait for it.
    [Fact]
    public async Task Broker_GoesAndComesBack()
    {
        using TestLaunch launch = _harness.NewLaunch();
        using TestImage image = Boot(launch);
        ModuleStore store = image.Store(2);
        Assert.Equal(StoreStatus.Done, store.Commit(StoreChange.Put("a"u8.ToArray(), "1"u8.ToArray())));
        await StopBrokerAsync();
        Assert.Equal(StoreStatus.Failed, store.Commit(StoreChange.Put("a"u8.ToArray(), "2"u8.ToArray())));
        Assert.Equal(StoreStatus.DeviceFailed, image.Store(4).Commit(StoreChange.Put("a"u8.ToArray(), "2"u8.ToArray())));

        _harness.Restart();
        await StartBrokerAsync();
        Assert.Equal(StoreStatus.Done, image.Store(4).Commit(StoreChange.Put("a"u8.ToArray(), "3"u8.ToArray())));
        Assert.Equal(StoreStatus.Done, store.List(out _));
        Assert.Equal(StoreStatus.Done, store.TryGet("a"u8, out byte[] value));
        Assert.Equal("2"u8.ToArray(), value);
        Assert.Contains("the broker is reached again", image.Log, StringComparison.Ordinal);
    }

    // The proxy goes and comes back: the same, and what was sent into nothing is not waited for later.
    [Fact]
    public async Task Proxy_GoesAndComesBack()
    {
        using TestLaunch launch = _harness.NewLaunch();
        using TestImage image = Boot(launch, timeout: 1000);
        ModuleStore store = image.Store(2);
        Assert.Equal(StoreStatus.Done, store.Commit(StoreChange.Put("a"u8.ToArray(), "1"u8.ToArray())));
        await StopProxyAsync();
        Assert.Equal(StoreStatus.Failed, store.Commit(StoreChange.Put("a"u8.ToArray(), "2"u8.ToArray())));

        await StartProxyAsync();
        Assert.Equal(StoreStatus.Done, image.Store(4).Commit(StoreChange.Put("a"u8.ToArray(), "3"u8.ToArray())));
        Assert.Equal(StoreStatus.Done, store.List(out _));
        Assert.Equal(StoreStatus.Done, store.TryGet("a"u8, out byte[] value));
        Assert.Equal("2"u8.ToArray(), value);
    }

    [Fact]
    public void SecondMachine_IsTold()
    {
        using TestLaunch launch = _harness.NewLaunch();
        using TestImage image = Boot(launch);
        ModuleStore store = image.Store(2);
        Assert.Equal(StoreStatus.Done, store.Commit(StoreChange.Put("a"u8.ToArray(), "1"u8.ToArray())));

        using var copy = new TestDisk { Channel = _disk.Channel };
        copy.Write(_disk.Read());
        copy.Restart();
        using TestLaunch otherLaunch = _harness.NewLaunch();
        using var second = new TestImage(copy, _harness.Key.MakePin(isTrustee: false), otherLaunch);
        Assert.Contains("open: generation 1", second.Log, StringComparison.Ordinal);
        Assert.Equal(StoreStatus.Done, second.Store(2).Commit(StoreChange.Put("a"u8.ToArray(), "2"u8.ToArray())));
        Assert.Equal(StoreStatus.Failed, store.Commit(StoreChange.Put("a"u8.ToArray(), "3"u8.ToArray())));
        Assert.Contains("another machine goes on from a copy of it", image.Log, StringComparison.Ordinal);
        Assert.Equal(StoreStatus.NotOpen, image.Store(4).Commit(StoreChange.Put("a"u8.ToArray(), "3"u8.ToArray())));
    }

    // Why a store is not open, as the log says.
    [Theory]
    [InlineData("image", "the broker refuses")]
    [InlineData("pin", "/broker.pin of the image is no file of svsm keys pin")]
    [InlineData("key", "an answer is not from the broker that the image trusts")]
    [InlineData("channel", "the host gives the SVSM no channel")]
    public void NoKey_IsExplained(string what, string why)
    {
        using TestLaunch launch = _harness.NewLaunch(what == "image" ? "another" : "image");
        using BrokerKey other = BrokerHarness.NewKey();
        byte[] pin = what switch
        {
            "pin" => [1, 2, 3],
            "key" => other.MakePin(isTrustee: false),
            _ => _harness.Key.MakePin(isTrustee: false),
        };
        if (what == "channel")
        {
            _disk.Channel = null;
            _disk.Restart();
        }

        using var image = new TestImage(_disk, pin, launch);
        Assert.Contains("the store is not open: there is no key. ", image.Log, StringComparison.Ordinal);
        Assert.True(image.Log.Contains(why, StringComparison.Ordinal), image.Log + string.Join("\n", _harness.Log));
        Assert.Equal(StoreStatus.NotOpen, image.Store(2).TryGet("a"u8, out _));
    }

    // A broker that believes both chips: with a movable secret the store goes from one to the other.
    [Theory]
    [InlineData(true, "open: generation 1")]
    [InlineData(false, "the store is not open: WrongKey")]
    public async Task Store_GoesToAnotherChip_IfItsSecretIsMovable(bool isMovable, string outcome)
    {
        File.WriteAllBytes(_harness.PathOf("default.svsm.vm1.secret"), _harness.Key.MakeSecret(isMovable));
        using (TestLaunch launch = _harness.NewLaunch())
        using (TestImage image = Boot(launch))
        {
            Assert.Equal(StoreStatus.Done, image.Store(2).Commit(StoreChange.Put("a"u8.ToArray(), "1"u8.ToArray())));
        }

        await StopBrokerAsync();
        _harness.Broker = _harness.NewBrokerFor(fixture.Other);
        await StartBrokerAsync();
        using TestLaunch moved = _harness.NewLaunch(chip: fixture.Other);
        using TestImage next = Boot(moved);
        Assert.Contains(outcome, next.Log, StringComparison.Ordinal);
    }

    private TestImage Boot(TestLaunch launch, int timeout = 60_000)
    {
        _disk.Restart();
        return new TestImage(_disk, _harness.Key.MakePin(isTrustee: false), launch, timeout);
    }

    private async Task StartBrokerAsync()
    {
        _brokerEnd = new CancellationTokenSource();
        KeyBroker broker = _harness.Broker;
        _broker = await Serving.StartAsync(started => BrokerServer.ServeAsync(broker, _url, started, _brokerEnd.Token));
    }

    private async Task StartProxyAsync()
    {
        _proxyEnd = new CancellationTokenSource();
        _proxy = await Serving.StartAsync(
            started => ProxyServer.ServeAsync(_harness.PathOf("vm1.sock"), new Uri(_url), BrokerHarness.Resource, _harness.Log.Enqueue, started, _proxyEnd.Token));
    }

    private async Task StopProxyAsync()
    {
        await _proxyEnd.CancelAsync();
        await _proxy;
    }

    private async Task StopBrokerAsync()
    {
        await _brokerEnd.CancelAsync();
        await _broker;
    }
}
