// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.Linq;
using System.Text;
using Xunit;
using static Svsm.Vtpm.Clients.Tests.Messages;

namespace Svsm.Vtpm.Clients.Tests;

// The same seeded commands to Debian's swtpm and to this TPM, both from one state (ours imported from swtpm's file): the answers are the same
// bit for bit. What differs on purpose has a row with its reason; a difference without a row fails, and so does a row that nothing used.
public sealed class OracleTests
{
    private const uint Retry = 0x922;
    private const int CommandsPerSeed = 1500;

    // The command, our code, swtpm's code; null for any.
    private static readonly (string Command, uint? Ours, uint? Theirs, string Reason)[] s_differences =
    [
        ("StartAuthSession", 0, 0, "random: the TPM's nonce; handle and sizes are compared"),
    ];

    // Lists of capabilities that have one element more than swtpm's.
    private static readonly (string Command, byte[] Last, string Reason)[] s_longer =
    [
        ("GetCapability of permanent handles", [0x40, 0, 1, 0x10], "the countdown timer TPM_RH_ACT_0; this version of swtpm has none"),
    ];

    // Commands whose good answers have random numbers in them: only codes and sizes are compared.
    private static readonly string[] s_random = ["StartAuthSession"];

    [Fact]
    public void Execute_SeededCommands_AnswersLikeSwtpm()
    {
        var failures = new List<string>();
        var unused = s_differences.Select(d => d.Reason).Concat(s_longer.Select(d => d.Reason)).ToHashSet();
        int retries = 0;
        for (int seed = 1; seed <= 4; seed++)
        {
            retries += Compare(seed, failures, unused);
        }

        // The one difference that the comparison itself goes around.
        Assert.NotEqual(0, retries);

        Assert.True(failures.Count == 0, $"{failures.Count} differences\n" + string.Join('\n', failures.Take(60)));
        Assert.Empty(unused);
    }

    private static int Compare(int seed, List<string> failures, HashSet<string> unused)
    {
        using var pair = new TpmPair();
        int retries = 0;
        var world = new World(seed);
        for (int i = 0; i < CommandsPerSeed; i++)
        {
            (string name, byte[] command) = i == 0 ? ("Startup", Command(0x144, [], U16(0))) : world.Next();
            if (name == "Reset")
            {
                pair.Reset();
                world.Forget();
                (name, command) = ("Startup", Command(0x144, [], U16(0)));
            }

            byte[] theirs = pair.Theirs(command);
            if (Code(theirs) == Retry)
            {
                // Part 3 allows it before the first check of a protected authValue; ours stores the mark at once.
                retries++;
                theirs = pair.Theirs(command);
            }

            byte[] ours = pair.Ours(command);
            if (Code(ours) == 0 && Code(theirs) == 0)
            {
                world.Done(name, command, ours);
            }

            if (s_longer.FirstOrDefault(d => d.Command == name) is { Reason: not null } longer && Code(theirs) == 0)
            {
                unused.Remove(longer.Reason);
                theirs = [.. theirs, .. longer.Last];
                BinaryPrimitives.WriteInt32BigEndian(theirs.AsSpan(2), theirs.Length);
                theirs[18]++;
            }

            bool isSame = Code(ours) == Code(theirs) && ours.Length == theirs.Length && (s_random.Contains(name) || ours.AsSpan().SequenceEqual(theirs));
            if (isSame && !s_random.Contains(name))
            {
                continue;
            }

            (string Command, uint? Ours, uint? Theirs, string Reason) row = s_differences.FirstOrDefault(d => d.Command == name
                && (d.Ours is null || d.Ours == Code(ours)) && (d.Theirs is null || d.Theirs == Code(theirs)));
            if (row.Reason is not null)
            {
                unused.Remove(row.Reason);
            }
            else if (!isSame)
            {
                failures.Add($"seed {seed}, {i}: {name}: {Convert.ToHexString(command)}: ours {Convert.ToHexString(ours)}, swtpm's {Convert.ToHexString(theirs)}");
                if (Code(ours) == 0 != (Code(theirs) == 0))
                {
                    // The two are not in one state any more.
                    return retries;
                }
            }
        }

        return retries;
    }

    // Makes commands, good ones more often than not.
    private sealed class World(int seed)
    {
        private static readonly ushort[] s_hashes = [0x04, 0x0B, 0x0C, 0x0D];

