// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using System.IO;
using System.Linq;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text.RegularExpressions;
using System.Threading.Tasks;
using Svsm.Simulator;
using Svsm.Simulator.Shared;
using Xunit;

namespace Svsm.Linux.Tests;

/// <summary>Debian's Linux as an SNP guest at VMPL0, without an SVSM.</summary>
public sealed partial class LinuxBootTests(LinuxGuest guest) : IClassFixture<LinuxGuest>
{
    [Theory]
    [InlineData(1, false)]
    [InlineData(4, false)]
    [InlineData(4, true)]
    public Task Boot_StockKernel_ReachesUserSpaceAsSnpGuest(int vcpuCount, bool threads) => CheckAsync(vcpuCount, options => options with { Threads = threads });

    // In the long run only: it fetches 27 MB, and a suite drops a version when it has the next.
    [Theory]
    [Trait("Run", "all")]
    [InlineData(1)]
    [InlineData(4)]
    public async Task Boot_NewestQemu_ReachesUserSpaceAsSnpGuest(int vcpuCount)
    {
        string qemu = await DebianPackage.GetNewestQemuAsync();
        await CheckAsync(vcpuCount, options => options with { QemuPath = qemu });
    }

    [Fact]
    public async Task AttestationReport_ByConfigfs_VerifiesAgainstTheChain()
    {
        byte[] data = RandomNumberGenerator.GetBytes(64);
        string octal = string.Concat(data.Select(value => $"\\{Convert.ToString(value, 8).PadLeft(3, '0')}"));
        MachineResult result = await RunAsync(
            $"""
            for module in configfs gf128mul ghash-generic crypto_null gcm tsm sev-guest; do insmod /modules/$module.ko.xz; done
            mount -t configfs none /sys/kernel/config
            mkdir /sys/kernel/config/tsm/report/test
            cd /sys/kernel/config/tsm/report/test
            printf '{octal}' > inblob
            echo "provider: $(cat provider)"
            od -An -v -tx1 outblob | tr -d ' ' | sed 's/^/report: /'
            """,
            vcpuCount: 1);
        string console = LinuxGuest.ConsoleOf(result, vmpl: 0);
        Assert.True(console.Contains("provider: sev_guest", StringComparison.Ordinal), console);
        byte[] report = Convert.FromHexString(string.Concat(ReportLine().Matches(console).Select(match => match.Groups[1].Value)));

        Assert.Equal(0x4A0, report.Length);
        Assert.Equal(0u, BinaryPrimitives.ReadUInt32LittleEndian(report.AsSpan(0x30)));
        Assert.Equal(data, report[0x50..0x90]);
        Assert.Equal(result.LaunchDigest.ToArray(), report[0x90..0xC0]);

        using X509Certificate2 root = Certificate("ark.pem");
        using X509Certificate2 authority = Certificate("ask.pem");
        using X509Certificate2 chip = Certificate("vcek.pem");
        using var chain = new X509Chain();
        chain.ChainPolicy.TrustMode = X509ChainTrustMode.CustomRootTrust;
        chain.ChainPolicy.CustomTrustStore.Add(root);
        chain.ChainPolicy.ExtraStore.Add(authority);
        chain.ChainPolicy.RevocationMode = X509RevocationMode.NoCheck;
        Assert.True(chain.Build(chip), string.Join(", ", chain.ChainStatus.Select(status => status.StatusInformation)));
        using ECDsa key = chip.GetECDsaPublicKey()!;
        byte[] signature = [.. report[0x2A0..0x2D0].Reverse(), .. report[0x2E8..0x318].Reverse()];
        Assert.True(key.VerifyData(report.AsSpan(0, 0x2A0), signature, HashAlgorithmName.SHA384, DSASignatureFormat.IeeeP1363FixedFieldConcatenation));
    }

