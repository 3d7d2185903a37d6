// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using System.Linq;
using Xunit;

namespace Svsm.Simulator.Tests;

public sealed class GuestMessagesTests
{
    private const byte Cpuid = 1;
    private const byte Key = 3;
    private const byte Report = 5;
    private const byte Tsc = 17;

    // A TSC_INFO request with VMPCK0 of 32 bytes 0x40 and number 1; computed with Python's cryptography package.
    private const string VectorTag = "88d80700203ff8dcbc676284e28971db";
    private const string VectorPayload = "a53bfec6a12d2d7a6731dd72da7db43f1eed7021c28117aca7691bb0c3798b57bee24d8a6a289e9b9d8fdb0f00ee4452000224b058b875ec7504b0b24a1a5ac7b1c2f4e24cbdacc09e8da3caa50b8be6093faada3d30d7c46e555b14f7f5aba3d59841b9bdf6ee725e49df51509b4c53583c32380e482665deaecc0810d2f64b";

    [Fact]
    public void Handle_Vector_IsTaken()
    {
        byte[] page = new byte[4096];
        Convert.FromHexString(VectorTag).CopyTo(page, 0);
        page[32] = 1;
        new byte[] { 1, 1, 0x60, 0, 17, 1, 128, 0 }.CopyTo(page, 48);
        Convert.FromHexString(VectorPayload).CopyTo(page, 96);

        Assert.Equal(FirmwareStatus.Success, Processor().Handle(page, out byte[] response));

        byte[] payload = TestMessage.Open(response, 18, 2);
        byte[] expected = new byte[128];
        expected[12] = 1;
        Assert.Equal(expected, payload);
    }

    [Fact]
    public void Handle_Numbers_CountPerKey()
    {
        GuestMessages processor = Processor();

        for (ulong number = 1; number < 7; number += 2)
        {
            for (int key = 0; key < 4; key++)
            {
                Assert.Equal(FirmwareStatus.Success, processor.Handle(TestMessage.Seal(Tsc, number, new byte[128], key), out byte[] response));
                TestMessage.Open(response, 18, number + 1, key);
            }
        }
    }

    [Theory]
    [InlineData(0ul)]
    [InlineData(2ul)]
    [InlineData(3ul)]
    [InlineData(ulong.MaxValue)]
    public void Handle_WrongNumber_IsRefusedAndUsesNone(ulong number)
    {
        GuestMessages processor = Processor();

        AssertRefused(processor, TestMessage.Seal(Tsc, number, new byte[128]), FirmwareStatus.AeadOverflow);

        Assert.Equal(FirmwareStatus.Success, processor.Handle(TestMessage.Seal(Tsc, 1, new byte[128]), out _));
    }

    [Fact]
    public void Handle_Replay_IsRefused()
    {
        GuestMessages processor = Processor();
        byte[] page = TestMessage.Seal(Tsc, 1, new byte[128]);

        Assert.Equal(FirmwareStatus.Success, processor.Handle(page, out _));
        AssertRefused(processor, page, FirmwareStatus.AeadOverflow);
    }

    // The number is part of what the tag protects, so it is looked at afterwards.
    [Fact]
    public void Handle_WrongNumberAndWrongTag_IsTheTag()
    {
        byte[] page = TestMessage.Seal(Tsc, 7, new byte[128]);
        page[0] ^= 1;

        AssertRefused(Processor(), page, FirmwareStatus.BadMeasurement);
    }

    [Fact]
    public void Handle_LastNumbers_AreUsedAndNotMore()
    {
        var processor = new GuestMessages(TestMessage.Guest(), () => TestChip.Instance, 2, [ulong.MaxValue - 2, 0, 0, 0]);

        Assert.Equal(FirmwareStatus.Success, processor.Handle(TestMessage.Seal(Tsc, ulong.MaxValue - 1, new byte[128]), out byte[] response));
        TestMessage.Open(response, 18, ulong.MaxValue);
        AssertRefused(processor, TestMessage.Seal(Tsc, 0, new byte[128]), FirmwareStatus.AeadOverflow);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(15)]
    [InlineData(52)]
    [InlineData(96)]
    [InlineData(223)]
    public void Handle_ChangedByte_IsRefused(int offset)
    {
        GuestMessages processor = Processor();
        byte[] page = TestMessage.Seal(Tsc, 1, new byte[128]);
        page[offset] ^= 1;

        AssertRefused(processor, page, FirmwareStatus.BadMeasurement);

        // The same message, whole, is still good: the refused one used no number.
        page[offset] ^= 1;
        Assert.Equal(FirmwareStatus.Success, processor.Handle(page, out _));
    }

