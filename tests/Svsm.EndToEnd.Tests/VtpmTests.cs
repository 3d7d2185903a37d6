// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The virtual TPM in the machine: its module (Svsm.Modules.Vtpm), compiled as an image's program is, with the limits of its package, as a process of
// the real kernel. What the guest asks it is in Svsm.Simulator/ProbeGuest/TpmCalls.cs.

using System;
using System.IO;
using System.Linq;
using System.Threading.Tasks;
using Svsm.Boot;
using Svsm.Builder;
using Svsm.Simulator;
using Svsm.Wire;
using Xunit;

namespace Svsm.EndToEnd.Tests;

public sealed class VtpmTests
{
    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(4)]
    public async Task Vtpm_CallsOfAllVcpus_AreAnswered(int vcpuCount)
    {
        using ImageUnderTest image = Build("tpm");
        AssertPassed(await ImageUnderTest.RunAsync(image.Options() with { VcpuCount = vcpuCount, CountInstructions = true }));
    }

    [Fact]
    public async Task Vtpm_CallsOfVcpusInThreads_AreAnswered()
    {
        using ImageUnderTest image = Build("tpm");
        AssertPassed(await ImageUnderTest.RunAsync(image.Options() with { VcpuCount = 2, Threads = true }));
    }

    // Half a billion instructions, hundreds of turns.
    [Fact]
    public async Task Vtpm_RsaKey_IsMade()
    {
        using ImageUnderTest image = Build("tpm-rsa");
        AssertPassed(await ImageUnderTest.RunAsync(image.Options() with { CountInstructions = true }));
    }

    private static ImageUnderTest Build(string command) =>
        ImageUnderTest.Build(command, modules: [PackagedModules.Vtpm], program: File.ReadAllBytes(ImageUnderTest.PathOf("TestTpm")));

    private static void AssertPassed(MachineResult result) =>
        Assert.True(result.ExitStatus == 0, result + "\n" + result.ConsoleText((int)Vmpl.Vmpl2) + "\n" + result.ConsoleText((int)Vmpl.Vmpl0));
}
