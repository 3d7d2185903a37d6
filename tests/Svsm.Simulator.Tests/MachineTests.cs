// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.IO;
using System.Linq;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Text;
using System.Threading;
using System.Threading.Tasks;
using Svsm.Diagnostics;
using Svsm.Simulator.Shared;
using Xunit;

namespace Svsm.Simulator.Tests;

public sealed class MachineTests
{
    // A process that does not end by itself, with a child that holds the output open.
    private const string Hang = "echo $$ > \"$here/pid\"; tail -f /dev/null & echo $! > \"$here/child\"; cat \"$here/frames\"; wait";

    [Fact]
    public async Task RunAsync_GuestExit_HasStatusConsoleAndDigest()
    {
        using var qemu = new FakeQemu(
            "cat \"$here/frames\"; exit 9",
            Frames.Hello, Frames.Console(0, 0, "SVSM\n"), Frames.Console(0, 2, "guest"), Frames.Statistics(new VmplStatistics { Ticks = 5 }), Frames.Exit(StopReason.GuestExit, 17));
        var output = new StringWriter { NewLine = "\n" };

        MachineResult result = await RunAsync(qemu.Options with { Output = output });

        Assert.Equal(MachineStop.GuestExit, result.Stop);
        Assert.Equal(17, result.ExitStatus);
        Assert.Equal(ViolationKind.None, result.Violation);
        Assert.Equal(TestImage.Digest, Convert.ToHexStringLower(result.LaunchDigest.Span));
        Assert.Equal("SVSM\n", result.ConsoleText(0));
        Assert.Equal("guest", result.ConsoleText(2));
        Assert.Equal("[vmpl0] SVSM\n[vmpl2] guest\n", output.ToString());
        Assert.Equal(5ul, Assert.Single(result.Statistics).Ticks);
        Assert.False(Directory.Exists(qemu.WorkingFolder));
    }

    [Fact]
    public async Task RunAsync_Qemu_GetsMachineAndLaunch()
    {
        using var qemu = new FakeQemu("cat launch > \"$here/blob\"; cat \"$here/frames\"", Frames.Hello, Frames.Exit(StopReason.GuestExit, 0));

        await RunAsync(qemu.Options with { VcpuCount = 3, MemoryMiB = 512, CountInstructions = true });

        string arguments = qemu.Read("arguments");
        Assert.Contains("-smp 1 ", arguments, StringComparison.Ordinal);
        Assert.Contains("-m 1161M ", arguments, StringComparison.Ordinal);
        Assert.Contains("-initrd launch", arguments, StringComparison.Ordinal);
        Assert.EndsWith("-icount shift=0,sleep=off -seed 0", arguments, StringComparison.Ordinal);
        byte[] blob = File.ReadAllBytes(qemu.Path("blob"));
        Assert.Equal(3u, System.Runtime.InteropServices.MemoryMarshal.Read<LaunchHeader>(blob).VcpuCount);
    }

    [Fact]
    public async Task RunAsync_Threads_HaveAProcessorEach_AndNotTheFirst()
    {
        using var qemu = new FakeQemu("cat launch > \"$here/blob\"; cat \"$here/frames\"", Frames.Hello, Frames.Exit(StopReason.GuestExit, 0));

        await RunAsync(qemu.Options with { VcpuCount = 3, Threads = true });

        string arguments = qemu.Read("arguments");
        Assert.Contains("-smp 4 ", arguments, StringComparison.Ordinal);
        Assert.Contains("-accel tcg,thread=multi ", arguments, StringComparison.Ordinal);
        byte[] blob = File.ReadAllBytes(qemu.Path("blob"));
        Assert.Equal(LaunchOptions.Threads, System.Runtime.InteropServices.MemoryMarshal.Read<LaunchHeader>(blob).Options & (LaunchOptions.Threads | LaunchOptions.DrawTurns));
    }

    [Fact]
    public async Task RunAsync_TurnSeed_IsHandedOver()
    {
        using var qemu = new FakeQemu("cat launch > \"$here/blob\"; cat \"$here/frames\"", Frames.Hello, Frames.Exit(StopReason.GuestExit, 0));

        await RunAsync(qemu.Options with { VcpuCount = 2, TurnSeed = 0x1234_5678_9ABC });

        LaunchHeader header = System.Runtime.InteropServices.MemoryMarshal.Read<LaunchHeader>(File.ReadAllBytes(qemu.Path("blob")));
        Assert.Equal((LaunchOptions.DrawTurns, 0x1234_5678_9ABCul), (header.Options & (LaunchOptions.Threads | LaunchOptions.DrawTurns), header.TurnSeed));
    }