    [Fact]
    public void Handle_TornMessage_IsRefused()
    {
        byte[] page = TestMessage.Seal(Report, 1, TestMessage.ReportRequest());
        byte[] other = TestMessage.Seal(Report, 1, TestMessage.ReportRequest(fill: 1));
        other.AsSpan(128).CopyTo(page.AsSpan(128));

        AssertRefused(Processor(), page, FirmwareStatus.BadMeasurement);
    }

    [Fact]
    public void Handle_OtherKey_IsRefused()
    {
        byte[] page = TestMessage.Seal(Tsc, 1, new byte[128], key: 1);
        page[60] = 0;

        AssertRefused(Processor(), page, FirmwareStatus.BadMeasurement);
    }

    [Theory]
    [InlineData(40, 1)]
    [InlineData(47, 1)]
    [InlineData(48, 0)]
    [InlineData(48, 2)]
    [InlineData(49, 2)]
    [InlineData(50, 0x61)]
    [InlineData(51, 1)]
    [InlineData(53, 0)]
    [InlineData(53, 2)]
    [InlineData(54, 0)]
    [InlineData(54, 0x81)]
    [InlineData(55, 0x10)]
    [InlineData(56, 1)]
    [InlineData(60, 4)]
    [InlineData(61, 1)]
    [InlineData(95, 1)]
    public void Handle_HeaderField_IsChecked(int offset, byte value) =>
        AssertRefused(Processor(), TestMessage.Seal(Tsc, 1, new byte[128], edit: page => page[offset] = value), FirmwareStatus.InvalidParameter);

    [Theory]
    [InlineData(0, 128)]
    [InlineData(2, 16)]
    [InlineData(4, 32)]
    [InlineData(6, 96)]
    [InlineData(7, 16)]
    [InlineData(13, 32)]
    [InlineData(255, 16)]
    [InlineData(Key, 16)]
    [InlineData(Key, 40)]
    [InlineData(Report, 80)]
    [InlineData(Report, 95)]
    [InlineData(Tsc, 112)]
    [InlineData(Tsc, 0)]
    public void Handle_TypeOrSize_IsRefused(byte type, int size) =>
        AssertRefused(Processor(), TestMessage.Seal(type, 1, new byte[size]), FirmwareStatus.InvalidParameter);

    // A type is at least so long; what follows is not looked at.
    [Theory]
    [InlineData(Key, 48)]
    [InlineData(Report, 4000)]
    [InlineData(Tsc, 256)]
    public void Handle_LongerThanTheType_IsTaken(byte type, int size)
    {
        byte[] payload = new byte[size];
        payload[^1] = 1;
        Assert.Equal(0u, BinaryPrimitives.ReadUInt32LittleEndian(Ask(Processor(), type, payload)));
    }

    [Fact]
    public void Cpuid_WithinThePolicy_ComesBackAsItWas()
    {
        byte[] payload = TestMessage.CpuidRequest((0, 0, 0xD, 1, 2, 3), (0x4000_0000, 0, 9, 9, 9, 9), (7, 1, 0x20, 0, 0, 0));

        byte[] response = Ask(Processor(), Cpuid, payload);

        // Two of the three are the processor's.
        Assert.Equal((byte[])[0, 0, 0, 0, 2, 0, 0, 0, .. payload[8..]], response);
    }

    [Fact]
    public void Cpuid_BeyondThePolicy_IsCorrectedAndToldInside()
    {
        byte[] payload = TestMessage.CpuidRequest((7, 1, 0x21, 1, 0, 0), (0, 0, 0xD, 1, 2, 3));
        byte[] corrected = TestMessage.CpuidRequest((7, 1, 0x20, 0, 0, 0), (0, 0, 0xD, 1, 2, 3));

        byte[] response = Ask(Processor(), Cpuid, payload);

        Assert.Equal((byte[])[0x16, 0, 0, 0, 2, 0, 0, 0, .. corrected[8..]], response);
    }

