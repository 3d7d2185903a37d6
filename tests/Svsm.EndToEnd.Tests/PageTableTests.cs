// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The live page tables of every CPU, compared with the partition of the address space by a kernel that was built for it. Tables that were
// changed in the image show that it looks.

using System;
using System.Linq;
using System.Runtime.InteropServices;
using System.Threading.Tasks;
using Svsm.Builder;
using Svsm.Simulator;
using Svsm.Wire;
using Xunit;

namespace Svsm.EndToEnd.Tests;

public sealed class PageTableTests
{
    private const ulong PageBytes = 0x1000;

    // The stack of #DF, which does not happen.
    private const ulong UnusedStack = KernelAddressSpace.PerCpuBase + 0xE000;
    private const ulong Present = 1;
    private const ulong Writable = 1 << 1;
    private const ulong User = 1 << 2;
    private const ulong Accessed = 1 << 5;
    private const ulong NoExecute = 1ul << 63;
    private const ulong AddressMask = 0x000F_FFFF_FFFF_F000;

    [Fact]
    public async Task Tables_OfAllCpus_HoldToThePartitionDuringEveryCheck()
    {
        const int Cpus = 4;
        using ImageUnderTest image = ImageUnderTest.Build(selfCheck: true);

        MachineResult result = await ImageUnderTest.RunAsync(image.Options() with { VcpuCount = Cpus });

        string log = result.ConsoleText((int)Vmpl.Vmpl0);
        Assert.True(result.ExitStatus == 0, result + "\n" + log);
        Assert.Matches("svsm: self-check: [1-9][0-9]+ refused frames, none lost", log);
        Assert.Contains("svsm: self-check: tasks take turns, wait, and end", log, StringComparison.Ordinal);
        Assert.Contains("svsm: self-check: tasks that loop are preempted, and lose nothing", log, StringComparison.Ordinal);
        Assert.All(Enumerable.Range(0, Cpus), cpu => Assert.Matches($"svsm: self-check: CPU {cpu} maps [0-9]+ pages, all where they belong", log));
    }

    [Fact]
    public async Task Tables_OnClaimedRam_HoldToThePartition()
    {
        using ImageUnderTest image = ImageUnderTest.Build("exit:0", selfCheck: true);

        MachineResult result = await ImageUnderTest.RunAsync(image.Options() with { MemoryMiB = 8192 });

        Assert.True(result.ExitStatus == 0, result.ToString());
        Assert.Contains("all where they belong", result.ConsoleText((int)Vmpl.Vmpl0), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("writable and executable")]
    [InlineData("at CPL 3")]
    [InlineData("other rights than its place")]
    [InlineData("mapped twice")]
    [InlineData("outside of the SVSM's memory")]
    [InlineData("where nothing belongs")]
    public async Task Tables_ThatWereChanged_AreFound(string fault)
    {
        using ImageUnderTest image = ImageUnderTest.Build("exit:0", selfCheck: true);
        switch (fault)
        {
            case "writable and executable":
                Change(image, KernelAddressSpace.ImageBase, entry => entry | Writable);
                break;
            case "at CPL 3":
                Change(image, KernelAddressSpace.Secrets, entry => entry | User);
                break;
            case "other rights than its place":
                Change(image, KernelAddressSpace.Configuration, entry => entry | Writable);
                break;
            case "mapped twice":
                Change(image, UnusedStack, entry => (entry & ~AddressMask) | image.GpaOf("hand-over.configuration"));
                break;
            case "outside of the SVSM's memory":
                Change(image, UnusedStack, entry => (entry & ~AddressMask) | image.Written.Files.Image.Configuration.LowAreaBase);
                break;
            default:
                // Between two hand-over pages: as good as page 0, and in a table that there is.
                Change(image, KernelAddressSpace.GeneralParameters + PageBytes, _ => image.GpaOf("hand-over.secrets") | Present | Accessed | NoExecute);
                break;
        }

        MachineResult result = await image.RunAsync();

        Assert.True(result.Stop == MachineStop.Terminate, result.ToString());
        Assert.Contains("svsm: stopped: self-check: ", result.ConsoleText((int)Vmpl.Vmpl0), StringComparison.Ordinal);
        Assert.Contains(fault, result.ConsoleText((int)Vmpl.Vmpl0), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Tables_WithPage0_AreFound()
    {
        using ImageUnderTest image = ImageUnderTest.Build("exit:0", selfCheck: true);

        // The lower half's first entry leads where the upper half's last one does.
        ulong root = image.Written.Files.Image.Configuration.KernelRoot;
        image.AlterPage(root, page => MemoryMarshal.Cast<byte, ulong>(page)[0] = MemoryMarshal.Cast<byte, ulong>(page)[511]);

        MachineResult result = await image.RunAsync();

        Assert.Contains("where nothing belongs", result.ConsoleText((int)Vmpl.Vmpl0), StringComparison.Ordinal);
    }

    // Changes the entry of a 4-KiB page in the kernel's tables. The C-bit is not in the file.
    private static void Change(ImageUnderTest image, ulong address, Func<ulong, ulong> change)
    {
        ulong table = image.Written.Files.Image.Configuration.KernelRoot;
        for (int level = 3; level > 0; level--)
        {
            ulong entry = 0;
            image.AlterPage(table, page => entry = MemoryMarshal.Cast<byte, ulong>(page)[Slot(level)]);
            table = entry & AddressMask;
        }

        image.AlterPage(table, page =>
        {
            ref ulong entry = ref MemoryMarshal.Cast<byte, ulong>(page)[Slot(0)];
            entry = change(entry);
        });

        int Slot(int level) => (int)(address >> (12 + (9 * level))) & 511;
    }
}
