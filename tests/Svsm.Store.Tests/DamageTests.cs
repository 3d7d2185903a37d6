// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.Globalization;
using System.Linq;
using Xunit;

namespace Svsm.Store.Tests;

/// <summary>A device on which something is not what was written: an error or nothing at all, never another value and never an older state.</summary>
public sealed class DamageTests : StoreTest
{
    private const int Block = 4096;

    [Fact]
    public void BitFlips_EveryByte_AreErrorsOrHarmless()
    {
        SimulatedDevice device = SmallStore(out StoreVersion version, out Dictionary<string, string> content);
        byte[] image = device.Save();
        var random = new Random(1);
        int harmless = 0;
        int errors = 0;
        for (int i = 0; i < image.Length; i++)
        {
            // Bytes of padding are all alike: some of them.
            if (image[i] == 0 && !Neighbours(image, i) && i % 509 != 0)
            {
                continue;
            }

            byte bit = (byte)(1 << random.Next(8));
            device.Bytes[i] ^= bit;
            StoreOpening opening = PersistentStore.Open(device, Key, readOnly: true);
            if (opening.State == StoreState.Opened)
            {
                Assert.True(version == opening.Store!.Version, $"byte 0x{i:x}: an older state");
                bool isWhole = CheckValues(opening.Store, content, i);
                _ = isWhole ? harmless++ : errors++;
            }
            else
            {
                Assert.True(opening.State == StoreState.Damaged, $"byte 0x{i:x}: {opening.State}");
                errors++;
            }

            device.Bytes[i] ^= bit;
        }

        Assert.True(harmless > 500 && errors > 500, $"{harmless} harmless, {errors} errors");
    }

    [Fact]
    public void BitFlips_FoundWithoutAKey_WhateverIsUsed()
    {
        SimulatedDevice device = SmallStore(out _, out _);
        Assert.Empty(StoreSurvey.Read(device).Findings);
        byte[] image = device.Save();
        int end = LastUsedBlock(image) + 1;
        for (int i = 0; i < end * Block; i++)
        {
            // Behind the 256 bytes of a superblock nothing is used.
            if (i < 2 * Block && i % Block >= 256)
            {
                continue;
            }

            if (image[i] != 0 || i % 61 == 0)
            {
                device.Bytes[i] ^= 0x20;
                StoreSurvey survey = StoreSurvey.Read(device);
                Assert.True(survey.Findings.Count != 0 || survey.State == StoreState.UnknownVersion, $"byte 0x{i:x}");
                device.Bytes[i] ^= 0x20;
            }
        }
    }

    [Fact]
    public void Blocks_SwappedOrMoved_AreErrorsOrHarmless()
    {
        SimulatedDevice device = SmallStore(out StoreVersion version, out Dictionary<string, string> content);
        byte[] image = device.Save();
        int count = LastUsedBlock(image) + 2;
        for (int from = 0; from < count; from++)
        {
            for (int to = 0; to < count; to++)
            {
                if (from == to)
                {
                    continue;
                }

                device.Restore(image);
                image.AsSpan(from * Block, Block).CopyTo(device.Bytes[(to * Block)..]);
                CheckCurrent(device, version, content, from, to);

                // Two blocks are gone now: the newest superblock and its commit, perhaps. The version tells that from the newest state.
                image.AsSpan(to * Block, Block).CopyTo(device.Bytes[(from * Block)..]);
                CheckWithVersion(device, version, content);
            }
        }
    }

    [Fact]
    public void Blocks_OlderOnes_AreErrorsOrHarmless()
    {
        var device = new SimulatedDevice(MiB);
        PersistentStore store = Make(device, (A, 50_000));
        var images = new List<byte[]>();
        for (int i = 0; i < 300; i++)
        {
            Assert.Equal(StoreResult.Done, Put(store, A, Name(i % 5), Bytes(50 + (i % 9000), i)));
            if (i % 20 == 0)
            {
                images.Add(device.Save());
            }
        }

        byte[] image = device.Save();
        Dictionary<string, string> content = Content(store);
        StoreVersion version = store.Version;
        foreach (byte[] older in images)
        {
            for (int block = 0; block < image.Length / Block; block++)
            {
                ReadOnlySpan<byte> old = older.AsSpan(block * Block, Block);
                if (!old.SequenceEqual(image.AsSpan(block * Block, Block)))
                {
                    device.Restore(image);
                    old.CopyTo(device.Bytes[(block * Block)..]);
                    CheckCurrent(device, version, content, block, block);
                }
            }

            // Both superblocks of old: the log goes on to today's, or it is the other half, and the device is one of old. Then the version tells.
            device.Restore(image);
            older.AsSpan(0, 2 * Block).CopyTo(device.Bytes);
            CheckWithVersion(device, version, content);
        }
    }

