// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using System.Linq;
using Xunit;

namespace Svsm.Modules.VarStore.Tests;

/// <summary>The rules of variables that nobody signs, through the messages of firmware.</summary>
public sealed class VariableServiceTests
{
    private const VariableAttributes Boot = VariableAttributes.NonVolatile | VariableAttributes.BootServiceAccess;

    private readonly TestStorage _storage = new();
    private readonly TestFirmware _firmware;

    public VariableServiceTests() => _firmware = new(_storage);

    private static VariableId Id(string name) => new(TestFirmware.Vendor, name);

    [Fact]
    public void Get_WhatWasSet_IsThere()
    {
        Assert.Equal(EfiStatus.Success, _firmware.Set("A", TestFirmware.NonVolatile, 1, 2, 3));
        Assert.Equal(EfiStatus.Success, _firmware.Get(Id("A"), 3, out VariableAttributes attributes, out byte[] data));
        Assert.Equal(TestFirmware.NonVolatile, attributes);
        Assert.Equal([1, 2, 3], data);
    }

    [Fact]
    public void Get_TooLittleRoom_TellsSizeAndAttributes()
    {
        _firmware.Set("A", TestFirmware.Volatile, 1, 2, 3);
        Assert.Equal(EfiStatus.BufferTooSmall, _firmware.Get(Id("A"), 2, out VariableAttributes attributes, out byte[] data));
        Assert.Equal(3, data.Length);
        Assert.Equal(TestFirmware.Volatile, attributes);
    }

    [Fact]
    public void Get_NoSuchVariable_IsNotFound()
    {
        _firmware.Set("A", TestFirmware.Volatile, 1);
        Assert.Equal(EfiStatus.NotFound, _firmware.Get(Id("a"), 9, out _, out _));
        Assert.Equal(EfiStatus.NotFound, _firmware.Get(new(Guid.Empty, "A"), 9, out _, out _));
        Assert.Equal(EfiStatus.NotFound, _firmware.Get(Id(""), 9, out _, out _));
    }

    [Fact]
    public void Set_NamesThatEndEarly_AreTheSame()
    {
        // EDK2 takes the name up to its first NUL, and the data behind what it said about the length.
        byte[] body = TestFirmware.Access(Id("A\0B"), TestFirmware.Volatile, 1, [7]);
        Assert.Equal(EfiStatus.Success, _firmware.Call(3, body, out _));
        Assert.Equal([7], _firmware.Get("A"));
    }

    [Theory]
    [InlineData(0x01u, EfiStatus.InvalidParameter)] // non-volatile alone
    [InlineData(0x04u, EfiStatus.InvalidParameter)] // runtime without boot services
    [InlineData(0x05u, EfiStatus.InvalidParameter)]
    [InlineData(0x0Fu, EfiStatus.InvalidParameter)] // hardware error record
    [InlineData(0x80u, EfiStatus.InvalidParameter)] // unknown
    [InlineData(0x8000_0003u, EfiStatus.InvalidParameter)]
    [InlineData(0x17u, EfiStatus.Unsupported)] // by counters
    [InlineData(0x14u, EfiStatus.Unsupported)]
    [InlineData(0x37u, EfiStatus.Unsupported)]
    [InlineData(0x27u, EfiStatus.SecurityViolation)] // authenticated, without anything that is
    [InlineData(0x00u, EfiStatus.NotFound)] // deletes what is not there
    [InlineData(0x40u, EfiStatus.NotFound)]
    [InlineData(0x02u, EfiStatus.Success)]
    [InlineData(0x03u, EfiStatus.Success)]
    [InlineData(0x06u, EfiStatus.Success)]
    [InlineData(0x47u, EfiStatus.Success)] // appends to nothing
    public void Set_Attributes_AreChecked(uint attributes, EfiStatus expected)
    {
        int names = _firmware.Names().Count;
        Assert.Equal(expected, _firmware.Set("A", (VariableAttributes)attributes, 1));
        Assert.Equal(names + (expected == EfiStatus.Success ? 1 : 0), _firmware.Names().Count);
        if (expected == EfiStatus.Success)
        {
            _firmware.Get(Id("A"), 1, out VariableAttributes kept, out _);
            Assert.Equal((VariableAttributes)(attributes & 0x3F), kept);
        }
    }

    [Fact]
    public void Set_EmptyName_IsAnInvalidParameter() => Assert.Equal(EfiStatus.InvalidParameter, _firmware.Set("", TestFirmware.Volatile, 1));

