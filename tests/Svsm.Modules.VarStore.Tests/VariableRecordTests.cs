// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Xunit;

namespace Svsm.Modules.VarStore.Tests;

/// <summary>Records of a storage.</summary>
public sealed class VariableRecordTests
{
    [Theory]
    [InlineData(0, "00000000")]
    [InlineData(0x8000_0102, "80000102")]
    public void NameOf_Number_IsBigEndianAndReadBack(uint number, string name)
    {
        Assert.Equal(name, Convert.ToHexString(VariableRecord.NameOf(number)));
        Assert.True(VariableRecord.TryReadName(Convert.FromHexString(name), out uint read));
        Assert.Equal(number, read);
    }

    [Theory]
    [InlineData("")]
    [InlineData("000001")]
    [InlineData("0000000001")]
    public void TryReadName_OtherLength_IsNoRecord(string name) => Assert.False(VariableRecord.TryReadName(Convert.FromHexString(name), out _));
}