    [Fact]
    public async Task RunAsync_Violation_HasReport()
    {
        using var qemu = new FakeQemu(
            "cat \"$here/frames\"", Frames.Hello, Frames.Report(new StopReport { Rip = 0x1234 }), Frames.Exit(StopReason.Violation, (ulong)ViolationKind.HaltForever));

        MachineResult result = await RunAsync(qemu.Options);

        Assert.Equal(ViolationKind.HaltForever, result.Violation);
        Assert.Null(result.ExitStatus);
        Assert.Equal(0x1234ul, result.Report!.Value.Rip);
    }

    [Fact]
    public async Task RunAsync_GuestRequest_IsAnswered()
    {
        // 8 bytes of Hello, 4108 of the request; the answer is a frame of 16 bytes: refused by the firmware.
        using var qemu = new FakeQemu(
            "head -c 4116 \"$here/frames\"; head -c 20 > \"$here/answer\"; tail -c +4117 \"$here/frames\"",
            Frames.Hello, Frames.GuestRequest(Link.NoCertificates, new byte[4096]), Frames.Exit(StopReason.GuestExit, 3));

        MachineResult result = await RunAsync(qemu.Options with { ChipFolder = qemu.Path("chip") });

        Assert.Equal(3, result.ExitStatus);
        Assert.Equal(Frames.Frame(LinkFrame.GuestResponse, [0x16, .. new byte[15]]), File.ReadAllBytes(qemu.Path("answer")));

        // No key of the chip was needed, so none was made.
        Assert.False(Directory.Exists(qemu.Path("chip")));
    }

    // The guest is held, its state refused, and the run over before the guest is let go: whoever waits to hold it hears of that.
    [Fact]
    public async Task SaveHostState_RunEndsMeanwhile_LeavesNobodyWaiting()
    {
        const int Status = 2 * sizeof(uint);
        byte[] held = Frames.Frame(LinkFrame.CommandDone, [(byte)CommandKind.Hold, 0, 0, 0, 0, 0, 0, 0]);
        byte[] refused = Frames.Frame(LinkFrame.CommandDone, new byte[Status + Unsafe.SizeOf<HostStateAnswer>()]);
        refused[Link.HeaderLength] = (byte)CommandKind.SaveModel;
        refused[Link.HeaderLength + sizeof(uint)] = 1;
        var answer = new HostStateAnswer { Refusal = HostStateRefusal.GuestRuns };
        MemoryMarshal.Write(refused.AsSpan(Link.HeaderLength + Status), in answer);
        int command = Link.HeaderLength + Unsafe.SizeOf<CommandHeader>();

        // Commands wait for the check of the CPUID page as well.
        byte[] page = Frames.Frame(LinkFrame.CpuidPage, TestImage.MakeCpuidPage(2));
        int first = Frames.Hello.Length + page.Length;
        int second = first + held.Length;
        int third = second + refused.Length;
        using var qemu = new FakeQemu(
            $"""
            head -c {first} "$here/frames"; head -c {page.Length + command} > /dev/null
            head -c {second} "$here/frames" | tail -c {held.Length}; head -c {command} > /dev/null
            head -c {third} "$here/frames" | tail -c {refused.Length}; head -c {command} > /dev/null
            tail -c +{third + 1} "$here/frames"
            """,
            Frames.Hello, page, held, refused, Frames.Exit(StopReason.GuestExit, 3));
        MachineOptions options = qemu.Options with { Migration = new MachineMigration(MigrationRole.Source, qemu.Path("channel")) };
        await using MachineTest machine = await MachineTest.StartAsync(options, TestContext.Current.CancellationToken);
        Task[] callers = [machine.SaveHostStateAsync(), machine.SaveHostStateAsync()];

        foreach (Task caller in callers)
        {
            await Assert.ThrowsAsync<InvalidOperationException>(() => caller);
        }

        Assert.Equal(3, (await machine.WaitForEndAsync()).ExitStatus);
    }

    [Fact]
    public async Task RunAsync_CpuidPage_IsCheckedAndSentBack()
    {
        byte[] page = TestImage.MakeCpuidPage(2);
        byte[] frame = Frames.Frame(LinkFrame.CpuidPage, page);
        using var qemu = new FakeQemu(
            "head -c 4108 \"$here/frames\"; head -c 4100 > \"$here/answer\"; tail -c +4109 \"$here/frames\"", Frames.Hello, frame, Frames.Exit(StopReason.GuestExit, 3));

        Assert.Equal(3, (await RunAsync(qemu.Options)).ExitStatus);

        Assert.Equal(frame, File.ReadAllBytes(qemu.Path("answer")));
    }

