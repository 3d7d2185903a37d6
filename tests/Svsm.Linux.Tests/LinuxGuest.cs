// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Debian's kernel with an initial RAM disk of BusyBox and the modules for attestation and virtio devices, as files in a folder of their own. Its /init
// runs the commands that a test gives, and switches the machine off.

using System;
using System.IO;
using System.Linq;
using System.Reflection;
using System.Text;
using System.Threading;
using System.Threading.Tasks;
using Svsm.Builder;
using Svsm.Simulator;
using Svsm.Wire;
using Xunit;

namespace Svsm.Linux.Tests;

/// <summary>What all tests of the project boot.</summary>
public class LinuxGuest : IAsyncLifetime
{
    // Far beyond what a run takes on a busy machine; only a hang gets there, and then it fails the test.
    private static readonly TimeSpan s_hang = TimeSpan.FromMinutes(10);

    private const string ModuleFolder = $"./lib/modules/{DebianPackage.KernelRelease}/kernel/";
    private static readonly string[] s_modules =
    [
        "fs/configfs/configfs.ko.xz", "lib/crypto/gf128mul.ko.xz", "crypto/ghash-generic.ko.xz", "crypto/crypto_null.ko.xz", "crypto/gcm.ko.xz",
        "drivers/virt/coco/tsm.ko.xz", "drivers/virt/coco/sev-guest/sev-guest.ko.xz",
        "drivers/block/virtio_blk.ko.xz", "net/core/failover.ko.xz", "drivers/net/net_failover.ko.xz", "drivers/net/virtio_net.ko.xz",
    ];

    private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("svsm-linux-");
    private byte[] _busyBox = [];
    private (string Path, byte[] Contents)[] _files = [];

    /// <summary>The kernel, a file.</summary>
    public string KernelPath => Path.Combine(_folder.FullName, "vmlinuz");

    /// <summary>Folder of the simulated chip.</summary>
    public string ChipFolder => Path.Combine(_folder.FullName, "chip");

    /// <inheritdoc/>
    public async ValueTask InitializeAsync()
    {
        (byte[] kernel, _files) = await ReadKernelAsync();
        await File.WriteAllBytesAsync(KernelPath, kernel);
        _busyBox = (await DebianPackage.BusyBox.ReadAsync("./bin/busybox"))[0];
    }

    /// <summary>Gets the kernel, and files for the initial RAM disk: paths in it.</summary>
    protected virtual async Task<(byte[] Kernel, (string Path, byte[] Contents)[] Files)> ReadKernelAsync()
    {
        byte[][] files = await DebianPackage.Kernel.ReadAsync(
            [$"./boot/vmlinuz-{DebianPackage.KernelRelease}", .. s_modules.Select(module => ModuleFolder + module)]);
        return (files[0], [.. s_modules.Select((module, i) => ("modules/" + Path.GetFileName(module), files[i + 1]))]);
    }

    /// <inheritdoc/>
    public ValueTask DisposeAsync()
    {
        GC.SuppressFinalize(this);
        _folder.Delete(recursive: true);
        return ValueTask.CompletedTask;
    }

    /// <summary>A folder for files of a test, which goes with this.</summary>
    public string Folder => _folder.FullName;

    /// <summary>What to run: Linux alone at VMPL0.</summary>
    /// <param name="commands">Commands of a shell, run in user space before the machine is switched off.</param>
    /// <param name="vcpuCount">Number of vCPUs.</param>
    /// <param name="cancellation">Ends the preparation.</param>
    public async Task<MachineOptions> PrepareAsync(string commands, int vcpuCount, CancellationToken cancellation)
    {
        string disk = Path.Combine(_folder.FullName, $"initrd-{Guid.NewGuid():N}");
        await File.WriteAllBytesAsync(disk, Pack(commands), cancellation);
        return new MachineOptions
        {
            GuestKernelPath = KernelPath,
            InitialRamDiskPath = disk,
            KernelCommandLine = "console=ttyS0 panic=-1",
            HypervisorPath = PathOf("Hypervisor"),
            ChipFolder = ChipFolder,
            VcpuCount = vcpuCount,
            MemoryMiB = 512,
            Timeout = s_hang,
        };
    }

    /// <summary>What to run: an image with the SVSM, which starts Linux at VMPL2.</summary>
    /// <param name="commands">Commands of a shell, run in user space before the machine is switched off.</param>
    /// <param name="vcpuCount">Number of vCPUs.</param>
    /// <param name="cancellation">Ends the preparation.</param>
    /// <param name="program">The program of the image's modules: the name of its path in the metadata of this assembly.</param>
    /// <param name="modules">The image's modules.</param>
    public async Task<MachineOptions> PrepareWithSvsmAsync(
        string commands, int vcpuCount, CancellationToken cancellation, string program = "Modules", params ModuleOptions[] modules)
    {
        var options = new SvsmImageOptions
        {
            Kernel = await File.ReadAllBytesAsync(PathOf("Kernel"), cancellation),
            Linux = new LinuxGuestOptions
            {
                Kernel = await File.ReadAllBytesAsync(KernelPath, cancellation),
                InitialRamDisk = Pack(commands),
                CommandLine = "console=ttyS0 panic=-1 reboot=acpi",
            },
        };
        if (modules.Length != 0)
        {
            options = options with
            {
                Modules = [.. modules],
                Files = [new ModuleFile(ModuleOptions.DefaultProgram, await File.ReadAllBytesAsync(PathOf(program), cancellation))],
            };
        }

        WrittenSvsmImage image = SvsmImageWriter.WriteFiles(options, _folder.FullName, $"svsm-{Guid.NewGuid():N}", [HostFlavour.Qemu]).Single();
        return new MachineOptions
        {
            ImagePath = image.ImagePath,
            ExpectedDigest = image.Files.LaunchDigest.ToArray(),
            HypervisorPath = PathOf("Hypervisor"),
            ChipFolder = ChipFolder,
            VcpuCount = vcpuCount,
            MemoryMiB = 256,
            Timeout = s_hang,
        };
    }

