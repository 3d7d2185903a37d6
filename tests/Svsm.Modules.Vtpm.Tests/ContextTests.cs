// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using System.Security.Cryptography;
using Xunit;

namespace Svsm.Modules.Vtpm.Tests;

// Saved contexts and persistent objects.
public sealed class ContextTests
{
    private const uint EvictControl = 0x120;
    private const uint CreatePrimary = 0x131;
    private const uint Hmac = 0x155;
    private const uint SequenceUpdate = 0x15C;
    private const uint SequenceComplete = 0x13E;
    private const uint ContextLoad = 0x161;
    private const uint ContextSave = 0x162;
    private const uint FlushContext = 0x165;
    private const uint StartAuthSession = 0x176;
    private const uint HashSequenceStart = 0x186;

    // TPM2_LoadExternal takes objects without a name algorithm.
    [Fact]
    public void Object_WithoutNameAlgorithm_IsSavedAndLoaded()
    {
        var tpm = new TestTpm();
        byte[] area = [0, 8, 0, 0x10, .. TestTpm.U32(0x4_0040), 0, 0, 0, 5, 0, 0x0B, 0, 0];
        byte[] sensitive = [0, 8, 0, 0, 0, 0, .. TestTpm.Sized(1, 2, 3)];
        tpm.Do(0x167, [], [.. TestTpm.Sized(sensitive), .. TestTpm.Sized(area), .. TestTpm.U32(TestTpm.Null)]);
        byte[] context = tpm.Do(0x162, [0x8000_0000], []);
        Assert.Equal(TestTpm.U32(0x8000_0001), tpm.Do(0x161, [], context));
        tpm.SuspendAndResume();
        byte[] mac = tpm.Do(0x155, [0x8000_0001], [.. TestTpm.Sized(9), 0, 0x0B], TestTpm.PasswordSession());
        Assert.Equal(System.Security.Cryptography.HMACSHA256.HashData([1, 2, 3], [9]), mac[2..34]);
    }

    [Fact]
    public void Object_SavedAndLoadedTwice_IsTheSame()
    {
        var tpm = new TestTpm();
        uint key = CreateKey(tpm, TestTpm.Owner);
        byte[] expected = Mac(tpm, key);
        byte[] context = tpm.Do(ContextSave, [key], []);
        Assert.Equal(expected, Mac(tpm, Load(tpm, context)));
        Assert.Equal(expected, Mac(tpm, Load(tpm, context)));
        Assert.Equal(0x902u, tpm.Try(ContextLoad, [], context));
    }

    [Theory]
    [InlineData(0)]
    [InlineData(8)]
    [InlineData(11)]
    [InlineData(12)]
    [InlineData(16)]
    [InlineData(18)]
    [InlineData(20)]
    [InlineData(90)]
    [InlineData(-1)]
    public void Object_AnyByteChanged_IsRefused(int offset)
    {
        var tpm = new TestTpm();
        byte[] context = tpm.Do(ContextSave, [CreateKey(tpm, TestTpm.Owner)], []);
        context[offset < 0 ? ^1 : offset] ^= 1;
        Assert.NotEqual(0u, tpm.Try(ContextLoad, [], context));
        Assert.False(tpm.Engine.IsFailed);
    }

    [Fact]
    public void Object_HierarchyOfContextChanged_FailsIntegrity()
    {
        var tpm = new TestTpm();
        byte[] context = tpm.Do(ContextSave, [CreateKey(tpm, TestTpm.Owner)], []);
        TestTpm.U32(TestTpm.Platform).CopyTo(context, 12);
        Assert.Equal(0x1DFu, tpm.Try(ContextLoad, [], context));
    }

    [Fact]
    public void Object_HierarchyDisabledOrCleared_IsRefused()
    {
        var tpm = new TestTpm();
        byte[] context = tpm.Do(ContextSave, [CreateKey(tpm, TestTpm.Owner)], []);
        tpm.Do(0x121, [TestTpm.Platform], [.. TestTpm.U32(TestTpm.Owner), 0], TestTpm.PasswordSession());
        Assert.Equal(0x1C5u, tpm.Try(ContextLoad, [], context));
        tpm.Do(0x121, [TestTpm.Platform], [.. TestTpm.U32(TestTpm.Owner), 1], TestTpm.PasswordSession());
        Load(tpm, context);
        tpm.Do(0x126, [TestTpm.Platform], [], TestTpm.PasswordSession());
        Assert.Equal(0x1DFu, tpm.Try(ContextLoad, [], context));
    }

