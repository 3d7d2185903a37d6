// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// System calls with registers that nobody would set, one process after the other, on a platform that fails at times. After every call all of
// ProcessAudit.cs holds, pages that the process may not write are as they were, and RAX is something that Linux could have returned.

using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.Linq;
using Svsm.Kernel.Arch;
using Svsm.Kernel.Memory;
using Svsm.Kernel.Processes;
using Svsm.Wire;
using Xunit;

namespace Svsm.Kernel.Tests;

public sealed class SystemCallsFuzzTests
{
    private const int Numbers = 512;
    private const int CallsPerProcess = 60;

    // Those that do something are worth more cases than those that do not exist.
    private static readonly int[] s_known = [0, 1, 3, 4, 5, 6, 8, 9, 10, 11, 13, 14, 15, 17, 18, 28, 39, 56, 158, 202, 204, 228, 230, 257, 262, 302, 318, 324];
    private static readonly int[] s_last = [60, 231, 234];
    private static readonly long[] s_errors = [-126, -1, -2, -5, -9, -11, -12, -13, -14, -22, -24, -29, -30, -36, -38, -110];
    private static readonly int[] s_vectors = [0, 1, 3, 6, 12, 13, 14, 14, 14, 17, 19, 29, 29];

    [Fact]
    public void Handle_AnyRegisters_KeepsTheRules() => Fuzz(20_000, 1);

    [Fact]
    [Trait("Run", "all")]
    public void Handle_AMillionCalls_KeepsTheRules() => Fuzz(1_000_000, 2);

    private static void Fuzz(int cases, int seed)
    {
        var random = new Random(seed);
        var seen = new HashSet<(ulong, long)>();
        int call = 0;
        while (call < cases)
        {
            bool isFailing = random.Next(3) != 0;
            var process = new TestProcess();
            process.Platform.Guest.Add(0x1234, new byte[Page.Size]);
            process.Platform.Guest.Add(0x1235, new byte[Page.Size]);
            process.Process.Permissions = process.Platform.GuestPermissions = (ModulePermissions)random.Next(32);
            process.Write(process.Buffer, TestArchive.NotePath);
            process.Write(process.Buffer + 64, "/dev/urandom");
            process.Write(process.Buffer + Page.Size, new string('x', 300));
            process.Platform.Chance = isFailing ? random : null;
            if (random.Next(2) == 0)
            {
                process.Platform.Messages.Wipe();
            }

            var places = new List<ulong>
            {
                process.Buffer, process.Buffer + (2 * Page.Size), process.Registers.Rsp, 0x40_0000, 0x40_1000, 0x40_3000, 0x40_4000, 0x40_8000, ProcessMemory.HeapHigh, ProcessMemory.HeapLow,
                ProcessMemory.UserEnd, 0x1234_000, 0x1236_000, 0, 0x8000_0000_0000, 0xFFFF_FF00_0000_1000,
            };
            Dictionary<ulong, (PhysicalAddress Frame, int Hash)> before = ReadOnlyPages(process);
            for (int i = 0; i < CallsPerProcess && process.Process.Reason == ProcessEnd.None; i++, call++)
            {
                if (random.Next(8) == 0)
                {
                    process.Process.Give(new ModuleMessage { Kind = ModuleMessageKind.Call, Sequence = (ulong)call });
                }

                string what = random.Next(12) == 0 ? Raise(process, random, places) : Serve(process, random, places, seen);
                Assert.True(process.Platform.IsArchiveUntouched, what);
                Assert.Equal(0u, BinaryPrimitives.ReadUInt32LittleEndian(process.Extended[24..]) & 0xFFFF_0000);
                Assert.True(process.Registers.FsBase < ProcessMemory.UserEnd, what);
                Dictionary<ulong, (PhysicalAddress Frame, int Hash)> after = ReadOnlyPages(process);
                foreach ((ulong address, (PhysicalAddress frame, int hash)) in after)
                {
                    Assert.True(!before.TryGetValue(address, out (PhysicalAddress Frame, int Hash) old) || old.Frame.Value != frame.Value || old.Hash == hash, what);
                }

                before = after;
            }

            process.Platform.Chance = null;
            process.Unload();
            Assert.Equal(0, process.Platform.Frames.Allocated);
            Assert.True(process.Platform.IsIdle);
        }

        // The registers are of a kind that most of what can happen does.
        foreach (long error in s_errors.Where(error => error is not -5 and not -24))
        {
            Assert.True(error == -110 || seen.Any(pair => pair.Item2 == error), $"error {error} was never seen");
        }
    }

