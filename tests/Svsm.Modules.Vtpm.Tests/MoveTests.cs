// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using System.Reflection;
using System.Security.Cryptography;
using Svsm.Core;
using Svsm.Core.Testing;
using Svsm.Modules.Vtpm.Crypto;
using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Wire;
using Xunit;

namespace Svsm.Modules.Vtpm.Tests;

/// <summary>A TPM that moves with its guest: all of it, at any moment, and nothing else.</summary>
public sealed class MoveTests
{
    private const ulong Address = 0x1_0000;

    private static readonly byte[] s_startup = TestTpm.Command(0x144, [], [0, 0]);
    private static readonly byte[] s_readClock = TestTpm.Command(0x181, [], []);

    // PCR 16 of the SHA-256 bank.
    private static readonly byte[] s_readPcr = TestTpm.Command(0x17E, [], [0, 0, 0, 1, 0, 11, 3, 0, 0, 1]);
    private static readonly byte[] s_extendPcr = TestTpm.Command(0x182, [16], [0, 0, 0, 1, 0, 0x0B, .. new byte[32]], TestTpm.PasswordSession());

    // A signing key on P-256, of the owner's hierarchy; and a quote of PCR 16 with it.
    private static readonly byte[] s_makeKey = TestTpm.Command(
        0x131,
        [TestTpm.Owner],
        [.. TestTpm.Sized(0, 0, 0, 0), .. TestTpm.Sized([0, 0x23, 0, 0x0B, 0, 5, 4, 0x72, 0, 0, 0, 0x10, 0, 0x18, 0, 0x0B, 0, 3, 0, 0x10, 0, 0, 0, 0]), 0, 0, 0, 0, 0, 0],
        TestTpm.PasswordSession());

    private static readonly byte[] s_quote = TestTpm.Command(0x158, [0x8000_0000], [.. TestTpm.Sized(1, 2, 3), 0, 0x10, 0, 0, 0, 1, 0, 0x0B, 3, 0, 0, 1], TestTpm.PasswordSession());

    // An NV index of 8 bytes for its owner.
    private static readonly byte[] s_defineIndex = TestTpm.Command(
        0x12A, [TestTpm.Owner], [0, 0, .. TestTpm.Sized([1, 0x80, 0, 1, 0, 0x0B, 0x02, 0x06, 0, 0x06, 0, 0, 0, 8])], TestTpm.PasswordSession());

    private static readonly byte[] s_writeIndex = TestTpm.Command(0x137, [TestTpm.Owner, 0x0180_0001], [.. TestTpm.Sized([1, 2, 3, 4, 5, 6, 7, 8]), 0, 0], TestTpm.PasswordSession());
    private static readonly byte[] s_readIndex = TestTpm.Command(0x14E, [TestTpm.Owner, 0x0180_0001], [0, 8, 0, 0], TestTpm.PasswordSession());

