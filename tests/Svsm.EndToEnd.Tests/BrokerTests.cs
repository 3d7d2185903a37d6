// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// A store whose key and last version are a broker's, in the machine: an image that trusts a key, the SVSM's channel, svsm keys proxy and svsm keys serve behind it.

using System;
using System.Collections.Concurrent;
using System.IO;
using System.Security.Cryptography;
using System.Text;
using System.Threading;
using System.Threading.Tasks;
using Svsm.Attestation;
using Svsm.Keys;
using Svsm.Simulator;
using Svsm.StoreKeys.Tests;
using Svsm.Wire;
using Xunit;

namespace Svsm.EndToEnd.Tests;

public sealed class BrokerTests(ChipFolder chip) : IClassFixture<ChipFolder>, IDisposable
{
    private readonly TestStoreDisk _disk = new();
    private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("svsm-broker-");
    private readonly ConcurrentQueue<string> _log = [];

    public void Dispose()
    {
        _disk.Dispose();
        _folder.Delete(recursive: true);
    }

    [Fact]
    public async Task Store_SurvivesARestart_AndAnOlderDiskIsRefused()
    {
        using BrokerKey key = NewKey();
        using ImageUnderTest image = ImageUnderTest.BuildWithStore(pin: key.MakePin(isTrustee: false));
        _disk.Prepare();
        byte[] older;
        await MakeChipAsync();
        await using (await Broker.StartAsync(this, key, image))
        {
            var writing = new StorageSession();
            writing.Startup();
            writing.SetVariable("A", [1, 2, 3]);
            string log = await RunAsync(image, writing);
            AssertHas(log, "made: generation 0; an older state of it is refused");
            older = await File.ReadAllBytesAsync(_disk.Path, TestContext.Current.CancellationToken);

            var reading = new StorageSession();
            reading.Startup();
            reading.GetVariable("A", [1, 2, 3]);
            reading.SetVariable("A", [4, 5, 6]);
            log = await RunAsync(image, reading);
            AssertHas(log, "an older state of it is refused");
            AssertHas(log, "VtpmModule: the stored TPM");
            Assert.DoesNotContain("an older state of it cannot be told", log, StringComparison.Ordinal);

            // Yesterday's disk.
            await File.WriteAllBytesAsync(_disk.Path, older, TestContext.Current.CancellationToken);
            MachineResult result = await ImageUnderTest.RunAsync(Options(image) with { Typed = "call 2 0\n" });
            AssertHas(result.ConsoleText((int)Vmpl.Vmpl0), "the store is not open: Older");
        }

        Assert.Contains("believed: ", Log, StringComparison.Ordinal);
        Assert.Contains("given: default/svsm/vm1", Log, StringComparison.Ordinal);
    }

    // The broker believes another image: nothing is given, and the log of either says so.
    [Fact]
    public async Task AnotherImage_HasNoStore()
    {
        using BrokerKey key = NewKey();
        using ImageUnderTest image = ImageUnderTest.BuildWithStore(pin: key.MakePin(isTrustee: false));
        using ImageUnderTest other = ImageUnderTest.BuildWithStore(watchdog: 50_000, pin: key.MakePin(isTrustee: false));
        _disk.Prepare();
        await MakeChipAsync();
        await using (await Broker.StartAsync(this, key, other))
        {
            MachineResult result = await ImageUnderTest.RunAsync(Options(image) with { Typed = "call 2 0\n" });
            AssertHas(result.ConsoleText((int)Vmpl.Vmpl0), "the store is not open: there is no key. the broker refuses");
        }

        Assert.Contains("SVSM3107", Log, StringComparison.Ordinal);
        Assert.DoesNotContain("given: ", Log, StringComparison.Ordinal);
    }

