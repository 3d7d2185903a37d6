// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.IO;
using System.Linq;
using System.Text.RegularExpressions;
using System.Threading.Tasks;
using Xunit;

namespace Svsm.CoreLib.Tests;

/// <summary>Boots the self-test image. What the compiler promises to freestanding code is seen here, so a new compiler version must pass.</summary>
public partial class SelfTestImageTests
{
    // isa-debug-exit: twice the written value, plus one.
    private const int PassedExitCode = (0x10 << 1) | 1;
    private const int PanicExitCode = (0x20 << 1) | 1;

    [Fact]
    public async Task Boot_NoCommandLine_RunsEveryTestOfItsSources()
    {
        (int exitCode, string console) = await BootAsync("");

        string[] lines = console.Split('\n', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries);
        string[] names = [.. Directory.EnumerateFiles(Path.Combine(Repository.Root, "tests", "Svsm.SelfTest"), "*.cs")
            .SelectMany(file => CheckName().Matches(File.ReadAllText(file)))
            .Select(match => match.Groups[1].Value)];
        Assert.DoesNotContain(lines, line => line.StartsWith("FAIL", StringComparison.Ordinal));
        Assert.True(names.Length > 100, $"only {names.Length} tests were found in the sources");
        Assert.Equal(
            names.Select(name => $"ok   {name}").Order(StringComparer.Ordinal),
            lines.Where(line => line.StartsWith("ok   ", StringComparison.Ordinal)).Order(StringComparer.Ordinal));
        Assert.Equal($"pass={names.Length} fail=0", lines[^1]);
        Assert.Equal(PassedExitCode, exitCode);
    }

    [Theory]
    [InlineData("index", "IndexOutOfRangeException")]
    [InlineData("span", "IndexOutOfRangeException")]
    [InlineData("slice", "ArgumentOutOfRangeException")]
    [InlineData("slice-negative", "ArgumentOutOfRangeException")]
    [InlineData("copy", "ArgumentException")]
    [InlineData("overflow", "OverflowException")]
    [InlineData("conversion", "OverflowException")]
    [InlineData("negative-length", "OverflowException")]
    [InlineData("cast", "InvalidCastException")]
    [InlineData("variance", "InvalidCastException")]
    [InlineData("enumerable", "Array: enumerating an array through IEnumerable is not supported")]
    [InlineData("unbox", "InvalidCastException")]
    [InlineData("store", "ArrayTypeMismatchException")]
    [InlineData("nullable", "InvalidOperationException: the nullable has no value")]
    [InlineData("throw", "InvalidOperationException: thrown from C#")]
    [InlineData("throw-no-message", "NotSupportedException")]
    [InlineData("throw-sealed", "InvalidOperationException: thrown after booting")]
    [InlineData("catch", "InvalidOperationException: not caught")]
    [InlineData("sealed", "BootHeap: a class or an array was allocated after booting")]
    [InlineData("exhausted", "BootHeap: exhausted")]
    [InlineData("buffer-overrun", "stack buffer overrun")]
    [InlineData("value-equals", "ValueType.Equals: the struct does not override Equals(object)")]
    [InlineData("fail-fast", "said so")]
    [InlineData("div", "exception 0")]
    [InlineData("null", "exception 14 at address 0")]
    [InlineData("null-array", "exception 14 at address 8")]
    public async Task Boot_Failure_PanicsWithReason(string name, string reason)
    {
        (int exitCode, string console) = await BootAsync($"panic={name}");

        Assert.Equal($"panic: {reason}", console.Trim());
        Assert.Equal(PanicExitCode, exitCode);
    }

    private static Task<(int ExitCode, string Output)> BootAsync(string commandLine) => Command.RunAsync(
        "qemu-system-x86_64",
        Repository.Root,
        "-machine", "q35", "-accel", "tcg", "-cpu", "max", "-m", "256", "-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot",
        "-device", "isa-debug-exit,iobase=0xf4,iosize=4",
        "-kernel", Path.Combine(Repository.Output("Svsm.SelfTest"), "Svsm.SelfTest.elf"),
        "-append", commandLine);

    [GeneratedRegex("Check\\.That\\(\"([^\"]+)\"u8")]
    private static partial Regex CheckName();
}
