// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using System.ComponentModel;
using System.Diagnostics;
using System.Threading.Tasks;
using Xunit;

namespace Svsm.CoreLib.Tests;

/// <summary>Runs a program to its end.</summary>
internal static class Command
{
    private static readonly TimeSpan s_limit = TimeSpan.FromMinutes(3);

    internal static async Task<(int ExitCode, string Output)> RunAsync(string program, string folder, params IEnumerable<string> arguments)
    {
        var start = new ProcessStartInfo(program, arguments)
        {
            WorkingDirectory = folder,
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };

        // A build must not inherit the settings of the build or test run that started this process.
        foreach (string name in (string[])["MSBuildSDKsPath", "MSBUILD_EXE_PATH", "MSBuildExtensionsPath", "MSBuildLoadMicrosoftTargetsReadOnly"])
        {
            start.Environment.Remove(name);
        }

        start.Environment["MSBUILDDISABLENODEREUSE"] = "1";
        start.Environment["DOTNET_CLI_USE_MSBUILD_SERVER"] = "0";

        Process process;
        try
        {
            process = Process.Start(start)!;
        }
        catch (Win32Exception exception)
        {
            Assert.Fail($"'{program}' could not be started ({exception.Message}). These tests need it: install it (Debian: qemu-system-x86, binutils) or put it on the path.");
            throw;
        }

        using (process)
        {
            process.StandardInput.Close();
            Task<string> output = process.StandardOutput.ReadToEndAsync();
            Task<string> error = process.StandardError.ReadToEndAsync();
            Task end = process.WaitForExitAsync(TestContext.Current.CancellationToken);
            if (await Task.WhenAny(end, Task.Delay(s_limit, TestContext.Current.CancellationToken)) != end)
            {
                process.Kill(entireProcessTree: true);
                Assert.Fail($"'{program}' did not end within {s_limit.TotalMinutes} minutes. Its output:\n{await output}{await error}");
            }

            await end;
            return (process.ExitCode, await output + await error);
        }
    }
}
