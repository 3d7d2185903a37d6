// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Modules in the machine: the test module (tests/Svsm.TestModule), compiled as an image's program is, as a process of the real kernel.

using System;
using System.IO;
using System.Linq;
using System.Threading.Tasks;
using Svsm.Builder;
using Svsm.Simulator;
using Svsm.Wire;
using Xunit;

namespace Svsm.EndToEnd.Tests;

public sealed class ModuleTests
{
    private const string TypeName = "Svsm.TestModule.TestModule";
    private const uint Protocol = 0x8000_0001;

    [Theory]
    [InlineData(1)]
    [InlineData(4)]
    public async Task Module_CallsOfAllVcpus_AreAnswered(int vcpuCount)
    {
        using ImageUnderTest image = Build("module:50");
        MachineResult result = await ImageUnderTest.RunAsync(image.Options() with { VcpuCount = vcpuCount });

        AssertPassed(result);
        Assert.Contains(TypeName + ": hello", result.ConsoleText((int)Vmpl.Vmpl0), StringComparison.Ordinal);
    }

    internal static ImageUnderTest Build(string command, Func<ModuleOptions, ModuleOptions>? alter = null)
    {
        var module = new ModuleOptions { TypeName = TypeName, Protocol = Protocol };
        return ImageUnderTest.Build(command, alterOptions: options => options with
        {
            Modules = [alter?.Invoke(module) ?? module],
            Files = [new ModuleFile(ModuleOptions.DefaultProgram, File.ReadAllBytes(ImageUnderTest.PathOf("TestModule")))],
        });
    }

    private static void AssertPassed(MachineResult result) =>
        Assert.True(result.ExitStatus == 0, result + "\n" + result.ConsoleText((int)Vmpl.Vmpl2) + "\n" + result.ConsoleText((int)Vmpl.Vmpl0));
}
