// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The command "run" of svsm-simulator and of svsm, without the parsing of options: what is printed where, and the exit status.
// docs/simulated-machine.md is its manual.

using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using Svsm.Diagnostics;
using Svsm.Simulator.Shared;

namespace Svsm.Simulator;

/// <summary>Exit statuses of the command. 0 to 63 are free for the guest; it may use the others as well, at the price of clarity.</summary>
public static class RunExitStatus
{
    /// <summary>An option is wrong.</summary>
    public const int Usage = 64;

    /// <summary>Host or security processor refused the image, or a file could not be read.</summary>
    public const int Refused = 65;

    /// <summary>QEMU is missing, too old, or failed.</summary>
    public const int Qemu = 66;

    /// <summary>The guest asked for its termination.</summary>
    public const int Terminated = 67;

    /// <summary>A violation.</summary>
    public const int Violation = 68;

    /// <summary>The vCPU shut down.</summary>
    public const int Shutdown = 69;

    /// <summary>A fault of the simulator.</summary>
    public const int Simulator = 70;

    /// <summary>The expected violation did not happen.</summary>
    public const int NoViolation = 71;

    /// <summary>The guest asked for a reset, which this machine does not do.</summary>
    public const int Reset = 72;

    /// <summary>The host cut the power, as it was told to.</summary>
    public const int PowerOff = 73;

    /// <summary>The time was up; as with timeout(1).</summary>
    public const int Timeout = 124;

    /// <summary>Interrupted; as a shell reports SIGINT.</summary>
    public const int Interrupted = 130;
}

/// <summary>The command <c>run</c>.</summary>
public sealed record RunCommand
{
    /// <summary>What to run. <see cref="MachineOptions.Output"/> is set by the command.</summary>
    public required MachineOptions Machine { get; init; }

    /// <summary>Attacks as the user named them (<see cref="Attack.Parse"/>).</summary>
    public IReadOnlyList<string> Attacks { get; init; } = [];

    /// <summary>Disks as the user named them (<see cref="MachineDisk.Parse"/>).</summary>
    public IReadOnlyList<string> Disks { get; init; } = [];

    /// <summary>The network card as the user described it (<see cref="MachineNetwork.Parse"/>); null = what <see cref="Machine"/> says.</summary>
    public string? Network { get; init; }

    /// <summary>Disks of the SVSM, named likewise.</summary>
    public IReadOnlyList<string> SvsmDisks { get; init; } = [];

    /// <summary>Socket of the source's channel of a migration (<see cref="MachineMigration"/>); null = what <see cref="Machine"/> says.</summary>
    public string? MigrationSource { get; init; }

    /// <summary>Socket of the target's; not together with the other one.</summary>
    public string? MigrationTarget { get; init; }

    /// <summary>The expected launch digest as the user gave it: digits or a file (<see cref="LaunchDigestFile"/>); null = what <see cref="Machine"/> says.</summary>
    public string? Digest { get; init; }

    /// <summary>HOST_DATA of the launch in hexadecimal digits; null = what <see cref="Machine"/> says.</summary>
    public string? HostData { get; init; }

    /// <summary>The run succeeds (status 0) if and only if it ends with this violation.</summary>
    public ViolationKind ExpectedViolation { get; init; }

    /// <summary>The output is one JSON object; console lines go where errors go.</summary>
    public bool Json { get; init; }

    /// <summary>The timeout for a number of seconds.</summary>
    /// <param name="seconds">Seconds as the user gave them.</param>
    /// <returns>The time, or zero, which the machine refuses, for a number that is none or out of range.</returns>
    public static TimeSpan ParseTimeout(double seconds) =>
        seconds > 0 && seconds <= int.MaxValue / 1000 ? TimeSpan.FromSeconds(seconds) : TimeSpan.Zero;

