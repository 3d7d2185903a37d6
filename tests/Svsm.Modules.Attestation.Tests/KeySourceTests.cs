// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using System.Linq;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using Svsm.Core;
using Svsm.Wire;
using Xunit;

namespace Svsm.Modules.Attestation.Tests;

/// <summary>Keys and reports for the module that keeps the store, and how they go with reports for guests.</summary>
[Collection(ChipGroup.Name)]
public sealed class KeySourceTests(ChipFixture fixture)
{
    private const DerivedKeyFields Fields = DerivedKeyFields.Policy | DerivedKeyFields.Measurement;

    private AttestationGuest NewGuest(string image = "image", ulong policy = 0x3_0000) =>
        new(new TestKernel(fixture.Chip, image: image, policy: policy) { HostCertificates = [.. Enumerable.Repeat((byte)0xCE, 0x1000)] });

    private static AttestingResult Derive(AttestationGuest guest, out byte[] key, DerivedKeyFields fields = Fields, uint svn = 0, ulong tcb = 0)
    {
        key = new byte[32];
        AttestingResult result = new AttestingPeer(guest.NewPeers()).DeriveKey(fields, svn, tcb, key);
        guest.Kernel.AssertNoNumberTwice();
        return result;
    }

    private static byte[] GetKey(AttestationGuest guest, DerivedKeyFields fields = Fields, uint svn = 0, ulong tcb = 0)
    {
        Assert.Equal(AttestingResult.Done, Derive(guest, out byte[] key, fields, svn, tcb));
        return key;
    }

    // The same after a restart of the VM, whose messages have another key; another one for whatever it depends on.
    [Fact]
    public void Key_IsThatOfChipImageAndWish()
    {
        using AttestationGuest guest = NewGuest();
        using AttestationGuest again = NewGuest();
        using AttestationGuest image = NewGuest(image: "another");
        using AttestationGuest policy = NewGuest(policy: 0x2_0000);

        byte[] key = GetKey(guest);
        Assert.Equal(key, GetKey(guest));
        Assert.Equal(key, GetKey(again));
        Assert.NotEqual(key, GetKey(image));
        Assert.NotEqual(key, GetKey(policy));
        Assert.NotEqual(key, GetKey(guest, DerivedKeyFields.Policy));
        Assert.NotEqual(key, GetKey(guest, Fields | DerivedKeyFields.Tcb));
        Assert.NotEqual(GetKey(guest, Fields | DerivedKeyFields.Tcb), GetKey(guest, Fields | DerivedKeyFields.Tcb, tcb: 1));
        Assert.Equal(GetKey(guest, DerivedKeyFields.Policy), GetKey(image, DerivedKeyFields.Policy));
        Assert.Empty(guest.Test.Log);
    }

    [Fact]
    public void Request_HasTheFormatOfTheSecurityProcessor()
    {
        using AttestationGuest guest = NewGuest();
        Assert.Equal(AttestingResult.Refused, Derive(guest, out byte[] key, DerivedKeyFields.Svn | DerivedKeyFields.Tcb, svn: 0x0403_0201, tcb: 0x8000_0000_0000_0005));
        byte[] page = Assert.Single(guest.Kernel.Left);

        Assert.False(Assert.Single(guest.Kernel.AskedForCertificates));
        Assert.Equal([1, 1, 0x60, 0, 3, 1, 32, 0, 0, 0, 0, 0, 0], page[0x30..0x3D]);
        Assert.DoesNotContain(page[0x80..], value => value != 0);
        byte[] payload = new byte[32];
        using var cipher = new AesGcm(guest.Kernel.Key, 16);
        cipher.Decrypt([1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], page.AsSpan(0x60, 32), page.AsSpan(0, 16), payload, page.AsSpan(0x30, 0x30));
        Assert.Equal([2, 0, 0, 0, 0, 0, 0, 0, 0x30, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 0, 0, 0, 0, 0, 0, 0x80], payload);

        // The security processor has said no; the key of VMPL0 is as good as before.
        Assert.Equal(new byte[32], key);
        Assert.Contains("gives no key: status 0x16", Assert.Single(guest.Test.Log).Line, StringComparison.Ordinal);
        GetKey(guest);
    }

    [Fact]
    public void Report_HasTheDataAndZeroesAndCertificates()
    {
        using AttestationGuest guest = NewGuest();
        byte[] data = RandomNumberGenerator.GetBytes(48);
        Assert.Equal(AttestingResult.Done, new AttestingPeer(guest.NewPeers()).GetReport(data, out byte[] report, out byte[] certificates));

        Assert.Equal(0x4A0, report.Length);
        Assert.Equal([.. data, .. new byte[16]], report[0x50..0x90]);
        Assert.Equal(0u, BinaryPrimitives.ReadUInt32LittleEndian(report.AsSpan(0x30)));
        Assert.Equal(guest.Kernel.HostCertificates, certificates);
    }

