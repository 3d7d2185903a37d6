// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Runs the probe's scenarios in QEMU. Scenario numbers: Svsm.Simulator/HypervisorProbe/Scenarios.cs.

using System;
using System.IO;
using System.Security.Cryptography;
using System.Threading.Tasks;
using Svsm.Simulator.Shared;
using Xunit;

namespace Svsm.Hypervisor.Tests;

/// <summary>The simulated machine seen from inside.</summary>
public sealed class ProbeTests
{
    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(4, 2u)]
    [InlineData(6)]
    [InlineData(7, 2u)]
    [InlineData(10, 2u)]
    [InlineData(11, 2u)]
    [InlineData(12)]
    [InlineData(14)]
    [InlineData(43)]
    public async Task Probe_Scenario_Passes(ulong scenario, uint vcpuCount = 1)
    {
        RunResult result = await QemuRun.StartAsync(ProbeLaunch.Make(scenario, vcpuCount: vcpuCount), TestContext.Current.CancellationToken);
        Assert.True(result is { Reason: StopReason.GuestExit, Detail: 0 }, result.ToString());
        Assert.Equal(1, result.ExitStatus);
        Assert.Null(result.Report);
    }

    // Configuration space; DMA and interrupts.
    [Theory]
    [InlineData(8)]
    [InlineData(9)]
    public async Task Probe_PciDevice_PassesAndReachesNothingElse(ulong scenario)
    {
        RunResult result = await QemuRun.StartAsync(
            ProbeLaunch.Make(scenario),
            TestContext.Current.CancellationToken,
            "-device", "intel-iommu,intremap=off", "-device", "virtio-rng-pci,addr=2,disable-legacy=on,iommu_platform=on,vectors=0");
        Assert.True(result is { Reason: StopReason.GuestExit, Detail: 0 }, result.ToString());
    }

    [Fact]
    public async Task Launch_PciDeviceWithoutIommu_IsRefusedWithReason()
    {
        RunResult result = await QemuRun.StartAsync(ProbeLaunch.Make(8), TestContext.Current.CancellationToken, "-device", "virtio-rng-pci,addr=2,disable-legacy=on");
        Assert.Equal(StopReason.BadLaunch, result.Reason);
        Assert.Contains("IOMMU", result.Log.ToString(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Probe_TimeStampCounterIntercepted_IsVc()
    {
        var attack = new LaunchAttack { Action = AttackAction.InterceptTimeStampCounter, Vmpl = LaunchAttack.AnyVmpl, Code = LaunchAttack.AnyCode, First = 1, Repeat = 1 };
        RunResult result = await QemuRun.StartAsync(ProbeLaunch.Make(13, attacks: attack), TestContext.Current.CancellationToken);
        Assert.True(result is { Reason: StopReason.GuestExit, Detail: 0 }, result.ToString());
    }

    [Theory]
    [InlineData(16, ViolationKind.PrivateAccessToSharedPage, 0)]
    [InlineData(17, ViolationKind.SharedAccessToPrivatePage, 0)]
    [InlineData(18, ViolationKind.VmplPermission, 2)]
    [InlineData(19, ViolationKind.NoMemory, 0)]
    [InlineData(20, ViolationKind.VmsaPage, 2)]
    [InlineData(21, ViolationKind.VcNotDelivered, 0)]
    [InlineData(22, ViolationKind.Ghcb, 0)]
    [InlineData(23, ViolationKind.Ghcb, 0)]
    [InlineData(24, ViolationKind.Ghcb, 0)]
    [InlineData(25, ViolationKind.HaltForever, 0)]
    [InlineData(26, ViolationKind.InvalidVmsa, 2)]
    [InlineData(27, ViolationKind.SharedFetch, 0)]
    [InlineData(30, ViolationKind.PrivateAccessToSharedPage, 0)]
    [InlineData(31, ViolationKind.SharedAccessToPrivatePage, 0)]
    [InlineData(33, ViolationKind.PrivateAccessToSharedPage, 0)]
    [InlineData(34, ViolationKind.VmplPermission, 2)]
    [InlineData(35, ViolationKind.VmplPermission, 2)]
    [InlineData(36, ViolationKind.Unsupported, 0)]
    [InlineData(37, ViolationKind.InvalidVmsa, 0)]
    [InlineData(38, ViolationKind.InvalidVmsa, 2)]
    public async Task Probe_Violation_StopsWithReport(ulong scenario, ViolationKind kind, uint vmpl)
    {
        RunResult result = await QemuRun.StartAsync(ProbeLaunch.Make(scenario), TestContext.Current.CancellationToken);
        Assert.True(result is { Reason: StopReason.Violation, Report: not null }, result.ToString());
        StopReport report = result.Report!.Value;
        Assert.Equal((ulong)kind, result.Detail);
        Assert.Equal(kind, report.Violation);
        Assert.Equal(vmpl, report.Vmpl);
        Assert.InRange(report.Rip, 0x20_0000ul, 0x80_0000_0000ul + ProbeLaunch.RamLength);
        bool isFetch = (report.ExitInfo1 & 0x10) != 0;
        Assert.Equal(isFetch ? 0 : 16, report.CodeLength);
    }

    // The program of scenario 10 without one of its flushes (Svsm.Simulator/HypervisorProbe/Translations.cs).
    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(4)]
    [InlineData(5)]
    [InlineData(6)]
    [InlineData(7)]
    [InlineData(8)]
    public async Task Probe_FlushMissing_StopsWithWhoMayHoldWhat(ulong omitted)
    {
        RunResult result = await QemuRun.StartAsync(ProbeLaunch.Make(64 + omitted, vcpuCount: 2), TestContext.Current.CancellationToken);
        Assert.True(result is { Report: { Violation: ViolationKind.StaleTranslation, Vcpu: 0, Vmpl: 0 } }, result.ToString());
        Assert.NotEqual(0ul, result.Report!.Value.Gpa);
        string holder = omitted is 2 or 3 or 4 ? "VMPL0 by vCPU 0" : omitted >= 7 ? "VMPL2 by vCPU 1" : "VMPL2 by vCPU 0";
        Assert.Contains(holder, result.Log.ToString(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Probe_GuestMessage_ReachesTheMachineAndBack()
    {
        // The bytes are the machine's and the guest's business; the hypervisor reads the type and carries the rest.
        byte[] message = RandomNumberGenerator.GetBytes(4096);
        message[0x34] = 5;
        byte[] response = RandomNumberGenerator.GetBytes(4096);
        byte[] certificates = RandomNumberGenerator.GetBytes(4096);
        byte[][] answers =
        [
            QemuRun.GuestResponse(0, 0, response),
            QemuRun.GuestResponse(1ul << 32, 1, []),
            [.. QemuRun.Frame(LinkFrame.Certificates, certificates), .. QemuRun.GuestResponse(0x16, 0, [])],
        ];
        int next = 0;

        RunResult result = await QemuRun.StartAsync(
            await File.ReadAllBytesAsync(QemuRun.Hypervisor, TestContext.Current.CancellationToken),
            ProbeLaunch.Make(5, message: message),
            _ => answers[next++],
            TestContext.Current.CancellationToken);

        Assert.True(result is { Reason: StopReason.GuestExit, Detail: 0 }, result.ToString());
        Assert.Equal(3, result.GuestRequests.Count);
        uint[] room = [Link.NoCertificates, 0, 1];
        for (int i = 0; i < room.Length; i++)
        {
            Assert.Equal((byte[])[.. BitConverter.GetBytes((ulong)room[i]), .. message], result.GuestRequests[i]);
        }

        string text = Convert.ToHexStringLower(response);
        Assert.Equal($"{text}\n{text}\n{Convert.ToHexStringLower(certificates)}\n", result.Console.ToString());
    }

    [Fact]
    public async Task Probe_BrokenAnswer_EndsTheRun()
    {
        RunResult result = await QemuRun.StartAsync(
            await File.ReadAllBytesAsync(QemuRun.Hypervisor, TestContext.Current.CancellationToken),
            ProbeLaunch.Make(5, message: new byte[4096]),
            _ => QemuRun.Frame(LinkFrame.Certificates, new byte[4096]),
            TestContext.Current.CancellationToken);
        Assert.True(result is { Reason: StopReason.HypervisorFault }, result.ToString());
        Assert.Contains("guest request", result.Log.ToString(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Probe_Termination_TellsSetAndReason()
    {
        RunResult result = await QemuRun.StartAsync(ProbeLaunch.Make(28), TestContext.Current.CancellationToken);
        Assert.True(result is { Reason: StopReason.Terminate, Detail: 0x425 }, result.ToString());
    }

    [Fact]
    public async Task Probe_TripleFault_IsShutdown()
    {
        RunResult result = await QemuRun.StartAsync(ProbeLaunch.Make(29), TestContext.Current.CancellationToken);
        Assert.True(result is { Reason: StopReason.Shutdown, Report: not null }, result.ToString());
    }

    // Which value is the first that the processor does not go on with, and how that shows, is the emulator's business.
    [Fact]
    public async Task Probe_GarbageInEfer_EndsWithAReport()
    {
        RunResult result = await QemuRun.StartAsync(ProbeLaunch.Make(44), TestContext.Current.CancellationToken);
        Assert.True(result is { Reason: StopReason.Violation or StopReason.Shutdown, Report: not null, ExitStatus: 1 }, result.ToString());
    }

    [Fact]
    public async Task Probe_ResetPort_EndsTheRun()
    {
        RunResult result = await QemuRun.StartAsync(ProbeLaunch.Make(32), TestContext.Current.CancellationToken);
        Assert.True(result is { Reason: StopReason.Reset, Detail: 0xCF9 }, result.ToString());
    }

    [Fact]
    public async Task Report_PrivateAccess_SaysWhereAndWhy()
    {
        RunResult result = await QemuRun.StartAsync(ProbeLaunch.Make(16), TestContext.Current.CancellationToken);
        StopReport report = Assert.NotNull(result.Report);
        Assert.Equal(0x100_0008ul, report.Gpa);
        Assert.Equal(0x400ul, report.ExitCode);
        Assert.Equal(0ul, report.RmpEntry);

        // RMP and private access, as hardware reports it; mov (%rdi),%rax at RIP; the caller is in the image.
        Assert.Equal((1ul << 31) | (1ul << 34), report.ExitInfo1 & ((1ul << 31) | (1ul << 34)));
        Assert.Equal(0x07, report.Code[2]);
        Assert.InRange(report.Frames[0], 0x20_0000ul, 0x30_0000ul);
    }

    [Fact]
    public async Task Statistics_CountingInstructions_AreExact()
    {
        const ulong Rounds = 100_000;
        byte[] counting = ProbeLaunch.Make(2, LaunchOptions.Statistics);
        byte[] other = ProbeLaunch.Make(2, LaunchOptions.Statistics);
        RunResult first = await QemuRun.StartAsync(counting, TestContext.Current.CancellationToken, "-icount", "shift=0");
        RunResult second = await QemuRun.StartAsync(other, TestContext.Current.CancellationToken, "-icount", "shift=0");
        Assert.Equal(StopReason.GuestExit, first.Reason);
        Assert.Equal(first.Statistics[0].Ticks, second.Statistics[0].Ticks);
        Assert.InRange(first.Statistics[0].Ticks, 2 * Rounds, (2 * Rounds) + 20_000);
        Assert.True(first.Statistics[0].VmgExits >= 2);
        Assert.Equal(0ul, first.Statistics[1].Exits);
    }

    [Theory]
    [InlineData(6, 1u)]
    [InlineData(7, 2u)]
    public async Task Probe_Interrupts_RepeatExactly(ulong scenario, uint vcpuCount)
    {
        byte[] blob = ProbeLaunch.Make(scenario, LaunchOptions.Statistics, vcpuCount);
        RunResult first = await QemuRun.StartAsync(blob, TestContext.Current.CancellationToken, "-icount", "shift=0,sleep=off");
        RunResult second = await QemuRun.StartAsync(blob, TestContext.Current.CancellationToken, "-icount", "shift=0,sleep=off");
        Assert.True(first is { Reason: StopReason.GuestExit, Detail: 0 }, first.ToString());
        Assert.Equal(first.Statistics, second.Statistics);
    }

    [Fact]
    public async Task Probe_AllVcpusHalted_StopsOnTheLast()
    {
        RunResult result = await QemuRun.StartAsync(ProbeLaunch.Make(40, vcpuCount: 2), TestContext.Current.CancellationToken);
        Assert.True(result is { Report: { Violation: ViolationKind.HaltForever, Vcpu: 1 } }, result.ToString());
    }

    [Fact]
    public async Task Hypervisor_OutOfMemory_SaysSo()
    {
        RunResult result = await QemuRun.StartAsync(ProbeLaunch.Make(39), TestContext.Current.CancellationToken, "-m", "32M");
        Assert.Equal(StopReason.HypervisorFault, result.Reason);
        Assert.Contains("memory", result.Log.ToString(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Hypervisor_OwnException_IsToldWithRegisters()
    {
        // UD2 in place of its first CLGI; the STI behind it tells it from the others.
        byte[] hypervisor = await File.ReadAllBytesAsync(QemuRun.Hypervisor, TestContext.Current.CancellationToken);
        ReadOnlySpan<byte> clgi = [0x0F, 0x01, 0xDD, 0xFB];
        int at = hypervisor.AsSpan().IndexOf(clgi);
        Assert.Equal(at, hypervisor.AsSpan().LastIndexOf(clgi));
        hypervisor[at + 1] = 0x0B;
        RunResult result = await QemuRun.StartAsync(hypervisor, ProbeLaunch.Make(0), TestContext.Current.CancellationToken);
        Assert.True(result is { Reason: StopReason.HypervisorFault, Detail: 6 }, result.ToString());
        Assert.Contains("rip 0x10", result.Log.ToString(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Launch_WithoutSvm_IsRefusedWithReason()
    {
        RunResult result = await QemuRun.StartAsync(ProbeLaunch.Make(0), TestContext.Current.CancellationToken, "-cpu", "EPYC,phys-bits=48,svm=off");
        Assert.Equal(StopReason.BadLaunch, result.Reason);
        Assert.Contains("SVM", result.Log.ToString(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Console_Lines_ArriveWhole()
    {
        RunResult result = await QemuRun.StartAsync(ProbeLaunch.Make(3), TestContext.Current.CancellationToken);
        Assert.Equal("one\ntwo\n", result.Console.ToString());
    }

    [Fact]
    public async Task Launch_ForeignFile_IsRefusedWithReason()
    {
        RunResult result = await QemuRun.StartAsync(new byte[8192], TestContext.Current.CancellationToken);
        Assert.Equal(StopReason.BadLaunch, result.Reason);
        Assert.Contains("magic", result.Log.ToString(), StringComparison.Ordinal);
    }
}