    // The kernel unpacks itself, finds out, and halts for ever.
    [Fact]
    public async Task Boot_DamagedKernel_EndsWithAReport()
    {
        MachineOptions options = await PrepareAsync("", 1);
        options = options with { GuestKernelPath = await DamageAsync(options.GuestKernelPath!, kernel => kernel.AsSpan(kernel.Length / 2, 4096).Fill(0x5A)) };
        MachineResult result = await Machine.RunAsync(options, TestContext.Current.CancellationToken);

        Assert.True(result.Violation == ViolationKind.HaltForever, $"{result}\n{result.ConsoleText(0)}");
        Assert.Single(result.Reports);
    }

    // The kernel panics, and restarts the machine.
    [Fact]
    [Trait("Run", "all")]
    public async Task Boot_DamagedRamDisk_EndsWithAReport()
    {
        MachineOptions options = await PrepareAsync("", 1);
        options = options with { InitialRamDiskPath = await DamageAsync(options.InitialRamDiskPath!, disk => disk.AsSpan(4096, disk.Length / 2).Fill(0x5A)) };
        MachineResult result = await Machine.RunAsync(options, TestContext.Current.CancellationToken);

        Assert.True(result.Stop == MachineStop.Reset, $"{result}\n{result.ConsoleText(0)}");
        Assert.Single(result.Reports);
        Assert.Contains("Kernel panic", result.ConsoleText(0), StringComparison.Ordinal);
    }

    // A process takes all memory that there is: the kernel ends it and goes on; told to panic instead, it restarts the machine.
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    [Trait("Run", "all")]
    public async Task Boot_GuestThatExhaustsMemory_EndsWithAReport(bool panics)
    {
        MachineOptions options = await PrepareAsync($"echo {(panics ? 2 : 0)} > /proc/sys/vm/panic_on_oom; tail /dev/zero; echo \"ended by signal $(($? - 128))\"", 1);
        MachineResult result = await Machine.RunAsync(options with { MemoryMiB = 256 }, TestContext.Current.CancellationToken);

        Assert.True(result.Stop == (panics ? MachineStop.Reset : MachineStop.GuestExit), $"{result}\n{result.ConsoleText(0)}");
        Assert.Equal(panics ? 1 : 0, result.Reports.Length);
        Assert.Contains(panics ? "Kernel panic - not syncing: Out of memory" : "ended by signal 9", result.ConsoleText(0), StringComparison.Ordinal);
    }

    // Messages that the host tears and repeats, each with a key of its own: the driver gives a key up when a message under it failed.
    [Fact]
    public async Task GuestMessages_TornAndRepeated_AreRefusedByGuestAndFirmware()
    {
        const ulong InThePayload = 0x68;
        MachineOptions options = await PrepareAsync(
            """
            for module in configfs gf128mul ghash-generic crypto_null gcm tsm; do insmod /modules/$module.ko.xz; done
            mount -t configfs none /sys/kernel/config
            report() {
                mkdir /sys/kernel/config/tsm/report/$1
                cd /sys/kernel/config/tsm/report/$1
                echo $2 > privlevel
                printf %064d 0 > inblob
                if cat outblob > /report; then echo "$1 with key $2: $(stat -c %s /report) bytes"; else echo "$1 with key $2: refused"; fi
                cd /
                rmdir /sys/kernel/config/tsm/report/$1
            }
            for key in 0 1 2 3; do
                insmod /modules/sev-guest.ko.xz vmpck_id=$key
                report honest $key
                report attacked $key
                rmmod sev-guest
            done
            """,
            vcpuCount: 1);
        options = options with
        {
            Attacks = [Attack.TearMessage(2, InThePayload), Attack.RepeatMessage(4), Attack.TearRequest(6, InThePayload), Attack.RepeatRequest(8)],
        };
        MachineResult result = await Machine.RunAsync(options, TestContext.Current.CancellationToken);
        string console = LinuxGuest.ConsoleOf(result, vmpl: 0);

        Assert.Equal(
            [("message-tear", 2ul), ("message-repeat", 4ul), ("request-tear", 6ul), ("request-repeat", 8ul)], result.Attacks.Select(attack => (attack.Name, attack.Number)));
        Assert.All(result.Attacks, attack => Assert.Equal(AttackOutcome.Done, attack.Outcome));
        for (int key = 0; key < 4; key++)
        {
            Assert.Contains($"honest with key {key}: 1184 bytes\n", console, StringComparison.Ordinal);
            Assert.Contains($"attacked with key {key}: refused\n", console, StringComparison.Ordinal);
            Assert.Contains($"Disabling VMPCK{key} communication key", console, StringComparison.Ordinal);
        }

        // What the firmware said to the requests: the tag does not fit, the number was used.
        Assert.Contains("exitinfo2: 0xb\n", console, StringComparison.Ordinal);
        Assert.Contains("exitinfo2: 0x1d\n", console, StringComparison.Ordinal);
    }

