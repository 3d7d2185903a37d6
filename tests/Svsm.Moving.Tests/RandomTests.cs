// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Migrations at random between machines: a guest that writes all its memory over and over goes from machine to machine, through relays that are cut, lose,
// change or repeat something, are told to cancel, or whose machines lose their power. After each it runs on one machine, and on no other, with its memory as it
// should be; or it is lost, where docs/migration-protocol.md says so. One that stayed is moved again, to another target; one that has moved goes on from
// there. The seed of a migration that fails is in the message. Thousands of these against the protocol, without machines: tests/Svsm.Migration.Tests/RandomTests.cs.

using System;
using System.Collections.Concurrent;
using System.Collections.Generic;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using Svsm.Simulator;
using Svsm.Wire;
using Xunit;

namespace Svsm.Moving.Tests;

public sealed class RandomTests(ITestOutputHelper output)
{

    // Of the source, and of the target.
    private static readonly RecordType[] s_rareTypes =
    [
        RecordType.Offer, RecordType.States, RecordType.Module, RecordType.Vcpu, RecordType.Finish, RecordType.Release,
        RecordType.Accept, RecordType.Held, RecordType.Running,
    ];

    private enum Event
    {
        /// <summary>Nothing happens.</summary>
        None,

        /// <summary>From here on nothing comes through.</summary>
        Cut,

        /// <summary>This frame is lost.</summary>
        Drop,

        /// <summary>A bit of it is another one.</summary>
        Change,

        /// <summary>It comes twice.</summary>
        Repeat,

        /// <summary>One of another migration comes in its place.</summary>
        Replace,

        /// <summary>The relay of the source is told to cancel.</summary>
        Cancel,

        /// <summary>The power of the target goes.</summary>
        TargetPower,

        /// <summary>That of the source goes.</summary>
        SourcePower,
    }

    private enum Outcome
    {
        Moved,
        Stayed,
        Lost,
    }

    // Of the guest with few pages.
    [Fact]
    public Task Moves_AtRandom_RunOnOneMachine() => RunAllAsync(2, 7);

    [Fact]
    [Trait("Run", "all")]
    public Task Moves_ManyAtRandom_RunOnOneMachine() => RunAllAsync(1000, 200);

    private async Task RunAllAsync(int first, int count)
    {
        var recorded = new ConcurrentQueue<Frame>();
        var outcomes = new Dictionary<Outcome, int>();
        MovingPair? pair = null;
        try
        {
            for (int seed = first; seed < first + count; seed++)
            {
                pair ??= await StartAsync(seed);
                var move = new Move(pair, seed, recorded);
                Outcome outcome;
                try
                {
                    outcome = await move.RunAsync();
                }
                catch (Exception exception)
                {
                    throw new InvalidOperationException($"{move}", exception);
                }

                output.WriteLine($"{move}: {outcome}");
                outcomes[outcome] = outcomes.GetValueOrDefault(outcome) + 1;
                switch (outcome)
                {
                    case Outcome.Moved:
                        await pair.AdvanceAsync();
                        break;
                    case Outcome.Stayed:
                        await pair.StartTargetAsync();
                        break;
                    default:
                        await pair.DisposeAsync();
                        pair = null;
                        break;
                }
            }

            if (pair is not null)
            {
                await MovingGuest.EndAsync(pair.Source);
            }
        }
        finally
        {
            if (pair is not null)
            {
                await pair.DisposeAsync();
            }
        }

        Assert.All((Outcome[])[Outcome.Moved, Outcome.Stayed], outcome => Assert.True(outcomes.ContainsKey(outcome), $"{outcome} has not happened"));
    }

    // Few pages, so that much happens in the rest; or many that are written fast, so that the guest is paced.
    private static async Task<MovingPair> StartAsync(int seed)
    {
        MovingPair pair = await MovingPair.StartAsync(seed % 2 == 0 ? "moving:64" : "touching:1500", 2);
        await pair.Source.WaitForLineAsync("moving: round", (int)Vmpl.Vmpl2);
        return pair;
    }

    // One migration.
    private sealed class Move
    {
        private readonly MovingPair _pair;
        private readonly ConcurrentQueue<Frame> _recorded;
        private readonly Lock _lock = new();
        private readonly TaskCompletionSource _happened = new(TaskCreationOptions.RunContinuationsAsynchronously);
        private readonly int _seed;
        private readonly Event _event;
        private readonly bool _isOfSource;
        private readonly int _frame;
        private readonly RecordType _type;
        private readonly int _change;
        private int _frames;
        private bool _isCut;
        private Frame? _release;

        public Move(MovingPair pair, int seed, ConcurrentQueue<Frame> recorded)
        {
            (_pair, _seed, _recorded) = (pair, seed, recorded);
            var random = new Random(seed);
            _event = (Event)random.Next((int)Event.SourcePower + 1);
            _isOfSource = random.Next(2) == 0;

            // One of the first frames, any of them, or one of the end.
            int where = random.Next(3);
            _frame = random.Next(where == 0 ? 4 : 400);
            _type = where == 2 ? s_rareTypes[random.Next(s_rareTypes.Length)] : RecordType.None;
            _isOfSource = _type != RecordType.None ? _type < RecordType.Accept : _isOfSource;
            _change = random.Next();
        }

        public override string ToString() =>
            $"seed {_seed}, {_event} at {(_type != RecordType.None ? $"the first record of type {_type}" : $"frame {_frame}")} of the {(_isOfSource ? "source" : "target")}";

