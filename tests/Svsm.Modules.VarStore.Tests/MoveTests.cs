// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using System.Linq;
using Svsm.Core;
using Svsm.Core.Testing;
using Svsm.Wire;
using Xunit;

namespace Svsm.Modules.VarStore.Tests;

/// <summary>Variables that move with their guest: all of them, with what has been laid down about them.</summary>
public sealed class MoveTests
{
    private const int MemorySize = 0x8_0000;
    private const ulong Address = 0x1000;

    // Two stores get the same messages; one of them moves now and then. Every answer is the same, and so is every state and what is stored.
    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public void Restore_AtAnyMoment_GoesOnByteForByte(int seed)
    {
        const int Rounds = 30_000;
        var random = new Random(seed);
        var storage = new TestStorage();
        var otherStorage = new TestStorage();
        VariableStore twin = new TestFirmware(storage).Store;
        VariableStore store = new TestFirmware(otherStorage).Store;
        int moved = 0;
        int largest = 0;
        for (int round = 0; round < Rounds; round++)
        {
            if (random.Next(400) == 0)
            {
                twin.Reset();
                store.Reset();
            }

            if (random.Next(100) == 0)
            {
                // To a storage that has something else.
                byte[] state = store.Save();
                Assert.Equal(twin.Save(), state);
                Assert.Equal(state, store.Save());
                otherStorage = new TestStorage();
                var next = new TestFirmware(otherStorage);
                for (int i = random.Next(5); i > 0; i--)
                {
                    next.Set($"Other{i}", TestFirmware.NonVolatile, new byte[random.Next(2) == 0 ? 5 : 0xFFF0]);
                }

                Assert.Equal(VariableStoreResult.Done, next.Store.TryRestore(state, out VariableStore? restored));
                store = restored!;
                Assert.Equal(state, store.Save());
                Assert.Equal(VariableStoreResult.Done, VariableStore.TryOpen(otherStorage, null, out _));
                Dictionary<uint, string> records = otherStorage.Records.ToDictionary(record => record.Key, record => Convert.ToHexString(record.Value));
                if (!storage.Records.ContainsKey(0))
                {
                    records.Remove(0);
                }

                Assert.Equal(storage.Records.ToDictionary(record => record.Key, record => Convert.ToHexString(record.Value)), records);
                moved++;
                largest = Math.Max(largest, state.Length);
            }

            byte[] message = FuzzTests.NewMessage(random);
            for (int i = random.Next(3); i > 0; i--)
            {
                FuzzTests.Mutate(random, message);
            }

            byte[] header = message[..VariableStore.MessageHeaderLength];
            if (VariableStore.TryReadHeader(header, message.Length, out int length))
            {
                byte[] expected = message.AsSpan(VariableStore.MessageHeaderLength, length).ToArray();
                byte[] answer = [.. expected];
                twin.Execute(header, expected, TestFirmware.BufferLength);
                store.Execute(header, answer, TestFirmware.BufferLength);
                Assert.Equal(expected, answer);
            }
        }

        TestContext.Current.TestOutputHelper?.WriteLine($"moved {moved} times, the largest state was of {largest} bytes");
        Assert.True(moved > 200);
    }

