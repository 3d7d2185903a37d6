// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

extern alias simulator;

using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Text;
using simulator::Svsm.Simulator;
using Svsm.Core;
using Svsm.Core.Testing;
using Svsm.Wire;
using Xunit;

namespace Svsm.Modules.Storage.Tests;

/// <summary>The module that keeps the store, over restarts, on disks that fail, change and grow, with requests of any kind.</summary>
public sealed class StorageModuleTests : IDisposable
{
    private readonly TestDisk _disk = new();

    public void Dispose() => _disk.Dispose();

    [Fact]
    public void WhatIsCommitted_IsThereAfterARestart()
    {
        TestImage.Prepare(_disk);
        using (var image = new TestImage(_disk))
        {
            Assert.Contains("made: generation 0", image.Log, StringComparison.Ordinal);
            Assert.Equal(5, image.Manifest[4]);
            ModuleStore store = image.Store(2);
            Assert.Equal(StoreStatus.NotFound, store.TryGet("a"u8, out _));
            Assert.Equal(StoreStatus.Done, store.Commit(Put("a", 100), Put("b", 0), Put("c", 65536)));
            Assert.Equal(StoreStatus.Done, store.Commit(Put("b", 5), Delete("c"), Delete("no"), Put("d", 7)));
        }

        _disk.Restart();
        using (var image = new TestImage(_disk))
        {
            Assert.Contains("open: generation 2", image.Log, StringComparison.Ordinal);
            Assert.Equal(1, image.Manifest[4]);
            ModuleStore store = image.Store(2);
            Assert.Equal(StoreStatus.Done, store.List(out IReadOnlyList<byte[]> names));
            Assert.Equal("a b d", string.Join(' ', names.Select(Encoding.ASCII.GetString)));
            AssertHas(store, "a", 100);
            AssertHas(store, "b", 5);
            Assert.Equal(StoreStatus.NotFound, store.TryGet("c"u8, out _));
            Assert.Equal(StoreStatus.Done, store.TryDescribe(out StoreDescription description));
            Assert.Equal(new StoreDescription(0x4_0000, 3 * (1 + 160), false), description);
        }
    }

    [Fact]
    public void EachModule_HasItsPartAlone()
    {
        TestImage.Prepare(_disk);
        using var image = new TestImage(_disk);
        ModuleStore one = image.Store(2, 1000);
        ModuleStore other = image.Store(4, 1000);
        Assert.Equal(StoreStatus.Done, one.Commit(Put("x", 900)));
        Assert.Equal(StoreStatus.NotFound, other.TryGet("x"u8, out _));
        Assert.Equal(StoreStatus.QuotaExceeded, one.Commit(Put("y", 100), Delete("no")));
        Assert.Equal(StoreStatus.Done, other.Commit(Put("x", 800)));
        AssertHas(one, "x", 900);
        AssertHas(other, "x", 800);
        Assert.Equal(StoreStatus.Done, one.List(out IReadOnlyList<byte[]> names));
        Assert.Single(names);
    }

    [Fact]
    public void QuotaBeyondTheDisk_IsAnErrorOfThatModule()
    {
        TestImage.Prepare(_disk);
        using var image = new TestImage(_disk);
        ModuleStore greedy = image.Store(2, 1 << 20);
        Assert.Equal(StoreStatus.QuotaExceeded, greedy.TryDescribe(out _));
        Assert.Equal(StoreStatus.QuotaExceeded, greedy.Commit(Put("x", 1)));
        Assert.Contains("no room for 1048576 bytes of the module with protocol 0x2", image.Log, StringComparison.Ordinal);
        Assert.Equal(StoreStatus.Done, image.Store(4, 1000).Commit(Put("x", 1)));
    }

    // Names of records are in memory: a large disk alone is not enough.
    [Fact]
    public void QuotaBeyondTheMemory_IsAnErrorOfThatModule()
    {
        TestImage.Prepare(_disk);
        using var image = new TestImage(_disk, maxQuotas: 10_000);
        Assert.Equal(StoreStatus.Done, image.Store(4, 4_000).Commit(Put("x", 1)));
        ModuleStore greedy = image.Store(2, 6_001);
        Assert.Equal(StoreStatus.QuotaExceeded, greedy.TryDescribe(out _));
        Assert.Equal(StoreStatus.QuotaExceeded, greedy.Commit(Put("x", 1)));
        Assert.Contains("no memory for 6001 bytes of the module with protocol 0x2 in the store, besides the 4000 of others: for 10000 in all", image.Log, StringComparison.Ordinal);
        Assert.Equal(StoreStatus.Done, image.Store(2, 6_000).Commit(Put("x", 1)));
        Assert.Equal(StoreStatus.Done, image.Store(4, 4_000).Commit(Put("y", 1)));
    }

