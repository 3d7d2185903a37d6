// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// A kernel whose flushes of translations were removed: each of them must be missed.

using System;
using System.Linq;
using System.Threading.Tasks;
using Svsm.Boot;
using Svsm.Builder;
using Svsm.Simulator;
using Svsm.Simulator.Shared;
using Xunit;

namespace Svsm.EndToEnd.Tests;

public sealed class FlushTests
{
    private const byte Return = 0xC3;

    // Rows: the function that becomes empty. (Without INVLPG the kernel's own windows show old pages, and it stops by itself.)
    [Theory]
    [InlineData("svsm_x64_invlpgb")]
    [InlineData("svsm_x64_tlbsync")]
    public async Task Kernel_WithoutAFlush_StopsTheRun(string function)
    {
        using ImageUnderTest image = ImageUnderTest.Build(alterKernel: kernel =>
        {
            ElfSymbol symbol = ElfFile.Parse(kernel, "kernel").Symbols.Single(candidate => candidate.Name == function);
            ProbeCommand.BytesAt(kernel, symbol.Value)[0] = Return;
        });

        MachineResult result = await image.RunAsync();

        Assert.True(result.Violation == ViolationKind.StaleTranslation, result.ToString());
        Assert.Equal(0u, result.Report!.Value.Vmpl);
        Assert.Contains("may still be held", string.Join('\n', result.Console.Select(line => line.Text)), StringComparison.Ordinal);
    }

    // One call of INVLPGB at a time, wherever the kernel has one. What it unmaps of its own (Translations.DropEverywhere) the probe guest
    // does not bring about; a guest that is moved is in tests/Svsm.Moving.Tests.
    [Fact]
    public async Task Kernel_WithoutOneOfItsFlushes_StopsTheRun()
    {
        KernelCall[] calls =
        [
            .. KernelCall.Find(ImageUnderTest.PathOf("Kernel"), "svsm_x64_invlpgb")
                .Where(call => !call.IsOfOwnPages && !call.Function.Contains("GuestMove", StringComparison.Ordinal)),
        ];
        Assert.True(calls.Length >= 3, string.Join<KernelCall>(", ", calls));
        foreach (KernelCall call in calls)
        {
            using ImageUnderTest image = ImageUnderTest.Build(alterKernel: call.Remove);

            MachineResult result = await ImageUnderTest.RunAsync(image.Options() with { VcpuCount = 2 });

            Assert.True(result.Violation == ViolationKind.StaleTranslation, call + "\n" + result);
        }
    }
}
