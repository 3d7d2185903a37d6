// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.IO;
using System.Linq;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using System.Text.Json;
using System.Threading.Tasks;
using Svsm.Store;
using Xunit;

namespace Svsm.Tool.Tests;

/// <summary>svsm vars, on stores as it finds them.</summary>
public sealed class VarsCommandTests : VarsTest
{
    private const string Global = "8be4df61-93ca-11d2-aa0d-00e098032b8c";

    public VarsCommandTests() => File.WriteAllBytes(At("other"), new byte[32]);

    private void InStore(Action<PersistentStore> change)
    {
        using StoreFile file = StoreFile.OpenToWrite(At("disk"));
        change(PersistentStore.Open(file, StoreKey).Store!);
    }

    // What a command that fails must not do.
    private async Task Fails(string code, string command, params string[] args)
    {
        byte[] before = await File.ReadAllBytesAsync(At("disk"), TestContext.Current.CancellationToken);
        Outcome outcome = await Vars(command, args);
        Assert.Contains(code, outcome.Error, StringComparison.Ordinal);
        Assert.Equal((ExitStatus.BadFile, ""), (outcome.Status, outcome.Output));
        Assert.Equal(before, await File.ReadAllBytesAsync(At("disk"), TestContext.Current.CancellationToken));
    }

    private static byte[] CertificateList()
    {
        using X509Certificate2 certificate = NewCertificate("Owner");
        byte[] der = certificate.RawData;
        return
        [
            .. new Guid("a5c059a1-94e4-4aa7-87b5-ab155c2bf072").ToByteArray(), .. BitConverter.GetBytes(28 + 16 + der.Length), 0, 0, 0, 0, .. BitConverter.GetBytes(16 + der.Length),
            .. new Guid(Vendor).ToByteArray(), .. der,
        ];
    }

    [Fact]
    public async Task SetGetListDelete_AreAboutTheSameVariables()
    {
        await Create();
        Assert.Equal(0, (await Done("list")).GetProperty("variables").GetArrayLength());
        JsonElement set = await Done("set", "A", "--guid", Vendor, "--hex", "0aFF");
        Assert.Equal(["file", "root", "generation", "variables", "changes"], Names(set));
        Assert.Equal((1, 1, 1), (set.GetProperty("generation").GetInt32(), set.GetProperty("variables").GetInt32(), set.GetProperty("changes").GetInt32()));
        await File.WriteAllBytesAsync(At("pk"), CertificateList(), TestContext.Current.CancellationToken);
        await Done("set", "PK", "--data", At("pk"));
        await Done("set", "Timeout", "--hex", "0500");
        await Done("set", "B", "--guid", Vendor, "--hex", "01", "--attributes", "3");

        JsonElement list = await Done("list");
        Assert.Equal(["file", "deployedMode", "variables"], Names(list));
        Assert.False(list.GetProperty("deployedMode").GetBoolean());
        Assert.Equal(
            [("A", Vendor, 7, 2), ("PK", Global, 39, (int)new FileInfo(At("pk")).Length), ("Timeout", Global, 7, 2), ("B", Vendor, 3, 1)],
            list.GetProperty("variables").EnumerateArray().Select(variable => (
                variable.GetProperty("name").GetString()!, variable.GetProperty("guid").GetString()!, variable.GetProperty("attributes").GetInt32(), variable.GetProperty("byteLength").GetInt32())));

        JsonElement get = await Done("get", "A");
        Assert.Equal(["file", "name", "guid", "attributes", "byteLength", "data"], Names(get));
        Assert.Equal("0aff", get.GetProperty("data").GetString());
        get = await Done("get", "PK", "--output", At("copy"));
        Assert.Equal(["file", "name", "guid", "attributes", "byteLength", "time", "data"], Names(get));
        Assert.Equal(await File.ReadAllBytesAsync(At("pk"), TestContext.Current.CancellationToken), await File.ReadAllBytesAsync(At("copy"), TestContext.Current.CancellationToken));

        // Each change is one commit; none is none.
        set = await Done("set", "A", "--hex", "02");
        Assert.Equal((5, 4, 1), (set.GetProperty("generation").GetInt32(), set.GetProperty("variables").GetInt32(), set.GetProperty("changes").GetInt32()));
        JsonElement same = await Done("set", "A", "--hex", "02");
        Assert.Equal(0, same.GetProperty("changes").GetInt32());
        Assert.Equal(set.GetProperty("root").GetString(), same.GetProperty("root").GetString());
        JsonElement deleted = await Done("delete", "A");
        Assert.Equal((6, 3), (deleted.GetProperty("generation").GetInt32(), deleted.GetProperty("variables").GetInt32()));
        await Fails("SVSM7011", "get", "A");
        Assert.Equal(ExitStatus.Success, (await Run("store", "verify", At("disk"), "--key", At("key"), "--generation", "6", "--root", deleted.GetProperty("root").GetString()!)).Status);
    }

