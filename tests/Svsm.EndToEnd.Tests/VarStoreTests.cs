// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// UEFI variables in the machine: their module (Svsm.Modules.VarStore), compiled as an image's program is, with the limits of its package, as a process of the
// real kernel. The guest's messages are those of OVMF's variable driver, typed.

using System;
using System.IO;
using System.Linq;
using System.Text;
using System.Threading.Tasks;
using Svsm.Boot;
using Svsm.Modules.VarStore.Tests;
using Svsm.Simulator;
using Svsm.Wire;
using Xunit;

namespace Svsm.EndToEnd.Tests;

public sealed class VarStoreTests
{
    private const ulong Message = 0x200_0000;
    private const uint NonVolatile = 7;

    private static readonly Guid s_global = new("8be4df61-93ca-11d2-aa0d-00e098032b8c");

    [Fact]
    public async Task Variables_SetAndGet_AreAnswered()
    {
        var typed = new StringBuilder();
        Send(typed, VariableMessage.Access(3, "A", NonVolatile, [1, 2, 3]), (VariableMessage.StatusOffset, 8));
        Send(typed, VariableMessage.Access(1, "A", 0, new byte[3]), (VariableMessage.StatusOffset, 8), (VariableMessage.DataOffset("A"), 3));
        Send(typed, VariableMessage.Access(1, "SecureBoot", 0, new byte[1], s_global), (VariableMessage.StatusOffset, 8), (VariableMessage.DataOffset("SecureBoot"), 1));
        Send(typed, VariableMessage.Access(3, "SecureBoot", 6, [1], s_global), (VariableMessage.StatusOffset, 8));
        typed.Append("call 4 0\ncall 4 1 0x2000000 0x17\ncall 4 1 0x2000800 0x1000\ncall 0 6 0x0000000400000001\n");

        using ImageUnderTest image = ImageUnderTest.Build("", modules: [PackagedModules.VarStore], program: File.ReadAllBytes(ImageUnderTest.PathOf("TestStorage")));
        MachineResult result = await ImageUnderTest.RunAsync(image.Options() with { Typed = typed.ToString() });
        string[] lines = result.ConsoleText((int)Vmpl.Vmpl2).Split('\n', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries);
        const string Done = "Success RCX=0x2000000 RDX=0x10000 R8=0x0 R9=0x0";
        string[] wanted =
        [
            Done, "0000000000000000",
            Done, "0000000000000000", "010203",
            Done, "0000000000000000", "00",
            Done, "0800000000000080",
            "UnsupportedCall RCX=0x0 RDX=0x0 R8=0x0 R9=0x0",
            "InvalidParameter RCX=0x2000000 RDX=0x17 R8=0x0 R9=0x0",
            "InvalidAddress RCX=0x2000800 RDX=0x1000 R8=0x0 R9=0x0",
            "Success RCX=0x100000001 RDX=0x0 R8=0x0 R9=0x0",
        ];
        Assert.True(result.ExitStatus == 0, result + "\n" + result.ConsoleText((int)Vmpl.Vmpl2) + "\n" + result.ConsoleText((int)Vmpl.Vmpl0));
        Assert.Equal(wanted, lines[^wanted.Length..]);
        Assert.Contains("UEFI variables: they end with the VM, secure boot off", result.ConsoleText((int)Vmpl.Vmpl0), StringComparison.Ordinal);
    }

    private static void Send(StringBuilder typed, byte[] message, params (int Offset, int Length)[] reads)
    {
        const int Line = 64;
        for (int at = 0; at < message.Length; at += Line)
        {
            typed.Append(null, $"write 0x{Message + (ulong)at:X} 0x{Convert.ToHexStringLower(message.AsSpan(at, Math.Min(Line, message.Length - at)))}\n");
        }

        typed.Append(null, $"call 4 1 0x{Message:X} 0x10000\n");
        foreach ((int offset, int length) in reads)
        {
            typed.Append(null, $"read 0x{Message + (ulong)offset:X} {length}\n");
        }
    }
}
