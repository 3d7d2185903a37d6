// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Text;
using System.Text.Json;
using Svsm.Modules.VarStore.Desk;
using Xunit;

namespace Svsm.Modules.VarStore.Tests;

/// <summary>The file of virt-firmware and QEMU.</summary>
public sealed class VariableJsonTests
{
    private static readonly DateTime s_time = new(2024, 5, 6, 7, 8, 9);

    private static TestStorage Storage(IReadOnlyList<StorageRecord> records)
    {
        var storage = new TestStorage();
        Assert.True(storage.TryCommit([.. records]));
        return storage;
    }

    private static byte[] Export(TestStorage storage) => VariableJson.Export([.. storage.Records.Select(record => new StorageRecord(record.Key, record.Value))]);

    private static string Refused(string variables) =>
        Assert.Throws<InvalidDataException>(() => VariableJson.Import(Encoding.UTF8.GetBytes($$"""{ "version": 2, "variables": [{{variables}}] }"""))).Message;

    [Fact]
    public void Export_AndImport_IsTheSameStore()
    {
        var storage = new TestStorage();
        var firmware = new TestFirmware(storage);
        TestSigner owner = TestSigner.Named("Owner");
        TestSigner alice = TestSigner.Named("Alice");
        var signed = new VariableId(TestFirmware.Vendor, "Signed");
        firmware.Set("Böot\u0001\"😀", TestFirmware.NonVolatile, 1, 2, 255);
        firmware.Set("Volatile", TestFirmware.Volatile, 1);
        firmware.Set("Large", TestFirmware.NonVolatile, new byte[VariableLimits.MaxData]);
        firmware.Set(signed, TestFirmware.Authenticated, alice.Write(signed, TestFirmware.Authenticated, s_time, [7]));
        firmware.Set(KnownVariables.PlatformKey, TestFirmware.Authenticated, owner.Write(KnownVariables.PlatformKey, TestFirmware.Authenticated, s_time, owner.List()));

        byte[] json = Export(storage);
        using (JsonDocument document = JsonDocument.Parse(json))
        {
            JsonElement element = document.RootElement.GetProperty("variables").EnumerateArray().Single(variable => variable.GetProperty("name").GetString() == "Signed");
            Assert.Equal("12345678-9abc-def0-1234-56789abcdef0", element.GetProperty("guid").GetString());
            Assert.Equal(39, element.GetProperty("attr").GetInt32());
            Assert.Equal("07", element.GetProperty("data").GetString());
            Assert.Equal("e8070506070809000000000000000000", element.GetProperty("time").GetString());
            Assert.Equal(64, element.GetProperty("digest").GetString()!.Length);
        }

        TestStorage again = Storage(VariableJson.Import(json));
        Assert.Equal(json, Export(again));
        firmware = new TestFirmware(again);
        Assert.Equal([1, 2, 255], firmware.Get("Böot\u0001\"😀"));
        Assert.Null(firmware.Get("Volatile"));
        Assert.True(firmware.Store.IsSecureBootOn);
        Assert.Equal(EfiStatus.SecurityViolation, firmware.Set(signed, TestFirmware.Authenticated, owner.Write(signed, TestFirmware.Authenticated, s_time.AddDays(1), [8])));
        Assert.Equal(EfiStatus.Success, firmware.Set(signed, TestFirmware.Authenticated, alice.Write(signed, TestFirmware.Authenticated, s_time.AddDays(1), [8])));
    }

    [Fact]
    public void Import_AsVirtFirmwareWritesIt_IsRead()
    {
        // Written as virt-fw-vars does it, with CustomMode, which is not kept, and without digests.
        byte[] json = """
            {
                "version": 2,
                "variables": [
                    { "name": "Boot0001", "guid": "8be4df61-93ca-11d2-aa0d-00e098032b8c", "attr": 7, "data": "0100000004004F00530000007fff0400" },
                    { "name": "CustomMode", "guid": "c076ec0c-7028-4399-a072-71ee5c448b9f", "attr": 3, "data": "01" },
                    { "name": "Private", "guid": "12345678-9abc-def0-1234-56789abcdef0", "attr": 39, "data": "01", "time": "e8070506070809000000000000000000" }
                ]
            }
            """u8.ToArray();
        var firmware = new TestFirmware(Storage(VariableJson.Import(json)));
        Assert.Equal(16, firmware.Get(new VariableId(KnownVariables.Global, "Boot0001"))!.Length);
        Assert.Equal(0, firmware.Flag(KnownVariables.CustomMode));

        // Nobody knows who signed it: nobody changes it.
        var id = new VariableId(TestFirmware.Vendor, "Private");
        Assert.Equal(EfiStatus.SecurityViolation, firmware.Set(id, TestFirmware.Authenticated, TestSigner.Named("Alice").Write(id, TestFirmware.Authenticated, s_time.AddDays(1), [8])));
    }