    // The disk is made larger while the machine runs.
    [Fact]
    public void QuotaBeyondTheDisk_IsThereWhenTheDiskHasGrown()
    {
        TestImage.Prepare(_disk);
        using var image = new TestImage(_disk);
        ModuleStore greedy = image.Store(2, 1 << 20);
        Assert.Equal(StoreStatus.QuotaExceeded, greedy.Commit(Put("x", 1)));
        using (var file = new FileStream(_disk.Path, FileMode.Open, FileAccess.Write, FileShare.ReadWrite))
        {
            file.SetLength(8 << 20);
        }

        Assert.Equal(StoreStatus.Done, greedy.Commit(Put("x", 1)));
        AssertHas(greedy, "x", 1);
    }

    [Fact]
    public void LargestCommit_AndLargerOnes()
    {
        using var disk = new TestDisk(8 << 20);
        TestImage.Prepare(disk);
        using var image = new TestImage(disk);
        ModuleStore store = image.Store(2, 1 << 20);
        Assert.Equal(StoreStatus.Done, store.Commit(Put("a", 65536), Put("b", 65536), Put("c", 65536), Put("d", 60000)));
        foreach ((string name, int length) in ((string, int)[])[("a", 65536), ("b", 65536), ("c", 65536), ("d", 60000)])
        {
            AssertHas(store, name, length);
        }

        Assert.Equal(StoreStatus.TooLarge, store.Commit(Put("a", 65536), Put("b", 65536), Put("c", 65536), Put("d", 65536), Put("e", 1)));
        Assert.Equal(StoreStatus.TooLarge, store.Commit(Put("a", 65536), Put("b", 65536), Put("c", 65536), Put("d", 65536), Put("e", 65535)));
        Assert.Equal(StoreStatus.ValueTooLong, store.Commit(Put("a", 65537)));
        Assert.Equal(StoreStatus.NameInvalid, store.Commit(Put("", 1)));
        Assert.Equal(StoreStatus.NameInvalid, store.Commit(Put(new string('n', 1025), 1)));
        Assert.Equal(StoreStatus.NameInvalid, store.TryGet(new byte[1025], out _));
        AssertHas(store, "a", 65536);
    }

    [Fact]
    public void MoreNamesThanAMessage_AreListed()
    {
        using var disk = new TestDisk(8 << 20);
        TestImage.Prepare(disk);
        using var image = new TestImage(disk);
        ModuleStore store = image.Store(2, 1 << 20);
        string[] names = [.. Enumerable.Range(0, 200).Select(i => new string((char)('a' + (i % 26)), 1000) + i.ToString("D3", null))];
        foreach (string[] chunk in names.Chunk(50))
        {
            Assert.Equal(StoreStatus.Done, store.Commit([.. chunk.Select(name => Put(name, 3))]));
        }

        Assert.Equal(StoreStatus.Done, store.List(out IReadOnlyList<byte[]> listed));
        Assert.Equal(names.Order(StringComparer.Ordinal), listed.Select(Encoding.ASCII.GetString));
    }

    public static TheoryData<string, Action<string>> Disks => new()
    {
        { "Fresh, the device has no store", path => File.WriteAllBytes(path, new byte[2 << 20]) },
        { "Damaged", path => Change(path, bytes => bytes.AsSpan(0, 8192).Fill(0x5A)) },
        { "Damaged", path => Change(path, bytes => bytes[(2 * 4096) + 0x70] ^= 1) },
        { "Truncated", path => File.WriteAllBytes(path, File.ReadAllBytes(path)[..^4096]) },
        { "DeviceUnusable", path => File.WriteAllBytes(path, new byte[512]) },
    };

    // What is not the store is never replaced by a new one, and whoever asks is told.
    [Theory]
    [MemberData(nameof(Disks), DisableDiscoveryEnumeration = true)]
    public void DiskThatHasNotTheStore_IsNotOpen(string log, Action<string> change)
    {
        TestImage.Prepare(_disk);
        using (var image = new TestImage(_disk))
        {
            Assert.Equal(StoreStatus.Done, image.Store(2).Commit(Put("a", 100)));
        }

        _disk.Disks.Dispose();
        change(_disk.Path);
        byte[] before = File.ReadAllBytes(_disk.Path);
        _disk.Restart();
        using (var image = new TestImage(_disk))
        {
            AssertNotOpen(image, log);
        }

        _disk.Disks.Dispose();
        Assert.Equal(before, File.ReadAllBytes(_disk.Path));
        _disk.Restart();
    }

