// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using Svsm.Modules.Vtpm.Crypto;
using Xunit;

namespace Svsm.Modules.Vtpm.Tests;

public sealed class VtpmProtocolTests : ITpmClock, ITpmEntropy
{
    private static readonly byte[] s_startup = TestTpm.Command(0x144, [], [0, 0]);
    private static readonly byte[] s_getRandom = TestTpm.Command(0x17B, [], [0, 8]);

    private readonly byte[] _buffer = new byte[VtpmProtocol.BufferSize];
    private readonly VtpmProtocol _protocol;
    private readonly Tpm _tpm;
    private long _now;
    private long _step;

    public VtpmProtocolTests()
    {
        Assert.Equal(TpmOpenResult.Done, Tpm.TryManufacture(new TpmPlatform(this, this, null) { MessageSize = VtpmProtocol.MaxCommandSize }, out Tpm? tpm));
        _tpm = tpm!;
        _protocol = new VtpmProtocol(_tpm, this);
        Assert.Equal(VtpmResult.Success, Call(0, 0x1000, s_startup));
    }

    // Each look at the clock takes a step, so that work is cut into slices without waiting.
    public long Milliseconds => _now += _step;

    public bool TryFill(Span<byte> buffer)
    {
        new Random(5).NextBytes(buffer);
        return true;
    }

    [Fact]
    public void Query_Constants_AreWhatClientsAskFor()
    {
        Assert.Equal(0x100ul, VtpmProtocol.PlatformCommands);
        Assert.Equal(0ul, VtpmProtocol.Features);
        Assert.Equal(3968, VtpmProtocol.MaxCommandSize);
    }

    [Fact]
    public void Command_Short_IsAnsweredAtOnce()
    {
        Assert.Equal(VtpmResult.Success, Call(0, 0x1000, s_getRandom));
        Assert.Equal(20u, BinaryPrimitives.ReadUInt32LittleEndian(_buffer));
        Assert.Equal([0x80, 1, 0, 0, 0, 20, 0, 0, 0, 0, 0, 8], _buffer[4..16]);
    }

    [Fact]
    public void Command_PropertiesAndLargest_AreTheModules()
    {
        Assert.Equal(VtpmResult.Success, Call(0, 0x1000, TestTpm.Command(0x17A, [], [0, 0, 0, 6, 0, 0, 1, 30, 0, 0, 0, 2])));
        Assert.Equal(3968u, BinaryPrimitives.ReadUInt32BigEndian(_buffer.AsSpan(4 + 23)));
        Assert.Equal(3968u, BinaryPrimitives.ReadUInt32BigEndian(_buffer.AsSpan(4 + 31)));
        Assert.Equal(VtpmResult.Success, Call(0, 0x1000, new byte[3969]));
        Assert.Equal(0x142u, Code());
        Assert.Equal(VtpmResult.Success, Call(0, 0x1000, new byte[4087]));
        Assert.Equal(0x142u, Code());
    }

    [Theory]
    [InlineData(0u, 0, 10u, VtpmResult.InvalidParameter)]
    [InlineData(1u, 0, 10u, VtpmResult.InvalidParameter)]
    [InlineData(0x0800_0000u, 0, 10u, VtpmResult.InvalidParameter)]
    [InlineData(8u, 1, 10u, VtpmResult.InvalidFormat)]
    [InlineData(8u, 0, 4088u, VtpmResult.InvalidFormat)]
    [InlineData(8u, 0, uint.MaxValue, VtpmResult.InvalidFormat)]
    public void Command_BadRequest_IsRefusedAndNothingIsWritten(uint command, byte locality, uint length, VtpmResult result)
    {
        BinaryPrimitives.WriteUInt32LittleEndian(_buffer, command);
        _buffer[4] = locality;
        BinaryPrimitives.WriteUInt32LittleEndian(_buffer.AsSpan(5), length);
        byte[] before = (byte[])_buffer.Clone();
        Assert.Equal(result, _protocol.Command(0, 0x1000, _buffer, out int size));
        Assert.Equal(0, size);
        Assert.Equal(before, _buffer);
    }

    [Fact]
    public void Command_Empty_IsATpmError()
    {
        Assert.Equal(VtpmResult.Success, Call(0, 0x1000, []));
        Assert.NotEqual(0u, Code());
    }

    [Fact]
    public void Command_Long_IsContinuedByTheSameCall()
    {
        int calls = 1;
        VtpmResult result = Begin();
        while (result == VtpmResult.Incomplete)
        {
            // What is in the buffer now does not matter any more.
            _buffer.AsSpan().Fill(0xA5);
            _step = 1;
            result = _protocol.Command(0, 0x1000, _buffer, out _);
            calls++;
        }

        Assert.Equal(VtpmResult.Success, result);
        Assert.True(calls > 1);
        Assert.False(_protocol.IsPending);
        Assert.Equal([0x80, 2], _buffer[4..6]);
    }

