// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using System.Linq;
using System.Text;
using Xunit;

namespace Svsm.Modules.VarStore.Tests;

/// <summary>Variable policies.</summary>
public sealed class PolicyTests
{
    // What firmware sends for dumps and information: 4 pages with all headers.
    private const int Whole = 0x4000 - 24 - 20;

    private readonly TestFirmware _firmware = new();

    private EfiStatus Register(byte[] entry) => _firmware.Policy(3, entry, out _);

    private static byte[] State(byte value, string name, Guid? vendor = null) => [.. (vendor ?? TestFirmware.Vendor).ToByteArray(), value, 0, .. TestFirmware.Name(name)];

    [Fact]
    public void Commands_Errors_AreTold()
    {
        Assert.Equal(EfiStatus.WriteProtected, _firmware.Policy(1, [], out _));
        Assert.Equal(EfiStatus.InvalidParameter, _firmware.Policy(2, [], out _));
        Assert.Equal(EfiStatus.Success, _firmware.Policy(2, [0], out byte[] enabled));
        Assert.Equal([1], enabled);
        Assert.Equal(EfiStatus.Unsupported, _firmware.Policy(0, [], out _));
        Assert.Equal(EfiStatus.Unsupported, _firmware.Policy(8, [], out _));
        byte[] payload = [.. "VCPX"u8, 1, 0, 0, 0, 2, 0, 0, 0, .. new byte[9]];
        Assert.Equal((ulong)EfiStatus.InvalidParameter, BinaryPrimitives.ReadUInt64LittleEndian(_firmware.Send(TestFirmware.Policies, payload).AsSpan(12)));
        payload = [.. "VCPC"u8, 2, 0, 0, 0, 2, 0, 0, 0, .. new byte[9]];
        Assert.Equal((ulong)EfiStatus.InvalidParameter, BinaryPrimitives.ReadUInt64LittleEndian(_firmware.Send(TestFirmware.Policies, payload).AsSpan(12)));
    }

    [Fact]
    public void Register_LockedOrDone_IsRefused()
    {
        Assert.Equal(EfiStatus.Success, Register(TestFirmware.PolicyEntry("A")));
        Assert.Equal(EfiStatus.AlreadyStarted, Register(TestFirmware.PolicyEntry("A", kind: 1)));
        Assert.Equal(EfiStatus.Success, Register(TestFirmware.PolicyEntry("A", vendor: Guid.Empty)));
        Assert.Equal(EfiStatus.Success, _firmware.Policy(5, [], out _));
        Assert.Equal(EfiStatus.WriteProtected, _firmware.Policy(5, [], out _));
        Assert.Equal(EfiStatus.WriteProtected, Register(TestFirmware.PolicyEntry("B")));
        _firmware.Store.Reset();
        Assert.Equal(EfiStatus.Success, Register(TestFirmware.PolicyEntry("A")));
    }

