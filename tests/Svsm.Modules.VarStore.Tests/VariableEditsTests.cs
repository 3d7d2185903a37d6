// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using Svsm.Modules.VarStore.Desk;
using Xunit;

namespace Svsm.Modules.VarStore.Tests;

/// <summary>Variables that are edited on the desk.</summary>
public sealed class VariableEditsTests
{
    private readonly TestStorage _storage = new();
    private readonly TestSigner _owner = TestSigner.Named("Owner");

    private IReadOnlyList<StorageRecord> Records => [.. _storage.Records.Select(record => new StorageRecord(record.Key, record.Value))];

    // What comes of it is what the engine opens.
    private TestFirmware Commit(IReadOnlyList<StorageRecord> after)
    {
        StorageRecord[] changes = VariableEdits.Changes(Records, after);
        Assert.True(changes.Length == 0 || _storage.TryCommit(changes));
        Assert.Equal(after.OrderBy(record => record.Number).Select(record => record.Number), _storage.Records.Keys.Order());
        return new TestFirmware(_storage);
    }

    private TestFirmware Set(VariableId id, VariableAttributes? attributes, params byte[] data) => Commit(VariableEdits.Set(Records, id.Vendor, id.Name, attributes, data));

    private string Refused(VariableId id, VariableAttributes? attributes, params byte[] data) =>
        Assert.Throws<InvalidDataException>(() => VariableEdits.Changes(Records, VariableEdits.Set(Records, id.Vendor, id.Name, attributes, data))).Message;

    [Fact]
    public void Set_NewAndOld_IsWhatTheEngineFinds()
    {
        var a = new VariableId(TestFirmware.Vendor, "A");
        var timeout = new VariableId(KnownVariables.Global, "Timeout");
        Set(a, null, 1);
        Set(timeout, null, 5, 0);
        Set(new(TestFirmware.Vendor, "B"), (VariableAttributes)3, new byte[VariableLimits.MaxData]);
        TestFirmware firmware = Set(a, null, 2, 3);
        Assert.Equal([2, 3], firmware.Get(a));
        Assert.Equal([5, 0], firmware.Get(timeout));
        Assert.Equal(
            [(a, TestFirmware.NonVolatile), (timeout, TestFirmware.NonVolatile), (new(TestFirmware.Vendor, "B"), (VariableAttributes)3)],
            VariableEdits.List(Records).Select(variable => (new VariableId(variable.Vendor, variable.Name), variable.Attributes)));
        Set(a, (VariableAttributes)3, 2, 3);
        Assert.Equal((VariableAttributes)3, VariableEdits.List(Records)[0].Attributes);
        int commits = _storage.Commits;
        Set(a, null, 2, 3);
        Assert.Equal(commits, _storage.Commits);
    }

    [Fact]
    public void Delete_OfALargeOne_LeavesNothing()
    {
        var large = new VariableId(TestFirmware.Vendor, "Large");
        Set(large, null, new byte[VariableLimits.MaxData]);
        Assert.Equal(2, _storage.Records.Count);
        Assert.Null(Commit(VariableEdits.Delete(Records, large.Vendor, large.Name)).Get(large));
        Assert.Empty(_storage.Records);
        Assert.Empty(VariableEdits.Changes(Records, VariableEdits.Delete(Records, large.Vendor, large.Name)));
    }

    [Fact]
    public void Set_Authenticated_KeepsWhoMayWriteIt()
    {
        TestSigner alice = TestSigner.Named("Alice");
        var id = new VariableId(TestFirmware.Vendor, "Signed");
        byte[] Write(byte value, int year) => alice.Write(id, TestFirmware.Authenticated, new(year, 1, 2, 3, 4, 5), [value]);
        Assert.Equal(EfiStatus.Success, new TestFirmware(_storage).Set(id, TestFirmware.Authenticated, Write(1, 2024)));
        StoredVariable before = Assert.Single(VariableEdits.List(Records));
        Assert.Equal("2024-01-02T03:04:05", before.Time);
        Assert.Equal(64, before.Signer!.Length);
        TestFirmware firmware = Set(id, null, 9);
        Assert.Equal(before with { Data = default }, VariableEdits.List(Records)[0] with { Data = default });
        Assert.Equal([9], firmware.Get(id));
        Assert.Equal(EfiStatus.SecurityViolation, firmware.Set(id, TestFirmware.Authenticated, Write(2, 2024)));
        Assert.Equal(EfiStatus.Success, firmware.Set(id, TestFirmware.Authenticated, Write(2, 2025)));
    }

    [Fact]
    public void Set_PlatformKey_IsUserMode_AndDeployedModeStays()
    {
        TestFirmware firmware = Set(KnownVariables.PlatformKey, null, _owner.List());
        Assert.Equal((0, 0, 1), (firmware.Flag(KnownVariables.SetupMode), firmware.Flag(KnownVariables.DeployedMode), firmware.Flag(KnownVariables.SecureBoot)));
        Assert.False(VariableEdits.IsDeployed(Records));
        Assert.Equal(EfiStatus.Success, firmware.Set(KnownVariables.DeployedMode, TestFirmware.Volatile, 1));
        Assert.True(VariableEdits.IsDeployed(Records));
        firmware = Set(new(TestFirmware.Vendor, "A"), null, 1);
        Assert.Equal(1, firmware.Flag(KnownVariables.DeployedMode));
        firmware = Commit(VariableEdits.Delete(Records, KnownVariables.PlatformKey.Vendor, KnownVariables.PlatformKey.Name));
        Assert.False(VariableEdits.IsDeployed(Records));
        Assert.Equal(1, firmware.Flag(KnownVariables.SetupMode));
    }

