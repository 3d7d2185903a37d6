// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// A machine that loses its power while its guest writes TPM NV and UEFI variables, at a random instruction of the SVSM, and starts again from what is on the
// disk: of what was not flushed any part, and torn sectors. Every write that the guest was answered is there, and no other one but the one that was
// under way, whole. The guest's first commands after each start read what is there; then it writes on, until the power goes again.
//
// The same with a disk that fails, answers wrongly, or gives other bytes than it got: what was answered is there. One that does not answer at all is waited for
// longer than a run that counts instructions takes: VirtioDiskTests has it.

using System;
using System.Collections.Generic;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Threading.Tasks;
using Svsm.Simulator;
using Svsm.Wire;
using Xunit;

namespace Svsm.EndToEnd.Tests;

public sealed class StorageKilledTests
{
    // Of each boot: three rounds over the places.
    private const int Writes = 12;

    // Two machines at a time, each with a disk of its own.
    [Fact]
    public Task Power_GoesTwoHundredTimes_LosesNothingThatWasAnswered() => Task.WhenAll(KillAsync(1, 100), KillAsync(2, 100));

    [Fact]
    [Trait("Run", "all")]
    public Task Power_GoesTenThousandTimes_LosesNothingThatWasAnswered() => Task.WhenAll(KillAsync(3, 5000), KillAsync(4, 5000));

    [Fact]
    public async Task Disk_FailsAtRandom_LosesNothingThatWasAnswered()
    {
        const int Boots = 16;
        using var disk = new TestStoreDisk();
        using ImageUnderTest image = ImageUnderTest.BuildWithStore($"persist:{Writes}");
        var random = new Random(1);
        var model = new Model();
        disk.Prepare();
        await BootAsync(image, model, new SvsmDisk(disk.Path), null);
        int failures = 0;
        int failed = 0;
        for (int i = 0; i < Boots; i++)
        {
            var device = new FailingDisk(disk.Path, new Random(random.Next()), 1 << random.Next(2, 7));
            await BootAsync(image, model, device, null);
            failures += device.Failures;
            failed += model.IsUnsure ? 1 : 0;

            // In between one that does not fail, so that there is something to lose.
            await BootAsync(image, model, new SvsmDisk(disk.Path), null);
        }

        Assert.True(failures > Boots && failed > 1, $"{failures} failures, {failed} with a failed write");
    }

    private static async Task KillAsync(int seed, int kills)
    {
        using var disk = new TestStoreDisk();
        using ImageUnderTest image = ImageUnderTest.BuildWithStore($"persist:{Writes}");
        var random = new Random(seed);
        var model = new Model();
        disk.Prepare();
        await BootAsync(image, model, new SvsmDisk(disk.Path), null);

        // Where writing begins and ends, in exits of the SVSM.
        ulong last = Exits(await BootAsync(image, model, new SvsmDisk(disk.Path), null));
        ulong first = last * 4 / 5;
        int killed = 0;
        int unsure = 0;
        for (int i = 0; i < kills; i++)
        {
            var device = new PowerCutDisk(disk.Path, new Random(random.Next()));
            AttackTime time = AttackTime.AtExit(first + (ulong)random.NextInt64((long)(last - first)), vmpl: 0) with { Instructions = random.Next(500) };
            MachineResult result = await BootAsync(image, model, device, time);
            killed += result.Stop == MachineStop.PowerOff ? 1 : 0;
            unsure += model.IsUnsure ? 1 : 0;
            device.LosePower();
        }

        await BootAsync(image, model, new SvsmDisk(disk.Path), null);
        Assert.True(killed > kills * 8 / 10 && unsure > kills / 10, $"{killed} of {kills} killed, {unsure} of them in a write; exits {first} to {last}");
    }

    private static ulong Exits(MachineResult result) => result.Statistics.Where(entry => entry.Vmpl == 0).Aggregate(0ul, (sum, entry) => sum + entry.Exits);

    private static async Task<MachineResult> BootAsync(ImageUnderTest image, Model model, SvsmDisk disk, AttackTime? end)
    {
        MachineResult result = await ImageUnderTest.RunAsync(image.Options() with
        {
            CountInstructions = true,
            SvsmDisks = [disk],
            Attacks = end is AttackTime time ? [Attack.CutPower(time)] : [],
        });
        string text = result + "\n" + result.ConsoleText((int)Vmpl.Vmpl2) + "\n" + result.ConsoleText((int)Vmpl.Vmpl0);

        // Power goes; or the first write of all fails, which the start of the TPM is, and the guest goes no further.
        bool isCut = (end is not null && result.Stop == MachineStop.PowerOff) || (disk is FailingDisk && result.ExitStatus == 1);
        Assert.True(result.ExitStatus == 0 || isCut, text);
        string problem = model.Read(result.ConsoleText((int)Vmpl.Vmpl2), result.ExitStatus == 0);
        Assert.True(problem.Length == 0, problem + "\n" + text);
        return result;
    }