    // Index 1 of function 7, which has no EBX.
    [Theory]
    [InlineData(16 + 28, "function 0x7 index 0x1: EAX 0x00000000, EBX 0x00000007")]
    [InlineData(16 + 40, "reserved bytes")]
    [InlineData(4, "malformed")]
    public async Task RunAsync_CpuidPageBeyondThePolicy_IsRefused(int offset, string message)
    {
        byte[] page = new byte[4096];
        page[0] = 1;
        page[16] = 7;
        page[20] = 1;
        page[offset] = 7;
        using var qemu = new FakeQemu("cat \"$here/frames\"; cat > /dev/null", Frames.Hello, Frames.Frame(LinkFrame.CpuidPage, page));

        var error = await Assert.ThrowsAsync<SvsmDiagnosticException>(() => RunAsync(qemu.Options));

        Assert.Same(SvsmDiagnostics.LaunchRefused, error.Diagnostic);
        Assert.Contains(message, error.Message, StringComparison.Ordinal);
        Assert.False(Directory.Exists(qemu.WorkingFolder));
    }

    [Fact]
    public async Task RunAsync_ChipUnusable_IsError()
    {
        byte[] page = new byte[4096];
        using var qemu = new FakeQemu("cat \"$here/frames\"; cat > /dev/null", Frames.Hello, Frames.GuestRequest(0, page));
        Directory.CreateDirectory(qemu.Path("chip"));

        var error = await Assert.ThrowsAsync<SvsmDiagnosticException>(() => RunAsync(qemu.Options with { ChipFolder = qemu.Path("chip") }));

        Assert.Same(SvsmDiagnostics.RunFileUnreadable, error.Diagnostic);
        Assert.False(Directory.Exists(qemu.WorkingFolder));
    }

    [Fact]
    public async Task RunAsync_TwoGuestRequestsAtOnce_BreakTheLink()
    {
        byte[] request = Frames.GuestRequest(Link.NoCertificates, new byte[4096]);
        using var qemu = new FakeQemu("cat \"$here/frames\"; cat > /dev/null", Frames.Hello, [.. request, .. request]);

        MachineResult result = await RunAsync(qemu.Options);

        Assert.Equal(MachineStop.LinkBroken, result.Stop);
    }

    [Fact]
    public async Task RunAsync_MapBesideImage_IsUsed()
    {
        using var qemu = new FakeQemu("cat \"$here/frames\"", Frames.Hello, Frames.Console(0, 0, "  at 0x10004\n"), Frames.Exit(StopReason.GuestExit, 0));
        File.WriteAllText(qemu.Path("image.map"), "0x00010000 boot\n");

        MachineResult result = await RunAsync(qemu.Options);

        Assert.Equal("  at 0x10004 boot + 0x4\n", result.ConsoleText(0));
    }

    [Fact]
    public async Task RunAsync_FirstFrame_RemovesLaunchFile()
    {
        using var qemu = new FakeQemu(
            "test -e launch && touch \"$here/seen\"; head -c 8 \"$here/frames\"; while [ -e launch ]; do :; done; tail -c +9 \"$here/frames\"",
            Frames.Hello, Frames.Exit(StopReason.GuestExit, 0));

        MachineResult result = await RunAsync(qemu.Options);

        Assert.Equal(MachineStop.GuestExit, result.Stop);
        Assert.True(File.Exists(qemu.Path("seen")));
    }

    [Fact]
    public async Task RunAsync_QemuHangsAfterExit_IsKilled()
    {
        using var qemu = new FakeQemu(Hang, Frames.Hello, Frames.Exit(StopReason.GuestExit, 1));

        MachineResult result = await RunAsync(qemu.Options);

        Assert.Equal(1, result.ExitStatus);
        await AssertGoneAsync(qemu);
    }

    [Fact]
    public async Task RunAsync_Timeout_KillsQemu()
    {
        using var qemu = new FakeQemu(Hang, Frames.Hello, Frames.Console(0, 0, "ready\nunfinished"));
        var time = new ManualTime();

        MachineResult result = await RunAsync(qemu.Options with { TimeProvider = time, Output = new ActingWriter(time.RunOut) });

        Assert.Equal(MachineStop.Timeout, result.Stop);
        Assert.Equal("ready\nunfinished", result.ConsoleText(0));
        await AssertGoneAsync(qemu);
    }

    [Fact]
    public async Task RunAsync_Cancelled_LeavesNothing()
    {
        using var qemu = new FakeQemu(Hang, Frames.Hello, Frames.Console(0, 0, "ready\n"));
        using var cancellation = new CancellationTokenSource();

        await Assert.ThrowsAnyAsync<OperationCanceledException>(
            () => Machine.RunAsync(qemu.Options with { Output = new ActingWriter(cancellation.Cancel) }, cancellation.Token));

        await AssertGoneAsync(qemu);
    }