    private static string Serve(TestProcess process, Random random, List<ulong> places, HashSet<(ulong, long)> seen)
    {
        ulong number = random.Next(100) switch
        {
            < 25 => (ulong)random.Next(Numbers),
            < 98 => (ulong)s_known[random.Next(s_known.Length)],
            _ => (ulong)s_last[random.Next(s_last.Length)],
        };
        ulong[] arguments = [.. Enumerable.Range(0, 4).Select(_ => Draw(random, places))];
        if (random.Next(2) == 0)
        {
            Suit(number, arguments, random, process, places);
        }

        // Megabytes of what is there anyhow would take the time of many other cases.
        if (number is 1 or 318)
        {
            arguments[number == 1 ? 2 : 1] = (ulong)random.Next(3000);
        }

        string what = $"call {number} ({string.Join(", ", arguments.Select(argument => $"0x{argument:X}"))}), {process.Registers.Rsp:X}";
        CallResult result = process.Serve(number, arguments[0], arguments[1], arguments[2], arguments[3]);
        long value = (long)process.Registers.Rax;
        switch (result)
        {
            case CallResult.Done when number == 15:
                Assert.True(process.Registers.Rip < ProcessMemory.UserEnd && process.Registers.Rsp < ProcessMemory.UserEnd, what);
                Assert.Equal(2ul, process.Registers.Rflags & ~0x0024_0CD5ul);
                break;
            case CallResult.Done:
                Assert.True(value is < 0 and >= -4095 ? s_errors.Contains(value) : IsPlausible(number, (ulong)value, arguments), $"{what} = {value}");
                seen.Add((number, value is < 0 and >= -4095 ? value : 0));
                if (number == 9 && value > 0)
                {
                    places.Add((ulong)value);
                }

                break;
            case CallResult.Answered:
                Assert.True(number == 1 && arguments[0] == 4 && !process.Process.HasRequest, what);
                break;
            case CallResult.NoRequest:
                Assert.True(number == 0 && process.Registers.Rax == 0, what);
                process.Registers.Rip += 2;
                break;
            case CallResult.Waits:
                Assert.True(number == 17 && (arguments[0] is 7 or 8 or 9) && process.Registers.Rax == 17, what);
                process.Registers.Rip += 2;
                break;
            case CallResult.Sleeps:
                Assert.True(number is 202 or 230 && process.Process.Deadline != 0, what);
                process.Process.Deadline = 0;
                break;
            default:
                Assert.NotEqual(ProcessEnd.None, process.Process.Reason);
                break;
        }

        Assert.Equal(result == CallResult.Ended, process.Process.Reason != ProcessEnd.None);
        return what;
    }

    private static string Raise(TestProcess process, Random random, List<ulong> places)
    {
        int vector = s_vectors[random.Next(s_vectors.Length)];
        ulong address = Draw(random, places);
        ulong errorCode = vector == Vector.VmmCommunication ? 0x72 : (ulong)random.Next(32);
        process.Registers.Rip = random.Next(2) == 0 ? process.Registers.Rip : Draw(random, places);
        string what = $"vector {vector}, error code {errorCode}, address 0x{address:X}";
        Assert.Equal(process.Raise(vector, errorCode, address), process.Process.Reason == ProcessEnd.None);
        return what;
    }

    // Addresses with something about them, small numbers, and any number.
    private static ulong Draw(Random random, List<ulong> places) => random.Next(8) switch
    {
        0 => (ulong)random.Next(16),
        1 => (ulong)random.Next(0x3000),
        2 => (ulong)random.Next(5) * Page.Size,
        3 or 4 => places[random.Next(places.Count)],
        5 => places[random.Next(places.Count)] + (ulong)random.Next(-70, 70),
        6 => places[random.Next(places.Count)] + ((ulong)random.Next(4) * Page.Size),
        _ => random.Next(3) == 0 ? (ulong)random.NextInt64() << random.Next(40) : ulong.MaxValue - (ulong)random.Next(0x2000),
    };