    [Theory]
    [InlineData(0, 65)]
    [InlineData(4, 1)]
    [InlineData(15, 1)]
    public void Cpuid_HeaderOfTheList_IsCheckedInside(int offset, byte value)
    {
        byte[] payload = TestMessage.CpuidRequest((0, 0, 1, 0, 0, 0));
        payload[offset] = value;

        Assert.Equal((byte[])[0x16, .. new byte[payload.Length - 1]], Ask(Processor(), Cpuid, payload));
    }

    [Fact]
    public void Cpuid_MoreFunctionsThanTheMessageHas_IsRefused()
    {
        byte[] payload = TestMessage.CpuidRequest((0, 0, 1, 0, 0, 0));
        payload[0] = 2;

        AssertRefused(Processor(), TestMessage.Seal(Cpuid, 1, payload), FirmwareStatus.InvalidParameter);
    }

    [Fact]
    public void Tsc_NotZero_IsRefusedInside()
    {
        byte[] payload = new byte[128];
        payload[127] = 1;

        byte[] response = Ask(Processor(), Tsc, payload);

        Assert.Equal((byte[])[0x16, .. new byte[127]], response);
    }

    [Fact]
    public void Report_Valid_HasReport()
    {
        byte[] response = Ask(Processor(), Report, TestMessage.ReportRequest(vmpl: 3, select: 1));

        Assert.Equal(0x20 + 0x4A0, response.Length);
        Assert.Equal(0u, BinaryPrimitives.ReadUInt32LittleEndian(response));
        Assert.Equal(0x4A0u, BinaryPrimitives.ReadUInt32LittleEndian(response.AsSpan(4)));
        Assert.Equal(new byte[24], response[8..32]);
        Assert.Equal(3, response[0x20 + 0x30]);
        Assert.All(response[0x70..0xB0], value => Assert.Equal(0xDA, value));
    }

    [Theory]
    [InlineData(0u, 2u, 0, 0x27)]
    [InlineData(0u, 3u, 0, 0x27)]
    [InlineData(0u, 4u, 0, 0x16)]
    [InlineData(4u, 0u, 0, 0x16)]
    [InlineData(1u, 0u, 2, 0x16)]
    public void Report_Invalid_IsRefusedInside(uint vmpl, uint select, int key, byte status)
    {
        GuestMessages processor = Processor();

        byte[] response = Ask(processor, Report, TestMessage.ReportRequest(vmpl, select), key);

        Assert.Equal((byte[])[status, .. new byte[31]], response);

        // It was answered: the numbers are used.
        AssertRefused(processor, TestMessage.Seal(Report, 1, TestMessage.ReportRequest(), key), FirmwareStatus.AeadOverflow);
    }

    [Fact]
    public void Report_ReservedByte_IsRefusedInside()
    {
        byte[] payload = TestMessage.ReportRequest();
        payload[95] = 1;

        Assert.Equal(0x16, Ask(Processor(), Report, payload)[0]);
    }

    [Fact]
    public void Key_SameInputs_GiveSameKeyAfterAnotherLaunch()
    {
        byte[] request = TestMessage.KeyRequest(fields: 0x3F);

        byte[] first = Ask(Processor(), Key, request);

        Assert.Equal(first, Ask(Processor(), Key, request));
        Assert.Equal(64, first.Length);
        Assert.Equal(new byte[32], first[..32]);
        Assert.True(first.AsSpan(32).ContainsAnyExcept((byte)0));
    }

    [Fact]
    public void Key_OtherInputs_GiveOtherKeys()
    {
        Svsm.Igvm.IgvmSnpIdBlock block = TestIdBlock.Sign(TestImage.Digest, TestImage.Policy);
        byte[][] requests =
        [
            .. Enumerable.Range(0, 64).Select(fields => TestMessage.KeyRequest(fields: (ulong)fields)),
            TestMessage.KeyRequest(vmpl: 1),
            TestMessage.KeyRequest(root: 1),
            TestMessage.KeyRequest(fields: 0x10, svn: 7),
            TestMessage.KeyRequest(fields: 0x20, tcb: 1),
        ];

        string[] keys = [.. requests.Select(request => Convert.ToHexStringLower(Ask(Processor(block), Key, request)))];

        Assert.Equal(keys.Length, keys.Distinct().Count());

        // SVN and TCB count only when they are selected.
        Assert.Equal(Ask(Processor(block), Key, TestMessage.KeyRequest()), Ask(Processor(block), Key, TestMessage.KeyRequest(svn: 7, tcb: 1)));
    }

