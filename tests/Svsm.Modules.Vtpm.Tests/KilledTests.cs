// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.IO;
using System.Security.Cryptography;
using Svsm.Modules.Vtpm.Desk;
using Xunit;

namespace Svsm.Modules.Vtpm.Tests;

// Power that goes away between and during writes: the TPM comes up with the state of the last answer or with the one that was being written,
// never with a part of each. In memory, and with the files that a program on the desk has.
public sealed class KilledTests : IDisposable
{
    private const int Kills = 4000;
    private const int KillsWithFiles = 400;

    private readonly string _folder = Directory.CreateTempSubdirectory("svsm-killed-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Execute_KilledAnywhere_ComesUpWithTheLastOrTheNextState(bool inFiles)
    {
        var random = new Random(41);
        using var storage = new TornStorage(random, inFiles ? _folder : null);
        var host = new TestTpm();
        var platform = new TpmPlatform(host, host, storage);
        Assert.Equal(TpmOpenResult.Done, Tpm.TryManufacture(platform, out Tpm? tpm));
        byte[] response = new byte[Tpm.MaxCommandSize];

        // A counter, and a digest that is extended after each time that it counts: the two tell which state it is.
        Run(tpm!, TestTpm.Command(0x144, [], [0, 0]));
        Define(tpm!, 0x0150_0000, 0x0002_0012, 8);
        Define(tpm!, 0x0150_0001, 0x0002_0042, 32);
        Increment();
        Extend();
        ulong counted = Value();
        ulong first = counted;
        ulong extended = counted;
        byte[] digest = Digest();
        int kills = inFiles ? KillsWithFiles : Kills;
        int newer = 0;
        int between = 0;
        for (int kill = 0; kill < kills; kill++)
        {
            storage.DieAfter = random.Next(1, 7);
            (ulong Counted, ulong Extended) tried = (counted, extended);
            try
            {
                while (true)
                {
                    if (counted == extended)
                    {
                        tried = (counted + 1, extended);
                        Increment();
                    }
                    else
                    {
                        tried = (counted, extended + 1);
                        Extend();
                    }

                    (counted, extended) = tried;
                }
            }
            catch (PowerLossException)
            {
                // The process is gone; what is stored is all there is.
            }

            // The whole state is the one that was answered last, or the next one.
            storage.DieAfter = int.MaxValue;
            storage.Reopen();
            Assert.Equal(TpmStorageResult.Done, storage.Read(out byte[] stored));
            bool isNext = stored.AsSpan().SequenceEqual(storage.Attempted);
            Assert.True(isNext || stored.AsSpan().SequenceEqual(storage.Answered));
            Assert.Equal(TpmOpenResult.Done, Tpm.TryOpen(platform, out tpm));
            Assert.Equal(0u, Run(tpm!, TestTpm.Command(0x144, [], [0, 0])));
            (ulong Counted, ulong Extended) seen = isNext ? tried : (counted, extended);
            Assert.Equal(seen.Counted, Value());
            newer += isNext ? 1 : 0;
            between += seen.Counted != seen.Extended ? 1 : 0;
            (counted, extended) = seen;
            Assert.Equal(Expected(), Digest());
        }

        // All of it happens, or the test does not test it.
        Assert.InRange(newer, 1, kills - 1);
        Assert.InRange(between, 1, kills - 1);

        uint Run(Tpm target, byte[] command)
        {
            target.Execute(command, 0, response);
            return TestTpm.Code(response);
        }

        void Define(Tpm target, uint index, uint attributes, int size) => Assert.Equal(0u, Run(target, TestTpm.Command(
            0x12A, [TestTpm.Owner], [0, 0, .. TestTpm.Sized([.. TestTpm.U32(index), 0, 0x0B, .. TestTpm.U32(attributes), 0, 0, .. TestTpm.U16(size)])], TestTpm.PasswordSession())));

        void Increment() => Assert.Equal(0u, Run(tpm!, TestTpm.Command(0x134, [TestTpm.Owner, 0x0150_0000], [], TestTpm.PasswordSession())));

        void Extend() => Assert.Equal(0u, Run(tpm!, TestTpm.Command(0x136, [TestTpm.Owner, 0x0150_0001], TestTpm.Sized(1), TestTpm.PasswordSession())));

        ulong Value() => System.Buffers.Binary.BinaryPrimitives.ReadUInt64BigEndian(Read(0x0150_0000, 8));

        byte[] Digest() => Read(0x0150_0001, 32);

        byte[] Read(uint index, int size)
        {
            Assert.Equal(0u, Run(tpm!, TestTpm.Command(0x14E, [TestTpm.Owner, index], [0, (byte)size, 0, 0], TestTpm.PasswordSession())));
            return response[16..(16 + size)];
        }

        // The digest after so many times; the next one is computed from the one before.
        byte[] Expected()
        {
            for (; first < extended; first++)
            {
                digest = SHA256.HashData([.. digest, 1]);
            }

            return digest;
        }
    }

    [Fact]
    public void TryManufacture_KilledWhileWriting_IsRedone()
    {
        var random = new Random(42);
        for (int i = 0; i < 200; i++)
        {
            using var storage = new TornStorage(random, null) { DieAfter = 1 };
            var host = new TestTpm();
            var platform = new TpmPlatform(host, host, storage);
            Assert.Throws<PowerLossException>(() => Tpm.TryManufacture(platform, out _));
            storage.DieAfter = int.MaxValue;
            TpmOpenResult result = Tpm.TryOpen(platform, out _);
            Assert.True(result is TpmOpenResult.Done or TpmOpenResult.NotManufactured);
            Assert.Equal(result == TpmOpenResult.Done ? TpmOpenResult.AlreadyManufactured : TpmOpenResult.Done, Tpm.TryManufacture(platform, out _));
        }
    }

    [Fact]
    public void TryOpen_EveryPrefixAndEveryByteChanged_NeverMakesSeeds()
    {
        var host = new TestTpm();
        byte[] good = host.Stored!;
        for (int i = 0; i < good.Length; i++)
        {
            host.Stored = good[..i];
            Assert.Equal(TpmOpenResult.StateInvalid, Tpm.TryOpen(new TpmPlatform(host, host, host), out _));
            Assert.Equal(good[..i], host.Stored);
            byte[] changed = (byte[])good.Clone();
            changed[i] ^= 0xFF;
            host.Stored = changed;

            // A changed seed is a state too: finding that is the storage's task. Here nothing may break.
            TpmOpenResult result = Tpm.TryOpen(new TpmPlatform(host, host, host), out _);
            Assert.True(result is TpmOpenResult.Done or TpmOpenResult.StateInvalid);
        }

        host.Stored = [.. good, 0];
        Assert.Equal(TpmOpenResult.StateInvalid, Tpm.TryOpen(new TpmPlatform(host, host, host), out _));
    }

    private sealed class PowerLossException : OutOfMemoryException;

    // Loses power before a write, in the middle of it, or after it. In memory it replaces its content atomically; in a folder it is what the
    // program on the desk has, and the middle is any number of bytes of the next file.
    private sealed class TornStorage(Random random, string? folder) : ITpmStorage, IDisposable
    {
        private readonly TestTpm.Memory _memory = new();
        private StateDirectory? _files = folder is null ? null : new StateDirectory(folder);

        internal int DieAfter { get; set; } = int.MaxValue;

        /// <summary>The content when the last write was done.</summary>
        internal byte[] Answered { get; private set; } = [];

        /// <summary>What was being written when power was lost.</summary>
        internal byte[] Attempted { get; private set; } = [];

        private ITpmStorage Content => (ITpmStorage?)_files ?? _memory;

        public TpmStorageResult Read(out byte[] content) => Content.Read(out content);

        public TpmStorageResult Write(ReadOnlySpan<byte> content)
        {
            Attempted = content.ToArray();
            if (--DieAfter > 0)
            {
                Answered = Attempted;
                return Content.Write(content);
            }

            int moment = random.Next(3);
            if (moment == 0)
            {
                Content.Write(content);
            }
            else if (moment == 1 && folder is not null)
            {
                File.WriteAllBytes(Path.Combine(folder, "tpm.state.new"), [.. "SVTF"u8, .. SHA256.HashData(content), .. content[..random.Next(content.Length)]]);
            }

            throw new PowerLossException();
        }

        internal void Reopen()
        {
            _files?.Dispose();
            _files = folder is null ? null : new StateDirectory(folder);
        }

        public void Dispose() => _files?.Dispose();
    }
}