        public async Task<Outcome> RunAsync()
        {
            using var relay = new TestRelay(_pair) { FromSource = frame => Carry(frame, isOfSource: true), FromTarget = frame => Carry(frame, isOfSource: false) };
            await relay.BeginAsync();
            Task<Notice> over = relay.WaitForAsync(ofSource: true, MigrationState.HandedOver, TestContext.Current.CancellationToken);
            Task<Notice> targetOver = relay.WaitForAsync(ofSource: false, MigrationState.HandedOver, TestContext.Current.CancellationToken);
            await Polling.UntilAsync("the end", () => _happened.Task.IsCompleted || relay.SourceNotice.State >= MigrationState.Ended);
            if (_happened.Task.IsCompleted)
            {
                await ActAsync(relay, over, targetOver);
            }

            if (_event == Event.SourcePower && _happened.Task.IsCompleted)
            {
                return await WithoutSourceAsync(relay);
            }

            Notice source = await over;
            int lines = MovingGuest.LinesOn(_pair.Source);
            if (source.State == MigrationState.Aborted)
            {
                MovingGuest.AssertHasNotRun(_pair.Target);
                await MovingGuest.GoesOnAsync(_pair.Source);
                MovingGuest.AssertHasNotRun(_pair.Target);
                return Outcome.Stayed;
            }

            // It was given up: it never runs there again, whatever anybody wants.
            if (_event == Event.TargetPower && _happened.Task.IsCompleted)
            {
                await relay.CancelAsync(ofSource: true);
                await relay.BeginAsync(ofSource: true);
                await Task.Delay(500, TestContext.Current.CancellationToken);
                Assert.Equal(lines, MovingGuest.LinesOn(_pair.Source));
                return Outcome.Lost;
            }

            await ReleaseAsync(relay);
            await MovingGuest.GoesOnAsync(_pair.Target);
            Assert.Equal(lines, MovingGuest.LinesOn(_pair.Source));
            return Outcome.Moved;
        }

        private async Task ActAsync(TestRelay relay, Task<Notice> over, Task<Notice> targetOver)
        {
            switch (_event)
            {
                case Event.TargetPower:
                    await _pair.Target.StopAsync();
                    await relay.CancelAsync(ofSource: true);
                    break;
                case Event.SourcePower:
                    await _pair.Source.StopAsync();
                    break;
                case Event.Cut or Event.Drop or Event.Cancel:
                    await relay.CancelAsync(ofSource: true);
                    break;
                default:
                    // If an end does not take what was done to the frame, it says so; the other one may have no key to hear it by.
                    await Task.WhenAny(over, targetOver);
                    if (targetOver.IsCompleted && (await targetOver).State == MigrationState.Aborted)
                    {
                        await relay.CancelAsync(ofSource: true);
                    }

                    break;
            }
        }

        // Relays that begin anew have the release said again, until the target runs.
        private async Task ReleaseAsync(TestRelay relay)
        {
            lock (_lock)
            {
                _isCut = false;
                _happened.TrySetResult();
            }

            await Polling.UntilAsync("the end of the target", () => relay.TargetNotice.State >= MigrationState.Ended, () => relay.BeginAsync(ofSource: true));
            Assert.Equal(MigrationState.Ended, relay.TargetNotice.State);
            await Polling.UntilAsync("the end of the source", () => relay.SourceNotice.State >= MigrationState.Ended, () => relay.BeginAsync(ofSource: false));
            Assert.Equal(MigrationState.Ended, relay.SourceNotice.State);
        }

        // If the relay has the release, the guest can run; if not, it is lost.
        private async Task<Outcome> WithoutSourceAsync(TestRelay relay)
        {
            if (_release is not Frame release)
            {
                await Task.Delay(500, TestContext.Current.CancellationToken);
                MovingGuest.AssertHasNotRun(_pair.Target);
                return Outcome.Lost;
            }

            await relay.SendToTargetAsync(release);
            await Polling.UntilAsync("the end of the target", () => relay.TargetNotice.State >= MigrationState.Ended, () => relay.SendToTargetAsync(release));
            Assert.Equal(MigrationState.Ended, relay.TargetNotice.State);
            await MovingGuest.GoesOnAsync(_pair.Target);
            return Outcome.Moved;
        }

        private IEnumerable<Frame> Carry(Frame frame, bool isOfSource)
        {
            lock (_lock)
            {
                if (isOfSource && frame.RecordType == RecordType.Release)
                {
                    _release = frame;
                }

                if (_isCut)
                {
                    return [];
                }

                bool isIt = _event != Event.None && !_happened.Task.IsCompleted && isOfSource == _isOfSource && (_type != RecordType.None ? frame.RecordType == _type : _frames++ == _frame);
                if (!isIt)
                {
                    Record(frame);
                    return [frame];
                }

                _happened.TrySetResult();
                switch (_event)
                {
                    case Event.Cut or Event.SourcePower or Event.TargetPower:
                        _isCut = true;
                        return [];
                    case Event.Drop:
                        return [];
                    case Event.Change:
                        byte[] changed = [.. frame.Contents];
                        changed[_change % changed.Length] ^= (byte)(1 << (_change % 8));
                        return [frame with { Contents = changed }];
                    case Event.Repeat:
                        return [frame, frame];
                    case Event.Replace when _recorded.Where(old => old.RecordType == frame.RecordType).Take(1).ToArray() is [var strange]:
                        return [strange];
                    default:
                        return [frame];
                }
            }
        }

        // Some, for other migrations.
        private void Record(Frame frame)
        {
            if (_recorded.Count < 1000 && _frames % 7 == 0)
            {
                _recorded.Enqueue(frame);
            }
        }
    }
}