    // What bounds a slice besides the clock: between two looks at it a key generation does one exponentiation modulo a prime's candidate at most,
    // which for the largest key is a few milliseconds.
    [Theory]
    [InlineData(2048)]
    [InlineData(4096)]
    public void KeyGeneration_BetweenTwoLooksAtTheClock_IsOneExponentiationAtMost(int bits)
    {
        var generation = new RsaKeyGeneration(CounterDrbg.Create(new BouncyCastleCryptography(), [7]), bits, RsaPublicKey.DefaultExponent);
        bool isDone = false;
        for (int i = 0; i < 100 && !isDone; i++)
        {
            int before = generation.Exponentiations;
            isDone = generation.Step();
            Assert.InRange(generation.Exponentiations - before, 0, 1);
        }

        Assert.NotEqual(0, generation.Exponentiations);
    }

    [Fact]
    public void Command_OtherBufferOfTheSameVcpu_EndsTheLongCommand()
    {
        Begin();
        Assert.Equal(VtpmResult.Success, Call(0, 0x2000, s_getRandom));
        Assert.Equal(0u, Code());
        Assert.False(_protocol.IsPending);
        Assert.Equal(0u, LoadedObjects());
    }

    [Theory]
    [InlineData(4900, 0, 0x000u)]
    [InlineData(4900, 1, 0x922u)]
    [InlineData(30_000, 0, 0x000u)]
    [InlineData(30_000, 1, 0x922u)]
    public void Command_TimeIsOver_IsToBeMadeAgain(int limit, int beyond, uint code)
    {
        var platform = new TpmPlatform(this, this, null);
        Assert.Equal(4900, platform.CommandMilliseconds);
        Assert.Equal(TpmOpenResult.Done, Tpm.TryManufacture(platform with { CommandMilliseconds = limit }, out Tpm? tpm));
        byte[] response = new byte[Tpm.MaxCommandSize];
        Assert.True(tpm!.TryExecute(s_startup, 0, response, out _));
        _step = Tpm.SliceMilliseconds;
        long begin = _now + _step;
        Assert.False(tpm.TryExecute(CreateRsa(), 0, response, out _));
        _step = 0;
        _now = begin + limit + beyond;
        Assert.True(tpm.TryContinue(response, out _));
        Assert.Equal(code, BinaryPrimitives.ReadUInt32BigEndian(response.AsSpan(6)));
    }

    [Fact]
    public void Command_OtherVcpu_WaitsUntilTheTimeIsOver()
    {
        Begin();
        Assert.Equal(VtpmResult.Busy, Call(1, 0x3000, s_getRandom));
        Assert.True(_protocol.IsPending);
        _now += _tpm.CommandMilliseconds + 1;
        Assert.Equal(VtpmResult.Success, Call(1, 0x3000, s_getRandom));
        Assert.False(_protocol.IsPending);
        Assert.Equal(0u, LoadedObjects());
    }

    [Theory]
    [InlineData(EndorsementKeyKind.Rsa2048)]
    [InlineData(EndorsementKeyKind.EccP256)]
    public void Manifest_EndorsementKey_IsTheOneThatCommandsMake(EndorsementKeyKind kind)
    {
        Assert.Equal(VtpmResult.Success, _protocol.Manifest(0, kind, out byte[] manifest));
        Assert.Equal(0u, LoadedObjects());
        Assert.Equal(Primary(kind), manifest);

        // It is kept, also by TPM2_Clear, and is another one after TPM2_ChangeEPS.
        _step = 1_000;
        Assert.Equal(VtpmResult.Success, _protocol.Manifest(0, kind, out byte[] again));
        _step = 0;
        Assert.Equal(manifest, again);
        Call(0, 0x1000, TestTpm.Command(0x126, [TestTpm.Lockout], [], TestTpm.PasswordSession()));
        Assert.Equal(0u, Code());
        Assert.Equal(manifest, Primary(kind));
        Assert.Equal(VtpmResult.Success, _protocol.Manifest(0, kind, out again));
        Assert.Equal(manifest, again);
        Call(0, 0x1000, TestTpm.Command(0x124, [TestTpm.Platform], [], TestTpm.PasswordSession()));
        Assert.Equal(0u, Code());
        Assert.Equal(VtpmResult.Success, _protocol.Manifest(0, kind, out byte[] other));
        Assert.NotEqual(manifest, other);
        Assert.Equal(Primary(kind), other);
    }

    [Fact]
    public void Manifest_Long_IsContinuedBesidesAnUnfinishedCommand()
    {
        Begin();
        int calls = 1;
        _step = 5;
        VtpmResult result;
        byte[] manifest;
        while ((result = _protocol.Manifest(0, EndorsementKeyKind.Rsa2048, out manifest)) == VtpmResult.Incomplete)
        {
            Assert.Empty(manifest);
            calls++;
        }

        Assert.Equal(VtpmResult.Success, result);
        Assert.True(calls > 1);
        _step = 0;
        Assert.True(_protocol.IsPending);
        Assert.Equal(VtpmResult.Success, _protocol.Command(0, 0x1000, _buffer, out _));
        Assert.Equal([0x80, 2], _buffer[4..6]);
    }