    // What another module could try.
    [Theory]
    [InlineData(0x00, 0)]
    [InlineData(0x00, 3)]
    [InlineData(0x03, 0x80)]
    [InlineData(0x04, 1)]
    [InlineData(0x08, 0x40)]
    [InlineData(0x0F, 0x80)]
    [InlineData(0x10, 1)]
    [InlineData(0x18, 1)]
    [InlineData(0x47, 1)]
    public void DeriveThatIsNone_IsRefused(int offset, byte value)
    {
        using AttestationGuest guest = NewGuest();
        byte[] request = new byte[KeyRequest.Length];
        request[0] = 1;
        Assert.Equal(40, guest.Test.Ask(ModuleMessageKind.Key, 9, request)!.Length);
        request[offset] = value;
        AssertBad(guest, request);
    }

    [Theory]
    [InlineData(0x04)]
    [InlineData(0x08)]
    [InlineData(0x10)]
    public void ReportThatIsNone_IsRefused(int offset)
    {
        using AttestationGuest guest = NewGuest();
        byte[] request = new byte[KeyRequest.Length];
        request[0] = 2;
        Assert.Equal(8 + 0x4A0 + 0x1000, guest.Test.Ask(ModuleMessageKind.Key, 9, request)!.Length);
        request[offset] = 1;
        AssertBad(guest, request);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(KeyRequest.Length - 1)]
    [InlineData(KeyRequest.Length + 1)]
    [InlineData(ModuleMessage.MaxPayload)]
    public void RequestOfAnotherLength_IsRefused(int length)
    {
        using AttestationGuest guest = NewGuest();
        byte[] request = new byte[length];
        request.AsSpan(0, Math.Min(1, length)).Fill(1);
        AssertBad(guest, request);
    }

    [Fact]
    public void RequestToTheStore_IsNotServed()
    {
        using AttestationGuest guest = NewGuest();
        Assert.Null(guest.Test.Ask(ModuleMessageKind.Store, 9, new byte[KeyRequest.Length]));
    }

    [Fact]
    public void HostStaysBusy_SameWishGoesOnWithTheSameBytes()
    {
        using AttestationGuest guest = NewGuest();
        byte[] wanted = GetKey(guest);
        guest.Kernel.SetBusy(GuestRequests.MaxSends + 1);
        Assert.Equal(AttestingResult.Busy, Derive(guest, out byte[] key));
        Assert.Equal(new byte[32], key);
        Assert.True(guest.Kernel.IsInFlight);

        Assert.Equal(wanted, GetKey(guest));
        Assert.Equal(2, guest.Kernel.Left.Select(Convert.ToHexString).Distinct().Count());
        Assert.Empty(guest.Test.Log);
    }

    // One who has patience has one wish, and the chip one request.
    [Fact]
    public void HostIsBusyForLong_TheSameWishIsRepeated()
    {
        using AttestationGuest guest = NewGuest();
        byte[] wanted = GetKey(guest);
        guest.Kernel.SetBusy(3 * GuestRequests.MaxSends);
        byte[] key = new byte[32];
        Assert.Equal(AttestingResult.Done, new AttestingPeer(guest.NewPeers(), TimeSpan.FromMinutes(1)).DeriveKey(Fields, 0, 0, key));
        Assert.Equal(wanted, key);
        Assert.Equal(2, guest.Kernel.Left.Select(Convert.ToHexString).Distinct().Count());

        guest.Kernel.SetBusy(10_000);
        Assert.Equal(AttestingResult.Busy, new AttestingPeer(guest.NewPeers(), TimeSpan.FromMilliseconds(120)).DeriveKey(Fields, 0, 0, key));
        Assert.Equal(new byte[32], key);
    }