    [Fact]
    public void OtherKey_IsNotOpen()
    {
        TestImage.Prepare(_disk);
        using (new TestImage(_disk))
        {
        }

        using var image = new TestImage(_disk, new byte[32]);
        AssertNotOpen(image, "WrongKey");
    }

    [Fact]
    public void NoDisk_OrNoAnswer_IsNotOpen()
    {
        TestImage.Prepare(_disk);
        _disk.Disks.OnRegister = (_, _) => uint.MaxValue;
        using (var image = new TestImage(_disk))
        {
            AssertNotOpen(image, "no virtio disk");
        }

        _disk.Disks.OnRegister = null;
        _disk.Device.OnRequest = (_, _) => null;
        using (var image = new TestImage(_disk))
        {
            AssertNotOpen(image, "no answer in 50 ms");
        }

        _disk.Device.OnRequest = null;
        using (var image = new TestImage(_disk))
        {
            Assert.Contains("made: generation 0", image.Log, StringComparison.Ordinal);
        }
    }

    // The device fails in each step of a commit, once with what it was to do done, once without. The module is told the truth, and can go on.
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void DeviceThatFailsInACommit_IsAskedWhatHappened(bool isDone)
    {
        TestImage.Prepare(_disk);
        using var image = new TestImage(_disk);
        ModuleStore store = image.Store(2);
        Assert.Equal(StoreStatus.Done, store.Commit(Put("a", 1), Put("gone", 1)));
        var results = new List<StoreStatus>();
        for (int step = 0; step < 4; step++)
        {
            int left = step;
            bool isArmed = true;
            bool IsNow(BlockRequest request) => isArmed && request.Operation is BlockOperation.Write or BlockOperation.Flush && left-- == 0;
            bool isNow = false;
            _disk.Device.IsLost = request => (isNow = IsNow(request)) && !isDone;
            _disk.Device.OnRequest = (request, completion) =>
            {
                if (!isNow)
                {
                    return completion;
                }

                isArmed = false;
                return new BlockCompletion { Status = BlockStatus.IOError, Length = 1, Id = request.Id };
            };
            StoreStatus status = store.Commit(Put("a", 10 + step), Put("b", step), Delete("gone"));
            results.Add(status);
            _disk.Device.IsLost = null;
            _disk.Device.OnRequest = null;
            Assert.True(status is StoreStatus.Done or StoreStatus.DeviceFailed);
            AssertHas(store, "a", status == StoreStatus.Done ? 10 + step : 1);
            Assert.Equal(StoreStatus.Done, store.Commit(Put("a", 1), Put("gone", 1)));
        }

        // Entry written, flushed, superblock written, flushed: from the second one on the commit is there.
        Assert.Equal(
            isDone ? [StoreStatus.Done, StoreStatus.Done, StoreStatus.Done, StoreStatus.Done] : [StoreStatus.DeviceFailed, StoreStatus.Done, StoreStatus.Done, StoreStatus.Done],
            results);
    }

    [Fact]
    public void DeviceThatIsGone_LeavesTheModuleUnsure_UntilItLooks()
    {
        TestImage.Prepare(_disk);
        using var image = new TestImage(_disk);
        ModuleStore one = image.Store(2);
        ModuleStore other = image.Store(4);
        Assert.Equal(StoreStatus.Done, one.Commit(Put("a", 1)));
        Assert.Equal(StoreStatus.Done, other.Commit(Put("a", 1)));
        _disk.Device.OnRequest = (request, completion) => completion! with { Status = BlockStatus.IOError };
        Assert.Equal(StoreStatus.Failed, one.Commit(Put("a", 2)));
        Assert.Equal(StoreStatus.DeviceFailed, other.Commit(Put("a", 2)));
        Assert.Equal(StoreStatus.DeviceFailed, one.List(out _));
        Assert.Equal(StoreStatus.Failed, one.Commit(Put("a", 2)));
        _disk.Device.OnRequest = null;

        Assert.Equal(StoreStatus.Failed, one.Commit(Put("a", 3)));
        Assert.Equal(StoreStatus.Done, other.Commit(Put("a", 3)));
        Assert.Equal(StoreStatus.Failed, one.Commit(Put("a", 3)));
        Assert.Equal(StoreStatus.Done, one.List(out _));
        AssertHas(one, "a", 2);
        Assert.Equal(StoreStatus.Done, one.Commit(Put("a", 3)));
        AssertHas(other, "a", 3);
    }

