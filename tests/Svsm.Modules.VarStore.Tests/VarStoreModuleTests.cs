// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using System.Linq;
using Svsm.Core.Testing;
using Svsm.Wire;
using Xunit;

namespace Svsm.Modules.VarStore.Tests;

/// <summary>UEFI variables as a module: what a guest sees of it.</summary>
public sealed class VarStoreModuleTests : IDisposable
{
    private const ulong Address = 0x1_0000;
    private const int Buffer = 0x1_0000;
    private const int MemorySize = 0x10_0000;

    private static readonly VariableId s_id = new(TestFirmware.Vendor, "A");

    private readonly ModuleTest _test = new(new VarStoreModule(), MemorySize);

    public void Dispose() => _test.Dispose();

    private static byte[] Message(Guid receiver, byte[] payload) => [.. TestFirmware.Header(receiver, payload.Length), .. payload];

    private static byte[] Function(ulong function, byte[] body)
    {
        byte[] head = new byte[16];
        BinaryPrimitives.WriteUInt64LittleEndian(head, function);
        return Message(TestFirmware.Variables, [.. head, .. body]);
    }

    private static byte[] Set(params byte[] data) => Function(3, TestFirmware.Access(s_id, TestFirmware.NonVolatile, data.Length, data));

    private static byte[] Get(int room) => Function(1, TestFirmware.Access(s_id, 0, room, new byte[room]));

    private (SvsmResultCode Code, EfiStatus Status, byte[] Answer) Call(byte[] message, ulong length = Buffer)
    {
        _test.Memory.GuestWrite(new(Address), message);
        SvsmResultCode code = _test.Call(1, Address, length).Code;
        byte[] answer = _test.Memory.GuestRead(new(Address), message.Length);
        return (code, (EfiStatus)BinaryPrimitives.ReadUInt64LittleEndian(_test.Memory.GuestRead(new(Address + 32), sizeof(ulong))), answer);
    }

    [Fact]
    public void Request_SetAndGet_AnswerInPlaceAndNowhereElse()
    {
        byte[] pattern = [.. Enumerable.Range(0, Buffer).Select(i => (byte)(i * 7))];
        _test.Memory.GuestWrite(new(Address), pattern);
        byte[] message = Set(1, 2, 3);
        Assert.Equal((SvsmResultCode.Success, EfiStatus.Success), (Call(message).Code, Call(message).Status));
        message = Get(3);
        (SvsmResultCode code, EfiStatus status, byte[] answer) = Call(message);
        Assert.Equal((SvsmResultCode.Success, EfiStatus.Success), (code, status));
        Assert.Equal([1, 2, 3], answer[^3..]);
        Assert.Equal(message[..24], answer[..24]);
        Assert.Equal(pattern[message.Length..], _test.Memory.GuestRead(new(Address + (ulong)message.Length), Buffer - message.Length));
    }

    [Fact]
    public void Request_RegistersStayAsTheyWere()
    {
        _test.Memory.GuestWrite(new(Address), Set(1));
        Assert.Equal(new SvsmAnswer(SvsmResultCode.Success, Address, Buffer, 3, 4), _test.Call(1, Address, Buffer, 3, 4));
    }

    [Theory]
    [InlineData(0u)]
    [InlineData(2u)]
    [InlineData(3u)]
    [InlineData(uint.MaxValue)]
    public void Call_Unknown_IsUnsupported(uint call) => Assert.Equal(SvsmResultCode.UnsupportedCall, _test.Call(call, Address, Buffer).Code);

    [Theory]
    [InlineData(0ul, 0x1000ul, SvsmResultCode.InvalidParameter)]
    [InlineData(Address, 0ul, SvsmResultCode.InvalidParameter)]
    [InlineData(Address, 23ul, SvsmResultCode.InvalidParameter)]
    [InlineData(Address, 0x4_0001ul, SvsmResultCode.InvalidParameter)]
    [InlineData(Address, ulong.MaxValue, SvsmResultCode.InvalidParameter)]
    [InlineData(Address, 24ul, SvsmResultCode.InvalidParameter)]
    [InlineData(Address + 1, 0x1000ul, SvsmResultCode.InvalidAddress)]
    [InlineData(Address + 0x800, 0x1000ul, SvsmResultCode.InvalidAddress)]
    [InlineData((ulong)MemorySize, 0x1000ul, SvsmResultCode.InvalidAddress)]
    [InlineData(0xFFFF_FFFF_FFFF_F000ul, 0x1000ul, SvsmResultCode.InvalidAddress)]
    [InlineData(0x000F_FFFF_FFFF_F000ul, 0x1000ul, SvsmResultCode.InvalidAddress)]
    [InlineData(Address, 0x4_0000ul, SvsmResultCode.Success)]
    public void Request_AddressAndSize_AreChecked(ulong address, ulong length, SvsmResultCode expected)
    {
        _test.Memory.GuestWrite(new(Address), Set(1));
        Assert.Equal(expected, _test.Call(1, address, length).Code);
        Assert.Equal(expected == SvsmResultCode.Success ? EfiStatus.Success : EfiStatus.NotFound, Call(Get(9)).Status);
    }

