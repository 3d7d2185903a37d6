// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Globalization;
using System.IO;
using System.Net;
using System.Runtime.InteropServices;
using System.Threading;
using System.Threading.Tasks;
using Svsm.Diagnostics;
using Svsm.Migration;
using Svsm.Migration.Relay;

namespace Svsm.Tool.Commands;

/// <summary><c>svsm migrate</c>: the relays of a migration.</summary>
internal static class MigrateCommand
{
    // Behind a change of states, a line for this often, where no terminal shows a live one.
    private static readonly TimeSpan s_lineEvery = TimeSpan.FromSeconds(5);

    /// <summary>Sends the guest of a source.</summary>
    public static Task<int> SendAsync(
        ToolConsole console, string machine, (string Host, int Port) to, string? release, TimeSpan retry, bool json, CancellationToken cancellationToken) =>
        RunAsync(console, MigrationRole.Source, machine, json, (follow, end) => MigrationRelay.SendAsync(new SendOptions
        {
            Machine = machine,
            Host = to.Host,
            Port = to.Port,
            ReleaseFile = release,
            Retry = retry,
            Log = follow.Line,
            Progress = follow.Show,
            Cancel = cancellationToken,
            End = end,
        }), cancellationToken);

    /// <summary>Receives a guest for a target, or brings it the release.</summary>
    public static Task<int> ReceiveAsync(
        ToolConsole console, string machine, IPEndPoint? listen, string? release, TimeSpan retry, bool json, CancellationToken cancellationToken) =>
        RunAsync(console, MigrationRole.Target, machine, json, (follow, end) => MigrationRelay.ReceiveAsync(new ReceiveOptions
        {
            Machine = machine,
            Listen = listen,
            Listening = address => follow.Line($"waiting for a sender on {address}"),
            ReleaseFile = release,
            Retry = retry,
            Log = follow.Line,
            Progress = follow.Show,
            Cancel = cancellationToken,
            End = end,
        }), cancellationToken);

    /// <summary>What a reason means, for people.</summary>
    internal static string Meaning(MigrationReason reason) => reason switch
    {
        MigrationReason.None => "no reason was heard",
        MigrationReason.Cancelled => "it was cancelled",
        MigrationReason.Silence => "the other SVSM was silent for too long",
        MigrationReason.Malformed => "a message was none, or not the one that was due",
        MigrationReason.NotAuthentic => "a record was changed, lost or repeated on its way, or is of another migration",
        MigrationReason.VersionUnknown => "the other SVSM speaks another version",
        MigrationReason.NotTrusted => "the other SVSM's report is not good; the log of the machine says which check",
        MigrationReason.NotThisGuest => "POLICY or HOST_DATA of the other VM are not those of this one",
        MigrationReason.NotSuitable => "the target has not the memory, vCPUs, features or modules of the guest",
        MigrationReason.CannotMove => "a module of the source says that its state cannot go",
        MigrationReason.Incomplete => "the source was done, and something was missing",
        _ => "an SVSM failed: memory, random numbers, the security processor, or a module",
    };

    internal static string Name(MigrationState state, MigrationRole role) => state switch
    {
        MigrationState.Idle => "unknown",
        MigrationState.HandedOver => role == MigrationRole.Source ? "gone" : "held",
        MigrationState.Ended => role == MigrationRole.Source ? "gone" : "running",
        _ => state.ToString().ToLowerInvariant(),
    };