        private readonly Random _random = new(seed);
        private readonly List<uint> _sessions = [];
        private readonly List<(uint Handle, uint Attributes, int Size)> _indices = [];
        private readonly HashSet<uint> _written = [];
        private byte[] _digest = new byte[32];

        internal (string Name, byte[] Command) Next()
        {
            switch (_random.Next(46))
            {
                case 0 when _random.Next(12) == 0:
                    return ("Reset", []);
                case 0 or 1:
                    return ("StartAuthSession", Command(0x176, [Null, Null], [.. Sized(Bytes(16)), 0, 0, Pick<byte>(1, 1, 1, 3), 0, 0x10, .. U16(Pick(0x0B, 0x0B, 0x0B, 0x0C))]));
                case 2:
                    return ("FlushContext", Command(0x165, [], U32(Session())));
                case 3 or 4 or 5:
                    return Define();
                case 6:
                    return ("NV_UndefineSpace", Command(0x122, [Pick<uint>(Owner, Owner, Platform), Index()], [], Auth()));
                case 7:
                    return ("NV_ReadPublic", Command(0x169, [Index()], []));
                case 8 or 9 or 10:
                    return Write();
                case 11 or 12:
                    return ("NV_Increment", Nv(0x134, []));
                case 13 or 14:
                    return ("NV_Extend", Nv(0x136, Sized(Bytes(_random.Next(40)))));
                case 15 or 16:
                    return ("NV_SetBits", Nv(0x135, Bytes(8)));
                case 17:
                    return ("NV_WriteLock", Nv(0x138, []));
                case 18:
                    return ("NV_ReadLock", Nv(0x14F, []));
                case 19 or 20 or 21:
                    return ("NV_Read", Nv(0x14E, [.. U16(_random.Next(12)), .. U16(_random.Next(4))]));
                case 22 when _random.Next(6) == 0:
                    return ("NV_GlobalWriteLock", Command(0x132, [Pick<uint>(Owner, Platform)], [], Auth()));
                case 23:
                    return ("PolicyOR", Policy(0x171, [0, 0, 0, (byte)Pick(1, 2, 2, 3, 8, 9), .. Digests()]));
                case 24:
                    return ("PolicyPCR", Policy(0x17F, [.. Sized(_random.Next(3) == 0 ? Bytes(32) : []), .. Pcrs()]));
                case 25:
                    return ("PolicyLocality", Policy(0x16F, [Pick<byte>(0, 1, 1, 3, 5, 31, 32, 40)]));
                case 26:
                    return ("PolicyCommandCode", Policy(0x16C, U32(Pick<uint>(0x14Eu, 0x14E, 0x137, 0x16C, 0x999))));
                case 27:
                    return ("PolicyPhysicalPresence", Policy(0x187, []));
                case 28:
                    return ("PolicyCpHash", Policy(0x16E, Sized(Hash('c'))));
                case 29:
                    return ("PolicyNameHash", Policy(0x170, Sized(Hash('n'))));
                case 30:
                    return ("PolicyTemplate", Policy(0x190, Sized(Hash('t'))));
                case 31:
                    return ("PolicyDuplicationSelect", Policy(0x188, [.. Sized(Fixed(34)), .. Sized(Fixed(34)), Pick<byte>(0, 1, 2)]));
                case 32:
                    return ("PolicyAuthValue", Policy(0x16B, []));
                case 33:
                    return ("PolicyPassword", Policy(0x18C, []));
                case 34:
                    return ("PolicyNvWritten", Policy(0x18F, [Pick<byte>(0, 1, 1, 2)]));
                case 35 or 36:
                    return ("PolicyGetDigest", Policy(0x189, []));
                case 37:
                    return ("PolicyRestart", Policy(0x180, []));
                case 38:
                    return ("PolicySecret", Command(
                        0x151,
                        [Pick<uint>(Owner, Endorsement, Index()), Session()],
                        [.. Sized([]), .. Sized(Pick<byte[]>([], [], Fixed(32), Fixed(5))), .. Sized(Bytes(_random.Next(3) * 4)), .. U32(0)],
                        Auth()));
                case 39 or 40:
                    // Without signed comparisons: libtpms before 0.10 compares two negative numbers the wrong way round.
                    return ("PolicyNV", Command(
                        0x149,
                        [Pick<uint>(Owner, Owner, Index()), Index(), Session()],
                        [.. Sized(Bytes(_random.Next(10))), .. U16(_random.Next(4)), .. U16(Pick(0, 1, 3, 5, 7, 9, 10, 11, 12))],
                        Auth()));
                case 41:
                    return ("PolicyCounterTimer", Policy(0x16D, [.. Sized(Pick<byte[]>([0, 0], [1], new byte[26], [])), .. U16(Pick(16, 20, 24, 25, 26)), .. U16(_random.Next(13))]));
                case 42:
                    return ("PolicyAuthorizeNV", Command(0x192, [Pick<uint>(Owner, Owner, Index()), Index(), Session()], [], Auth()));
                case 43:
                    return ("PCR_Extend", Command(0x182, [(uint)_random.Next(24)], [0, 0, 0, 1, 0, 0x0B, .. Bytes(32)], Auth()));
                case 44:
                    return Primary();
                default:
                    uint first = Pick<uint>(0x0100_0000u, 0x0200_0000, 0x8100_0000, 0x4000_0000);
                    return (
                        first == 0x4000_0000 ? "GetCapability of permanent handles" : "GetCapability",
                        Command(0x17A, [], [.. U32(1), .. U32(first), .. U32(20)]));
            }
        }

