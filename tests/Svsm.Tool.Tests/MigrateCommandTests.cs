// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Net.Sockets;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using System.Text.RegularExpressions;
using System.Threading;
using System.Threading.Tasks;
using Svsm.Diagnostics;
using Svsm.Migration;
using Svsm.Migration.Relay;
using Svsm.Tool.Commands;
using Xunit;

namespace Svsm.Tool.Tests;

/// <summary>
/// svsm migrate, as a user has it, with machines that the test plays: what the relays carry is tested with SVSMs in Svsm.MigrationRelay.Tests.
/// </summary>
public sealed class MigrateCommandTests : ToolTest
{
    private static readonly byte[] s_release = [.. new byte[4], 8, .. new byte[83]];
    private static readonly byte[] s_running = [.. new byte[4], 0x44, .. new byte[35]];

    [Theory]
    [InlineData("migrate")]
    [InlineData("migrate", "send", "--machine", "m")]
    [InlineData("migrate", "send", "--to", "h:1")]
    [InlineData("migrate", "send", "--machine", "m", "--to", "h")]
    [InlineData("migrate", "send", "--machine", "m", "--to", "h:0")]
    [InlineData("migrate", "send", "--machine", "m", "--to", ":1")]
    [InlineData("migrate", "send", "--machine", "m", "--to", "::1:1")]
    [InlineData("migrate", "send", "--machine", "m", "--to", "h:1", "--retry", "-1")]
    [InlineData("migrate", "send", "--machine", "m", "--to", "h:1", "--retry", "86401")]
    [InlineData("migrate", "receive", "--machine", "m")]
    [InlineData("migrate", "receive", "--machine", "m", "--listen", "1", "--release", "f")]
    [InlineData("migrate", "receive", "--machine", "m", "--listen", "65536")]
    [InlineData("migrate", "receive", "--machine", "m", "--listen", "127.0.0.1")]
    [InlineData("migrate", "receive", "--machine", "m", "--listen", "host:1")]
    public async Task WrongCommandLine_IsRefused(params string[] args) => Assert.Equal(ExitStatus.Usage, (await Run(args)).Status);

