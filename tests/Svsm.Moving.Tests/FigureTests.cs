// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// What a migration costs: for eng/bench, which shows what is printed. Two runs that differ in the number of pages; what both do (start, reports, keys, vCPUs) is not in
// the difference. Ticks are instructions.

using System;
using System.Globalization;
using System.Linq;
using System.Threading.Tasks;
using Svsm.Simulator;
using Xunit;

namespace Svsm.Moving.Tests;

public sealed class FigureTests(ITestOutputHelper output)
{
    private const int Ended = 7;
    private const int Few = 64;
    private const int Many = 1088;

    [Fact]
    [Trait("Run", "all")]
    public async Task Figures_OfAPage()
    {
        (ulong sourceFew, ulong targetFew, ulong pagesFew, long bytesFew) = await MeasureAsync(Few);
        (ulong sourceMany, ulong targetMany, ulong pagesMany, long bytesMany) = await MeasureAsync(Many);
        double pages = pagesMany - pagesFew;
        output.WriteLine(string.Create(
            CultureInfo.InvariantCulture,
            $"Instructions of VMPL0 for a page of a guest that moves (difference of {pagesMany} and {pagesFew} pages): source {(sourceMany - sourceFew) / pages:#,0} (at most 60,000), target {(targetMany - targetFew) / pages:#,0}"));
        output.WriteLine(string.Create(CultureInfo.InvariantCulture, $"Bytes of a page on the channel: {(bytesMany - bytesFew) / pages:#,0.0} (at most 4,218.9: 3 % more than 4,096)"));
    }

    private static async Task<(ulong Source, ulong Target, ulong Pages, long Bytes)> MeasureAsync(int pages)
    {
        await using MovingPair pair = await MovingPair.StartAsync(string.Create(CultureInfo.InvariantCulture, $"moving:{pages}"), 1, _ => { }, countInstructions: true);
        await pair.Source.WaitForLineAsync("moving: round", 2);
        using var relay = new TestRelay(pair);
        await relay.BeginAsync();
        await relay.WaitForAsync(ofSource: true, 4, TestContext.Current.CancellationToken);
        await relay.WishAsync(ofSource: true, 3);
        Notice source = await relay.WaitForAsync(ofSource: true, Ended, TestContext.Current.CancellationToken);
        Assert.Equal((Ended, 0), (source.State, source.Reason));
        return (TicksOf(await pair.Source.StopAsync()), TicksOf(await pair.Target.StopAsync()), source.Pages, relay.BytesToTarget);
    }

    private static ulong TicksOf(MachineResult result) => result.Statistics.Where(entry => entry.Vmpl == 0).Aggregate(0ul, (sum, entry) => sum + entry.Ticks);
}
