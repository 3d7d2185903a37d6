// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// A kernel that was broken by changing its code: it must panic, say what and where, and never go on.

using System;
using System.Linq;
using System.Threading.Tasks;
using Svsm.Boot;
using Svsm.Builder;
using Svsm.Simulator;
using Svsm.Wire;
using Xunit;

namespace Svsm.EndToEnd.Tests;

public sealed class PanicTests
{
    private const string Victim = "Svsm_Kernel_Svsm_Kernel_Guest_FirstVcpu__Create";

    [Theory]
    [InlineData(new byte[] { 0x0F, 0x0B }, "vector 6 ")] // ud2
    [InlineData(new byte[] { 0xCC }, "vector 3 ")] // int3
    [InlineData(new byte[] { 0xCD, 0x80 }, "vector 13 error 0x802")] // int 0x80: the table ends before it
    public async Task Kernel_MeetsAnExceptionItDidNotAskFor_PanicsWithASymbolisedTrace(byte[] code, string message)
    {
        using ImageUnderTest image = ImageUnderTest.Build(alterKernel: kernel => Patch(kernel, code));

        string log = AssertPanic(TerminationReason.UnexpectedException, await image.RunAsync());

        Assert.Contains(message, log, StringComparison.Ordinal);
        Assert.Matches($@"svsm: +at 0x[0-9a-f]+ {Victim}", log);
        Assert.Matches(@"svsm: +at 0x[0-9a-f]+ svsm_kernel_entry", log);
    }

    [Fact]
    public async Task Kernel_GetsVcThatNoInstructionCaused_Panics()
    {
        // int 29: the frame has no error code, so nothing in it is where a #VC has it.
        using ImageUnderTest image = ImageUnderTest.Build(alterKernel: kernel => Patch(kernel, [0xCD, 0x1D]));

        string log = AssertPanic(TerminationReason.VcMismatch, await image.RunAsync());

        Assert.Contains("#VC", log, StringComparison.Ordinal);
    }

    // push %rax; jump back to it: through the guard page, which #DF finds out about on a stack of its own.
    [Theory]
    [InlineData(1, Victim)]
    [InlineData(2, "Svsm_Kernel_Svsm_Kernel_Protocols_RequestLoop__Run")]
    public async Task Kernel_RunsOutOfStack_SaysSoOnEveryCpu(int vcpuCount, string victim)
    {
        using ImageUnderTest image = ImageUnderTest.Build(alterKernel: kernel => Patch(kernel, [0x50, 0xEB, 0xFD], victim));

        MachineResult result = await ImageUnderTest.RunAsync(image.Options() with { VcpuCount = vcpuCount });

        Assert.Contains("a stack ran into its guard page", AssertPanic(TerminationReason.StackOverflow, result), StringComparison.Ordinal);
        Assert.Equal((uint)vcpuCount - 1, Assert.NotNull(result.Report).Vcpu);
    }

    // int 2, with RSP pointing nowhere: only a stack of its own lets the handler say anything.
    [Fact]
    public async Task Kernel_GetsAnNmiWithoutAStack_Panics()
    {
        using ImageUnderTest image = ImageUnderTest.Build(alterKernel: kernel => Patch(kernel, [0x31, 0xE4, 0xCD, 0x02]));

        Assert.Contains("vector 2 ", AssertPanic(TerminationReason.UnexpectedException, await image.RunAsync()), StringComparison.Ordinal);
    }

    private static string AssertPanic(TerminationReason reason, MachineResult result)
    {
        string log = result.ConsoleText((int)Vmpl.Vmpl0);
        Assert.True(result.Stop == MachineStop.Terminate, result + "\n" + log);
        Assert.Equal(reason, (TerminationReason)(result.Detail >> 4));
        Assert.Contains("svsm: stopped: ", log, StringComparison.Ordinal);
        Assert.Contains("svsm: rip 0x", log, StringComparison.Ordinal);
        Assert.Empty(result.ConsoleText((int)Vmpl.Vmpl2));
        return log;
    }

    private static void Patch(byte[] kernel, byte[] code, string victim = Victim)
    {
        ElfSymbol symbol = ElfFile.Parse(kernel, "kernel").Symbols.Single(candidate => candidate.Name == victim);
        code.CopyTo(ProbeCommand.BytesAt(kernel, symbol.Value));
    }
}
