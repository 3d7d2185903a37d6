// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Broken on purpose: every way a run can go wrong ends with a report that names it.

using System;
using System.Threading.Tasks;
using Svsm.Simulator;
using Svsm.Simulator.Shared;
using Svsm.Wire;
using Xunit;

namespace Svsm.EndToEnd.Tests;

public sealed class StopTests
{
    [Fact]
    public async Task Guest_ReadsMemoryOfTheSvsm_IsAViolationOfItsRights()
    {
        using ImageUnderTest image = ImageUnderTest.Build("touch-svsm");

        MachineResult result = await image.RunAsync();

        Assert.True(result.Violation == ViolationKind.VmplPermission, result.ToString());
        StopReport report = Assert.NotNull(result.Report);
        Assert.Equal((uint)Vmpl.Vmpl2, report.Vmpl);
        Assert.Equal(image.Written.Files.Image.Configuration.RegionBase, report.Gpa & ~0xFFFul);
        Assert.NotEqual(0ul, report.Rip);
        Assert.Contains("\n  needed    assigned, validated; VMPL2 r\n", result.ToString(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Guest_ReadsAPageThatIsNotValidated_GetsVc404()
    {
        using ImageUnderTest image = ImageUnderTest.Build("unvalidated");

        MachineResult result = await image.RunAsync();

        Assert.True(result.ExitStatus == 4, result.ToString());
    }

    [Fact]
    public async Task Guest_HaltsForEver_StopsTheRun()
    {
        using ImageUnderTest image = ImageUnderTest.Build("hlt");

        MachineResult result = await image.RunAsync();

        Assert.True(result.Violation == ViolationKind.HaltForever, result.ToString());
    }

    [Fact]
    public async Task Guest_TripleFault_IsAShutdown()
    {
        using ImageUnderTest image = ImageUnderTest.Build("triple-fault");

        MachineResult result = await image.RunAsync();

        Assert.True(result.Stop == MachineStop.Shutdown, result.ToString());
    }

    [Fact]
    public async Task Guest_AsksForTermination_IsReportedWithReasonAndPlace()
    {
        using ImageUnderTest image = ImageUnderTest.Build("terminate");

        MachineResult result = await image.RunAsync();

        Assert.True(result.Stop == MachineStop.Terminate, result.ToString());
        Assert.Equal(6ul, result.Detail & 0xF);
        Assert.Equal(7ul, (result.Detail >> 4) & 0xFF);
        Assert.Equal((uint)Vmpl.Vmpl2, Assert.NotNull(result.Report).Vmpl);
    }

    [Fact]
    public async Task Guest_NeverEnds_TimesOut()
    {
        using ImageUnderTest image = ImageUnderTest.Build("loop");

        MachineResult result = await ImageUnderTest.RunAsync(image.Options() with { Timeout = TimeSpan.FromSeconds(20) });

        Assert.Equal(MachineStop.Timeout, result.Stop);
    }
}