    [Fact]
    public async Task RunAsync_QemuEndsByTheSameCtrlC_IsCancelled()
    {
        using var qemu = new FakeQemu("cat \"$here/frames\"", Frames.Hello, Frames.Console(0, 0, "ready\n"));
        using var cancellation = new CancellationTokenSource();

        await Assert.ThrowsAnyAsync<OperationCanceledException>(
            () => Machine.RunAsync(qemu.Options with { Output = new ActingWriter(cancellation.Cancel) }, cancellation.Token));

        Assert.False(Directory.Exists(qemu.WorkingFolder));
    }

    // QEMU has noticed Ctrl-C and is gone; this process notices it only while it waits for that.
    [Theory]
    [InlineData("exec env --default-signal=INT sh -c 'kill -INT $$'")]
    [InlineData("echo 'qemu: terminating on signal 2' >&2")]
    public async Task RunAsync_QemuIsInterruptedFirst_IsCancelled(string script)
    {
        using var qemu = new FakeQemu(script);
        using var cancellation = new CancellationTokenSource();
        var time = new ManualTime();
        time.OnSecondTimer = cancellation.Cancel;

        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => Machine.RunAsync(qemu.Options with { TimeProvider = time }, cancellation.Token));

        Assert.False(Directory.Exists(qemu.WorkingFolder));
    }

    [Fact]
    public async Task RunAsync_QemuDies_SaysWhatItSaid()
    {
        using var qemu = new FakeQemu("echo 'qemu: no such machine' >&2; exit 3");

        MachineResult result = await RunAsync(qemu.Options);

        Assert.Equal(MachineStop.QemuFailed, result.Stop);
        Assert.Equal("QEMU ended with status 3 before the hypervisor reported an end.\nqemu: no such machine", result.Message);
    }

    [Fact]
    public async Task RunAsync_QemuDiesInFrame_SaysSo()
    {
        using var qemu = new FakeQemu("echo Booting; head -c 6 \"$here/frames\"", Frames.Hello);

        MachineResult result = await RunAsync(qemu.Options);

        Assert.Equal("QEMU ended with status 0 in the middle of a frame.\nIts output began with:\nBooting", result.Message);
    }

    [Fact]
    public async Task RunAsync_Garbage_BreaksTheLink()
    {
        using var qemu = new FakeQemu("cat \"$here/frames\"; echo garbage; " + Hang, Frames.Hello);

        MachineResult result = await RunAsync(qemu.Options);

        Assert.Equal(MachineStop.LinkBroken, result.Stop);
        Assert.Contains("0x67", result.Message, StringComparison.Ordinal);
        await AssertGoneAsync(qemu);
    }

    [Fact]
    public async Task RunAsync_MuchOutputAndManyMessages_DoNotBlock()
    {
        byte[] line = Frames.Console(0, 2, new string('x', 4000) + "\n");
        using var qemu = new FakeQemu(
            "head -c 3000000 /dev/zero >&2; cat \"$here/frames\"",
            [Frames.Hello, .. Enumerable.Repeat(line, 1000), Frames.Exit(StopReason.GuestExit, 0)]);

        MachineResult result = await RunAsync(qemu.Options);

        Assert.Equal(1000, result.Console.Length);
        Assert.Equal(0, result.ExitStatus);
    }

    [Fact]
    public async Task RunAsync_DigestMismatch_DoesNotStart()
    {
        using var qemu = new FakeQemu("exit 0");

        var error = await Assert.ThrowsAsync<SvsmDiagnosticException>(() => RunAsync(qemu.Options with { ExpectedDigest = new byte[48] }));

        Assert.Same(SvsmDiagnostics.LaunchDigestMismatch, error.Diagnostic);
        Assert.Contains(TestImage.Digest, error.Message, StringComparison.Ordinal);
        Assert.False(File.Exists(qemu.Path("arguments")));
    }

    [Fact]
    public async Task RunAsync_NoDigest_IsAnArgumentError()
    {
        using var qemu = new FakeQemu("exit 0");

        await Assert.ThrowsAsync<ArgumentException>(() => RunAsync(qemu.Options with { ExpectedDigest = ReadOnlyMemory<byte>.Empty }));
    }

    [Fact]
    public async Task RunAsync_RightDigest_Starts()
    {
        using var qemu = new FakeQemu("cat \"$here/frames\"", Frames.Hello, Frames.Exit(StopReason.GuestExit, 0));

        MachineResult result = await RunAsync(qemu.Options with { ExpectedDigest = Convert.FromHexString(TestImage.Digest) });

        Assert.Equal(0, result.ExitStatus);
    }

    [Fact]
    public async Task RunAsync_BadOptions_AreRefused()
    {
        using var qemu = new FakeQemu("exit 0");
        MachineOptions options = qemu.Options;

        await RefusedAsync(options with { ReportVersion = 4 }, SvsmDiagnostics.RunOptionInvalid, "report version 4");
        await RefusedAsync(options with { Threads = true, CountInstructions = true }, SvsmDiagnostics.RunOptionInvalid, "threads together with");
        await RefusedAsync(options with { Threads = true, TurnSeed = 1 }, SvsmDiagnostics.RunOptionInvalid, "threads together with");
        await RefusedAsync(options with { Threads = true, GdbPort = 0 }, SvsmDiagnostics.RunOptionInvalid, "threads together with");
        await RefusedAsync(options with { HostData = new byte[31] }, SvsmDiagnostics.RunOptionInvalid, "host data of 31 bytes");
        await RefusedAsync(options with { VcpuCount = 0 }, SvsmDiagnostics.RunOptionInvalid, "number of vCPUs = 0");
        await RefusedAsync(options with { VcpuCount = 65 }, SvsmDiagnostics.RunOptionInvalid, "number of vCPUs = 65");
        await RefusedAsync(options with { MemoryMiB = 1 }, SvsmDiagnostics.RunOptionInvalid, "guest RAM in MiB = 1");
        await RefusedAsync(options with { MemoryMiB = int.MaxValue }, SvsmDiagnostics.RunOptionInvalid, "guest RAM in MiB");
        await RefusedAsync(options with { Timeout = TimeSpan.Zero }, SvsmDiagnostics.RunOptionInvalid, "timeout 0 s");
        await RefusedAsync(options with { Timeout = TimeSpan.MaxValue }, SvsmDiagnostics.RunOptionInvalid, "timeout");
        await RefusedAsync(options with { ImagePath = qemu.Path("none") }, SvsmDiagnostics.RunFileUnreadable, "the image");
        await RefusedAsync(options with { MapPath = qemu.Path("none") }, SvsmDiagnostics.RunFileUnreadable, "the symbol map");
        await RefusedAsync(options with { HypervisorPath = qemu.Path("none") }, SvsmDiagnostics.RunFileUnreadable, "no hypervisor");
        await RefusedAsync(options with { QemuPath = qemu.Path("none") }, SvsmDiagnostics.QemuMissing, "qemu-system-x86");
        await RefusedAsync(options with { ImagePath = qemu.Path("hypervisor.elf") }, SvsmDiagnostics.ImageRefused, "an IGVM file");
    }

    private static Task<MachineResult> RunAsync(MachineOptions options) => Machine.RunAsync(options, TestContext.Current.CancellationToken);

    private static async Task RefusedAsync(MachineOptions options, SvsmDiagnostic diagnostic, string part)
    {
        var error = await Assert.ThrowsAsync<SvsmDiagnosticException>(() => RunAsync(options));

        Assert.Same(diagnostic, error.Diagnostic);
        Assert.Contains(part, error.Message, StringComparison.Ordinal);
    }

    private static async Task AssertGoneAsync(FakeQemu qemu)
    {
        await qemu.WaitUntilGoneAsync("pid");
        await qemu.WaitUntilGoneAsync("child");
        Assert.False(Directory.Exists(qemu.WorkingFolder));
    }

    // Acts when the first line comes: by then the script runs.
    private sealed class ActingWriter(Action act) : TextWriter
    {
        public override Encoding Encoding => Encoding.UTF8;

        public override void WriteLine(string? value) => act();
    }

    // Time that is up when the test says so.
    private sealed class ManualTime : TimeProvider
    {
        private Action? _runOut;

        /// <summary>Called when a second timer starts; the first one is the timeout.</summary>
        public Action? OnSecondTimer { get; set; }

        public void RunOut() => _runOut!();

        public override ITimer CreateTimer(TimerCallback callback, object? state, TimeSpan dueTime, TimeSpan period)
        {
            if (_runOut is not null)
            {
                OnSecondTimer?.Invoke();
            }

            _runOut = () => callback(state);
            return new Timer();
        }

        private sealed class Timer : ITimer
        {
            public bool Change(TimeSpan dueTime, TimeSpan period) => true;

            public void Dispose()
            {
            }

            public ValueTask DisposeAsync() => ValueTask.CompletedTask;
        }
    }
}
