// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Security.Cryptography;
using Svsm.Modules.Vtpm.State;
using Xunit;

namespace Svsm.Modules.Vtpm.Tests;

// Digests computed here from Part 3's formulas, and what a policy refuses. Flows of Svsm.Vtpm.Clients.Tests use each policy end to end.
public sealed class PolicyTests
{
    private static readonly byte[] s_zero = new byte[32];

    [Fact]
    public void Compare_EveryOperation_IsArithmetic()
    {
        var random = new Random(3);
        for (int i = 0; i < 20_000; i++)
        {
            int left = random.Next(4) == 0 ? random.Next(-3, 3) : random.Next(short.MinValue, short.MaxValue);
            int right = random.Next(4) == 0 ? left : random.Next(short.MinValue, short.MaxValue);
            (ushort uleft, ushort uright) = ((ushort)left, (ushort)right);
            bool[] expected =
            [
                left == right, left != right, left > right, uleft > uright, left < right, uleft < uright, left >= right, uleft >= uright,
                left <= right, uleft <= uright, (uleft & uright) == uright, (uleft & uright) == 0,
            ];
            for (int operation = 0; operation < expected.Length; operation++)
            {
                Assert.Equal(expected[operation], Policies.Compare(TestTpm.U16(left), TestTpm.U16(right), (PolicyOperation)operation));
            }
        }
    }

    [Fact]
    public void Digest_StatementsInOrder_AreTheFormulas()
    {
        var tpm = new TestTpm();
        uint session = Start(tpm, 3);
        byte[] digest = s_zero;
        Extend(0x16C, TestTpm.U32(0x14E));
        tpm.Do(0x16C, [session], TestTpm.U32(0x14E));
        Extend(0x16F, [3]);
        tpm.Do(0x16F, [session], [3]);
        Extend(0x187, []);
        tpm.Do(0x187, [session], []);
        Extend(0x16B, []);
        tpm.Do(0x16B, [session], []);
        Extend(0x16B, []);
        tpm.Do(0x18C, [session], []);
        Extend(0x18F, [1]);
        tpm.Do(0x18F, [session], [1]);
        byte[] hash = [.. "01234567890123456789012345678901"u8];
        Extend(0x19C, hash);
        tpm.Do(0x19C, [session], TestTpm.Sized(hash));
        Extend(0x151, TestTpm.U32(TestTpm.Owner));
        digest = SHA256.HashData([.. digest, 9, 9]);
        tpm.Do(0x151, [TestTpm.Owner, session], [0, 0, 0, 0, .. TestTpm.Sized(9, 9), 0, 0, 0, 0], TestTpm.PasswordSession());
        Assert.Equal(digest, Digest(tpm, session));

        // PolicyCapability: 1.83 code, no other TPM here to ask.
        byte[] arguments = SHA256.HashData([2, .. TestTpm.U16(0), .. TestTpm.U16(0), .. TestTpm.U32(6), .. TestTpm.U32(0x100)]);
        Extend(0x19B, arguments);
        tpm.Do(0x19B, [session], [.. TestTpm.Sized(2), 0, 0, 0, 0, .. TestTpm.U32(6), .. TestTpm.U32(0x100)]);
        Assert.Equal(digest, Digest(tpm, session));
        tpm.Do(0x180, [session], []);
        Assert.Equal(s_zero, Digest(tpm, session));

        void Extend(uint code, byte[] statement) => digest = SHA256.HashData([.. digest, .. TestTpm.U32(code), .. statement]);
    }

