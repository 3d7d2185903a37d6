// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Linq;
using Xunit;

namespace Svsm.Modules.Vtpm.Tests;

public sealed class StateTests
{
    private const uint PcrRead = 0x17E;
    private const uint Shutdown = 0x145;

    // A verifier sees it in the firmware version that an attestation has.
    [Theory]
    [InlineData(true, 1u)]
    [InlineData(false, 0u)]
    public void Attestation_WithoutStorage_SaysThatItIsEphemeral(bool isEphemeral, uint version)
    {
        var host = new TestTpm();
        Assert.Equal(TpmOpenResult.Done, Tpm.TryManufacture(new TpmPlatform(host, host, isEphemeral ? null : new TestTpm.Memory()), out Tpm? tpm));
        byte[] response = new byte[Tpm.MaxCommandSize];
        tpm!.Execute(TestTpm.Command(0x144, [], [0, 0]), 0, response);

        // TPM2_GetTime with a key of the endorsement hierarchy, which hides nothing.
        byte[] template = [0, 0x23, 0, 0x0B, .. TestTpm.U32(0x5_0072), 0, 0, 0, 0x10, 0, 0x18, 0, 0x0B, 0, 3, 0, 0x10, 0, 0, 0, 0];
        tpm.Execute(
            TestTpm.Command(0x131, [TestTpm.Endorsement], [0, 4, 0, 0, 0, 0, .. TestTpm.Sized(template), 0, 0, 0, 0, 0, 0], TestTpm.PasswordSession()), 0, response);
        Assert.Equal(0u, TestTpm.Code(response));
        tpm.Execute(
            TestTpm.Command(0x14C, [TestTpm.Endorsement, 0x8000_0000], [0, 0, 0, 0x10], [.. TestTpm.PasswordSession(), .. TestTpm.PasswordSession()]), 0, response);
        Assert.Equal(0u, TestTpm.Code(response));
        int place = 16 + 6;
        place += 2 + System.Buffers.Binary.BinaryPrimitives.ReadUInt16BigEndian(response.AsSpan(place));
        place += 2 + System.Buffers.Binary.BinaryPrimitives.ReadUInt16BigEndian(response.AsSpan(place)) + 17;
        Assert.Equal([.. TestTpm.U32(1), .. TestTpm.U32(version)], response[place..(place + 8)]);
    }

    [Fact]
    public void TryManufacture_StorageHasTpm_Refuses()
    {
        var tpm = new TestTpm();
        Assert.Equal(TpmOpenResult.AlreadyManufactured, Tpm.TryManufacture(new TpmPlatform(tpm, tpm, tpm), out Tpm? second));
        Assert.Null(second);
    }

    [Fact]
    public void TryOpen_NothingStored_MakesNoSeeds()
    {
        var tpm = new TestTpm { Stored = null };
        Assert.Equal(TpmOpenResult.NotManufactured, Tpm.TryOpen(new TpmPlatform(tpm, tpm, tpm), out _));
        Assert.Null(tpm.Stored);
    }

    [Fact]
    public void TryOpen_AnyCutOrLongerState_IsInvalid()
    {
        var tpm = new TestTpm();
        byte[] stored = tpm.Stored!;
        for (int size = 0; size < stored.Length; size++)
        {
            tpm.Stored = stored[..size];
            Assert.Equal(TpmOpenResult.StateInvalid, Tpm.TryOpen(new TpmPlatform(tpm, tpm, tpm), out _));
        }

        tpm.Stored = [.. stored, 0];
        Assert.Equal(TpmOpenResult.StateInvalid, Tpm.TryOpen(new TpmPlatform(tpm, tpm, tpm), out _));
    }

    [Fact]
    public void TryOpen_OtherVersion_IsInvalid()
    {
        var tpm = new TestTpm();
        tpm.Stored![5]++;
        Assert.Equal(TpmOpenResult.StateInvalid, Tpm.TryOpen(new TpmPlatform(tpm, tpm, tpm), out _));
    }