    [Fact]
    public void Manifest_BeforeStartup_IsMade()
    {
        Assert.Equal(TpmOpenResult.Done, Tpm.TryManufacture(new TpmPlatform(this, this, null) { MessageSize = VtpmProtocol.MaxCommandSize }, out Tpm? tpm));
        var protocol = new VtpmProtocol(tpm!, this);
        Assert.Equal(VtpmResult.Success, protocol.Manifest(0, EndorsementKeyKind.EccP256, out byte[] manifest));
        Assert.Equal([0, 0x23, 0, 0x0B], manifest[..4]);
    }

    [Fact]
    public void Manifest_VersionOrTpmBad_HasItsCode()
    {
        Assert.Equal(VtpmResult.InvalidParameter, _protocol.Manifest(1, EndorsementKeyKind.Rsa2048, out byte[] manifest));
        Assert.Empty(manifest);
        _tpm.Fail();
        Assert.Equal(VtpmResult.InvalidRequest, _protocol.Manifest(0, EndorsementKeyKind.Rsa2048, out manifest));
        Assert.Empty(manifest);
    }

    [Fact]
    public void Constructor_LargerMessages_Throws()
    {
        var tpm = new TestTpm();
        Assert.Throws<ArgumentException>(() => new VtpmProtocol(tpm.Engine, tpm));
        Assert.Throws<ArgumentException>(() => _protocol.Command(0, 0, new byte[4095], out _));
    }

    // An RSA key, with a clock that jumps at each look: longer than a slice, far shorter than a command may take.
    private VtpmResult Begin()
    {
        _step = 20;
        VtpmResult result = Call(0, 0x1000, CreateRsa());
        Assert.Equal(VtpmResult.Incomplete, result);
        Assert.True(_protocol.IsPending);
        _step = 0;
        return result;
    }

    private static byte[] CreateRsa()
    {
        byte[] template = [0, 1, 0, 0x0B, 0, 3, 4, 0x72, 0, 0, 0, 6, 0, 128, 0, 0x43, 0, 0x10, 8, 0, 0, 0, 0, 0, 0, 0];
        return TestTpm.Command(0x131, [TestTpm.Null], [0, 4, 0, 0, 0, 0, .. TestTpm.Sized(template), 0, 0, 0, 0, 0, 0], TestTpm.PasswordSession());
    }

    private VtpmResult Call(int vcpu, ulong address, byte[] command)
    {
        BinaryPrimitives.WriteUInt32LittleEndian(_buffer, 8);
        _buffer[4] = 0;
        BinaryPrimitives.WriteUInt32LittleEndian(_buffer.AsSpan(5), (uint)command.Length);
        command.CopyTo(_buffer, 9);
        return _protocol.Command(vcpu, address, _buffer, out _);
    }

    private uint Code() => BinaryPrimitives.ReadUInt32BigEndian(_buffer.AsSpan(4 + 6));

    // The key of the default template, by commands; TPMT_PUBLIC.
    private byte[] Primary(EndorsementKeyKind kind)
    {
        byte[] policy = Convert.FromHexString("837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa");
        byte[] head = [0, 0x0B, .. TestTpm.U32(0x0003_00B2), .. TestTpm.Sized(policy), 0, 6, 0, 128, 0, 0x43, 0, 0x10];
        byte[] template = kind == EndorsementKeyKind.Rsa2048
            ? [0, 1, .. head, 8, 0, 0, 0, 0, 0, .. TestTpm.Sized(new byte[256])]
            : [0, 0x23, .. head, 0, 3, 0, 0x10, .. TestTpm.Sized(new byte[32]), .. TestTpm.Sized(new byte[32])];
        Call(0, 0x1000, TestTpm.Command(0x131, [TestTpm.Endorsement], [0, 4, 0, 0, 0, 0, .. TestTpm.Sized(template), 0, 0, 0, 0, 0, 0], TestTpm.PasswordSession()));
        Assert.Equal(0u, Code());
        int size = BinaryPrimitives.ReadUInt16BigEndian(_buffer.AsSpan(4 + 18));
        byte[] area = _buffer[(4 + 20)..(4 + 20 + size)];
        Call(0, 0x1000, TestTpm.Command(0x165, [], _buffer[14..18]));
        return area;
    }

    private uint LoadedObjects()
    {
        Call(0, 0x1000, TestTpm.Command(0x17A, [], [0, 0, 0, 1, 0x80, 0, 0, 0, 0, 0, 0, 9]));
        return BinaryPrimitives.ReadUInt32BigEndian(_buffer.AsSpan(4 + 15));
    }
}