    // Arguments that get a call past its first check.
    private static void Suit(ulong number, ulong[] arguments, Random random, TestProcess process, List<ulong> places)
    {
        switch (number)
        {
            case 0:
                (arguments[0], arguments[1], arguments[2]) = (3 + ((ulong)random.Next(2) * 8), process.Buffer, (ulong)random.Next(80));
                break;
            case 1:
                (arguments[0], arguments[1]) = (2, process.Buffer + (ulong)random.Next(0x2000));
                break;
            case 8 or 17 or 18:
                arguments[0] = random.Next(2) == 0 ? 6 : 5 + (ulong)random.Next(8);
                if (arguments[0] is 10)
                {
                    process.Platform.Registers[(uint)random.Next(0x1000) * 4] = 1;
                    (arguments[2], arguments[3]) = random.Next(3) switch
                    {
                        0 => (4ul, (ulong)random.Next(0x4004)),
                        1 => (8ul, 0x20_0000ul),
                        _ => ((ulong)random.Next(0x2000), 0x10_0000ul + (ulong)random.Next(0x1_0008)),
                    };
                }

                if (arguments[0] is 8 or 9)
                {
                    arguments[3] = random.Next(8) == 0 ? 1u : 0;
                    process.Platform.Peer = (InternalState)random.Next(4);
                    process.Platform.PeerAnswer = new byte[random.Next(6000)];
                }

                if (arguments[0] is 6 or 7)
                {
                    arguments[2] = (ulong)(random.Next(5) / 2) * Page.Size;
                    arguments[1] = random.Next(2) == 0 ? process.Buffer : arguments[1];
                    arguments[3] = arguments[0] == 6 ? (ulong)(random.Next(2) == 0 ? random.Next(9) : random.Next(1, 3)) * Page.Size : random.Next(2) == 0 ? 1ul << 62 : (ulong)random.Next(40) << 32;
                    process.TryWrite(process.Buffer + 0x20, (ulong)random.Next(9));
                    process.Platform.Manifest = (InternalState)random.Next(4);
                    process.Platform.ManifestBytes = new byte[random.Next(6000)];
                    ulong word = (ulong)random.Next(3) << (32 * random.Next(2));
                    process.Platform.Host = _ => word;
                }

                break;
            case 9:
                (arguments[2], arguments[3]) = ((ulong)random.Next(5), 0x22);
                break;
            case 10 or 11 or 28:
                (arguments[0], arguments[1]) = (places[random.Next(places.Count)] & ~0xFFFul, (ulong)random.Next(1, 4) * Page.Size);
                arguments[2] = (ulong)random.Next(5);
                break;
            case 13:
                (arguments[0], arguments[3]) = ((ulong)random.Next(66), 8);
                break;
            case 56:
                arguments[0] = 0x003D_0F00;
                break;
            case 158:
                arguments[0] = 0x1002;
                break;
            case 202 or 230:
                (arguments[0], arguments[1]) = (number == 202 ? process.Buffer : 1, number == 202 ? (ulong)random.Next(12) : (ulong)random.Next(2));
                break;
            case 228:
                arguments[0] = 1;
                break;
            case 4 or 6:
                arguments[0] = process.Buffer + ((ulong)random.Next(2) * 64);
                break;
            case 257 or 262:
                arguments[1] = process.Buffer + (random.Next(3) switch { 0 => 0u, 1 => 64u, _ => (ulong)Page.Size });
                break;
            default:
                break;
        }
    }

    private static bool IsPlausible(ulong number, ulong value, ulong[] arguments) => number switch
    {
        0 or 17 or 18 => value <= Math.Min(arguments[2], 0x10_0000),
        1 => value <= arguments[2],
        8 => value <= long.MaxValue,
        9 => value >= ProcessMemory.HeapLow && value < ProcessMemory.HeapHigh && value % Page.Size == 0,
        39 or 186 or 218 => value == 1,
        56 => value == 2,
        204 => value == 8,
        257 => value is >= 11 and < 19,
        318 => value <= arguments[1],
        324 => value is 0 or 0x18,
        _ => value == 0,
    };

    // Checks the memory as a whole, too.
    private static Dictionary<ulong, (PhysicalAddress Frame, int Hash)> ReadOnlyPages(TestProcess process)
    {
        var pages = new Dictionary<ulong, (PhysicalAddress, int)>();
        foreach ((ulong address, PhysicalAddress frame) in ProcessAudit.Check(ref process.Process.Memory, process.Platform, process.Text))
        {
            Assert.True(process.Process.Memory.Regions.TryFind(address, out Region region));
            if ((region.Rights & AccessRights.Write) == 0)
            {
                var hash = new HashCode();
                hash.AddBytes(System.Runtime.InteropServices.MemoryMarshal.AsBytes<ulong>(process.Platform.Frames[frame]));
                pages.Add(address, (frame, hash.ToHashCode()));
            }
        }

        return pages;
    }
}
