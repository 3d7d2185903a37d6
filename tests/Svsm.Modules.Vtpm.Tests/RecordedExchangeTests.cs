// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.Linq;
using System.Text.Json;
using Svsm.Modules.Vtpm.Dispatch;
using Xunit;

namespace Svsm.Modules.Vtpm.Tests;

// The commands of SwtpmExchanges.json, in order, against a new TPM: same response codes everywhere, same bytes wherever nothing random,
// secret or timed is in them. Of new objects the creation data are compared. What differs has a row with its reason, and a row that is not used fails.
public sealed class RecordedExchangeTests
{
    // Successful answers that have random numbers, proofs or times in them.
    private static readonly string[] s_onlyCode = ["Hash short owner", "StartAuthSession", "CreatePrimary", "ReadPublic"];

    private static readonly Dictionary<string, (string List, uint Code, string Reason)> s_differences = new()
    {
        ["bad tag"] = ("exchanges", 0x01E, "Part 2, TPMI_ST_COMMAND_TAG: TPM_RC_BAD_TAG; this version of swtpm says TPM_RC_VALUE"),
        ["bad tag TPM 1.2"] = ("exchanges", 0x01E, "the same"),
        ["SequenceUpdate of key"] = ("objects", 0x189, "the sequence is handle 1, and so it is in the TCG reference implementation (SequenceUpdate.c); this version of swtpm names parameter 1"),
        ["Unseal da wrong 1"] = ("objects", 0x98E, "with USE_DA_USED the TCG reference implementation (SessionProcess.c, CheckLockedOut) answers TPM_RC_RETRY before the first check of a protected authValue; the engine commits the mark at once"),
        ["Unseal da wrong 4"] = ("objects", 0x921, "the same: one failure more was counted"),
    };

    // Lists of capabilities that have one element more than swtpm's.
    private static readonly Dictionary<string, (string List, byte[] Last, string Reason)> s_longer = new()
    {
        ["caps policies"] = ("exchanges", [0x40, 0, 1, 0x10, 0, 0x10], "the countdown timer TPM_RH_ACT_0 has a policy; this version of swtpm has no timer"),
    };

    // Also when the TPM is suspended and goes on in another object before every command.
    [Theory]
    [InlineData("exchanges", false)]
    [InlineData("objects", false)]
    [InlineData("macs", false)]
    [InlineData("exchanges", true)]
    [InlineData("objects", true)]
    [InlineData("macs", true)]
    public void Execute_RecordedCommands_AnswersLikeSwtpm(string list, bool isSuspended)
    {
        var tpm = new TestTpm(start: false);
        using JsonDocument document = TestTpm.Resource("SwtpmExchanges.json");
        var unused = s_differences.Where(d => d.Value.List == list).Select(d => d.Key)
            .Concat(s_longer.Where(d => d.Value.List == list).Select(d => d.Key)).ToHashSet();
        var failures = new List<string>();
        foreach (JsonElement exchange in document.RootElement.GetProperty(list).EnumerateArray())
        {
            string name = exchange[0].GetString()!;
            byte[] expected = Convert.FromHexString(exchange[2].GetString()!);
            tpm.Milliseconds++;
            if (isSuspended)
            {
                tpm.SuspendAndResume();
            }

            byte[] seen = tpm.Send(Convert.FromHexString(exchange[1].GetString()!));
            if (s_longer.TryGetValue(name, out (string List, byte[] Last, string Reason) longer))
            {
                unused.Remove(name);
                expected = [.. expected, .. longer.Last];
                BinaryPrimitives.WriteInt32BigEndian(expected.AsSpan(2), expected.Length);
                expected[18]++;
            }

            if (s_differences.TryGetValue(name, out (string List, uint Code, string Reason) difference))
            {
                unused.Remove(name);
                if (TestTpm.Code(seen) != difference.Code || difference.Code == TestTpm.Code(expected))
                {
                    failures.Add($"{name}: {TestTpm.Code(seen):X3} instead of {difference.Code:X3}, which swtpm must not answer");
                }
            }
            else if (TestTpm.Code(seen) != TestTpm.Code(expected) || seen.Length != expected.Length || (!s_onlyCode.Any(name.StartsWith) && !seen.AsSpan().SequenceEqual(expected)))
            {
                failures.Add($"{name}: {Convert.ToHexString(seen)} instead of {Convert.ToHexString(expected)}");
            }
            else if (name.StartsWith("CreatePrimary", StringComparison.Ordinal) && TestTpm.Code(seen) == 0
                && !Creation(seen).SequenceEqual(Creation(expected)))
            {
                failures.Add($"{name}: creation data {Convert.ToHexString(Creation(seen))} instead of {Convert.ToHexString(Creation(expected))}");
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
            // Codes that came after this version of swtpm.
            if ((uint)command.Code > 0x197)
            {
                continue;
            }

            Assert.Contains(command.Attributes, known);
        }
    }

    // Of a response to TPM2_CreatePrimary: creation data, their hash, tag and hierarchy of the ticket. None depends on seeds.
    private static ReadOnlySpan<byte> Creation(byte[] response)
    {
        int start = 18;
        start += 2 + BinaryPrimitives.ReadUInt16BigEndian(response.AsSpan(start));
        int end = start;
        end += 2 + BinaryPrimitives.ReadUInt16BigEndian(response.AsSpan(end));
        end += 2 + BinaryPrimitives.ReadUInt16BigEndian(response.AsSpan(end));
        return response.AsSpan(start..(end + 6));
    }
}