    [Fact]
    public void Set_OtherAttributes_AreRefused()
    {
        _firmware.Set("A", TestFirmware.NonVolatile, 1);
        Assert.Equal(EfiStatus.InvalidParameter, _firmware.Set("A", Boot, 2));
        Assert.Equal(EfiStatus.InvalidParameter, _firmware.Set("A", TestFirmware.Volatile, 2));
        Assert.Equal(EfiStatus.InvalidParameter, _firmware.Set("A", Boot));
        Assert.Equal([1], _firmware.Get("A"));
    }

    [Fact]
    public void Set_NoDataOrNoAccess_Deletes()
    {
        _firmware.Set("A", TestFirmware.NonVolatile, 1);
        Assert.Equal(EfiStatus.Success, _firmware.Set("A", TestFirmware.NonVolatile));
        Assert.Null(_firmware.Get("A"));
        Assert.Equal(EfiStatus.NotFound, _firmware.Set("A", TestFirmware.NonVolatile));
        _firmware.Set("A", TestFirmware.NonVolatile, 1);
        Assert.Equal(EfiStatus.Success, _firmware.Set("A", VariableAttributes.None, 5));
        Assert.Null(_firmware.Get("A"));
        Assert.Empty(_storage.Records);
    }

    [Fact]
    public void Set_Append_Appends()
    {
        _firmware.Set("A", TestFirmware.NonVolatile, 1);
        Assert.Equal(EfiStatus.Success, _firmware.Set("A", TestFirmware.NonVolatile | TestFirmware.Append, 2, 3));
        Assert.Equal([1, 2, 3], _firmware.Get("A"));
        Assert.Equal(EfiStatus.Success, _firmware.Set("A", TestFirmware.NonVolatile | TestFirmware.Append));
        Assert.Equal([1, 2, 3], _firmware.Get("A"));
        Assert.Equal(EfiStatus.Success, _firmware.Set("B", TestFirmware.NonVolatile | TestFirmware.Append));
        Assert.Null(_firmware.Get("B"));
    }

    [Fact]
    public void Set_LargestVariable_FitsAndNoMore()
    {
        byte[] data = [.. Enumerable.Range(0, VariableLimits.MaxData).Select(i => (byte)i)];
        Assert.Equal(EfiStatus.Success, _firmware.Set("A", TestFirmware.NonVolatile, data));
        Assert.Equal(data, _firmware.Get("A"));
        Assert.Equal(EfiStatus.InvalidParameter, _firmware.Set("B", TestFirmware.NonVolatile, [.. data, 0]));
        Assert.Equal(EfiStatus.InvalidParameter, _firmware.Set("A", TestFirmware.NonVolatile | TestFirmware.Append, 0));
        Assert.Equal(data, _firmware.Get("A"));
    }

    [Fact]
    public void Set_LongestName_FitsAndNoMore()
    {
        string name = new('n', (VariableLimits.MaxNameLength / 2) - 1);
        Assert.Equal(EfiStatus.Success, _firmware.Set(name, TestFirmware.NonVolatile, 1));
        Assert.Equal([1], _firmware.Get(name));
        Assert.Equal(EfiStatus.InvalidParameter, _firmware.Set(name + 'n', TestFirmware.NonVolatile, 1));
        Assert.Equal(EfiStatus.NotFound, _firmware.Get(Id(name + 'n'), 1, out _, out _));
    }

    [Fact]
    public void Set_HalfPairsAndControls_AreNamesAsOthers()
    {
        string name = "\uD800\u0001\uFFFF";
        Assert.Equal(EfiStatus.Success, _firmware.Set(name, TestFirmware.NonVolatile, 1));
        Assert.Equal([1], _firmware.Get(name));
        Assert.Equal([1], new TestFirmware(_storage).Get(name));
    }

    [Theory]
    [InlineData(TestFirmware.Volatile)]
    [InlineData(TestFirmware.NonVolatile)]
    public void Set_QuotaIsFull_IsOutOfResources(VariableAttributes attributes)
    {
        int count = 0;
        EfiStatus status;
        while ((status = _firmware.Set($"A{count}", attributes, new byte[0x3000])) == EfiStatus.Success)
        {
            count++;
        }

        Assert.Equal(EfiStatus.OutOfResources, status);
        Assert.InRange(count, 5, 100);
        Assert.Equal(EfiStatus.OutOfResources, _firmware.Set("A0", attributes | TestFirmware.Append, new byte[0x3000]));
        Assert.Equal(0x3000, _firmware.Get("A0")!.Length);

        // The other kind has its own, and there is room again for as much as goes.
        Assert.Equal(EfiStatus.Success, _firmware.Set("B", attributes ^ VariableAttributes.NonVolatile, 1));
        Assert.Equal(EfiStatus.Success, _firmware.Set("A0", attributes));
        Assert.Equal(EfiStatus.Success, _firmware.Set("C", attributes, new byte[0x3000]));
    }

