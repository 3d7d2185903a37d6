// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The simulated SEV-SNP machine, seen from its host: from an IGVM file to the end of the run.

using System;
using System.Collections.Generic;
using System.ComponentModel;
using System.Globalization;
using System.IO;
using System.Threading;
using System.Threading.Tasks;
using Svsm.Diagnostics;
using Svsm.Simulator.Shared;

namespace Svsm.Simulator;

/// <summary>Boots images.</summary>
public static class Machine
{
    // Relative to QEMU's working folder: commas and spaces in the path of a temporary folder would mean something to -initrd.
    private const string LaunchFileName = "launch";

    // Memory of the level-1 machine beyond the guest's: the hypervisor and SeaBIOS.
    private const ulong HypervisorMemory = 128ul << 20;

    // What QEMU says on SIGINT, and how a process ends that does not handle it yet.
    private const string QemuInterruptedMessage = "terminating on signal 2";
    private const int QemuInterruptedStatus = 128 + 2;

    // After its last frame the hypervisor ends QEMU.
    private static readonly TimeSpan s_endTimeout = TimeSpan.FromSeconds(3);

    /// <summary>Boots an image and runs it to its end.</summary>
    /// <param name="options">What to run.</param>
    /// <param name="cancellationToken">Ends the run at once.</param>
    /// <returns>The outcome, also when the guest, the simulator or the time is to blame for the end.</returns>
    /// <exception cref="SvsmDiagnosticException">
    /// The run could not start, or a guest asked for an attestation report and the folder of the simulated chip is unusable: SVSM6001 to SVSM6007.
    /// </exception>
    /// <exception cref="ArgumentException">The expected digest has not 48 bytes.</exception>
    /// <exception cref="OperationCanceledException">The token was cancelled. No process and no temporary file is left.</exception>
    public static async Task<MachineResult> RunAsync(MachineOptions options, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(options);
        CheckRange("number of vCPUs", options.VcpuCount, 1, MachineOptions.MaxVcpuCount);
        CheckRange("guest RAM in MiB", options.MemoryMiB, MachineOptions.MinMemoryMiB, MachineOptions.MaxMemoryMiB);
        if (options.Timeout != Timeout.InfiniteTimeSpan && (options.Timeout <= TimeSpan.Zero || options.Timeout.TotalMilliseconds > int.MaxValue))
        {
            throw SvsmDiagnostics.RunOptionInvalid.Error($"timeout {options.Timeout.TotalSeconds} s", $"more than 0 and at most {int.MaxValue / 1000} s");
        }

        if (!AttestationReport.IsVersion(options.ReportVersion))
        {
            throw SvsmDiagnostics.RunOptionInvalid.Error(string.Create(CultureInfo.InvariantCulture, $"report version {options.ReportVersion}"), "2, 3 or 5");
        }

        if (options.ExpectedDigest is { Length: not SecurityProcessor.DigestLength })
        {
            throw new ArgumentException($"A launch digest has {SecurityProcessor.DigestLength} bytes; {options.ExpectedDigest.Value.Length} were given.", nameof(options));
        }

        byte[] image = WithFile("the image, readable", options.ImagePath, File.ReadAllBytes);
        LaunchPlan plan = HostLoader.Load(image, new GuestRam((ulong)options.MemoryMiB << 20), options.VcpuCount);
        if (options.ExpectedDigest is ReadOnlyMemory<byte> expected && !expected.Span.SequenceEqual(plan.Digest.Span))
        {
            throw SvsmDiagnostics.LaunchDigestMismatch.Error(
                $"{Convert.ToHexStringLower(plan.Digest.Span)} for '{options.ImagePath}'", Convert.ToHexStringLower(expected.Span));
        }

        SymbolMap symbols = ReadSymbols(options);
        if (!File.Exists(options.HypervisorPath))
        {
            throw SvsmDiagnostics.RunFileUnreadable.Error($"no hypervisor at '{options.HypervisorPath}'", "hypervisor.elf of the package Svsm.Simulator");
        }

        QemuExecutable qemu = await QemuExecutable.FindAsync(options.QemuPath, cancellationToken).ConfigureAwait(false);
        return await RunAsync(options, plan, symbols, qemu, cancellationToken).ConfigureAwait(false);
    }