    // What must be there, and what may be, as the guest tells it.
    private sealed class Model
    {
        private const int Places = 4;

        private readonly ulong[] _answered = new ulong[Places];

        // The first one that was not answered, in each place: after a failure that nobody knows the outcome of, nothing else is taken.
        private readonly ulong?[] _tried = new ulong?[Places];

        public bool IsUnsure => _tried.Any(tried => tried is not null);

        /// <returns>What is wrong; empty: nothing.</returns>
        public string Read(string console, bool isWhole)
        {
            ulong newest = 0;
            ulong next = 0;
            int has = 0;

            // A line that is not ended is none yet.
            foreach (string line in console.Split('\n')[..^1])
            {
                string[] words = line.Trim().Split(' ');
                if (words is ["has", string place, string number])
                {
                    int at = int.Parse(place, CultureInfo.InvariantCulture);
                    ulong there = ulong.Parse(number, CultureInfo.InvariantCulture);
                    if (there != _answered[at] && there != _tried[at])
                    {
                        return $"place {at} has {there}; answered was {_answered[at]}, tried {_tried[at]}";
                    }

                    (_answered[at], _tried[at]) = (there, null);
                    newest = Math.Max(newest, there);
                    next = newest + 1;
                    has++;
                }
                else if (words is ["wrote" or "failed", string written])
                {
                    if (ulong.Parse(written, CultureInfo.InvariantCulture) != next)
                    {
                        return $"after {next - 1} came {line}";
                    }

                    bool isDone = words[0] == "wrote";
                    int at = (int)(next % Places);
                    _answered[at] = isDone ? next : _answered[at];
                    _tried[at] = isDone ? null : _tried[at] ?? next;
                    next++;
                }
                else if (words[0] == "torn")
                {
                    return line;
                }
            }

            if (!isWhole && has == Places)
            {
                _tried[next % Places] ??= next;
            }

            return isWhole && (has != Places || next != newest + 1 + Writes) ? "not all of it was done" : "";
        }
    }

    /// <summary>A disk with a cache: of what was not flushed any part is there when the power is gone.</summary>
    private sealed class PowerCutDisk(string path, Random random) : SvsmDisk(path)
    {
        private readonly List<(long Sector, byte[] Old, byte[] New)> _unflushed = [];

        public override BlockCompletion? Handle(BlockRequest request)
        {
            if (request.Operation == BlockOperation.Write)
            {
                for (int at = 0; at < request.Data.Length; at += SectorLength)
                {
                    BlockCompletion? old = base.Handle(request with { Operation = BlockOperation.Read, Sector = request.Sector + (ulong)(at / SectorLength), Data = default, Room = SectorLength });
                    _unflushed.Add(((long)request.Sector + (at / SectorLength), old!.Data.ToArray(), request.Data.Slice(at, SectorLength).ToArray()));
                }
            }

            BlockCompletion? completion = base.Handle(request);
            if (request.Operation == BlockOperation.Flush)
            {
                _unflushed.Clear();
            }

            return completion;
        }

        public void LosePower()
        {
            using var file = new FileStream(Path, FileMode.Open, FileAccess.Write);
            foreach ((long sector, byte[] old, byte[] wanted) in Enumerable.Reverse(_unflushed))
            {
                int torn = random.Next(SectorLength);
                byte[] left = random.Next(3) switch
                {
                    0 => old,
                    1 => wanted,
                    _ => [.. wanted[..torn], .. old[torn..]],
                };
                file.Position = sector * SectorLength;
                file.Write(left);
            }
        }
    }

    /// <summary>A disk that fails one request in so many, each in another way.</summary>
    private sealed class FailingDisk(string path, Random random, int chance) : SvsmDisk(path)
    {
        private bool _isWriting;

        public int Failures { get; private set; }

        public override BlockCompletion? Handle(BlockRequest request)
        {
            // The store is to be open before it begins.
            _isWriting |= request.Operation == BlockOperation.Write;
            if (!_isWriting || random.Next(chance) != 0)
            {
                return base.Handle(request);
            }

            Failures++;
            BlockCompletion? completion = random.Next(2) == 0 ? new BlockCompletion { Length = 1, Id = request.Id } : base.Handle(request);
            if (!completion!.Data.IsEmpty && random.Next(2) == 0)
            {
                byte[] data = completion.Data.ToArray();
                data[random.Next(data.Length)] ^= (byte)(1 << random.Next(8));
                return completion with { Data = data };
            }

            return random.Next(4) switch
            {
                0 => completion! with { Status = BlockStatus.IOError },
                1 => completion! with { Length = (uint)random.Next() },
                2 => completion! with { Id = (uint)random.Next(1, 9) },
                _ => completion! with { Status = (BlockStatus)random.Next(2, 256) },
            };
        }
    }
}
