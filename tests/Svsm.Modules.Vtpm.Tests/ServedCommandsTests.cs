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