    [Theory]
    [InlineData(0, false, true)]
    [InlineData(1, true, true)]
    [InlineData(2, true, false)]
    public void Object_AcrossStartups_LivesUntilReset(int shutdown, bool ordinary, bool stClear)
    {
        // 0: Shutdown(CLEAR), Startup(CLEAR): Reset. 1: Shutdown(STATE), Startup(STATE): Resume. 2: Shutdown(STATE), Startup(CLEAR): Restart.
        var tpm = new TestTpm();
        byte[] kept = tpm.Do(ContextSave, [CreateKey(tpm, TestTpm.Owner)], []);
        byte[] cleared = tpm.Do(ContextSave, [CreateKey(tpm, TestTpm.Owner, stClear: true)], []);
        Assert.Equal(0x8000_0002u, BinaryPrimitives.ReadUInt32BigEndian(cleared.AsSpan(8)));
        tpm.Do(0x145, [], TestTpm.U16(shutdown == 0 ? 0 : 1));
        tpm.PowerCycle();
        tpm.Startup(shutdown == 1 ? 1 : 0);
        Assert.Equal(ordinary ? 0u : 0x1DFu, tpm.Try(ContextLoad, [], kept));
        Assert.Equal(shutdown != 0 && stClear ? 0u : 0x1DFu, tpm.Try(ContextLoad, [], cleared));
    }

    [Theory]
    [InlineData(0x0B)]
    [InlineData(0x10)]
    public void Sequence_SavedBetweenPieces_GoesOn(int algorithm)
    {
        var tpm = new TestTpm();
        uint sequence = Handle(tpm.Do(HashSequenceStart, [], [.. TestTpm.Sized(1, 2), .. TestTpm.U16(algorithm)]));
        tpm.Do(SequenceUpdate, [sequence], TestTpm.Sized([.. "ab"u8]), TestTpm.PasswordSession(1, 2));
        byte[] context = tpm.Do(ContextSave, [sequence], []);
        Assert.Equal(0x8000_0001u, BinaryPrimitives.ReadUInt32BigEndian(context.AsSpan(8)));
        Assert.Equal(TestTpm.Null, BinaryPrimitives.ReadUInt32BigEndian(context.AsSpan(12)));
        tpm.Do(FlushContext, [], TestTpm.U32(sequence));
        sequence = Load(tpm, context);
        if (algorithm == 0x0B)
        {
            byte[] answer = tpm.Do(SequenceComplete, [sequence], [.. TestTpm.Sized((byte)'c'), .. TestTpm.U32(TestTpm.Null)], TestTpm.PasswordSession(1, 2));
            Assert.Equal(SHA256.HashData("abc"u8), answer[2..34]);
        }
        else
        {
            byte[] answer = tpm.Do(0x185, [TestTpm.Null, sequence], TestTpm.Sized((byte)'c'), [.. TestTpm.PasswordSession(), .. TestTpm.PasswordSession(1, 2)]);
            Assert.Equal("A9993E364706816ABA3E25717850C26C9CD0D89D", Convert.ToHexString(answer[6..26]));
        }
    }

    [Fact]
    public void Session_Saved_IsLoadedOnceFromItsLastContext()
    {
        var tpm = new TestTpm();
        uint session = StartSession(tpm);
        byte[] first = tpm.Do(ContextSave, [session], []);
        Assert.Equal(0x910u, tpm.Try(ContextSave, [session], []));
        Assert.Equal(session, Load(tpm, first));
        Assert.Equal(0x1CBu, tpm.Try(ContextLoad, [], first));
        byte[] second = tpm.Do(ContextSave, [session], []);
        Assert.Equal(0x1CBu, tpm.Try(ContextLoad, [], first));
        Assert.Equal(1u, Saved(tpm));
        Assert.Equal(session, Load(tpm, second));
        Assert.Equal(0u, Saved(tpm));
    }

    [Fact]
    public void Session_SavedThenFlushed_CannotBeLoaded()
    {
        var tpm = new TestTpm();
        uint session = StartSession(tpm);
        byte[] context = tpm.Do(ContextSave, [session], []);
        Assert.Equal(1u, tpm.Property(0x205));
        tpm.Do(FlushContext, [], TestTpm.U32(session));
        Assert.Equal(0u, tpm.Property(0x205));
        Assert.Equal(0x1CBu, tpm.Try(ContextLoad, [], context));
        Assert.Equal(0x1CBu, tpm.Try(FlushContext, [], TestTpm.U32(session)));
    }