    [Fact]
    public async Task ExportAndImport_AreTheSameVariables_InOneCommit()
    {
        await Create();
        await File.WriteAllBytesAsync(At("large"), new byte[65536], TestContext.Current.CancellationToken);
        await Done("set", "A", "--guid", Vendor, "--hex", "01");
        await Done("set", "Large", "--guid", Vendor, "--data", At("large"));
        await Done("set", "B", "--guid", Vendor, "--hex", "02");
        await Done("delete", "A");
        JsonElement exported = await Done("export", "--output", At("vars.json"));
        Assert.Equal(["file", "variables"], Names(exported));
        Assert.Equal(2, exported.GetProperty("variables").GetInt32());
        using (JsonDocument document = JsonDocument.Parse(await File.ReadAllBytesAsync(At("vars.json"), TestContext.Current.CancellationToken)))
        {
            Assert.Equal(2, document.RootElement.GetProperty("version").GetInt32());
            Assert.Equal(["Large", "B"], document.RootElement.GetProperty("variables").EnumerateArray().Select(variable => variable.GetProperty("name").GetString()));
        }

        File.Move(At("disk"), At("first"));
        await Create();
        await Done("set", "Old", "--guid", Vendor, "--hex", "03");
        JsonElement imported = await Done("import", At("vars.json"));
        Assert.Equal((2, 2), (imported.GetProperty("generation").GetInt32(), imported.GetProperty("variables").GetInt32()));
        await Done("export", "--output", At("again.json"));
        Assert.Equal(await File.ReadAllBytesAsync(At("vars.json"), TestContext.Current.CancellationToken), await File.ReadAllBytesAsync(At("again.json"), TestContext.Current.CancellationToken));
        Assert.Equal(0, (await Done("import", At("vars.json"))).GetProperty("changes").GetInt32());
    }

