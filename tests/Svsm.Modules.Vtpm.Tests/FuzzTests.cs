// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using System.Security.Cryptography;
using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;
using Xunit;

namespace Svsm.Modules.Vtpm.Tests;

// Seeded commands that know the structure: every command, handles that exist more often than not, sessions, parameters out of small pieces.
// After each case the TPM is looked at from inside. SVSM_TEST_ALL=1 runs a million.
public sealed class FuzzTests : ITpmClock, ITpmEntropy, ITpmStorage
{
    private const int Cases = 60_000;
    private const int AllCases = 1_000_000;

    private readonly Random _random = new(20261123);
    private readonly byte[] _response = new byte[Tpm.MaxCommandSize];
    private byte[] _stored = [];
    private long _now;

    // Time flies: what makes RSA keys meets its end soon.
    public long Milliseconds => _now += 1_000;

    public bool TryFill(Span<byte> buffer)
    {
        buffer.Fill(0x5A);
        return true;
    }

    public TpmStorageResult Read(out byte[] content)
    {
        content = _stored;
        return _stored.Length == 0 ? TpmStorageResult.Absent : TpmStorageResult.Done;
    }

    public TpmStorageResult Write(ReadOnlySpan<byte> content)
    {
        _stored = content.ToArray();
        return TpmStorageResult.Done;
    }

    [Fact]
    public void Execute_StructuredCommands_KeepTheInvariants()
    {
        int cases = Environment.GetEnvironmentVariable("SVSM_TEST_ALL") == "1" ? AllCases : Cases;
        var platform = new TpmPlatform(this, this, this);
        Assert.Equal(TpmOpenResult.Done, Tpm.TryManufacture(platform, out Tpm? made));
        Tpm tpm = made!;
        int successes = 0;
        for (int i = 0; i < cases; i++)
        {
            if (!tpm.IsStarted || _random.Next(2000) == 0)
            {
                tpm.PowerOn();
                Assert.Equal(0u, Run(tpm, TestTpm.Command(0x144, [], [0, 0]), 0));
            }

            byte[] command = Next(tpm);
            successes += Run(tpm, command, (byte)_random.Next(5)) == 0 ? 1 : 0;
            Check(tpm, command);
            if (i % 250 == 0)
            {
                // What is stored can be read; then a new one, because sooner or later no authorisation of a TPM is known any more.
                Assert.Equal(TpmOpenResult.Done, Tpm.TryOpen(platform, out _));
                _stored = [];
                Assert.Equal(TpmOpenResult.Done, Tpm.TryManufacture(platform, out Tpm? next));
                tpm = next!;
            }
        }

        // Otherwise it is the errors only that are tested.
        Assert.True(successes > cases / 200, $"{successes} of {cases}");
    }

    private uint Run(Tpm tpm, byte[] command, byte locality)
    {
        int size = tpm.Execute(command, locality, _response);
        Assert.InRange(size, 10, Tpm.MaxCommandSize);
        Assert.Equal((uint)size, System.Buffers.Binary.BinaryPrimitives.ReadUInt32BigEndian(_response.AsSpan(2)));
        uint code = TestTpm.Code(_response);
        Assert.True(code == 0 || size == 10);
        return code;
    }

    private static void Check(Tpm tpm, byte[] command)
    {
        string text = Convert.ToHexString(command);
        Assert.False(tpm.IsFailed, text);
        Assert.True(tpm.Objects.LoadedCount <= TpmLimits.LoadedObjects, text);
        Assert.True(tpm.Sessions.LoadedCount <= TpmLimits.LoadedSessions, text);
        Assert.True(tpm.Sessions.ActiveCount <= TpmLimits.ActiveSessions, text);
        Assert.True(NvStorage.Used(tpm) <= TpmLimits.NvCapacity, text);
        Assert.Equal(PersistentState.SecretSize, tpm.Persistent.OwnerSeed.Length);
        Assert.Equal(PersistentState.SecretSize, tpm.Persistent.EndorsementSeed.Length);
        Assert.Equal(PersistentState.SecretSize, tpm.Persistent.PlatformSeed.Length);
        for (int i = 0; i < tpm.Persistent.NvIndices.Length; i++)
        {
            NvIndex index = tpm.Persistent.NvIndices[i];
            Assert.True(index.Data.Length == index.Public.DataSize, text);
            Assert.True(i == 0 || tpm.Persistent.NvIndices[i - 1].Public.Index.Value < index.Public.Index.Value, text);
        }
    }

