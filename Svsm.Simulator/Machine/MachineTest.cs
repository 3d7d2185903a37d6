// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// A running machine in the hands of a test: start, wait for a line, act, look at the RMP, stop. For any test framework; docs/simulated-machine.md
// has an example for xunit.

using System;
using System.Collections.Generic;
using System.Globalization;
using System.Linq;
using System.Text;
using System.Threading;
using System.Threading.Tasks;
using Svsm.Diagnostics;
using Svsm.Simulator.Shared;

namespace Svsm.Simulator;

/// <summary>The run did not do what the test waits for. The message has the end of the run, the vCPUs if it hung, and the last console lines.</summary>
public sealed class MachineTestException : Exception
{
    /// <summary>Makes one.</summary>
    /// <param name="message">What happened.</param>
    public MachineTestException(string message)
        : base(message)
    {
    }
}

/// <summary>
/// A machine that runs while the test does other things. Instances do not know of each other; any number may run at once. All members may be
/// called from any thread. Disposing of it ends QEMU.
/// </summary>
public sealed class MachineTest : IAsyncDisposable
{
    private const int LinesInMessage = 40;
    private static readonly TimeSpan s_defaultTimeout = TimeSpan.FromMinutes(3);

    private readonly MachineSession _session;
    private readonly CancellationToken _cancellationToken;
    private readonly CancellationTokenSource _disposed = new();
    private readonly Lock _lock = new();
    private readonly List<ConsoleLine> _lines = [];
    private readonly Task<MachineResult> _end;
    private TaskCompletionSource _more = new(TaskCreationOptions.RunContinuationsAsynchronously);

    private MachineTest(MachineSession session, CancellationToken cancellationToken)
    {
        _session = session;
        _cancellationToken = cancellationToken;
        _session.LineCompleted = AddLine;
        _end = RunAsync();
    }

    /// <summary>Starts a machine.</summary>
    /// <param name="imagePath">The IGVM file; the other options are those of a new <see cref="MachineOptions"/>.</param>
    /// <param name="cancellationToken">Ends the run, and every wait for it.</param>
    /// <returns>The machine, QEMU running.</returns>
    /// <exception cref="SvsmDiagnosticException">The run could not start: SVSM6001 to SVSM6007, SVSM6020, SVSM6021.</exception>
    public static Task<MachineTest> StartAsync(string imagePath, CancellationToken cancellationToken = default) =>
        StartAsync(new MachineOptions { ImagePath = imagePath }, cancellationToken);

    /// <summary>Starts a machine.</summary>
    /// <param name="options">What to run. Without a timeout it has one of three minutes: a hung run must not hang the test.</param>
    /// <param name="cancellationToken">Ends the run, and every wait for it.</param>
    /// <returns>The machine, QEMU running.</returns>
    /// <exception cref="SvsmDiagnosticException">The run could not start: SVSM6001 to SVSM6007, SVSM6020, SVSM6021.</exception>
    public static async Task<MachineTest> StartAsync(MachineOptions options, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(options);
        if (options.Timeout == Timeout.InfiniteTimeSpan)
        {
            options = options with { Timeout = s_defaultTimeout };
        }

        return new MachineTest(await Machine.StartAsync(options, cancellationToken).ConfigureAwait(false), cancellationToken);
    }

    /// <summary>The port at which gdb is served, or null when <see cref="MachineOptions.GdbPort"/> is.</summary>
    public int? GdbPort => _session.GdbPort;

    /// <summary>Waits for a console line that was or will be written.</summary>
    /// <param name="part">A part of it, compared character by character.</param>
    /// <param name="vmpl">Only lines of this VMPL count, -1 for those of the simulator; null = of all.</param>
    /// <returns>The first such line.</returns>
    /// <exception cref="MachineTestException">The run ended without it.</exception>
    public async Task<ConsoleLine> WaitForLineAsync(string part, int? vmpl = null)
    {
        ArgumentNullException.ThrowIfNull(part);
        int seen = 0;
        while (true)
        {
            // Whether it has ended is asked first: lines come before the end.
            bool ended = _end.IsCompleted;
            Task more;
            lock (_lock)
            {
                for (; seen < _lines.Count; seen++)
                {
                    ConsoleLine line = _lines[seen];
                    if ((vmpl is null || line.Source.Vmpl == vmpl) && line.Text.Contains(part, StringComparison.Ordinal))
                    {
                        return line;
                    }
                }

                more = _more.Task;
            }

            if (ended)
            {
                throw new MachineTestException(Describe($"No console line contains '{part}'.", await _end.ConfigureAwait(false)));
            }

            await Task.WhenAny(more, _end).ConfigureAwait(false);
        }
    }

    /// <summary>The console lines so far.</summary>
    /// <param name="vmpl">Only lines of this VMPL, -1 for those of the simulator; null = of all.</param>
    /// <returns>A copy.</returns>
    public IReadOnlyList<ConsoleLine> GetLines(int? vmpl = null)
    {
        lock (_lock)
        {
            return [.. _lines.Where(line => vmpl is null || line.Source.Vmpl == vmpl)];
        }
    }

