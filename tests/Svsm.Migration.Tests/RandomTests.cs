// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Migrations at random: relays that attack or are cut, power that goes. After each step what must always hold is checked; at the end, what the tables of docs/migration-protocol.md,
// "Each state, and what happens when something goes away", say. A seed that fails is in the message.

using System;
using System.Collections.Generic;
using System.Linq;
using Xunit;

namespace Svsm.Migration.Tests;

[Collection(LaunchGroup.Name)]
public sealed class RandomTests(LaunchFixture fixture)
{
    private enum Outcome
    {
        /// <summary>The guest runs at the target.</summary>
        Completed,

        /// <summary>It goes on at the source, and there is nothing at the target.</summary>
        Aborted,

        /// <summary>It goes on at the source, and a target waits for a release that never comes.</summary>
        AbortedWhileHeld,

        /// <summary>The source has given up, and the target's power is gone.</summary>
        HandedOverAndLost,

        /// <summary>The source has given up, its power went, and no relay has the release.</summary>
        HandedOverWithoutRelease,

        /// <summary>The source's power went before.</summary>
        SourceLost,
    }

    private enum Relay
    {
        Honest,
        Cut,
        Loses,
        Attacks,
        AttacksTheHandOver,
    }

    [Fact]
    public void Migrations_AtRandom_NeverFork() => RunAll(1, 200);

    [Fact]
    [Trait("Run", "all")]
    public void Migrations_ManyAtRandom_NeverFork() => RunAll(1_000, 10_000);

    private void RunAll(int first, int count)
    {
        using TestMigration old = new TestMigration(fixture, new SourceModel(6)).RunToTheEnd();
        List<MigrationFrame> recorded = [.. old.FromSource, .. old.FromTarget];
        var outcomes = new Dictionary<Outcome, int>();
        for (int seed = first; seed < first + count; seed++)
        {
            try
            {
                Outcome outcome = RunOne(seed, recorded);
                outcomes[outcome] = outcomes.GetValueOrDefault(outcome) + 1;
            }
            catch (Exception e)
            {
                throw new InvalidOperationException($"seed {seed}", e);
            }

            fixture.Source.Kernel.Left.Clear();
            fixture.Target.Kernel.Left.Clear();
        }

        string summary = string.Join(", ", outcomes.Select(pair => $"{pair.Key} {pair.Value}"));
        Assert.All(Enum.GetValues<Outcome>(), outcome => Assert.True(outcomes.ContainsKey(outcome), $"no {outcome} in {summary}"));
        TestContext.Current.SendDiagnosticMessage(summary);
    }

