// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.IO;
using System.Text.Json;
using System.Threading;
using System.Threading.Tasks;
using Svsm.Simulator.Shared;
using Xunit;

namespace Svsm.Simulator.Tests;

public sealed class RunCommandTests : IDisposable
{
    private readonly StringWriter _output = new() { NewLine = "\n" };
    private readonly StringWriter _error = new() { NewLine = "\n" };

    public void Dispose()
    {
        _output.Dispose();
        _error.Dispose();
    }

    [Theory]
    [InlineData(StopReason.GuestExit, 0, 0)]
    [InlineData(StopReason.GuestExit, 255, 255)]
    [InlineData(StopReason.Terminate, 0x10, RunExitStatus.Terminated)]
    [InlineData(StopReason.Violation, 1, RunExitStatus.Violation)]
    [InlineData(StopReason.Shutdown, 0, RunExitStatus.Shutdown)]
    [InlineData(StopReason.Reset, 0xCF9, RunExitStatus.Reset)]
    [InlineData(StopReason.PowerOff, 0, RunExitStatus.PowerOff)]
    [InlineData(StopReason.HypervisorFault, 0, RunExitStatus.Simulator)]
    [InlineData(StopReason.BadLaunch, 0, RunExitStatus.Simulator)]
    public async Task RunAsync_End_GivesStatus(StopReason reason, ulong detail, int status)
    {
        using FakeQemu qemu = Ending(reason, detail);

        Assert.Equal(status, await RunAsync(new RunCommand { Machine = qemu.Options }));
        Assert.Equal(reason == StopReason.GuestExit, !_error.ToString().Contains(ResultText.Headline(Ended(reason, detail)), StringComparison.Ordinal));
    }

    [Fact]
    public async Task RunAsync_ConsoleAndEnd_GoTheirWays()
    {
        using FakeQemu qemu = Ending(StopReason.Shutdown, 0);

        await RunAsync(new RunCommand { Machine = qemu.Options });

        Assert.Equal("[vmpl0] hello\n", _output.ToString());
        Assert.Matches(
            @"^\[host\] launch: 7 pages, digest [0-9a-f]{96}\n\[host\] QEMU 9\.1\.0 starts: 1 vCPU, 256 MiB\n\[host\] the hypervisor runs; VMPL0 starts\n" +
            @"The vCPU shut down \(triple fault\)\.\nSummary\n  violations  none\n",
            _error.ToString());
    }

