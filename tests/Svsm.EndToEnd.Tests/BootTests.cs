// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// What an integrator sees: the image boots, the guest's calls are answered, the digests agree, the exit status arrives.

using System;
using System.IO;
using System.Linq;
using System.Text.RegularExpressions;
using System.Threading.Tasks;
using Svsm.Builder;
using Svsm.Diagnostics;
using Svsm.Simulator;
using Svsm.Wire;
using Xunit;

namespace Svsm.EndToEnd.Tests;

public sealed partial class BootTests
{
    [Theory]
    [InlineData(1)]
    [InlineData(4)]
    public async Task Boot_ProbeGuest_AnswersEveryCall(int vcpuCount)
    {
        using ImageUnderTest image = ImageUnderTest.Build();

        MachineResult result = await ImageUnderTest.RunAsync(image.Options() with { VcpuCount = vcpuCount });

        string guest = result.ConsoleText((int)Vmpl.Vmpl2);
        Assert.True(result.ExitStatus == 0, result + "\n" + guest);
        Match summary = Summary().Match(guest);
        Assert.True(summary.Success, guest);
        Assert.Equal("0", summary.Groups["failed"].Value);
        Assert.Equal(int.Parse(summary.Groups["passed"].Value, System.Globalization.CultureInfo.InvariantCulture), Regex.Count(guest, "^probe: ok ", RegexOptions.Multiline));
        Assert.Contains("svsm: the guest starts at VMPL2", result.ConsoleText((int)Vmpl.Vmpl0), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(2)]
    [InlineData(64)]
    public async Task Boot_SeveralCpus_AllStartAtVmpl0(int count)
    {
        using ImageUnderTest image = ImageUnderTest.Build("exit:0");

        MachineResult result = await ImageUnderTest.RunAsync(image.Options() with { VcpuCount = count });

        Assert.True(result.ExitStatus == 0, result.ToString());
        Assert.Equal(count, result.Statistics.Count(entry => entry.Vmpl == 0 && entry.VmgExits > 0));
    }

    [Fact]
    public async Task Boot_DigestsOfBuilderAndMachine_AreTheSame()
    {
        using ImageUnderTest image = ImageUnderTest.Build("exit:0");

        MachineResult result = await ImageUnderTest.RunAsync(image.Options() with { ExpectedDigest = image.LaunchDigest });

        Assert.Equal(0, result.ExitStatus);
        Assert.Equal(image.LaunchDigest, result.LaunchDigest.ToArray());
    }

    [Theory]
    [InlineData(1)]
    [InlineData(42)]
    [InlineData(255)]
    public async Task Boot_GuestExits_StatusArrives(int status)
    {
        using ImageUnderTest image = ImageUnderTest.Build($"exit:{status}");

        MachineResult result = await image.RunAsync();

        Assert.Equal(status, result.ExitStatus);
    }

    [Fact]
    public async Task Boot_MoreMemoryThanBelow4GiB_GuestGetsBothRanges()
    {
        using ImageUnderTest image = ImageUnderTest.Build();

        MachineResult result = await ImageUnderTest.RunAsync(image.Options() with { MemoryMiB = 4096, VcpuCount = 4 });

        Assert.True(result.ExitStatus == 0, result + "\n" + result.ConsoleText((int)Vmpl.Vmpl2));
        string log = result.ConsoleText((int)Vmpl.Vmpl0);
        Assert.Contains("svsm: guest RAM 0x100000000-", log, StringComparison.Ordinal);

        // The region is enough for that.
        Assert.DoesNotContain("claimed RAM", log, StringComparison.Ordinal);
    }

    // The page states do not fit into the region, so RAM is claimed for them: it is missing from the guest's map, and every check passes.
    [Fact]
    public async Task Boot_8GiB_PageStatesAreOnClaimedRam()
    {
        using ImageUnderTest image = ImageUnderTest.Build();

        MachineResult result = await ImageUnderTest.RunAsync(image.Options() with { MemoryMiB = 8192 });

        Assert.True(result.ExitStatus == 0, result + "\n" + result.ConsoleText((int)Vmpl.Vmpl2));
        Match claimed = Regex.Match(result.ConsoleText((int)Vmpl.Vmpl0), "^svsm: claimed RAM 0x([0-9a-f]+)-0x([0-9a-f]+)$", RegexOptions.Multiline);
        Match last = Regex.Matches(result.ConsoleText((int)Vmpl.Vmpl0), "^svsm: guest RAM 0x([0-9a-f]+)-0x([0-9a-f]+)$", RegexOptions.Multiline).Last();
        Assert.True(claimed.Success, result.ConsoleText((int)Vmpl.Vmpl0));
        ulong first = Convert.ToUInt64(claimed.Groups[1].Value, 16);
        Assert.Equal(first - 1, Convert.ToUInt64(last.Groups[2].Value, 16));
        Assert.InRange(Convert.ToUInt64(claimed.Groups[2].Value, 16) + 1 - first, 1ul, (8ul << 30) / 1000);
    }

    [Fact]
    public async Task Boot_FlippedByte_IsRefusedBeforeItRuns()
    {
        using ImageUnderTest image = ImageUnderTest.Build();
        byte[] file = File.ReadAllBytes(image.Written.ImagePath);
        file[file.Length / 2] ^= 1;
        await File.WriteAllBytesAsync(image.Written.ImagePath, file, TestContext.Current.CancellationToken);

        SvsmDiagnosticException exception = await Assert.ThrowsAsync<SvsmDiagnosticException>(
            () => ImageUnderTest.RunAsync(image.Options() with { ExpectedDigest = image.LaunchDigest }));

        Assert.Same(SvsmDiagnostics.LaunchDigestMismatch, exception.Diagnostic);
    }

    [Fact]
    public void Kernel_FitsItsBudget()
    {
        using ImageUnderTest image = ImageUnderTest.Build();
        ImageSizes sizes = image.Written.Files.Image.Sizes;

        Assert.InRange(sizes.KernelText + sizes.KernelReadOnlyData + sizes.KernelData, 1ul, 160ul * 1024);
    }

    [GeneratedRegex(@"^probe: (?<passed>\d+) passed, (?<failed>\d+) failed$", RegexOptions.Multiline)]
    private static partial Regex Summary();
}
