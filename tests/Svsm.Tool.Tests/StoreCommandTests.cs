// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.IO;
using System.Linq;
using System.Security.Cryptography;
using System.Text;
using System.Threading.Tasks;
using Svsm.Keys;
using Svsm.Store;
using Xunit;

namespace Svsm.Tool.Tests;

/// <summary>svsm store, on files that have a store, and on such that have none.</summary>
public sealed class StoreCommandTests : ToolTest
{
    private static readonly string s_digits = string.Concat(Enumerable.Range(0, 32).Select(i => $"{i:x2}"));

    public StoreCommandTests()
    {
        File.WriteAllText(At("key"), s_digits + "\n");
        File.WriteAllBytes(At("raw"), Convert.FromHexString(s_digits));
        File.WriteAllBytes(At("other"), new byte[32]);
    }

    [Fact]
    public async Task Create_ThenEverything_Agrees()
    {
        Outcome created = await Run("store", "create", At("disk"), "--size", "1MiB", "--key", At("key"), "--json");
        Assert.Equal((ExitStatus.Success, ""), (created.Status, created.Error));
        Assert.Equal(["file", "store", "root", "generation", "byteLength"], Names(created.Json));
        Assert.Equal(1 << 20, new FileInfo(At("disk")).Length);
        Assert.Equal(4, Directory.GetFiles(At("")).Length);
        string root = created.Json.GetProperty("root").GetString()!;

        Outcome without = await Run("store", "inspect", At("disk"), "--json");
        Assert.Equal(["file", "fileLength", "store", "generation", "moved", "byteLength", "capacity", "logLength", "logLimit", "entries"], Names(without.Json));
        Outcome with = await Run("store", "inspect", At("disk"), "--key", At("raw"), "--json");
        Assert.Equal(["file", "fileLength", "store", "generation", "root", "moved", "byteLength", "capacity", "logLength", "logLimit", "entries", "namespaces"],
            Names(with.Json));
        Assert.False(with.Json.GetProperty("moved").GetBoolean());
        Assert.Equal(root, with.Json.GetProperty("root").GetString());

        Outcome verified = await Run("store", "verify", At("disk"), "--key", At("key"), "--generation", "0", "--root", root, "--json");
        Assert.Equal(ExitStatus.Success, verified.Status);
        Assert.Equal(["file", "verified", "authenticated", "generation", "root", "findings"], Names(verified.Json));
        Assert.True(verified.Json.GetProperty("authenticated").GetBoolean());
        verified = await Run("store", "verify", At("disk"), "--json");
        Assert.True(verified.Json.GetProperty("verified").GetBoolean());
        Assert.False(verified.Json.GetProperty("authenticated").GetBoolean());

        Outcome resized = await Run("store", "resize", At("disk"), "--size", "2MiB", "--key", At("key"), "--json");
        Assert.Equal(["file", "store", "byteLength", "fileLength"], Names(resized.Json));
        Assert.Equal(2 << 20, resized.Json.GetProperty("byteLength").GetInt64());

        // Without the key the file grows alone.
        resized = await Run("store", "resize", At("disk"), "--size", "3072KiB", "--json");
        Assert.Equal((2 << 20, 3 << 20), (resized.Json.GetProperty("byteLength").GetInt64(), resized.Json.GetProperty("fileLength").GetInt64()));
        Assert.Equal(ExitStatus.Success, (await Run("store", "verify", At("disk"), "--key", At("key"), "--generation", "0", "--root", root)).Status);
    }