    [Fact]
    public async Task Output_ForPeople_IsPlain_AndObeysNoName()
    {
        await Create();
        await File.WriteAllTextAsync(At("vars.json"), $$"""{ "version": 2, "variables": [ { "name": "\u001b[2Jx", "guid": "{{Vendor}}", "attr": 39, "data": "00", "time": "e8070506070809000000000000000000", "digest": "{{new string('a', 64)}}" } ] }""", TestContext.Current.CancellationToken);
        AssertPlain((await Vars("import", At("vars.json"))).Output);
        AssertPlain((await Vars("set", "Timeout", "--hex", "0000")).Output);
        foreach (string[] args in new string[][] { ["list"], ["get", "\\u001b[2Jx"], ["get", "\u001b[2Jx"], ["get", "Timeout", "--output", At("copy")], ["export", "--output", At("vars.json")], ["delete", "\\u001b[2Jx"] })
        {
            Outcome outcome = await Vars(args[0], args[1..]);
            Assert.Equal((ExitStatus.Success, ""), (outcome.Status, outcome.Error));
            AssertPlain(outcome.Output);
        }

        Outcome left = await Vars("list");
        Assert.Contains("NV BS RT", left.Output, StringComparison.Ordinal);
        Assert.Contains("1 variables", left.Output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Name_UnknownOrOfSeveral_NeedsTheGuid()
    {
        await Create();
        await Fails("SVSM7011", "get", "A");
        await Fails("SVSM7011", "delete", "A");
        await Fails("SVSM7011", "set", "A", "--hex", "00");
        await Done("set", "A", "--guid", Vendor, "--hex", "01");
        await Done("set", "A", "--guid", Global.Replace('8', '9'), "--hex", "02");
        foreach (string[] args in new string[][] { ["get", "A"], ["delete", "A"], ["set", "A", "--hex", "00"] })
        {
            await Fails("SVSM7011", args[0], args[1..]);
            await Fails("SVSM7011", "get", "A", "--guid", Global);
        }

        Assert.Equal("01", (await Done("get", "A", "--guid", Vendor)).GetProperty("data").GetString());
        await Done("delete", "A", "--guid", Vendor);
        Assert.Equal("02", (await Done("get", "A")).GetProperty("data").GetString());
    }

    [Fact]
    public async Task Set_WhatCannotBe_IsAnErrorAndChangesNothing()
    {
        await Create();
        await File.WriteAllBytesAsync(At("long"), new byte[65537], TestContext.Current.CancellationToken);
        await Fails("SVSM7012", "set", "A", "--guid", Vendor, "--hex", "");
        await Fails("SVSM7012", "set", "A", "--guid", Vendor, "--data", At("long"));
        await Fails("SVSM7012", "set", "A", "--guid", Vendor, "--hex", "00", "--attributes", "6");
        await Fails("SVSM7012", "set", "PK", "--hex", "00");
        await Fails("SVSM7012", "set", "db", "--hex", "00", "--attributes", "7");
        await Fails("SVSM7012", "set", "Boot0001", "--hex", "0000");
        await Fails("SVSM7012", "set", "SetupMode", "--hex", "00");
        await Fails("SVSM7012", "set", "CustomMode", "--hex", "00");
        foreach (string text in (string[])["", "{}", "{ \"version\": 2, \"variables\": [ { \"name\": \"A\" } ] }"])
        {
            await File.WriteAllTextAsync(At("bad.json"), text, TestContext.Current.CancellationToken);
            await Fails("SVSM7012", "import", At("bad.json"));
        }

        Assert.Equal(0UL, Generation());
    }

    [Fact]
    public async Task Set_WithoutDataOrTwice_IsUsage()
    {
        Assert.Equal(ExitStatus.Usage, (await Vars("set", "A")).Status);
        Assert.Equal(ExitStatus.Usage, (await Vars("set", "A", "--hex", "00", "--data", At("key"))).Status);
        Assert.Equal(ExitStatus.Usage, (await Vars("set", "A", "--hex", "0")).Status);
        Assert.Equal(ExitStatus.Usage, (await Vars("set", "A", "--hex", "0x00")).Status);
        Assert.Equal(ExitStatus.Usage, (await Vars("set", "A", "--hex", "00", "--guid", "1")).Status);
        Assert.Equal(ExitStatus.Usage, (await Vars("export")).Status);
        Assert.Equal(ExitStatus.Usage, (await Run("vars", "list", At("disk"))).Status);
    }

    [Fact]
    public async Task Store_ThatCannotBeUsed_IsAnErrorOfEveryCommand()
    {
        await File.WriteAllTextAsync(At("vars.json"), "{ \"version\": 2, \"variables\": [] }", TestContext.Current.CancellationToken);
        string[][] commands = [["list"], ["get", "A"], ["set", "A", "--hex", "00"], ["delete", "A"], ["export", "--output", At("out.json")], ["import", At("vars.json")]];
        foreach (string[] args in commands)
        {
            Outcome outcome = await Vars(args[0], args[1..]);
            Assert.Contains("SVSM7001", outcome.Error, StringComparison.Ordinal);
            Assert.Equal(ExitStatus.BadFile, outcome.Status);
        }

        await File.WriteAllBytesAsync(At("disk"), new byte[1 << 20], TestContext.Current.CancellationToken);
        foreach (string[] args in commands)
        {
            await Fails("SVSM7008", args[0], args[1..]);
        }

        File.Delete(At("disk"));
        await Create();
        await Done("set", "A", "--guid", Vendor, "--hex", "01");
        File.Copy(At("other"), At("key"), overwrite: true);
        foreach (string[] args in commands)
        {
            await Fails("SVSM7003", args[0], args[1..]);
        }

        await File.WriteAllTextAsync(At("key"), "x", TestContext.Current.CancellationToken);
        foreach (string[] args in commands)
        {
            await Fails("SVSM7002", args[0], args[1..]);
        }

        Assert.False(File.Exists(At("out.json")));
    }

    [Fact]
    public async Task Store_WithDamage_IsNotChanged()
    {
        await Create();
        await Done("set", "A", "--guid", Vendor, "--hex", "01");
        var space = new Guid(Vendor);
        InStore(store =>
        {
            Assert.Equal(StoreResult.Done, store.DefineNamespace(space, 50_000));
            StoreTransaction transaction = store.Begin(space)!;
            Assert.Equal(StoreResult.Done, transaction.Put("x"u8, Enumerable.Repeat((byte)0x5A, 30_000).ToArray()));
            Assert.Equal(StoreResult.Done, transaction.Commit());
        });

        // The value of another module.
        await Damage(block: 2 + 2 + 3);
        foreach (string[] args in new string[][] { ["set", "A", "--hex", "02"], ["delete", "A"] })
        {
            await Fails("SVSM7004", args[0], args[1..]);
        }

        Assert.Equal("01", (await Done("get", "A")).GetProperty("data").GetString());

        // The variable's own.
        await Damage(block: 2, at: 0x70 + 2 * 0x20 + 16 + 16);
        await Fails("SVSM7004", "list");
        await Fails("SVSM7004", "export", "--output", At("out.json"));
        await Fails("SVSM7004", "set", "A", "--hex", "02");
    }

    [Fact]
    public async Task Store_WithRecordsOfAnotherVersion_IsNotChanged()
    {
        await Create();
        await Done("set", "A", "--guid", Vendor, "--hex", "01");
        foreach ((byte[] name, byte[] value) in ((byte[], byte[])[])[([0, 0, 0, 9], [2, 2, 2]), ("abc"u8.ToArray(), [1])])
        {
            InStore(store =>
            {
                StoreTransaction transaction = store.Begin(ModuleNamespaces.IdOf(4), 1000)!;
                Assert.Equal(StoreResult.Done, transaction.Put(name, value));
                Assert.Equal(StoreResult.Done, transaction.Commit());
            });
            await Fails("SVSM7010", "list");
            await Fails("SVSM7010", "get", "A");
            await Fails("SVSM7010", "set", "A", "--hex", "02");
            await Fails("SVSM7010", "export", "--output", At("out.json"));
            await File.WriteAllTextAsync(At("vars.json"), "{ \"version\": 2, \"variables\": [] }", TestContext.Current.CancellationToken);
            await Fails("SVSM7010", "import", At("vars.json"));
            InStore(store =>
            {
                StoreTransaction transaction = store.Begin(ModuleNamespaces.IdOf(4))!;
                transaction.Delete(name);
                Assert.Equal(StoreResult.Done, transaction.Commit());
            });
        }
    }

    [Fact]
    public async Task Store_WithoutRoom_IsNotChanged()
    {
        await Create();
        await Done("set", "A", "--guid", Vendor, "--hex", "01");
        InStore(store => Assert.Equal(StoreResult.Done, store.DefineNamespace(new Guid(Vendor), store.Capacity - 2000)));
        await File.WriteAllBytesAsync(At("data"), new byte[3000], TestContext.Current.CancellationToken);
        await Fails("SVSM7013", "set", "A", "--data", At("data"));
        Assert.Equal(ExitStatus.Success, (await Run("store", "resize", At("disk"), "--size", "2MiB", "--key", At("key"))).Status);
        await Done("set", "A", "--data", At("data"));

        // More than a commit takes: as many as there can be, and what goes with the records of before.
        await Create("4MiB", "large");
        File.Move(At("large"), At("disk"), overwrite: true);
        string File64(string prefix, int count, int length) => $$"""{ "version": 2, "variables": [ {{string.Join(", ", Enumerable.Range(0, count).Select(i => $$"""{ "name": "{{prefix}}{{i}}", "guid": "{{Vendor}}", "attr": 7, "data": "{{new string('0', 2 * length)}}" }"""))}} ] }""";
        await File.WriteAllTextAsync(At("small.json"), File64("s", 1800, 1), TestContext.Current.CancellationToken);
        await File.WriteAllTextAsync(At("large.json"), File64("l", 4, 65_000), TestContext.Current.CancellationToken);
        await Done("import", At("small.json"));
        await Fails("SVSM7013", "import", At("large.json"));
        await File.WriteAllTextAsync(At("more.json"), File64("l", 5, 65_000), TestContext.Current.CancellationToken);
        await Fails("SVSM7012", "import", At("more.json"));
    }

    [Fact]
    public async Task File_InUse_IsAnError()
    {
        await Create();
        using (new FileStream(At("disk"), FileMode.Open, FileAccess.ReadWrite, FileShare.None))
        {
            Assert.Contains("SVSM7001", (await Vars("set", "Timeout", "--hex", "0000")).Error, StringComparison.Ordinal);
            Assert.Contains("SVSM7001", (await Vars("list")).Error, StringComparison.Ordinal);
        }
    }

    private ulong Generation()
    {
        ulong generation = 0;
        InStore(store => generation = store.Version.Generation);
        return generation;
    }

    private async Task Damage(int block, int at = 0)
    {
        byte[] bytes = await File.ReadAllBytesAsync(At("disk"), TestContext.Current.CancellationToken);
        bytes[(block * 4096) + at] ^= 0x10;
        await File.WriteAllBytesAsync(At("disk"), bytes, TestContext.Current.CancellationToken);
    }
}