    // While the device fails, the host puts the disk of before there.
    [Fact]
    public void OlderDiskWhileTheStoreIsInUse_IsTheEnd()
    {
        TestImage.Prepare(_disk);
        using var image = new TestImage(_disk);
        ModuleStore store = image.Store(2);
        Assert.Equal(StoreStatus.Done, store.Commit(Put("a", 1)));
        byte[] old = _disk.Read();
        Assert.Equal(StoreStatus.Done, store.Commit(Put("a", 2)));
        _disk.Device.OnRequest = (request, completion) => completion! with { Status = BlockStatus.IOError };
        Assert.Equal(StoreStatus.Failed, store.Commit(Put("a", 3)));
        _disk.Device.OnRequest = null;
        _disk.Write(old);
        Assert.Equal(StoreStatus.NotOpen, store.List(out _));
        Assert.Equal(StoreStatus.NotOpen, store.TryGet("a"u8, out _));
        Assert.Contains("is not used any more: Older", image.Log, StringComparison.Ordinal);
        Assert.Equal(old, _disk.Read());
    }

    [Fact]
    public void Requests_OfAnyKind_HaveAnAnswer()
    {
        TestImage.Prepare(_disk);
        using var image = new TestImage(_disk);
        ModulePeers peers = image.Peers(2);
        Assert.Equal(StoreStatus.Done, image.Store(4).Commit(Put("a", 77)));
        var random = new Random(1);
        int done = 0;
        for (int i = 0; i < 20_000; i++)
        {
            byte[] request = new byte[random.Next(4) == 0 ? random.Next(12) : 8 + random.Next(200)];
            random.NextBytes(request);
            if (request.Length >= 8)
            {
                request[0] = (byte)random.Next(6);
                request.AsSpan(1, 3).Clear();
                BitConverter.TryWriteBytes(request.AsSpan(4), random.Next(5));
            }

            for (int at = 8; at + 8 <= request.Length && random.Next(8) != 0;)
            {
                int name = random.Next(1, 4);
                int value = random.Next(20);
                request[at] = (byte)random.Next(1, 3);
                request[at + 1] = 0;
                BitConverter.TryWriteBytes(request.AsSpan(at + 2), (ushort)name);
                BitConverter.TryWriteBytes(request.AsSpan(at + 4), request[at] == 2 ? 0 : value);
                at += 8 + name + (request[at] == 2 ? 0 : value);
                request = at < request.Length || random.Next(4) == 0 ? request : [.. request, .. new byte[at - request.Length]];
            }

            Assert.Equal(PeerResult.Answered, peers.Ask(ModuleMessageKind.Store, request, out byte[] answer));
            Assert.True(answer.Length >= 8);
            Assert.True(Enum.IsDefined((StoreStatus)BitConverter.ToUInt32(answer)));
            done += BitConverter.ToUInt32(answer) == 0 && request[0] == 3 ? 1 : 0;
        }

        Assert.InRange(done, 200, 20_000);
        AssertHas(image.Store(4), "a", 77);
        Assert.DoesNotContain("not used any more", image.Log, StringComparison.Ordinal);
    }

    private static void AssertNotOpen(TestImage image, string log)
    {
        Assert.Contains("the store is not open", image.Log, StringComparison.Ordinal);
        Assert.Contains(log, image.Log, StringComparison.Ordinal);
        Assert.Equal(new byte[64], image.Manifest);
        ModuleStore store = image.Store(2);
        Assert.Equal(StoreStatus.NotOpen, store.TryDescribe(out _));
        Assert.Equal(StoreStatus.NotOpen, store.List(out _));
        Assert.Equal(StoreStatus.NotOpen, store.TryGet("a"u8, out _));
        Assert.Equal(StoreStatus.NotOpen, store.Commit(Put("a", 1)));
    }

    private static StoreChange Put(string name, int length) => StoreChange.Put(Encoding.ASCII.GetBytes(name), Value(name, length));

    private static StoreChange Delete(string name) => StoreChange.Delete(Encoding.ASCII.GetBytes(name));

    private static byte[] Value(string name, int length) => [.. Enumerable.Range(0, length).Select(i => (byte)((i * 7) + name.Length + (i / 251)))];

    private static void AssertHas(ModuleStore store, string name, int length)
    {
        Assert.Equal(StoreStatus.Done, store.TryGet(Encoding.ASCII.GetBytes(name), out byte[] value));
        Assert.Equal(Value(name, length), value);
    }

    private static void Change(string path, Action<byte[]> change)
    {
        byte[] bytes = File.ReadAllBytes(path);
        change(bytes);
        File.WriteAllBytes(path, bytes);
    }
}
