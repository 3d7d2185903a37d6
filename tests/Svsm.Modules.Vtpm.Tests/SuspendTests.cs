// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using System.Security.Cryptography;
using Xunit;

namespace Svsm.Modules.Vtpm.Tests;

// The volatile blob. That the guest notices nothing: RecordedExchangeTests, which suspends the TPM before every command.
public sealed class SuspendTests
{
    [Fact]
    public void Resume_SessionsObjectsAndTime_GoOn()
    {
        var tpm = new TestTpm();
        uint session = BinaryPrimitives.ReadUInt32BigEndian(tpm.Do(0x176, [TestTpm.Null, TestTpm.Null], [.. TestTpm.Sized(new byte[16]), 0, 0, 1, 0, 0x10, 0, 0x0B]));
        tpm.Do(0x16C, [session], TestTpm.U32(0x14E));
        byte[] policy = tpm.Do(0x189, [session], []);
        tpm.Do(0x186, [], [0, 0, 0, 0x0B]);
        tpm.Do(0x15C, [0x8000_0000], TestTpm.Sized(1, 2), TestTpm.PasswordSession());
        tpm.Do(0x182, [23], [0, 0, 0, 1, 0, 0x0B, .. new byte[32]], TestTpm.PasswordSession());
        byte[] pcr = tpm.Do(0x17E, [], [0, 0, 0, 1, 0, 0x0B, 3, 0, 0, 0x80]);
        tpm.Milliseconds += 5_000;
        byte[] time = tpm.Do(0x181, [], []);

        // The next host's clock began at another moment; it does not matter how long it took.
        Assert.True(tpm.Engine.TrySuspend(out byte[] state));
        tpm.Milliseconds = 77;
        Assert.Equal(TpmOpenResult.Done, Tpm.TryResume(new TpmPlatform(tpm, tpm, tpm), state, out Tpm? resumed));
        var client = new Client(resumed!);
        Assert.Equal(time, client.Do(TestTpm.Command(0x181, [], [])));
        Assert.Equal(policy, client.Do(TestTpm.Command(0x189, [session], [])));
        Assert.Equal(pcr, client.Do(TestTpm.Command(0x17E, [], [0, 0, 0, 1, 0, 0x0B, 3, 0, 0, 0x80])));
        byte[] hash = client.Do(TestTpm.Command(0x13E, [0x8000_0000], [.. TestTpm.Sized(3), .. TestTpm.U32(TestTpm.Null)], TestTpm.PasswordSession()));
        Assert.Equal(SHA256.HashData([1, 2, 3]), hash[6..38]);
    }

    [Fact]
    public void Resume_BeforeStartupAndWhileMeasuring_KeepsTheMeasurement()
    {
        var plain = new TestTpm(start: false);
        var moved = new TestTpm(start: false);
        foreach (TestTpm tpm in (TestTpm[])[plain, moved])
        {
            Step(tpm, t => t.Engine.HashStart());
            Step(tpm, t => t.Engine.HashData([1, 2, 3]));
            Step(tpm, t => t.Engine.HashData([4]));
            Step(tpm, t => t.Engine.HashEnd());
            tpm.Startup(0);
        }

        byte[] read = [0, 0, 0, 1, 0, 0x0B, 3, 1, 0, 0];
        Assert.Equal(plain.Do(0x17E, [], read), moved.Do(0x17E, [], read));

        void Step(TestTpm tpm, Action<TestTpm> act)
        {
            if (tpm == moved)
            {
                tpm.SuspendAndResume();
            }

            act(tpm);
        }
    }

    [Fact]
    public void Resume_StorageChangedSince_IsRefused()
    {
        var tpm = new TestTpm();
        Assert.True(tpm.Engine.TrySuspend(out byte[] old));
        Assert.Equal(TpmOpenResult.Done, Tpm.TryResume(new TpmPlatform(tpm, tpm, tpm), old, out Tpm? resumed));
        new Client(resumed!).Do(TestTpm.Command(0x129, [TestTpm.Owner], TestTpm.Sized(1), TestTpm.PasswordSession()));
        Assert.Equal(TpmOpenResult.StateInvalid, Tpm.TryResume(new TpmPlatform(tpm, tpm, tpm), old, out _));
        tpm.Stored = null;
        Assert.Equal(TpmOpenResult.NotManufactured, Tpm.TryResume(new TpmPlatform(tpm, tpm, tpm), old, out _));
    }