    [Fact]
    public void Restore_Phases_GoOn()
    {
        var source = new TestFirmware();
        Assert.Equal(EfiStatus.Success, source.Set("Hidden", VariableAttributes.BootServiceAccess, 1));
        Assert.Equal(EfiStatus.Success, source.Set("Seen", TestFirmware.Volatile, 2));
        Assert.Equal(EfiStatus.Success, source.Policy(3, TestFirmware.PolicyEntry("Locked", kind: 1), out _));
        source.Notify(TestFirmware.EndOfDxe);
        TestFirmware target = Moved(source);

        Assert.Equal(EfiStatus.WriteProtected, target.Set("Locked", TestFirmware.NonVolatile, 1));
        Assert.Equal(EfiStatus.WriteProtected, target.Policy(3, TestFirmware.PolicyEntry("More"), out _));
        Assert.Equal([1], target.Get("Hidden"));

        target.Notify(TestFirmware.ExitBootServices);
        target = Moved(target);
        Assert.Null(target.Get("Hidden"));
        Assert.Equal([2], target.Get("Seen"));
        Assert.Equal(EfiStatus.WriteProtected, target.Set("Seen", TestFirmware.Volatile, 3));
        Assert.Equal(EfiStatus.Success, target.Set("New", TestFirmware.NonVolatile, 3));

        // And a start of the guest is one as everywhere.
        target.Store.Reset();
        Assert.Null(target.Get("Seen"));
        Assert.Equal([3], target.Get("New"));
        Assert.Equal(EfiStatus.Success, target.Set("Locked", TestFirmware.NonVolatile, 1));
    }

    [Fact]
    public void Restore_DumpOfPoliciesInTheMiddle_GoesOn()
    {
        var source = new TestFirmware();
        for (int i = 0; i < 400; i++)
        {
            Assert.Equal(EfiStatus.Success, source.Policy(3, TestFirmware.PolicyEntry($"Policy{i}"), out _));
        }

        byte[] body = new byte[0x4000 - 44];
        Assert.Equal(EfiStatus.Success, source.Policy(4, body, out _));
        body[0] = 2;
        TestFirmware target = Moved(source);

        Assert.Equal(EfiStatus.Success, target.Policy(4, body, out byte[] answer));
        Assert.Equal(EfiStatus.Success, source.Policy(4, body, out byte[] expected));
        Assert.Equal(expected, answer);
        Assert.Equal(EfiStatus.Success, target.Policy(2, new byte[1], out _));
        Assert.Equal(EfiStatus.Timeout, target.Policy(4, body, out _));
    }

    [Fact]
    public void Restore_SecureBoot_GoesOnWithItsKeysAndMode()
    {
        var keys = new SecureBootKeys(TestSigner.Named("PK").Der, TestSigner.Named("KEK").Der, TestSigner.Named("db").Der, default);
        var source = new TestFirmware(new TestStorage(), keys);
        Assert.True(source.Store.IsSecureBootOn);

        // The target's image brings none, or others: what the guest has counts, until the VM starts anew.
        var storage = new TestStorage();
        var others = new SecureBootKeys(TestSigner.Named("other").Der, default, TestSigner.Named("other").Der, default);
        foreach (SecureBootKeys? own in (SecureBootKeys?[])[null, others])
        {
            var target = new TestFirmware(new TestStorage(), own);
            Assert.Equal(VariableStoreResult.Done, target.Store.TryRestore(source.Store.Save(), out VariableStore? restored));
            Assert.True(restored!.IsSecureBootOn);
            Assert.Equal(PlatformMode.Deployed, restored.Service.SecureBoot.Mode);
            Assert.Equal(source.Store.Save(), restored.Save());
        }
    }

