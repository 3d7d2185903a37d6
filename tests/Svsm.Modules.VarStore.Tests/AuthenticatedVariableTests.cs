// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using System.Linq;
using System.Security.Cryptography;
using Xunit;

namespace Svsm.Modules.VarStore.Tests;

/// <summary>Authenticated variables that belong to who signed them first.</summary>
public sealed class AuthenticatedVariableTests
{
    private const VariableAttributes Attributes = TestFirmware.Authenticated;

    private static readonly VariableId s_id = new(TestFirmware.Vendor, "Signed");
    private static readonly DateTime s_time = new(2024, 5, 6, 7, 8, 9);

    private readonly TestStorage _storage = new();
    private readonly TestFirmware _firmware;
    private readonly TestSigner _alice = TestSigner.Named("Alice");
    private readonly TestSigner _bob = TestSigner.Named("Bob");

    public AuthenticatedVariableTests() => _firmware = new(_storage);

    private EfiStatus Write(TestSigner signer, int seconds, byte[] payload, VariableAttributes more = 0, MessageShape? shape = null) =>
        _firmware.Set(s_id, Attributes | more, signer.Write(s_id, Attributes | more, s_time.AddSeconds(seconds), payload, shape));

    [Fact]
    public void Write_BySigner_IsTaken_AndNewerOnesBySameOnly()
    {
        Assert.Equal(EfiStatus.Success, Write(_alice, 0, [1]));
        Assert.Equal([1], _firmware.Get(s_id));
        Assert.Equal(EfiStatus.SecurityViolation, Write(_bob, 1, [2]));
        Assert.Equal(EfiStatus.Success, Write(_alice, 1, [3]));
        Assert.Equal([3], _firmware.Get(s_id));
        _firmware.Get(s_id, 1, out VariableAttributes attributes, out _);
        Assert.Equal(Attributes, attributes);
    }

    [Theory]
    [InlineData(0, EfiStatus.SecurityViolation)]
    [InlineData(-1, EfiStatus.SecurityViolation)]
    [InlineData(-60, EfiStatus.SecurityViolation)]
    [InlineData(-3600, EfiStatus.SecurityViolation)]
    [InlineData(-86400, EfiStatus.SecurityViolation)]
    [InlineData(-86400 * 40, EfiStatus.SecurityViolation)]
    [InlineData(-86400 * 400, EfiStatus.SecurityViolation)]
    [InlineData(1, EfiStatus.Success)]
    [InlineData(60, EfiStatus.Success)]
    [InlineData(86400 * 40, EfiStatus.Success)]
    [InlineData(86400 * 400, EfiStatus.Success)]
    public void Write_HasToBeNewer(int seconds, EfiStatus expected)
    {
        Assert.Equal(EfiStatus.Success, Write(_alice, 0, [1]));
        Assert.Equal(expected, Write(_alice, seconds, [2]));
        Assert.Equal([expected == EfiStatus.Success ? (byte)2 : (byte)1], _firmware.Get(s_id)!);
    }

    [Fact]
    public void Append_MayBeOlder_AndKeepsTheNewestTime()
    {
        Write(_alice, 10, [1]);
        Assert.Equal(EfiStatus.Success, Write(_alice, 0, [2], TestFirmware.Append));
        Assert.Equal([1, 2], _firmware.Get(s_id));
        Assert.Equal(EfiStatus.SecurityViolation, Write(_alice, 10, [3]));
        Assert.Equal(EfiStatus.Success, Write(_alice, 20, [3], TestFirmware.Append));
        Assert.Equal(EfiStatus.SecurityViolation, Write(_alice, 20, [4]));
        Assert.Equal(EfiStatus.SecurityViolation, Write(_bob, 30, [4], TestFirmware.Append));
        Assert.Equal([1, 2, 3], _firmware.Get(s_id));
    }

    [Fact]
    public void Append_ToNothing_Makes_WithoutATime()
    {
        Assert.Equal(EfiStatus.Success, Write(_alice, 0, [1], TestFirmware.Append));
        Assert.Equal(EfiStatus.Success, Write(_alice, -1, [2]));
        Assert.Equal([2], _firmware.Get(s_id));
    }

    [Fact]
    public void Delete_BySignerOnly_AndThenItIsAnybodysAgain()
    {
        Write(_alice, 0, [1]);
        Assert.Equal(EfiStatus.SecurityViolation, Write(_bob, 1, []));
        Assert.Equal(EfiStatus.WriteProtected, _firmware.Set(s_id, VariableAttributes.None));
        Assert.Equal(EfiStatus.InvalidParameter, _firmware.Set(s_id, TestFirmware.NonVolatile, 1));
        Assert.Equal(EfiStatus.Success, Write(_alice, 1, []));
        Assert.Null(_firmware.Get(s_id));
        Assert.Equal(EfiStatus.NotFound, Write(_alice, 2, []));
        Assert.Equal(EfiStatus.Success, Write(_bob, 0, [5]));
    }

