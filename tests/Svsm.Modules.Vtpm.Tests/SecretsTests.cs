// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.Globalization;
using System.IO;
using System.Security.Cryptography;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;
using Xunit;

namespace Svsm.Modules.Vtpm.Tests;

/// <summary>Nothing else runs meanwhile: what others allocate would make the garbage collector move things, and leave copies.</summary>
[CollectionDefinition(nameof(SecretsTests), DisableParallelization = true)]
public sealed class SecretsCollection;

// After a command has been answered, and its object flushed, a secret is nowhere in the memory of the process: all of it that can be written is
// searched, heap, stacks and libraries' memory. The test keeps the secret in one place that does not count, and commands and responses in
// buffers that it clears.
[Collection(nameof(SecretsTests))]
public sealed class SecretsTests : ITpmClock, ITpmEntropy
{
    private const long NoCollectionBytes = 200_000_000;
    private const int ChunkSize = 1 << 20;

    private readonly byte[] _secret = GC.AllocateArray<byte>(32, pinned: true);
    private readonly byte[] _command = GC.AllocateArray<byte>(Tpm.MaxCommandSize, pinned: true);
    private readonly byte[] _response = GC.AllocateArray<byte>(Tpm.MaxCommandSize, pinned: true);
    private readonly byte[] _chunk = GC.AllocateArray<byte>(ChunkSize, pinned: true);
    private readonly Tpm _tpm;
    private int _length;

    public SecretsTests()
    {
        Assert.Equal(TpmOpenResult.Done, Tpm.TryManufacture(new TpmPlatform(this, this, null), out Tpm? tpm));
        _tpm = tpm!;
        Do(0x144, [], false, () => Put(0, 0));
        RandomNumberGenerator.Fill(_secret);
    }

    public static TheoryData<string> Uses =>
        ["sealed data", "authorisation of a hierarchy", "authorisation of an object", "message to an RSA key", "replaced seed", "AES key", "HMAC key", "number of a commitment", "salt"];

    public long Milliseconds => 0;

    public bool TryFill(Span<byte> buffer)
    {
        buffer.Fill(0x5A);
        return true;
    }

    [Fact]
    public void Search_WhatIsThere_IsFound()
    {
        byte[] copy = GC.AllocateArray<byte>(32, pinned: true);
        _secret.CopyTo(copy, 0);
        Assert.NotEmpty(Search());
        CryptographicOperations.ZeroMemory(copy);
    }