    [Fact]
    public void Superblock_EitherLost_IsRepaired()
    {
        for (int slot = 0; slot < 2; slot++)
        {
            SimulatedDevice device = SmallStore(out StoreVersion version, out Dictionary<string, string> content);
            device.Bytes.Slice(slot * Block, Block).Clear();
            StoreOpening opening = PersistentStore.Open(device, Key, version);
            Assert.True(opening.IsRepaired);
            Assert.Equal(content, Content(opening.Store!));
            Assert.False(PersistentStore.Open(device, Key).IsRepaired);
            device.Bytes.Slice((1 - slot) * Block, Block).Clear();
            Assert.Equal(version, Open(device).Version);
        }
    }

    // One is that of a commit that was interrupted or whose superblock was lost; a second one was committed behind it. A third one has written over an older
    // superblock than the newest that is here.
    [Theory]
    [InlineData(0, StoreState.Opened)]
    [InlineData(1, StoreState.Opened)]
    [InlineData(2, StoreState.Opened)]
    [InlineData(3, StoreState.Damaged)]
    [InlineData(4, StoreState.Damaged)]
    public void Superblocks_OfOlderCommits_AreDamageUnlessTheyCanBe(int age, StoreState expected)
    {
        var device = new SimulatedDevice(MiB);
        PersistentStore store = Make(device, (A, 10_000));
        byte[] superblocks = [];
        for (int i = 6; i >= 0; i--)
        {
            Put(store, A, Name("x"), [(byte)i]);
            if (i == age)
            {
                superblocks = device.Save()[..(2 * Block)];
            }
        }

        superblocks.CopyTo(device.Bytes);
        StoreOpening opening = PersistentStore.Open(device, Key);
        Assert.Equal(expected, opening.State);
        if (opening.Store is PersistentStore opened)
        {
            Assert.Equal(store.Version, opened.Version);
            Assert.Equal(age != 0, opening.IsRepaired);
        }
        else
        {
            // Seven commits behind the definition: the first of those that cannot be.
            Assert.Equal(2 + 1 + (7 - age) + 2, opening.Block);
        }
    }

    [Fact]
    public void Superblock_BothLost_IsDamageAndNotFresh()
    {
        SimulatedDevice device = SmallStore(out _, out _);
        device.Bytes[..(2 * Block)].Clear();
        Assert.Equal(StoreState.Damaged, PersistentStore.Open(device, Key).State);
        Assert.Equal(StoreState.NotFresh, PersistentStore.Create(device, Key).State);
        Assert.Equal(StoreState.Damaged, StoreSurvey.Read(device).State);
    }

    [Fact]
    public void Value_ChangedBehindAnOpenStore_IsDamaged()
    {
        var device = new SimulatedDevice(MiB);
        PersistentStore store = Make(device, (A, 10_000));
        Put(store, A, Name("x"), Bytes(100, 1));
        byte[] old = device.Save();
        Put(store, A, Name("x"), Bytes(100, 2));
        device.OnRead = (_, destination) => old.AsSpan(3 * Block, Math.Min(destination.Length, Block)).CopyTo(destination);
        Assert.Equal(StoreResult.Damaged, store.Begin(A)!.TryGet(Name("x"), out byte[] value));
        Assert.Empty(value);
    }

    [Fact]
    public void Fuzz_Reader_NeverThrowsAndNeverInvents() => Fuzz(7, 20_000);

    [Fact]
    [Trait("Run", "all")]
    public void Fuzz_Reader_NeverThrowsAndNeverInventsAMillionTimes() => Fuzz(8, 1_000_000);