    // The key of the first wish must not pass for that of the second.
    [Fact]
    public void HostStaysBusy_AnotherWishGetsAKeyOfItsOwn()
    {
        using AttestationGuest guest = NewGuest();
        byte[] wanted = GetKey(guest);
        guest.Kernel.SetBusy(GuestRequests.MaxSends);
        Assert.Equal(AttestingResult.Busy, Derive(guest, out _, DerivedKeyFields.Policy));
        Assert.Equal(wanted, GetKey(guest));
        Assert.Equal(3, guest.Kernel.Left.Select(Convert.ToHexString).Distinct().Count());
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void KeyIsInFlight_ReportIsGoodAllTheSame(bool restart)
    {
        using AttestationGuest guest = NewGuest();
        guest.Kernel.SetBusy(GuestRequests.MaxSends);
        Assert.Equal(AttestingResult.Busy, Derive(guest, out _));
        if (restart)
        {
            guest.Restart();
        }

        guest.AssertGood(guest.CallAllServices());
        Assert.True(guest.Kernel.HasKey);
        GetKey(guest);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void ReportIsInFlight_KeyIsGoodAllTheSame(bool restart)
    {
        using AttestationGuest guest = NewGuest();
        byte[] wanted = GetKey(guest);
        guest.Kernel.SetBusy(GuestRequests.MaxSends);
        Assert.Equal(SvsmResultCode.Busy, guest.CallAllServices().Code);
        if (restart)
        {
            guest.Restart();
        }

        Assert.Equal(wanted, GetKey(guest));
        guest.AssertGood(guest.CallAllServices());
    }

    // A request that is thrown away may have any answer of the security processor.
    [Fact]
    public void ForeignRequestIsRefused_WishIsGranted()
    {
        using AttestationGuest guest = NewGuest();
        guest.Kernel.SetBusy(GuestRequests.MaxSends);
        Assert.Equal(AttestingResult.Busy, Derive(guest, out _, DerivedKeyFields.Svn, svn: 77));
        guest.AssertGood(guest.CallAllServices());
        Assert.Empty(guest.Test.Log);
    }

    [Fact]
    public void HostRefuses_ThereIsNoKeyAnyMore()
    {
        using AttestationGuest guest = NewGuest();
        guest.Kernel.Host.Enqueue(HostDeed.Refuse);
        Assert.Equal(AttestingResult.NoKey, Derive(guest, out byte[] key));
        Assert.Equal(AttestingResult.NoKey, Derive(guest, out key));
        Assert.Equal(new byte[32], key);
        Assert.Equal(AttestingResult.NoKey, new AttestingPeer(guest.NewPeers()).GetReport(new byte[48], out _, out _));
        Assert.Single(guest.Kernel.Left);
        Assert.Contains("is lost", Assert.Single(guest.Test.Log).Line, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(0x00)]
    [InlineData(0x34)]
    [InlineData(0x60)]
    [InlineData(0x80)]
    public void AnswerIsChanged_KeyOfVmpl0IsGivenUp(int offset)
    {
        using AttestationGuest guest = NewGuest();
        guest.Kernel.Tamper = page => page[offset] ^= 1;
        AssertGivenUp(guest);
    }

    [Theory]
    [InlineData(6, 64, 1)]
    [InlineData(4, 63, 1)]
    [InlineData(4, 65, 1)]
    [InlineData(4, 0x4C0, 1)]
    [InlineData(4, 64, 0)]
    public void AuthenticAnswerThatIsNone_KeyOfVmpl0IsGivenUp(byte type, int length, byte key)
    {
        using AttestationGuest guest = NewGuest();
        guest.Kernel.Instead = request => guest.Kernel.Seal(request, type, [.. new byte[0x20], .. Enumerable.Repeat(key, length - 0x20)]);
        AssertGivenUp(guest);
    }

    // It would be a good answer otherwise.
    [Fact]
    public void AnswerOfATest_IsTaken()
    {
        using AttestationGuest guest = NewGuest();
        guest.Kernel.Instead = request => guest.Kernel.Seal(request, 4, [.. new byte[0x20], .. Enumerable.Repeat((byte)1, 32)]);
        Assert.Equal([.. Enumerable.Repeat((byte)1, 32)], GetKey(guest));
    }

    // With a key in an answer that says no.
    [Theory]
    [InlineData(0x16u)]
    [InlineData(0x27u)]
    [InlineData(uint.MaxValue)]
    public void SecurityProcessorGivesNoKey_NothingIsHandedOn(uint status)
    {
        using AttestationGuest guest = NewGuest();
        guest.Kernel.Instead = request =>
        {
            byte[] payload = [.. Enumerable.Repeat((byte)1, 64)];
            BinaryPrimitives.WriteUInt32LittleEndian(payload, status);
            return guest.Kernel.Seal(request, 4, payload);
        };
        Assert.Equal(AttestingResult.Refused, Derive(guest, out byte[] key));
        Assert.Equal(new byte[32], key);
        Assert.True(guest.Kernel.HasKey);
    }

    // The module ends at every step; the one after it derives another key, and then makes a report.
    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(GuestRequests.MaxSends + 1)]
    public void ModuleEnds_AtEachStep_NoNumberHasTwoContents(int busy)
    {
        using AttestationGuest first = NewGuest();
        byte[] wanted = GetKey(first);
        byte[] policy = GetKey(first, DerivedKeyFields.Policy);
        int steps = int.MaxValue;
        for (int step = 0; step < steps; step++)
        {
            using AttestationGuest guest = NewGuest();
            guest.Kernel.SetBusy(busy);
            guest.Kernel.CrashAt = step;
            try
            {
                Assert.Equal(wanted, DeriveUntilDone(guest, Fields));
                steps = step;
            }
            catch (CrashException)
            {
                guest.Restart();
            }

            guest.Kernel.CrashAt = -1;
            Assert.Equal(policy, DeriveUntilDone(guest, DerivedKeyFields.Policy));
            guest.AssertGood(guest.CallAllServices());
            Assert.True(guest.Kernel.HasKey);
        }

        Assert.True(steps >= 6);
    }

    [Theory]
    [InlineData(PeerResult.NotThere, AttestingResult.NotThere)]
    [InlineData(PeerResult.Failed, AttestingResult.Failed)]
    [InlineData(PeerResult.NotPermitted, AttestingResult.Failed)]
    public void Peer_ThatDoesNotAnswer_IsReported(PeerResult peer, AttestingResult wanted)
    {
        var client = new AttestingPeer(new FixedPeers(peer, []));
        Assert.Equal(wanted, client.DeriveKey(Fields, 0, 0, new byte[32]));
        Assert.Equal(wanted, client.GetReport(new byte[48], out _, out _));
    }

    [Theory]
    [InlineData(0, 0u)]
    [InlineData(7, 0u)]
    [InlineData(39, 0u)]
    [InlineData(41, 0u)]
    [InlineData(40, 4u)]
    [InlineData(40, 5u)]
    [InlineData(8 + 0x49F, 0u)]
    public void Peer_ThatAnswersSomethingElse_Failed(int length, uint status)
    {
        byte[] answer = [.. Enumerable.Repeat((byte)0x5A, length)];
        if (length >= 4)
        {
            MemoryMarshal.Write(answer, in status);
        }

        var client = new AttestingPeer(new FixedPeers(PeerResult.Answered, answer));
        byte[] key = [.. Enumerable.Repeat((byte)1, 32)];
        Assert.Equal(AttestingResult.Failed, client.DeriveKey(Fields, 0, 0, key));
        Assert.Equal(new byte[32], key);
        Assert.Equal(AttestingResult.Failed, client.GetReport(new byte[48], out byte[] report, out _));
        Assert.Empty(report);
    }

    [Fact]
    public void Peer_AfterAKey_HasNoCopyOfIt()
    {
        byte[] answer = [0, 0, 0, 0, 0, 0, 0, 0, .. Enumerable.Repeat((byte)0x5A, 32)];
        byte[] key = new byte[32];
        Assert.Equal(AttestingResult.Done, new AttestingPeer(new FixedPeers(PeerResult.Answered, answer)).DeriveKey(Fields, 0, 0, key));
        Assert.Equal([.. Enumerable.Repeat((byte)0x5A, 32)], key);
        Assert.DoesNotContain(answer, value => value != 0);
    }

    [Fact]
    public void Peer_WithBuffersOfAnotherLength_Throws()
    {
        var client = new AttestingPeer(new FixedPeers(PeerResult.NotThere, []));
        Assert.Throws<ArgumentException>(() => client.DeriveKey(Fields, 0, 0, new byte[31]));
        Assert.Throws<ArgumentException>(() => client.GetReport(new byte[64], out _, out _));
    }

    private static byte[] DeriveUntilDone(AttestationGuest guest, DerivedKeyFields fields)
    {
        AttestingResult result;
        byte[] key;
        do
        {
            result = Derive(guest, out key, fields);
        }
        while (result == AttestingResult.Busy);

        Assert.Equal(AttestingResult.Done, result);
        return key;
    }

    private static void AssertBad(AttestationGuest guest, byte[] request)
    {
        int left = guest.Kernel.Left.Count;
        Assert.Equal([4, 0, 0, 0, 0, 0, 0, 0], guest.Test.Ask(ModuleMessageKind.Key, 9, request));
        Assert.Equal(left, guest.Kernel.Left.Count);
    }

    private static void AssertGivenUp(AttestationGuest guest)
    {
        Assert.Equal(AttestingResult.NoKey, Derive(guest, out _));
        Assert.Equal(AttestingResult.NoKey, Derive(guest, out byte[] key));
        Assert.Equal(new byte[32], key);
        Assert.False(guest.Kernel.HasKey);
        Assert.Single(guest.Kernel.Left);
        Assert.Contains("given up", Assert.Single(guest.Test.Log).Line, StringComparison.Ordinal);
    }

    private sealed class FixedPeers(PeerResult result, byte[] bytes) : ModulePeers
    {
        public override PeerResult Ask(ModuleMessageKind kind, ReadOnlySpan<byte> request, out byte[] answer)
        {
            Assert.Equal(ModuleMessageKind.Key, kind);
            answer = bytes;
            return result;
        }
    }
}
