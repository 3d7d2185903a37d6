// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

extern alias simulator;

using System;
using System.Buffers.Binary;
using System.Linq;
using simulator::Svsm.Simulator;
using Svsm.Core;
using Svsm.Core.Testing;
using Svsm.Core.Tests;
using Svsm.Modules.Vtpm;
using Svsm.Modules.Vtpm.Tests;
using Svsm.Wire;
using Xunit;

namespace Svsm.Modules.Storage.Tests;

/// <summary>The virtual TPM with its state in the store, over restarts.</summary>
public sealed class StoredTpmTests : IDisposable
{
    private const uint Index = 0x0150_0000;
    private const ulong Address = 0x1_0000;
    private const uint Tpm = 2;

    private readonly TestDisk _disk = new();

    public void Dispose() => _disk.Dispose();

    [Fact]
    public void Nv_AndSeeds_SurviveARestart()
    {
        TestImage.Prepare(_disk);
        byte[] key;
        byte[] data = [.. Enumerable.Range(0, 512).Select(i => (byte)i)];
        using (var image = new TestImage(_disk))
        using (var tpm = new TestVtpm(image))
        {
            Assert.Contains("a new TPM, stored; an older state of it cannot be told", tpm.Log, StringComparison.Ordinal);
            key = tpm.EndorsementKey;
            tpm.Startup();
            tpm.Define(Index, 512);
            tpm.Write(Index, data, 0);

            // A write of the same changes one or two pieces: two writes to the disk, whatever the state's size.
            (int writes, int flushes) = (_disk.Device.Writes, _disk.Device.Flushes);
            data[500] = 77;
            tpm.Write(Index, data, 0);
            Assert.Equal((2, 2), (_disk.Device.Writes - writes, _disk.Device.Flushes - flushes));
        }

        for (int i = 0; i < 3; i++)
        {
            _disk.Restart();
            using var image = new TestImage(_disk);
            using var tpm = new TestVtpm(image);
            Assert.Contains("the stored TPM", tpm.Log, StringComparison.Ordinal);
            Assert.Equal(key, tpm.EndorsementKey);
            tpm.Startup();
            Assert.Equal(data, tpm.Read(Index, 512));
            Assert.Equal(0u, tpm.Firmware & 1);
        }
    }

    // A host that restarts the machine gets no more tries, and the clock does not go back.
    [Fact]
    public void FailedTries_AndClock_SurviveARestart()
    {
        TestImage.Prepare(_disk);
        ulong clock;
        using (var image = new TestImage(_disk))
        using (var tpm = new TestVtpm(image))
        {
            tpm.Startup();
            tpm.DefineProtected(Index);
            Assert.Equal(0u, tpm.FailedTries);
            Assert.NotEqual(0u, tpm.TryRead(Index));
            Assert.NotEqual(0u, tpm.TryRead(Index));
            Assert.Equal(2u, tpm.FailedTries);
            clock = tpm.Clock;
        }

        _disk.Restart();
        using (var image = new TestImage(_disk))
        using (var tpm = new TestVtpm(image))
        {
            tpm.Startup();

            // One more for an end without TPM2_Shutdown, after a try.
            Assert.InRange(tpm.FailedTries, 2u, 3u);
            Assert.True(tpm.Clock >= clock, $"{tpm.Clock} {clock}");
        }
    }

    [Fact]
    public void WithoutAStore_TheTpmEndsWithTheVm()
    {
        using var module = new ModuleTest(new VtpmModule());
        Assert.Contains("a new TPM, which ends with the VM", module.Log[0].Line, StringComparison.Ordinal);
    }