    [Fact]
    public void Signer_IsRemembered_WhenTheStoreIsOpenedAgain()
    {
        Write(_alice, 0, [1]);
        var again = new TestFirmware(_storage);
        Assert.Equal(EfiStatus.SecurityViolation, again.Set(s_id, Attributes, _bob.Write(s_id, Attributes, s_time.AddSeconds(1), [2])));
        Assert.Equal(EfiStatus.SecurityViolation, again.Set(s_id, Attributes, _alice.Write(s_id, Attributes, s_time, [2])));
        Assert.Equal(EfiStatus.Success, again.Set(s_id, Attributes, _alice.Write(s_id, Attributes, s_time.AddSeconds(1), [2])));
    }

    [Fact]
    public void StorageFails_IsADeviceError_AndTheSignatureMayBeUsedAgain()
    {
        Write(_alice, 0, [1]);
        _storage.Fails = true;
        Assert.Equal(EfiStatus.DeviceError, Write(_alice, 1, [2]));
        _storage.Fails = false;
        Assert.Equal([1], _firmware.Get(s_id));
        Assert.Equal(EfiStatus.Success, Write(_alice, 1, [2]));
    }

    public static TheoryData<string, bool, bool> Shapes()
    {
        var shapes = new TheoryData<string, bool, bool>();
        foreach (string hash in (string[])["SHA256", "SHA384", "SHA512"])
        {
            shapes.Add(hash, false, false);
            shapes.Add(hash, true, false);
            shapes.Add(hash, true, true);
            shapes.Add(hash, false, true);
        }

        return shapes;
    }

    [Theory]
    [MemberData(nameof(Shapes))]
    public void Message_ShapesThatEdk2Takes_AreTaken(string hash, bool hasAttributes, bool isWrapped)
    {
        var shape = new MessageShape { Hash = new(hash), HasAttributes = hasAttributes, IsWrapped = isWrapped };
        Assert.Equal(EfiStatus.Success, Write(_alice, 0, [1], 0, shape));
        Assert.Equal(EfiStatus.Success, Write(_alice, 1, [2], 0, shape));
        Assert.Equal(EfiStatus.SecurityViolation, Write(_bob, 2, [3], 0, shape));
    }

    [Fact]
    public void Message_OtherShapes_AreRefused()
    {
        Assert.Equal(EfiStatus.SecurityViolation, Write(_alice, 0, [1], 0, new() { Hash = HashAlgorithmName.SHA1 }));
        Assert.Equal(EfiStatus.SecurityViolation, Write(_alice, 0, [1], 0, new() { OmitsCertificates = true }));
        Assert.Equal(EfiStatus.SecurityViolation, Write(_alice, 0, [1], 0, new() { Trailer = [0] }));
        Assert.Equal(EfiStatus.SecurityViolation, Write(_alice, 0, [1], 0, new() { Trailer = [0], IsWrapped = true }));
        Assert.Equal(EfiStatus.SecurityViolation, Write(_alice, 0, [1], 0, new() { Chain = [.. Enumerable.Repeat(_bob, 10)] }));
        Assert.Null(_firmware.Get(s_id));

        // What is in the message as content is not what is signed.
        Assert.Equal(EfiStatus.Success, Write(_alice, 0, [1], 0, new() { Content = [9] }));
    }

    [Fact]
    public void Message_OfAnotherWrite_IsRefused()
    {
        byte[] data = _alice.Write(s_id, Attributes, s_time, [1]);
        Assert.Equal(EfiStatus.SecurityViolation, _firmware.Set(new VariableId(TestFirmware.Vendor, "Other"), Attributes, data));
        Assert.Equal(EfiStatus.SecurityViolation, _firmware.Set(new VariableId(Guid.Empty, s_id.Name), Attributes, data));
        Assert.Equal(EfiStatus.SecurityViolation, _firmware.Set(s_id, Attributes | TestFirmware.Append, data));
        Assert.Equal(EfiStatus.SecurityViolation, _firmware.Set(s_id, Attributes & ~VariableAttributes.RuntimeAccess, data));
        Assert.Equal(EfiStatus.SecurityViolation, _firmware.Set(s_id, Attributes, [.. data, 2]));
        Assert.Equal(EfiStatus.SecurityViolation, _firmware.Set(s_id, Attributes, data[..^1]));
        Assert.Equal(EfiStatus.Success, _firmware.Set(s_id, Attributes, data));
    }