    [Theory]
    [MemberData(nameof(Uses))]
    public void Execute_SecretUsedAndGone_IsNowhereInMemory(string use)
    {
        // Once for what is done the first time, with another secret.
        Use(use);
        RandomNumberGenerator.Fill(_secret);
        Assert.True(GC.TryStartNoGCRegion(NoCollectionBytes));
        try
        {
            Use(use);
            Overwrite();
            Assert.Empty(Search());
        }
        finally
        {
            GC.EndNoGCRegion();
        }
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void TryRestore_SecretOfALoadedKey_IsNowhereInMemoryAfterwards(bool isTaken)
    {
        Restore(isTaken);
        RandomNumberGenerator.Fill(_secret);
        Assert.True(GC.TryStartNoGCRegion(NoCollectionBytes));
        try
        {
            Restore(isTaken);
            Overwrite();
            Assert.Empty(Search());
        }
        finally
        {
            GC.EndNoGCRegion();
        }
    }

    // A TPM with an HMAC key that is loaded; and where it goes to, flushed there.
    private void Restore(bool isTaken)
    {
        uint key = External([0, 8, 0, 0x0B, 0, 4, 4, 0x40, 0, 0, 0, 5, 0, 0x0B, .. TestTpm.Sized(Unique())], 8);
        Assert.True(_tpm.TrySave(out byte[] state));
        Flush(key);
        Clear();

        // The persistent part is another one then.
        state[^1] ^= isTaken ? (byte)0 : (byte)1;
        TpmOpenResult result = Tpm.TryRestore(new TpmPlatform(this, this, null), state, out Tpm? next);
        CryptographicOperations.ZeroMemory(state);
        Assert.Equal(isTaken ? TpmOpenResult.Done : TpmOpenResult.StateInvalid, result);
        next?.Execute(TestTpm.Command(0x165, [], TestTpm.U32(key)), 0, _response);
        Clear();
    }

    private void Use(string use)
    {
        switch (use)
        {
            case "sealed data":
            case "authorisation of an object":
                UseChild(use[0] == 's');
                break;
            case "authorisation of a hierarchy":
                Do(0x129, [TestTpm.Owner], true, () => PutSized(_secret));
                Do(0x129, [TestTpm.Owner], true, () => Put(0, 0), withSecret: true);
                break;
            case "message to an RSA key":
                uint key = Primary([0, 1, 0, 0x0B, 0, 2, 4, 0x72, 0, 0, 0, 0x10, 0, 0x10, 8, 0, 0, 0, 0, 0, 0, 0]);
                Do(0x174, [key], false, () => PutSized(_secret).Put(0, 0x17, 0, 0x0B, 0, 0));
                byte[] encrypted = _response[12..(12 + 256)];
                Do(0x159, [key], true, () => PutSized(encrypted).Put(0, 0x17, 0, 0x0B, 0, 0));
                Assert.True(_response.AsSpan(16, 32).SequenceEqual(_secret));
                Flush(key);
                break;
            case "replaced seed":
                _tpm.Persistent.EndorsementSeed.AsSpan(0, 32).CopyTo(_secret);
                Do(0x124, [TestTpm.Platform], true, () => this);
                break;
            case "AES key":
                uint cipher = External([0, 0x25, 0, 0x0B, 0, 6, 4, 0x40, 0, 0, 0, 6, 1, 0, 0, 0x43, .. TestTpm.Sized(Unique())], 0x25);
                Do(0x193, [cipher], true, () => PutSized(new byte[40]).Put(0, 0, 0x43).PutSized(new byte[16]));
                Flush(cipher);
                break;
            case "HMAC key":
                uint mac = External([0, 8, 0, 0x0B, 0, 4, 4, 0x40, 0, 0, 0, 5, 0, 0x0B, .. TestTpm.Sized(Unique())], 8);
                Do(0x155, [mac], true, () => PutSized(new byte[40]).Put(0, 0x10));
                Flush(mac);
                break;
            case "number of a commitment":
                // Of an ephemeral key that is made and used; the other side's points are, for once, the TPM's own.
                uint agreement = Primary([0, 0x23, 0, 0x0B, 0, 2, 4, 0x72, 0, 0, 0, 0x10, 0, 0x10, 0, 3, 0, 0x10, 0, 0, 0, 0]);
                Commitments.Next(_tpm, _tpm.Cryptography.Curve(EccCurve.NistP256), []).CopyTo(_secret, 0);
                Do(0x18E, [], false, () => Put(0, 3));
                byte[] point = _response[10..80];
                byte[] counter = _response[80..82];
                Do(0x18D, [agreement], true, () => PutBytes(point).PutBytes(point).Put(0, 0x19).PutBytes(counter));
                Flush(agreement);
                break;
            default:
                uint parent = Primary([0, 1, 0, 0x0B, 0, 3, 4, 0x72, 0, 0, 0, 6, 0, 128, 0, 0x43, 0, 0x10, 8, 0, 0, 0, 0, 0, 0, 0]);
                Do(0x174, [parent], false, () => PutSized(_secret).Put(0, 0x17, 0, 0x0B).PutSized("SECRET\0"u8.ToArray()));
                byte[] salt = _response[12..(12 + 256)];
                Do(0x176, [parent, TestTpm.Null], false, () => PutSized(new byte[16]).PutSized(salt).Put(0, 0, 0x10, 0, 0x0B));
                Flush(Handle());
                Flush(parent);
                break;
        }

        Clear();
    }

    // A sealed object, with the secret in it or as its authorisation.
    private void UseChild(bool isData)
    {
        uint parent = Primary([0, 0x23, 0, 0x0B, 0, 3, 4, 0x72, 0, 0, 0, 6, 0, 128, 0, 0x43, 0, 0x10, 0, 3, 0, 0x10, 0, 0, 0, 0]);
        byte[] data = isData ? _secret : new byte[8];
        byte[] auth = isData ? [] : _secret;
        Do(
            0x153,
            [parent],
            true,
            () => Put(0, (byte)(4 + auth.Length + data.Length)).PutSized(auth).PutSized(data).PutSized([0, 8, 0, 0x0B, 0, 0, 4, 0x52, 0, 0, 0, 0x10, 0, 0]).Put(0, 0, 0, 0, 0, 0));
        byte[] privatePart = Sized(14, out int next);
        byte[] area = Sized(next, out _);
        Do(0x157, [parent], true, () => PutSized(privatePart).PutSized(area));
        uint item = Handle();
        Do(0x15E, [item], true, () => this, withSecret: !isData);
        Assert.True(_response.AsSpan(16, data.Length).SequenceEqual(data));
        Flush(item);
        Flush(parent);
    }

    // A key with its secret part: what the TPM computes its unique part from is the secret and a seed of zeros.
    private byte[] Unique()
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        hash.AppendData(new byte[32]);
        hash.AppendData(_secret);
        return hash.GetHashAndReset();
    }

