// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using System.Linq;
using Svsm.Core.Testing;
using Svsm.Wire;
using Xunit;

namespace Svsm.Modules.Vtpm.Tests;

/// <summary>The TPM as a module: what a guest sees of it.</summary>
public sealed class VtpmModuleTests : IDisposable
{
    private const ulong Address = 0x1_0FF3;

    private static readonly byte[] s_startup = TestTpm.Command(0x144, [], [0, 0]);

    // TPM2_PCR_Read of PCR 16 of the SHA-256 bank.
    private static readonly byte[] s_readPcr = TestTpm.Command(0x17E, [], [0, 0, 0, 1, 0, 11, 3, 0, 0, 1]);

    private static readonly byte[] s_pattern = [.. Enumerable.Range(0, VtpmProtocol.BufferSize + 1).Select(i => (byte)(i * 7))];

    private readonly ModuleTest _test = new(new VtpmModule());

    public void Dispose() => _test.Dispose();

    [Fact]
    public void Query_Says_WhatClientsAskFor() =>
        Assert.Equal(new SvsmAnswer(SvsmResultCode.Success, 0x100, 0, 3, 4), _test.Call(0, 1, 2, 3, 4));

    [Fact]
    public void Call_Unknown_IsUnsupported() => Assert.Equal(SvsmResultCode.UnsupportedCall, _test.Call(2).Code);

    [Fact]
    public void Command_IsAnsweredInTheGuestsBuffer_AndNowhereElse()
    {
        Assert.Equal(0u, ResponseCode(s_startup));

        _test.Memory.GuestWrite(new(Address), s_pattern);
        byte[] response = Execute(TestTpm.Command(0x17B, [], [0, 8]));
        Assert.Equal(20, response.Length);
        Assert.Equal(s_pattern[24..], _test.Memory.GuestRead(new(Address + 24), VtpmProtocol.BufferSize + 1 - 24));
        Assert.NotEqual(response, Execute(TestTpm.Command(0x17B, [], [0, 8])));
    }

    [Fact]
    public void Command_LongerThanASlice_IsDoneToItsEnd()
    {
        Execute(s_startup);

        // TPM2_CreatePrimary, RSA-2048, in the null hierarchy.
        byte[] template = [0, 1, 0, 0x0B, 0, 3, 4, 0x72, 0, 0, 0, 6, 0, 128, 0, 0x43, 0, 0x10, 8, 0, 0, 0, 0, 0, 0, 0];
        byte[] response = Execute(TestTpm.Command(0x131, [TestTpm.Null], [0, 4, 0, 0, 0, 0, .. TestTpm.Sized(template), 0, 0, 0, 0, 0, 0], TestTpm.PasswordSession()));
        Assert.Equal(0u, BinaryPrimitives.ReadUInt32BigEndian(response.AsSpan(6)));
    }

    [Fact]
    public void Command_BufferThatIsNotTheGuests_IsAnInvalidAddress()
    {
        Assert.Equal(SvsmResultCode.InvalidAddress, _test.Call(1, ModuleTest.DefaultMemorySize - VtpmProtocol.BufferSize + 1).Code);
        Assert.Equal(SvsmResultCode.InvalidAddress, _test.Call(1, ulong.MaxValue).Code);

        // Taken away while the command is done.
        Write(s_startup);
        _test.Memory.BeforeAccess = access => _test.Memory.SetAccess(new(Address & ~0xFFFul), 1, access.IsWrite ? GuestPageAccess.None : GuestPageAccess.ReadWrite);
        Assert.Equal(SvsmResultCode.InvalidAddress, _test.Call(1, Address).Code);
    }

    [Fact]
    public void Command_NoRequest_IsAnInvalidFormatOrParameter()
    {
        Write(s_startup, locality: 1);
        Assert.Equal(SvsmResultCode.InvalidFormat, _test.Call(1, Address).Code);
        Write(s_startup, platformCommand: 9);
        Assert.Equal(SvsmResultCode.InvalidParameter, _test.Call(1, Address).Code);
    }

    [Fact]
    public void Reset_PowersTheTpmOnAnew()
    {
        Execute(s_startup);
        byte[] empty = Execute(s_readPcr)[^32..];
        Assert.Equal(0u, ResponseCode(TestTpm.Command(0x182, [16], [0, 0, 0, 1, 0, 0x0B, .. new byte[32]], TestTpm.PasswordSession())));
        Assert.NotEqual(empty, Execute(s_readPcr)[^32..]);

        _test.Reset();

        // TPM_RC_INITIALIZE, as after any power-on.
        Assert.Equal(0x100u, ResponseCode(s_readPcr));
        Execute(s_startup);
        Assert.Equal(empty, Execute(s_readPcr)[^32..]);
    }

    [Fact]
    public void Manifest_IsTheEndorsementKey_OfVersion0Only()
    {
        byte[]? manifest = _test.GetManifest(0);
        Assert.NotNull(manifest);
        // TPMT_PUBLIC of type RSA.
        Assert.Equal([0, 1], manifest[..2]);
        Assert.Equal(manifest, _test.GetManifest(0));
        Assert.Null(_test.GetManifest(1));
    }

    private uint ResponseCode(byte[] command) => BinaryPrimitives.ReadUInt32BigEndian(Execute(command).AsSpan(6));

    private byte[] Execute(byte[] command)
    {
        Write(command);
        Assert.Equal(SvsmResultCode.Success, _test.Call(1, Address).Code);
        int size = (int)BinaryPrimitives.ReadUInt32LittleEndian(_test.Memory.GuestRead(new(Address), 4));
        return _test.Memory.GuestRead(new(Address + 4), size);
    }

    private void Write(byte[] command, byte locality = 0, uint platformCommand = 8)
    {
        byte[] request = new byte[9 + command.Length];
        BinaryPrimitives.WriteUInt32LittleEndian(request, platformCommand);
        request[4] = locality;
        BinaryPrimitives.WriteUInt32LittleEndian(request.AsSpan(5), (uint)command.Length);
        command.CopyTo(request, 9);
        _test.Memory.GuestWrite(new(Address), request);
    }
}