    /// <summary>Where the guest is, and what an operator does: the rows of docs/migration-relays.md, "Where the guest is".</summary>
    internal static (string Guest, string Action) Explain(RelayOutcome outcome, MigrationRole role, string machine)
    {
        bool isMachineGone = outcome.Failure?.Diagnostic == SvsmDiagnostics.MigrationMachineGone;
        bool isTargetLost = outcome.Target == MigrationState.Aborted
            || (role == MigrationRole.Target
                ? isMachineGone
                : outcome.PeerWords.StartsWith(SvsmDiagnostics.MigrationMachineGone.Code, StringComparison.Ordinal));
        bool isSourceGone = outcome.Source is MigrationState.HandedOver or MigrationState.Ended;
        string receive = $"svsm migrate receive --machine {(role == MigrationRole.Target ? machine : "SOCKET")} --release {outcome.ReleaseFile ?? "FILE"}";
        return outcome.Ending switch
        {
            RelayEnding.Running => ("it runs at the target", "throw the source's VM away"),
            RelayEnding.Aborted when role == MigrationRole.Source && isMachineGone => (
                "it was at the source, whose machine has gone", "if that machine does not run, start the guest anew from its disks; throw the target away"),
            RelayEnding.Aborted => ("it runs, or goes on, at the source", "nothing; the target can be thrown away, and another try takes a new one"),
            _ when role == MigrationRole.Source && outcome.Target == MigrationState.Ended => (
                "the other relay says that it runs at the target; the source's SVSM has not heard of it",
                "see whether the target runs; if so, throw the source's VM away; if not, "
                + (outcome.ReleaseFile is null ? "start both relays anew" : $"bring {outcome.ReleaseFile} to the target's host: {receive}")),
            _ when isTargetLost => ("it is lost, if the target's machine is", "see whether the target still runs; if not, start the guest anew from its disks"),
            _ when role == MigrationRole.Source && outcome.ReleaseFile is null => (
                isSourceGone ? "the source has given up; the release is not here" : "the source has given up, or may have; the release is not here",
                "leave both VMs alone, and start both relays anew: the source's SVSM says the release again"),
            _ when role == MigrationRole.Source => (
                "it is whole at the target, and waits for its release", $"bring {outcome.ReleaseFile} to the target's host: {receive}"),
            _ when outcome.Target == MigrationState.HandedOver => (
                isSourceGone || outcome.ReleaseFile is not null
                    ? "it is whole at the target, and waits for its release"
                    : "it is whole at the target, and waits for its release, if the source has given up",
                isSourceGone || outcome.Source == MigrationState.Idle || outcome.ReleaseFile is not null
                    ? $"give the target the sender's file: {receive}"
                    : $"see what the sender says: if the source is gone, give the target the sender's file: {receive}"),
            _ => ("the target does not hold it", "give the socket of the target that shows 'held'"),
        };
    }

    private static async Task<int> RunAsync(
        ToolConsole console,
        MigrationRole role,
        string machine,
        bool json,
        Func<Follower, CancellationToken, Task<RelayOutcome>> run,
        CancellationToken cancellationToken)
    {
        using var end = new CancellationTokenSource();
        int signals = 0;

        // The first one is the token's: a wish. A terminal that is closed is one, too.
        void Count(PosixSignalContext context)
        {
            context.Cancel = true;
            if (Interlocked.Increment(ref signals) == 2)
            {
                end.Cancel();
            }
        }

        using PosixSignalRegistration interrupted = PosixSignalRegistration.Create(PosixSignal.SIGINT, Count);
        using PosixSignalRegistration hungUp = PosixSignalRegistration.Create(PosixSignal.SIGHUP, Count);
        using PosixSignalRegistration terminated = PosixSignalRegistration.Create(PosixSignal.SIGTERM, Count);
        RelayOutcome outcome = await console.FollowAsync("connecting", async (line, status) =>
        {
            var follow = new Follower(line, status);
            using CancellationTokenRegistration told = cancellationToken.Register(
                () => follow.Line("asking the SVSM to cancel; once more ends the relay at once"));
            return await run(follow, end.Token).ConfigureAwait(false);
        }).ConfigureAwait(false);
        if (outcome.Failure is not null)
        {
            await console.Error.WriteLineAsync($"error {outcome.Failure.Diagnostic.Code}: {outcome.Failure.Message}").ConfigureAwait(false);
        }

        Report(console, outcome, role, machine, json);
        return outcome.Ending switch
        {
            RelayEnding.Running => ExitStatus.Success,
            RelayEnding.Aborted => ExitStatus.Difference,
            _ => ExitStatus.Unreleased,
        };
    }

