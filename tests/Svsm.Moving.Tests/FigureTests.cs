// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// What a migration costs: for eng/bench --migration, which shows what is printed, and fails on "ABOVE": a figure that is above its limit. Two runs that differ in the
// number of pages; what both do (start, reports, keys, vCPUs) is not in the difference. Ticks are instructions.

using System;
using System.Globalization;
using System.Linq;
using System.Threading.Tasks;
using Svsm.Simulator;
using Xunit;

namespace Svsm.Moving.Tests;

public sealed class FigureTests(ITestOutputHelper output)
{
    private const int Few = 64;
    private const int Many = 1088;
    private const int Touched = 2000;
    private const double MaxInstructions = 60_000;

    // % of the guest's pages.
    private const double MaxOfRest = 2;

    // 3 % more than a page.
    private const double MaxBytes = 4096 * 1.03;

    [Fact]
    [Trait("Run", "all")]
    public async Task Figures_OfAPage()
    {
        (ulong sourceFew, ulong targetFew, ulong pagesFew, long bytesFew) = await MeasureAsync(Few);
        (ulong sourceMany, ulong targetMany, ulong pagesMany, long bytesMany) = await MeasureAsync(Many);
        double pages = pagesMany - pagesFew;
        output.WriteLine(string.Create(CultureInfo.InvariantCulture, $"For a page of a guest that moves (difference of {pagesMany} and {pagesFew} pages)"));
        Print("instructions of VMPL0 at the source", (sourceMany - sourceFew) / pages, MaxInstructions);
        Print("instructions of VMPL0 at the target", (targetMany - targetFew) / pages, double.PositiveInfinity);
        Print("bytes on the channel", (bytesMany - bytesFew) / pages, MaxBytes);
    }

    // A guest that writes all its pages, all the time, as fast as it can.
    [Theory]
    [Trait("Run", "all")]
    [InlineData(1)]
    [InlineData(2)]
    public async Task Figures_OfTheStop(int vcpuCount)
    {
        await using MovingPair pair = await MovingPair.StartAsync(string.Create(CultureInfo.InvariantCulture, $"touching:{Touched}"), vcpuCount);
        await pair.Source.WaitForLineAsync("moving: round", 2);
        using var relay = new TestRelay(pair);
        await relay.BeginAsync();
        Notice begin = await relay.WaitForAsync(ofSource: true, MigrationState.Copying, TestContext.Current.CancellationToken);
        Notice source = await relay.WaitForAsync(ofSource: true, MigrationState.Ended, TestContext.Current.CancellationToken);
        Assert.Equal((MigrationState.Ended, MigrationReason.None), (source.State, source.Reason));
        double all = begin.Pages + begin.PagesLeft;
        output.WriteLine(string.Create(CultureInfo.InvariantCulture, $"Of a guest that writes {Touched} of its {all} pages all the time, on {vcpuCount} vCPUs ({source.Pages} pages went in {source.Round} rounds)"));
        Print("% of its pages go while it is stopped", 100 * source.PagesOfRest / all, MaxOfRest);
    }

    private void Print(string what, double value, double limit)
    {
        string text = double.IsFinite(limit) ? string.Create(CultureInfo.InvariantCulture, $"   at most {limit:#,0.0}{(value > limit ? ": ABOVE" : "")}") : "";
        output.WriteLine(string.Create(CultureInfo.InvariantCulture, $"  {what,-40} {value,12:#,0.0}{text}"));
    }

    private static async Task<(ulong Source, ulong Target, ulong Pages, long Bytes)> MeasureAsync(int pages)
    {
        await using MovingPair pair = await MovingPair.StartAsync(string.Create(CultureInfo.InvariantCulture, $"moving:{pages}"), 1, countInstructions: true);
        await pair.Source.WaitForLineAsync("moving: round", 2);
        using var relay = new TestRelay(pair);
        await relay.BeginAsync();
        await relay.WaitForAsync(ofSource: true, MigrationState.Copying, TestContext.Current.CancellationToken);
        await relay.StopAsync();
        Notice source = await relay.WaitForAsync(ofSource: true, MigrationState.Ended, TestContext.Current.CancellationToken);
        Assert.Equal((MigrationState.Ended, MigrationReason.None), (source.State, source.Reason));
        return (TicksOf(await pair.Source.StopAsync()), TicksOf(await pair.Target.StopAsync()), source.Pages, relay.BytesToTarget);
    }

    private static ulong TicksOf(MachineResult result) => result.Statistics.Where(entry => entry.Vmpl == 0).Aggregate(0ul, (sum, entry) => sum + entry.Ticks);
}
