// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

extern alias simulator;

using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.Linq;
using simulator::Svsm.Simulator;
using Svsm.Core;
using Svsm.Core.Testing;
using Svsm.Core.Tests;
using Svsm.Modules.VarStore;
using Svsm.Modules.VarStore.Desk;
using Svsm.Modules.VarStore.Tests;
using Svsm.Store;
using Svsm.Wire;
using Xunit;

namespace Svsm.Modules.Storage.Tests;

/// <summary>UEFI variables in the store, over restarts.</summary>
public sealed class StoredVariablesTests : IDisposable
{
    private const uint UefiMm = 4;
    private const long Quota = 768 << 10;

    private readonly TestDisk _disk = new(8 << 20);

    public void Dispose() => _disk.Dispose();

    [Fact]
    public void NonVolatileVariables_SurviveARestart()
    {
        TestImage.Prepare(_disk);
        using (var image = new TestImage(_disk))
        using (var firmware = new TestFirmware(image))
        {
            Assert.Contains("UEFI variables: stored", firmware.Log, StringComparison.Ordinal);
            Assert.Equal(EfiStatus.Success, firmware.Set("A", 7, [1, 2, 3]));
            Assert.Equal(EfiStatus.Success, firmware.Set("Large", 7, new byte[0x1_0000]));
            Assert.Equal(EfiStatus.Success, firmware.Set("Gone", 7, [5]));
            Assert.Equal(EfiStatus.Success, firmware.Set("Gone", 7, []));
            Assert.Equal(EfiStatus.Success, firmware.Set("Volatile", 6, [4]));
            Assert.Equal(5u, firmware.Flags);
        }

        for (int i = 0; i < 2; i++)
        {
            _disk.Restart();
            using var image = new TestImage(_disk);
            using var firmware = new TestFirmware(image);
            Assert.Equal([1, 2, 3], firmware.Get("A", 3));
            Assert.Equal(new byte[0x1_0000], firmware.Get("Large", 0x1_0000));
            Assert.Null(firmware.Get("Gone", 1));
            Assert.Null(firmware.Get("Volatile", 1));
        }
    }

    // svsm vars, on the disk of an image that is not running.
    [Fact]
    public void VariablesOfAGuest_AreReadAndEditedOnTheDesk()
    {
        TestImage.Prepare(_disk);
        using (var image = new TestImage(_disk))
        using (var firmware = new TestFirmware(image))
        {
            Assert.Equal(EfiStatus.Success, firmware.Set("A", 7, [1, 2, 3]));
            Assert.Equal(EfiStatus.Success, firmware.Set("B", 7, new byte[0x1_0000]));
        }

        _disk.Restart();
        PersistentStore store = PersistentStore.Open(new VirtioDisk(_disk.Disks, 0, 50), TestImage.Key).Store!;
        var storage = new StoreVariableStorage(store);
        Assert.True(storage.TryLoad(out IReadOnlyList<StorageRecord> records));
        StoredVariable a = VariableEdits.List(records)[0];
        Assert.Equal(["A", "B"], VariableEdits.List(records).Select(variable => variable.Name));
        Assert.Equal([1, 2, 3], a.Data.ToArray());
        IReadOnlyList<StorageRecord> after = VariableEdits.Delete(VariableEdits.Set(records, a.Vendor, "C", null, new byte[] { 4 }), a.Vendor, "B");
        Assert.True(storage.TryCommit(VariableEdits.Changes(records, after)));
        Assert.Equal(Quota, Assert.Single(store.Namespaces).Quota);

        _disk.Restart();
        using (var image = new TestImage(_disk))
        using (var firmware = new TestFirmware(image))
        {
            Assert.Equal([1, 2, 3], firmware.Get("A", 3));
            Assert.Null(firmware.Get("B", 1));
            Assert.Equal([4], firmware.Get("C", 1));
        }
    }