    /// <summary>Runs the command.</summary>
    /// <param name="output">Receives console lines, or the JSON object.</param>
    /// <param name="error">Receives errors and the end of the run, unless that is an ordinary exit of the guest.</param>
    /// <param name="cancellationToken">Ends the run, with status <see cref="RunExitStatus.Interrupted"/>.</param>
    /// <returns>The exit status: the guest's own, or one of <see cref="RunExitStatus"/>.</returns>
    public async Task<int> RunAsync(TextWriter output, TextWriter error, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(output);
        ArgumentNullException.ThrowIfNull(error);
        try
        {
            MachineResult result = await Simulator.Machine.RunAsync(
                Machine with
                {
                    Output = Json ? error : output,
                    Progress = error,
                    Disks = [.. Machine.Disks, .. Disks.Select(MachineDisk.Parse)],
                    SvsmDisks = [.. Machine.SvsmDisks, .. SvsmDisks.Select(MachineDisk.Parse).Select(disk => new SvsmDisk(disk.Path) { ReadOnly = disk.ReadOnly })],
                    Migration = ParseMigration() ?? Machine.Migration,
                    Network = Network is string network ? MachineNetwork.Parse(network) : Machine.Network,
                    HostData = HostData is string data ? ParseHostData(data) : Machine.HostData,
                    Attacks = [.. Machine.Attacks, .. Attacks.Select(Attack.Parse)],
                    ExpectedDigest = Digest is string digest ? LaunchDigestFile.Read(digest) : Machine.ExpectedDigest,
                },
                cancellationToken).ConfigureAwait(false);
            if (Json)
            {
                await output.WriteLineAsync(result.ToJson()).ConfigureAwait(false);
            }
            else
            {
                if (result.Stop != MachineStop.GuestExit)
                {
                    await error.WriteLineAsync(result.ToString()).ConfigureAwait(false);
                }

                await error.WriteLineAsync(result.ToSummary()).ConfigureAwait(false);
            }

            if (ExpectedViolation == ViolationKind.None)
            {
                return ExitStatus(result);
            }

            if (result.Violation == ExpectedViolation)
            {
                return 0;
            }

            await error.WriteLineAsync($"The violation {ExpectedViolation} was expected and did not happen. {ResultText.Headline(result)}").ConfigureAwait(false);
            return RunExitStatus.NoViolation;
        }
        catch (SvsmDiagnosticException exception)
        {
            await error.WriteLineAsync($"error {exception.Diagnostic.Code}: {exception.Message}").ConfigureAwait(false);
            return exception.Diagnostic == SvsmDiagnostics.RunOptionInvalid || exception.Diagnostic == SvsmDiagnostics.AttackUnknown || exception.Diagnostic == SvsmDiagnostics.GdbPortUnusable ? RunExitStatus.Usage
                : exception.Diagnostic == SvsmDiagnostics.QemuMissing || exception.Diagnostic == SvsmDiagnostics.QemuUnusable ? RunExitStatus.Qemu
                : RunExitStatus.Refused;
        }
        catch (OperationCanceledException) when (cancellationToken.IsCancellationRequested)
        {
            return RunExitStatus.Interrupted;
        }
    }

    private static byte[] ParseHostData(string digits)
    {
        try
        {
            return Convert.FromHexString(digits);
        }
        catch (FormatException)
        {
            throw SvsmDiagnostics.RunOptionInvalid.Error($"host data '{digits}'", "hexadecimal digits");
        }
    }

    private MachineMigration? ParseMigration()
    {
        if (MigrationSource is not null && MigrationTarget is not null)
        {
            throw SvsmDiagnostics.RunOptionInvalid.Error("a machine that is source and target of a migration", "--migration-source or --migration-target");
        }

        return MigrationSource is string source ? new MachineMigration(MigrationRole.Source, source)
            : MigrationTarget is string target ? new MachineMigration(MigrationRole.Target, target)
            : null;
    }

    private static int ExitStatus(MachineResult result) => result.Stop switch
    {
        MachineStop.GuestExit => (int)result.Detail,
        MachineStop.Terminate => RunExitStatus.Terminated,
        MachineStop.Violation => RunExitStatus.Violation,
        MachineStop.Shutdown => RunExitStatus.Shutdown,
        MachineStop.Reset => RunExitStatus.Reset,
        MachineStop.PowerOff => RunExitStatus.PowerOff,
        MachineStop.Timeout => RunExitStatus.Timeout,
        MachineStop.QemuFailed => RunExitStatus.Qemu,
        _ => RunExitStatus.Simulator,
    };
}