        internal void Done(string name, byte[] command, byte[] response)
        {
            switch (name)
            {
                case "StartAuthSession":
                    _sessions.Add(BinaryPrimitives.ReadUInt32BigEndian(response.AsSpan(10)));
                    break;
                case "FlushContext":
                    _sessions.Remove(BinaryPrimitives.ReadUInt32BigEndian(command.AsSpan(10)));
                    break;
                case "NV_Write":
                    _written.Add(BinaryPrimitives.ReadUInt32BigEndian(command.AsSpan(14)));
                    break;
                case "NV_DefineSpace":
                    _written.Remove(_defined.Handle);
                    _indices.RemoveAll(i => i.Handle == _defined.Handle);
                    _indices.Add(_defined);
                    break;
                case "PolicyGetDigest":
                    _digest = response[12..];
                    break;
                case "CreatePrimary":
                    _flush = true;
                    break;
            }
        }

        internal void Forget()
        {
            _sessions.Clear();
            _flush = false;
        }

        private (uint Handle, uint Attributes, int Size) _defined;
        private bool _flush;

        private (string Name, byte[] Command) Define()
        {
            uint type = Pick<uint>(0u, 0, 0, 1, 1, 2, 4, 8, 9, 3, 0xF);
            uint attributes = (type << 4)
                | (uint)_random.Next(16) | ((uint)_random.Next(16) << 16)
                | Pick<uint>(0u, 0, 0x2, 0x2_0002, 0x2_0002, 0x2_0002, 0x2_0002, 0x4_0004, 0x8_0008)
                | (_random.Next(4) == 0 ? 1u << Pick(10, 11, 12, 13, 14, 15, 25, 26, 27, 28, 29, 30, 31, 31, 26, 13) : 0)
                | (_random.Next(8) == 0 ? 1u << _random.Next(32) : 0)
                | (type == 8 ? 1u << 25 : 0);
            uint auth = Pick<uint>(Owner, Owner, Owner, Platform);
            if (auth == Platform && _random.Next(6) != 0)
            {
                attributes |= 1u << 30;
            }

            int hash = Pick(0, 1, 1, 1, 2, 3);
            int size = type is 0 ? _random.Next(64) : type is 4 ? Pick(20, 32, 32, 32, 48, 64) : Pick(8, 8, 8, 8, 8, 8, 8, 7);
            if (type is 4 && _random.Next(6) != 0)
            {
                size = new[] { 20, 32, 48, 64 }[hash];
            }

            byte[] policy = _random.Next(3) == 0 ? (hash == 1 && _random.Next(6) != 0 ? _digest : Bytes(Pick(20, 32, 33))) : [];
            uint handle = 0x0150_0000 + (uint)_random.Next(8);
            _defined = (handle, attributes, size);
            byte[] area = [.. U32(handle), .. U16(s_hashes[hash]), .. U32(attributes), .. Sized(policy), .. U16(size)];
            return ("NV_DefineSpace", Command(0x12A, [auth], [.. Sized(_random.Next(3) == 0 ? Bytes(_random.Next(40)) : []), .. Sized(area)], Auth()));
        }

