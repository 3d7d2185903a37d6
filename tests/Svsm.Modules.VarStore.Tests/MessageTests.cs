// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using System.Linq;
using Xunit;

namespace Svsm.Modules.VarStore.Tests;

/// <summary>Messages whose lengths are wrong, and the functions beside the four services.</summary>
public sealed class MessageTests
{
    private readonly TestFirmware _firmware = new();

    private static VariableId Id(string name) => new(TestFirmware.Vendor, name);

    [Theory]
    [InlineData(16, 0x1000, true)]
    [InlineData(15, 0x1000, false)]
    [InlineData(0, 0x1000, false)]
    [InlineData(0x1000 - 24, 0x1000, true)]
    [InlineData(0x1000 - 23, 0x1000, false)]
    [InlineData(1, 24, false)]
    [InlineData(-1, 0x1000, false)]
    [InlineData(long.MinValue, 0x1000, false)]
    [InlineData(1L << 32, 0x1000, false)]
    public void Header_Length_HasToFit(long length, int buffer, bool expected) =>
        Assert.Equal(expected, VariableStore.TryReadHeader(TestFirmware.Header(TestFirmware.Variables, length), buffer, out _));

    [Fact]
    public void Header_Receivers_AreFive()
    {
        Assert.True(VariableStore.TryReadHeader(TestFirmware.Header(TestFirmware.Policies, 20), 0x1000, out _));
        Assert.False(VariableStore.TryReadHeader(TestFirmware.Header(TestFirmware.Policies, 19), 0x1000, out _));
        foreach (Guid receiver in (Guid[])[TestFirmware.EndOfDxe, TestFirmware.ReadyToBoot, TestFirmware.ExitBootServices])
        {
            Assert.True(VariableStore.TryReadHeader(TestFirmware.Header(receiver, 0), 24, out _));
        }

        Assert.False(VariableStore.TryReadHeader(TestFirmware.Header(TestFirmware.Vendor, 100), 0x1000, out _));
        Assert.False(VariableStore.TryReadHeader(TestFirmware.Header(Guid.Empty, 100), 0x1000, out _));
    }

    [Theory]
    [InlineData(1, 36)]
    [InlineData(2, 24)]
    [InlineData(3, 36)]
    [InlineData(4, 28)]
    [InlineData(8, 24)]
    [InlineData(9, 48)]
    [InlineData(10, 48)]
    [InlineData(11, 8)]
    public void Body_TooShort_IsABadBufferSize(int function, int shortest)
    {
        for (int length = 0; length < shortest; length++)
        {
            Assert.Equal(EfiStatus.BadBufferSize, _firmware.Call((ulong)function, new byte[length], out _));
        }

        Assert.NotEqual(EfiStatus.BadBufferSize, _firmware.Call((ulong)function, new byte[shortest], out _));
    }

    [Theory]
    [InlineData(0)]
    [InlineData(7)]
    [InlineData(12)]
    [InlineData(13)]
    [InlineData(14)]
    [InlineData(15)]
    [InlineData(ulong.MaxValue)]
    public void Function_NotServed_IsUnsupported(ulong function)
    {
        byte[] body = [.. Enumerable.Range(0, 100).Select(i => (byte)i)];
        Assert.Equal(EfiStatus.Unsupported, _firmware.Call(function, body, out byte[] answer));
        Assert.Equal(body, answer);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(3)]
    public void Access_LengthsThatDoNotFit_AreDenied(int function)
    {
        (long Data, long Name)[] bad =
        [
            (3, 4), (2, 5), (0, 7), (long.MaxValue, 4), (-1, 4), (-4, 6), (2, -1), (2, -2), (1, 0), (1, 1), (-2, 8), (long.MinValue, long.MinValue), (2, 3),
        ];
        foreach ((long data, long name) in bad)
        {
            byte[] body = TestFirmware.Access(Id("A"), TestFirmware.Volatile, data, [1, 2]);
            BinaryPrimitives.WriteInt64LittleEndian(body.AsSpan(24), name);
            Assert.Equal(EfiStatus.AccessDenied, _firmware.Call((ulong)function, body, out byte[] answer));
            Assert.Equal(body, answer);
        }

        Assert.Null(_firmware.Get("A"));
    }