    [Fact]
    public void Suspend_WithoutStorage_HasTheSeedsToo()
    {
        var host = new TestTpm();
        Assert.Equal(TpmOpenResult.Done, Tpm.TryManufacture(new TpmPlatform(host, host, null), out Tpm? tpm));
        var client = new Client(tpm!);
        client.Do(TestTpm.Command(0x144, [], [0, 0]));
        byte[] first = client.Primary();
        Assert.True(tpm!.TrySuspend(out byte[] state));
        Assert.Equal(TpmOpenResult.Done, Tpm.TryResume(new TpmPlatform(host, host, null), state, out Tpm? resumed));
        Assert.Equal(first, new Client(resumed!).Primary());

        // Not for a TPM that has its seeds elsewhere.
        Assert.Equal(TpmOpenResult.StateInvalid, Tpm.TryResume(new TpmPlatform(host, host, host), state, out _));
    }

    [Fact]
    public void Suspend_Done_EndsTheObject()
    {
        var tpm = new TestTpm();
        Assert.True(tpm.Engine.TrySuspend(out _));
        Assert.Equal(0x101u, tpm.Try(0x17B, [], TestTpm.U16(8)));
        Assert.False(tpm.Engine.TrySuspend(out byte[] none));
        Assert.Empty(none);
    }

    [Fact]
    public void Suspend_StorageFails_IsFailureMode()
    {
        var tpm = new TestTpm { FailsToWrite = true };
        Assert.False(tpm.Engine.TrySuspend(out byte[] none));
        Assert.Empty(none);
        Assert.True(tpm.Engine.IsFailed);
    }

    [Fact]
    public void Resume_EveryPrefixAndByteChanged_IsAStateOrInvalid()
    {
        var tpm = new TestTpm();
        tpm.Do(0x176, [TestTpm.Null, TestTpm.Null], [.. TestTpm.Sized(new byte[16]), 0, 0, 1, 0, 0x10, 0, 0x0B]);
        tpm.Do(0x186, [], [0, 0, 0, 0x0B]);
        tpm.Do(
            0x131,
            [TestTpm.Owner],
            [.. TestTpm.Sized(0, 0, 0, 0), .. TestTpm.Sized([0, 8, 0, 0x0B, 0, 4, 0, 0x72, 0, 0, 0, 5, 0, 0x0B, 0, 0]), 0, 0, 0, 0, 0, 0],
            TestTpm.PasswordSession());
        Assert.True(tpm.Engine.TrySuspend(out byte[] good));
        var platform = new TpmPlatform(tpm, tpm, tpm);
        byte[] stored = tpm.Stored!;
        for (int i = 0; i < good.Length; i++)
        {
            Assert.Equal(TpmOpenResult.StateInvalid, Tpm.TryResume(platform, good.AsMemory(0, i), out _));
            byte[] changed = (byte[])good.Clone();
            changed[i] ^= 0xFF;

            // A changed PCR is a state too: finding that is the task of whoever keeps the blob. Here nothing may break.
            Assert.True(Tpm.TryResume(platform, changed, out Tpm? resumed) is TpmOpenResult.Done or TpmOpenResult.StateInvalid);
            if (resumed is not null)
            {
                resumed.Execute(TestTpm.Command(0x17A, [], [.. TestTpm.U32(1), .. TestTpm.U32(0x8000_0000), .. TestTpm.U32(9)]), 0, new byte[Tpm.MaxCommandSize]);
                tpm.Stored = stored;
            }
        }

        Assert.Equal(TpmOpenResult.StateInvalid, Tpm.TryResume(platform, (byte[])[.. good, 0], out _));
        Assert.Equal(TpmOpenResult.Done, Tpm.TryResume(platform, good, out _));
    }

    private sealed class Client(Tpm tpm)
    {
        private readonly byte[] _response = new byte[Tpm.MaxCommandSize];

        internal byte[] Do(byte[] command)
        {
            int size = tpm.Execute(command, 0, _response);
            Assert.Equal(0u, TestTpm.Code(_response));
            return _response[10..size];
        }

        internal byte[] Primary()
        {
            byte[] answer = Do(TestTpm.Command(
                0x131,
                [TestTpm.Owner],
                [.. TestTpm.Sized(0, 0, 0, 0), .. TestTpm.Sized([0, 8, 0, 0x0B, 0, 4, 0, 0x72, 0, 0, 0, 5, 0, 0x0B, 0, 0]), 0, 0, 0, 0, 0, 0],
                TestTpm.PasswordSession()));
            Do(TestTpm.Command(0x165, [], answer[..4]));
            return answer[8..];
        }
    }
}