        // What was never written is zero here; swtpm shows what its NV had there before. So the first write is a whole one.
        private (string Name, byte[] Command) Write()
        {
            byte[] whole = Nv(0x137, []);
            uint index = BinaryPrimitives.ReadUInt32BigEndian(whole.AsSpan(14));
            (uint Handle, uint Attributes, int Size) found = _indices.FirstOrDefault(i => i.Handle == index);
            bool isFirst = !_written.Contains(index);
            byte[] parameters = isFirst ? [.. Sized(Bytes(found.Size)), 0, 0] : [.. Sized(Bytes(_random.Next(10))), .. U16(_random.Next(5))];
            byte[] command = [.. whole, .. parameters];
            U32((uint)command.Length).CopyTo(command, 2);
            return ("NV_Write", command);
        }

        private (string Name, byte[] Command) Primary()
        {
            if (_flush)
            {
                _flush = false;
                return ("FlushContext", Command(0x165, [], U32(0x8000_0000)));
            }

            uint attributes = Pick<uint>(0x3_0472u, 0x3_0072, 0x4_0072, 0x2_0072, 0x4_0472);
            byte[] template = (attributes & 0x1_0000) != 0
                ? [0, 0x23, 0, 0x0B, .. U32(attributes), 0, 0, 0, 6, 0, 128, 0, 0x43, 0, 0x10, 0, 3, 0, 0x10, 0, 0, 0, 0]
                : (attributes & 0x4_0000) != 0
                    ? [0, 8, 0, 0x0B, .. U32(attributes), 0, 0, 0, 5, 0, 0x0B, 0, 0]
                    : [0, 0x25, 0, 0x0B, .. U32(attributes), 0, 0, 0, 6, 0, 128, 0, 0x43, 0, 0];
            return ("CreatePrimary", Command(
                0x131,
                [Pick<uint>(Owner, Endorsement, Platform)],
                [.. Sized([0, 0, 0, 0]), .. Sized(template), .. Sized(Bytes(_random.Next(4))), .. Pcrs()],
                Auth()));
        }

        private byte[] Nv(uint code, byte[] parameters)
        {
            uint index = Index();
            bool owner = (_indices.FirstOrDefault(i => i.Handle == index).Attributes & (code is 0x14E or 0x14F ? 1u << 17 : 2u)) != 0;
            uint auth = _random.Next(8) == 0 ? Pick<uint>(Owner, Platform, Index()) : owner ? Owner : index;
            return Command(code, [auth, index], parameters, Auth(_random.Next(12) == 0 && _sessions.Count != 0 ? Session() : Password));
        }

        private byte[] Policy(uint code, byte[] parameters) => Command(code, [Session()], parameters);

        private uint Session() => _sessions.Count == 0 || _random.Next(30) == 0 ? 0x0300_0000u + (uint)_random.Next(4) : _sessions[_random.Next(_sessions.Count)];

        private uint Index() => _indices.Count == 0 || _random.Next(10) == 0 ? 0x0150_0000u + (uint)_random.Next(8) : _indices[_random.Next(_indices.Count)].Handle;

        private byte[] Pcrs() => [0, 0, 0, 1, 0, 0x0B, 3, Pick<byte>(0, 1, 3, 0xFF), 0, Pick<byte>(0, 1)];

        private byte[] Digests()
        {
            var list = new List<byte>();
            for (int i = 0; i < 3; i++)
            {
                list.AddRange(Sized(_random.Next(2) == 0 ? _digest : Fixed(32)));
            }

            return [.. list];
        }

        // Of each kind two that fit and two that do not.
        private byte[] Hash(char kind) => Pick<byte[]>(Fixed(32, kind), Fixed(32, kind), Fixed(32, (char)(kind - 32)), Fixed(20, kind), []);

        private static byte[] Fixed(int size, char content = 'c') => Encoding.ASCII.GetBytes(new string(content, size));

        private byte[] Bytes(int size)
        {
            byte[] bytes = new byte[size];
            _random.NextBytes(bytes);
            return bytes;
        }

        private T Pick<T>(params T[] values) => values[_random.Next(values.Length)];
    }
}