    [Fact]
    public void Execute_StorageFails_GoesIntoFailureMode()
    {
        var tpm = new TestTpm { FailsToWrite = true };
        Assert.Equal(0x101u, tpm.Try(0x129, [TestTpm.Owner], TestTpm.Sized(1), TestTpm.PasswordSession()));
        Assert.True(tpm.Engine.IsFailed);
        Assert.Equal(0x101u, tpm.Try(0x17B, [], TestTpm.U16(4)));

        // TPM2_GetTestResult and TPM2_GetCapability are served, with no sessions.
        byte[] result = tpm.Do(0x17C, [], []);
        Assert.Equal(0x101u, (uint)((result[^2] << 8) | result[^1]));
        Assert.Equal(0x322E_3000u, tpm.Property(0x100));

        // What was not committed is not there after power-on.
        tpm.FailsToWrite = false;
        tpm.Engine.PowerOn();
        tpm.Startup(0);
        Assert.Equal(0u, tpm.Try(0x129, [TestTpm.Owner], TestTpm.Sized(), TestTpm.PasswordSession()));
    }

    [Fact]
    public void Resume_AfterShutdownState_KeepsPcrsAndPlatformAuth()
    {
        var tpm = new TestTpm();
        tpm.Do(0x182, [3], [.. TestTpm.U32(1), .. TestTpm.U16(0xB), .. new byte[32]], TestTpm.PasswordSession());
        tpm.Do(0x129, [TestTpm.Platform], TestTpm.Sized(7), TestTpm.PasswordSession());
        byte[] before = Pcr(tpm, 3);
        tpm.Do(Shutdown, [], TestTpm.U16(1));
        tpm.PowerCycle();
        tpm.Startup(1);
        Assert.Equal(before, Pcr(tpm, 3));
        Assert.Equal(0x9A2u, tpm.Try(0x127, [TestTpm.Platform], [1], TestTpm.PasswordSession()));
        Assert.Equal(0u, tpm.Try(0x127, [TestTpm.Platform], [1], TestTpm.PasswordSession(7)));
    }

    [Fact]
    public void Restart_AfterShutdownState_ClearsPcrsAndPlatformAuth()
    {
        var tpm = new TestTpm();
        tpm.Do(0x182, [3], [.. TestTpm.U32(1), .. TestTpm.U16(0xB), .. new byte[32]], TestTpm.PasswordSession());
        tpm.Do(0x129, [TestTpm.Platform], TestTpm.Sized(7), TestTpm.PasswordSession());
        tpm.Do(Shutdown, [], TestTpm.U16(1));
        tpm.PowerCycle();
        tpm.Startup(0);
        Assert.All(Pcr(tpm, 3), value => Assert.Equal(0, value));
        Assert.Equal(0u, tpm.Try(0x127, [TestTpm.Platform], [1], TestTpm.PasswordSession()));
        Assert.Equal((1u, 1u), Counters(tpm));
    }

    [Fact]
    public void Startup_AfterShutdownClear_CountsReset()
    {
        var tpm = new TestTpm();
        tpm.Do(Shutdown, [], TestTpm.U16(0));
        tpm.PowerCycle();
        Assert.Equal(0x1C4u, tpm.Try(0x144, [], TestTpm.U16(1)));
        tpm.Startup(0);
        Assert.Equal((2u, 0u), Counters(tpm));
        Assert.NotEqual(0u, tpm.Property(0x201) & (1u << 31));
    }

    [Fact]
    public void Startup_CommandAfterShutdown_IsNotOrderly()
    {
        var tpm = new TestTpm();
        tpm.Do(Shutdown, [], TestTpm.U16(1));
        tpm.Do(0x17B, [], TestTpm.U16(1));
        tpm.PowerCycle();
        Assert.Equal(0x1C4u, tpm.Try(0x144, [], TestTpm.U16(1)));
        tpm.Startup(0);
        Assert.Equal(0u, tpm.Property(0x201) & (1u << 31));
    }