    [Fact]
    public async Task Store_WhoseGuestIsAtAnotherSvsm_IsShownAndNotUsed()
    {
        await Run("store", "create", At("disk"), "--size", "1MiB", "--key", At("key"));
        using (StoreFile file = StoreFile.OpenToWrite(At("disk")))
        {
            Assert.Equal(StoreResult.Done, file.OpenStore(At("key"), readOnly: false).SetMoved(true));
        }

        byte[] before = File.ReadAllBytes(At("disk"));
        foreach (string[] key in new string[][] { [], ["--key", At("key")] })
        {
            Outcome inspected = await Run(["store", "inspect", At("disk"), .. key, "--json"]);
            Assert.True(inspected.Json.GetProperty("moved").GetBoolean());
            Assert.Contains("its guest is at another SVSM", (await Run(["store", "inspect", At("disk"), .. key])).Output, StringComparison.Ordinal);
            Outcome verified = await Run(["store", "verify", At("disk"), .. key, "--json"]);
            Assert.Equal(ExitStatus.Difference, verified.Status);
            Assert.Equal("SVSM7014", Assert.Single(verified.Json.GetProperty("findings").EnumerateArray()).GetProperty("code").GetString());
            Outcome resized = await Run(["store", "resize", At("disk"), "--size", "2MiB", .. key]);
            Assert.Contains("SVSM7014", resized.Error, StringComparison.Ordinal);
        }

        foreach (string[] command in new string[][] { ["list"], ["export", "--output", At("variables")] })
        {
            Outcome refused = await Run(["vars", command[0], At("disk"), "--key", At("key"), .. command[1..]]);
            Assert.Contains("SVSM7014", refused.Error, StringComparison.Ordinal);
        }

        Assert.Equal(before, File.ReadAllBytes(At("disk")));
    }

    [Fact]
    public async Task Output_ForPeople_IsPlain()
    {
        AssertPlain((await Run("store", "create", "disk", "--size", "1MiB", "--key", At("absent"))).Output);
        await Run("store", "create", At("disk"), "--size", "1MiB", "--key", At("key"));
        foreach (string[] args in new string[][] { ["inspect"], ["inspect", "--key", At("key")], ["verify"], ["verify", "--key", At("key")] })
        {
            Outcome outcome = await Run(["store", args[0], At("disk"), .. args[1..]]);
            Assert.Equal((ExitStatus.Success, ""), (outcome.Status, outcome.Error));
            AssertPlain(outcome.Output);
        }
    }

    [Fact]
    public async Task Create_PathTaken_ChangesNothingAndLeavesNothing()
    {
        await File.WriteAllTextAsync(At("disk"), "mine", TestContext.Current.CancellationToken);
        Outcome outcome = await Run("store", "create", At("disk"), "--size", "1MiB", "--key", At("key"));
        AssertError(outcome, "SVSM7001");
        Assert.Equal("mine", await File.ReadAllTextAsync(At("disk"), TestContext.Current.CancellationToken));
        Assert.Equal(4, Directory.GetFiles(At("")).Length);

        AssertError(await Run("store", "create", At("no/such/folder"), "--size", "1MiB", "--key", At("key")), "SVSM7001");
    }

    [Fact]
    public async Task Prepare_MakesAFileForAStore()
    {
        Outcome outcome = await Run("store", "prepare", At("disk"), "--size", "1MiB", "--json");
        Assert.Equal((ExitStatus.Success, ""), (outcome.Status, outcome.Error));
        Assert.Equal(["file", "byteLength"], Names(outcome.Json));
        byte[] bytes = await File.ReadAllBytesAsync(At("disk"), TestContext.Current.CancellationToken);
        Assert.Equal((1 << 20, "SVSMPREP"), (bytes.Length, System.Text.Encoding.ASCII.GetString(bytes[..8])));
        Assert.False(bytes.AsSpan(8).ContainsAnyExcept((byte)0));
        AssertError(await Run("store", "inspect", At("disk")), "SVSM7008");
        AssertError(await Run("store", "verify", At("disk"), "--key", At("key")), "SVSM7008");
        AssertError(await Run("store", "prepare", At("disk"), "--size", "1MiB"), "SVSM7001");
        AssertError(await Run("store", "prepare", At("small"), "--size", "4096"), "SVSM7009");
        Assert.False(File.Exists(At("small")));
        AssertPlain((await Run("store", "prepare", At("other-disk"), "--size", "1MiB")).Output);
    }

    [Theory]
    [InlineData("1048575")]
    [InlineData("1020KiB")]
    [InlineData("1048577")]
    [InlineData("20000GiB")]
    public async Task Create_SizeOfNoStore_IsAnErrorAndLeavesNothing(string size)
    {
        AssertError(await Run("store", "create", At("disk"), "--size", size, "--key", At("key")), "SVSM7009");
        Assert.Equal(3, Directory.GetFiles(At("")).Length);
    }

