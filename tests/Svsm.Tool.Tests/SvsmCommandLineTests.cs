// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.IO;
using System.Linq;
using System.Text.RegularExpressions;
using System.Threading.Tasks;
using Svsm.Simulator;
using Xunit;

namespace Svsm.Tool.Tests;

public sealed class SvsmCommandLineTests : ToolTest
{
    [Theory]
    [InlineData("bogus")]
    [InlineData("igvm")]
    [InlineData("igvm", "map")]
    [InlineData("igvm", "diff", "one")]
    [InlineData("measure")]
    [InlineData("measure", "file", "--ovmf", "firmware")]
    [InlineData("measure", "file", "--vcpus", "many")]
    [InlineData("measure", "file", "--vcpus", "0")]
    [InlineData("igvm", "verify", "file", "--vcpus", "65537")]
    [InlineData("sign", "file", "--id-key", "key", "-o", "out", "--vcpus", "-1")]
    [InlineData("measure", "file", "--cpu", "pentium")]
    [InlineData("measure", "file", "--host", "xen")]
    [InlineData("sign", "file", "-o", "out")]
    [InlineData("sign", "file", "--id-key", "key")]
    [InlineData("sign", "file", "--id-key", "key", "-o", "out", "--family-id", "00")]
    [InlineData("sign", "file", "--id-key", "key", "-o", "out", "--image-id", "0102030405060708090a0b0c0d0e0f1x")]
    [InlineData("run", "file", "--expect-violation", "Nonsense")]
    public async Task Run_WrongCommandLine_IsUsage(params string[] args)
    {
        Outcome outcome = await Run(args);

        Assert.Equal(ExitStatus.Usage, outcome.Status);
        Assert.Equal("", outcome.Output);
        Assert.StartsWith("error: ", outcome.Error, StringComparison.Ordinal);
        Assert.Contains("--help' lists what there is.", outcome.Error, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("igvm", "inspect", "?")]
    [InlineData("igvm", "verify", "?")]
    [InlineData("igvm", "map", "?")]
    [InlineData("igvm", "diff", "?", "?")]
    [InlineData("measure", "?")]
    [InlineData("measure", "--ovmf", "?")]
    [InlineData("sign", "?", "--id-key", "?", "-o", "?.out")]
    public async Task Run_FileThatIsNotThere_IsBadFile(params string[] args)
    {
        string missing = At("missing");
        Outcome outcome = await Run([.. args.Select(arg => arg.Replace("?", missing, StringComparison.Ordinal)), "--json"]);

        Assert.Equal(ExitStatus.BadFile, outcome.Status);
        Assert.Equal("", outcome.Output);
        Assert.StartsWith("error SVSM2015: ", outcome.Error, StringComparison.Ordinal);
        Assert.Contains(missing, outcome.Error, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("igvm", "inspect")]
    [InlineData("igvm", "verify")]
    [InlineData("igvm", "map")]
    [InlineData("measure")]
    public async Task Run_FileThatIsNotIgvm_IsBadFile(params string[] args)
    {
        File.WriteAllText(At("text"), "This is not an IGVM file, but it is long enough for one.");
        Outcome outcome = await Run([.. args, At("text")]);

        Assert.Equal(ExitStatus.BadFile, outcome.Status);
        Assert.StartsWith("error SVSM2016: ", outcome.Error, StringComparison.Ordinal);
        Assert.Contains("0x73696854", outcome.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Run_MissingImage_HasTheSimulatorsStatus()
    {
        Outcome outcome = await Run("run", At("missing.igvm"));

        Assert.Equal(RunExitStatus.Refused, outcome.Status);
        Assert.StartsWith("error SVSM6006: ", outcome.Error, StringComparison.Ordinal);
    }

    [Fact]
    public void ExitStatuses_OfToolAndSimulator_Agree()
    {
        Assert.Equal(ExitStatus.Usage, RunExitStatus.Usage);
        Assert.Equal(ExitStatus.BadFile, RunExitStatus.Refused);
    }

    [Theory]
    [InlineData("--help")]
    [InlineData("igvm", "--help")]
    [InlineData("igvm", "verify", "--help")]
    [InlineData("sign", "--help")]
    public async Task Run_Help_IsOutput(params string[] args)
    {
        Outcome outcome = await Run(args);

        Assert.Equal(ExitStatus.Success, outcome.Status);
        Assert.Contains("Usage:", outcome.Output, StringComparison.Ordinal);
        Assert.Equal("", outcome.Error);
    }

    [Fact]
    public void Manual_ExitStatuses_AreThoseOfTheTool()
    {
        string manual = File.ReadAllText(Path.Combine(AppContext.BaseDirectory, "svsm-tool.md"));

        int[] documented = [.. Regex.Matches(manual, @"^\| (\d+) \|", RegexOptions.Multiline).Select(match => int.Parse(match.Groups[1].Value, System.Globalization.CultureInfo.InvariantCulture))];

        Assert.Equal([ExitStatus.Success, ExitStatus.Difference, ExitStatus.Usage, ExitStatus.BadFile, ExitStatus.Unreleased], documented);
    }

    // Every option that help lists is in the manual, under its command.
    [Theory]
    [InlineData("igvm inspect")]
    [InlineData("igvm verify")]
    [InlineData("igvm diff")]
    [InlineData("igvm map")]
    [InlineData("measure")]
    [InlineData("sign")]
    [InlineData("store create")]
    [InlineData("store inspect")]
    [InlineData("store verify")]
    [InlineData("store resize")]
    [InlineData("migrate send")]
    [InlineData("migrate receive")]
    [InlineData("run")]
    public async Task Manual_EachCommand_HasItsOptions(string command)
    {
        string manual = File.ReadAllText(Path.Combine(AppContext.BaseDirectory, "svsm-tool.md"));
        string help = (await Run([.. command.Split(' '), "--help"])).Output;
        int start = Regex.Match(manual, $"^## svsm {command}\\b", RegexOptions.Multiline) is { Success: true } head ? head.Index : -1;
        Assert.True(start >= 0, command);
        string section = manual[start..manual.IndexOf("\n## ", start + 1, StringComparison.Ordinal)];

        foreach (string option in Regex.Matches(help, @"--[a-z-]+").Select(match => match.Value).Distinct().Except(["--help", "--version", "--flavour", "--json"]))
        {
            Assert.Contains(option, section, StringComparison.Ordinal);
        }
    }

    // "svsm run is the same", says the manual of the simulated machine.
    [Fact]
    public async Task Run_Options_AreThoseOfTheSimulatedMachine()
    {
        string manual = File.ReadAllText(Path.Combine(AppContext.BaseDirectory, "simulated-machine.md"));
        string help = (await Run("run", "--help")).Output;
        string[] documented = [.. Regex.Matches(manual, @"^\| `(--[a-z-]+)", RegexOptions.Multiline).Select(match => match.Groups[1].Value).Order(StringComparer.Ordinal)];

        Assert.NotEmpty(documented);
        Assert.Equal(documented, Regex.Matches(help, @"^  (--[a-z-]+)", RegexOptions.Multiline).Select(match => match.Groups[1].Value).Order(StringComparer.Ordinal));
    }
}
