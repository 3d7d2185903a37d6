// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using System.Linq;
using Svsm.Core;
using Svsm.Core.Testing;
using Svsm.Wire;
using Xunit;

namespace Svsm.Modules.Attestation.Tests;

/// <summary>Structures of a hostile guest, and answers of a hostile host, drawn from a seed.</summary>
public sealed class FuzzTests
{
    private const int MemorySize = 0x4_0000;

    // Numbers at which something ends.
    private static readonly ulong[] s_edges =
    [
        0, 1, 8, 0x40, 0xFC0, 0xFC1, 0x1000, 0x1001, 0x2000, 0x4000, 0x1_0000, 0x3_F000, 0x3_FFC0, 0x4_0000, 0x7FFF_FFFF, 0xFFFF_F000, 0xFFFF_FFFF, 0xF_FFFF_FFFF_F000, 0x10_0000_0000_0000,
        0x7FFF_FFFF_FFFF_FFFF, 0xFFFF_FFFF_FFFF_F000, ulong.MaxValue,
    ];

    [Fact]
    public void Structures_OfAHostileGuest_HaveAnAnswerAndNoOtherEffect() => FuzzStructures(1, 10_000);

    [Fact]
    [Trait("Run", "all")]
    public void Structures_AMillion_HaveAnAnswerAndNoOtherEffect() => FuzzStructures(2, 1_000_000);

    [Fact]
    public void Answers_OfAHostileHost_AreNotOpened() => FuzzAnswers(1, 20_000);

    [Fact]
    [Trait("Run", "all")]
    public void Answers_AMillion_AreNotOpened() => FuzzAnswers(2, 1_000_000);

    private static void FuzzStructures(int seed, int rounds)
    {
        var random = new Random(seed);
        var service = Guid.NewGuid();
        var services = new TestServices();
        services.Services.Add((service, new byte[0x1234], ManifestResult.Success));

        // Reports without a signature, which nobody looks at here, and no message leaves a trace.
        var kernel = new QuickKernel();
        using var test = new ModuleTest(new AttestationModule(), MemorySize, kernel, services);
        byte[] before = new byte[MemorySize];
        random.NextBytes(before);
        int good = 0;
        for (int round = 0; round < rounds; round++)
        {
            byte[] structure = AttestationGuest.NewStructure(service: service);
            BinaryPrimitives.WriteUInt32LittleEndian(structure.AsSpan(0x28), 0x2000);
            for (int i = random.Next(4); i > 0; i--)
            {
                Mutate(random, structure);
            }

            ulong address = random.Next(8) == 0 ? s_edges[random.Next(s_edges.Length)] : 0x1000 + (ulong)random.Next(0x1000);
            ulong fits = MemorySize - (ulong)structure.Length;
            test.Memory.GuestWrite(new(0), before);
            test.Memory.GuestWrite(new(address <= fits ? address : 0x1000), structure);
            byte[] wanted = test.Memory.GuestRead(new(0), MemorySize);
            uint call = (uint)random.Next(3);
            SvsmAnswer answer = test.Call(call, rcx: address, rdx: 0x77, r8: 0x88, r9: 0x99);

            byte[] after = test.Memory.GuestRead(new(0), MemorySize);
            Assert.Equal(0x99u, answer.R9);
            switch (answer.Code)
            {
                case SvsmResultCode.Success:
                    good++;
                    Assert.True(answer is { R8: 0x4A0, Rdx: 0x1000 or 0 });
                    Skip(0x00, (int)answer.R8);
                    Skip(0x20, (int)answer.Rcx);
                    Skip(0x30, (int)answer.Rdx);
                    break;
                case SvsmResultCode.InvalidParameter:
                    Assert.True(answer is { Rdx: 0x77, R8: 0x88 } or { R8: 0x4A0, Rdx: 0x1000 or 0, Rcx: 0x1234 or (0x1234 + 48) }, answer.ToString());
                    break;
                default:
                    Assert.True(answer is { Code: SvsmResultCode.InvalidAddress or SvsmResultCode.UnsupportedCall, Rdx: 0x77, R8: 0x88 } && answer.Rcx == address, answer.ToString());
                    break;
            }

            Assert.True(after.AsSpan().SequenceEqual(wanted), $"round {round}: {answer}");

            void Skip(int field, int length)
            {
                int at = (int)BinaryPrimitives.ReadUInt64LittleEndian(structure.AsSpan(field));
                if (length != 0)
                {
                    after.AsSpan(at, length).CopyTo(wanted.AsSpan(at));
                }
            }
        }

        Assert.True(good > rounds / 20, $"{good} of {rounds}");
    }