    [Fact]
    public void Access_NameWithoutEnd_IsDenied()
    {
        byte[] body = TestFirmware.Access(Id("AB"), TestFirmware.Volatile, 1, [1]);
        body[40] = 1;
        Assert.Equal(EfiStatus.AccessDenied, _firmware.Call(3, body, out _));
        Assert.Equal(EfiStatus.AccessDenied, _firmware.Call(1, body, out _));
    }

    [Theory]
    [InlineData(5, 4, EfiStatus.AccessDenied)]
    [InlineData(-1, 4, EfiStatus.AccessDenied)]
    [InlineData(long.MinValue, 4, EfiStatus.AccessDenied)]
    [InlineData(0, 4, EfiStatus.InvalidParameter)]
    [InlineData(1, 4, EfiStatus.InvalidParameter)]
    [InlineData(0, 0, EfiStatus.AccessDenied)]
    [InlineData(1, 1, EfiStatus.AccessDenied)]
    public void NextName_LengthsThatDoNotFit_AreErrors(long size, int room, EfiStatus expected)
    {
        byte[] body = new byte[24 + room];
        BinaryPrimitives.WriteInt64LittleEndian(body.AsSpan(16), size);
        Assert.Equal(expected, _firmware.Call(2, body, out byte[] answer));
        Assert.Equal(body, answer);
    }

    [Fact]
    public void NextName_BufferWithoutEnd_IsDenied()
    {
        byte[] body = new byte[24 + 8];
        BinaryPrimitives.WriteInt64LittleEndian(body.AsSpan(16), 8);
        body[24 + 6] = 1;
        Assert.Equal(EfiStatus.AccessDenied, _firmware.Call(2, body, out _));
    }

    [Fact]
    public void PayloadSize_IsThatOfTheGuestsBuffer()
    {
        Assert.Equal(EfiStatus.Success, _firmware.Call(11, new byte[8], out byte[] answer));
        Assert.Equal(0x1_0000ul - 24 - 16, BinaryPrimitives.ReadUInt64LittleEndian(answer));
    }

    [Fact]
    public void Lock_IsUntilTheEndOfDxe_AndHoldsFromThere()
    {
        _firmware.Set("A", TestFirmware.NonVolatile, 1);
        Assert.Equal(EfiStatus.Success, _firmware.Call(8, Named("A"), out _));
        Assert.Equal(EfiStatus.AlreadyStarted, _firmware.Call(8, Named("A"), out _));
        Assert.Equal(EfiStatus.InvalidParameter, _firmware.Call(8, Named(""), out _));
        Assert.Equal(EfiStatus.InvalidParameter, _firmware.Call(8, Named(new string('n', 512)), out _));
        Assert.Equal(EfiStatus.Success, _firmware.Set("A", TestFirmware.NonVolatile, 2));
        _firmware.Notify(TestFirmware.EndOfDxe);
        Assert.Equal(EfiStatus.WriteProtected, _firmware.Set("A", TestFirmware.NonVolatile, 3));
        Assert.Equal(EfiStatus.WriteProtected, _firmware.Set("A", TestFirmware.NonVolatile));
        Assert.Equal(EfiStatus.AccessDenied, _firmware.Call(8, Named("B"), out _));
        Assert.Equal([2], _firmware.Get("A"));
    }

    [Fact]
    public void Property_IsTold_AndEnforcedFromTheEndOfDxe()
    {
        byte[] property = new byte[24];
        property[0] = 1;
        BinaryPrimitives.WriteUInt32LittleEndian(property.AsSpan(4), (uint)TestFirmware.NonVolatile);
        property[8] = 2;
        property[16] = 3;
        Assert.Equal(EfiStatus.NotFound, _firmware.Call(10, Named("A", new byte[24]), out _));
        Assert.Equal(EfiStatus.Success, _firmware.Call(9, Named("A", property), out _));
        Assert.Equal(EfiStatus.Success, _firmware.Call(10, Named("A", new byte[24]), out byte[] answer));
        Assert.Equal(property, answer[24..48]);
        property[0] = 2;
        Assert.Equal(EfiStatus.InvalidParameter, _firmware.Call(9, Named("A", property), out _));
        _firmware.Notify(TestFirmware.EndOfDxe);
        Assert.Equal(EfiStatus.AccessDenied, _firmware.Call(9, Named("B", property), out _));
        Assert.Equal(EfiStatus.InvalidParameter, _firmware.Set("A", TestFirmware.NonVolatile, 1));
        Assert.Equal(EfiStatus.InvalidParameter, _firmware.Set("A", TestFirmware.NonVolatile, 1, 2, 3, 4));
        Assert.Equal(EfiStatus.InvalidParameter, _firmware.Set("A", TestFirmware.Volatile, 1, 2));
        Assert.Equal(EfiStatus.Success, _firmware.Set("A", TestFirmware.NonVolatile, 1, 2));
        Assert.Equal(EfiStatus.Success, _firmware.Set("A", TestFirmware.NonVolatile));
    }

