// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.Wire;
using Xunit;

namespace Svsm.Modules.Vtpm.Tests;

public sealed class ServedCommandsTests
{
    [Fact]
    public void Documentation_Table_IsWhatIsServed()
    {
        using var reader = new StreamReader(typeof(TestTpm).Assembly.GetManifestResourceStream("vtpm.md")!);
        var documented = new List<string>();
        string? line;
        while ((line = reader.ReadLine()) is not null && !line.StartsWith("## Structure", StringComparison.Ordinal))
        {
            // Rows of the table: area and commands.
            string[] cells = line.Split('|');
            if (cells.Length == 4 && cells[1].Trim() is not ("Area" or "---"))
            {
                documented.AddRange(cells[2].Split(',').Select(name => Plain(name.Trim())));
            }
        }

        Assert.Equal(documented.Count, documented.Distinct().Count());
        Assert.Equal(CommandTable.All.ToArray().Select(c => Plain(c.Code.ToString())).Order(StringComparer.Ordinal), documented.Order(StringComparer.Ordinal));
    }

    [Fact]
    public void Codes_Declared_AreServed()
    {
        Assert.Equal(Enum.GetValues<CommandCode>().Length, CommandTable.All.Length);
    }

    // Codes without a command: 0x123, 0x15A, 0x15F, 0x166, 0x175. Source: TCG TPM 2.0 Library 1.84, TPM_CC.
    [Fact]
    public void Codes_OfTheLibrary_AreServedButThoseLeftOut()
    {
        uint[] none = [0x123, 0x15A, 0x15F, 0x166, 0x175];
        uint[] leftOut = [0x12F, 0x141, 0x179, 0x194, 0x195, 0x196, 0x1A1];
        uint[] wanted = [.. Enumerable.Range(0x11F, 0x1A1 - 0x11F + 1).Select(code => (uint)code).Except(none).Except(leftOut)];
        Assert.Equal(119, wanted.Length);
        Assert.Equal(wanted, CommandTable.All.ToArray().Select(c => (uint)c.Code));

        // And that is what TPM2_GetCapability says.
        byte[] answer = new TestTpm().Do(0x17A, [], [.. TestTpm.U32(2), .. TestTpm.U32(0), .. TestTpm.U32(256)]);
        Assert.Equal(TestTpm.U32((uint)wanted.Length), answer[5..9]);
        Assert.Equal(wanted, answer[9..].Chunk(4).Select(a => (uint)((a[2] << 8) | a[3])));
    }

    // FieldUpgradeStart, FieldUpgradeData, FirmwareRead, AC_GetCapability, AC_Send, Policy_AC_SendSelect, PolicyTransportSPDM.
    [Theory]
    [InlineData(0x12F)]
    [InlineData(0x141)]
    [InlineData(0x179)]
    [InlineData(0x194)]
    [InlineData(0x195)]
    [InlineData(0x196)]
    [InlineData(0x1A1)]
    public void Codes_NotServedOnPurpose_AreCommandCode(uint code)
    {
        Assert.Equal(0x143u, new TestTpm().Try(code, [], []));
    }

    private static string Plain(string name) => name.Replace("_", "", StringComparison.Ordinal).ToUpperInvariant();
}