    [Fact]
    public void Fuzz_Operations_AreReadOrRefused()
    {
        var random = new Random(3);
        int read = 0;
        byte[] bytes = new byte[400];
        for (int i = 0; i < 200_000; i++)
        {
            int length = 0;
            int count = random.Next(1, 5);
            for (int n = 0; n < count; n++)
            {
                var kind = (OperationKind)random.Next(1, 6);
                var operation = new Operation
                {
                    Kind = kind,
                    Namespace = (uint)random.Next(3),
                    Name = new byte[kind == OperationKind.DefineNamespace ? 16 : kind == OperationKind.RemoveNamespace ? 0 : random.Next(1, 40)],
                    ValueLength = kind is OperationKind.Put or OperationKind.Lost ? random.Next(300) : 0,
                    Offset = kind == OperationKind.Put ? random.Next(4000) : 0,
                };
                operation.Write(bytes.AsSpan(length));
                length += operation.Length;
            }

            for (int n = random.Next(4); n > 0; n--)
            {
                bytes[random.Next(length)] = random.Next(3) == 0 ? (byte)0xFF : (byte)random.Next(256);
            }

            if (Operation.TryRead(bytes.AsSpan(0, random.Next(3) == 0 ? random.Next(length) : length), Block, out List<Operation> operations))
            {
                read++;
                Assert.All(operations, operation => Assert.True(
                    (operation.Kind == OperationKind.Put ? operation.Offset + operation.ValueLength <= Block : operation.Offset == 0) && operation.ValueLength is >= 0 and <= StoreFormat.MaxValueLength));
            }
        }

        Assert.InRange(read, 20_000, 180_000);
    }

    // Entries that are rightly encrypted and say what no store writes: a defect of ours must be an error, not a wrong state.
    [Fact]
    public void Open_AuthenticNonsense_IsDamaged()
    {
        Operation[][] nonsense =
        [
            [new Operation { Kind = OperationKind.Put, Namespace = 9, Name = Name("x") }],
            [new Operation { Kind = OperationKind.Delete, Namespace = 1, Name = Name("absent") }],
            [new Operation { Kind = OperationKind.RemoveNamespace, Namespace = 9 }],
        ];
        foreach (Operation[] operations in nonsense)
        {
            var device = new SimulatedDevice(MiB);
            PersistentStore store = Make(device, (A, 1000));
            Assert.Throws<InvalidOperationException>(() => store.Commit([.. operations]));
            Assert.Equal(StoreState.Damaged, PersistentStore.Open(device, Key).State);
        }
    }

    private static void Fuzz(int seed, int count)
    {
        var random = new Random(seed);
        var device = new SimulatedDevice(MiB);
        PersistentStore store = Make(device, (A, 100_000), (B, 50_000));
        var images = new List<byte[]>();
        var devices = new List<SimulatedDevice>();
        var written = new HashSet<string>();
        for (int i = 0; i < 72; i++)
        {
            // Few entries and many blocks: the log is in both halves soon, and read quickly.
            Put(store, i % 3 == 0 ? B : A, Name(i % 6), Bytes(i % 2 == 0 ? 60 : i % 3 == 0 ? 5000 : 20_000, i));
            written.UnionWith(Content(store).Select(pair => pair.Key + pair.Value));
            if (i % 6 == 5)
            {
                images.Add(device.Save());
                devices.Add(new SimulatedDevice(MiB));
                devices[^1].Restore(images[^1]);
            }
        }

        int opened = 0;
        int refused = 0;
        for (int i = 0; i < count; i++)
        {
            int which = random.Next(images.Count);
            SimulatedDevice changed = devices[which];
            Span<byte> image = changed.Bytes;
            var touched = new List<int>();
            int used = (int)StoreFormat.HalfBlocks(image.Length / Block);
            for (int n = random.Next(1, 5); n > 0; n--)
            {
                int block = random.Next(4) switch { 0 => random.Next(2), 1 => 2 + random.Next(used), 2 => 2 + used + random.Next(20), _ => random.Next(image.Length / Block) };
                Span<byte> place = image.Slice(block * Block, Block);
                touched.Add(block);
                switch (random.Next(6))
                {
                    case 0:
                        images[random.Next(images.Count)].AsSpan(block * Block, Block).CopyTo(place);
                        break;
                    case 1:
                        images[random.Next(images.Count)].AsSpan(random.Next(image.Length / Block) * Block, Block).CopyTo(place);
                        break;
                    case 2:
                        place[..(8 * random.Next(512))].Clear();
                        break;
                    default:
                        // Where the numbers are, and values that are near limits.
                        int at = random.Next(random.Next(2) == 0 ? 0x100 : Block - 8);
                        BinaryPrimitives.WriteUInt64LittleEndian(place[at..], random.Next(5) switch
                        {
                            0 => 0,
                            1 => ulong.MaxValue,
                            2 => (ulong)random.Next(70),
                            3 => 1UL << random.Next(64),
                            _ => (ulong)random.NextInt64(),
                        });
                        break;
                }

                // The checksum of a superblock stops nobody.
                if (block < 2 && random.Next(2) == 0)
                {
                    BinaryPrimitives.WriteUInt32LittleEndian(place[0xFC..], StoreFormat.Checksum(place[..0xFC]));
                }
            }

            StoreSurvey.Read(changed);
            bool repairs = random.Next(20) == 0;
            StoreOpening opening = PersistentStore.Open(changed, Key, readOnly: !repairs);
            if (opening.Store is null)
            {
                refused++;
            }
            else
            {
                opened++;
                CheckWritten(opening.Store, written);
            }

            if (repairs)
            {
                changed.Restore(images[which]);
            }

            foreach (int block in touched)
            {
                images[which].AsSpan(block * Block, Block).CopyTo(image[(block * Block)..]);
            }
        }

        Assert.True(opened > count / 20 && refused > count / 20, string.Create(CultureInfo.InvariantCulture, $"{opened} opened, {refused} refused"));
    }