    [Fact]
    public void Set_SmallVariables_AreCountedWithWhatTheyCost()
    {
        int count = 0;
        while (_firmware.Set($"{count}", TestFirmware.NonVolatile, 1) == EfiStatus.Success)
        {
            count++;
        }

        Assert.InRange(count, 1500, 2000);
    }

    [Fact]
    public void Set_StorageFails_IsADeviceErrorAndNothingChanged()
    {
        _firmware.Set("A", TestFirmware.NonVolatile, 1);
        _firmware.Set("B", TestFirmware.NonVolatile, 1);
        int names = _firmware.Names().Count;
        _storage.Fails = true;
        Assert.Equal(EfiStatus.DeviceError, _firmware.Set("A", TestFirmware.NonVolatile, 2));
        Assert.Equal(EfiStatus.DeviceError, _firmware.Set("A", TestFirmware.NonVolatile | TestFirmware.Append, 2));
        Assert.Equal(EfiStatus.DeviceError, _firmware.Set("B", TestFirmware.NonVolatile));
        Assert.Equal(EfiStatus.DeviceError, _firmware.Set("C", TestFirmware.NonVolatile, 2));
        Assert.Equal(EfiStatus.Success, _firmware.Set("V", TestFirmware.Volatile, 2));
        _storage.Fails = false;
        Assert.Equal([1], _firmware.Get("A"));
        Assert.Equal([1], _firmware.Get("B"));
        Assert.Equal(names + 1, _firmware.Names().Count);
    }

    [Fact]
    public void Set_WhatIsThereAlready_CostsNoWrite()
    {
        _firmware.Set("A", TestFirmware.NonVolatile, 1);
        int commits = _storage.Commits;
        Assert.Equal(EfiStatus.Success, _firmware.Set("A", TestFirmware.NonVolatile, 1));
        Assert.Equal(EfiStatus.Success, _firmware.Set("V", TestFirmware.Volatile, 1));
        Assert.Equal(EfiStatus.Success, _firmware.Set(KnownVariables.CustomMode, Boot, 1));
        Assert.Equal(commits, _storage.Commits);
    }

    [Fact]
    public void Open_WhatWasStored_IsThereAndVolatileOnesAreNot()
    {
        _firmware.Set("A", TestFirmware.NonVolatile, 1);
        _firmware.Set("V", TestFirmware.Volatile, 1);
        _firmware.Set("B", Boot, 2, 3);
        var again = new TestFirmware(_storage);
        Assert.Equal([1], again.Get("A"));
        Assert.Equal([2, 3], again.Get("B"));
        Assert.Null(again.Get("V"));
        Assert.Equal(EfiStatus.Success, again.Set("C", TestFirmware.NonVolatile, 4));
        Assert.Equal(EfiStatus.Success, again.Set("A", TestFirmware.NonVolatile, 5));
        again = new TestFirmware(_storage);
        Assert.Equal(["A", "B", "C"], again.Names().Where(id => id.Vendor == TestFirmware.Vendor).Select(id => id.Name));
        Assert.Equal([5], again.Get("A"));
    }

    [Fact]
    public void Reset_DropsWhatIsVolatile()
    {
        _firmware.Set("A", TestFirmware.NonVolatile, 1);
        _firmware.Set("V", TestFirmware.Volatile, 1);
        _firmware.Notify(TestFirmware.ExitBootServices);
        _firmware.Store.Reset();
        Assert.Equal([1], _firmware.Get("A"));
        Assert.Null(_firmware.Get("V"));
        Assert.Equal(EfiStatus.Success, _firmware.Set("V", TestFirmware.Volatile, 2));
    }

