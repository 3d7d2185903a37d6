// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.IO;
using System.Net;
using System.Net.Sockets;
using System.Security.Cryptography;
using System.Threading;
using System.Threading.Tasks;
using Svsm.Simulator;
using Xunit;

namespace Svsm.Linux.Tests;

/// <summary>Disks and network of QEMU for Debian's Linux: alone at VMPL0, and at VMPL2 with the SVSM.</summary>
public sealed class DeviceTests(LinuxGuest guest) : IClassFixture<LinuxGuest>
{
    private const int SourceLength = 1 << 20;

    [Theory]
    [InlineData(0)]
    [InlineData(2)]
    public async Task Disks_ReadWrittenAndMounted_HaveTheSameBytesOnTheHost(int vmpl)
    {
        byte[] source = RandomNumberGenerator.GetBytes(SourceLength);
        string sourcePath = Path.Combine(guest.Folder, $"source-{vmpl}");
        string targetPath = Path.Combine(guest.Folder, $"target-{vmpl}");
        await File.WriteAllBytesAsync(sourcePath, source, TestContext.Current.CancellationToken);
        await File.WriteAllBytesAsync(targetPath, new byte[8 << 20], TestContext.Current.CancellationToken);
        MachineOptions options = await PrepareAsync(
            """
            insmod /modules/virtio_blk.ko.xz
            mke2fs /dev/vdb > /dev/null
            mkdir /disk
            mount -t ext4 /dev/vdb /disk
            cat /dev/vda > /disk/copy
            umount /disk
            mount -t ext4 -o ro /dev/vdb /disk
            cmp /disk/copy /dev/vda && echo "file: the same"
            umount /disk
            dd if=/dev/zero of=/dev/vda bs=4096 count=1 conv=fsync 2>/dev/null || echo "source: read-only"
            dd if=/dev/vda of=/dev/vdb bs=65536 seek=64 conv=fsync 2>/dev/null
            grep -q virtio /proc/interrupts && echo "interrupts: $(grep virtio /proc/interrupts | tr -s ' ' | cut -d ' ' -f 4- | tr '\n' ' ')"
            """,
            vmpl);

        MachineResult result = await Machine.RunAsync(
            options with { Disks = [new MachineDisk(sourcePath) { ReadOnly = true }, new MachineDisk(targetPath)] }, TestContext.Current.CancellationToken);

        string console = LinuxGuest.ConsoleOf(result, vmpl);
        Assert.Contains("file: the same\n", console, StringComparison.Ordinal);
        Assert.Contains("source: read-only\n", console, StringComparison.Ordinal);
        Assert.Contains("IO-APIC", console, StringComparison.Ordinal);
        Assert.Equal(source, await File.ReadAllBytesAsync(sourcePath, TestContext.Current.CancellationToken));
        byte[] target = await File.ReadAllBytesAsync(targetPath, TestContext.Current.CancellationToken);
        Assert.Equal(source, target[(4 << 20)..(5 << 20)]);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(2)]
    public async Task Network_EchoInTheGuest_ReturnsWhatTheHostSends(int vmpl)
    {
        MachineOptions options = await PrepareAsync(
            """
            for module in failover net_failover virtio_net; do insmod /modules/$module.ko.xz; done
            ifconfig eth0 10.0.2.15 up
            nc -l -p 7 -e cat &
            until grep -q ':0007 .* 0A ' /proc/net/tcp /proc/net/tcp6; do sleep 0.1; done
            echo "net: listening"
            wait
            """,
            vmpl);

        // An address of this PC that nobody else uses; so the port is free.
        byte[] number = RandomNumberGenerator.GetBytes(3);
        var listen = new IPEndPoint(new IPAddress([127, (byte)(1 + (number[0] % 250)), number[1], (byte)(1 + (number[2] % 250))]), 7007);
        await using MachineTest machine = await MachineTest.StartAsync(
            options with { Network = new MachineNetwork { Listen = listen, GuestPort = 7 } }, TestContext.Current.CancellationToken);
        await machine.WaitForLineAsync("net: listening");

        byte[] sent = RandomNumberGenerator.GetBytes(200_000);
        byte[] received = new byte[sent.Length];
        using var client = new TcpClient();
        await client.ConnectAsync(listen, TestContext.Current.CancellationToken);
        NetworkStream stream = client.GetStream();
        Task sending = SendAsync();
        await stream.ReadExactlyAsync(received, TestContext.Current.CancellationToken);
        await sending;
        client.Close();

        LinuxGuest.ConsoleOf(await machine.WaitForEndAsync(), vmpl);
        Assert.Equal(sent, received);

        async Task SendAsync()
        {
            await stream.WriteAsync(sent, TestContext.Current.CancellationToken);
            client.Client.Shutdown(SocketShutdown.Send);
        }
    }

    private Task<MachineOptions> PrepareAsync(string commands, int vmpl)
    {
        CancellationToken cancellation = TestContext.Current.CancellationToken;
        return vmpl == 0 ? guest.PrepareAsync(commands, vcpuCount: 1, cancellation) : guest.PrepareWithSvsmAsync(commands, vcpuCount: 1, cancellation);
    }
}