    [Theory]
    [InlineData(7)] // padding of the time
    [InlineData(8)] // nanosecond
    [InlineData(12)] // zone
    [InlineData(14)] // daylight
    [InlineData(15)] // padding
    [InlineData(22)] // type of the certificate
    [InlineData(24)] // GUID
    [InlineData(39)]
    public void Descriptor_Field_IsChecked(int offset)
    {
        byte[] data = _alice.Write(s_id, Attributes, s_time, [1]);
        data[offset] ^= 1;
        Assert.Equal(EfiStatus.SecurityViolation, _firmware.Set(s_id, Attributes, data));
    }

    [Theory]
    [InlineData(0)]
    [InlineData(23)]
    [InlineData(0x7FFF_FFFF)]
    [InlineData(-1)]
    [InlineData(int.MinValue)]
    public void Descriptor_Length_IsChecked(int length)
    {
        byte[] data = _alice.Write(s_id, Attributes, s_time, [1]);
        BinaryPrimitives.WriteInt32LittleEndian(data.AsSpan(16), length);
        Assert.Equal(EfiStatus.SecurityViolation, _firmware.Set(s_id, Attributes, data));
        for (int cut = 0; cut < 40; cut++)
        {
            Assert.Equal(EfiStatus.SecurityViolation, _firmware.Set(s_id, Attributes, data[..cut]));
        }
    }

    [Fact]
    public void Message_NoMessage_IsRefused()
    {
        Assert.Equal(EfiStatus.SecurityViolation, _firmware.Set(s_id, Attributes, TestSigner.Descriptor(s_time, [], [1])));
        Assert.Equal(EfiStatus.SecurityViolation, _firmware.Set(s_id, Attributes, TestSigner.Descriptor(s_time, [0x30, 0], [1])));
        Assert.Equal(EfiStatus.SecurityViolation, _firmware.Set(s_id, Attributes, TestSigner.Descriptor(s_time, new byte[1000], [1])));

        // A thousand elements in each other.
        byte[] deep = [];
        for (int i = 0; i < 1000; i++)
        {
            deep = TestSigner.Der_(0x30, deep);
        }

        Assert.Equal(EfiStatus.SecurityViolation, _firmware.Set(s_id, Attributes, TestSigner.Descriptor(s_time, deep, [1])));
    }

    [Fact]
    public void Signer_WithoutAName_IsRefused()
    {
        using TestSigner nameless = TestSigner.Make("x", subject: "O=Organisation");
        Assert.Equal(EfiStatus.SecurityViolation, Write(nameless, 0, [1]));
    }

    [Fact]
    public void Signer_SameNameAnotherKey_IsSomebodyElse()
    {
        using TestSigner other = TestSigner.Make("Alice");
        Write(_alice, 0, [1]);
        Assert.Equal(EfiStatus.SecurityViolation, Write(other, 1, [2]));
    }

    [Theory]
    [InlineData(1024, EfiStatus.SecurityViolation)]
    [InlineData(3072, EfiStatus.Success)]
    [InlineData(4096, EfiStatus.Success)]
    public void Signer_KeySize_HasLimits(int bits, EfiStatus expected)
    {
        using TestSigner signer = TestSigner.Make("Size", bits: bits);
        Assert.Equal(expected, Write(signer, 0, [1]));
    }

    [Fact]
    public void Signers_AllHaveToBeGood()
    {
        // Two that do not know each other: the second one's chain does not lead to the first.
        Assert.Equal(EfiStatus.SecurityViolation, Write(_alice, 0, [1], 0, new() { MoreSigners = [_bob] }));
        using TestSigner issued = TestSigner.Make("Issued", _alice);
        Assert.Equal(EfiStatus.Success, Write(_alice, 0, [1], 0, new() { MoreSigners = [issued] }));
        Assert.Equal(EfiStatus.SecurityViolation, Write(_alice, 1, [1], 0, new() { MoreSigners = [issued, issued, issued, issued] }));

        // It belongs to both: neither of them alone.
        Assert.Equal(EfiStatus.SecurityViolation, Write(_alice, 1, [1]));
        Assert.Equal(EfiStatus.Success, Write(_alice, 1, [1], 0, new() { MoreSigners = [issued] }));
    }

    [Fact]
    public void Runtime_SignedWrites_AreTaken()
    {
        _firmware.Notify(TestFirmware.ExitBootServices);
        Assert.Equal(EfiStatus.Success, Write(_alice, 0, [1]));
        Assert.Equal(EfiStatus.Success, Write(_alice, 1, [2]));
    }

    [Fact]
    public void Size_IsThatOfWhatIsWritten()
    {
        Assert.Equal(EfiStatus.Success, Write(_alice, 0, new byte[VariableLimits.MaxData]));
        Assert.Equal(EfiStatus.InvalidParameter, Write(_alice, 1, new byte[VariableLimits.MaxData + 1]));
    }
}