    [Theory]
    [InlineData("SVSM7101", "send", "--to", "[::1]:1")]
    [InlineData("SVSM7101", "receive", "--listen", "127.0.0.1:0")]
    [InlineData("SVSM7107", "receive", "--release", "/nowhere")]
    public async Task NothingThere_IsNamed(string code, params string[] args)
    {
        Outcome outcome = await Run(["migrate", .. args, "--machine", At("none"), "--json"]);

        Assert.Equal((ExitStatus.BadFile, ""), (outcome.Status, outcome.Output));
        Assert.StartsWith($"error {code}: ", outcome.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task SendAndReceive_WholeMigration_SayWhereTheGuestIs()
    {
        await using Machine source = Source(gives: true);
        await using Machine target = Target(takes: true);
        (Outcome sent, Outcome received) = await MoveAsync(source, target, "--json");

        Assert.Equal((ExitStatus.Success, ExitStatus.Success), (sent.Status, received.Status));
        Assert.Equal(
            "ending source target pages rounds pagesOfRest bytesSent bytesReceived seconds downtimeSeconds reconnections release guest action",
            string.Join(" ", Names(sent.Json)));
        Assert.Equal(("running", "gone", "running"), (Text(sent.Json, "ending"), Text(sent.Json, "source"), Text(sent.Json, "target")));
        Assert.Equal(("running", "running"), (Text(received.Json, "ending"), Text(received.Json, "target")));
        Assert.Equal("throw the source's VM away", Text(sent.Json, "action"));
        Assert.Contains("source copying, target copying: round 3, 1000 pages sent, 24 left", sent.Error, StringComparison.Ordinal);
        Assert.True(File.Exists(Text(sent.Json, "release")));
    }

    [Fact]
    public async Task SendAndReceive_StateRefused_AreMendedByTheFile()
    {
        await using Machine source = Source(gives: true);
        Outcome sent;
        Outcome received;
        await using (Machine refusing = Target(takes: false))
        {
            (sent, received) = await MoveAsync(source, refusing);
        }

        Assert.Equal((ExitStatus.Unreleased, ExitStatus.Unreleased), (sent.Status, received.Status));
        string file = At("release");
        Assert.Contains(
            $"to do: bring {file} to the target's host: svsm migrate receive --machine SOCKET --release {file}\n", sent.Output, StringComparison.Ordinal);
        Assert.Contains("source gone, target held\n", sent.Output, StringComparison.Ordinal);
        Assert.Contains("error SVSM7110: ", received.Error, StringComparison.Ordinal);

        await using Machine target = Target(takes: true);
        Outcome released = await Run("migrate", "receive", "--machine", target.Path, "--release", At("release"));
        Assert.Equal(ExitStatus.Success, released.Status);
        Assert.Contains("the guest: it runs at the target\n", released.Output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Send_Aborted_SaysWhy()
    {
        await using var source = new Machine(At("source"), (frame, say) =>
        {
            if (frame is [3, 1, 1])
            {
                say(Notice(MigrationState.Aborted, MigrationReason.CannotMove));
            }
        });
        await using Machine target = Target(takes: true);
        (Outcome sent, Outcome received) = await MoveAsync(source, target);

        Assert.Equal((ExitStatus.Difference, ExitStatus.Difference), (sent.Status, received.Status));
        Assert.Contains("aborted: CannotMove, a module of the source says that its state cannot go\n", sent.Output, StringComparison.Ordinal);
        Assert.Contains("the guest: it runs, or goes on, at the source\n", sent.Output, StringComparison.Ordinal);
        Assert.DoesNotContain("error", sent.Error, StringComparison.Ordinal);
        Assert.False(File.Exists(At("release")));
    }

    [Fact]
    public async Task Receive_Interrupted_AsksTheSvsm()
    {
        using var interruption = new CancellationTokenSource();
        await using Machine target = Interrupting(interruption);
        var output = new StringWriter();
        var error = new StringWriter();
        int status = await SvsmCommandLine.RunAsync(
            ["migrate", "receive", "--machine", target.Path, "--listen", "127.0.0.1:0"], new ToolConsole(output, error), interruption.Token);

        Assert.Equal(ExitStatus.Difference, status);
        Assert.Contains("aborted: Cancelled, it was cancelled\n", output.ToString(), StringComparison.Ordinal);
        Assert.Contains("once more ends the relay", error.ToString(), StringComparison.Ordinal);
    }

    // The terminal was closed, which is an interruption, and takes no line any more.
    [Fact]
    public async Task Receive_TerminalIsClosed_AsksTheSvsm()
    {
        using var interruption = new CancellationTokenSource();
        await using Machine target = Interrupting(interruption);
        var output = new StringWriter();
        int status = await SvsmCommandLine.RunAsync(
            ["migrate", "receive", "--machine", target.Path, "--listen", "127.0.0.1:0"], new ToolConsole(output, new ClosedTerminal()), interruption.Token);

        Assert.Equal(ExitStatus.Difference, status);
        Assert.Contains("aborted: Cancelled, it was cancelled\n", output.ToString(), StringComparison.Ordinal);
    }

    // Each row of the page that says what an operator does.
    [Theory]
    [InlineData(RelayEnding.Running, MigrationRole.Source, 7, 7, null, "", "throw the source's VM away")]
    [InlineData(RelayEnding.Aborted, MigrationRole.Source, 8, 8, null, "", "nothing; ")]
    [InlineData(RelayEnding.Unreleased, MigrationRole.Source, 6, 6, "f", "", "bring f to the target's host: ")]
    [InlineData(RelayEnding.Unreleased, MigrationRole.Source, 6, 0, "f", "", "bring f to the target's host: ")]
    [InlineData(RelayEnding.Unreleased, MigrationRole.Source, 6, 6, null, "", "leave both VMs alone")]
    [InlineData(RelayEnding.Unreleased, MigrationRole.Source, 6, 7, "f", "", "see whether the target runs; if so, throw the source's VM away; if not, bring f ")]
    [InlineData(RelayEnding.Unreleased, MigrationRole.Source, 6, 7, null, "", "see whether the target runs; if so, throw the source's VM away; if not, start both")]
    [InlineData(RelayEnding.Unreleased, MigrationRole.Source, 6, 8, "f", "", "see whether the target still runs")]
    [InlineData(RelayEnding.Unreleased, MigrationRole.Source, 6, 6, "f", "SVSM7102: gone", "see whether the target still runs")]
    [InlineData(RelayEnding.Unreleased, MigrationRole.Target, 6, 6, null, "", "give the target the sender's file: svsm migrate receive --machine m ")]
    [InlineData(RelayEnding.Unreleased, MigrationRole.Target, 5, 6, null, "", "see what the sender says")]
    [InlineData(RelayEnding.Unreleased, MigrationRole.Target, 0, 4, "f", "", "give the socket of the target")]
    public void Explain_EachRow_SaysWhatToDo(RelayEnding ending, MigrationRole role, int source, int target, string? file, string words, string action)
    {
        RelayOutcome outcome = Ended(ending, source, target, file, words);

        Assert.StartsWith(action, MigrateCommand.Explain(outcome, role, "m").Action, StringComparison.Ordinal);
    }

    // What is known is not said with "may".
    [Theory]
    [InlineData(MigrationRole.Source, 6, 6, null, "the source has given up; the release is not here")]
    [InlineData(MigrationRole.Source, 5, 6, null, "the source has given up, or may have; the release is not here")]
    [InlineData(MigrationRole.Target, 6, 6, null, "it is whole at the target, and waits for its release")]
    [InlineData(MigrationRole.Target, 0, 6, "f", "it is whole at the target, and waits for its release")]
    [InlineData(MigrationRole.Target, 5, 6, null, "it is whole at the target, and waits for its release, if the source has given up")]
    public void Explain_Unreleased_SaysWhatIsKnown(MigrationRole role, int source, int target, string? file, string guest) =>
        Assert.Equal(guest, MigrateCommand.Explain(Ended(RelayEnding.Unreleased, source, target, file), role, "m").Guest);

    [Fact]
    public void Explain_SourceMachineGone_DoesNotSayThatTheGuestRuns()
    {
        RelayOutcome outcome = Ended(RelayEnding.Aborted, 4, 4, null) with { Failure = SvsmDiagnostics.MigrationMachineGone.Error("a", "b") };

        Assert.StartsWith("it was at the source", MigrateCommand.Explain(outcome, MigrationRole.Source, "m").Guest, StringComparison.Ordinal);
    }

    [Fact]
    public void Meaning_EachReason_IsAnotherOne() =>
        Assert.Equal(Enum.GetValues<MigrationReason>().Length, Enum.GetValues<MigrationReason>().Select(MigrateCommand.Meaning).Distinct().Count());

    private static RelayOutcome Ended(RelayEnding ending, int source, int target, string? file, string words = "") => new()
    {
        Ending = ending,
        Source = (MigrationState)source,
        Target = (MigrationState)target,
        Reason = MigrationReason.None,
        PeerWords = words,
        Pages = 0,
        Rounds = 0,
        PagesOfRest = 0,
        BytesSent = 0,
        BytesReceived = 0,
        Elapsed = default,
        Reconnections = 0,
        ReleaseFile = file,
    };

    private async Task<(Outcome Sent, Outcome Received)> MoveAsync(Machine source, Machine target, params string[] options)
    {
        var error = new Log();
        var output = new StringWriter();
        Task<int> receive = Task.Run(() => SvsmCommandLine.RunAsync(
            ["migrate", "receive", "--machine", target.Path, "--listen", "127.0.0.1:0", .. options],
            new ToolConsole(output, error),
            TestContext.Current.CancellationToken));
        Match address;
        while (!(address = Regex.Match(error.ToString(), @"waiting for a sender on (\S+)\n")).Success)
        {
            Assert.False(receive.IsCompleted);
            await Task.Yield();
        }

        Outcome sent = await Run(["migrate", "send", "--machine", source.Path, "--to", address.Groups[1].Value, "--release", At("release"), .. options]);
        return (sent, new Outcome(await receive, output.ToString(), error.ToString()));
    }

    // A target whose relay is interrupted when it has begun.
    private Machine Interrupting(CancellationTokenSource interruption) => new(At("target"), (frame, say) =>
    {
        if (frame is [3, 1, 2])
        {
            say(Notice(MigrationState.Greeting));
            interruption.Cancel();
        }
        else if (frame is [3, 2])
        {
            say(Notice(MigrationState.Aborted, MigrationReason.Cancelled));
        }
    });

    private Machine Source(bool gives) => new(At("source"), (frame, say) =>
    {
        switch (frame)
        {
            // It is as fast as it is short.
            case [3, 1, 1]:
                say(Notice(MigrationState.Copying));
                say(Frame(2, [.. new byte[4], 7, .. new byte[80]]));
                break;
            case [2, _, _, _, _, 0x43, ..]:
                say(Notice(MigrationState.Rest));
                say(Frame(2, s_release));
                say(Notice(MigrationState.HandedOver));
                break;
            case [4, 1] when gives:
                say(Frame(4, [0x81, 1, 2, 3]));
                say(Frame(4, [0x82, 3, .. new byte[7], .. SHA256.HashData([1, 2, 3])]));
                break;
            case [2, _, _, _, _, 0x44, ..]:
                say(Notice(MigrationState.Ended));
                break;
            default:
                break;
        }
    });

    private Machine Target(bool takes)
    {
        bool isHeld = false;
        bool isFirst = true;
        return new(At("target"), (frame, say) =>
        {
            switch (frame)
            {
                // The file comes to one that holds its guest.
                case [3, 1, 2]:
                    isHeld = File.Exists(At("release"));
                    say(Notice(isHeld ? MigrationState.HandedOver : MigrationState.Greeting));
                    break;
                case [3, 2]:
                    say(Notice(MigrationState.Aborted, MigrationReason.Cancelled));
                    break;
                case [2, _, _, _, _, 7, ..] when isFirst:
                    isFirst = false;
                    say(Notice(MigrationState.Copying));
                    say(Notice(MigrationState.HandedOver));
                    say(Frame(2, [.. new byte[4], 0x43, .. new byte[80]]));
                    break;
                case [4, 0x82, ..]:
                    say(takes ? Frame(4, [0x83]) : Frame(4, [0x84, (byte)'n', (byte)'o']));
                    break;
                case [2, _, _, _, _, 8, ..]:
                    say(Frame(2, s_running));
                    say(Notice(MigrationState.Ended));
                    break;
                default:
                    break;
            }
        });
    }

    private static byte[] Notice(MigrationState state, MigrationReason reason = MigrationReason.None)
    {
        byte[] notice = new byte[32];
        (notice[0], notice[1], notice[2]) = (0x81, (byte)state, (byte)reason);
        BinaryPrimitives.WriteInt32LittleEndian(notice.AsSpan(0x04), 1000);
        BinaryPrimitives.WriteInt32LittleEndian(notice.AsSpan(0x0C), 24);
        BinaryPrimitives.WriteInt32LittleEndian(notice.AsSpan(0x14), 3);
        return Frame(3, notice);
    }

    private static byte[] Frame(byte kind, byte[] contents) => [.. BitConverter.GetBytes(contents.Length), kind, 0, 0, 0, .. contents];

    private static string Text(JsonElement json, string name) => json.GetProperty(name).GetString()!;

    // A machine that answers frames: kind and contents. One relay.
    private sealed class Machine : IAsyncDisposable
    {
        private readonly Socket _listener = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        private readonly CancellationTokenSource _end = new();
        private readonly Task _running;

        public Machine(string path, Action<byte[], Action<byte[]>> answer)
        {
            Path = path;
            _listener.Bind(new UnixDomainSocketEndPoint(path));
            _listener.Listen();
            _running = RunAsync(answer);
        }

        public string Path { get; }

        public async ValueTask DisposeAsync()
        {
            await _end.CancelAsync();
            await _running;
            _listener.Dispose();
            _end.Dispose();
            File.Delete(Path);
        }

        private async Task RunAsync(Action<byte[], Action<byte[]>> answer)
        {
            try
            {
                using Socket relay = await _listener.AcceptAsync(_end.Token);
                using var stream = new NetworkStream(relay);
                byte[] head = new byte[8];
                while (true)
                {
                    await stream.ReadExactlyAsync(head, _end.Token);
                    byte[] contents = new byte[BinaryPrimitives.ReadInt32LittleEndian(head)];
                    await stream.ReadExactlyAsync(contents, _end.Token);
                    var said = new List<byte[]>();
                    answer([head[4], .. contents], said.Add);
                    foreach (byte[] bytes in said)
                    {
                        await stream.WriteAsync(bytes, _end.Token);
                    }
                }
            }
            catch (Exception e) when (e is IOException or OperationCanceledException)
            {
                // The relay has gone, or the test is over.
            }
        }
    }

    private sealed class ClosedTerminal : TextWriter
    {
        public override Encoding Encoding => Encoding.UTF8;

        public override void Write(char value) => throw new IOException("Input/output error");
    }

    // Written by the one that receives, on any thread, read by the test.
    private sealed class Log : StringWriter
    {
        private readonly Lock _lock = new();

        public Log() => NewLine = "\n";

        public override void WriteLine(string? value)
        {
            lock (_lock)
            {
                base.WriteLine(value);
            }
        }

        public override string ToString()
        {
            lock (_lock)
            {
                return base.ToString();
            }
        }
    }
}