    // Without a channel: no store, although the chip has a key.
    [Fact]
    public async Task WithoutAChannel_ThereIsNoStore()
    {
        using BrokerKey key = NewKey();
        using ImageUnderTest image = ImageUnderTest.BuildWithStore(pin: key.MakePin(isTrustee: false));
        _disk.Prepare();
        MachineResult result = await ImageUnderTest.RunAsync(Options(image) with { SvsmChannel = null, Typed = "call 2 0\n" });
        AssertHas(result.ConsoleText((int)Vmpl.Vmpl0), "there is no key. the image trusts a broker, and the host gives the SVSM no channel to one");
    }

    // Of broker and proxy, from threads of either.
    private string Log => string.Join('\n', _log);

    private void AssertHas(string log, string line) => Assert.True(log.Contains(line, StringComparison.Ordinal), log + "\n" + Log);

    private static BrokerKey NewKey()
    {
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP384);
        return BrokerKey.Read(Encoding.ASCII.GetBytes(key.ExportPkcs8PrivateKeyPem()), "key");
    }

    private MachineOptions Options(ImageUnderTest image) => image.Options() with
    {
        ChipFolder = chip.Path,
        SvsmDisks = [new SvsmDisk(_disk.Path)],
        SvsmChannel = Path.Combine(_folder.FullName, "channel"),
        Timeout = TimeSpan.FromMinutes(10),
    };

    private async Task<string> RunAsync(ImageUnderTest image, StorageSession session)
    {
        MachineResult result = await ImageUnderTest.RunAsync(Options(image) with { Typed = session.Typed });
        string log = result.ConsoleText((int)Vmpl.Vmpl0);
        Assert.True(result.ExitStatus == 0, result + "\n" + result.ConsoleText((int)Vmpl.Vmpl2) + "\n" + log + "\n" + Log);
        AssertHas(log, "StorageModule: store ");
        session.Check(result.ConsoleText((int)Vmpl.Vmpl2));
        return log;
    }

    // The first run that asks the security processor makes the chip, and the broker has to know its root: an image that trusts nobody does.
    private async Task MakeChipAsync()
    {
        if (!Directory.Exists(chip.Path))
        {
            using ImageUnderTest image = ImageUnderTest.BuildWithStore();
            using var disk = new TestStoreDisk();
            await ImageUnderTest.RunAsync(Options(image) with { SvsmDisks = [new SvsmDisk(disk.Path)], SvsmChannel = null, Typed = "call 2 0\n" });
        }
    }

    private TrustedRoot Root => chip.Root;

    /// <summary>The broker and the proxy of a test.</summary>
    private sealed class Broker : IAsyncDisposable
    {
        private readonly CancellationTokenSource _end = new();
        private readonly BrokerState _state;
        private Task _serving = Task.CompletedTask;
        private Task _proxy = Task.CompletedTask;

        private Broker(BrokerState state) => _state = state;

        public static async Task<Broker> StartAsync(BrokerTests test, BrokerKey key, ImageUnderTest image)
        {
            string secrets = Path.Combine(test._folder.FullName, "secrets");
            Directory.CreateDirectory(secrets);
            File.WriteAllBytes(Path.Combine(secrets, "default.svsm.vm1.secret"), key.MakeSecret(isMovable: false));
            var policy = new BrokerPolicy(test.Root, [ReferenceValues.Parse(image.Written.Files.ReferenceValuesJson, "reference values")], []);
            var made = new Broker(BrokerState.Open(secrets));
            var broker = new KeyBroker(key, policy, made._state, TimeProvider.System, test._log.Enqueue);
            string url = Serving.FreeUrl();
            string socket = Path.Combine(test._folder.FullName, "channel");
            made._serving = await Serving.StartAsync(started => BrokerServer.ServeAsync(broker, url, started, made._end.Token));
            made._proxy = await Serving.StartAsync(started => ProxyServer.ServeAsync(socket, new Uri(url), "default/svsm/vm1", test._log.Enqueue, started, made._end.Token));
            return made;
        }

        public async ValueTask DisposeAsync()
        {
            await _end.CancelAsync();
            await Task.WhenAll(_serving, _proxy);
            _state.Dispose();
            _end.Dispose();
        }
    }
}