    [Fact]
    public void Capability_ComparedInASession_HoldsOrNot()
    {
        var tpm = new TestTpm();
        uint session = Start(tpm, 1);
        byte[] property = [.. TestTpm.U32(6), .. TestTpm.U32(0x112)];
        tpm.Do(0x19B, [session], [.. TestTpm.Sized(TestTpm.U32(24)), 0, 4, 0, 0, .. property]);
        Assert.Equal(0x126u, tpm.Try(0x19B, [session], [.. TestTpm.Sized(TestTpm.U32(25)), 0, 4, 0, 0, .. property]));
        Assert.Equal(0x2C4u, tpm.Try(0x19B, [session], [.. TestTpm.Sized(0), 0, 9, 0, 0, .. property]));
        Assert.Equal(0x1D5u, tpm.Try(0x19B, [session], [.. TestTpm.Sized(0, 0), 0, 7, 0, 0, .. property]));
        Assert.Equal(0x5C4u, tpm.Try(0x19B, [session], [.. TestTpm.Sized(0), 0, 0, 0, 0, .. TestTpm.U32(6), .. TestTpm.U32(0x1FF)]));
        Assert.Equal(0x5C4u, tpm.Try(0x19B, [session], [.. TestTpm.Sized(0), 0, 0, 0, 0, .. TestTpm.U32(5), .. TestTpm.U32(0)]));
    }

    [Fact]
    public void Session_TrialUsedForAuthorization_IsRefused()
    {
        var tpm = new TestTpm();
        uint session = Start(tpm, 3);
        Assert.Equal(0x982u, tpm.Try(0x128, [TestTpm.Owner], new byte[8], Use(session)));
    }

    [Fact]
    public void Policy_OfOwner_IsGoodOnceAndForItsParametersOnly()
    {
        var tpm = new TestTpm();
        byte[] parameters = [0, 0, 0, 0, 0, 0, 0x10, 0];
        uint trial = Start(tpm, 3);
        tpm.Do(0x19C, [trial], TestTpm.Sized(SHA256.HashData(parameters)));
        SetPolicy(tpm, Digest(tpm, trial));
        uint session = Start(tpm, 1);
        Assert.Equal(0x99Du, tpm.Try(0x128, [TestTpm.Owner], parameters, Use(session)));
        tpm.Do(0x19C, [session], TestTpm.Sized(SHA256.HashData(parameters)));
        Assert.Equal(0x99Du, tpm.Try(0x128, [TestTpm.Owner], [0, 0, 0, 0, 0, 0, 0x20, 0], Use(session)));
        tpm.Do(0x128, [TestTpm.Owner], parameters, Use(session));
        Assert.Equal(s_zero, Digest(tpm, session));
        Assert.Equal(0x99Du, tpm.Try(0x128, [TestTpm.Owner], parameters, Use(session)));
    }

    [Theory]
    [InlineData(false, 0x990u)]
    [InlineData(true, 0u)]
    public void PhysicalPresence_Demanded_HasToBeThere(bool isPresent, uint code)
    {
        var tpm = new TestTpm();
        uint trial = Start(tpm, 3);
        tpm.Do(0x187, [trial], []);
        SetPolicy(tpm, Digest(tpm, trial));
        uint session = Start(tpm, 1);
        tpm.Do(0x187, [session], []);
        tpm.Engine.IsPhysicallyPresent = isPresent;
        Assert.Equal(code, tpm.Try(0x128, [TestTpm.Owner], [0, 0, 0, 0, 0, 0, 0x10, 0], Use(session)));
    }

    [Fact]
    public void Secret_WithExpiration_EndsInTime()
    {
        var tpm = new TestTpm();
        uint trial = Start(tpm, 3);
        tpm.Do(0x151, [TestTpm.Endorsement, trial], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0], TestTpm.PasswordSession());
        SetPolicy(tpm, Digest(tpm, trial));
        uint session = Start(tpm, 1);
        tpm.Do(0x151, [TestTpm.Endorsement, session], [0, 0, 0, 0, 0, 0, .. TestTpm.U32(60)], TestTpm.PasswordSession());
        tpm.Milliseconds += 59_000;
        byte[] later = [0, 0, 0, 0, 0, 0x10, 0, 0];
        tpm.Do(0x128, [TestTpm.Owner], later, Use(session));