    [Fact]
    public void Key_VmRoot_IsThisLaunchs()
    {
        byte[] request = TestMessage.KeyRequest(root: 1);

        Assert.NotEqual(Ask(Processor(), Key, request), Ask(Processor(), Key, request));
    }

    [Theory]
    [InlineData(8u, 0ul, 0u, 0u, 0ul)]
    [InlineData(4u, 0ul, 0u, 0u, 0ul, 0x27)]
    [InlineData(6u, 0ul, 0u, 0u, 0ul, 0x27)]
    [InlineData(0u, 0x40ul, 0u, 0u, 0ul)]
    [InlineData(0u, 0ul, 4u, 0u, 0ul)]
    [InlineData(0u, 0x10ul, 0u, 1u, 0ul)]
    [InlineData(0u, 0x20ul, 0u, 0u, 0x0000_0000_0000_0005ul)]
    [InlineData(0u, 0x20ul, 0u, 0u, 0x0000_0000_0000_0100ul)]
    [InlineData(0u, 0x20ul, 0u, 0u, 0x0019_0000_0000_0000ul)]
    [InlineData(0u, 0x20ul, 0u, 0u, 0xDC00_0000_0000_0000ul)]
    [InlineData(0u, 0x20ul, 0u, 0u, 0x0000_0000_0001_0000ul)]
    public void Key_Invalid_IsRefusedInside(uint root, ulong fields, uint vmpl, uint svn, ulong tcb, byte status = 0x16) =>
        Assert.Equal((byte[])[status, .. new byte[63]], Ask(Processor(), Key, TestMessage.KeyRequest(root, fields, vmpl, svn, tcb)));

    // Put together by hand from the published layout: policy, image ID, family ID and SVN selected, launch digest and TCB not.
    [Fact]
    public void Key_Vector_IsDerived()
    {
        GuestContext guest = TestMessage.Guest(TestIdBlock.Sign(TestImage.Digest, TestImage.Policy), Enumerable.Repeat((byte)0x11, 32).ToArray());
        var processor = new GuestMessages(guest, () => TestChip.Instance, 2);

        byte[] response = Ask(processor, Key, TestMessage.KeyRequest(root: 1, fields: 0x17, vmpl: 1, svn: 3, tcb: 1));

        byte[] mix = [1 | (1 << 1), 0, 0, 0, 0, 0, 0, 0, 0x17, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 3, 0, 0, 0, .. new byte[8], .. BitConverter.GetBytes(TestImage.Policy),
            .. guest.ImageId, .. guest.FamilyId, .. new byte[64], .. guest.IdKeyDigest(out _)[..32]];
        byte[] expected = System.Security.Cryptography.HMACSHA256.HashData(
            Enumerable.Repeat((byte)0x11, 32).ToArray(), (byte[])[1, 0, 0, 0, .. "gmsg-keyreq"u8, 0, .. mix, 0, 1, 0, 0]);
        Assert.Equal(expected, response[32..]);
    }

    [Fact]
    public void Key_MorePrivilegedVmpl_IsRefusedInside() => Assert.Equal(0x16, Ask(Processor(), Key, TestMessage.KeyRequest(vmpl: 1), key: 2)[0]);

    private static GuestMessages Processor(Svsm.Igvm.IgvmSnpIdBlock? block = null) => new(TestMessage.Guest(block), () => TestChip.Instance, 2);

    private static byte[] Ask(GuestMessages processor, byte type, byte[] payload, int key = 0)
    {
        Assert.Equal(FirmwareStatus.Success, processor.Handle(TestMessage.Seal(type, 1, payload, key), out byte[] response));
        return TestMessage.Open(response, (byte)(type + 1), 2, key);
    }

    private static void AssertRefused(GuestMessages processor, byte[] page, FirmwareStatus status)
    {
        Assert.Equal(status, processor.Handle(page, out byte[] response));
        Assert.Empty(response);
    }
}
