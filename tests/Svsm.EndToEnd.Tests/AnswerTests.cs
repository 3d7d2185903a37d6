// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The table of answers in docs/kernel.md, against the counters of the kernel after the checks of the probe guest.

using System;
using System.Collections.Generic;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Text.RegularExpressions;
using System.Threading.Tasks;
using Svsm.Simulator;
using Svsm.Wire;
using Xunit;

namespace Svsm.EndToEnd.Tests;

public sealed partial class AnswerTests
{
    // Each answer of the table was given, and no other one; and the frames are in use that were in use when the guest started.
    [Fact]
    public async Task Calls_OfTheProbeGuest_GetTheAnswersOfTheManual()
    {
        const int Cpus = 4;
        using ImageUnderTest checks = ImageUnderTest.Build();
        using ImageUnderTest idle = ImageUnderTest.Build("exit:0");

        MachineResult start = await ImageUnderTest.RunAsync(idle.Options() with { VcpuCount = Cpus });
        MachineResult probe = await ImageUnderTest.RunAsync(checks.Options() with { VcpuCount = Cpus });

        Assert.True(probe.ExitStatus == 0, probe + "\n" + probe.ConsoleText((int)Vmpl.Vmpl2));
        Assert.Equal(start.Kernel!.FramesInUse, probe.Kernel!.FramesInUse);
        Assert.Equal(ReadTable(), probe.Kernel.Calls.Select(count => $"{count.Call}: {count.Result}").Distinct().Order(StringComparer.Ordinal));
    }

    // Rows "| `CODE` ... | calls | ...", calls by their numbers: "0 to 5", "1, 4, 5", "none".
    private static string[] ReadTable()
    {
        string[] calls = ["REMAP_CA", "PVALIDATE", "CREATE_VCPU", "DELETE_VCPU", "DEPOSIT_MEM", "WITHDRAW_MEM", "QUERY_PROTOCOL", "CONFIGURE_VTOM"];
        SortedSet<string> answers = new(StringComparer.Ordinal) { "other core calls: UNSUPPORTED_CALL", "other protocols: UNSUPPORTED_PROTOCOL" };
        MatchCollection rows = Row().Matches(File.ReadAllText(ImageUnderTest.PathOf("KernelPage")));
        Assert.Equal(14, rows.Count);
        foreach (Match row in rows)
        {
            foreach (Match range in Range().Matches(row.Groups["calls"].Value))
            {
                int first = int.Parse(range.Groups["first"].Value, CultureInfo.InvariantCulture);
                int last = range.Groups["last"].Success ? int.Parse(range.Groups["last"].Value, CultureInfo.InvariantCulture) : first;
                answers.UnionWith(calls[first..(last + 1)].Select(call => $"{call}: {row.Groups["code"].Value}"));
            }
        }

        return [.. answers];
    }

    [GeneratedRegex(@"^\| `(?<code>[A-Z_]+)`(?: \(0x[0-9A-F_]+\))? \| (?<calls>[0-7 to,]+|none) \|", RegexOptions.Multiline)]
    private static partial Regex Row();

    [GeneratedRegex("(?<first>[0-7])(?: to (?<last>[0-7]))?")]
    private static partial Regex Range();
}