    [Fact]
    public void Restore_EveryPrefixAndByteChanged_IsAStoreOrRefused()
    {
        var source = new TestFirmware();
        source.Set("A", TestFirmware.NonVolatile, 1, 2, 3);
        source.Set("B", TestFirmware.Volatile, 4);
        source.Policy(3, TestFirmware.PolicyEntry("Locked##", kind: 1), out _);
        source.Policy(3, TestFirmware.PolicyEntry("State", kind: 3, state: [.. TestFirmware.Vendor.ToByteArray(), 1, 0, .. TestFirmware.Name("A")]), out _);
        source.Policy(4, new byte[0x4000 - 44], out _);
        Assert.Equal(EfiStatus.Success, source.Store.Service.Properties.Set(new(TestFirmware.Vendor, "C"), new(true, TestFirmware.NonVolatile, 1, 2)));
        source.Notify(TestFirmware.EndOfDxe);
        byte[] good = source.Store.Save();
        int taken = 0;
        for (int i = 0; i < good.Length; i++)
        {
            Assert.Equal(VariableStoreResult.Damaged, new TestFirmware().Store.TryRestore(good.AsSpan(0, i), out _));
            foreach (byte change in (byte[])[0xFF, 1, 0x80, (byte)(1 << (i % 8))])
            {
                byte[] changed = [.. good];
                changed[i] ^= change;
                var storage = new TestStorage();
                VariableStoreResult result = new TestFirmware(storage).Store.TryRestore(changed, out VariableStore? restored);
                Assert.True(result is VariableStoreResult.Done or VariableStoreResult.Damaged, $"{i}: {result}");
                if (restored is not null)
                {
                    // It is a state like any other: it gives itself, works, and can be opened.
                    taken++;
                    Assert.Equal(changed.Length, restored.Save().Length);
                    byte[] header = TestFirmware.Header(TestFirmware.ExitBootServices, 1);
                    restored.Execute(header, new byte[1], TestFirmware.BufferLength);
                    Assert.Equal(VariableStoreResult.Done, VariableStore.TryOpen(storage, null, out _));
                    restored.Reset();
                }
                else
                {
                    Assert.Empty(storage.Records);
                }
            }
        }

        TestContext.Current.TestOutputHelper?.WriteLine($"{taken} of {4 * good.Length} were taken; the state is of {good.Length} bytes");
        Assert.Equal(VariableStoreResult.Damaged, new TestFirmware().Store.TryRestore([.. good, 0], out _));
        Assert.Equal(VariableStoreResult.Done, new TestFirmware().Store.TryRestore(good, out _));
    }

    [Fact]
    public void Restore_LargestStore_IsAStateAndStoredAsAWholeOrNotRead()
    {
        TestFirmware source = Full(out byte[] state);
        TestContext.Current.TestOutputHelper?.WriteLine($"{state.Length} bytes");
        Assert.InRange(state.Length, ModuleMessage.MaxState / 2, ModuleMessage.MaxState - sizeof(uint));

        // The storage ends at any of its commits.
        int commits = 0;
        for (int limit = 0; limit <= commits; limit++)
        {
            var storage = new TestStorage();
            var target = new TestFirmware(storage);
            target.Set("Old", TestFirmware.NonVolatile, 1);
            var failing = new FailingStorage(storage, limit);
            Assert.Equal(VariableStoreResult.Done, VariableStore.TryOpen(failing, null, out VariableStore? before));

            VariableStoreResult result = before!.TryRestore(state, out VariableStore? restored);

            if (result == VariableStoreResult.Done)
            {
                Assert.Equal(state, restored!.Save());
                Assert.True(failing.Commits > 1);
                commits = 0;
            }
            else
            {
                commits = limit + 1;
                Assert.Equal(VariableStoreResult.StorageFailed, result);
                VariableStoreResult opened = VariableStore.TryOpen(storage, null, out VariableStore? after);
                Assert.Equal(limit == 0 ? VariableStoreResult.Done : VariableStoreResult.Damaged, opened);
                Assert.Equal(limit == 0, after?.Service.Find(new(TestFirmware.Vendor, "Old")) is not null);
            }
        }

        Assert.Equal(state, source.Store.Save());
    }

    // What is there, and has other numbers, goes before what comes.
    [Fact]
    public void Restore_AStoreInPlaceOfAnotherOne_HasRoomForOne()
    {
        Full(out byte[] first, largeFirst: false);
        Full(out byte[] second);
        var store = new TestStore { Quota = 0x20_0000 };
        using (var module = new ModuleTest(new VarStoreModule(), MemorySize, peers: store))
        {
            Assert.True(module.Restore(new(1, (byte[])[1, 0, 0, 0, .. first])));
        }

        int records = store.Records.Count;
        store.Quota = store.Records.Values.Sum(value => (long)sizeof(uint) + Math.Max(160, 32 + ((value.Length + 15) / 16 * 16)));
        using (var module = new ModuleTest(new VarStoreModule(), MemorySize, peers: store))
        {
            Assert.True(module.Restore(new(1, (byte[])[1, 0, 0, 0, .. second])));
        }

        Assert.Equal(records, store.Records.Count);
        using var again = new ModuleTest(new VarStoreModule(), MemorySize, peers: store);
    }