    // Every value that can be read is one that its record had at some time.
    private static void CheckWritten(PersistentStore store, HashSet<string> written)
    {
        foreach (NamespaceUsage usage in store.Namespaces)
        {
            StoreTransaction transaction = store.Begin(usage.Id)!;
            foreach (byte[] name in transaction.Names)
            {
                StoreResult result = transaction.TryGet(name, out byte[] value);
                Assert.True(result is StoreResult.Done or StoreResult.Damaged);
                if (result == StoreResult.Done)
                {
                    Assert.Contains($"{usage.Id}/{Convert.ToHexString(name)}{Convert.ToHexString(value)}", written);
                }
            }
        }
    }

    private static SimulatedDevice SmallStore(out StoreVersion version, out Dictionary<string, string> content)
    {
        var device = new SimulatedDevice(MiB);
        PersistentStore store = Make(device, (A, 10_000));
        Put(store, A, Name("x"), Bytes(30, 1));
        Put(store, A, Name("y"), Bytes(4200, 2));
        Delete(store, A, Name("x"));
        Put(store, A, Name("z"), Bytes(20, 3));
        version = store.Version;
        content = Content(store);
        return device;
    }

    private static int LastUsedBlock(byte[] image) => image.AsSpan().LastIndexOfAnyExcept((byte)0) / Block;

    private static bool Neighbours(byte[] image, int i) => (i > 0 && image[i - 1] != 0) || (i + 1 < image.Length && image[i + 1] != 0);

    // The newest state, with values that are right or errors; or an error.
    private static void CheckCurrent(SimulatedDevice device, StoreVersion version, Dictionary<string, string> content, int from, int to)
    {
        StoreOpening opening = PersistentStore.Open(device, Key, readOnly: true);
        if (opening.State == StoreState.Opened)
        {
            Assert.True(version == opening.Store!.Version, $"block {from} and {to}: an older state");
            CheckValues(opening.Store, content, from);
        }
        else
        {
            Assert.True(opening.State == StoreState.Damaged, $"block {from} and {to}: {opening.State}");
        }
    }

    private static void CheckWithVersion(SimulatedDevice device, StoreVersion version, Dictionary<string, string> content)
    {
        StoreOpening opening = PersistentStore.Open(device, Key, version, readOnly: true);
        Assert.True(opening.State is StoreState.Opened or StoreState.Damaged or StoreState.Older, $"{opening.State}");
        if (opening.Store is PersistentStore store)
        {
            Assert.Equal(version, store.Version);
            CheckValues(store, content, 0);
        }
    }

    private static bool CheckValues(PersistentStore store, Dictionary<string, string> content, int where)
    {
        bool isWhole = true;
        int count = 0;
        foreach (NamespaceUsage usage in store.Namespaces)
        {
            StoreTransaction transaction = store.Begin(usage.Id)!;
            foreach (byte[] name in transaction.Names)
            {
                count++;
                StoreResult result = transaction.TryGet(name, out byte[] value);
                if (result == StoreResult.Damaged)
                {
                    isWhole = false;
                    continue;
                }

                Assert.True(
                    content.TryGetValue($"{usage.Id}/{Convert.ToHexString(name)}", out string? expected) && expected == Convert.ToHexString(value),
                    $"0x{where:x}: another value");
            }
        }

        Assert.Equal(content.Count, count);
        return isWhole;
    }
}