    private byte[] Next(Tpm tpm)
    {
        CommandDescriptor descriptor = CommandTable.All[_random.Next(CommandTable.All.Length)];
        if (descriptor.Code == CommandCode.Startup)
        {
            descriptor = CommandTable.Find((uint)CommandCode.GetRandom)!;
        }

        var handles = new uint[descriptor.Handles.Length];
        var sessions = new List<byte>();
        for (int i = 0; i < handles.Length; i++)
        {
            handles[i] = descriptor.Handles[i].OrNull && _random.Next(2) == 0 ? TestTpm.Null : Handle(tpm, descriptor.Handles[i].Kind);
            if (descriptor.Handles[i].Role != AuthorizationRole.None)
            {
                sessions.AddRange(_random.Next(20) == 0 ? [.. TestTpm.U32(Handle(tpm, HandleKind.PolicySession)), 0, 0, (byte)_random.Next(256), 0, 0] : TestTpm.PasswordSession());
            }
        }

        var parameters = new List<byte>();
        int pieces = _random.Next(9);
        for (int i = 0; i < pieces; i++)
        {
            parameters.AddRange(Piece(tpm));
        }

        byte[] command = TestTpm.Command((uint)descriptor.Code, handles, [.. Known(descriptor.Code) ?? [.. parameters]], sessions.Count == 0 ? null : [.. sessions]);
        if (_random.Next(6) == 0)
        {
            command[_random.Next(10, Math.Max(11, command.Length)) % command.Length] ^= (byte)(1 << _random.Next(8));
        }

        return command;
    }

    // Good parameters of the commands that others need.
    private byte[]? Known(CommandCode code) => _random.Next(5) == 0 ? null : code switch
    {
        CommandCode.StartAuthSession => [.. TestTpm.Sized(new byte[16]), 0, 0, (byte)(_random.Next(2) == 0 ? 1 : _random.Next(4)), 0, 0x10, 0, 0x0B],
        CommandCode.CreatePrimary or CommandCode.Create =>
        [
            .. TestTpm.Sized(0, 0, 0, 0),
            .. TestTpm.Sized(_random.Next(2) == 0
                ? [0, 0x23, 0, 0x0B, 0, 3, 4, 0x72, 0, 0, 0, 6, 0, 128, 0, 0x43, 0, 0x10, 0, 3, 0, 0x10, 0, 0, 0, 0]
                : [0, 8, 0, 0x0B, 0, 4, 4, 0x72, 0, 0, 0, 5, 0, 0x0B, 0, 0]),
            0, 0, 0, 0, 0, 0,
        ],
        CommandCode.NvDefineSpace =>
        [
            0, 0,
            .. TestTpm.Sized([.. TestTpm.U32(0x0150_0000u + (uint)_random.Next(8)), 0, 0x0B, .. TestTpm.U32(0x0006_0006u | ((uint)_random.Next(10) << 4)), 0, 0, 0, 8]),
        ],
        CommandCode.FlushContext => TestTpm.U32(_random.Next(2) == 0 ? 0x8000_0000u + (uint)_random.Next(3) : 0x0200_0000u + ((uint)_random.Next(2) << 24) + (uint)_random.Next(4)),
        CommandCode.EvictControl => TestTpm.U32(0x8100_0000u + (uint)_random.Next(4)),
        CommandCode.NvWrite => [.. TestTpm.Sized(new byte[8]), 0, 0],
        CommandCode.NvRead => [0, 8, 0, 0],
        _ => null,
    };

    private uint Handle(Tpm tpm, HandleKind kind) => _random.Next(12) == 0 ? (uint)_random.NextInt64() : kind switch
    {
        HandleKind.Pcr => (uint)_random.Next(24),
        HandleKind.PolicySession => 0x0300_0000u + (uint)_random.Next(3),
        HandleKind.NvIndex => 0x0150_0000u + (uint)_random.Next(8),
        HandleKind.NvAuth => _random.Next(2) == 0 ? TestTpm.Owner : 0x0150_0000u + (uint)_random.Next(8),
        HandleKind.Object or HandleKind.Parent => _random.Next(4) == 0 ? 0x8100_0000u + (uint)_random.Next(4) : 0x8000_0000u + (uint)_random.Next(3),
        HandleKind.Context => _random.Next(2) == 0 ? 0x8000_0000u + (uint)_random.Next(3) : 0x0300_0000u + (uint)_random.Next(3),
        _ => Hierarchy(kind),
    };

    private uint Hierarchy(HandleKind kind)
    {
        uint[] all = [TestTpm.Owner, TestTpm.Endorsement, TestTpm.Platform, TestTpm.Lockout];
        uint[] fitting = Array.FindAll(all, h => HandleKinds.Check(new TpmHandle(h), kind, false) == TpmResponseCode.Success);
        return fitting.Length == 0 ? TestTpm.Null : fitting[_random.Next(fitting.Length)];
    }

    private byte[] Piece(Tpm tpm)
    {
        switch (_random.Next(9))
        {
            case 0:
                return [(byte)_random.Next(4)];
            case 1:
                return TestTpm.U16(_random.Next(4) == 0 ? 0xFFFF : _random.Next(0x50));
            case 2:
                return TestTpm.U32(_random.Next(4) == 0 ? uint.MaxValue : (uint)_random.Next(9));
            case 3:
                return TestTpm.U32(Handle(tpm, (HandleKind)_random.Next(20)));
            case 4:
                return [0, 0, 0, 1, 0, 0x0B, 3, (byte)_random.Next(256), 0, 0];
            case 5:
                return TestTpm.Sized(SHA256.HashData([(byte)_random.Next(4)]));
            case 6:
                return [0, 0x0B];
            case 7:
                return [0, 0];
            default:
                byte[] bytes = new byte[_random.Next(40)];
                _random.NextBytes(bytes);
                return TestTpm.Sized(bytes);
        }
    }
}
