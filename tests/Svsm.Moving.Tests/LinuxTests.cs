// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Debian's Linux, unmodified, with a driver for the virtual TPM, is moved from one machine to the other while two of its processes write files in memory, over and
// over, and look each time whether all of them are as they were written. A third extends a PCR of the TPM, says so in a log, and quotes the PCR from time to time.

using System;
using System.Collections.Generic;
using System.Globalization;
using System.Linq;
using System.Security.Cryptography;
using System.Text;
using System.Text.RegularExpressions;
using System.Threading.Tasks;
using Svsm.Boot;
using Svsm.Linux.Tests;
using Svsm.Simulator;
using Svsm.Wire;
using Xunit;

namespace Svsm.Moving.Tests;

public sealed partial class LinuxTests(TpmLinuxGuest guest) : IClassFixture<TpmLinuxGuest>
{
    private const int ExtensionsPerQuote = 8;

    private static readonly string s_commands =
        $$"""
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
            usleep 100000
          done
          echo "$1: ended after $i"
        }
        tpm() {
          cat > /moving/command
          dd if=/moving/command bs=4096 >&3 2> /dev/null
          dd bs=4096 count=1 <&3 2> /dev/null | hexdump -v -e '/1 "%02x"'
        }
        say() {
          case $3 in
            ????????????00000000*) echo "tpm: $1 $2 $4";;
            *) echo "tpm: $1 $2 WRONG $3";;
          esac
        }
        log() {
          exec 3<> /dev/tpm0
          key=$(tpm < /tpm/create)
          say key 0 $key $key
          i=0
          while [ ! -e /moving/end ]; do
            i=$((i + 1))
            usleep 100000
            say extended $i $({ cat /tpm/extend; printf %08d $i; } | tpm)
            [ $((i % {{ExtensionsPerQuote}})) != 0 ] || { quote=$({ cat /tpm/quote; printf %08d $i; cat /tpm/quote.end; } | tpm); say quote $i $quote $quote; }
          done
          echo "tpm: ended $i $(cat /sys/class/tpm/tpm0/pcr-sha256/10)"
        }
        dmesg -n 5
        insmod /modules/svsm-tpm.ko
        keep one & keep two & log &
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
        await using MovingPair pair = await MovingPair.StartAsync(
            s_commands, vcpuCount, linux: guest,
            modules: [PackagedModules.Vtpm with { Permissions = ModulePermissions.ReadGuest | ModulePermissions.WriteGuest, StoreQuota = 0 }]);
        await pair.Source.WaitForLineAsync("one: round 10,", 2);
        await pair.Source.WaitForLineAsync("two: round 10,", 2);
        await pair.Source.WaitForLineAsync($"tpm: quote {ExtensionsPerQuote} ", 2);
        using var relay = new TestRelay(pair);
        await relay.BeginAsync();
        Notice begin = await relay.WaitForAsync(ofSource: true, MigrationState.Copying, TestContext.Current.CancellationToken);
        Notice source = await relay.WaitForAsync(ofSource: true, MigrationState.Ended, TestContext.Current.CancellationToken);
        Assert.Equal((MigrationState.Ended, MigrationReason.None), (source.State, source.Reason));

        // The last 2 %.
        Assert.InRange(source.PagesOfRest, 0ul, (begin.Pages + begin.PagesLeft) / 50);
        await pair.Target.WaitForLineAsync("one: round ", 2);
        await pair.Target.WaitForLineAsync("two: round ", 2);

        // The one after the last that the source told of may have been under way.
        int last = TpmLine().Matches(string.Concat(pair.Source.GetLines(2).Select(line => line.Text + "\n"))).Max(match => Number(match));
        await pair.Target.WaitForLineAsync($"tpm: quote {(((last + 1) / ExtensionsPerQuote) + 1) * ExtensionsPerQuote} ", 2);
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

        CheckLog(before + after);
    }

    // The TPM's log, begun at the source: no extension is missing or twice, every quote is of what the log says, and one TPM has made them all.
    private static void CheckLog(string console)
    {
        byte[] pcr = new byte[32];
        int count = 0;
        ECDsa? key = null;
        List<(ulong Clock, uint Resets, uint Restarts)> quotes = [];
        foreach (Match line in TpmLine().Matches(console))
        {
            byte[] number = Encoding.ASCII.GetBytes(Number(line).ToString(CultureInfo.InvariantCulture).PadLeft(TpmLinuxGuest.GapBytes, '0'));
            byte[] bytes = Convert.FromHexString(line.Groups[3].Value);
            switch (line.Groups[1].Value)
            {
                case "key":
                    key = Quotes.PublicKeyOf(bytes);
                    break;
                case "extended":
                    Assert.Equal(++count, Number(line));
                    pcr = SHA256.HashData([.. pcr, .. SHA256.HashData(number)]);
                    break;
                case "quote":
                    quotes.Add(Quotes.Check(bytes, key!, pcr, number));
                    break;
                case "ended":
                    Assert.Equal(count, Number(line));
                    Assert.Equal(pcr, bytes);
                    break;
            }
        }

        Assert.Equal(count / ExtensionsPerQuote, quotes.Count);
        Assert.Equal(quotes.Select(quote => quote.Clock).Order(), quotes.Select(quote => quote.Clock));
        Assert.Single(quotes.Select(quote => (quote.Resets, quote.Restarts)).Distinct());
    }

    private static int Number(Match line) => int.Parse(line.Groups[2].Value, CultureInfo.InvariantCulture);

    private static (int Round, double Uptime)[] RoundsOf(string console, string name) =>
    [
        .. Round().Matches(console).Where(match => match.Groups[1].Value == name)
            .Select(match => (int.Parse(match.Groups[2].Value, CultureInfo.InvariantCulture), double.Parse(match.Groups[3].Value, CultureInfo.InvariantCulture))),
    ];

    [GeneratedRegex(@"(one|two): round (\d+), \d+ ([\d.]+)\r?\n")]
    private static partial Regex Round();

    [GeneratedRegex(@"tpm: (key|extended|quote|ended) (\d+) ([0-9a-fA-F]*)\r?\n")]
    private static partial Regex TpmLine();
}
