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

    // A guest that makes and deletes variables for days uses numbers up: it gets an error, and no number twice.
    [Fact]
    public void Numbers_UsedUp_AreOutOfResources_ButForTheImagesKeys()
    {
        var storage = new TestStorage();
        new TestFirmware(storage).Set("A", TestFirmware.NonVolatile, 1);
        (uint number, byte[] record) = Assert.Single(storage.Records);
        Assert.True(storage.TryCommit([new(number, null), new(VariableLimits.MaxNumber, record)]));
        var firmware = new TestFirmware(storage);
        Assert.Equal(EfiStatus.OutOfResources, firmware.Set("B", TestFirmware.NonVolatile, 1));
        Assert.Equal(EfiStatus.Success, firmware.Set("B", TestFirmware.Volatile, 1));
        Assert.Equal(EfiStatus.Success, firmware.Set("A", TestFirmware.NonVolatile, 2));
        Assert.Equal(VariableStoreResult.Done, VariableStore.TryOpen(storage, new SecureBootKeys(TestSigner.Named("Owner").Der, default, default, default), out _));
        firmware = new TestFirmware(storage);
        Assert.True(firmware.Store.IsSecureBootOn);
        Assert.Equal([2], firmware.Get("A"));
        Assert.All(storage.Records.Keys, kept => Assert.InRange(kept, 0u, 0x7FFF_FFFFu));
    }

    [Theory]
    [InlineData(1)]
    [InlineData(31)]
    [InlineData(33)]
    [InlineData(64)]
    public void Signer_OfAnotherLength_IsDamage(byte length)
    {
        var storage = new TestStorage();
        var id = new VariableId(TestFirmware.Vendor, "Signed");
        byte[] write = TestSigner.Named("Alice").Write(id, TestFirmware.Authenticated, new(2024, 1, 1), new byte[100]);
        Assert.Equal(EfiStatus.Success, new TestFirmware(storage).Set(id, TestFirmware.Authenticated, write));
        Assert.Equal(VariableStoreResult.Done, VariableStore.TryOpen(storage, null, out _));
        storage.Damage(Assert.Single(storage.Records).Key, record =>
        {
            // With what would be a name and data.
            record.AsSpan(0x28).Fill(1);
            Assert.Equal(32, record[1]);
            record[1] = length;
            return record;
        });
        Assert.Equal(VariableStoreResult.Damaged, VariableStore.TryOpen(storage, null, out _));
    }
}