    [Theory]
    [InlineData(true, 2 * VariableLimits.NonVolatileQuota)]
    [InlineData(false, 2 * VariableLimits.VolatileQuota)]
    public void Restore_MoreThanTwiceAQuota_IsRefused(bool isNonVolatile, int limit)
    {
        var firmware = new TestFirmware();
        byte[] none = firmware.Store.Save();
        var table = new VariableTable(new TestStorage());
        var service = new VariableService(table);
        Assert.True(MovedVariables.TryRestore(none, table, service, new PolicyMessages(service.Policies)));
        int size = isNonVolatile ? table.NonVolatileSize : table.VolatileSize;
        var added = new List<byte>();
        uint count = 0;
        while (true)
        {
            var variable = new Variable(new(TestFirmware.Vendor, $"More{count:D4}"), isNonVolatile ? TestFirmware.NonVolatile : TestFirmware.Volatile, new byte[4000])
            {
                Number = 10_000 + count,
            };
            bool fits = size + variable.Size <= limit;
            byte[] record = VariableRecord.Write(variable);
            added.AddRange([.. BitConverter.GetBytes(variable.Number), .. BitConverter.GetBytes(0), .. BitConverter.GetBytes(record.Length), .. record]);
            size += variable.Size;
            count++;
            byte[] state = [.. none, .. added];
            BitConverter.TryWriteBytes(state.AsSpan(0x10), BitConverter.ToUInt32(none, 0x10) + count);
            if (!fits)
            {
                Assert.Equal(VariableStoreResult.Damaged, new TestFirmware().Store.TryRestore(state, out _));
                return;
            }

            if (size + variable.Size > limit)
            {
                Assert.Equal(VariableStoreResult.Done, new TestFirmware().Store.TryRestore(state, out _));
            }
        }
    }

    [Fact]
    public void Module_State_GoesToAnotherModule()
    {
        var there = new TestStore { Quota = 768 * 1024 };
        var here = new TestStore { Quota = 768 * 1024 };
        using var source = new ModuleTest(new VarStoreModule(), MemorySize, peers: there);
        Assert.Equal(1u, source.GetStateVersion());
        Assert.Equal(EfiStatus.Success, Set(source, "A", 1));
        ModuleState state = Assert.NotNull(source.Save());
        TestContext.Current.TestOutputHelper?.WriteLine($"with one variable of a guest: {state.Bytes.Length} bytes");
        using (var target = new ModuleTest(new VarStoreModule(), MemorySize, peers: here))
        {
            Assert.True(target.Restore(state));
            Assert.True(source.Leave());
            Assert.Equal(source.GetManifest(0), target.GetManifest(0));
            Assert.Equal(EfiStatus.Success, Set(target, "B", 2));
        }

        Assert.Equal(there.Records.Count + 2, here.Records.Count);
        using var again = new ModuleTest(new VarStoreModule(), MemorySize, peers: here);
        Assert.Equal(1u, again.GetStateVersion());

        // The source goes on, if the guest stays after all.
        Assert.Equal(EfiStatus.Success, Set(source, "C", 3));
        Assert.NotNull(source.Save());
        Assert.False(again.Restore(new(2, state.Bytes)));
        Assert.False(again.Restore(new(0, state.Bytes)));
        Assert.False(again.Restore(new(1, new byte[] { 2, 0, 0, 0 })));
    }