    [Fact]
    public void StoreThatIsNotOpen_IsNoVariables()
    {
        TestImage.Prepare(_disk);
        using (new TestImage(_disk))
        {
        }

        using var other = new TestImage(_disk, new byte[32]);
        Assert.Contains("NotOpen", Assert.Throws<InvalidOperationException>(() => new TestFirmware(other)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void RecordThatIsNoVariable_IsNoVariables()
    {
        var store = new TestStore { Quota = Quota };
        Assert.Equal(StoreStatus.Done, StorePart.Of(store).Commit(StoreChange.Put("abcd"u8.ToArray(), new byte[3])));
        Assert.Throws<InvalidOperationException>(() => new ModuleTest(new VarStoreModule(), peers: store));
    }

    // The store did something, and nobody knows what: after that nothing is changed any more.
    [Theory]
    [InlineData(StoreStatus.DeviceFailed, EfiStatus.Success)]
    [InlineData(StoreStatus.QuotaExceeded, EfiStatus.Success)]
    [InlineData(StoreStatus.Failed, EfiStatus.DeviceError)]
    public void ChangeThatIsNotStored_IsADeviceError(StoreStatus failure, EfiStatus afterwards)
    {
        var store = new TestStore { Quota = Quota };
        using (var firmware = new TestFirmware(store))
        {
            Assert.Equal(EfiStatus.Success, firmware.Set("A", 7, [1]));
            store.Failure = failure;
            Assert.Equal(EfiStatus.DeviceError, firmware.Set("A", 7, [2]));
            Assert.Equal([1], firmware.Get("A", 1));
            store.Failure = StoreStatus.Done;
            Assert.Equal(afterwards, firmware.Set("A", 7, [3]));
        }

        using var next = new TestFirmware(store);
        Assert.Equal([afterwards == EfiStatus.Success ? (byte)3 : (byte)1], next.Get("A", 1)!);
        Assert.Equal(EfiStatus.Success, next.Set("A", 7, [4]));
    }

    // Power goes at any write or flush: each answered change is there, and nothing is half there.
    [Fact]
    public void PowerThatGoes_LosesNothingThatWasAnswered()
    {
        TestImage.Prepare(_disk);
        var random = new Random(1);
        var model = new Dictionary<string, byte[]>();
        int kept = 0;
        int lost = 0;
        for (int i = 0; i < 200; i++)
        {
            using (var image = new TestImage(_disk, timeout: 2))
            using (var firmware = new TestFirmware(image))
            {
                (string Name, byte[] Data)? tried = null;
                int left = random.Next(20);
                bool isOff = false;
                _disk.Device.IsLost = request => isOff |= request.Operation is BlockOperation.Write or BlockOperation.Flush && left-- == 0;
                while (!isOff)
                {
                    (string Name, byte[] Data) change = ("V" + random.Next(8), new byte[random.Next(4) == 0 ? 0 : random.Next(3000)]);
                    random.NextBytes(change.Data);
                    EfiStatus status = firmware.Set(change.Name, 7, change.Data);
                    if (status == EfiStatus.DeviceError)
                    {
                        tried = change;
                    }
                    else if (status == EfiStatus.Success)
                    {
                        Apply(model, change);
                    }
                    else
                    {
                        Assert.Equal((EfiStatus.NotFound, 0), (status, change.Data.Length));
                    }
                }

                _disk.Restart();
                using var again = new TestImage(_disk, timeout: 2);
                using var next = new TestFirmware(again);
                if (tried is (string, byte[]) unsure && !IsSame(model, next))
                {
                    Apply(model, unsure);
                    kept++;
                }
                else if (tried is not null)
                {
                    lost++;
                }

                Assert.True(IsSame(model, next));
            }

            _disk.Restart();
        }

        Assert.InRange(model.Count, 2, 8);
        Assert.True(kept > 20 && lost > 20, $"{kept} kept, {lost} lost");
    }

    private static void Apply(Dictionary<string, byte[]> model, (string Name, byte[] Data) change)
    {
        model.Remove(change.Name);
        if (change.Data.Length != 0)
        {
            model.Add(change.Name, change.Data);
        }
    }

    private static bool IsSame(Dictionary<string, byte[]> model, TestFirmware firmware) => Enumerable.Range(0, 8).All(i =>
    {
        byte[]? there = firmware.Get("V" + i, 3000);
        return model.TryGetValue("V" + i, out byte[]? wanted) ? there is not null && there.AsSpan().SequenceEqual(wanted) : there is null;
    });

    private sealed class TestFirmware(ModulePeers peers) : IDisposable
    {
        private const ulong Address = 0x1_0000;
        private const int Buffer = 0x2_0000;

        private readonly ModuleTest _test = new(new VarStoreModule(), 0x10_0000, peers: peers);

        public TestFirmware(TestImage image)
            : this(image.Peers(UefiMm, Quota))
        {
        }

        public string Log => string.Join('\n', _test.Log.Select(line => line.Line));

        public uint Flags => BinaryPrimitives.ReadUInt32LittleEndian(_test.GetManifest(0)!.AsSpan(4));

        public EfiStatus Set(string name, uint attributes, byte[] data) => Call(VariableMessage.Access(3, name, attributes, data), out _);

        public byte[]? Get(string name, int room)
        {
            EfiStatus status = Call(VariableMessage.Access(1, name, 0, new byte[room]), out byte[] answer);
            Assert.True(status is EfiStatus.Success or EfiStatus.NotFound);
            int length = (int)BinaryPrimitives.ReadUInt64LittleEndian(answer.AsSpan(VariableMessage.DataLengthOffset));
            int start = VariableMessage.DataOffset(name);
            return status == EfiStatus.Success ? answer[start..(start + length)] : null;
        }

        public void Dispose() => _test.Dispose();

        private EfiStatus Call(byte[] message, out byte[] answer)
        {
            _test.Memory.GuestWrite(new(Address), message);
            Assert.Equal(SvsmResultCode.Success, _test.Call(1, Address, Buffer).Code);
            answer = _test.Memory.GuestRead(new(Address), message.Length);
            return (EfiStatus)BinaryPrimitives.ReadUInt64LittleEndian(answer.AsSpan(VariableMessage.StatusOffset));
        }
    }
}