    [Fact]
    public void Changes_ToAnImport_AreThoseThatDiffer()
    {
        Set(new(TestFirmware.Vendor, "A"), null, 1);
        Set(new(TestFirmware.Vendor, "B"), null, 2);
        Set(new(TestFirmware.Vendor, "C"), null, 3);
        IReadOnlyList<StorageRecord> copy = VariableJson.Import(VariableJson.Export(Records));
        Assert.Empty(VariableEdits.Changes(Records, copy));
        IReadOnlyList<StorageRecord> other = VariableEdits.Delete(VariableEdits.Set(copy, TestFirmware.Vendor, "B", null, new byte[] { 7 }), TestFirmware.Vendor, "C");
        Assert.Equal([2u, 3u], VariableEdits.Changes(Records, other).Select(change => change.Number));
        Assert.Equal([7], Commit(other).Get("B"));
    }

    [Fact]
    public void Set_WhatCannotBe_SaysWhy()
    {
        var a = new VariableId(TestFirmware.Vendor, "A");
        Assert.Contains("0 bytes of data", Refused(a, null), StringComparison.Ordinal);
        Assert.Contains("65537 bytes of data", Refused(a, null, new byte[65537]), StringComparison.Ordinal);
        Assert.Contains("attributes 2; wanted are 3", Refused(a, (VariableAttributes)2, 1), StringComparison.Ordinal);
        Assert.Contains("a name of 0 characters", Refused(new(a.Vendor, ""), null, 1), StringComparison.Ordinal);
        Assert.Contains("a name of 512 characters", Refused(new(a.Vendor, new string('n', 512)), null, 1), StringComparison.Ordinal);
        Assert.Contains("attributes 7; wanted is 39", Refused(KnownVariables.Allowed, (VariableAttributes)7, _owner.List()), StringComparison.Ordinal);
        Assert.Contains("not signature lists", Refused(KnownVariables.Allowed, null, _owner.Der), StringComparison.Ordinal);
        Assert.Contains("not one certificate", Refused(KnownVariables.PlatformKey, null, _owner.List(_owner)), StringComparison.Ordinal);
        Assert.Contains("cannot have", Refused(new(KnownVariables.Global, "Boot0000"), null, 1, 2, 3), StringComparison.Ordinal);
        Assert.Contains("attributes 6; wanted", Refused(KnownVariables.SetupMode, null, 1), StringComparison.Ordinal);
        Assert.Contains("made anew", Refused(KnownVariables.CustomMode, null, 1), StringComparison.Ordinal);
        Assert.Empty(_storage.Records);
    }

    [Fact]
    public void Changes_BeyondTheQuota_AreRefused_UnlessItWasMoreBefore()
    {
        for (int i = 0; i < 4; i++)
        {
            Set(new(TestFirmware.Vendor, $"{i}"), null, new byte[65_000]);
        }

        Assert.Contains("wanted are at most 262144", Refused(new(TestFirmware.Vendor, "4"), null, new byte[2000]), StringComparison.Ordinal);

        // An image's keys are taken beyond it; less may be written then.
        _ = new TestFirmware(_storage, new SecureBootKeys(_owner.Der, _owner.Der, _owner.Der, default));
        Assert.Contains("wanted are at most 262144", Refused(new(TestFirmware.Vendor, "3"), null, new byte[65_005]), StringComparison.Ordinal);
        Set(new(TestFirmware.Vendor, "3"), null, new byte[64_000]);
    }

    [Fact]
    public void Vendor_OfANameOfUefi_IsFound()
    {
        Assert.Equal(KnownVariables.Global, VariableEdits.FindVendor("PK"));
        Assert.Equal(KnownVariables.Global, VariableEdits.FindVendor("Boot00Ab"));
        Assert.Equal(KnownVariables.ImageSecurity, VariableEdits.FindVendor("dbx"));
        Assert.Equal(KnownVariables.SecureBootEnable.Vendor, VariableEdits.FindVendor("SecureBootEnable"));
        Assert.Null(VariableEdits.FindVendor("Boot00AG"));
        Assert.Null(VariableEdits.FindVendor(""));
    }

    [Theory]
    [InlineData("Boot0001", "Boot0001")]
    [InlineData("Größe 😀", "Größe 😀")]
    [InlineData("a\u001b[2Jb\u0085c", "a\\u001b[2Jb\\u0085c")]
    [InlineData("\u202egnp", "\\u202egnp")]
    [InlineData("\\u0041", "\\u005cu0041")]
    [InlineData("a\u0336b\u20dd", "a\\u0336b\\u20dd")]
    [InlineData("a\u0903 b\u00a0c\u3000", "a\\u0903 b\\u00a0c\\u3000")]
    public void DisplayName_HasNothingThatATerminalObeys(string name, string wanted) => Assert.Equal(wanted, new StoredVariable(default, name, 0, default, null, null).DisplayName);

    [Fact]
    public void DisplayName_OfHalfAPair_IsEscaped() =>
        Assert.Equal("\\ud83dx\\ude00", new StoredVariable(default, new string(['\ud83d', 'x', '\ude00']), 0, default, null, null).DisplayName);
}