    [Fact]
    public void Import_OfKeysOnly_IsUserMode_AndTheKeyCanGo()
    {
        TestSigner owner = TestSigner.Named("Owner");
        TestStorage storage = Storage(VariableJson.Import(Encoding.UTF8.GetBytes($$"""
            { "version": 2, "variables": [ { "name": "PK", "guid": "8be4df61-93ca-11d2-aa0d-00e098032b8c", "attr": 39, "data": "{{Convert.ToHexString(owner.List())}}" } ] }
            """)));
        var firmware = new TestFirmware(storage);
        Assert.True(firmware.Store.IsSecureBootOn);
        Assert.Equal(1, firmware.Flag(KnownVariables.SecureBootEnable));

        // SecureBootEnable, which the engine made itself, goes with it; the storage never had it.
        Assert.Equal(EfiStatus.Success, firmware.Set(KnownVariables.PlatformKey, TestFirmware.Authenticated, owner.Write(KnownVariables.PlatformKey, TestFirmware.Authenticated, s_time, [])));
        Assert.Null(firmware.Get(KnownVariables.SecureBootEnable));
        Assert.False(new TestFirmware(storage).Store.IsSecureBootOn);
    }

    [Theory]
    [InlineData("")]
    [InlineData("{")]
    [InlineData("[]")]
    [InlineData("1")]
    [InlineData("{}")]
    [InlineData("{ \"version\": 3, \"variables\": [] }")]
    [InlineData("{ \"version\": \"2\", \"variables\": [] }")]
    [InlineData("{ \"version\": 2, \"variables\": {} }")]
    public void Import_OfSomethingElse_IsRefused(string json) => Assert.Throws<InvalidDataException>(() => VariableJson.Import(Encoding.UTF8.GetBytes(json)));

    [Fact]
    public void Import_OfVariablesThatCannotBe_SaysWhich()
    {
        const string Guid = "\"guid\": \"12345678-9abc-def0-1234-56789abcdef0\"";
        Assert.Contains("variable 1 is Number", Refused("1"), StringComparison.Ordinal);
        Assert.Contains("no \"name\"", Refused("{}"), StringComparison.Ordinal);
        Assert.Contains("no text", Refused("{ \"name\": 1 }"), StringComparison.Ordinal);
        Assert.Contains("surrogate", Refused("{ \"name\": \"\\ud800\" }"), StringComparison.Ordinal);
        Assert.Contains("wanted are 1 to 511", Refused($"{{ \"name\": \"\", {Guid}, \"attr\": 7, \"data\": \"00\" }}"), StringComparison.Ordinal);
        Assert.Contains("512 characters", Refused($"{{ \"name\": \"{new string('n', 512)}\", {Guid}, \"attr\": 7, \"data\": \"00\" }}"), StringComparison.Ordinal);
        Assert.Contains("'A' has no \"guid\"", Refused("{ \"name\": \"A\", \"guid\": \"1234\" }"), StringComparison.Ordinal);
        foreach (string attributes in (string[])["0", "1", "6", "15", "71", "135"])
        {
            Assert.Contains($"attributes {attributes}; wanted", Refused($"{{ \"name\": \"A\", {Guid}, \"attr\": {attributes}, \"data\": \"00\" }}"), StringComparison.Ordinal);
        }

        foreach (string attributes in (string[])["-1", "1e99", "\"7\""])
        {
            Assert.Contains("no \"attr\"", Refused($"{{ \"name\": \"A\", {Guid}, \"attr\": {attributes}, \"data\": \"00\" }}"), StringComparison.Ordinal);
        }

        Assert.Contains("no \"attr\"", Refused($"{{ \"name\": \"A\", {Guid}, \"data\": \"00\" }}"), StringComparison.Ordinal);
        Assert.Contains("0 bytes of data", Refused($"{{ \"name\": \"A\", {Guid}, \"attr\": 7 }}"), StringComparison.Ordinal);
        Assert.Contains("hexadecimal", Refused($"{{ \"name\": \"A\", {Guid}, \"attr\": 7, \"data\": \"0\" }}"), StringComparison.Ordinal);
        Assert.Contains("65537 bytes", Refused($"{{ \"name\": \"A\", {Guid}, \"attr\": 7, \"data\": \"{new string('0', 2 * 65537)}\" }}"), StringComparison.Ordinal);
        Assert.Contains("\"time\" of 1 bytes", Refused($"{{ \"name\": \"A\", {Guid}, \"attr\": 39, \"data\": \"00\", \"time\": \"00\" }}"), StringComparison.Ordinal);
        Assert.Contains("\"digest\" of 1 bytes", Refused($"{{ \"name\": \"A\", {Guid}, \"attr\": 39, \"data\": \"00\", \"digest\": \"00\" }}"), StringComparison.Ordinal);
        string good = $"{{ \"name\": \"A\", {Guid}, \"attr\": 7, \"data\": \"00\" }}";
        Assert.Contains("twice", Refused($"{good}, {good}"), StringComparison.Ordinal);
        Assert.Contains("signature lists", Refused("{ \"name\": \"PK\", \"guid\": \"8be4df61-93ca-11d2-aa0d-00e098032b8c\", \"attr\": 39, \"data\": \"00\" }"), StringComparison.Ordinal);
        Assert.Contains("'\\u001b[2J' of", Refused($"{{ \"name\": \"\\u001b[2J\", {Guid}, \"attr\": 7 }}"), StringComparison.Ordinal);
    }