    [Fact]
    public void Startup_OtherLocality_IsRefused()
    {
        var tpm = new TestTpm(start: false) { Locality = 1 };
        Assert.Equal(0x907u, tpm.Try(0x144, [], TestTpm.U16(0)));
        tpm.Locality = 3;
        tpm.Startup(0);
        Assert.Equal(3, Pcr(tpm, 0)[^1]);
    }

    [Fact]
    public void Clock_PowerLost_NeverGoesBackAndIsNotSafe()
    {
        var tpm = new TestTpm { Milliseconds = 10_000 };
        ulong before = Clock(tpm, out bool safe);
        Assert.True(safe);
        Assert.Equal(10_000ul, before);
        tpm.PowerCycle();
        tpm.Startup(0);
        ulong after = Clock(tpm, out safe);
        Assert.True(after >= before);
        Assert.False(safe);
        tpm.Milliseconds += 5000;
        Clock(tpm, out safe);
        Assert.True(safe);
    }

    [Fact]
    public void DictionaryAttack_LockoutAuthFails_RecoversWithTime()
    {
        var tpm = new TestTpm();
        Assert.Equal(0x98Eu, tpm.Try(0x139, [TestTpm.Lockout], [], TestTpm.PasswordSession(1)));
        Assert.Equal(0x921u, tpm.Try(0x139, [TestTpm.Lockout], [], TestTpm.PasswordSession()));

        // The lock survives a restart.
        tpm.PowerCycle();
        tpm.Startup(0);
        Assert.Equal(0x921u, tpm.Try(0x139, [TestTpm.Lockout], [], TestTpm.PasswordSession()));
        tpm.Milliseconds += 999_999;
        Assert.Equal(0x921u, tpm.Try(0x139, [TestTpm.Lockout], [], TestTpm.PasswordSession()));
        tpm.Milliseconds += 1;
        Assert.Equal(0u, tpm.Try(0x139, [TestTpm.Lockout], [], TestTpm.PasswordSession()));
    }

    [Fact]
    public void DictionaryAttack_RecoveryZero_NeedsRestart()
    {
        var tpm = new TestTpm();
        tpm.Do(0x13A, [TestTpm.Lockout], [.. TestTpm.U32(3), .. TestTpm.U32(10), .. TestTpm.U32(0)], TestTpm.PasswordSession());
        Assert.Equal(0x98Eu, tpm.Try(0x139, [TestTpm.Lockout], [], TestTpm.PasswordSession(1)));
        tpm.Milliseconds += 100_000_000;
        Assert.Equal(0x921u, tpm.Try(0x139, [TestTpm.Lockout], [], TestTpm.PasswordSession()));
        tpm.PowerCycle();
        tpm.Startup(0);
        Assert.Equal(0u, tpm.Try(0x139, [TestTpm.Lockout], [], TestTpm.PasswordSession()));
    }

    [Fact]
    public void PcrAllocate_NextReset_ChangesBanks()
    {
        var tpm = new TestTpm();
        tpm.Do(0x12B, [TestTpm.Platform], [.. TestTpm.U32(1), .. TestTpm.U16(4), 3, 0, 0, 0], TestTpm.PasswordSession());
        Assert.Equal(20, Pcr(tpm, 0, 4).Length);
        tpm.PowerCycle();
        tpm.Startup(0);
        Assert.Empty(Pcr(tpm, 0, 4));
        Assert.Equal(32, Pcr(tpm, 0).Length);

        // A digest for a bank that is not there changes nothing.
        tpm.Do(0x182, [0], [.. TestTpm.U32(1), .. TestTpm.U16(4), .. new byte[20]], TestTpm.PasswordSession());
    }