    [Fact]
    public void Session_SixtyFourSaved_NoHandleIsLeft()
    {
        var tpm = new TestTpm();
        for (int i = 0; i < 64; i++)
        {
            tpm.Do(ContextSave, [StartSession(tpm)], []);
        }

        Assert.Equal(0x905u, tpm.Try(StartAuthSession, [TestTpm.Null, TestTpm.Null], SessionParameters()));
        Assert.Equal(64u, Saved(tpm));
    }

    [Fact]
    public void Session_GapTooLarge_OldestComesFirst()
    {
        var tpm = new TestTpm();
        byte[] oldest = tpm.Do(ContextSave, [StartSession(tpm)], []);
        uint other = StartSession(tpm);
        uint code;
        int saves = 0;
        do
        {
            byte[] response = tpm.Send(TestTpm.Command(ContextSave, [other], []));
            code = TestTpm.Code(response);
            if (code == 0)
            {
                saves++;
                Load(tpm, response[10..]);
            }
        }
        while (code == 0);

        Assert.Equal(0x901u, code);
        Assert.Equal(0xFFFF, saves);
        Assert.Equal(0x901u, tpm.Try(StartAuthSession, [TestTpm.Null, TestTpm.Null], SessionParameters()));
        Load(tpm, oldest);
        tpm.Do(ContextSave, [other], []);
    }

    [Theory]
    [InlineData(0, false)]
    [InlineData(1, true)]
    [InlineData(2, true)]
    public void Session_AcrossStartups_SavedOnesLiveUntilReset(int shutdown, bool lives)
    {
        var tpm = new TestTpm();
        uint session = StartSession(tpm);
        uint lost = StartSession(tpm);
        byte[] context = tpm.Do(ContextSave, [session], []);
        tpm.Do(0x145, [], TestTpm.U16(shutdown == 0 ? 0 : 1));
        tpm.PowerCycle();
        tpm.Startup(shutdown == 1 ? 1 : 0);
        Assert.Equal(lives ? 0u : 0x1DFu, tpm.Try(ContextLoad, [], context));
        Assert.Equal(0x1CBu, tpm.Try(FlushContext, [], TestTpm.U32(lost)));
    }

    [Fact]
    public void Persistent_Object_OutlivesPowerAndIsRemoved()
    {
        var tpm = new TestTpm();
        uint key = CreateKey(tpm, TestTpm.Owner);
        byte[] expected = Mac(tpm, key);
        tpm.Do(EvictControl, [TestTpm.Owner, key], TestTpm.U32(0x8100_0001), TestTpm.PasswordSession());
        Assert.Equal(0x14Cu, tpm.Try(EvictControl, [TestTpm.Owner, key], TestTpm.U32(0x8100_0001), TestTpm.PasswordSession()));
        tpm.PowerCycle();
        tpm.Startup(0);
        Assert.Equal(expected, Mac(tpm, 0x8100_0001));
        Assert.Equal([0, 0, 0, 0, 1, 0, 0, 0, 1, 0x81, 0, 0, 1], tpm.Do(0x17A, [], [.. TestTpm.U32(1), .. TestTpm.U32(0x8100_0000), .. TestTpm.U32(9)]));
        Assert.Equal(0x28Bu, tpm.Try(EvictControl, [TestTpm.Owner, 0x8100_0001], TestTpm.U32(0x8100_0002), TestTpm.PasswordSession()));
        tpm.Do(EvictControl, [TestTpm.Owner, 0x8100_0001], TestTpm.U32(0x8100_0001), TestTpm.PasswordSession());
        Assert.Equal(0x18Bu, tpm.Try(0x173, [0x8100_0001], []));
    }

    [Theory]
    [InlineData(TestTpm.Owner, TestTpm.Owner, 0x8180_0000u, 0x1CDu)]
    [InlineData(TestTpm.Platform, TestTpm.Owner, 0x8100_0000u, 0x285u)]
    [InlineData(TestTpm.Platform, TestTpm.Platform, 0x8100_0000u, 0x1CDu)]
    [InlineData(TestTpm.Owner, TestTpm.Platform, 0x8180_0000u, 0x285u)]
    [InlineData(TestTpm.Owner, TestTpm.Null, 0x8100_0000u, 0x282u)]
    [InlineData(TestTpm.Platform, TestTpm.Platform, 0x8180_0000u, 0u)]
    [InlineData(TestTpm.Owner, TestTpm.Endorsement, 0x817F_FFFFu, 0u)]
    [InlineData(TestTpm.Owner, TestTpm.Owner, 0x8200_0000u, 0x1C4u)]
    public void Persistent_AuthHierarchyAndHandle_HaveToFit(uint auth, uint hierarchy, uint handle, uint code)
    {
        var tpm = new TestTpm();
        uint key = CreateKey(tpm, hierarchy);
        Assert.Equal(code, tpm.Try(EvictControl, [auth, key], TestTpm.U32(handle), TestTpm.PasswordSession()));
    }