    private static async Task<MachineResult> RunAsync(
        MachineOptions options, LaunchPlan plan, SymbolMap symbols, QemuExecutable qemu, CancellationToken cancellationToken)
    {
        // Readable by this user only: the launch contains the message keys of the guest.
        DirectoryInfo folder = WithFile("a folder for a temporary file", Path.GetTempPath(), _ => Directory.CreateTempSubdirectory("svsm-"));
        try
        {
            string launchFile = Path.Combine(folder.FullName, LaunchFileName);
            ulong launchLength = WithFile("a temporary file with the launch, writable", launchFile, file =>
            {
                using FileStream stream = File.Create(file);
                LaunchBlob.Write(plan, options.SingleVmpl ? LaunchOptions.SingleVmpl : LaunchOptions.None, stream);
                return (ulong)stream.Length;
            });
            QemuProcess process;
            try
            {
                process = QemuProcess.Start(qemu.Path, Arguments(options, plan, launchLength), folder.FullName);
            }
            catch (Win32Exception exception)
            {
                throw SvsmDiagnostics.QemuUnusable.Error($"'{qemu.Path}' does not start: {exception.Message}", "an executable program", exception);
            }

            await using (process.ConfigureAwait(false))
            {
                return await FollowAsync(options, plan, symbols, process, launchFile, cancellationToken).ConfigureAwait(false);
            }
        }
        finally
        {
            folder.Delete(recursive: true);
        }
    }

    private static async Task<MachineResult> FollowAsync(
        MachineOptions options, LaunchPlan plan, SymbolMap symbols, QemuProcess process, string launchFile, CancellationToken cancellationToken)
    {
        var console = new ConsoleCollector(options.Output, symbols, showVcpu: options.VcpuCount > 1);
        var recorder = new RunRecorder(console, options.VcpuCount);
        var reader = new LinkReader(recorder.Accept);
        SimulatedChip? chip = null;
        SimulatedChip OpenChip() => chip ??= SimulatedChip.Open(options.ChipFolder ?? SimulatedChip.DefaultFolder);
        var guestRequests = new GuestRequestService(new GuestMessages(plan.Guest, OpenChip, options.ReportVersion), OpenChip);
        using var timeout = new CancellationTokenSource(options.Timeout, options.TimeProvider);
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken, timeout.Token);
        MachineStop reason;
        string message = "";
        try
        {
            byte[] buffer = new byte[64 * 1024];
            while (!recorder.Finished && await process.ReadAsync(buffer, stop.Token).ConfigureAwait(false) is int count and not 0)
            {
                bool greeted = recorder.SaidHello;
                reader.Push(buffer.AsSpan(0, count));
                if (!greeted && recorder.SaidHello)
                {
                    // QEMU has read it. Should this process be killed from now on, no file is left.
                    File.Delete(launchFile);
                }

                if (recorder.TakeGuestRequest() is { } request)
                {
                    await process.WriteAsync(guestRequests.Answer(request), stop.Token).ConfigureAwait(false);
                }
            }

            if (recorder.Finished)
            {
                reason = (MachineStop)recorder.Reason;
                await process.WaitAsync(s_endTimeout).ConfigureAwait(false);
            }
            else
            {
                reason = MachineStop.QemuFailed;
                (message, bool interrupted) = await DescribeEndAsync(process, reader).ConfigureAwait(false);

                // Ctrl-C at a terminal goes to QEMU as well. It may be faster than this process to notice; then ours is about to come.
                if (interrupted)
                {
                    await Task.Delay(s_endTimeout, options.TimeProvider, cancellationToken).ConfigureAwait(false);
                }

                cancellationToken.ThrowIfCancellationRequested();
            }
        }
        catch (LinkException exception)
        {
            reason = MachineStop.LinkBroken;
            message = exception.Message;
        }
        catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
        {
            reason = MachineStop.Timeout;
        }
        finally
        {
            console.Flush();
            chip?.Dispose();
        }