    [Fact]
    public void Import_OfWhatUefiNames_IsAsUefiSays()
    {
        const string Global = "8be4df61-93ca-11d2-aa0d-00e098032b8c";
        const string ImageSecurity = "d719b2cb-3d3a-4596-a3bc-dad00e67656f";
        string Text(string name, string vendor, int attributes, string data) => $"{{ \"name\": \"{name}\", \"guid\": \"{vendor}\", \"attr\": {attributes}, \"data\": \"{data}\" }}";
        TestSigner owner = TestSigner.Named("Owner");
        string list = Convert.ToHexString(owner.List());
        foreach ((string name, string vendor) in ((string, string)[])[("PK", Global), ("KEK", Global), ("db", ImageSecurity), ("dbx", ImageSecurity), ("dbt", ImageSecurity)])
        {
            foreach (int attributes in (int[])[3, 7, 35])
            {
                Assert.Contains($"'{name}' of {vendor} has attributes {attributes}; wanted is 39", Refused(Text(name, vendor, attributes, list)), StringComparison.Ordinal);
            }

            Assert.Contains($"'{name}' of {vendor} is not signature lists", Refused(Text(name, vendor, 39, list + "00")), StringComparison.Ordinal);
        }

        string hash = "2616c4c14c509240aca941f9369343284c0000000000000030000000" + new string('0', 96);
        foreach (string lists in (string[])[Convert.ToHexString(owner.List(TestSigner.Named("Other"))), hash])
        {
            Assert.Contains("is not one certificate", Refused(Text("PK", Global, 39, lists)), StringComparison.Ordinal);
        }

        // What the engine makes itself, and what a guest could not write either.
        Assert.Contains($"'SetupMode' of {Global} has attributes 7; wanted is 6", Refused(Text("SetupMode", Global, 7, "00")), StringComparison.Ordinal);
        Assert.Contains($"'Boot0001' of {Global} has data that it cannot have", Refused(Text("Boot0001", Global, 7, "0100")), StringComparison.Ordinal);
        Assert.Contains($"'Boot0001' of {Global} has data that it cannot have", Refused(Text("Boot0001", Global, 7, "010000000400")), StringComparison.Ordinal);
        Assert.Contains($"'Timeout' of {Global} has data that it cannot have", Refused(Text("Timeout", Global, 7, "010000")), StringComparison.Ordinal);
    }

    [Fact]
    public void Export_OfWhatIsNoVariable_IsRefused()
    {
        Assert.Throws<InvalidDataException>(() => VariableJson.Export([new(1, new byte[3])]));
        var storage = new TestStorage();
        new TestFirmware(storage).Set("\uD800", TestFirmware.NonVolatile, 1);
        Assert.Contains("surrogate", Assert.Throws<InvalidDataException>(() => Export(storage)).Message, StringComparison.Ordinal);
    }
}
