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

    /// <summary>Payloads of the guest requests.</summary>
    public List<byte[]> GuestRequests { get; } = [];

    /// <summary>Accesses to devices of the machine, and answers to its commands.</summary>
    public List<(LinkFrame Type, byte[] Payload)> Exchange { get; } = [];

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
    private const ulong GenericError = 0xFFFF_FFFF_0000_0000;

    /// <summary>Path of the hypervisor.</summary>
    public static string Hypervisor => Path.Combine(AppContext.BaseDirectory, "Svsm.Hypervisor.elf");

    /// <summary>Runs a blob to its end.</summary>
    public static Task<RunResult> StartAsync(byte[] blob, CancellationToken cancellation, params string[] extra)
    {
        return StartAsync(File.ReadAllBytes(Hypervisor), blob, cancellation, extra);
    }

    /// <summary>A frame.</summary>
    public static byte[] Frame(LinkFrame type, ReadOnlySpan<byte> payload) =>
        [Link.Start, (byte)type, (byte)payload.Length, (byte)(payload.Length >> 8), .. payload];

    /// <summary>The frame that ends an answer to a guest request.</summary>
    public static byte[] GuestResponse(ulong exitInfo2, uint pagesNeeded, ReadOnlySpan<byte> message) =>
        Frame(LinkFrame.GuestResponse, [.. BitConverter.GetBytes(exitInfo2), .. BitConverter.GetBytes((ulong)pagesNeeded), .. message]);

    /// <summary>Runs a blob on a hypervisor to its end; guest requests meet a host without security processor.</summary>
    public static Task<RunResult> StartAsync(byte[] hypervisor, byte[] blob, CancellationToken cancellation, params string[] extra)
    {
        return StartAsync(hypervisor, blob, _ => GuestResponse(GenericError, 0, []), cancellation, extra);
    }

    /// <summary>Runs a blob on a hypervisor to its end.</summary>
    /// <param name="hypervisor">The hypervisor.</param>
    /// <param name="blob">The blob.</param>
    /// <param name="answer">Takes the payload of a guest request, returns the frames of the answer.</param>
    /// <param name="cancellation">Kills QEMU.</param>
    /// <param name="extra">More arguments for QEMU.</param>
    public static Task<RunResult> StartAsync(byte[] hypervisor, byte[] blob, Func<byte[], byte[]> answer, CancellationToken cancellation, params string[] extra) =>
        StartAsync(hypervisor, blob, answer, (_, _) => [], cancellation, extra);

    /// <summary>Runs a blob on a hypervisor to its end, for a machine that plays devices.</summary>
    /// <param name="hypervisor">The hypervisor.</param>
    /// <param name="blob">The blob.</param>
    /// <param name="answer">Takes the payload of a guest request, returns the frames of the answer.</param>
    /// <param name="react">Takes an access to a device or the answer to a command, returns the frames that follow it.</param>
    /// <param name="cancellation">Kills QEMU.</param>
    /// <param name="extra">More arguments for QEMU.</param>
    public static async Task<RunResult> StartAsync(
        byte[] hypervisor, byte[] blob, Func<byte[], byte[]> answer, Func<LinkFrame, byte[], byte[]> react, CancellationToken cancellation, params string[] extra)
    {
        string folder = Directory.CreateTempSubdirectory("svsm-hypervisor").FullName;
        try
        {
            string blobPath = Path.Combine(folder, "launch.blob");
            await File.WriteAllBytesAsync(blobPath, blob, cancellation);
            string hypervisorPath = Path.Combine(folder, "hypervisor.elf");
            await File.WriteAllBytesAsync(hypervisorPath, hypervisor, cancellation);
            var start = new ProcessStartInfo("qemu-system-x86_64") { RedirectStandardInput = true, RedirectStandardOutput = true, RedirectStandardError = true };
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
            var output = new List<byte>();
            var result = new RunResult();
            byte[] buffer = new byte[64 * 1024];
            while (await process.StandardOutput.BaseStream.ReadAsync(buffer, cancellation) is int count and not 0)
            {
                output.AddRange(buffer.AsSpan(0, count));
                int answered = result.GuestRequests.Count;
                int exchanged = result.Exchange.Count;
                Parse(output, result);
                foreach (byte[] frames in (byte[][])[.. result.GuestRequests[answered..].Select(answer), .. result.Exchange[exchanged..].Select(frame => react(frame.Type, frame.Payload))])
                {
                    await process.StandardInput.BaseStream.WriteAsync(frames, cancellation);
                    await process.StandardInput.BaseStream.FlushAsync(cancellation);
                }
            }

            await process.WaitForExitAsync(cancellation);
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

    // Takes the whole frames off the front.
    private static void Parse(List<byte> output, RunResult result)
    {
        ReadOnlySpan<byte> link = CollectionsMarshal.AsSpan(output);
        int start = link.IndexOf(Link.Start);
        ReadOnlySpan<byte> rest = start < 0 ? default : link[start..];
        while (rest.Length >= FrameHeaderLength && rest.Length >= FrameHeaderLength + BinaryPrimitives.ReadUInt16LittleEndian(rest[2..]))
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
                case LinkFrame.GuestRequest:
                    result.GuestRequests.Add(payload.ToArray());
                    break;
                case LinkFrame.DeviceAccess or LinkFrame.CommandDone:
                    result.Exchange.Add((type, payload.ToArray()));
                    break;
                case LinkFrame.Exit:
                    result.Reason = (StopReason)BinaryPrimitives.ReadUInt32LittleEndian(payload);
                    result.Detail = BinaryPrimitives.ReadUInt64LittleEndian(payload[8..]);
                    break;
            }
        }

        output.RemoveRange(0, output.Count - rest.Length);
    }
}