    [Fact]
    public void Request_PayloadOrReceiverThatIsNone_IsAnInvalidParameter()
    {
        Assert.Equal(SvsmResultCode.InvalidParameter, Call(Message(TestFirmware.Vendor, new byte[100])).Code);
        Assert.Equal(SvsmResultCode.InvalidParameter, Call(Message(TestFirmware.Variables, new byte[15])).Code);
        Assert.Equal(SvsmResultCode.InvalidParameter, Call(Set(1), 60).Code);
        Assert.Equal(SvsmResultCode.Success, Call(Message(TestFirmware.EndOfDxe, [0])).Code);
    }

    [Fact]
    public void Request_AllOfALargeBuffer_IsUsed()
    {
        byte[] data = [.. Enumerable.Range(0, 0x1_0000).Select(i => (byte)(i * 3))];
        Assert.Equal((SvsmResultCode.Success, EfiStatus.Success), (Call(Set(data), 0x2_0000).Code, Call(Set(data), 0x2_0000).Status));
        (_, EfiStatus status, byte[] answer) = Call(Get(data.Length), 0x2_0000);
        Assert.Equal(EfiStatus.Success, status);
        Assert.Equal(data, answer[^data.Length..]);
        Assert.Equal(0x2_0000ul - 40, BinaryPrimitives.ReadUInt64LittleEndian(Call(Function(11, new byte[8]), 0x2_0000).Answer.AsSpan(40)));
    }

    [Fact]
    public void Request_MemoryThatIsNotTheGuests_HasNoEffect()
    {
        byte[] data = new byte[0x2000];
        byte[] message = Set(data);
        _test.Memory.GuestWrite(new(Address), message);
        foreach (GuestPageAccess access in (GuestPageAccess[])[GuestPageAccess.None, GuestPageAccess.Read])
        {
            for (ulong page = 0; page < 3; page++)
            {
                _test.Memory.SetAccess(new(Address + (page * 0x1000)), 1, access);
                Assert.Equal(SvsmResultCode.InvalidAddress, _test.Call(1, Address, Buffer).Code);
                _test.Memory.SetAccess(new(Address + (page * 0x1000)), 1, GuestPageAccess.ReadWrite);
            }
        }

        Assert.Equal(EfiStatus.NotFound, Call(Get(9)).Status);
    }

    [Fact]
    public void Request_IsReadOnce()
    {
        byte[] message = Set(1, 2, 3);
        int reads = 0;
        _test.Memory.GuestWrite(new(Address), message);
        _test.Memory.BeforeAccess = access =>
        {
            // Header and payload; then the guest writes over all of it.
            if (!access.IsWrite && ++reads > 2)
            {
                Assert.Fail("read again");
            }

            if (access.IsWrite)
            {
                _test.Memory.GuestWrite(new(Address), new byte[message.Length]);
            }
        };
        Assert.Equal(SvsmResultCode.Success, _test.Call(1, Address, Buffer).Code);
        _test.Memory.BeforeAccess = null;
        Assert.Equal([1, 2, 3], Call(Get(3)).Answer[^3..]);
    }

    [Fact]
    public void Request_HeaderAndPayloadThatDoNotBelongTogether_AreHarmless()
    {
        // The guest changes the length after the header was read: the payload is as long as was said.
        _test.Memory.GuestWrite(new(Address), Set(1, 2, 3));
        int accesses = 0;
        _test.Memory.BeforeAccess = _ =>
        {
            if (++accesses == 2)
            {
                _test.Memory.GuestWrite(new(Address + 16), [0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F]);
            }
        };
        Assert.Equal(SvsmResultCode.Success, _test.Call(1, Address, Buffer).Code);
        _test.Memory.BeforeAccess = null;
        Assert.Equal(EfiStatus.Success, Call(Get(3)).Status);
    }

    [Fact]
    public void Reset_IsANewStart()
    {
        Call(Set(1));
        Call(Message(TestFirmware.ExitBootServices, [0]));
        Assert.Equal(EfiStatus.Unsupported, Call(Function(5, new byte[8])).Status);
        _test.Reset();
        Assert.Equal(EfiStatus.Success, Call(Function(5, new byte[8])).Status);
        Assert.Equal(EfiStatus.Success, Call(Get(1)).Status);
    }

    [Fact]
    public void Manifest_SaysWhatThereIs()
    {
        Assert.Equal([0, 0, 0, 0, 4, 0, 0, 0], _test.GetManifest(0));
        Assert.Null(_test.GetManifest(1));
        TestSigner owner = TestSigner.Named("Owner");
        using var stored = new ModuleTest(new VarStoreModule(new TestStorage(), new SecureBootKeys(owner.Der, default, default, default)), MemorySize);
        Assert.Equal([0, 0, 0, 0, 7, 0, 0, 0], stored.GetManifest(0));
        Assert.Contains(stored.Log, line => line.Line == "UEFI variables: stored, secure boot on");
        Assert.Contains(_test.Log, line => line.Line == "UEFI variables: they end with the VM, secure boot off");
    }

    [Fact]
    public void Start_WithoutAStoreOrGoodKeys_Fails()
    {
        Assert.Contains("cannot be read", Assert.Throws<InvalidOperationException>(() => new ModuleTest(new VarStoreModule(new TestStorage { Fails = true }, null))).Message, StringComparison.Ordinal);
        Assert.Contains("/secureboot/", Assert.Throws<InvalidOperationException>(() =>
            new ModuleTest(new VarStoreModule(new MemoryVariableStorage(), new SecureBootKeys(new byte[] { 1 }, default, default, default)))).Message, StringComparison.Ordinal);
    }
}