        return new MachineResult
        {
            Stop = reason,
            Detail = recorder.Detail,
            Message = message,
            Report = recorder.Report,
            LaunchDigest = plan.Digest,
            Console = console.Lines,
            ConsoleTruncated = console.Truncated,
            Statistics = [.. recorder.Statistics],
            Symbols = symbols,
        };
    }

    private static async Task<(string Text, bool Interrupted)> DescribeEndAsync(QemuProcess process, LinkReader reader)
    {
        // The output can end before the process does.
        int? status = await process.WaitAsync(s_endTimeout).ConfigureAwait(false);
        string end = status is int known ? string.Create(CultureInfo.InvariantCulture, $"QEMU ended with status {known}") : "QEMU closed its output";
        string text = end + (reader.AtFrameBoundary ? " before the hypervisor reported an end." : " in the middle of a frame.");
        if (status is not null && await process.ReadMessagesAsync().ConfigureAwait(false) is { Length: not 0 } messages)
        {
            text += "\n" + messages.TrimEnd();
        }

        bool interrupted = status == QemuInterruptedStatus || text.Contains(QemuInterruptedMessage, StringComparison.Ordinal);
        return (reader.Chatter.Length == 0 ? text : $"{text}\nIts output began with:\n{reader.Chatter.TrimEnd()}", interrupted);
    }

    private static List<string> Arguments(MachineOptions options, LaunchPlan plan, ulong launchLength)
    {
        ulong memory = HypervisorMemory + launchLength + GuestMemory(plan.Ram);
        List<string> arguments =
        [
            "-nodefaults",
            "-no-user-config",
            "-no-reboot",
            "-display", "none",
            "-monitor", "none",
            "-accel", "tcg",
            "-M", "q35",

            // The C-bit is bit 47, so addresses need 48 bits; TCG has 40 of its own accord.
            "-cpu", "EPYC,+svm,+npt,phys-bits=48",

            // The hypervisor lets all vCPUs take turns on one.
            "-smp", "1",
            "-m", string.Create(CultureInfo.InvariantCulture, $"{(memory + (1 << 20) - 1) >> 20}M"),
            "-chardev", "stdio,id=link,signal=off",
            "-serial", "chardev:link",
            "-device", "isa-debug-exit,iobase=0x501,iosize=2",
            "-kernel", Path.GetFullPath(options.HypervisorPath),
            "-initrd", LaunchFileName,
        ];
        if (options.CountInstructions)
        {
            arguments.AddRange(["-icount", "shift=0,sleep=off"]);
        }

        return arguments;
    }

    // What the hypervisor needs for the guest's memory, if the guest uses all of it. QEMU takes from its host what is really used.
    private static ulong GuestMemory(IReadOnlyList<LaunchRam> ram)
    {
        const ulong Views = 2;
        const ulong TableBytesPerPage = 64;
        const ulong DirectoryReach = 2 << 20;
        const ulong DirectoryEntry = 8;
        ulong length = RangeSet.Length(ram);
        LaunchRam last = ram[^1];
        ulong directory = (last.Base + last.Length) / DirectoryReach * DirectoryEntry;
        return (Views * length) + (length / SecurityProcessor.PageSize * TableBytesPerPage) + directory;
    }

    private static SymbolMap ReadSymbols(MachineOptions options)
    {
        string path = options.MapPath ?? Path.ChangeExtension(options.ImagePath, ".map");
        return options.MapPath is null && !File.Exists(path)
            ? SymbolMap.Empty
            : WithFile("the symbol map, readable", path, file =>
            {
                using StreamReader reader = File.OpenText(file);
                return SymbolMap.Read(reader);
            });
    }

    private static T WithFile<T>(string wanted, string path, Func<string, T> use)
    {
        try
        {
            return use(path);
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException or ArgumentException or NotSupportedException)
        {
            throw SvsmDiagnostics.RunFileUnreadable.Error($"'{path}': {exception.Message}", wanted, exception);
        }
    }

    private static void CheckRange(string what, int value, int minimum, int maximum)
    {
        if (value < minimum || value > maximum)
        {
            throw SvsmDiagnostics.RunOptionInvalid.Error(
                string.Create(CultureInfo.InvariantCulture, $"{what} = {value}"), string.Create(CultureInfo.InvariantCulture, $"{minimum} to {maximum}"));
        }
    }
}