    private static void Report(ToolConsole console, RelayOutcome outcome, MigrationRole role, string machine, bool json)
    {
        (string guest, string action) = Explain(outcome, role, machine);
        string source = Name(outcome.Source, MigrationRole.Source);
        string target = Name(outcome.Target, MigrationRole.Target);
        bool isAborted = outcome.Ending == RelayEnding.Aborted;
        if (json)
        {
            console.WriteJson(writer =>
            {
                writer.WriteString("ending", outcome.Ending.ToString().ToLowerInvariant());
                writer.WriteString("source", source);
                writer.WriteString("target", target);
                if (isAborted)
                {
                    writer.WriteString("reason", outcome.Reason.ToString());
                }

                if (outcome.Failure is not null)
                {
                    writer.WriteString("failure", outcome.Failure.Diagnostic.Code);
                }

                if (outcome.PeerWords.Length != 0)
                {
                    writer.WriteString("peer", outcome.PeerWords);
                }

                writer.WriteNumber("pages", outcome.Pages);
                writer.WriteNumber("rounds", outcome.Rounds);
                writer.WriteNumber("pagesOfRest", outcome.PagesOfRest);
                writer.WriteNumber("bytesSent", outcome.BytesSent);
                writer.WriteNumber("bytesReceived", outcome.BytesReceived);
                writer.WriteNumber("seconds", Math.Round(outcome.Elapsed.TotalSeconds, 3));
                if (outcome.Downtime is TimeSpan downtime)
                {
                    writer.WriteNumber("downtimeSeconds", Math.Round(downtime.TotalSeconds, 3));
                }

                writer.WriteNumber("reconnections", outcome.Reconnections);
                if (outcome.ReleaseFile is not null)
                {
                    writer.WriteString("release", outcome.ReleaseFile);
                }

                writer.WriteString("guest", guest);
                writer.WriteString("action", action);
            });
            return;
        }

        TextWriter output = console.Output;
        output.Write($"source {source}, target {target}\n");
        if (isAborted)
        {
            output.Write(outcome.Reason == MigrationReason.None
                ? "the relay has ended before an SVSM has said that it aborts\n"
                : $"aborted: {outcome.Reason}, {Meaning(outcome.Reason)}\n");
        }

        if (outcome.PeerWords.Length != 0)
        {
            output.Write($"the other relay has ended: {outcome.PeerWords}\n");
        }

        output.Write(string.Create(
            CultureInfo.InvariantCulture,
            $"pages {outcome.Pages} in {outcome.Rounds} rounds, {outcome.PagesOfRest} while the guest was stopped; "));
        output.Write(string.Create(
            CultureInfo.InvariantCulture,
            $"{Units.Size((ulong)outcome.BytesSent)} sent, {Units.Size((ulong)outcome.BytesReceived)} received in {outcome.Elapsed.TotalSeconds:0.0} s\n"));
        if (outcome.Downtime is TimeSpan rest)
        {
            output.Write(string.Create(CultureInfo.InvariantCulture, $"the guest rested for {rest.TotalSeconds:0.000} s, as seen here\n"));
        }

        if (outcome.Reconnections != 0)
        {
            output.Write($"the connection was broken {outcome.Reconnections} times\n");
        }

        output.Write($"the guest: {guest}\nto do: {action}\n");
        if (outcome.Ending == RelayEnding.Running && outcome.ReleaseFile is not null)
        {
            output.Write($"{outcome.ReleaseFile} is of no more use\n");
        }
    }

    // On a terminal one line that changes; without one, a line now and then.
    private sealed class Follower(Action<string> line, Action<string>? status)
    {
        private (MigrationState Source, MigrationState Target) _states;
        private long _told;

        public void Line(string text) => Say(line, text);

        public void Show(RelayProgress progress)
        {
            string states = $"source {Name(progress.Source, MigrationRole.Source)}, target {Name(progress.Target, MigrationRole.Target)}";
            string text = progress.Source is MigrationState.Copying or MigrationState.Rest
                ? string.Create(
                    CultureInfo.InvariantCulture,
                    $"{states}: round {progress.Round}, {progress.Pages} pages sent, {progress.PagesLeft} left, {progress.DirtiedPerSecond:0}")
                    + $" pages/s written again, {Units.Size((ulong)progress.BytesPerSecond)}/s"
                    + (progress.Downtime is TimeSpan rest ? string.Create(CultureInfo.InvariantCulture, $", rest of {rest.TotalSeconds:0.00} s") : "")
                : states;
            if (status is not null)
            {
                Say(status, text);
                return;
            }

            // Never called by two threads at once.
            long now = TimeProvider.System.GetTimestamp();
            if ((progress.Source, progress.Target) != _states || TimeProvider.System.GetElapsedTime(_told, now) > s_lineEvery)
            {
                (_states, _told) = ((progress.Source, progress.Target), now);
                Line(text);
            }
        }

        // A terminal that was closed takes nothing, and the migration goes on without it.
        private static void Say(Action<string> say, string text)
        {
            try
            {
                say(text);
            }
            catch (IOException)
            {
                // Nobody is there to be told.
            }
        }
    }
}