    [Fact]
    public void Property_OfAVariableOfUefi_CountsBesideWhatUefiSays()
    {
        byte[] OfUefi(string name, params byte[] property) => [.. KnownVariables.Global.ToByteArray(), .. Named(name, property)[16..]];
        byte[] anything = [1, 0, 0, 0, 0, 0, 0, 0, .. BitConverter.GetBytes(0UL), .. BitConverter.GetBytes(64UL)];
        byte[] atMost4 = [.. anything[..16], .. BitConverter.GetBytes(4UL)];
        byte[] readOnly = [1, 0, 1, .. anything[3..]];
        foreach ((string name, byte[] property) in ((string, byte[])[])[("Boot0001", anything), ("Key0001", anything), ("OsIndications", anything), ("BootOrder", atMost4), ("Timeout", readOnly)])
        {
            Assert.Equal(EfiStatus.Success, _firmware.Call(9, OfUefi(name, property), out _));
            Assert.Equal(EfiStatus.Success, _firmware.Call(10, OfUefi(name, new byte[24]), out byte[] answer));
            Assert.Equal(property, answer[24..48]);
        }

        _firmware.Notify(TestFirmware.EndOfDxe);
        EfiStatus Set(string name, int length, VariableAttributes attributes = TestFirmware.NonVolatile) => _firmware.Set(new VariableId(KnownVariables.Global, name), attributes, new byte[length]);
        for (int length = 1; length < 8; length++)
        {
            Assert.Equal(EfiStatus.InvalidParameter, Set("Boot0001", length));
            Assert.Equal(EfiStatus.InvalidParameter, Set("Boot0001", length, TestFirmware.NonVolatile | TestFirmware.Append));
            Assert.Equal(EfiStatus.InvalidParameter, Set("Key0001", length));
            Assert.Equal(EfiStatus.InvalidParameter, Set("OsIndications", length));
        }

        Assert.Equal(EfiStatus.InvalidParameter, Set("OsIndications", 8, TestFirmware.Volatile));
        Assert.Equal(EfiStatus.Success, Set("OsIndications", 8));
        Assert.Equal(EfiStatus.InvalidParameter, Set("BootOrder", 6));
        Assert.Equal(EfiStatus.Success, Set("BootOrder", 4));
        Assert.Equal(EfiStatus.WriteProtected, Set("Timeout", 2));
    }

    [Fact]
    public void Property_TooMany_IsOutOfResources()
    {
        byte[] property = [1, .. new byte[23]];
        for (int i = 0; i < VariableLimits.MaxProperties; i++)
        {
            Assert.Equal(EfiStatus.Success, _firmware.Call(9, Named($"{i}", property), out _));
        }

        Assert.Equal(EfiStatus.OutOfResources, _firmware.Call(9, Named("more", property), out _));
        Assert.Equal(EfiStatus.Success, _firmware.Call(9, Named("0", property), out _));
    }

