// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using Xunit;

namespace Svsm.Modules.Vtpm.Tests;

// Power that goes away between and during writes: the TPM comes up with the state of the last answer or with the one that was being written.
public sealed class KilledTests
{
    private const int Kills = 4000;

    [Fact]
    public void Execute_KilledAnywhere_ComesUpWithTheLastOrTheNextState()
    {
        var random = new Random(41);
        var storage = new TornStorage(random);
        var host = new TestTpm();
        var platform = new TpmPlatform(host, host, storage);
        Assert.Equal(TpmOpenResult.Done, Tpm.TryManufacture(platform, out Tpm? tpm));
        byte[] response = new byte[Tpm.MaxCommandSize];

        // A counter and an extended digest that change together with it tell which state it is.
        Run(tpm!, TestTpm.Command(0x144, [], [0, 0]));
        Define(tpm!, 0x0150_0000, 0x0002_0012, 8);
        Define(tpm!, 0x0150_0001, 0x0002_0042, 32);
        ulong answered = 0;
        int newer = 0;
        for (int kill = 0; kill < Kills; kill++)
        {
            storage.DieAfter = random.Next(1, 7);
            ulong tried = answered;
            try
            {
                while (true)
                {
                    tried = answered + 1;
                    Assert.Equal(0u, Run(tpm!, TestTpm.Command(0x134, [TestTpm.Owner, 0x0150_0000], [], TestTpm.PasswordSession())));
                    answered = tried;
                    Run(tpm!, TestTpm.Command(0x136, [TestTpm.Owner, 0x0150_0001], TestTpm.Sized(1), TestTpm.PasswordSession()));
                }
            }
            catch (PowerLossException)
            {
                // The process is gone; what is stored is all there is.
            }

            storage.DieAfter = int.MaxValue;
            Assert.Equal(TpmOpenResult.Done, Tpm.TryOpen(platform, out tpm));
            Assert.Equal(0u, Run(tpm!, TestTpm.Command(0x144, [], [0, 0])));
            ulong seen = answered == 0 && Run(tpm!, Read()) != 0 ? 0 : Value();
            Assert.InRange(seen, answered, Math.Max(answered, tried));
            newer += seen > answered ? 1 : 0;
            answered = seen;
        }

        // Both happen, or the test does not test it.
        Assert.InRange(newer, 1, Kills - 1);

        uint Run(Tpm target, byte[] command)
        {
            target.Execute(command, 0, response);
            return TestTpm.Code(response);
        }

        void Define(Tpm target, uint index, uint attributes, int size) => Assert.Equal(0u, Run(target, TestTpm.Command(
            0x12A, [TestTpm.Owner], [0, 0, .. TestTpm.Sized([.. TestTpm.U32(index), 0, 0x0B, .. TestTpm.U32(attributes), 0, 0, .. TestTpm.U16(size)])], TestTpm.PasswordSession())));

        byte[] Read() => TestTpm.Command(0x14E, [TestTpm.Owner, 0x0150_0000], [0, 8, 0, 0], TestTpm.PasswordSession());

        ulong Value()
        {
            Assert.Equal(0u, Run(tpm!, Read()));
            return System.Buffers.Binary.BinaryPrimitives.ReadUInt64BigEndian(response.AsSpan(16));
        }
    }

    [Fact]
    public void TryManufacture_KilledWhileWriting_IsRedone()
    {
        var random = new Random(42);
        for (int i = 0; i < 200; i++)
        {
            var storage = new TornStorage(random) { DieAfter = 1 };
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

    // Replaces its content atomically, and loses power before or after that.
    private sealed class TornStorage(Random random) : ITpmStorage
    {
        private readonly List<byte[]> _content = [];

        internal int DieAfter { get; set; } = int.MaxValue;

        public TpmStorageResult Read(out byte[] content)
        {
            content = _content.Count == 0 ? [] : [.. _content[0]];
            return _content.Count == 0 ? TpmStorageResult.Absent : TpmStorageResult.Done;
        }

        public TpmStorageResult Write(ReadOnlySpan<byte> content)
        {
            bool dies = --DieAfter <= 0;
            if (dies && random.Next(2) == 0)
            {
                throw new PowerLossException();
            }

            _content.Clear();
            _content.Add(content.ToArray());
            return dies ? throw new PowerLossException() : TpmStorageResult.Done;
        }
    }
}