    /// <summary>What the guest said, after it switched itself off without a violation.</summary>
    /// <param name="result">The run.</param>
    /// <param name="vmpl">VMPL of the guest.</param>
    public static string ConsoleOf(MachineResult result, int vmpl)
    {
        string console = string.Concat(result.Console.Where(line => line.Source.Vmpl == vmpl).Select(line => line.Text.TrimEnd('\r') + "\n"));
        Assert.True(result.ExitStatus == 0, $"{result}\n{console}");
        Assert.Contains("init: done", console, StringComparison.Ordinal);
        Assert.DoesNotContain("unchecked MSR access", console, StringComparison.Ordinal);
        Assert.DoesNotContain("Call Trace", console, StringComparison.Ordinal);
        return console;
    }

    /// <summary>Boots an image with the SVSM and Debian's firmware, which starts Linux, runs commands in user space, and switches the machine off.</summary>
    /// <param name="commands">Commands of a shell.</param>
    /// <param name="vcpuCount">Number of vCPUs.</param>
    /// <param name="cancellation">Ends the run.</param>
    public async Task<MachineResult> RunWithFirmwareAsync(string commands, int vcpuCount, CancellationToken cancellation)
    {
        string disk = Path.Combine(_folder.FullName, $"initrd-{Guid.NewGuid():N}");
        await File.WriteAllBytesAsync(disk, Pack(commands), cancellation);
        return await Machine.RunAsync(
            await MakeFirmwareMachineAsync(cancellation) with
            {
                GuestKernelPath = KernelPath,
                InitialRamDiskPath = disk,
                KernelCommandLine = "console=ttyS0 panic=-1",
                VcpuCount = vcpuCount,
            },
            cancellation);
    }

    /// <summary>A machine for an image with the SVSM and Debian's firmware.</summary>
    /// <param name="cancellation">Ends the work.</param>
    public async Task<MachineOptions> MakeFirmwareMachineAsync(CancellationToken cancellation)
    {
        var options = new SvsmImageOptions
        {
            Kernel = await File.ReadAllBytesAsync(PathOf("Kernel"), cancellation),
            Firmware = (await DebianPackage.Firmware.ReadAsync("./usr/share/ovmf/OVMF.fd"))[0],
        };
        WrittenSvsmImage image = SvsmImageWriter.WriteFiles(options, _folder.FullName, $"svsm-{Guid.NewGuid():N}", [HostFlavour.Qemu]).Single();
        return new MachineOptions
        {
            ImagePath = image.ImagePath,
            ExpectedDigest = image.Files.LaunchDigest.ToArray(),
            HypervisorPath = PathOf("Hypervisor"),
            ChipFolder = ChipFolder,
            MemoryMiB = 512,
            Timeout = s_hang,
        };
    }

    private static string PathOf(string name) =>
        typeof(LinuxGuest).Assembly.GetCustomAttributes<AssemblyMetadataAttribute>().Single(metadata => metadata.Key == name).Value!;

    /// <summary>Makes an initial RAM disk.</summary>
    /// <param name="commands">Commands of a shell, run in user space before the machine is switched off.</param>
    public byte[] Pack(string commands)
    {
        var archive = new CpioArchive();
        foreach (string folder in (string[])["bin", "dev", "proc", "sys", .. _files.Select(file => Path.GetDirectoryName(file.Path)!).Distinct()])
        {
            archive.AddDirectory(folder);
        }

        archive.AddDevice("dev/console", 5, 1);
        archive.AddFile("bin/busybox", _busyBox);
        archive.AddFile("attest.sh", File.ReadAllBytes(PathOf("AttestScript")));
        foreach ((string path, byte[] contents) in _files)
        {
            archive.AddFile(path, contents);
        }

        archive.AddFile("init", Encoding.UTF8.GetBytes($"""
            #!/bin/busybox sh
            /bin/busybox --install -s /bin
            export PATH=/bin
            mount -t devtmpfs dev /dev
            mount -t proc proc /proc
            mount -t sysfs sys /sys
            echo "init: user space after $(cut -d ' ' -f 1 /proc/uptime) s"
            {commands}
            echo "init: done"
            poweroff -f

            """));
        return archive.Finish();
    }
}