    /// <summary>Types at the console (COM1 of the machine).</summary>
    /// <param name="text">Text; a line ends with a line feed.</param>
    /// <returns>Completes when the machine has it. Whether the guest reads it is its own affair.</returns>
    /// <exception cref="MachineTestException">More than 4096 bytes wait to be read.</exception>
    /// <exception cref="InvalidOperationException">The run has ended.</exception>
    public async Task TypeAsync(string text)
    {
        ArgumentNullException.ThrowIfNull(text);
        (bool done, _) = await _session.CommandAsync(new CommandHeader { Kind = CommandKind.ConsoleInput }, Encoding.UTF8.GetBytes(text), _cancellationToken).ConfigureAwait(false);
        if (!done)
        {
            throw new MachineTestException($"The guest has not read what was typed before: there is room for {LaunchItem.MaxConsoleInput} bytes.");
        }
    }

    /// <summary>The state of guest memory: now, or at the end when the run has ended.</summary>
    /// <returns>The RMP.</returns>
    public async Task<RmpMap> ReadRmpAsync()
    {
        if (!_end.IsCompleted)
        {
            try
            {
                return await _session.QueryRmpAsync(_cancellationToken).ConfigureAwait(false);
            }
            catch (InvalidOperationException)
            {
                // It ended first.
            }
        }

        return (await _end.ConfigureAwait(false)).Memory;
    }

    /// <summary>Attacks the guest. The attack's events are counted from now on.</summary>
    /// <param name="attack">What to do; not one that concerns the launch or guest messages.</param>
    /// <returns>Completes when the machine knows.</returns>
    /// <exception cref="ArgumentException">The attack must be among <see cref="MachineOptions.Attacks"/>.</exception>
    /// <exception cref="InvalidOperationException">The run has ended, or has too many attacks.</exception>
    public Task AttackAsync(Attack attack)
    {
        ArgumentNullException.ThrowIfNull(attack);
        return attack.Description is null && attack.Maker is null
            ? throw new ArgumentException($"The attack {attack.Name} begins with the launch: put it into MachineOptions.Attacks.", nameof(attack))
            : _session.AttackAsync(attack, _cancellationToken);
    }

    /// <summary>
    /// What the hypervisor knows of the guest, for <see cref="RestoreHostStateAsync"/> of another machine: interrupt controllers, ports, time, shared pages. No
    /// VMPL but 0 may run. Needs a device of the SVSM, such as the channel of a migration.
    /// </summary>
    /// <returns>The state; docs/simulated-machine.md has its format.</returns>
    /// <exception cref="MachineTestException">It cannot be had; the message says why.</exception>
    /// <exception cref="InvalidOperationException">The run has ended, or there is no such device.</exception>
    public async Task<byte[]> SaveHostStateAsync()
    {
        try
        {
            return await _session.SaveHostStateAsync(_cancellationToken).ConfigureAwait(false);
        }
        catch (HostStateException exception)
        {
            throw new MachineTestException(exception.Message);
        }
    }

    /// <summary>Has the hypervisor take what another machine's knew of its guest. No VMPL but 0 may run.</summary>
    /// <param name="state">From <see cref="SaveHostStateAsync"/>.</param>
    /// <returns>Completes when it is taken.</returns>
    /// <exception cref="MachineTestException">It is not taken, and nothing has changed; the message says why.</exception>
    /// <exception cref="InvalidOperationException">The run has ended, or there is no device of the SVSM.</exception>
    public async Task RestoreHostStateAsync(byte[] state)
    {
        ArgumentNullException.ThrowIfNull(state);
        try
        {
            await _session.RestoreHostStateAsync(state, _cancellationToken).ConfigureAwait(false);
        }
        catch (HostStateException exception)
        {
            throw new MachineTestException(exception.Message);
        }
    }

    /// <summary>Waits for the end of the run.</summary>
    /// <returns>The result.</returns>
    /// <exception cref="MachineTestException">The time was up; the message has registers and callers of every vCPU.</exception>
    public async Task<MachineResult> WaitForEndAsync()
    {
        MachineResult result = await _end.ConfigureAwait(false);
        return result.Stop == MachineStop.Timeout ? throw new MachineTestException(Describe("The run hung.", result)) : result;
    }

    /// <summary>Ends the run, if it has not ended.</summary>
    /// <returns>The result, with a report of every vCPU.</returns>
    public Task<MachineResult> StopAsync()
    {
        if (!_end.IsCompleted)
        {
            _session.RequestStop();
        }

        return _end;
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        await _disposed.CancelAsync().ConfigureAwait(false);
        try
        {
            await _end.ConfigureAwait(false);
        }
        catch (Exception exception) when (exception is OperationCanceledException or SvsmDiagnosticException)
        {
            // Whoever waited for the end was told.
        }

        await _session.DisposeAsync().ConfigureAwait(false);
        _disposed.Dispose();
    }

    private async Task<MachineResult> RunAsync()
    {
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(_cancellationToken, _disposed.Token);
        return await _session.RunAsync(stop.Token).ConfigureAwait(false);
    }

    private void AddLine(ConsoleLine line)
    {
        TaskCompletionSource more;
        lock (_lock)
        {
            _lines.Add(line);
            more = _more;
            _more = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        }

        more.TrySetResult();
    }

    private static string Describe(string what, MachineResult result)
    {
        var text = new StringBuilder(what).Append('\n').Append(result).Append("\nLast console lines:");
        foreach (ConsoleLine line in result.Console.TakeLast(LinesInMessage))
        {
            text.Append(CultureInfo.InvariantCulture, $"\n  [cpu{line.Source.Vcpu} vmpl{line.Source.Vmpl}] {line.Text}");
        }

        return text.ToString();
    }
}
