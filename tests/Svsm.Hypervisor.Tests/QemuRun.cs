// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Starts QEMU with the hypervisor and a blob, and reads the link's frames. The minimum that the hypervisor's own tests need; the machine
// library does this for everyone else.

using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.Diagnostics;
using System.IO;
using System.Linq;
using System.Runtime.InteropServices;
using System.Text;
using System.Threading;
using System.Threading.Tasks;
using Svsm.Simulator.Shared;

namespace Svsm.Hypervisor.Tests;

/// <summary>What a run gave.</summary>
internal sealed class RunResult
{
    /// <summary>Why it ended.</summary>
    public StopReason Reason { get; set; } = (StopReason)uint.MaxValue;

    /// <summary>Detail of the exit frame.</summary>
    public ulong Detail { get; set; }

    /// <summary>The report, if there was one.</summary>
    public StopReport? Report { get; set; }

    /// <summary>Console output.</summary>
    public StringBuilder Console { get; } = new();

    /// <summary>The hypervisor's log.</summary>
    public StringBuilder Log { get; } = new();

    /// <summary>Counters.</summary>
    public List<VmplStatistics> Statistics { get; } = [];

    /// <summary>QEMU's exit status.</summary>
    public int ExitStatus { get; set; }

    /// <inheritdoc/>
    public override string ToString()
    {
        string violation = Report is { } report
            ? $"{report.Violation} vmpl {report.Vmpl} gpa {report.Gpa:x} rip {report.Rip:x} exit {report.ExitCode:x}/{report.ExitInfo1:x}/{report.ExitInfo2:x} cr2 {report.Cr2:x} rmp {report.RmpEntry:x}"
            : "no report";
        return $"{Reason} {Detail:x}, {violation}\nlog: {Log}\nconsole: {Console}";
    }
}

/// <summary>A run in QEMU.</summary>
internal static class QemuRun
{
    private const int FrameHeaderLength = 4;

    /// <summary>Path of the hypervisor.</summary>
    public static string Hypervisor => Path.Combine(AppContext.BaseDirectory, "Svsm.Hypervisor.elf");

    /// <summary>Runs a blob to its end.</summary>
    public static Task<RunResult> StartAsync(byte[] blob, CancellationToken cancellation, params string[] extra)
    {
        return StartAsync(File.ReadAllBytes(Hypervisor), blob, cancellation, extra);
    }

    /// <summary>Runs a blob on a hypervisor to its end.</summary>
    public static async Task<RunResult> StartAsync(byte[] hypervisor, byte[] blob, CancellationToken cancellation, params string[] extra)
    {
        string folder = Directory.CreateTempSubdirectory("svsm-hypervisor").FullName;
        try
        {
            string blobPath = Path.Combine(folder, "launch.blob");
            await File.WriteAllBytesAsync(blobPath, blob, cancellation);
            string hypervisorPath = Path.Combine(folder, "hypervisor.elf");
            await File.WriteAllBytesAsync(hypervisorPath, hypervisor, cancellation);
            var start = new ProcessStartInfo("qemu-system-x86_64") { RedirectStandardOutput = true, RedirectStandardError = true };
            string[] arguments =
            [
                "-accel", "tcg", "-M", "q35", "-cpu", "EPYC,+svm,+npt,phys-bits=48", "-m", "256M", "-display", "none", "-nodefaults", "-no-reboot",
                "-serial", "stdio", "-device", "isa-debug-exit,iobase=0x501,iosize=2",
                "-kernel", hypervisorPath, "-initrd", blobPath, .. extra,
            ];
            foreach (string argument in arguments)
            {
                start.ArgumentList.Add(argument);
            }

            using Process process = Process.Start(start)!;
            using CancellationTokenRegistration kill = cancellation.Register(() => process.Kill());
            Task<string> errors = process.StandardError.ReadToEndAsync(cancellation);
            using var output = new MemoryStream();
            await process.StandardOutput.BaseStream.CopyToAsync(output, cancellation);
            await process.WaitForExitAsync(cancellation);
            RunResult result = Parse(output.ToArray());
            result.ExitStatus = process.ExitCode;
            if (result.Reason == (StopReason)uint.MaxValue)
            {
                result.Log.Append("qemu: ").Append(await errors);
            }

            return result;
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    private static RunResult Parse(ReadOnlySpan<byte> link)
    {
        var result = new RunResult();
        int start = link.IndexOf(Link.Start);
        for (ReadOnlySpan<byte> rest = start < 0 ? default : link[start..]; rest.Length >= FrameHeaderLength;)
        {
            if (rest[0] != Link.Start)
            {
                throw new InvalidDataException($"The link is broken: byte 0x{rest[0]:x2}, wanted 0x{Link.Start:x2} at the start of a frame.");
            }

            var type = (LinkFrame)rest[1];
            ReadOnlySpan<byte> payload = rest.Slice(FrameHeaderLength, BinaryPrimitives.ReadUInt16LittleEndian(rest[2..]));
            rest = rest[(FrameHeaderLength + payload.Length)..];
            switch (type)
            {
                case LinkFrame.Console:
                    result.Console.Append(Encoding.UTF8.GetString(payload[4..]));
                    break;
                case LinkFrame.Log:
                    result.Log.AppendLine(Encoding.UTF8.GetString(payload));
                    break;
                case LinkFrame.Report:
                    result.Report = MemoryMarshal.Read<StopReport>(payload);
                    break;
                case LinkFrame.Statistics:
                    result.Statistics.AddRange(MemoryMarshal.Cast<byte, VmplStatistics>(payload).ToArray());
                    break;
                case LinkFrame.Exit:
                    result.Reason = (StopReason)BinaryPrimitives.ReadUInt32LittleEndian(payload);
                    result.Detail = BinaryPrimitives.ReadUInt64LittleEndian(payload[8..]);
                    break;
            }
        }

        return result;
    }
}