    // Two TPMs with the same random numbers do the same commands; one of them moves now and then. Every answer is the same, and so is every state.
    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(4)]
    public void Restore_AtAnyMoment_GoesOnByteForByte(int seed)
    {
        const int Commands = 6_000;
        var random = new Random(seed);
        var stays = new HurriedPlatform();
        var moves = new HurriedPlatform();
        Tpm twin = null!;
        Tpm tpm = null!;
        var generator = new CommandGenerator(random);
        byte[] expected = new byte[Tpm.MaxCommandSize];
        byte[] response = new byte[Tpm.MaxCommandSize];
        int moved = 0;
        int largest = 0;
        int succeeded = 0;
        for (int i = 0; i < Commands; i++)
        {
            if (i % 1000 == 0)
            {
                stays.Stored = [];
                moves = new HurriedPlatform();
                Assert.Equal(TpmOpenResult.Done, Tpm.TryManufacture(new TpmPlatform(stays, stays, stays), out Tpm? made));
                Assert.Equal(TpmOpenResult.Done, Tpm.TryManufacture(new TpmPlatform(moves, moves, moves), out Tpm? other));
                (twin, tpm) = (made!, other!);
                CopyRandom(twin, tpm);
                generator.Forget();
            }

            if (random.Next(30) == 0)
            {
                Assert.True(twin.TrySave(out byte[] there));
                Assert.True(tpm.TrySave(out byte[] state));
                Assert.Equal(there, state);
                moves = new HurriedPlatform { Stored = [1, 2, 3] };
                Assert.Equal(TpmOpenResult.Done, Tpm.TryRestore(new TpmPlatform(moves, moves, moves), state, out Tpm? next));
                CopyRandom(tpm, next!);
                tpm = next!;
                moved++;
                largest = Math.Max(largest, state.Length);
            }

            byte[] command;
            CommandDescriptor? descriptor = null;
            if (!twin.IsStarted || random.Next(500) == 0)
            {
                twin.PowerOn();
                tpm.PowerOn();
                command = TestTpm.Command(0x144, [], [0, (byte)(random.Next(3) == 0 ? 1 : 0)]);
            }
            else
            {
                (descriptor, command) = generator.Next(twin);
            }

            byte locality = (byte)(random.Next(20) == 0 ? random.Next(5) : 0);
            int size = twin.Execute(command, locality, expected);
            Assert.Equal(size, tpm.Execute(command, locality, response));
            Assert.True(
                expected.AsSpan(0, size).SequenceEqual(response.AsSpan(0, size)),
                $"command {i}: {Convert.ToHexString(command)}: {Convert.ToHexString(expected.AsSpan(0, size))}, {Convert.ToHexString(response.AsSpan(0, size))}");
            if (TestTpm.Code(response) == 0)
            {
                succeeded++;
                if (descriptor is not null)
                {
                    generator.Learn(descriptor, command, expected[..size]);
                }
            }
        }

        TestContext.Current.TestOutputHelper?.WriteLine(
            $"moved {moved} times, {succeeded} of {Commands} commands succeeded, the largest state was of {largest} bytes");
        Assert.True(moved > 100);
        Assert.True(succeeded > Commands / 8, $"{succeeded}");
    }

    [Fact]
    public void Restore_Clock_StandsMeanwhileAndGoesOn()
    {
        var tpm = new TestTpm { Milliseconds = 1_000_000 };
        tpm.Milliseconds += 123_456;
        byte[] before = tpm.Do(0x181, [], []);
        Assert.True(tpm.Engine.TrySave(out byte[] state));
        uint resets = BinaryPrimitives.ReadUInt32BigEndian(before.AsSpan(16));

        var next = new TestTpm(start: false) { Milliseconds = 5 };
        Assert.Equal(TpmOpenResult.Done, Tpm.TryRestore(new TpmPlatform(next, next, next), state, out Tpm? restored));
        byte[] response = new byte[Tpm.MaxCommandSize];
        int size = restored!.Execute(s_readClock, 0, response);
        Assert.Equal(before, response[10..size]);
        next.Milliseconds += 10;
        size = restored.Execute(s_readClock, 0, response);
        Assert.Equal(BinaryPrimitives.ReadUInt64BigEndian(before) + 10, BinaryPrimitives.ReadUInt64BigEndian(response.AsSpan(10)));
        Assert.Equal(resets, BinaryPrimitives.ReadUInt32BigEndian(response.AsSpan(10 + 16)));

        // After a loss of power at the target the clock goes on behind all that it ever said.
        Assert.Equal(TpmOpenResult.Done, Tpm.TryOpen(new TpmPlatform(next, next, next), out Tpm? opened));
        opened!.Execute(s_startup, 0, response);
        opened.Execute(s_readClock, 0, response);
        Assert.True(BinaryPrimitives.ReadUInt64BigEndian(response.AsSpan(18)) > BinaryPrimitives.ReadUInt64BigEndian(before.AsSpan(8)) + 10);
    }

    [Fact]
    public void Save_UnfinishedCommand_GoesOnAndIsNotInIt()
    {
        var tpm = new HurriedPlatform();
        Assert.Equal(TpmOpenResult.Done, Tpm.TryManufacture(new TpmPlatform(tpm, tpm, null) { CommandMilliseconds = int.MaxValue }, out Tpm? engine));
        byte[] response = new byte[Tpm.MaxCommandSize];
        engine!.Execute(s_startup, 0, response);
        byte[] template = [0, 1, 0, 0x0B, 0, 3, 4, 0x72, 0, 0, 0, 6, 0, 128, 0, 0x43, 0, 0x10, 8, 0, 0, 0, 0, 0, 0, 0];
        byte[] make = TestTpm.Command(0x131, [TestTpm.Null], [0, 4, 0, 0, 0, 0, .. TestTpm.Sized(template), 0, 0, 0, 0, 0, 0], TestTpm.PasswordSession());
        Assert.False(engine.TryExecute(make, 0, response, out _));

        Assert.True(engine.TrySave(out byte[] state));

        int size;
        while (!engine.TryContinue(response, out size))
        {
        }

        Assert.Equal(0u, TestTpm.Code(response));
        Assert.True(size > 10);
        Assert.Equal(TpmOpenResult.Done, Tpm.TryRestore(new TpmPlatform(tpm, tpm, null), state, out Tpm? restored));
        restored!.Execute(TestTpm.Command(0x173, [0x8000_0000], []), 0, response);
        Assert.NotEqual(0u, TestTpm.Code(response));
    }

    [Fact]
    public void Restore_StorageThatFails_IsTold()
    {
        var tpm = new TestTpm();
        Assert.True(tpm.Engine.TrySave(out byte[] state));
        var next = new TestTpm { FailsToWrite = true };

        Assert.Equal(TpmOpenResult.StorageFailed, Tpm.TryRestore(new TpmPlatform(next, next, next), state, out Tpm? restored));
        Assert.Null(restored);
    }

    // Whoever is believed may still have defects: a persistent part that was damaged before its digest was made.
    [Fact]
    public void Restore_PersistentPartWithAnyByteChanged_IsATpmOrRefused()
    {
        TestTpm tpm = Furnished();
        Assert.True(tpm.Engine.TrySave(out byte[] good));
        Assert.Equal(TpmStorageResult.Done, tpm.Read(out byte[] stored));
        int start = good.Length - stored.Length;
        byte[] response = new byte[Tpm.MaxCommandSize];
        int taken = 0;
        for (int i = start; i < good.Length; i++)
        {
            byte[] changed = (byte[])good.Clone();
            changed[i] ^= (byte)(1 << (i % 8));
            SHA256.HashData(changed.AsSpan(start)).CopyTo(changed, 8);
            var next = new TestTpm.Memory();
            TpmOpenResult result = Tpm.TryRestore(new TpmPlatform(tpm, tpm, next), changed, out Tpm? restored);
            Assert.True(result is TpmOpenResult.Done or TpmOpenResult.StateInvalid, $"{i}: {result}");
            if (restored is not null)
            {
                taken++;
                foreach (byte[] command in (byte[][])[s_readIndex, s_readPcr, s_quote, s_startup])
                {
                    Assert.InRange(restored.Execute(command, 0, response), 10, response.Length);
                }

                restored.PowerOn();
                restored.Execute(s_startup, 0, response);
            }
        }

        TestContext.Current.TestOutputHelper?.WriteLine($"{taken} of {good.Length - start} were taken");
    }

    [Fact]
    public void Module_State_GoesToAnotherModule()
    {
        var there = new TestStore();
        var here = new TestStore();
        using var source = new ModuleTest(new VtpmModule(), peers: there);
        Do(source, s_startup);
        Do(source, s_extendPcr);
        Do(source, s_makeKey);
        Do(source, s_defineIndex);
        Do(source, s_writeIndex);
        byte[] policy = TestTpm.Command(0x176, [TestTpm.Null, TestTpm.Null], [.. TestTpm.Sized(new byte[16]), 0, 0, 1, 0, 0x10, 0, 0x0B]);
        uint session = BinaryPrimitives.ReadUInt32BigEndian(Do(source, policy).AsSpan(10));
        Do(source, TestTpm.Command(0x16C, [session], TestTpm.U32(0x14E)));
        byte[] digest = Do(source, TestTpm.Command(0x189, [session], []));
        byte[] clock = Do(source, s_readClock);
        byte[] quote = Do(source, s_quote);
        byte[]? manifest = source.GetManifest(0);

        Assert.Equal(1u, source.GetStateVersion());
        ModuleState state = Assert.NotNull(source.Save());
        using (var target = new ModuleTest(new VtpmModule(), peers: here))
        {
            Assert.NotEqual(manifest, target.GetManifest(0));
            Assert.True(target.Restore(state));
            Assert.True(source.Leave());

            Assert.Equal(manifest, target.GetManifest(0));
            byte[] later = Do(target, s_readClock);
            Assert.True(BinaryPrimitives.ReadUInt64BigEndian(later.AsSpan(18)) >= BinaryPrimitives.ReadUInt64BigEndian(clock.AsSpan(18)));
            Assert.Equal(clock[26..], later[26..]);
            Assert.Equal(Do(source, s_readPcr), Do(target, s_readPcr));
            Assert.Equal(digest, Do(target, TestTpm.Command(0x189, [session], [])));
            Assert.Equal([1, 2, 3, 4, 5, 6, 7, 8], Do(target, s_readIndex)[16..24]);

            // The key's Name, and what it signs: all but the clock.
            byte[] same = Do(target, s_quote);
            Assert.Equal(quote[14..(14 + 2 + 4 + 2 + 2 + 34 + 2 + 3)], same[14..(14 + 2 + 4 + 2 + 2 + 34 + 2 + 3)]);
        }

        // It is stored as well, in the place of the one that the target had made.
        using var again = new ModuleTest(new VtpmModule(), peers: here);
        Do(again, s_startup);
        Assert.Equal([1, 2, 3, 4, 5, 6, 7, 8], Do(again, s_readIndex)[16..24]);
        Assert.Equal(manifest, again.GetManifest(0));

        // And the source would go on, if the guest stayed after all.
        Assert.Equal([1, 2, 3, 4, 5, 6, 7, 8], Do(source, s_readIndex)[16..24]);
        Do(source, s_quote);
        Assert.NotNull(source.Save());
    }

    [Fact]
    public void Module_State_GoesWhereItIsStoredIfItWasStored()
    {
        using var stored = new ModuleTest(new VtpmModule(), peers: new TestStore());
        using var ephemeral = new ModuleTest(new VtpmModule());
        ModuleState state = Assert.NotNull(stored.Save());
        using var refusing = new ModuleTest(new VtpmModule());
        Assert.False(refusing.Restore(state));
        Assert.Contains(refusing.Log, line => line.Line.Contains("no store", StringComparison.Ordinal));

        using var taking = new ModuleTest(new VtpmModule(), peers: new TestStore());
        Assert.True(taking.Restore(Assert.NotNull(ephemeral.Save())));
        using var another = new ModuleTest(new VtpmModule());
        Assert.True(another.Restore(Assert.NotNull(ephemeral.Save())));
    }

    [Fact]
    public void Module_StoreThatFails_TakesNoState()
    {
        using var source = new ModuleTest(new VtpmModule(), peers: new TestStore());
        var store = new TestStore();
        using var target = new ModuleTest(new VtpmModule(), peers: store);
        store.Failure = StoreStatus.DeviceFailed;

        Assert.False(target.Restore(Assert.NotNull(source.Save())));
    }

    [Fact]
    public void Module_InFailureMode_DoesNotMove()
    {
        var store = new TestStore();
        using var source = new ModuleTest(new VtpmModule(), peers: store);
        Do(source, s_startup);
        store.Failure = StoreStatus.DeviceFailed;
        Assert.Equal(0x101u, TestTpm.Code(Send(source, s_defineIndex)));

        Assert.Equal(0u, source.GetStateVersion());
        Assert.Null(source.Save());

        store.Failure = StoreStatus.Done;
        source.Reset();
        Assert.Equal(1u, source.GetStateVersion());
        Assert.NotNull(source.Save());
    }

    [Fact]
    public void Module_StateThatIsNone_IsRefused()
    {
        using var source = new ModuleTest(new VtpmModule());
        Do(source, s_startup);
        Do(source, s_makeKey);
        byte[] good = Assert.NotNull(source.Save()).Bytes.ToArray();
        Assert.False(Restores(good, 2));
        Assert.False(Restores(good, 0));
        Assert.False(Restores([.. good, 0]));
        Assert.False(Restores([.. good[..4], .. new byte[ModuleMessage.MaxState - 4]]));
        Assert.False(Restores([2, 0, 0, 0, .. good[4..]]));
        Assert.False(Restores([0, 0, 0, 1, .. good[4..]]));
        Assert.True(Restores(good));

        // A module for each of them, which makes a TPM: of the truncations and changes a part. SuspendTests has all of them.
        for (int i = 0; i < good.Length; i += 97)
        {
            Assert.False(Restores(good[..i]));
            byte[] changed = (byte[])good.Clone();
            changed[i] ^= 0x81;
            Restores(changed);
        }

        static bool Restores(byte[] state, uint version = 1)
        {
            using var target = new ModuleTest(new VtpmModule());
            return target.Restore(new(version, state));
        }
    }

    [Fact]
    public void Save_FullTpm_IsFarFromTheLimit()
    {
        TestTpm tpm = Furnished();
        for (int i = 0; i < 64; i++)
        {
            // Indices of 2048 bytes until there is no room, sessions and sequences until there is none for them.
            tpm.Try(0x12A, [TestTpm.Owner], [0, 0, .. TestTpm.Sized([1, 0x80, 1, (byte)i, 0, 0x0B, 0x02, 0x06, 0, 0x06, 0, 0, 8, 0])], TestTpm.PasswordSession());
            tpm.Try(0x137, [TestTpm.Owner, 0x0180_0100 + (uint)i], [.. TestTpm.Sized(new byte[1024]), 0, 0], TestTpm.PasswordSession());
            tpm.Try(0x176, [TestTpm.Null, TestTpm.Null], [.. TestTpm.Sized(new byte[16]), 0, 0, 1, 0, 0x10, 0, 0x0B]);
            tpm.Try(0x186, [], [0, 0, 0, 0x0B]);
        }

        Assert.True(tpm.Engine.TrySave(out byte[] state));
        TestContext.Current.TestOutputHelper?.WriteLine($"{state.Length} bytes");
        Assert.InRange(state.Length, 20_000, ModuleMessage.MaxState / 4);
        Assert.Equal(TpmOpenResult.Done, Tpm.TryRestore(new TpmPlatform(tpm, tpm, null), state, out _));

        using var fresh = new ModuleTest(new VtpmModule());
        Do(fresh, s_startup);
        TestContext.Current.TestOutputHelper?.WriteLine($"a new one: {Assert.NotNull(fresh.Save()).Bytes.Length} bytes");
    }

    // Keys, indices, a session, a sequence; with something stored of each kind.
    private static TestTpm Furnished()
    {
        var tpm = new TestTpm();
        foreach (byte[] command in (byte[][])[s_makeKey, s_defineIndex, s_writeIndex, s_extendPcr])
        {
            Assert.Equal(0u, TestTpm.Code(tpm.Send(command)));
        }

        // TPM2_EvictControl.
        tpm.Do(0x120, [TestTpm.Owner, 0x8000_0000], TestTpm.U32(0x8100_0001), TestTpm.PasswordSession());
        return tpm;
    }

    // The random numbers of both are the same from here on.
    private static void CopyRandom(Tpm from, Tpm to)
    {
        foreach (string name in (string[])["_key", "_counter"])
        {
            FieldInfo field = typeof(CounterDrbg).GetField(name, BindingFlags.Instance | BindingFlags.NonPublic)!;
            ((byte[])field.GetValue(from.Random)!).CopyTo((byte[])field.GetValue(to.Random)!, 0);
        }
    }

    private static byte[] Do(ModuleTest test, byte[] command)
    {
        byte[] response = Send(test, command);
        Assert.Equal(0u, TestTpm.Code(response));
        return response;
    }

    private static byte[] Send(ModuleTest test, byte[] command)
    {
        byte[] request = new byte[9 + command.Length];
        BinaryPrimitives.WriteUInt32LittleEndian(request, 8);
        BinaryPrimitives.WriteUInt32LittleEndian(request.AsSpan(5), (uint)command.Length);
        command.CopyTo(request, 9);
        test.Memory.GuestWrite(new(Address), request);
        Assert.Equal(SvsmResultCode.Success, test.Call(1, Address).Code);
        int size = (int)BinaryPrimitives.ReadUInt32LittleEndian(test.Memory.GuestRead(new(Address), 4));
        return test.Memory.GuestRead(new(Address + 4), size);
    }
}