    [Fact]
    public void Persistent_HierarchyEnded_IsGone()
    {
        var tpm = new TestTpm();
        tpm.Do(EvictControl, [TestTpm.Owner, CreateKey(tpm, TestTpm.Owner)], TestTpm.U32(0x8100_0000), TestTpm.PasswordSession());
        tpm.Do(EvictControl, [TestTpm.Owner, CreateKey(tpm, TestTpm.Endorsement)], TestTpm.U32(0x8101_0000), TestTpm.PasswordSession());
        tpm.Do(EvictControl, [TestTpm.Platform, CreateKey(tpm, TestTpm.Platform)], TestTpm.U32(0x8180_0000), TestTpm.PasswordSession());
        Assert.Equal(3u, tpm.Property(0x208));
        tpm.Do(0x124, [TestTpm.Platform], [], TestTpm.PasswordSession());
        Assert.Equal(2u, tpm.Property(0x208));
        tpm.Do(0x126, [TestTpm.Platform], [], TestTpm.PasswordSession());
        Assert.Equal(1u, tpm.Property(0x208));
        tpm.Do(0x125, [TestTpm.Platform], [], TestTpm.PasswordSession());
        Assert.Equal(0u, tpm.Property(0x208));
    }

    [Fact]
    public void Persistent_NoRoom_IsNvSpace()
    {
        var tpm = new TestTpm();
        uint key = CreateKey(tpm, TestTpm.Owner);
        uint code;
        uint handle = 0x8100_0000;
        do
        {
            code = tpm.Try(EvictControl, [TestTpm.Owner, key], TestTpm.U32(handle++), TestTpm.PasswordSession());
        }
        while (code == 0);

        Assert.Equal(0x14Bu, code);
        tpm.PowerCycle();
        tpm.Startup(0);
        Assert.Equal(handle - 0x8100_0001, tpm.Property(0x208));
    }

    internal static uint Handle(byte[] answer) => BinaryPrimitives.ReadUInt32BigEndian(answer);

    internal static byte[] SessionParameters(byte type = 0) => [.. TestTpm.Sized(new byte[16]), 0, 0, type, 0, 0x10, 0, 0x0B];

    // An HMAC key, the same one for the same hierarchy.
    internal static uint CreateKey(TestTpm tpm, uint hierarchy, bool stClear = false)
    {
        byte[] template = [0, 8, 0, 0x0B, .. TestTpm.U32(stClear ? 0x4_0076u : 0x4_0072u), 0, 0, 0, 5, 0, 0x0B, 0, 0];
        byte[] answer = tpm.Send(TestTpm.Command(
            CreatePrimary, [hierarchy], [.. TestTpm.Sized(0, 0, 0, 0), .. TestTpm.Sized(template), 0, 0, 0, 0, 0, 0], TestTpm.PasswordSession()));
        Assert.Equal(0u, TestTpm.Code(answer));
        return Handle(answer[10..]);
    }

    internal static uint StartSession(TestTpm tpm, byte type = 0) => Handle(tpm.Do(StartAuthSession, [TestTpm.Null, TestTpm.Null], SessionParameters(type)));

    private static uint Load(TestTpm tpm, byte[] context) => Handle(tpm.Do(ContextLoad, [], context));

    private static byte[] Mac(TestTpm tpm, uint key) => tpm.Do(Hmac, [key], [.. TestTpm.Sized(1, 2, 3), 0, 0x10], TestTpm.PasswordSession())[..34];

    // Entries of TPM_HT_SAVED_SESSION.
    private static uint Saved(TestTpm tpm)
        => BinaryPrimitives.ReadUInt32BigEndian(tpm.Do(0x17A, [], [.. TestTpm.U32(1), .. TestTpm.U32(0x0300_0000), .. TestTpm.U32(100)]).AsSpan(5));
}