    [Fact]
    public void Register_BadEntries_AreInvalid()
    {
        byte[] good = TestFirmware.PolicyEntry("Name");
        for (int length = 0; length < good.Length; length++)
        {
            Assert.Equal(EfiStatus.InvalidParameter, Register(good[..length]));
        }

        byte[] Changed(int at, byte value)
        {
            byte[] entry = [.. good];
            entry[at] = value;
            return entry;
        }

        Assert.Equal(EfiStatus.InvalidParameter, Register(Changed(0, 1)));
        Assert.Equal(EfiStatus.InvalidParameter, Register(Changed(2, 2)));
        Assert.Equal(EfiStatus.InvalidParameter, Register(Changed(4, 43)));
        Assert.Equal(EfiStatus.InvalidParameter, Register(Changed(4, (byte)(good.Length - 2))));
        Assert.Equal(EfiStatus.InvalidParameter, Register(Changed(5, 1)));
        Assert.Equal(EfiStatus.InvalidParameter, Register(Changed(6, 43)));
        Assert.Equal(EfiStatus.InvalidParameter, Register(Changed(6, 46)));
        Assert.Equal(EfiStatus.InvalidParameter, Register(Changed(40, 4)));
        Assert.Equal(EfiStatus.InvalidParameter, Register(Changed(40, 3)));
        Assert.Equal(EfiStatus.InvalidParameter, Register(Changed(46, 0)));
        Assert.Equal(EfiStatus.InvalidParameter, Register(TestFirmware.PolicyEntry("A", max: 0)));
        Assert.Equal(EfiStatus.InvalidParameter, Register(TestFirmware.PolicyEntry("A", kind: 3, state: State(1, "B")[..^2])));
        Assert.Equal(EfiStatus.InvalidParameter, Register(TestFirmware.PolicyEntry("A", kind: 3, state: new byte[17])));
        Assert.Equal(EfiStatus.InvalidParameter, Register(TestFirmware.PolicyEntry("A", kind: 1, state: State(1, "B"))));
        Assert.Equal(EfiStatus.InvalidParameter, Register(TestFirmware.PolicyEntry(new string('#', 256))));
        Assert.Equal(EfiStatus.Success, Register([.. good, 1, 2, 3]));
    }

    [Fact]
    public void Register_TooMany_IsOutOfResources()
    {
        int count = 0;
        EfiStatus status;
        while ((status = Register(TestFirmware.PolicyEntry($"{count}{new string('n', 400)}"))) == EfiStatus.Success)
        {
            count++;
        }

        Assert.Equal(EfiStatus.OutOfResources, status);
        Assert.InRange(count, 70, 80);
    }

    [Fact]
    public void Check_HoldsFromTheEndOfDxe()
    {
        Register(TestFirmware.PolicyEntry("A", min: 2, max: 3, must: VariableAttributes.NonVolatile, cannot: VariableAttributes.RuntimeAccess));
        const VariableAttributes Boot = VariableAttributes.NonVolatile | VariableAttributes.BootServiceAccess;
        Assert.Equal(EfiStatus.Success, _firmware.Set("A", Boot, 1));
        _firmware.Notify(TestFirmware.EndOfDxe);
        Assert.Equal(EfiStatus.InvalidParameter, _firmware.Set("A", Boot, 1));
        Assert.Equal(EfiStatus.InvalidParameter, _firmware.Set("A", Boot, 1, 2, 3, 4));
        Assert.Equal(EfiStatus.Success, _firmware.Set("A", Boot, 1, 2, 3));
        Assert.Equal(EfiStatus.Success, _firmware.Set("A", Boot));
        Assert.Equal(EfiStatus.InvalidParameter, _firmware.Set("A", TestFirmware.NonVolatile, 1, 2));
        Assert.Equal(EfiStatus.InvalidParameter, _firmware.Set("A", VariableAttributes.BootServiceAccess, 1, 2));
        Assert.Equal(EfiStatus.Success, _firmware.Set("B", TestFirmware.NonVolatile, 1));
    }

    [Fact]
    public void Check_Locks_Lock()
    {
        Register(TestFirmware.PolicyEntry("Now", kind: 1));
        Register(TestFirmware.PolicyEntry("Created", kind: 2));
        Register(TestFirmware.PolicyEntry("State", kind: 3, state: State(7, "Switch")));
        _firmware.Notify(TestFirmware.EndOfDxe);
        Assert.Equal(EfiStatus.WriteProtected, _firmware.Set("Now", TestFirmware.NonVolatile, 1));
        Assert.Equal(EfiStatus.Success, _firmware.Set("Created", TestFirmware.NonVolatile, 1));
        Assert.Equal(EfiStatus.WriteProtected, _firmware.Set("Created", TestFirmware.NonVolatile, 2));
        Assert.Equal(EfiStatus.WriteProtected, _firmware.Set("Created", TestFirmware.NonVolatile));
        Assert.Equal(EfiStatus.Success, _firmware.Set("State", TestFirmware.NonVolatile, 1));
        _firmware.Set("Switch", TestFirmware.NonVolatile, 7, 7);
        Assert.Equal(EfiStatus.Success, _firmware.Set("State", TestFirmware.NonVolatile, 2));
        _firmware.Set("Switch", TestFirmware.NonVolatile, 7);
        Assert.Equal(EfiStatus.WriteProtected, _firmware.Set("State", TestFirmware.NonVolatile, 3));
        _firmware.Set("Switch", TestFirmware.NonVolatile, 6);
        Assert.Equal(EfiStatus.Success, _firmware.Set("State", TestFirmware.NonVolatile, 4));
    }