    private Outcome RunOne(int seed, List<MigrationFrame> recorded)
    {
        var random = new Random(seed);
        Relay relay = Enum.GetValues<Relay>()[seed % 5];
        using var migration = new TestMigration(fixture, new SourceModel(random.Next(1, 12), seed, random.Next(1, 4))) { Writes = random.Next(3), SkipsProof = seed / 5 % 20 != 0 };
        int cut = relay == Relay.Cut ? random.Next(40) : int.MaxValue;
        int frames = 0;
        var kept = new List<MigrationFrame>();
        bool isOver = false;
        migration.ToTarget = frame => Carry(frame);
        migration.ToSource = frame => Carry(frame);

        // Power: in half of the runs, of one of the two: at some step, or when it has handed over.
        bool powerGoes = random.Next(2) == 0;
        bool atHandOver = random.Next(3) != 0;
        bool isSourcesPower = random.Next(2) == 0;
        int powerStep = random.Next(80);
        migration.Begin();
        for (int step = 0; step < 2000; step++)
        {
            bool isTime = atHandOver ? (isSourcesPower ? migration.Source.State : migration.Target.State) == MigrationState.HandedOver && random.Next(2) == 0 : step == powerStep;
            if (powerGoes && isTime)
            {
                (migration.IsSourceOff, migration.IsTargetOff) = (migration.IsSourceOff || isSourcesPower, migration.IsTargetOff || !isSourcesPower);
            }

            if (random.Next(100) == 0 && relay != Relay.Honest)
            {
                migration.Pass(TestMigration.Patience * random.NextDouble() * 1.5);
            }

            if (random.Next(200) == 0 && !migration.IsSourceOff)
            {
                migration.Source.TryCancel();
                migration.Collect();
                migration.Check();
            }

            if (relay is Relay.Attacks or Relay.AttacksTheHandOver && random.Next(20) == 0)
            {
                migration.Repeat();
            }

            if (!migration.Step() && random.Next(4) == 0)
            {
                break;
            }
        }

        if (random.Next(3) == 0)
        {
            migration.Pass(TestMigration.Patience * 2);
            migration.Run();
        }

        // What comes of it in the end: an honest relay brings what is repeated, and time passes.
        isOver = true;
        if (migration.Source.State == MigrationState.Rest && migration.Target.State == MigrationState.HandedOver && random.Next(2) == 0)
        {
            migration.Repeat();
        }

        migration.Run();
        migration.Pass(TestMigration.Patience * 2);
        migration.Run();
        migration.Repeat();
        if (random.Next(2) == 0 && migration.FromSource.Find(frame => TestMigration.TypeOf(frame) == RecordType.Release) is { Kind: FrameKind.Record } release)
        {
            // The relay has kept it; the source's power may be gone.
            migration.GiveToTarget(release);
        }

        migration.Run();
        return Judge(migration);

        IEnumerable<MigrationFrame> Carry(MigrationFrame frame)
        {
            frames++;
            bool isOfHandOver = TestMigration.TypeOf(frame) is RecordType.Finish or RecordType.Held or RecordType.Release or RecordType.Running or RecordType.SourceAbort or RecordType.TargetAbort;
            if (isOver || relay == Relay.Honest)
            {
                return [frame];
            }

            kept.Add(frame);
            return relay switch
            {
                Relay.Cut => frames > cut ? [] : [frame],
                Relay.Loses => isOfHandOver && random.Next(2) == 0 ? [] : [frame],
                Relay.Attacks when random.Next(40) == 0 => Attack(frame),
                Relay.AttacksTheHandOver when isOfHandOver && random.Next(3) == 0 => Attack(frame),
                _ => [frame],
            };
        }

        IEnumerable<MigrationFrame> Attack(MigrationFrame frame)
        {
            MigrationFrame strange = recorded[random.Next(recorded.Count)];
            MigrationFrame earlier = kept[random.Next(kept.Count)];
            MigrationFrame changed = TestMigration.Copy(frame);
            if (changed.Contents.Length != 0)
            {
                changed.Contents[random.Next(changed.Contents.Length)] ^= (byte)(1 << random.Next(8));
            }

            switch (random.Next(11))
            {
                case 0:
                    return [];
                case 1:
                    return [frame, frame];
                case 2:
                    return [earlier, frame];
                case 3:
                    return [changed];
                case 4:
                    return [frame with { Contents = frame.Contents[..random.Next(frame.Contents.Length + 1)] }];
                case 5:
                    return [strange, frame];
                case 6:
                    return [strange];
                case 7:
                    return [changed, frame];
                case 8:
                    return [frame, strange, earlier];
                case 9:
                    return [frame with { Kind = (FrameKind)random.Next(5) }];
                default:
                    // To whom it came from.
                    migration.GiveToSource(frame);
                    migration.GiveToTarget(earlier);
                    return [frame];
            }
        }
    }

    // The tables.
    private static Outcome Judge(TestMigration migration)
    {
        (MigrationState source, MigrationState target) = (migration.Source.State, migration.Target.State);
        if (migration.Guest.HasGivenUp)
        {
            // It has given up when the target held everything: only power takes that away.
            Assert.Contains(target, (MigrationState[])[MigrationState.HandedOver, MigrationState.Ended]);
            Assert.Equal(0, migration.Guest.Resumes);
            if (migration.IsTargetOff && target != MigrationState.Ended)
            {
                return Outcome.HandedOverAndLost;
            }

            if (target == MigrationState.Ended)
            {
                Assert.True(migration.IsWhole);
                Assert.True(migration.IsSourceOff || migration.IsTargetOff || source == MigrationState.Ended);
                return Outcome.Completed;
            }

            // With the source's power on, RELEASE came with Repeat.
            Assert.True(migration.IsSourceOff);
            return Outcome.HandedOverWithoutRelease;
        }

        Assert.NotEqual(MigrationState.Ended, target);
        Assert.False(migration.TargetGuest.IsRunning);

        // A target to which no HELLO has come waits for one.
        Assert.Contains(target, migration.IsTargetOff ? Enum.GetValues<MigrationState>() : [MigrationState.Greeting, MigrationState.HandedOver, MigrationState.Aborted]);
        if (migration.IsSourceOff)
        {
            return Outcome.SourceLost;
        }

        Assert.Equal(MigrationState.Aborted, source);
        Assert.False(migration.Guest.IsStopped);
        Assert.Equal(1, migration.Guest.Resumes);
        return target == MigrationState.HandedOver && !migration.IsTargetOff ? Outcome.AbortedWhileHeld : Outcome.Aborted;
    }
}
