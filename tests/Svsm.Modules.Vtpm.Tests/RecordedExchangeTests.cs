// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using System.Linq;
using System.Text.Json;
using Svsm.Modules.Vtpm.Dispatch;
using Xunit;

namespace Svsm.Modules.Vtpm.Tests;

// The commands of SwtpmExchanges.json, in order, against a new TPM: same response codes everywhere, same bytes wherever nothing random,
// secret or timed is in them. What differs has a row with its reason, and a row that is not used fails.
public sealed class RecordedExchangeTests
{
    // Successful answers that have random numbers, proofs or times in them.
    private static readonly string[] s_onlyCode = ["Hash short owner", "StartAuthSession"];

    private static readonly Dictionary<string, (uint Code, string Reason)> s_differences = new()
    {
        ["bad tag"] = (0x01E, "Part 3, Command Header Validation: TPM_RC_BAD_TAG; this version of swtpm says TPM_RC_VALUE"),
        ["bad tag TPM 1.2"] = (0x01E, "the same"),
    };

    [Fact]
    public void Execute_RecordedCommands_AnswersLikeSwtpm()
    {
        var tpm = new TestTpm(start: false);
        using JsonDocument document = TestTpm.Resource("SwtpmExchanges.json");
        var unused = new HashSet<string>(s_differences.Keys);
        var failures = new List<string>();
        foreach (JsonElement exchange in document.RootElement.GetProperty("exchanges").EnumerateArray())
        {
            string name = exchange[0].GetString()!;
            byte[] expected = Convert.FromHexString(exchange[2].GetString()!);
            tpm.Milliseconds++;
            byte[] seen = tpm.Send(Convert.FromHexString(exchange[1].GetString()!));
            if (s_differences.TryGetValue(name, out (uint Code, string Reason) difference))
            {
                unused.Remove(name);
                Assert.NotEqual(difference.Code, TestTpm.Code(expected));
                Assert.Equal(difference.Code, TestTpm.Code(seen));
            }
            else if (TestTpm.Code(seen) != TestTpm.Code(expected) || (!s_onlyCode.Any(name.StartsWith) && !seen.AsSpan().SequenceEqual(expected)))
            {
                failures.Add($"{name}: {Convert.ToHexString(seen)} instead of {Convert.ToHexString(expected)}");
            }
        }

        Assert.True(failures.Count == 0, string.Join('\n', failures));
        Assert.Empty(unused);
        Assert.False(tpm.Engine.IsFailed);
    }

    [Fact]
    public void CommandAttributes_EveryCommand_AreThoseOfSwtpm()
    {
        using JsonDocument document = TestTpm.Resource("SwtpmExchanges.json");
        uint[] known = [.. document.RootElement.GetProperty("commandAttributes").GetString()!.Split(' ').Select(text => Convert.ToUInt32(text, 16))];
        foreach (CommandDescriptor command in CommandTable.All)
        {
            Assert.Contains(command.Attributes, known);
        }
    }
}
