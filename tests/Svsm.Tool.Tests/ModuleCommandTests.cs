// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Linq;
using System.Reflection;
using System.Threading.Tasks;
using Xunit;

namespace Svsm.Tool.Tests;

/// <summary>svsm module run, with the test module's static program. Its calls are those of tests/Svsm.TestModule.</summary>
public sealed class ModuleCommandTests : ToolTest
{
    private const string Class = "Svsm.TestModule.TestModule";

    private static readonly string s_program =
        typeof(ModuleCommandTests).Assembly.GetCustomAttributes<AssemblyMetadataAttribute>().Single(attribute => attribute.Key == "TestModules").Value!;

    [Fact]
    public async Task Run_Script_PrintsAnswersAndLog()
    {
        Outcome run = await RunWithInput(
            """
            # registers
            call 1 1 0x2 3 4
            call 77

            write 0x1000  hello there   # text
            write 0x100b 0x21
            call 3 0x1000 12 0x2000
            read 0x2000 12
            vcpu 3
            call 4 0x1000 5
            reset
            manifest 0
            """,
            "module", "run", s_program, Class);

        Assert.Equal(0, run.Status);
        Assert.Equal(
            ["Success RCX=0x5 RDX=0x4 R8=0x3 R9=0x2", "UnsupportedCall RCX=0x0 RDX=0x0 R8=0x0 R9=0x0", "Success RCX=0xc RDX=0xc R8=0x2000 R9=0x0",
                "68656c6c6f20746865726521", "Success RCX=0x1000 RDX=0x5 R8=0x0 R9=0x0", "none"],
            run.Output.Split('\n', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries));
        Assert.Contains("<6>hello", run.Error, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("jump 1", "line 2: 'jump 1' is no command")]
    [InlineData("call", "is no command")]
    [InlineData("call 1 2 3 4 5 6", "is no command")]
    [InlineData("call x", "'x' is no number from 0 to 0xffffffff")]
    [InlineData("read 0x4000000 1", "no number from 0 to 0x3ffffff")]
    [InlineData("read 0 65537", "no number from 0 to 0x10000")]
    [InlineData("write 0 0x123", "is no bytes")]
    [InlineData("write 0 0xzz", "is no bytes")]
    public async Task Run_BadLine_IsWrongUsage(string line, string text)
    {
        Outcome run = await RunWithInput("reset\n" + line, "module", "run", s_program, Class);

        Assert.Equal(64, run.Status);
        Assert.Contains(text, run.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Run_ModuleThatThrows_TellsItsException()
    {
        Outcome run = await RunWithInput("call 5", "module", "run", s_program, Class);

        Assert.Equal(65, run.Status);
        Assert.Contains("SVSM6022", run.Error, StringComparison.Ordinal);
        Assert.Contains("System.NotSupportedException", run.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Run_NoSuchClassOrProgram_Fails()
    {
        Outcome unknown = await Run("module", "run", s_program, "Svsm.TestModule.NoModule");
        Assert.Equal(65, unknown.Status);
        Assert.Contains("exit status 127", unknown.Error, StringComparison.Ordinal);

        Outcome missing = await Run("module", "run", At("nothing"), Class);
        Assert.Equal(65, missing.Status);
        Assert.Contains("SVSM2015", missing.Error, StringComparison.Ordinal);
    }
}