    [Theory]
    [InlineData("SetupMode", TestFirmware.Volatile, 1, EfiStatus.WriteProtected)]
    [InlineData("SecureBoot", TestFirmware.Volatile, 1, EfiStatus.WriteProtected)]
    [InlineData("SignatureSupport", TestFirmware.Volatile, 16, EfiStatus.WriteProtected)]
    [InlineData("VendorKeys", TestFirmware.Volatile, 1, EfiStatus.WriteProtected)]
    [InlineData("PKDefault", TestFirmware.Volatile, 1, EfiStatus.WriteProtected)]
    [InlineData("Timeout", TestFirmware.NonVolatile, 2, EfiStatus.Success)]
    [InlineData("Timeout", TestFirmware.NonVolatile, 3, EfiStatus.InvalidParameter)]
    [InlineData("Timeout", TestFirmware.Volatile, 2, EfiStatus.InvalidParameter)]
    [InlineData("BootOrder", TestFirmware.NonVolatile, 6, EfiStatus.Success)]
    [InlineData("BootOrder", TestFirmware.NonVolatile | TestFirmware.Append, 2, EfiStatus.Success)]
    [InlineData("BootOrder", TestFirmware.NonVolatile, 5, EfiStatus.InvalidParameter)]
    [InlineData("BootNext", TestFirmware.NonVolatile, 0, EfiStatus.NotFound)]
    [InlineData("Lang", TestFirmware.NonVolatile, 4, EfiStatus.Success)]
    [InlineData("Key0001", TestFirmware.NonVolatile, 14, EfiStatus.Success)]
    [InlineData("Key0001", TestFirmware.NonVolatile, 13, EfiStatus.InvalidParameter)]
    [InlineData("Key000G", TestFirmware.NonVolatile, 14, EfiStatus.InvalidParameter)]
    [InlineData("Boot0001", TestFirmware.NonVolatile, 5, EfiStatus.InvalidParameter)]
    [InlineData("Boot0001", TestFirmware.NonVolatile, 16, EfiStatus.InvalidParameter)]
    [InlineData("OsIndications", TestFirmware.NonVolatile, 8, EfiStatus.Success)]
    [InlineData("Anything", TestFirmware.NonVolatile, 8, EfiStatus.InvalidParameter)]
    [InlineData("ConIn", TestFirmware.NonVolatile, 8, EfiStatus.InvalidParameter)]
    public void GlobalVariables_AreAsUefiSays(string name, VariableAttributes attributes, int size, EfiStatus expected)
    {
        _firmware.Notify(TestFirmware.EndOfDxe);
        Assert.Equal(expected, _firmware.Set(new VariableId(KnownVariables.Global, name), attributes, new byte[size]));
    }

    [Fact]
    public void GlobalVariables_ContentsAreChecked()
    {
        _firmware.Notify(TestFirmware.EndOfDxe);
        byte[] path = [1, 1, 6, 0, 0, 0, 0x7F, 0xFF, 4, 0];
        byte[] option = [1, 0, 0, 0, (byte)path.Length, 0, .. TestFirmware.Name("OS"), .. path, 9, 9];
        EfiStatus Boot(byte[] data) => _firmware.Set(new VariableId(KnownVariables.Global, "Boot00aF"), TestFirmware.NonVolatile, data);
        EfiStatus Console(byte[] data) => _firmware.Set(new VariableId(KnownVariables.Global, "ConOut"), TestFirmware.NonVolatile, data);
        Assert.Equal(EfiStatus.Success, Boot(option));
        Assert.Equal(EfiStatus.InvalidParameter, Boot(option[..^3]));
        Assert.Equal(EfiStatus.InvalidParameter, Boot([.. option[..4], 9, .. option[5..]]));
        Assert.Equal(EfiStatus.InvalidParameter, Boot([.. option[..4], 0, .. option[5..]]));
        Assert.Equal(EfiStatus.Success, Console(path));
        Assert.Equal(EfiStatus.InvalidParameter, Console(path[..^1]));
        Assert.Equal(EfiStatus.InvalidParameter, Console([1, 1, 3, 0, 0x7F, 0xFF, 4, 0]));
        Assert.Equal(EfiStatus.InvalidParameter, Console([1, 1, 0, 0, 0x7F, 0xFF, 4, 0]));
        Assert.Equal(EfiStatus.InvalidParameter, _firmware.Set(new VariableId(KnownVariables.Global, "Lang"), TestFirmware.NonVolatile, 1, 2));
    }

    private static byte[] Named(string name, byte[]? between = null)
    {
        byte[] nameBytes = TestFirmware.Name(name);
        byte[] body = [.. TestFirmware.Vendor.ToByteArray(), .. new byte[8], .. between ?? [], .. nameBytes];
        BinaryPrimitives.WriteInt64LittleEndian(body.AsSpan(16), nameBytes.Length);
        return body;
    }
}
