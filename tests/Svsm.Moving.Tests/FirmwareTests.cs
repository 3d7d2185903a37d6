// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Linux that Debian's firmware has started is moved: ROM, the memory that the firmware keeps, and VMSAs that it has made move as well.

using System;
using System.Threading.Tasks;
using Svsm.Linux.Tests;
using Svsm.Simulator;
using Svsm.Wire;
using Xunit;

namespace Svsm.Moving.Tests;

public sealed class FirmwareTests(LinuxGuest guest) : IClassFixture<LinuxGuest>
{
    private const int Ended = 7;

    // In the long run only: sid drops a version when it has the next.
    [Fact]
    [Trait("Run", "all")]
    public async Task LinuxOnFirmware_GoesOnAtTheTarget()
    {
        await using MovingPair pair = await MovingPair.StartWithFirmwareAsync(
            """
            echo "cpus: $(grep -c ^processor /proc/cpuinfo)"
            head -c 400000 /dev/urandom > /data
            sum=$(sha256sum < /data)
            i=0
            while ! read -t 1 line < /dev/ttyS0; do
              i=$((i + 1))
              [ "$sum" = "$(sha256sum < /data)" ] || echo "WRONG data"
              echo "round $i"
            done
            echo "ended after $i"
            """,
            1, guest);
        await pair.Source.WaitForLineAsync("round 3", (int)Vmpl.Vmpl2);
        using var relay = new TestRelay(pair);
        await relay.BeginAsync();
        Notice source = await relay.WaitForAsync(ofSource: true, Ended, TestContext.Current.CancellationToken);
        Assert.Equal((Ended, 0), (source.State, source.Reason));
        await pair.Target.WaitForLineAsync("round ", (int)Vmpl.Vmpl2);
        await pair.Target.TypeAsync("end\n");
        string after = LinuxGuest.ConsoleOf(await pair.Target.WaitForEndAsync(), (int)Vmpl.Vmpl2);
        string before = (await pair.Source.StopAsync()).ConsoleText((int)Vmpl.Vmpl2);
        Assert.Contains("cpus: 1", before, StringComparison.Ordinal);
        Assert.Contains("by Debian distribution of EDK II", before, StringComparison.Ordinal);
        Assert.Contains("ended after ", after, StringComparison.Ordinal);
        Assert.DoesNotContain("WRONG", before + after, StringComparison.Ordinal);
    }
}