        // Without a nonce seconds count from power-on: a minute is over.
        tpm.Milliseconds += 2_000;
        Assert.Equal(0x4E3u, tpm.Try(0x151, [TestTpm.Endorsement, session], [0, 0, 0, 0, 0, 0, .. TestTpm.U32(60)], TestTpm.PasswordSession()));
    }

    [Fact]
    public void Ticket_OtherTpmTimeOrReference_IsRefused()
    {
        var tpm = new TestTpm();
        uint session = Start(tpm, 1);
        byte[] answer = tpm.Do(0x151, [TestTpm.Endorsement, session], [0, 0, 0, 0, .. TestTpm.Sized(7), .. TestTpm.U32(unchecked((uint)-1000))], TestTpm.PasswordSession());
        byte[] timeout = answer[..10];
        byte[] ticket = answer[10..(10 + 2 + 4 + 2 + 64)];
        byte[] name = TestTpm.Sized(TestTpm.U32(TestTpm.Endorsement));
        Assert.Equal(0x5E0u, tpm.Try(0x172, [session], [.. timeout, 0, 0, .. TestTpm.Sized(8), .. name, .. ticket]));
        byte[] longer = (byte[])timeout.Clone();
        longer[^1] ^= 1;
        Assert.Equal(0x5E0u, tpm.Try(0x172, [session], [.. longer, 0, 0, .. TestTpm.Sized(7), .. name, .. ticket]));
        tpm.Do(0x172, [session], [.. timeout, 0, 0, .. TestTpm.Sized(7), .. name, .. ticket]);
        tpm.Milliseconds += 1_100_000;
        Assert.Equal(0x1E3u, tpm.Try(0x172, [session], [.. timeout, 0, 0, .. TestTpm.Sized(7), .. name, .. ticket]));
        tpm.Do(0x145, [], [0, 0]);
        tpm.PowerCycle();
        tpm.Startup(0);
        session = Start(tpm, 1);
        Assert.Equal(0x5E0u, tpm.Try(0x172, [session], [.. timeout, 0, 0, .. TestTpm.Sized(7), .. name, .. ticket]));
    }

    [Fact]
    public void Pin_Fail_LocksAfterItsLimitAndRightOneResets()
    {
        var tpm = new TestTpm();
        byte[] area = [.. TestTpm.U32(0x0150_0000), 0, 0x0B, .. TestTpm.U32(0x0206_0082), 0, 0, 0, 8];
        tpm.Do(0x12A, [TestTpm.Owner], [.. TestTpm.Sized(5), .. TestTpm.Sized(area)], TestTpm.PasswordSession());
        tpm.Do(0x137, [TestTpm.Owner, 0x0150_0000], [0, 8, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0], TestTpm.PasswordSession());
        Assert.Equal(0x9A2u, Read(6));
        Assert.Equal(0u, Read(5));
        Assert.Equal(0x9A2u, Read(6));
        Assert.Equal(0x9A2u, Read(6));
        Assert.Equal(0x12Fu, Read(5));

        // Not even a power cycle helps: the count was stored before the failure was answered.
        tpm.PowerCycle();
        tpm.Startup(0);
        Assert.Equal(0x12Fu, Read(5));
        tpm.Do(0x137, [TestTpm.Owner, 0x0150_0000], [0, 8, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0], TestTpm.PasswordSession());
        Assert.Equal(0u, Read(5));

        uint Read(byte pin) => tpm.Try(0x14E, [0x0150_0000, 0x0150_0000], [0, 8, 0, 0], TestTpm.PasswordSession(pin));
    }

    private static uint Start(TestTpm tpm, byte type) => ContextTests.StartSession(tpm, type);

    private static byte[] Digest(TestTpm tpm, uint session) => tpm.Do(0x189, [session], [])[2..];

    private static byte[] Use(uint session) => [.. TestTpm.U32(session), 0, 0, 1, 0, 0];

    private static void SetPolicy(TestTpm tpm, byte[] digest)
        => tpm.Do(0x12E, [TestTpm.Owner], [.. TestTpm.Sized(digest), 0, 0x0B], TestTpm.PasswordSession());
}
