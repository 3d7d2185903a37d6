// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System.IO;
using System.Linq;
using System.Net;
using System.Threading.Tasks;
using Svsm.Diagnostics;
using Svsm.Simulator.Shared;
using Xunit;

namespace Svsm.Simulator.Tests;

public sealed class MachineDevicesTests
{
    [Theory]
    [InlineData("a.img", "a.img", false)]
    [InlineData("a.img,readonly", "a.img", true)]
    [InlineData("a,b.img", "a,b.img", false)]
    [InlineData("readonly", "readonly", false)]
    public void Disk_Parse_TakesTheSuffix(string text, string path, bool readOnly)
    {
        Assert.Equal(new MachineDisk(path) { ReadOnly = readOnly }, MachineDisk.Parse(text));
    }

    [Theory]
    [InlineData("user:2222:22", "127.0.0.1:2222", 22)]
    [InlineData("user:127.1.2.3:65535:1", "127.1.2.3:65535", 1)]
    public void Network_Parse_TakesAddressAndPorts(string text, string listen, int guestPort)
    {
        Assert.Equal(new MachineNetwork { Listen = IPEndPoint.Parse(listen), GuestPort = guestPort }, MachineNetwork.Parse(text));
    }

    [Fact]
    public void Network_ParseUserAlone_ListensNowhere()
    {
        Assert.Equal(new MachineNetwork(), MachineNetwork.Parse("user"));
    }

    [Theory]
    [InlineData("")]
    [InlineData("tap")]
    [InlineData("user:22")]
    [InlineData("user:0:22")]
    [InlineData("user:65536:22")]
    [InlineData("user:-1:22")]
    [InlineData("user:2222:22,restrict=off")]
    [InlineData("user:::1:2222:22")]
    [InlineData("user:nobody:2222:22")]
    [InlineData("user:1.2.3.4:2222:22:1")]
    public void Network_ParseNonsense_IsRefused(string text)
    {
        var error = Assert.Throws<SvsmDiagnosticException>(() => MachineNetwork.Parse(text));
        Assert.Same(SvsmDiagnostics.RunOptionInvalid, error.Diagnostic);
    }

    [Fact]
    public async Task RunAsync_Devices_AreQemus()
    {
        using var qemu = new FakeQemu("cat \"$here/frames\"", Frames.Hello, Frames.Exit(StopReason.GuestExit, 0));
        string disk = qemu.Path("a,b \".img");
        File.WriteAllBytes(disk, new byte[512]);
        await Machine.RunAsync(
            qemu.Options with
            {
                Disks = [new MachineDisk(disk), new MachineDisk(disk) { ReadOnly = true }],
                Network = new MachineNetwork { Listen = new IPEndPoint(IPAddress.Loopback, 2222), GuestPort = 22 },
            },
            TestContext.Current.CancellationToken);

        string arguments = qemu.Read("arguments");
        Assert.Contains("-device intel-iommu,intremap=off -blockdev ", arguments, System.StringComparison.Ordinal);
        Assert.Contains("a,b \\u0022.img", arguments, System.StringComparison.Ordinal);
        Assert.Contains("-device virtio-blk-pci,drive=disk0,addr=2,disable-legacy=on,iommu_platform=on,vectors=0 ", arguments, System.StringComparison.Ordinal);
        Assert.Contains("\"node-name\":\"disk1\",\"read-only\":true,", arguments, System.StringComparison.Ordinal);
        Assert.Contains("-netdev user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:2222-:22 ", arguments, System.StringComparison.Ordinal);
        Assert.EndsWith("-device virtio-net-pci,netdev=net,romfile=,addr=4,disable-legacy=on,iommu_platform=on,vectors=0", arguments, System.StringComparison.Ordinal);
    }

    [Fact]
    public async Task RunAsync_NoDevices_HasNoIommu()
    {
        using var qemu = new FakeQemu("cat \"$here/frames\"", Frames.Hello, Frames.Exit(StopReason.GuestExit, 0));
        await Machine.RunAsync(qemu.Options, TestContext.Current.CancellationToken);
        Assert.DoesNotContain("iommu", qemu.Read("arguments"), System.StringComparison.Ordinal);
    }

    [Fact]
    public async Task RunAsync_DevicesThatCannotBe_AreRefused()
    {
        using var qemu = new FakeQemu("exit 1");
        string disk = qemu.Path("disk");
        File.WriteAllBytes(disk, new byte[512]);
        File.WriteAllBytes(qemu.Path("odd"), new byte[513]);
        File.WriteAllBytes(qemu.Path("empty"), []);
        MachineOptions options = qemu.Options;
        await RefusedAsync(options with { Disks = [new MachineDisk(qemu.Path("none"))] }, SvsmDiagnostics.RunFileUnreadable, "none");
        await RefusedAsync(options with { Disks = [new MachineDisk("")] }, SvsmDiagnostics.RunFileUnreadable, "''");
        await RefusedAsync(options with { Disks = [new MachineDisk(qemu.Path("odd"))] }, SvsmDiagnostics.RunOptionInvalid, "513 bytes");
        await RefusedAsync(options with { Disks = [new MachineDisk(qemu.Path("empty"))] }, SvsmDiagnostics.RunOptionInvalid, "0 bytes");
        await RefusedAsync(options with { Disks = [.. Enumerable.Repeat(new MachineDisk(disk), 9)] }, SvsmDiagnostics.RunOptionInvalid, "9 disks");
        await RefusedAsync(options with { Disks = [.. Enumerable.Repeat(new MachineDisk(disk), 8)], Network = new MachineNetwork() }, SvsmDiagnostics.RunOptionInvalid, "9 disks");
        await RefusedAsync(options with { Network = new MachineNetwork(), CountInstructions = true }, SvsmDiagnostics.RunOptionInvalid, "--icount");
        await RefusedAsync(options with { Network = new MachineNetwork { Listen = new IPEndPoint(IPAddress.Loopback, 1) } }, SvsmDiagnostics.RunOptionInvalid, "port 0");
    }

    private static async Task RefusedAsync(MachineOptions options, SvsmDiagnostic diagnostic, string part)
    {
        var error = await Assert.ThrowsAsync<SvsmDiagnosticException>(() => Machine.RunAsync(options, TestContext.Current.CancellationToken));
        Assert.Same(diagnostic, error.Diagnostic);
        Assert.Contains(part, error.Message, System.StringComparison.Ordinal);
    }
}