    // A store that cannot be had is no reason for a new TPM.
    [Fact]
    public void StoreThatIsNotOpen_IsNoTpm()
    {
        TestImage.Prepare(_disk);
        using (var image = new TestImage(_disk))
        using (new TestVtpm(image))
        {
        }

        using var other = new TestImage(_disk, new byte[32]);
        Assert.Contains("NotOpen", Assert.Throws<InvalidOperationException>(() => new TestVtpm(other)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void StateWithPiecesLost_IsNoTpm()
    {
        var store = new TestStore();
        using (var tpm = new TestVtpm(store))
        {
            tpm.Startup();
            tpm.Define(Index, 2000);
            tpm.Write(Index, new byte[1000], 0);
        }

        using (var tpm = new TestVtpm(store))
        {
            tpm.Startup();
            Assert.Equal(new byte[1000], tpm.Read(Index, 1000));
        }

        Assert.True(store.Records.Count > 3);
        foreach (string name in store.Records.Keys.ToArray())
        {
            var damaged = new TestStore();
            StoreChange[] others = [.. store.Records.Where(record => record.Key != name).Select(record => StoreChange.Put(Convert.FromHexString(record.Key), record.Value))];
            Assert.Equal(StoreStatus.Done, StorePart.Of(damaged).Commit(others));
            Assert.Contains("StorageFailed", Assert.Throws<InvalidOperationException>(() => new ModuleTest(new VtpmModule(), peers: damaged)).Message, StringComparison.Ordinal);
        }
    }

    // Power goes at each write and flush of the disk while a counter counts: what was answered is there after the restart, and at most one more.
    [Fact]
    public void PowerThatGoes_LosesNothingThatWasAnswered()
    {
        TestImage.Prepare(_disk);
        ulong answered = 0;
        using (var image = new TestImage(_disk, timeout: 2))
        using (var tpm = new TestVtpm(image))
        {
            tpm.Startup();
            tpm.DefineCounter(Index);
            Assert.True(tpm.TryIncrement(Index));
            answered = tpm.Counter(Index);
        }

        var random = new Random(1);
        int off = 0;
        int kept = 0;
        for (int i = 0; i < 200; i++)
        {
            _disk.Restart();
            using var image = new TestImage(_disk, timeout: 2);
            using var tpm = new TestVtpm(image);
            tpm.Startup();
            ulong there = tpm.Counter(Index);
            Assert.InRange(there, answered, answered + 1);
            kept += there != answered ? 1 : 0;
            answered = there;

            int left = random.Next(30);
            bool isOff = false;
            _disk.Device.IsLost = request => isOff |= request.Operation is BlockOperation.Write or BlockOperation.Flush && left-- == 0;
            while (!isOff && tpm.TryIncrement(Index))
            {
                answered++;
            }

            off += isOff ? 1 : 0;
        }

        // Of what was not answered some was there, and some was not.
        Assert.Equal(200, off);
        Assert.InRange(kept, 20, 180);
    }

    private sealed class TestVtpm(ModulePeers peers) : IDisposable
    {
        private readonly ModuleTest _test = new(new VtpmModule(), peers: peers);

        public TestVtpm(TestImage image)
            : this(image.Peers(Tpm))
        {
        }

        public string Log => string.Join('\n', _test.Log.Select(line => line.Line));

        public byte[] EndorsementKey => _test.GetManifest(0)!;

        // TPM_PT_FIRMWARE_VERSION_2.
        public uint Firmware => BinaryPrimitives.ReadUInt32BigEndian(Run(NvCommands.Request(0x8001, 0x17A, [0, 0, 0, 6, 0, 0, 0x01, 0x0C, 0, 0, 0, 1])).AsSpan(13));

        public void Startup() => Run(NvCommands.Startup);

        public void Define(uint index, ushort size) => Run(NvCommands.Define(index, 0x0206_0006, size));

        // Of whoever knows a password that nobody gives; wrong ones count.
        public void DefineProtected(uint index) => Run(NvCommands.Define(index, 0x0004_0004, 8, 1, 2, 3, 4));

        public uint TryRead(uint index) => Send(NvCommands.Read(index, 8), out _);

        // TPM_PT_LOCKOUT_COUNTER.
        public uint FailedTries => BinaryPrimitives.ReadUInt32BigEndian(Run(NvCommands.Request(0x8001, 0x17A, [0, 0, 0, 6, 0, 0, 0x02, 0x0E, 0, 0, 0, 1])).AsSpan(13));

        // TPMS_TIME_INFO: time, clock.
        public ulong Clock => BinaryPrimitives.ReadUInt64BigEndian(Run(NvCommands.Request(0x8001, 0x181, [])).AsSpan(8));

        public void DefineCounter(uint index) => Run(NvCommands.Define(index, 0x0206_0016, 8));

        public void Write(uint index, byte[] data, ushort offset) => Run(NvCommands.Write(index, data, offset));

        public byte[] Read(uint index, ushort size) => Run(NvCommands.Read(index, size))[6..(6 + size)];

        public bool TryIncrement(uint index) => Send(NvCommands.Increment(index), out _) == 0;

        public ulong Counter(uint index) => BinaryPrimitives.ReadUInt64BigEndian(Read(index, 8));

        public void Dispose() => _test.Dispose();

        private byte[] Run(byte[] request)
        {
            uint result = Send(request, out byte[] response);
            Assert.True(result == 0, $"{Convert.ToHexString(request)}: 0x{result:X}");
            return response;
        }

        private uint Send(byte[] request, out byte[] response)
        {
            _test.Memory.GuestWrite(new(Address), request);
            Assert.Equal(SvsmResultCode.Success, _test.Call(1, Address).Code);
            int size = BinaryPrimitives.ReadInt32LittleEndian(_test.Memory.GuestRead(new(Address), 4));
            byte[] answer = _test.Memory.GuestRead(new(Address + 4), size);
            response = answer[10..];
            return BinaryPrimitives.ReadUInt32BigEndian(answer.AsSpan(6));
        }
    }
}
