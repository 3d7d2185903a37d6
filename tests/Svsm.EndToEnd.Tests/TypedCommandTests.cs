// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// What the probe guest does when somebody has typed at its serial port: Svsm.Simulator/ProbeGuest/TypedCommands.cs.

using System;
using System.Linq;
using System.Threading.Tasks;
using Svsm.Simulator;
using Svsm.Wire;
using Xunit;

namespace Svsm.EndToEnd.Tests;

public sealed class TypedCommandTests
{
    [Fact]
    public async Task Typed_CallsToAModule_AreMadeAndPrinted()
    {
        using ImageUnderTest image = ModuleTests.Build("");
        MachineResult result = await ImageUnderTest.RunAsync(image.Options() with
        {
            Typed = """
                # What an author tries.
                write 0x2000000 two words # and this

                call 0x80000001 3 0x2000000 20 0x2001000     # copies
                read 0x2001000 20
                write 33554448 0x00fFA5
                read 33554448 3
                call 0x80000001 1 1 0xFFFFFFFFFFFFFFFF 3 4
                call 0x80000001 77
                call 2147483649 2 0x2100000
                call 0x80000009 0
                call 0 6 0x8000000100000001
                call 0 1 0x2000001
                read 0x20FFFFF 1
                """,
        });

        Assert.True(result.ExitStatus == 0, result + "\n" + result.ConsoleText((int)Vmpl.Vmpl2));
        Assert.Equal(
            [
                "Success RCX=0x14 RDX=0x14 R8=0x2001000 R9=0x0",
                Convert.ToHexStringLower("two words # and this"u8),
                "00ffa5",
                "Success RCX=0x5 RDX=0x4 R8=0x0 R9=0x2",
                "UnsupportedCall RCX=0x0 RDX=0x0 R8=0x0 R9=0x0",
                "InvalidAddress RCX=0x2100000 RDX=0x0 R8=0x0 R9=0x0",
                "UnsupportedProtocol RCX=0x0 RDX=0x0 R8=0x0 R9=0x0",
                "Success RCX=0x100000001 RDX=0x0 R8=0x0 R9=0x0",
                "InvalidParameter RCX=0x2000001 RDX=0x0 R8=0x0 R9=0x0",
                "00",
            ],
            Lines(result));
    }

    [Theory]
    [InlineData("cal 0 6 1")]
    [InlineData("call 0 6 1 2 3 4 5")]
    [InlineData("call 0x100000000 6")]
    [InlineData("call 0 6 0x10000000000000000")]
    [InlineData("call 0 6 0x")]
    [InlineData("write 0x2000000 0x123")]
    [InlineData("write 0x2000000 0x12g4")]
    [InlineData("write 0x20fffff xy")]
    [InlineData("write 0xffffffffffffffff xy")]
    [InlineData("read 0x2000000 1 1")]
    [InlineData("read 0x20fffff 2")]
    public async Task Typed_NoCommand_EndsTheVmWithItsLine(string line)
    {
        using ImageUnderTest image = ImageUnderTest.Build();
        MachineResult result = await ImageUnderTest.RunAsync(image.Options() with { Typed = $"read 0x2000000 2\n{line}\nread 0x2000000 1\n" });

        Assert.Equal(2, result.ExitStatus);
        string[] lines = Lines(result);
        Assert.Equal("0000", lines[0]);
        Assert.StartsWith("error: line 2: wanted is 'call PROTOCOL CALL", lines[1], StringComparison.Ordinal);
        Assert.Equal(3, lines.Length);
    }

    [Theory]
    [InlineData(1024, 0)]
    [InlineData(1025, 2)]
    public async Task Typed_LongLine_IsBounded(int length, int exitStatus)
    {
        const string Start = "write 0x2000000 ";
        using ImageUnderTest image = ImageUnderTest.Build();
        MachineResult result = await ImageUnderTest.RunAsync(image.Options() with { Typed = Start + new string('x', length - Start.Length) });

        Assert.Equal(exitStatus, result.ExitStatus);
    }

    private static string[] Lines(MachineResult result) =>
        [.. result.ConsoleText((int)Vmpl.Vmpl2).Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(line => line.TrimEnd('\r'))];
}