    private async Task CheckAsync(int vcpuCount, Func<MachineOptions, MachineOptions> how)
    {
        MachineOptions options = await PrepareAsync(
            """
            echo "cpus: $(grep -c ^processor /proc/cpuinfo)"
            echo "features:$(grep -m 1 ^flags /proc/cpuinfo | cut -d : -f 2) ."
            sleep 0.1
            for i in 1 2 3 4 5 6 7 8; do (sha256sum /bin/busybox > /tmp.$i) & done
            wait
            echo "sums: $(cat /tmp.* | sort -u | wc -l)"
            """,
            vcpuCount);
        MachineResult result = await Machine.RunAsync(how(options), TestContext.Current.CancellationToken);
        string console = LinuxGuest.ConsoleOf(result, vmpl: 0);
        Assert.Contains("Memory Encryption Features active: AMD SEV SEV-ES SEV-SNP", console, StringComparison.Ordinal);
        Assert.Contains("SEV: SNP running at VMPL0.", console, StringComparison.Ordinal);
        Assert.Contains($"cpus: {vcpuCount}\n", console, StringComparison.Ordinal);
        Assert.Contains("sums: 1\n", console, StringComparison.Ordinal);

        // Without what the machine hides, whatever QEMU has.
        string features = console.Split('\n').Single(line => line.StartsWith("features:", StringComparison.Ordinal));
        Assert.All(
            (string[])["svm", "xsave", "xsavec", "xsaves", "avx", "avx2", "fma", "f16c", "vaes", "pcid", "invpcid", "monitor", "tsc_deadline_timer", "tsc_adjust"],
            name => Assert.DoesNotContain($" {name} ", features, StringComparison.Ordinal));
        Assert.All((string[])["rdrand", "aes", "x2apic", "hypervisor", "rdtscp"], name => Assert.Contains($" {name} ", features, StringComparison.Ordinal));

        // Linux counts on firmware, which validates RAM; here the launch does, and says so.
        Assert.True(result.PagesValidatedAtLaunch > 0);
        Assert.Contains(
            $"\n  launch      {result.PagesValidatedAtLaunch} pages of RAM were validated at launch, as firmware would have left them\n", result.ToSummary(), StringComparison.Ordinal);
    }

    private async Task<MachineResult> RunAsync(string commands, int vcpuCount) =>
        await Machine.RunAsync(await PrepareAsync(commands, vcpuCount), TestContext.Current.CancellationToken);

    // A restart goes by ACPI, so that the machine sees it.
    private async Task<MachineOptions> PrepareAsync(string commands, int vcpuCount) =>
        await guest.PrepareAsync(commands, vcpuCount, TestContext.Current.CancellationToken) with { KernelCommandLine = "console=ttyS0 panic=-1 reboot=acpi" };

    // A copy of a file, with bytes of it changed.
    private async Task<string> DamageAsync(string path, Action<byte[]> damage)
    {
        byte[] bytes = await File.ReadAllBytesAsync(path, TestContext.Current.CancellationToken);
        damage(bytes);
        string copy = Path.Combine(guest.Folder, $"damaged-{Guid.NewGuid():N}");
        await File.WriteAllBytesAsync(copy, bytes, TestContext.Current.CancellationToken);
        return copy;
    }

    private X509Certificate2 Certificate(string name) => X509Certificate2.CreateFromPem(File.ReadAllText(Path.Combine(guest.ChipFolder, name)));

    [GeneratedRegex("report: ([0-9a-f]+)\n")]
    private static partial Regex ReportLine();
}
