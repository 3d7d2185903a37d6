// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Diagnostics;
using System.Globalization;
using System.Text.RegularExpressions;
using System.Threading;
using System.Threading.Tasks;
using Xunit;

namespace Svsm.Modules.Vtpm.Tests;

// The arithmetic on a processor that has less than this one: a module may use SSE2 and AES, a program on the desk has AVX2 as well. The runtime
// decides once what it uses, so the tests of vectors and of machine code run again in a process of their own.
public sealed class ProcessorTests
{
    private static readonly Type[] s_tests =
    [
        typeof(ModulusTests), typeof(EllipticCurveTests), typeof(RsaTests), typeof(EcdaaTests), typeof(StockLibraryTests), typeof(ConstantTimeTests), typeof(AesTests),
        typeof(MacTests), typeof(PrimaryVectorTests),
    ];

    [Theory]
    [InlineData("DOTNET_EnableAVX")]
    [InlineData("DOTNET_EnableAES")]
    public async Task Vectors_InstructionsSwitchedOff_AreTheSame(string off)
    {
        var start = new ProcessStartInfo("dotnet") { RedirectStandardOutput = true };
        start.ArgumentList.Add(typeof(ProcessorTests).Assembly.Location);
        start.ArgumentList.Add("-noLogo");
        start.ArgumentList.Add("-noColor");
        foreach (Type type in s_tests)
        {
            start.ArgumentList.Add("-class");
            start.ArgumentList.Add(type.FullName!);
        }

        start.Environment[off] = "0";
        CancellationToken cancellation = TestContext.Current.CancellationToken;
        using Process process = Process.Start(start)!;
        string output = await process.StandardOutput.ReadToEndAsync(cancellation);
        await process.WaitForExitAsync(cancellation);
        Assert.True(process.ExitCode == 0, output);

        // Tests have run, and one of them has seen that the instructions are off.
        Assert.InRange(int.Parse(Regex.Match(output, @"Total: (\d+)").Groups[1].ValueSpan, CultureInfo.InvariantCulture), 70, int.MaxValue);
    }
}