    [Fact]
    public void Execute_TwoTpms_ShareNothing()
    {
        var first = new TestTpm();
        var second = new TestTpm();
        first.Do(0x129, [TestTpm.Owner], TestTpm.Sized(5), TestTpm.PasswordSession());
        Assert.Equal(0u, second.Try(0x129, [TestTpm.Owner], TestTpm.Sized(), TestTpm.PasswordSession()));
        Assert.Equal(0x9A2u, first.Try(0x129, [TestTpm.Owner], TestTpm.Sized(), TestTpm.PasswordSession()));
    }

    [Fact]
    public void Execute_SecretInCommand_IsNotKept()
    {
        var tpm = new TestTpm();
        byte[] secret = [.. Enumerable.Range(1, 20).Select(i => (byte)(i * 11))];
        tpm.Do(0x129, [TestTpm.Owner], TestTpm.Sized(secret), TestTpm.PasswordSession());
        object buffer = typeof(Tpm).GetField("_command", System.Reflection.BindingFlags.NonPublic | System.Reflection.BindingFlags.Instance)!.GetValue(tpm.Engine)!;
        Assert.All((byte[])buffer, value => Assert.Equal(0, value));
    }

    [Fact]
    public void Clear_NewProofs_OldTicketsEnd()
    {
        var tpm = new TestTpm();
        byte[] hash = [.. TestTpm.Sized(1, 2, 3), .. TestTpm.U16(0xB), .. TestTpm.U32(TestTpm.Owner)];
        byte[] before = tpm.Do(0x17D, [], hash);
        Assert.Equal(before, tpm.Do(0x17D, [], hash));
        tpm.Do(0x126, [TestTpm.Platform], [], TestTpm.PasswordSession());
        Assert.NotEqual(before, tpm.Do(0x17D, [], hash));
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(4)]
    public void SequenceComplete_AttestationMagicInPieces_GivesNoTicket(int cut)
    {
        var tpm = new TestTpm();
        byte[] data = [0xFF, 0x54, 0x43, 0x47, 1];
        byte[] handle = tpm.Do(0x186, [], [.. TestTpm.Sized(), .. TestTpm.U16(0xB)]);
        Assert.Equal(0x8000_0000u, System.Buffers.Binary.BinaryPrimitives.ReadUInt32BigEndian(handle));
        tpm.Do(0x15C, [0x8000_0000], TestTpm.Sized(data[..cut]), TestTpm.PasswordSession());
        byte[] result = tpm.Do(0x13E, [0x8000_0000], [.. TestTpm.Sized(data[cut..]), .. TestTpm.U32(TestTpm.Owner)], TestTpm.PasswordSession());
        byte[] emptyTicket = [.. TestTpm.U16(0x8024), .. TestTpm.U32(TestTpm.Null), 0, 0];
        Assert.Equal(emptyTicket, result[34..42]);
    }

    private static byte[] Pcr(TestTpm tpm, int pcr, int hash = 0xB)
    {
        byte[] map = new byte[3];
        map[pcr / 8] = (byte)(1 << (pcr % 8));
        byte[] answer = tpm.Do(PcrRead, [], [.. TestTpm.U32(1), .. TestTpm.U16(hash), 3, .. map]);
        return answer.Length > 18 ? answer[20..] : [];
    }

    private static ulong Clock(TestTpm tpm, out bool safe)
    {
        byte[] answer = tpm.Do(0x181, [], []);
        safe = answer[^1] == 1;
        return System.Buffers.Binary.BinaryPrimitives.ReadUInt64BigEndian(answer.AsSpan(8));
    }

    private static (uint Reset, uint Restart) Counters(TestTpm tpm)
    {
        byte[] answer = tpm.Do(0x181, [], []);
        return (System.Buffers.Binary.BinaryPrimitives.ReadUInt32BigEndian(answer.AsSpan(16)), System.Buffers.Binary.BinaryPrimitives.ReadUInt32BigEndian(answer.AsSpan(20)));
    }
}
