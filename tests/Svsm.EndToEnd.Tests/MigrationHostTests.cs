// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// What the simulated machine has for a migration, with a relay of this test, and without an SVSM that migrates.

using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Net.Sockets;
using System.Text;
using System.Threading.Tasks;
using Svsm.Simulator;
using Xunit;

namespace Svsm.EndToEnd.Tests;

public sealed class MigrationHostTests : IDisposable
{
    private const byte KindOfMachine = 4;

    private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("svsm-test-");

    public void Dispose() => _folder.Delete(recursive: true);

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task State_WhileTheGuestRuns_CannotBeGivenAndTheGuestGoesOn(bool threads)
    {
        using ImageUnderTest image = ImageUnderTest.Build("loop");
        MachineTest machine = await StartAsync(image.Options() with { Threads = threads, VcpuCount = 2 }, MigrationRole.Source);
        await machine.WaitForLineAsync("probe: running for ever", vmpl: 2);
        using Socket relay = Connect(MigrationRole.Source);

        // VMPL0 may have its turn at the moment: the machine cannot know that the guest has not been stopped.
        List<byte[]> answer;
        do
        {
            Send(relay, [0x01]);
            answer = await ReceiveUntilAsync(relay, 0x82, 0x85);
        }
        while (answer[^1][0] == 0x82);
        Assert.Contains("runs", Encoding.UTF8.GetString(Assert.Single(answer)), StringComparison.Ordinal);
        relay.Dispose();

        MachineResult result = await machine.StopAsync();
        Assert.Equal(MachineStop.Stopped, result.Stop);
        await machine.DisposeAsync();
        Assert.Empty(_folder.GetFileSystemInfos());
    }

    // Both stand still in front of the first instruction, so that no other VMPL runs.
    [Fact]
    public async Task State_FromMachineToMachine_IsTakenWhole()
    {
        using ImageUnderTest image = ImageUnderTest.Build("loop");
        MachineOptions options = image.Options() with { GdbPort = 0, VcpuCount = 3 };
        await using MachineTest source = await StartAsync(options, MigrationRole.Source);
        await using MachineTest target = await StartAsync(options, MigrationRole.Target);
        using Socket from = Connect(MigrationRole.Source);
        using Socket to = Connect(MigrationRole.Target);
        Send(from, [0x01]);
        List<byte[]> state = await ReceiveUntilAsync(from, 0x82);
        Assert.InRange(state.Count, 2, int.MaxValue);

        // A byte is lost on the way.
        byte[] short1 = state[0][..^1];
        foreach (byte[] part in (byte[][])[short1, .. state[1..]])
        {
            Send(to, part);
        }

        Assert.Single(await ReceiveUntilAsync(to, 0x84));
        state.ForEach(part => Send(to, part));
        Assert.Single(await ReceiveUntilAsync(to, 0x83));

        byte[] saved = await source.SaveHostStateAsync();
        await target.RestoreHostStateAsync(saved);
        byte[] damaged = (byte[])saved.Clone();
        damaged[^1] ^= 1;
        Array.Resize(ref damaged, damaged.Length - 1);
        await Assert.ThrowsAsync<MachineTestException>(() => target.RestoreHostStateAsync(damaged));
        Assert.Equal((await source.ReadRmpAsync()).Ranges, (await target.ReadRmpAsync()).Ranges);
    }

    [Fact]
    public async Task State_OfAnotherKindOfMachine_IsRefused()
    {
        using ImageUnderTest image = ImageUnderTest.Build("loop");
        MachineOptions options = image.Options() with { GdbPort = 0 };
        await using MachineTest source = await StartAsync(options, MigrationRole.Source);
        await using MachineTest target = await StartAsync(options with { VcpuCount = 2 }, MigrationRole.Target);
        byte[] saved = await source.SaveHostStateAsync();
        Assert.Contains("vCPUs", (await Assert.ThrowsAsync<MachineTestException>(() => target.RestoreHostStateAsync(saved))).Message, StringComparison.Ordinal);
    }

    private Task<MachineTest> StartAsync(MachineOptions options, MigrationRole role) =>
        MachineTest.StartAsync(options with { Migration = new MachineMigration(role, PathOf(role)) }, TestContext.Current.CancellationToken);

    private string PathOf(MigrationRole role) => Path.Combine(_folder.FullName, role.ToString());

    private Socket Connect(MigrationRole role)
    {
        var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        socket.Connect(new UnixDomainSocketEndPoint(PathOf(role)));
        return socket;
    }

    private static void Send(Socket socket, byte[] contents) =>
        socket.Send((byte[])[.. BitConverter.GetBytes(contents.Length), KindOfMachine, 0, 0, 0, .. contents]);

    // The contents of frames up to one of these.
    private static async Task<List<byte[]>> ReceiveUntilAsync(Socket socket, params byte[] last)
    {
        var all = new List<byte[]>();
        do
        {
            byte[] header = await ReceiveAsync(socket, 8);
            Assert.Equal(KindOfMachine, header[4]);
            all.Add(await ReceiveAsync(socket, BinaryPrimitives.ReadInt32LittleEndian(header)));
        }
        while (!last.Contains(all.Last()[0]));
        return all;
    }

    private static async Task<byte[]> ReceiveAsync(Socket socket, int length)
    {
        byte[] data = new byte[length];
        for (int done = 0; done < length;)
        {
            int count = await socket.ReceiveAsync(data.AsMemory(done), TestContext.Current.CancellationToken);
            Assert.NotEqual(0, count);
            done += count;
        }

        return data;
    }
}