    [Fact]
    public void Module_State_GoesWhereItIsStoredIfItWasStored()
    {
        using var stored = new ModuleTest(new VarStoreModule(), MemorySize, peers: new TestStore());
        using var ephemeral = new ModuleTest(new VarStoreModule(), MemorySize);
        using var refusing = new ModuleTest(new VarStoreModule(), MemorySize);
        Assert.False(refusing.Restore(Assert.NotNull(stored.Save())));
        Assert.Contains(refusing.Log, line => line.Line.Contains("no store", StringComparison.Ordinal));

        using var taking = new ModuleTest(new VarStoreModule(), MemorySize, peers: new TestStore());
        Assert.True(taking.Restore(Assert.NotNull(ephemeral.Save())));
    }

    [Fact]
    public void Module_StoreThatFails_TakesNoState()
    {
        using var source = new ModuleTest(new VarStoreModule(), MemorySize, peers: new TestStore());
        var store = new TestStore();
        using var target = new ModuleTest(new VarStoreModule(), MemorySize, peers: store);
        store.Failure = StoreStatus.DeviceFailed;

        Assert.False(target.Restore(Assert.NotNull(source.Save())));
    }

    // As many variables, policies and properties as there can be, and keys of the image beside them.
    private static TestFirmware Full(out byte[] state, bool largeFirst = true)
    {
        byte[] lists = SignatureLists.OfCertificate(TestFirmware.Vendor, TestSigner.Named("db").Der);
        byte[] many = [.. Enumerable.Repeat(lists, 0xFF00 / lists.Length).SelectMany(list => list)];
        var firmware = new TestFirmware(new TestStorage(), new SecureBootKeys(TestSigner.Named("PK").Der, many, many, many));
        for (int i = 0; i < 4 && largeFirst; i++)
        {
            firmware.Set($"Large{i}", TestFirmware.NonVolatile, new byte[0xF000]);
        }

        for (int i = 0; i < 2000; i++)
        {
            firmware.Set($"Small{i}", TestFirmware.NonVolatile, 1);
            firmware.Set($"Volatile{i}", TestFirmware.Volatile, new byte[500]);
            if (!largeFirst && i < 4)
            {
                firmware.Set($"Large{i}", TestFirmware.NonVolatile, new byte[0xF000]);
            }
        }

        for (int i = 0; i < VariableLimits.MaxProperties; i++)
        {
            firmware.Store.Service.Properties.Set(new(TestFirmware.Vendor, new string('p', 507) + $"{i:D4}"), new(false, 0, 0, 100));
        }

        while (firmware.Policy(3, TestFirmware.PolicyEntry(new string('q', 400) + Guid.NewGuid().ToString("N")), out _) == EfiStatus.Success)
        {
        }

        state = firmware.Store.Save();
        return firmware;
    }

    private static TestFirmware Moved(TestFirmware source)
    {
        var target = new TestFirmware();
        Assert.Equal(VariableStoreResult.Done, target.Store.TryRestore(source.Store.Save(), out VariableStore? restored));
        return new TestFirmware(restored!);
    }

    private static EfiStatus Set(ModuleTest test, string name, params byte[] data)
    {
        byte[] body = TestFirmware.Access(new(TestFirmware.Vendor, name), TestFirmware.NonVolatile, data.Length, data);
        byte[] payload = [3, .. new byte[15], .. body];
        test.Memory.GuestWrite(new(Address), [.. TestFirmware.Header(TestFirmware.Variables, payload.Length), .. payload]);
        Assert.Equal(SvsmResultCode.Success, test.Call(1, Address, 0x1_0000).Code);
        return (EfiStatus)BitConverter.ToUInt64(test.Memory.GuestRead(new(Address + 32), 8));
    }

    private sealed class FailingStorage(TestStorage storage, int limit) : IVariableStorage
    {
        public bool IsPersistent => true;

        public int Commits { get; private set; }

        public bool TryLoad(out IReadOnlyList<StorageRecord> records) => storage.TryLoad(out records);

        public bool TryCommit(ReadOnlySpan<StorageRecord> changes)
        {
            Assert.True(changes.ToArray().Sum(change => (change.Value?.Length ?? 0) + 64) <= 0x3_8000);
            return Commits++ < limit && storage.TryCommit(changes);
        }
    }
}