    private uint External(byte[] area, byte type)
    {
        Do(
            0x167,
            [],
            false,
            () => Put(0, 72, 0, type, 0, 0).PutSized(new byte[32]).PutSized(_secret).PutSized(area).PutBytes(TestTpm.U32(TestTpm.Null)));
        return Handle();
    }

    private uint Primary(byte[] template)
    {
        Do(0x131, [TestTpm.Owner], true, () => Put(0, 4, 0, 0, 0, 0).PutSized(template).Put(0, 0, 0, 0, 0, 0));
        return Handle();
    }

    private void Flush(uint handle) => Do(0x165, [], false, () => PutBytes(TestTpm.U32(handle)));

    private uint Handle() => BinaryPrimitives.ReadUInt32BigEndian(_response.AsSpan(10));

    private byte[] Sized(int offset, out int next)
    {
        int size = BinaryPrimitives.ReadUInt16BigEndian(_response.AsSpan(offset));
        next = offset + 2 + size;
        return _response[(offset + 2)..next];
    }

    // Builds a command in place and does it.
    private void Do(uint code, ReadOnlySpan<uint> handles, bool hasSession, Func<SecretsTests> putParameters, bool withSecret = false)
    {
        Clear();
        Put(0x80, (byte)(hasSession ? 2 : 1), 0, 0, 0, 0).PutBytes(TestTpm.U32(code));
        foreach (uint handle in handles)
        {
            PutBytes(TestTpm.U32(handle));
        }

        if (hasSession)
        {
            byte[] password = withSecret ? _secret : [];
            PutBytes(TestTpm.U32((uint)(9 + password.Length))).PutBytes(TestTpm.U32(TestTpm.Password)).Put(0, 0, 1).PutSized(password);
        }

        putParameters();
        BinaryPrimitives.WriteInt32BigEndian(_command.AsSpan(2), _length);
        _tpm.Execute(_command.AsSpan(0, _length), 0, _response);
        Assert.Equal(0u, BinaryPrimitives.ReadUInt32BigEndian(_response.AsSpan(6)));
    }

    private void Clear()
    {
        CryptographicOperations.ZeroMemory(_command);
        CryptographicOperations.ZeroMemory(_response);
        _length = 0;
    }

    private SecretsTests Put(params ReadOnlySpan<byte> bytes) => PutBytes(bytes);

    private SecretsTests PutBytes(ReadOnlySpan<byte> bytes)
    {
        bytes.CopyTo(_command.AsSpan(_length));
        _length += bytes.Length;
        return this;
    }

    private SecretsTests PutSized(ReadOnlySpan<byte> bytes) => Put((byte)(bytes.Length >> 8), (byte)bytes.Length).PutBytes(bytes);

    // What is left in the stack below this frame is nobody's any more; the next call of anything overwrites it.
    private static void Overwrite()
    {
        Span<byte> stack = stackalloc byte[256 * 1024];
        stack.Fill(0xEE);
    }

    // Where in memory the secret is, besides its own place.
    private List<string> Search()
    {
        var found = new List<string>();
        using FileStream memory = new("/proc/self/mem", FileMode.Open, FileAccess.Read, FileShare.ReadWrite, bufferSize: 0);
        foreach (string line in File.ReadAllLines("/proc/self/maps"))
        {
            string[] fields = line.Split(' ', StringSplitOptions.RemoveEmptyEntries);
            if (!fields[1].StartsWith("rw", StringComparison.Ordinal))
            {
                continue;
            }

            string[] range = fields[0].Split('-');
            long start = long.Parse(range[0], NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture);
            long end = long.Parse(range[1], NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture);
            SearchRange(memory, start, end, found, line);
        }

        return found;
    }

    private void SearchRange(FileStream memory, long start, long end, List<string> found, string line)
    {
        for (long address = start; address < end; address += ChunkSize - _secret.Length)
        {
            int count;
            try
            {
                memory.Position = address;
                count = memory.Read(_chunk.AsSpan(0, (int)Math.Min(ChunkSize, end - address)));
            }
            catch (IOException)
            {
                // Pages of devices, which are not memory.
                return;
            }

            for (int from = 0, at; from < count && (at = _chunk.AsSpan(from, count - from).IndexOf(_secret)) >= 0; from += at + 1)
            {
                long place = address + from + at;
                if (!IsIn(place, _secret) && !IsIn(place, _chunk))
                {
                    found.Add(string.Create(CultureInfo.InvariantCulture, $"0x{place:x} in {line}"));
                }
            }

            CryptographicOperations.ZeroMemory(_chunk);
        }
    }

    private static bool IsIn(long address, byte[] pinned)
    {
        nint first = System.Runtime.InteropServices.Marshal.UnsafeAddrOfPinnedArrayElement(pinned, 0);
        return address >= first && address < first + pinned.Length;
    }
}
