// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Frames that the kernel asks for and does not get, one at a time: while booting that is the end of the VM, for a reason that says so; afterwards
// no call of a guest needs any. The kernel of tests/Svsm.SelfCheck counts and refuses; it also stops at a frame that is lost.

using System;
using System.Buffers.Binary;
using System.Linq;
using System.Text.RegularExpressions;
using System.Threading.Tasks;
using Svsm.Boot;
using Svsm.Builder;
using Svsm.Simulator;
using Svsm.Wire;
using Xunit;

namespace Svsm.EndToEnd.Tests;

public sealed partial class AllocationTests
{
    private const int Cpus = 2;
    private const ulong All = ulong.MaxValue / 2;
    private const ulong KernelReasonSet = 5;

    [Fact]
    public Task Boot_AFewAllocationsRefused_EndsWithAReason() => RefuseAsync(step: 6);

    [Fact]
    [Trait("Run", "all")]
    public Task Boot_EachAllocationRefused_EndsWithAReason() => RefuseAsync(step: 1);

    // With nothing to be had any more every check of the guest passes, and the same frames are in use at its end.
    [Fact]
    public async Task Calls_WithoutAnyFrame_AreAnswered()
    {
        const int Many = 4;
        ulong boot = await CountAsync(Many);

        MachineResult result = await RunAsync("", boot, All, Many);

        Assert.True(result.ExitStatus == 0, result + "\n" + result.ConsoleText((int)Vmpl.Vmpl2));
        Assert.DoesNotContain("refused frames", result.ConsoleText((int)Vmpl.Vmpl0), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Calls_OfTheFuzzingGuest_LoseNoFrame()
    {
        MachineResult result = await RunAsync("fuzz:600:7", 0, 0, cpus: 3);

        Assert.True(result.ExitStatus == 0, result + "\n" + result.ConsoleText((int)Vmpl.Vmpl2));
        Assert.Contains("all where they belong", result.ConsoleText((int)Vmpl.Vmpl0), StringComparison.Ordinal);
    }

    private static async Task RefuseAsync(int step)
    {
        ulong count = await CountAsync(Cpus);
        Assert.InRange(count, 40ul, 400ul);
        for (ulong number = 0; number < count; number += (ulong)step)
        {
            MachineResult result = await RunAsync("exit:0", number, 1, Cpus);

            string text = $"{number} of {count}: {result}\n{result.ConsoleText((int)Vmpl.Vmpl0)}";
            Assert.True(result.Stop == MachineStop.Terminate && (result.Detail & 0xF) == KernelReasonSet, text);
            Assert.True((TerminationReason)(result.Detail >> 4) is TerminationReason.OutOfMemory or TerminationReason.PageStates, text);
            Assert.Empty(result.ConsoleText((int)Vmpl.Vmpl2));
        }
    }

    private static async Task<ulong> CountAsync(int cpus)
    {
        // A refusal that does not come: what the self-check itself would ask for is not counted.
        MachineResult result = await RunAsync("exit:0", All, 1, cpus);
        Match match = Asked().Match(result.ConsoleText((int)Vmpl.Vmpl0));
        Assert.True(match.Success, result.ToString());
        return ulong.Parse(match.Groups[1].Value, System.Globalization.CultureInfo.InvariantCulture);
    }

    private static async Task<MachineResult> RunAsync(string command, ulong first, ulong count, int cpus)
    {
        using ImageUnderTest image = ImageUnderTest.Build(command, selfCheck: true, alterKernel: kernel =>
        {
            ElfSymbol symbol = ElfFile.Parse(kernel, "kernel").Symbols.Single(candidate => candidate.Name == "svsm_refusal");
            Span<byte> words = ProbeCommand.BytesAt(kernel, symbol.Value);
            BinaryPrimitives.WriteUInt64LittleEndian(words, first);
            BinaryPrimitives.WriteUInt64LittleEndian(words[sizeof(ulong)..], count);
        });
        return await ImageUnderTest.RunAsync(image.Options() with { VcpuCount = cpus });
    }

    [GeneratedRegex("^svsm: self-check: ([0-9]+) frames were asked for while booting", RegexOptions.Multiline)]
    private static partial Regex Asked();
}