    [Fact]
    public void Open_LargeVariables_AreInTwoRecords()
    {
        byte[] data = [.. Enumerable.Range(0, VariableLimits.MaxData).Select(i => (byte)(i * 5))];
        _firmware.Set("Large", TestFirmware.NonVolatile, data);
        Assert.Equal(2, _storage.Records.Count);
        Assert.All(_storage.Records.Values, record => Assert.InRange(record.Length, 1, 0x1_0000));
        Assert.Equal(data, new TestFirmware(_storage).Get("Large"));

        // Smaller, larger again, and gone.
        _firmware.Set("Large", TestFirmware.NonVolatile, 1);
        Assert.Single(_storage.Records);
        _firmware.Set("Large", TestFirmware.NonVolatile, data);
        Assert.Equal(2, _storage.Records.Count);
        _firmware.Set("Large", TestFirmware.NonVolatile, [.. data[1..], 0]);
        Assert.Equal([.. data[1..], 0], new TestFirmware(_storage).Get("Large")!);
        uint rest = _storage.Records.Keys.Max();
        _storage.Damage(rest & 0x7FFF_FFFF, record => record[..^1]);
        Assert.Equal(VariableStoreResult.Damaged, VariableStore.TryOpen(_storage, null, out _));
        _firmware.Set("Large", TestFirmware.NonVolatile);
        Assert.Empty(_storage.Records);
        Assert.True(_storage.TryCommit([new(rest, data)]));
        Assert.Equal(VariableStoreResult.Damaged, VariableStore.TryOpen(_storage, null, out _));
    }

    [Theory]
    [InlineData(0)] // nothing
    [InlineData(1)] // cut
    [InlineData(2)] // version
    [InlineData(3)] // attributes
    [InlineData(4)] // name longer than the record
    [InlineData(5)] // twice the same
    [InlineData(6)] // cannot be read
    public void Open_Damaged_IsAnError(int kind)
    {
        _firmware.Set("A", TestFirmware.NonVolatile, 1);
        _firmware.Set("B", TestFirmware.NonVolatile, 1);
        uint[] numbers = [.. _storage.Records.Keys];
        byte[] other = _storage.Records[numbers[1]];
        _storage.Fails = kind == 6;
        _storage.Damage(numbers[0], record => kind switch
        {
            0 => [],
            1 => record[..^1],
            2 => [2, .. record[1..]],
            3 => [.. record[..4], 6, .. record[5..]],
            4 => [.. record[..2], 0x40, .. record[3..]],
            5 => other,
            _ => record,
        });
        Assert.Equal(VariableStoreResult.Damaged, VariableStore.TryOpen(_storage, null, out VariableStore? store));
        Assert.Null(store);
    }

    [Fact]
    public void GetNext_TellsVolatileOnesFirst_InTheOrderOfTheirMaking()
    {
        foreach (string name in (string[])["N1", "V1", "N2", "V2"])
        {
            _firmware.Set(name, name[0] == 'N' ? TestFirmware.NonVolatile : TestFirmware.Volatile, 1);
        }

        _firmware.Set("N1", TestFirmware.NonVolatile, 2);
        Assert.Equal(["V1", "V2", "N1", "N2"], _firmware.Names().Where(id => id.Vendor == TestFirmware.Vendor).Select(id => id.Name));
        Assert.Equal(_firmware.Names().Count, _firmware.Names().Distinct().Count());
    }

    [Fact]
    public void GetNext_Errors_AreTold()
    {
        _firmware.Set("LongName", TestFirmware.NonVolatile, 1);
        VariableId last = _firmware.Names()[^1];
        Assert.Equal("LongName", last.Name);
        VariableId before = _firmware.Names()[^2];
        Assert.Equal(EfiStatus.NotFound, _firmware.GetNext(last, 100, out _));
        Assert.Equal(EfiStatus.InvalidParameter, _firmware.GetNext(Id("none"), 100, out _));
        Assert.Equal(EfiStatus.InvalidParameter, _firmware.GetNext(new(Guid.Empty, "LongName"), 100, out _));

        // The name that is asked with is longer than the room for the next one.
        Assert.Equal(EfiStatus.InvalidParameter, _firmware.GetNext(before, 2, out _));

        var first = new TestFirmware();
        Assert.Equal(EfiStatus.BufferTooSmall, first.GetNext(Id(""), 2, out VariableId needed));
        Assert.Equal(EfiStatus.Success, first.GetNext(Id(""), Variable.NameLength(needed.Name), out VariableId next));
        Assert.Equal(needed.Name.Length, next.Name.Length);
    }

    [Fact]
    public void Runtime_WithoutRuntimeAccess_IsNotThere()
    {
        _firmware.Set("A", TestFirmware.NonVolatile, 1);
        _firmware.Set("B", Boot, 1);
        _firmware.Notify(TestFirmware.ExitBootServices);
        Assert.Equal([1], _firmware.Get("A"));
        Assert.Equal(EfiStatus.NotFound, _firmware.Get(Id("B"), 9, out _, out _));
        Assert.Equal(EfiStatus.WriteProtected, _firmware.Set("B", Boot, 2));
        Assert.DoesNotContain(Id("B"), _firmware.Names());
        Assert.Equal(EfiStatus.InvalidParameter, _firmware.GetNext(Id("B"), 100, out _));
    }