    [Fact]
    public void Check_TheBestMatch_Counts()
    {
        Register(TestFirmware.PolicyEntry(null, kind: 1));
        Register(TestFirmware.PolicyEntry("Boot####", max: 4));
        Register(TestFirmware.PolicyEntry("Boot00##", max: 3));
        Register(TestFirmware.PolicyEntry("Boot0001", max: 2));
        Register(TestFirmware.PolicyEntry("Boot####", max: 9));
        _firmware.Notify(TestFirmware.EndOfDxe);
        EfiStatus Set(string name, int size) => _firmware.Set(name, TestFirmware.NonVolatile, new byte[size]);
        Assert.Equal(EfiStatus.WriteProtected, Set("Other", 1));
        Assert.Equal(EfiStatus.InvalidParameter, Set("Boot0001", 3));
        Assert.Equal(EfiStatus.Success, Set("Boot0001", 2));
        Assert.Equal(EfiStatus.InvalidParameter, Set("Boot00aB", 4));
        Assert.Equal(EfiStatus.Success, Set("Boot00aB", 3));
        Assert.Equal(EfiStatus.InvalidParameter, Set("BootF0aB", 5));
        Assert.Equal(EfiStatus.Success, Set("BootF0aB", 4));
        Assert.Equal(EfiStatus.WriteProtected, Set("Boot####", 1));
        Assert.Equal(EfiStatus.WriteProtected, Set("Boot000G", 1));
        Assert.Equal(EfiStatus.WriteProtected, Set("Boot00001", 1));
    }

    [Fact]
    public void Dump_TellsAllEntries_InPages()
    {
        Assert.Equal(EfiStatus.Timeout, Dump(1, out _, out _));
        Assert.Equal(EfiStatus.Success, Dump(0, out byte[] nothing, out bool more));
        Assert.False(more);
        Assert.Equal(0, BinaryPrimitives.ReadInt32LittleEndian(nothing.AsSpan(4)));

        byte[] all = [];
        for (int i = 0; i < 40; i++)
        {
            byte[] entry = TestFirmware.PolicyEntry($"{i}{new string('n', 400)}");
            Assert.Equal(EfiStatus.Success, Register(entry));
            all = [.. all, .. entry];
        }

        Assert.Equal(EfiStatus.Timeout, Dump(1, out _, out _));
        Assert.Equal(EfiStatus.Success, Dump(0, out byte[] first, out more));
        Assert.True(more);
        Assert.Equal(all.Length, BinaryPrimitives.ReadInt32LittleEndian(first.AsSpan(4)));
        byte[] told = [];
        for (uint page = 1; more; page++)
        {
            Assert.Equal(EfiStatus.Success, Dump(page, out byte[] answer, out more));
            told = [.. told, .. answer.AsSpan(13, BinaryPrimitives.ReadInt32LittleEndian(answer.AsSpan(8)))];
        }

        Assert.Equal(all, told);
        Assert.Equal(EfiStatus.InvalidParameter, Dump(4, out _, out _));
        Assert.Equal(EfiStatus.InvalidParameter, Dump(uint.MaxValue, out _, out _));
        _firmware.Policy(2, [0], out _);
        Assert.Equal(EfiStatus.Timeout, Dump(1, out _, out _));
        Assert.Equal(EfiStatus.InvalidParameter, _firmware.Policy(4, new byte[Whole - 1], out _));
    }

