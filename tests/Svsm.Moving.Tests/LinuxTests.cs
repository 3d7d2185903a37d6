// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Debian's Linux, unmodified, is moved from one machine to the other while two of its processes write files in memory, over and over, and look each time whether all
// of them are as they were written.

using System;
using System.Globalization;
using System.Linq;
using System.Text.RegularExpressions;
using System.Threading.Tasks;
using Svsm.Linux.Tests;
using Svsm.Simulator;
using Xunit;

namespace Svsm.Moving.Tests;

public sealed partial class LinuxTests(LinuxGuest guest) : IClassFixture<LinuxGuest>
{
    private const int Ended = 7;

    private const string Commands =
        """
        echo "cpus: $(grep -c ^processor /proc/cpuinfo)"
        mkdir /moving
        mount -t tmpfs -o size=32m tmpfs /moving
        keep() {
          mkdir /moving/$1; cd /moving/$1; i=0
          while [ ! -e /moving/end ]; do
            i=$((i + 1))
            head -c 200000 /dev/urandom > file$((i % 8))
            sha256sum file* > sums.new
            [ $i -lt 9 ] || { grep -v "file$((i % 8))$" sums.old > a; grep -v "file$((i % 8))$" sums.new > b; cmp a b || echo "$1: WRONG in round $i"; }
            mv sums.new sums.old
            echo "$1: round $i, $(date +%s) $(cut -d ' ' -f 1 /proc/uptime)"
          done
          echo "$1: ended after $i"
        }
        keep one & keep two &
        read line < /dev/ttyS0
        touch /moving/end
        wait
        """;

    [Fact]
    public Task Linux_GoesOnAtTheTarget() => CheckAsync(2);

    [Fact]
    [Trait("Run", "all")]
    public Task LinuxOnOneVcpu_GoesOnAtTheTarget() => CheckAsync(1);

    private async Task CheckAsync(int vcpuCount)
    {
        await using MovingPair pair = await MovingPair.StartAsync(Commands, vcpuCount, linux: guest);
        await pair.Source.WaitForLineAsync("one: round 10,", 2);
        await pair.Source.WaitForLineAsync("two: round 10,", 2);
        using var relay = new TestRelay(pair);
        await relay.BeginAsync();
        Notice source = await relay.WaitForAsync(ofSource: true, Ended, TestContext.Current.CancellationToken);
        Assert.Equal((Ended, 0), (source.State, source.Reason));
        await pair.Target.WaitForLineAsync("one: round ", 2);
        await pair.Target.WaitForLineAsync("two: round ", 2);
        await pair.Target.TypeAsync("end\n");
        MachineResult target = await pair.Target.WaitForEndAsync();
        string after = LinuxGuest.ConsoleOf(target, 2);
        string before = (await pair.Source.StopAsync()).ConsoleText(2);
        foreach (string console in (string[])[before, after])
        {
            Assert.DoesNotContain("WRONG", console, StringComparison.Ordinal);
            Assert.DoesNotMatch("rcu.*stall|lockup|BUG:|Oops", console[Math.Max(0, console.IndexOf("init: user space", StringComparison.Ordinal))..]);
        }

        // The next round is behind the last one, or is that one, whose line was under way; and time goes on.
        foreach (string name in (string[])["one", "two"])
        {
            (int lastRound, double lastTime) = RoundsOf(before, name)[^1];
            (int firstRound, double firstTime) = RoundsOf(after, name)[0];
            Assert.InRange(firstRound, lastRound, lastRound + 2);
            Assert.True(firstTime >= lastTime, $"{name}: {lastTime}, then {firstTime}");
        }
    }

    private static (int Round, double Uptime)[] RoundsOf(string console, string name) =>
    [
        .. Round().Matches(console).Where(match => match.Groups[1].Value == name)
            .Select(match => (int.Parse(match.Groups[2].Value, CultureInfo.InvariantCulture), double.Parse(match.Groups[3].Value, CultureInfo.InvariantCulture))),
    ];

    [GeneratedRegex(@"(one|two): round (\d+), \d+ ([\d.]+)\r?\n")]
    private static partial Regex Round();
}
