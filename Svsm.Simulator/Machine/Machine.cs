// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The simulated SEV-SNP machine, seen from its host: from an IGVM file to the end of the run.

using System;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Text;
using System.Threading;
using System.Threading.Tasks;
using Svsm.Diagnostics;
using Svsm.Simulator.Shared;

namespace Svsm.Simulator;

/// <summary>Boots images.</summary>
public static class Machine
{
    // What a processor executes first after reset is at its end: an image that launches it has a firmware.
    private const ulong ResetVectorPage = 0xFFFF_F000;

    /// <summary>Boots an image and runs it to its end.</summary>
    /// <param name="options">What to run.</param>
    /// <param name="cancellationToken">Ends the run at once.</param>
    /// <returns>The outcome, also when the guest, the simulator or the time is to blame for the end.</returns>
    /// <exception cref="SvsmDiagnosticException">
    /// The run could not start, or a guest asked for an attestation report and the folder of the simulated chip is unusable: SVSM6001 to SVSM6007, SVSM6020, SVSM6021.
    /// </exception>
    /// <exception cref="ArgumentException">The expected digest has not 48 bytes.</exception>
    /// <exception cref="OperationCanceledException">The token was cancelled. No process and no temporary file is left.</exception>
    public static async Task<MachineResult> RunAsync(MachineOptions options, CancellationToken cancellationToken)
    {
        MachineSession session = await StartAsync(options, cancellationToken).ConfigureAwait(false);
        await using (session.ConfigureAwait(false))
        {
            return await session.RunAsync(cancellationToken).ConfigureAwait(false);
        }
    }

    // Everything up to a QEMU that runs. The caller disposes of the session.
    internal static async Task<MachineSession> StartAsync(MachineOptions options, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(options);
        CheckRange("number of vCPUs", options.VcpuCount, 1, MachineOptions.MaxVcpuCount);
        CheckRange("guest RAM in MiB", options.MemoryMiB, MachineOptions.MinMemoryMiB, MachineOptions.MaxMemoryMiB);
        if (options.Timeout != Timeout.InfiniteTimeSpan && (options.Timeout <= TimeSpan.Zero || options.Timeout.TotalMilliseconds > int.MaxValue))
        {
            throw SvsmDiagnostics.RunOptionInvalid.Error($"timeout {options.Timeout.TotalSeconds} s", $"more than 0 and at most {int.MaxValue / 1000} s");
        }

        if (options.GdbPort is int port)
        {
            CheckRange("port for gdb", port, 0, ushort.MaxValue);
        }

        if (options.Threads && (options.CountInstructions || options.TurnSeed is not null || options.GdbPort is not null))
        {
            throw SvsmDiagnostics.RunOptionInvalid.Error("threads together with counted instructions, drawn turns or gdb", "only one of them: in threads nothing repeats, and nothing stands still");
        }

        if (!AttestationReport.IsVersion(options.ReportVersion))
        {
            throw SvsmDiagnostics.RunOptionInvalid.Error(string.Create(CultureInfo.InvariantCulture, $"report version {options.ReportVersion}"), "2, 3 or 5");
        }

        if (options.HostData.Length != MachineOptions.HostDataLength)
        {
            throw SvsmDiagnostics.RunOptionInvalid.Error(
                string.Create(CultureInfo.InvariantCulture, $"host data of {options.HostData.Length} bytes"),
                string.Create(CultureInfo.InvariantCulture, $"{MachineOptions.HostDataLength} bytes: {2 * MachineOptions.HostDataLength} hexadecimal digits"));
        }

        if (options.ExpectedDigest is { Length: not SecurityProcessor.DigestLength })
        {
            throw new ArgumentException($"A launch digest has {SecurityProcessor.DigestLength} bytes; {options.ExpectedDigest.Value.Length} were given.", nameof(options));
        }

        QemuDevices.Check(options);
        LaunchPlan plan = Load(options, new GuestRam((ulong)options.MemoryMiB << 20));
        byte[] typed = Encoding.UTF8.GetBytes(options.Typed);
        CheckRange("bytes of text that is typed", typed.Length, 0, LaunchItem.MaxConsoleInput);
        if (typed.Length != 0)
        {
            plan = plan with { Items = [.. plan.Items, new LaunchItemData(LaunchItem.ConsoleInput, typed)] };
        }

        if (options.ExpectedDigest is ReadOnlyMemory<byte> expected && !expected.Span.SequenceEqual(plan.Digest.Span))
        {
            throw SvsmDiagnostics.LaunchDigestMismatch.Error(
                $"{Convert.ToHexStringLower(plan.Digest.Span)} for '{options.ImagePath ?? options.GuestKernelPath}'", Convert.ToHexStringLower(expected.Span));
        }

        SymbolMap symbols = ReadSymbols(options);
        if (!File.Exists(options.HypervisorPath))
        {
            throw SvsmDiagnostics.RunFileUnreadable.Error($"no hypervisor at '{options.HypervisorPath}'", "hypervisor.elf of the package Svsm.Simulator");
        }

        QemuExecutable qemu = await QemuExecutable.FindAsync(options.QemuPath, cancellationToken).ConfigureAwait(false);
        return MachineSession.Start(options, plan, symbols, qemu);
    }

    private static LaunchPlan Load(MachineOptions options, GuestRam ram)
    {
        if (options.ImagePath is null && options.GuestKernelPath is null)
        {
            throw SvsmDiagnostics.RunOptionInvalid.Error("neither an image nor a Linux kernel", "an image, or --guest-kernel, or both: a firmware in the image starts the kernel");
        }

        if (options.GuestKernelPath is null && (options.InitialRamDiskPath is not null || options.KernelCommandLine.Length != 0))
        {
            throw SvsmDiagnostics.RunOptionInvalid.Error("an initial RAM disk or a command line without a kernel", "--guest-kernel with --initrd and --append");
        }

        byte[]? kernel = options.GuestKernelPath is string kernelPath ? WithFile("the kernel, readable", kernelPath, File.ReadAllBytes) : null;
        byte[] disk = options.InitialRamDiskPath is string diskPath ? WithFile("the initial RAM disk, readable", diskPath, File.ReadAllBytes) : [];
        if (options.ImagePath is null)
        {
            return LinuxLoader.Load(kernel!, disk, options.KernelCommandLine, ram, options.VcpuCount, options.HostData);
        }

        LaunchPlan plan = HostLoader.Load(WithFile("the image, readable", options.ImagePath, File.ReadAllBytes), ram, options.VcpuCount, options.HostData);
        if (plan.Updates.Any(update => update is { Type: LaunchPageType.Normal, Gpa: ResetVectorPage }))
        {
            return plan with { Items = FirmwareConfiguration.Create(ram, options.VcpuCount, kernel, disk, options.KernelCommandLine) };
        }

        return kernel is null
            ? plan
            : throw SvsmDiagnostics.RunOptionInvalid.Error("a Linux kernel and an image that brings its guest", "one of them, or an image whose guest is a firmware, which then starts the kernel");
    }

    private static SymbolMap ReadSymbols(MachineOptions options)
    {
        string? path = options.MapPath ?? Path.ChangeExtension(options.ImagePath, ".map");
        return path is null || (options.MapPath is null && !File.Exists(path))
            ? SymbolMap.Empty
            : WithFile("the symbol map, readable", path, file =>
            {
                using StreamReader reader = File.OpenText(file);
                return SymbolMap.Read(reader);
            });
    }

    internal static T WithFile<T>(string wanted, string path, Func<string, T> use)
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