    [Fact]
    public void Runtime_VolatileOnes_AreReadOnly()
    {
        _firmware.Set("V", TestFirmware.Volatile, 1);
        _firmware.Notify(TestFirmware.ExitBootServices);
        Assert.Equal(EfiStatus.WriteProtected, _firmware.Set("V", TestFirmware.Volatile, 2));
        Assert.Equal(EfiStatus.WriteProtected, _firmware.Set("V", TestFirmware.Volatile));
        Assert.Equal(EfiStatus.InvalidParameter, _firmware.Set("W", TestFirmware.Volatile, 2));
        Assert.Equal(EfiStatus.InvalidParameter, _firmware.Set("W", Boot, 2));
        Assert.Equal(EfiStatus.Success, _firmware.Set("W", TestFirmware.NonVolatile, 2));
        Assert.Equal([1], _firmware.Get("V"));
    }

    [Fact]
    public void Phases_Functions_DoWhatNotificationsDo()
    {
        Assert.Equal(EfiStatus.Success, _firmware.Call(5, [], out _));
        Assert.True(_firmware.Store.Service.IsEndOfDxe);
        Assert.Equal(EfiStatus.WriteProtected, _firmware.Policy(3, TestFirmware.PolicyEntry("A"), out _));
        Assert.Equal(EfiStatus.Success, _firmware.Call(6, [], out _));
        Assert.True(_firmware.Store.Service.IsRuntime);
        Assert.Equal(EfiStatus.Unsupported, _firmware.Call(5, [], out _));
        _firmware.Store.Reset();
        Assert.False(_firmware.Store.Service.IsRuntime || _firmware.Store.Service.IsEndOfDxe);
        _firmware.Notify(TestFirmware.EndOfDxe);
        Assert.True(_firmware.Store.Service.IsEndOfDxe && !_firmware.Store.Service.IsRuntime);
        _firmware.Store.Reset();
        _firmware.Notify(TestFirmware.ReadyToBoot);
        Assert.True(_firmware.Store.Service.IsEndOfDxe && !_firmware.Store.Service.IsRuntime);
        _firmware.Store.Reset();
        _firmware.Notify(TestFirmware.ExitBootServices);
        Assert.True(_firmware.Store.Service.IsEndOfDxe && _firmware.Store.Service.IsRuntime);
    }

    [Theory]
    [InlineData(0x00u, EfiStatus.InvalidParameter)]
    [InlineData(0x10u, EfiStatus.Unsupported)]
    [InlineData(0x80u, EfiStatus.Unsupported)]
    [InlineData(0x01u, EfiStatus.InvalidParameter)]
    [InlineData(0x04u, EfiStatus.InvalidParameter)]
    [InlineData(0x0Eu, EfiStatus.InvalidParameter)]
    [InlineData(0x0Fu, EfiStatus.Unsupported)]
    [InlineData(0x03u, EfiStatus.Success)]
    [InlineData(0x06u, EfiStatus.Success)]
    [InlineData(0x27u, EfiStatus.Success)]
    public void Query_Attributes_AreChecked(uint attributes, EfiStatus expected)
    {
        byte[] body = new byte[32];
        BinaryPrimitives.WriteUInt32LittleEndian(body.AsSpan(24), attributes);
        Assert.Equal(expected, _firmware.Call(4, body, out byte[] answer));
        ulong max = BinaryPrimitives.ReadUInt64LittleEndian(answer);
        int quota = (attributes & 1) != 0 ? VariableLimits.NonVolatileQuota : VariableLimits.VolatileQuota;
        Assert.Equal(expected == EfiStatus.Success ? (ulong)quota : 0, max);
        Assert.True(BinaryPrimitives.ReadUInt64LittleEndian(answer.AsSpan(8)) <= max);
        Assert.True(BinaryPrimitives.ReadUInt64LittleEndian(answer.AsSpan(16)) <= VariableLimits.MaxData);
    }

    [Fact]
    public void Query_AfterASet_HasLessLeft()
    {
        Assert.Equal(EfiStatus.Success, _firmware.Store.Service.Query(TestFirmware.NonVolatile, out VariableInfo before));
        _firmware.Set("A", TestFirmware.NonVolatile, new byte[1000]);
        Assert.Equal(EfiStatus.Success, _firmware.Store.Service.Query(TestFirmware.NonVolatile, out VariableInfo after));
        Assert.Equal(1132ul, before.RemainingStorage - after.RemainingStorage);
        _firmware.Notify(TestFirmware.ExitBootServices);
        Assert.Equal(EfiStatus.InvalidParameter, _firmware.Store.Service.Query(Boot, out _));
    }
}
