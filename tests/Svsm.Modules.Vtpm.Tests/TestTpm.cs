// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.IO;
using System.Security.Cryptography;
using System.Text.Json;
using Xunit;

namespace Svsm.Modules.Vtpm.Tests;

/// <summary>A TPM with a clock, entropy and storage that a test holds in its hands, and a client that builds commands by itself.</summary>
internal sealed class TestTpm : ITpmClock, ITpmEntropy, ITpmStorage
{
    internal const uint Owner = 0x4000_0001;
    internal const uint Null = 0x4000_0007;
    internal const uint Password = 0x4000_0009;
    internal const uint Lockout = 0x4000_000A;
    internal const uint Endorsement = 0x4000_000B;
    internal const uint Platform = 0x4000_000C;

    private readonly byte[] _response = new byte[Tpm.MaxCommandSize];
    private uint _entropy = 1;

    internal TestTpm(bool start = true)
    {
        Assert.Equal(TpmOpenResult.Done, Tpm.TryManufacture(new TpmPlatform(this, this, this), out Tpm? tpm));
        Engine = tpm!;
        if (start)
        {
            Startup(0);
        }
    }

    public long Milliseconds { get; set; }

    internal Tpm Engine { get; private set; }

    internal byte[]? Stored { get; set; }

    internal bool FailsToWrite { get; set; }

    internal int Writes { get; private set; }

    internal byte Locality { get; set; }

    public bool TryFill(Span<byte> buffer)
    {
        // Not random on purpose: every run does the same.
        byte[] seed = new byte[4];
        BinaryPrimitives.WriteUInt32BigEndian(seed, _entropy++);
        SHA512.HashData(seed).AsSpan(0, buffer.Length).CopyTo(buffer);
        return true;
    }

    public TpmStorageResult Read(out byte[] content)
    {
        content = Stored ?? [];
        return Stored is null ? TpmStorageResult.Absent : TpmStorageResult.Done;
    }

    public TpmStorageResult Write(ReadOnlySpan<byte> content)
    {
        if (FailsToWrite)
        {
            return TpmStorageResult.Failed;
        }

        Writes++;
        Stored = content.ToArray();
        return TpmStorageResult.Done;
    }

    internal static byte[] U16(int value) => [(byte)(value >> 8), (byte)value];

    internal static byte[] U32(uint value) => [(byte)(value >> 24), (byte)(value >> 16), (byte)(value >> 8), (byte)value];

    internal static byte[] Sized(params byte[] value) => [.. U16(value.Length), .. value];

    internal static byte[] PasswordSession(params byte[] password) => [.. U32(Password), 0, 0, 1, .. Sized(password)];

    internal static byte[] Command(uint code, uint[] handles, byte[] parameters, byte[]? sessions = null)
    {
        var body = new List<byte>();
        foreach (uint handle in handles)
        {
            body.AddRange(U32(handle));
        }

        if (sessions is not null)
        {
            body.AddRange(U32((uint)sessions.Length));
            body.AddRange(sessions);
        }

        body.AddRange(parameters);
        return [.. U16(sessions is null ? 0x8001 : 0x8002), .. U32((uint)(10 + body.Count)), .. U32(code), .. body];
    }

    /// <summary>The response, whose header was checked.</summary>
    internal byte[] Send(byte[] command)
    {
        int size = Engine.Execute(command, Locality, _response);
        Assert.InRange(size, 10, Tpm.MaxCommandSize);
        byte[] response = _response[..size];
        Assert.Equal((uint)size, BinaryPrimitives.ReadUInt32BigEndian(response.AsSpan(2)));
        if (Code(response) != 0)
        {
            Assert.Equal(10, size);
        }

        return response;
    }

    internal static uint Code(byte[] response) => BinaryPrimitives.ReadUInt32BigEndian(response.AsSpan(6));

    /// <summary>The response code of a command.</summary>
    internal uint Try(uint code, uint[] handles, byte[] parameters, byte[]? sessions = null) => Code(Send(Command(code, handles, parameters, sessions)));

    /// <summary>What follows the header of a command that has to succeed; with sessions, without the size of the parameters.</summary>
    internal byte[] Do(uint code, uint[] handles, byte[] parameters, byte[]? sessions = null)
    {
        byte[] response = Send(Command(code, handles, parameters, sessions));
        Assert.Equal(0u, Code(response));
        return response[(sessions is null ? 10 : 14)..];
    }

    internal void Startup(int type) => Do(0x144, [], U16(type));

    /// <summary>Power off and on, with whatever is stored.</summary>
    internal void PowerCycle()
    {
        Assert.Equal(TpmOpenResult.Done, Tpm.TryOpen(new TpmPlatform(this, this, this), out Tpm? tpm));
        Engine = tpm!;
    }

    /// <summary>Suspends the TPM and goes on with it in another object, which has another clock's time.</summary>
    internal void SuspendAndResume()
    {
        Assert.True(Engine.TrySuspend(out byte[] state));
        Assert.True(Engine.IsFailed);
        Assert.Equal(TpmOpenResult.Done, Tpm.TryResume(new TpmPlatform(this, this, this), state, out Tpm? tpm));
        tpm!.IsPhysicallyPresent = Engine.IsPhysicallyPresent;
        Engine = tpm;
    }

    internal uint Property(uint tag)
    {
        byte[] answer = Do(0x17A, [], [.. U32(6), .. U32(tag), .. U32(1)]);
        Assert.Equal(tag, BinaryPrimitives.ReadUInt32BigEndian(answer.AsSpan(9)));
        return BinaryPrimitives.ReadUInt32BigEndian(answer.AsSpan(13));
    }

    /// <summary>Storage that has nothing yet.</summary>
    internal sealed class Memory : ITpmStorage
    {
        private byte[]? _content;

        public TpmStorageResult Read(out byte[] content)
        {
            content = _content ?? [];
            return _content is null ? TpmStorageResult.Absent : TpmStorageResult.Done;
        }

        public TpmStorageResult Write(ReadOnlySpan<byte> content)
        {
            _content = content.ToArray();
            return TpmStorageResult.Done;
        }
    }

    internal static JsonDocument Resource(string name)
    {
        using Stream stream = typeof(TestTpm).Assembly.GetManifestResourceStream(name)!;
        return JsonDocument.Parse(stream);
    }
}