    [Fact]
    public void Info_TellsThePolicyOfAVariable()
    {
        byte[] locked = TestFirmware.PolicyEntry("State#", kind: 3, min: 5, state: State(7, "Switch"));
        Register(locked);
        Register(TestFirmware.PolicyEntry("Plain", max: 9));
        Register(TestFirmware.PolicyEntry(null, kind: 1, vendor: Guid.Empty));

        Assert.Equal(EfiStatus.Success, Info(6, "State1", 100, out byte[] answer));
        Assert.Equal(locked[..44], answer[24..68]);
        Assert.Equal("State#\0", Told(answer, "State1"));
        Assert.Equal(EfiStatus.Success, Info(7, "State1", 100, out answer));
        Assert.Equal(State(7, "Switch")[..18], answer[24..42]);
        Assert.Equal("Switch\0", Told(answer, "State1"));
        Assert.Equal(EfiStatus.NotFound, Info(7, "Plain", 100, out _));
        Assert.Equal(EfiStatus.NotFound, Info(6, "None", 100, out _));
        Assert.Equal(EfiStatus.BufferTooSmall, Info(6, "Plain", 11, out answer));
        Assert.Equal(12, BinaryPrimitives.ReadInt32LittleEndian(answer.AsSpan(20)));
        Assert.Equal(EfiStatus.Success, Info(6, "Plain", 12, out _));
        Assert.Equal(EfiStatus.Success, Info(6, "x", 0, out answer, Guid.Empty));
        Assert.Equal(0, BinaryPrimitives.ReadInt32LittleEndian(answer.AsSpan(20)));
        Assert.Equal(EfiStatus.InvalidParameter, _firmware.Policy(6, new byte[Whole - 1], out _));
        Assert.Equal(EfiStatus.InvalidParameter, Info(6, "Plain", Whole, out _));
        byte[] endless = new byte[Whole];
        endless.AsSpan().Fill(1);
        BinaryPrimitives.WriteUInt32LittleEndian(endless.AsSpan(16), 8);
        BinaryPrimitives.WriteUInt32LittleEndian(endless.AsSpan(20), 8);
        Assert.Equal(EfiStatus.InvalidParameter, _firmware.Policy(6, endless, out _));
        BinaryPrimitives.WriteUInt32LittleEndian(endless.AsSpan(16), uint.MaxValue);
        Assert.Equal(EfiStatus.InvalidParameter, _firmware.Policy(6, endless, out _));
    }

    private static string Told(byte[] answer, string name) =>
        Encoding.Unicode.GetString(answer, 68 + TestFirmware.Name(name).Length, BinaryPrimitives.ReadInt32LittleEndian(answer.AsSpan(20)));

    private EfiStatus Info(uint command, string name, int room, out byte[] answer, Guid? vendor = null)
    {
        byte[] body = new byte[Whole];
        (vendor ?? TestFirmware.Vendor).TryWriteBytes(body);
        byte[] nameBytes = TestFirmware.Name(name);
        BinaryPrimitives.WriteInt32LittleEndian(body.AsSpan(16), nameBytes.Length);
        BinaryPrimitives.WriteInt32LittleEndian(body.AsSpan(20), room);
        nameBytes.CopyTo(body, 68);
        return _firmware.Policy(command, body, out answer);
    }

    private EfiStatus Dump(uint page, out byte[] answer, out bool more)
    {
        byte[] body = new byte[Whole];
        BinaryPrimitives.WriteUInt32LittleEndian(body, page);
        EfiStatus status = _firmware.Policy(4, body, out answer);
        more = answer[12] != 0;
        return status;
    }
}
