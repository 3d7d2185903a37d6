// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The state of the hypervisor from one machine in QEMU to another, at the moment when VMPL0 reads a register of a device that this test plays.
// Scenarios: Svsm.Simulator/HypervisorProbe/MovedState.cs, DoorbellPages.cs.

using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.IO;
using System.IO.MemoryMappedFiles;
using System.Runtime.InteropServices;
using System.Threading.Tasks;
using Svsm.Simulator.Shared;
using Xunit;

namespace Svsm.Hypervisor.Tests;

public sealed class HostStateProbeTests : IDisposable
{
    private const ulong Source = 15;
    private const ulong Target = 41;
    private const ulong Notified = 42;
    private const ulong DeviceValue = 0x1234_5678;
    private const int HostDevicesOffset = 0x44;

    private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("svsm-window-");

    public void Dispose() => _folder.Delete(recursive: true);

    [Fact]
    public async Task State_OfOneMachine_IsFoundInAnother()
    {
        byte[] model = [];
        var pages = new List<byte[]>();
        ulong next = 0;
        RunResult source = await RunAsync(Source, MachinePorts.MigrationSource, (window, done, answer) =>
        {
            switch (done)
            {
                case CommandKind.Hold:
                    return Command(CommandKind.SaveModel);
                case CommandKind.SaveModel:
                    model = Read(window, answer.Length);
                    return Command(CommandKind.SavePages);
                case CommandKind.SavePages:
                    pages.Add(Read(window, answer.Length));
                    next = answer.Next;
                    return next == ulong.MaxValue ? null : Command(CommandKind.SavePages, next);
                default:
                    return null;
            }
        });
        Assert.True(source is { Reason: StopReason.GuestExit, Detail: 0 }, source.ToString());
        Assert.NotEmpty(model);

        // A damaged one before, which changes nothing.
        (CommandKind Kind, byte[] Bytes)[] steps =
        [
            (CommandKind.CheckModel, model[..^1]), (CommandKind.CheckPages, pages[0][..^1]), (CommandKind.CheckModel, model),
            .. Each(CommandKind.CheckPages), .. Each(CommandKind.TakePages), (CommandKind.TakeModel, model),
        ];
        int step = 0;
        var refusals = new List<HostStateRefusal>();
        RunResult target = await RunAsync(Target, MachinePorts.MigrationTarget, (window, done, answer) =>
        {
            if (done != CommandKind.Hold)
            {
                refusals.Add(answer.Refusal);
            }

            if (step == steps.Length)
            {
                return null;
            }

            (CommandKind kind, byte[] bytes) = steps[step++];
            window.WriteArray(0, bytes, 0, bytes.Length);
            return Command(kind, 0, (ulong)bytes.Length);
        });
        Assert.True(target is { Reason: StopReason.GuestExit, Detail: 0 }, target.ToString());
        Assert.Equal(steps.Length, refusals.Count);
        Assert.Equal([HostStateRefusal.Damaged, HostStateRefusal.Damaged], refusals[..2]);
        Assert.All(refusals[2..], refusal => Assert.Equal(HostStateRefusal.None, refusal));

        IEnumerable<(CommandKind, byte[])> Each(CommandKind kind) => pages.ConvertAll(piece => (kind, piece));
    }

    // A word for VMPL0 whenever it has read a register: it may halt by then, or VMPL2 run or halt.
    [Fact]
    public async Task NotifySvsm_WhateverRuns_ReachesVmpl0()
    {
        int told = 0;
        RunResult result = await RunAsync(Notified, MachinePorts.MigrationSource, (_, type, payload) =>
        {
            told += type == LinkFrame.CommandDone && payload[4] == 0 ? 1 : 0;
            return type == LinkFrame.DeviceAccess ? [.. Answer, .. Command(CommandKind.NotifySvsm)] : [];
        });
        Assert.True(result is { Reason: StopReason.GuestExit, Detail: 0 }, result.ToString());
        Assert.Equal(3, told);
    }

    private static byte[] Answer => QemuRun.Frame(LinkFrame.DeviceAnswer, [.. BitConverter.GetBytes(DeviceValue), .. new byte[8]]);

    // What follows a command that is done; null: the guest goes on.
    private Task<RunResult> RunAsync(ulong scenario, int place, Func<MemoryMappedViewAccessor, CommandKind, HostStateAnswer, byte[]?> follow) =>
        RunAsync(scenario, place, (window, type, payload) =>
        {
            if (type == LinkFrame.DeviceAccess)
            {
                return Command(CommandKind.Hold);
            }

            var done = (CommandKind)BinaryPrimitives.ReadUInt32LittleEndian(payload);
            HostStateAnswer answer = payload.Length > 8 ? MemoryMarshal.Read<HostStateAnswer>(payload.AsSpan(8)) : default;
            return done == CommandKind.Release ? Answer : follow(window, done, answer) ?? Command(CommandKind.Release);
        });

    private async Task<RunResult> RunAsync(ulong scenario, int place, Func<MemoryMappedViewAccessor, LinkFrame, byte[], byte[]> react)
    {
        byte[] blob = ProbeLaunch.Make(scenario);
        BinaryPrimitives.WriteUInt32LittleEndian(blob.AsSpan(HostDevicesOffset), 1u << place);
        string path = Path.Combine(_folder.FullName, $"window{scenario}");
        using var file = MemoryMappedFile.CreateFromFile(path, FileMode.CreateNew, null, Link.WindowLength);
        using MemoryMappedViewAccessor window = file.CreateViewAccessor();
        return await QemuRun.StartAsync(
            await File.ReadAllBytesAsync(QemuRun.Hypervisor, TestContext.Current.CancellationToken),
            blob,
            _ => [],
            (type, payload) => react(window, type, payload),
            TestContext.Current.CancellationToken,
            "-object", $"memory-backend-file,id=window,mem-path={path},size={Link.WindowLength},share=on",
            "-device", "ivshmem-plain,memdev=window,addr=1e");
    }

    private static byte[] Command(CommandKind kind, ulong address = 0, ulong value = 0)
    {
        var header = new CommandHeader { Kind = kind, Address = address, Value = value };
        return QemuRun.Frame(LinkFrame.Command, MemoryMarshal.AsBytes(new ReadOnlySpan<CommandHeader>(in header)));
    }

    private static byte[] Read(MemoryMappedViewAccessor window, uint length)
    {
        byte[] bytes = new byte[length];
        window.ReadArray(0, bytes, 0, bytes.Length);
        return bytes;
    }
}