    [Theory]
    [InlineData("0x00", "host data '0x00'")]
    [InlineData("0011", "host data of 2 bytes")]
    public async Task RunAsync_HostDataThatIsNone_IsRefused(string data, string seen)
    {
        using FakeQemu qemu = Ending(StopReason.GuestExit, 0);

        Assert.Equal(RunExitStatus.Usage, await RunAsync(new RunCommand { Machine = qemu.Options, HostData = data }));
        Assert.Contains(seen, _error.ToString(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task RunAsync_Json_IsAllOfTheOutput()
    {
        using FakeQemu qemu = Ending(StopReason.GuestExit, 5);

        int status = await RunAsync(new RunCommand { Machine = qemu.Options, Json = true });

        Assert.Equal(5, status);
        using JsonDocument json = JsonDocument.Parse(_output.ToString());
        Assert.Equal(5, json.RootElement.GetProperty("exitStatus").GetInt32());
        Assert.EndsWith("\n[vmpl0] hello\n", _error.ToString(), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(StopReason.Violation, 3, 0)]
    [InlineData(StopReason.Violation, 4, RunExitStatus.NoViolation)]
    [InlineData(StopReason.GuestExit, 0, RunExitStatus.NoViolation)]
    [InlineData(StopReason.Shutdown, 3, RunExitStatus.NoViolation)]
    public async Task RunAsync_ExpectedViolation_TurnsStatusAround(StopReason reason, ulong detail, int status)
    {
        using FakeQemu qemu = Ending(reason, detail);

        Assert.Equal(status, await RunAsync(new RunCommand { Machine = qemu.Options, ExpectedViolation = ViolationKind.VmplPermission }));
        Assert.Equal(status != 0, _error.ToString().Contains("VmplPermission was expected", StringComparison.Ordinal));
    }

    [Fact]
    public async Task RunAsync_Digest_IsChecked()
    {
        using FakeQemu qemu = Ending(StopReason.GuestExit, 0);

        Assert.Equal(0, await RunAsync(new RunCommand { Machine = qemu.Options, Digest = TestImage.Digest }));
        Assert.Equal(RunExitStatus.Refused, await RunAsync(new RunCommand { Machine = qemu.Options, Digest = new string('0', 96) }));
        Assert.Contains("\nerror SVSM6004: ", _error.ToString(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task RunAsync_Errors_GiveStatusAndCode()
    {
        using FakeQemu qemu = Ending(StopReason.GuestExit, 0);

        Assert.Equal(RunExitStatus.Usage, await RunAsync(new RunCommand { Machine = qemu.Options with { VcpuCount = 0 } }));
        Assert.Equal(RunExitStatus.Qemu, await RunAsync(new RunCommand { Machine = qemu.Options with { QemuPath = "no-such-program" } }));
        Assert.Equal(RunExitStatus.Qemu, await RunAsync(new RunCommand { Machine = qemu.Options with { QemuPath = FakeQemu.Script("old-qemu.sh") } }));
        Assert.Equal(RunExitStatus.Refused, await RunAsync(new RunCommand { Machine = qemu.Options with { ImagePath = "no-such-file" } }));
        Assert.Equal(4, _error.ToString().Split("error SVSM60").Length - 1);
    }

    [Fact]
    public async Task RunAsync_UnknownAttack_IsAUsageError()
    {
        using FakeQemu qemu = Ending(StopReason.GuestExit, 0);

        Assert.Equal(RunExitStatus.Usage, await RunAsync(new RunCommand { Machine = qemu.Options, Attacks = ["remap:seven"] }));
        Assert.StartsWith("error SVSM6020: ", _error.ToString(), StringComparison.Ordinal);
        Assert.Contains("remap, replay", _error.ToString(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task RunAsync_ChannelOfAMigration_IsMadeForTheRun()
    {
        using FakeQemu qemu = Ending(StopReason.GuestExit, 0);
        DirectoryInfo folder = Directory.CreateTempSubdirectory("svsm-test-");
        string path = Path.Combine(folder.FullName, "channel");

        Assert.Equal(0, await RunAsync(new RunCommand { Machine = qemu.Options, MigrationSource = path }));
        Assert.Equal(0, await RunAsync(new RunCommand { Machine = qemu.Options, MigrationTarget = path }));
        Assert.Empty(folder.GetFileSystemInfos());
        await File.WriteAllTextAsync(path, "x", TestContext.Current.CancellationToken);
        Assert.Equal(RunExitStatus.Usage, await RunAsync(new RunCommand { Machine = qemu.Options, MigrationTarget = path }));
        Assert.Equal(RunExitStatus.Usage, await RunAsync(new RunCommand { Machine = qemu.Options, MigrationSource = "a", MigrationTarget = "b" }));
        Assert.Equal(2, _error.ToString().Split("error SVSM6007").Length - 1);
        folder.Delete(recursive: true);
    }

    [Fact]
    public async Task RunAsync_QemuFails_GivesStatus()
    {
        using var qemu = new FakeQemu("exit 1");

        Assert.Equal(RunExitStatus.Qemu, await RunAsync(new RunCommand { Machine = qemu.Options }));
    }

    [Fact]
    public async Task RunAsync_Timeout_GivesStatus()
    {
        using var qemu = new FakeQemu("exec tail -f /dev/null");

        Assert.Equal(RunExitStatus.Timeout, await RunAsync(new RunCommand { Machine = qemu.Options with { Timeout = TimeSpan.FromMilliseconds(50) } }));
    }

    [Fact]
    public async Task RunAsync_Cancelled_GivesStatus()
    {
        using var qemu = new FakeQemu("exec tail -f /dev/null");
        using var cancellation = new CancellationTokenSource();
        cancellation.Cancel();

        Assert.Equal(RunExitStatus.Interrupted, await new RunCommand { Machine = qemu.Options }.RunAsync(_output, _error, cancellation.Token));
    }

    [Theory]
    [InlineData(0.5, 500)]
    [InlineData(0, 0)]
    [InlineData(-1, 0)]
    [InlineData(double.NaN, 0)]
    [InlineData(double.PositiveInfinity, 0)]
    [InlineData(1e300, 0)]
    public void ParseTimeout_Seconds_GivesTimeOrZero(double seconds, double milliseconds) =>
        Assert.Equal(milliseconds, RunCommand.ParseTimeout(seconds).TotalMilliseconds);

    private static MachineResult Ended(StopReason reason, ulong detail) => new() { Stop = (MachineStop)reason, Detail = detail, LaunchDigest = new byte[48] };

    private static FakeQemu Ending(StopReason reason, ulong detail) =>
        new("cat \"$here/frames\"", Frames.Hello, Frames.Console(0, 0, "hello\n"), Frames.Exit(reason, detail));

    private Task<int> RunAsync(RunCommand command) => command.RunAsync(_output, _error, TestContext.Current.CancellationToken);
}