    [Theory]
    [InlineData("--size", "x")]
    [InlineData("--size", "-1")]
    [InlineData("--size", "1MB")]
    [InlineData("--size", "99999999999GiB")]
    public async Task Create_SizeThatIsNone_IsUsage(string option, string value) =>
        Assert.Equal(ExitStatus.Usage, (await Run("store", "create", At("disk"), option, value, "--key", At("key"))).Status);

    [Fact]
    public async Task Verify_HalfAnExpectation_IsUsage()
    {
        Assert.Equal(ExitStatus.Usage, (await Run("store", "verify", At("disk"), "--key", At("key"), "--generation", "1")).Status);
        Assert.Equal(ExitStatus.Usage, (await Run("store", "verify", At("disk"), "--generation", "1", "--root", new string('0', 64))).Status);
        Assert.Equal(ExitStatus.Usage, (await Run("store", "verify", At("disk"), "--key", At("key"), "--generation", "1", "--root", "00")).Status);
    }

    // The key that an SVSM makes of it: RFC 5869, label of Svsm.Modules.Storage/Keys/StoreKey.cs.
    [Fact]
    public async Task Key_OfAMovableSecret_IsThatOfTheSvsm()
    {
        using var ecdsa = ECDsa.Create(ECCurve.NamedCurves.nistP384);
        using BrokerKey broker = BrokerKey.Read(Encoding.ASCII.GetBytes(ecdsa.ExportPkcs8PrivateKeyPem()), "key");
        byte[] secret = broker.MakeSecret(isMovable: true);
        await File.WriteAllBytesAsync(At("secret"), secret, TestContext.Current.CancellationToken);
        await File.WriteAllBytesAsync(
            At("made"), HKDF.DeriveKey(HashAlgorithmName.SHA256, secret[0x10..0x30], 32, null, "svsm store key 1: broker"u8.ToArray()), TestContext.Current.CancellationToken);
        Assert.Equal(ExitStatus.Success, (await Run("store", "create", At("disk"), "--size", "1MiB", "--key", At("secret"))).Status);
        Assert.Equal(ExitStatus.Success, (await Run("store", "verify", At("disk"), "--key", At("made"))).Status);
        Assert.Equal(ExitStatus.Success, (await Run("store", "verify", At("disk"), "--key", At("secret"))).Status);

        // The chip has the other half of what opens a store with this one.
        await File.WriteAllBytesAsync(At("half"), broker.MakeSecret(isMovable: false), TestContext.Current.CancellationToken);
        Outcome half = await Run("store", "verify", At("disk"), "--key", At("half"));
        AssertError(half, "SVSM7002");
        Assert.Contains("not movable", half.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Key_OfNoStoreOrOfAnother_IsAnError()
    {
        await Run("store", "create", At("disk"), "--size", "1MiB", "--key", At("key"));
        byte[] before = await File.ReadAllBytesAsync(At("disk"), TestContext.Current.CancellationToken);
        await File.WriteAllTextAsync(At("short"), s_digits[1..], TestContext.Current.CancellationToken);
        await File.WriteAllTextAsync(At("letters"), new string('g', 64), TestContext.Current.CancellationToken);
        foreach (string[] command in new string[][] { ["inspect"], ["verify"], ["resize", "--size", "2MiB"] })
        {
            AssertError(await Run(["store", command[0], At("disk"), .. command[1..], "--key", At("short")]), "SVSM7002");
            AssertError(await Run(["store", command[0], At("disk"), .. command[1..], "--key", At("letters")]), "SVSM7002");
            AssertError(await Run(["store", command[0], At("disk"), .. command[1..], "--key", At("other")]), "SVSM7003");
        }

        Assert.Equal(before, await File.ReadAllBytesAsync(At("disk"), TestContext.Current.CancellationToken));
    }

    [Fact]
    public async Task Verify_WhatIsWrong_IsAFindingWithItsCode()
    {
        await Run("store", "create", At("disk"), "--size", "1MiB", "--key", At("key"));
        string zeroes = new('0', 64);
        AssertFinding(await Run("store", "verify", At("disk"), "--key", At("key"), "--generation", "0", "--root", zeroes, "--json"), "SVSM7005");
        AssertFinding(await Run("store", "verify", At("disk"), "--key", At("key"), "--generation", "1", "--root", zeroes, "--json"), "SVSM7005");

        using (FileStream stream = File.OpenWrite(At("disk")))
        {
            stream.Position = 100;
            stream.WriteByte(1);
        }

        AssertFinding(await Run("store", "verify", At("disk"), "--json"), "SVSM7004");
        AssertFinding(await Run("store", "verify", At("disk"), "--key", At("key"), "--json"), "SVSM7004");
        Outcome text = await Run("store", "verify", At("disk"));
        Assert.Contains("NOT verified", text.Output, StringComparison.Ordinal);
        Assert.Contains("SVSM7004: block 0", text.Output, StringComparison.Ordinal);
        using (FileStream stream = File.OpenWrite(At("disk")))
        {
            stream.SetLength(1 << 19);
        }

        AssertFinding(await Run("store", "verify", At("disk"), "--json"), "SVSM7007");
        AssertError(await Run("store", "inspect", At("disk")), "SVSM7007");
        AssertError(await Run("store", "resize", At("disk"), "--size", "1MiB"), "SVSM7007");
    }

    [Fact]
    public async Task File_WithoutAStoreOrOfAnotherVersion_IsAnErrorAndStaysAsItIs()
    {
        await File.WriteAllBytesAsync(At("zero"), new byte[1 << 20], TestContext.Current.CancellationToken);
        await File.WriteAllBytesAsync(At("small"), new byte[5], TestContext.Current.CancellationToken);
        byte[] text = new byte[1 << 20];
        text.AsSpan().Fill((byte)'x');
        await File.WriteAllBytesAsync(At("text"), text, TestContext.Current.CancellationToken);
        foreach (string command in (string[])["inspect", "verify", "resize"])
        {
            string[] size = command == "resize" ? ["--size", "2MiB"] : [];
            AssertError(await Run(["store", command, At("absent"), .. size]), "SVSM7001");
            AssertError(await Run(["store", command, At("zero"), .. size]), "SVSM7008");
            AssertError(await Run(["store", command, At("small"), .. size]), "SVSM7008");
        }

        AssertError(await Run("store", "inspect", At("text")), "SVSM7004");
        AssertError(await Run("store", "resize", At("text"), "--size", "2MiB"), "SVSM7004");
        Assert.Equal(1 << 20, new FileInfo(At("zero")).Length);
        Assert.Equal(1 << 20, new FileInfo(At("text")).Length);
        Assert.False(File.Exists(At("absent")));
    }

    [Fact]
    public async Task Resize_SmallerOrNoBlocks_IsAnErrorAndChangesNothing()
    {
        await Run("store", "create", At("disk"), "--size", "2MiB", "--key", At("key"));
        AssertError(await Run("store", "resize", At("disk"), "--size", "1MiB", "--key", At("key")), "SVSM7009");
        AssertError(await Run("store", "resize", At("disk"), "--size", "2097153", "--key", At("key")), "SVSM7009");
        Assert.Equal(2 << 20, new FileInfo(At("disk")).Length);
        Assert.Equal(ExitStatus.Success, (await Run("store", "resize", At("disk"), "--size", "2MiB", "--key", At("key"))).Status);
    }

    [Fact]
    public async Task Resize_FileInUse_IsAnError()
    {
        await Run("store", "create", At("disk"), "--size", "1MiB", "--key", At("key"));
        using (new FileStream(At("disk"), FileMode.Open, FileAccess.ReadWrite, FileShare.None))
        {
            AssertError(await Run("store", "resize", At("disk"), "--size", "2MiB", "--key", At("key")), "SVSM7001");
            AssertError(await Run("store", "inspect", At("disk")), "SVSM7001");
        }
    }

    private static void AssertError(Outcome outcome, string code)
    {
        Assert.Contains(code, outcome.Error, StringComparison.Ordinal);
        Assert.Equal((ExitStatus.BadFile, ""), (outcome.Status, outcome.Output));
    }

    private static void AssertFinding(Outcome outcome, string code)
    {
        Assert.Equal(ExitStatus.Difference, outcome.Status);
        Assert.False(outcome.Json.GetProperty("verified").GetBoolean());
        Assert.Contains(code, outcome.Json.GetProperty("findings").EnumerateArray().Select(finding => finding.GetProperty("code").GetString()));
    }
}