    private static void Mutate(Random random, byte[] structure)
    {
        (int Offset, int Length)[] fields = [(0, 8), (8, 4), (12, 4), (16, 8), (24, 2), (26, 2), (28, 4), (32, 8), (40, 4), (44, 4), (48, 8), (56, 4), (60, 4), (64, 8), (80, 4), (84, 4)];
        (int offset, int length) = fields[random.Next(fields.Length)];
        ulong value = random.Next(4) switch
        {
            0 => s_edges[random.Next(s_edges.Length)],
            1 => (ulong)random.Next(MemorySize / 0x1000) * 0x1000,
            2 => (ulong)random.NextInt64(),
            _ => (ulong)random.Next(0x5000),
        };
        Span<byte> bytes = stackalloc byte[8];
        BinaryPrimitives.WriteUInt64LittleEndian(bytes, value);
        bytes[..length].CopyTo(structure.AsSpan(offset));
    }

    // What is not covered by the tag is either checked or not looked at.
    private static void FuzzAnswers(int seed, int rounds)
    {
        const int Size = 0x4C0;
        var random = new Random(seed);
        byte[] key = new byte[32];
        byte[] payload = new byte[Size];
        byte[] page = new byte[4096];
        random.NextBytes(key);
        random.NextBytes(payload);
        GuestMessage.Seal(key, 8, 6, payload, page);
        Assert.True(GuestMessage.TryOpen(key, 8, 6, page, out byte[] opened));
        Assert.Equal(payload, opened);
        for (int round = 0; round < rounds; round++)
        {
            byte[] changed = [.. page];
            switch (random.Next(4))
            {
                case 0:
                    changed[random.Next(0x60)] = (byte)random.Next(256);
                    break;
                case 1:
                    changed[random.Next(0x60 + Size)] ^= (byte)(1 << random.Next(8));
                    break;
                case 2:
                    random.NextBytes(changed.AsSpan(random.Next(0x60), random.Next(0x20)));
                    break;
                default:
                    BinaryPrimitives.WriteUInt16LittleEndian(changed.AsSpan(0x36), (ushort)random.Next(ushort.MaxValue + 1));
                    break;
            }

            bool same = IsSame(0, 0x10) && IsSame(0x20, 8) && IsSame(0x30, page.Length - 0x30);
            Assert.Equal(same, GuestMessage.TryOpen(key, 8, 6, changed, out opened));
            Assert.Equal(same ? payload : [], opened);

            bool IsSame(int at, int length) => changed.AsSpan(at, length).SequenceEqual(page.AsSpan(at, length));
        }
    }

    // Answers as the security processor does, with reports that nobody signs.
    private sealed class QuickKernel : SecurityProcessor
    {
        private readonly byte[] _key = [.. Enumerable.Range(0, 32).Select(i => (byte)i)];
        private readonly byte[] _response = new byte[PageLength];
        private ulong _sequence = 1;

        public override bool TryGetState(out SecurityProcessorState state)
        {
            state = new() { Sequence = _sequence, Flags = SecurityProcessorFlags.HasKey };
            _key.CopyTo((Span<byte>)state.Key);
            return true;
        }

        public override SecurityProcessorResult Send(ReadOnlySpan<byte> request, bool withCertificates)
        {
            Assert.True(GuestMessage.TryOpen(_key, _sequence, 5, request, out byte[] payload));
            byte[] answer = new byte[0x20 + 0x4A0];
            BinaryPrimitives.WriteInt32LittleEndian(answer.AsSpan(4), 0x4A0);
            payload.AsSpan(0, 64).CopyTo(answer.AsSpan(0x20 + 0x50));
            GuestMessage.Seal(_key, _sequence + 1, 6, answer, _response);
            _sequence += 2;
            return SecurityProcessorResult.Answered;
        }

        public override void ReadRequest(Span<byte> page) => Assert.Fail("nothing is under way");

        public override void ReadResponse(Span<byte> page) => _response.CopyTo(page);

        public override byte[] ReadCertificates() => [.. Enumerable.Repeat((byte)0xCE, 0x1000)];

        public override void WipeKey() => Assert.Fail("the answer is good");
    }
}
