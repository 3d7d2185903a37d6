// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using System.Linq;
using System.Security.Cryptography;
using Svsm.Core;
using Svsm.Core.Testing;
using Svsm.Wire;
using Xunit;

namespace Svsm.Modules.Attestation.Tests;

/// <summary>Messages to the security processor, with a host that is not well, and a module that ends in the middle.</summary>
[Collection(ChipGroup.Name)]
public sealed class ReportSourceTests(ChipFixture fixture)
{
    private static readonly Guid s_vtpm = new("c476f1eb-0123-45a5-9641-b4e7dde5bfe3");

    private AttestationGuest NewGuest(int reportVersion = 2, ulong sequence = 0)
    {
        var guest = new AttestationGuest(new TestKernel(fixture.Chip, reportVersion, sequence) { HostCertificates = new byte[0x1000] });
        guest.Services.Services.Add((s_vtpm, [1, 2, 3], ManifestResult.Success));
        return guest;
    }

    [Theory]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(5)]
    public void Report_OfEachVersion_IsGood(int version)
    {
        using AttestationGuest guest = NewGuest(version);
        guest.AssertGood(guest.CallAllServices());
    }

    // What leaves is a request for a report at VMPL0, and nothing else is in the page.
    [Fact]
    public void Request_HasTheFormatOfTheSecurityProcessor()
    {
        using AttestationGuest guest = NewGuest(sequence: 0x1234);
        byte[] manifest = guest.AssertGood(guest.CallAllServices());
        byte[] page = Assert.Single(guest.Kernel.Left);

        Assert.Equal([1, 1, 0x60, 0, 5, 1, 96, 0, 0, 0, 0, 0, 0], page[0x30..0x3D]);
        Assert.DoesNotContain(page[0x10..0x20], value => value != 0);
        Assert.DoesNotContain(page[0x3D..0x60], value => value != 0);
        Assert.DoesNotContain(page[0xC0..], value => value != 0);
        byte[] payload = new byte[96];
        using var cipher = new AesGcm(guest.Kernel.Key, 16);
        cipher.Decrypt([0x35, 0x12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], page.AsSpan(0x60, 96), page.AsSpan(0, 16), payload, page.AsSpan(0x30, 0x30));
        Assert.Equal([.. SHA512.HashData([.. guest.NonceBytes, .. manifest]), .. new byte[32]], payload);
    }

    [Fact]
    public void HostIsBusyForAMoment_SameBytesAreSentAgain()
    {
        using AttestationGuest guest = NewGuest();
        guest.Kernel.Host.Enqueue(HostDeed.Busy);
        guest.Kernel.Host.Enqueue(HostDeed.Busy);
        guest.AssertGood(guest.CallAllServices());
        Assert.Equal(3, guest.Kernel.Left.Count);
        Assert.Single(guest.Kernel.Left.Select(Convert.ToHexString).Distinct());
    }

    [Fact]
    public void HostStaysBusy_GuestIsToldAndItsNextCallGoesOn()
    {
        using AttestationGuest guest = NewGuest();
        guest.Kernel.SetBusy((2 * GuestRequests.MaxSends) + 1);
        Assert.Equal(SvsmResultCode.Busy, guest.CallAllServices().Code);
        Assert.Equal(SvsmResultCode.Busy, guest.CallAllServices().Code);
        Assert.True(guest.Kernel.IsInFlight);
        guest.AssertNothingWritten();

        guest.AssertGood(guest.CallAllServices());
        Assert.Single(guest.Kernel.Left.Select(Convert.ToHexString).Distinct());
        Assert.Empty(guest.Test.Log);
    }

    [Fact]
    public void HostStaysBusy_AnotherCallerGetsAReportOfItsOwn()
    {
        using AttestationGuest guest = NewGuest();
        guest.Kernel.SetBusy(GuestRequests.MaxSends);
        Assert.Equal(SvsmResultCode.Busy, guest.CallAllServices().Code);
        guest.NonceBytes = RandomNumberGenerator.GetBytes(64);
        guest.AssertGood(guest.CallAllServices());
        Assert.Equal(2, guest.Kernel.Left.Select(Convert.ToHexString).Distinct().Count());
    }

    [Fact]
    public void HostRefuses_KeyIsLostAndToldOnce()
    {
        using AttestationGuest guest = NewGuest();
        guest.AssertGood(guest.CallAllServices());
        guest.Kernel.Host.Enqueue(HostDeed.Refuse);
        for (int i = 0; i < 3; i++)
        {
            Assert.Equal(SvsmResultCode.InvalidRequest, guest.CallAllServices().Code);
        }

        Assert.Equal(2, guest.Kernel.Left.Count);
        Assert.Contains("is lost", Assert.Single(guest.Test.Log).Line, StringComparison.Ordinal);

        // A new process cannot bring it back.
        guest.Restart();
        Assert.Equal(SvsmResultCode.InvalidRequest, guest.CallAllServices().Code);
        Assert.Equal(2, guest.Kernel.Left.Count);
    }

    // The security processor had the message, the host says "busy", and the same bytes come too late: it refuses, and the key is lost.
    [Fact]
    public void HostLosesAnAnswer_KeyIsLost()
    {
        using AttestationGuest guest = NewGuest();
        guest.Kernel.Host.Enqueue(HostDeed.DeliverAndSayBusy);
        Assert.Equal(SvsmResultCode.InvalidRequest, guest.CallAllServices().Code);
        Assert.False(guest.Kernel.HasKey);
        guest.Kernel.AssertNoNumberTwice();
    }

    public static TheoryData<int> AnswerBytes => [.. new[] { 0x00, 0x0F, 0x20, 0x27, 0x30, 0x31, 0x32, 0x33, 0x34, 0x35, 0x36, 0x37, 0x38, 0x3C, 0x3D, 0x5F, 0x60, 0x80, 0x300, 0x51F }];

    [Theory]
    [MemberData(nameof(AnswerBytes))]
    public void AnswerIsChanged_KeyIsGivenUp(int offset)
    {
        using AttestationGuest guest = NewGuest();
        guest.Kernel.Tamper = page => page[offset] ^= 1;
        AssertGivenUp(guest);
    }

    [Fact]
    public void AnswerIsEmpty_KeyIsGivenUp()
    {
        using AttestationGuest guest = NewGuest();
        guest.Kernel.Tamper = Array.Clear;
        AssertGivenUp(guest);
    }

    [Fact]
    public void AnswerIsTheOneBefore_KeyIsGivenUp()
    {
        using AttestationGuest guest = NewGuest();
        byte[] first = [];
        guest.Kernel.Tamper = page => first = [.. page];
        guest.AssertGood(guest.CallAllServices());
        guest.Kernel.Tamper = page => first.CopyTo(page, 0);
        AssertGivenUp(guest);
    }

    [Fact]
    public void AnswerIsTheRequest_KeyIsGivenUp()
    {
        using AttestationGuest guest = NewGuest();
        guest.Kernel.Instead = request => request;
        AssertGivenUp(guest);
    }

    // Authentic, under the right number, and wrong all the same: who has the key is not the security processor alone, or it is out of order.
    [Theory]
    [InlineData(3, 0x20, 0)]
    [InlineData(0x20, 0x4C0, 0)]
    [InlineData(0x4BF, 0x4BF, 0x4A0)]
    [InlineData(0x4C0, 0x4C0, 0x49F)]
    [InlineData(0x4C1, 0x4C0, 0x4A1)]
    [InlineData(0x4C0, 0x4C0, 0x4A0)]
    public void AuthenticAnswerThatIsNone_IsNotHandedOn(int length, int room, int size)
    {
        using AttestationGuest guest = NewGuest();
        guest.Kernel.Instead = request =>
        {
            byte[] payload = new byte[Math.Max(length, room)];
            BinaryPrimitives.WriteInt32LittleEndian(payload.AsSpan(4), size);
            return guest.Kernel.Seal(request, 6, payload[..length]);
        };
        Assert.Equal(SvsmResultCode.InvalidRequest, guest.CallAllServices().Code);
        guest.AssertNothingWritten();
        Assert.Equal(length == 3, guest.Kernel.HasKey);
    }

    [Fact]
    public void ReportIsAboutAnotherVmpl_IsNotHandedOn()
    {
        using AttestationGuest guest = NewGuest();
        guest.Kernel.Instead = request => guest.Kernel.Seal(request, 6, NewReport(guest, vmpl: 1));
        AssertGivenUp(guest);
    }

    [Fact]
    public void ReportHasOtherData_IsNotHandedOn()
    {
        using AttestationGuest guest = NewGuest();
        guest.Kernel.Instead = request =>
        {
            byte[] report = NewReport(guest, vmpl: 0);
            report[0x20 + 0x8F] ^= 0x80;
            return guest.Kernel.Seal(request, 6, report);
        };
        AssertGivenUp(guest);
    }

    [Fact]
    public void AnswerOfAnotherType_KeyIsGivenUp()
    {
        using AttestationGuest guest = NewGuest();
        guest.Kernel.Instead = request => guest.Kernel.Seal(request, 4, NewReport(guest, vmpl: 0));
        AssertGivenUp(guest);
    }

    // It would be a good answer otherwise.
    [Fact]
    public void AnswerOfATest_IsTaken()
    {
        using AttestationGuest guest = NewGuest();
        guest.Kernel.Instead = request => guest.Kernel.Seal(request, 6, NewReport(guest, vmpl: 0));
        Assert.Equal(SvsmResultCode.Success, guest.CallAllServices().Code);
    }

    [Theory]
    [InlineData(0x16u)]
    [InlineData(0x27u)]
    [InlineData(uint.MaxValue)]
    public void SecurityProcessorGivesNoReport_KeyStays(uint status)
    {
        using AttestationGuest guest = NewGuest();
        guest.Kernel.Instead = request =>
        {
            byte[] payload = new byte[0x20];
            BinaryPrimitives.WriteUInt32LittleEndian(payload, status);
            return guest.Kernel.Seal(request, 6, payload);
        };
        Assert.Equal(SvsmResultCode.InvalidRequest, guest.CallAllServices().Code);
        Assert.Contains($"status 0x{status:X}", Assert.Single(guest.Test.Log).Line, StringComparison.Ordinal);
        Assert.True(guest.Kernel.HasKey);
    }

    [Fact]
    public void NumbersAreUsedUp_NothingIsSent()
    {
        using AttestationGuest guest = NewGuest(sequence: ulong.MaxValue - 3);
        guest.AssertGood(guest.CallAllServices());
        Assert.Equal(SvsmResultCode.InvalidRequest, guest.CallAllServices().Code);
        Assert.Single(guest.Kernel.Left);
    }

    // The module ends at every step of a call, with a host that answers at once, or after having been busy.
    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(GuestRequests.MaxSends + 1)]
    public void ModuleEnds_AtEachStep_NoNumberHasTwoContents(int busy)
    {
        int steps = int.MaxValue;
        for (int step = 0; step < steps; step++)
        {
            using AttestationGuest guest = NewGuest();
            guest.Kernel.SetBusy(busy);
            guest.Kernel.CrashAt = step;
            try
            {
                CallUntilDone(guest);
                steps = step;
            }
            catch (CrashException)
            {
                guest.Restart();
            }

            guest.Kernel.CrashAt = -1;

            // Another caller, so that the new process has another request to make.
            guest.NonceBytes = RandomNumberGenerator.GetBytes(64);
            guest.AssertGood(CallUntilDone(guest));
            Assert.True(guest.Kernel.HasKey);
        }

        Assert.True(steps >= 8);
    }

    // Again and again, at drawn steps, with drawn deeds of the host and answers that are changed.
    [Theory]
    [InlineData(1, 2_000)]
    [InlineData(2, 2_000)]
    public void ModuleEnds_AgainAndAgain_NoNumberHasTwoContents(int seed, int calls) => EndAgainAndAgain(seed, calls);

    [Theory]
    [Trait("Run", "all")]
    [InlineData(3, 200_000)]
    public void ModuleEnds_ManyTimes_NoNumberHasTwoContents(int seed, int calls) => EndAgainAndAgain(seed, calls);

    private void EndAgainAndAgain(int seed, int calls)
    {
        var random = new Random(seed);
        AttestationGuest guest = NewGuest();
        int good = 0;
        int keys = 0;
        int ended = 0;
        try
        {
            for (int call = 0; call < calls; call++)
            {
                if (!guest.Kernel.HasKey || guest.Kernel.Left.Count > 50)
                {
                    guest.Kernel.AssertNoNumberTwice();
                    guest.Dispose();
                    guest = NewGuest();
                }

                guest.Kernel.SetBusy(random.Next(3) == 0 ? random.Next(2 * GuestRequests.MaxSends) : 0);
                guest.Kernel.Host.Enqueue(random.Next(40) switch { 0 => HostDeed.Refuse, 1 => HostDeed.DeliverAndSayBusy, _ => HostDeed.Deliver });
                guest.Kernel.Tamper = random.Next(40) == 0 ? page => page[random.Next(page.Length)] ^= 1 : null;
                guest.Kernel.CrashAt = random.Next(2) == 0 ? guest.Kernel.Steps + random.Next(16) : -1;
                if (random.Next(2) == 0)
                {
                    guest.NonceBytes = RandomNumberGenerator.GetBytes(64);
                }

                try
                {
                    if (random.Next(3) == 0)
                    {
                        AttestingResult result = new AttestingPeer(guest.NewPeers()).DeriveKey(DerivedKeyFields.Policy, 0, 0, new byte[32]);
                        Assert.True(result is AttestingResult.Done or AttestingResult.Busy or AttestingResult.NoKey, result.ToString());
                        keys += result == AttestingResult.Done ? 1 : 0;
                        continue;
                    }

                    SvsmAnswer answer = guest.CallAllServices();
                    Assert.True(answer.Code is SvsmResultCode.Success or SvsmResultCode.Busy or SvsmResultCode.InvalidRequest, answer.ToString());
                    good += answer.Code == SvsmResultCode.Success ? 1 : 0;
                }
                catch (CrashException)
                {
                    ended++;
                    guest.Restart();
                }
            }

            guest.Kernel.AssertNoNumberTwice();
        }
        finally
        {
            guest.Dispose();
        }

        Assert.True(good > calls / 6 && keys > calls / 10 && ended > calls / 8, $"{good} good, {keys} keys, {ended} ended");
    }

    private static SvsmAnswer CallUntilDone(AttestationGuest guest)
    {
        SvsmAnswer answer;
        do
        {
            answer = guest.CallAllServices();
        }
        while (answer.Code == SvsmResultCode.Busy);

        return answer;
    }

    private static void AssertGivenUp(AttestationGuest guest)
    {
        int left = guest.Kernel.Left.Count;
        byte[] before = guest.Test.Memory.GuestRead(new(AttestationGuest.Report), 0x1000);
        for (int i = 0; i < 2; i++)
        {
            Assert.Equal(SvsmResultCode.InvalidRequest, guest.CallAllServices().Code);
        }

        Assert.False(guest.Kernel.HasKey);
        Assert.Equal(left + 1, guest.Kernel.Left.Count);
        Assert.Equal(before, guest.Test.Memory.GuestRead(new(AttestationGuest.Report), 0x1000));
        Assert.Contains("given up", Assert.Single(guest.Test.Log).Line, StringComparison.Ordinal);
    }

    // The payload of an answer with a report, unsigned: nobody but a verifier looks at that.
    private static byte[] NewReport(AttestationGuest guest, uint vmpl)
    {
        byte[] manifest =
        [
            .. new Guid("63849ebb-3d92-4670-a1ff-58f9c94b87bb").ToByteArray(), 51, 0, 0, 0, 1, 0, 0, 0, .. s_vtpm.ToByteArray(), 48, 0, 0, 0, 3, 0, 0, 0, 1, 2, 3,
        ];
        byte[] payload = new byte[0x20 + 0x4A0];
        BinaryPrimitives.WriteInt32LittleEndian(payload.AsSpan(4), 0x4A0);
        BinaryPrimitives.WriteUInt32LittleEndian(payload.AsSpan(0x20 + 0x30), vmpl);
        SHA512.HashData([.. guest.NonceBytes, .. manifest]).CopyTo(payload, 0x20 + 0x50);
        return payload;
    }
}
