// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.IO;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Threading.Tasks;
using Xunit;

namespace Svsm.Package.Tests;

/// <summary>UEFI variables: the keys that an image brings, and those of a store, with the tool.</summary>
public sealed class VariableTests(Workspace workspace)
{
    private const string Owner = "12345678-9abc-def0-1234-56789abcdef0";

    [Fact]
    public async Task Build_SecureBootKeys_AreInTheImage_OrSayWhyNot()
    {
        string image = workspace.NewProject($"""
            <ItemGroup>
              <PackageReference Include="Svsm.Modules.VarStore" Version="{workspace.Version}" Condition="'$(Case)' != 'module'" />
              <SvsmSecureBootKey Include="keys/PK.cer" Variable="PK" Owner="{Owner}" Condition="'$(Case)' != 'alone'" />
              <SvsmSecureBootKey Include="keys/db.pem" Variable="db" />
              <SvsmSecureBootKey Include="keys/none.txt" Variable="dbx" Condition="'$(Case)' == 'none'" />
              <SvsmSecureBootKey Include="keys/missing.cer" Variable="dbx" Condition="'$(Case)' == 'missing'" />
              <SvsmSecureBootKey Include="keys/db.pem" Variable="DB" Condition="'$(Case)' == 'variable'" />
              <SvsmSecureBootKey Include="keys/db.pem" Variable="db" Owner="me" Condition="'$(Case)' == 'owner'" />
            </ItemGroup>
            """);
        string keys = Path.Combine(image, "keys");
        Directory.CreateDirectory(keys);
        byte[] first = Certificate("First");
        byte[] second = Certificate("Second");
        File.WriteAllBytes(Path.Combine(keys, "PK.cer"), first);
        File.WriteAllText(Path.Combine(keys, "db.pem"), PemEncoding.WriteString("CERTIFICATE", second));
        File.WriteAllText(Path.Combine(keys, "none.txt"), "none");

        (await workspace.RunAsync(image, "build")).MustSucceed();

        string map = Path.Combine(image, "bin/Debug/net10.0/Image.map");
        string text = File.ReadAllText(map);
        Assert.Contains($"# {28 + 16 + first.Length} /secureboot/PK for Svsm.Modules.VarStore.VarStoreModule\n", text, StringComparison.Ordinal);
        Assert.Contains($"# {28 + 16 + second.Length} /secureboot/db for Svsm.Modules.VarStore.VarStoreModule\n", text, StringComparison.Ordinal);
        CommandResult run = (await workspace.RunAsync(image, "run", "--no-build")).MustSucceed();
        Assert.Contains("secure boot on", run.Output, StringComparison.Ordinal);

        // Another key is another image, with the same program.
        DateTime program = File.GetLastWriteTimeUtc(Path.Combine(image, "obj/Debug/net10.0/modules/modules.elf"));
        File.WriteAllText(Path.Combine(keys, "db.pem"), PemEncoding.WriteString("CERTIFICATE", second) + "\n" + PemEncoding.WriteString("CERTIFICATE", first));
        (await BuildAsync("")).MustSucceed();
        Assert.Contains($"# {(2 * (28 + 16)) + first.Length + second.Length} /secureboot/db for ", File.ReadAllText(map), StringComparison.Ordinal);
        Assert.Equal(program, File.GetLastWriteTimeUtc(Path.Combine(image, "obj/Debug/net10.0/modules/modules.elf")));

        (await BuildAsync("alone")).MustFailWith("SVSM4009", "SvsmSecureBootKey 'keys/db.pem', and none with Variable 'PK'");
        (await BuildAsync("none")).MustFailWith("SVSM4009", "SvsmSecureBootKey 'keys/none.txt' is neither certificates nor signature lists");
        (await BuildAsync("missing")).MustFailWith("SVSM2015", "SvsmSecureBootKey is 'keys/missing.cer'");
        (await BuildAsync("variable")).MustFailWith("SVSM4009", "SvsmSecureBootKey 'keys/db.pem' has Variable 'DB'", "PK, KEK, db, dbx");
        (await BuildAsync("owner")).MustFailWith("SVSM4009", "SvsmSecureBootKey 'keys/db.pem' has Owner 'me'");
        (await workspace.RunAsync(image, "build", "-p:Case=module")).MustFailWith("SVSM4009", "in an image without UEFI variables", "Svsm.Modules.VarStore");

        Task<CommandResult> BuildAsync(string name) => workspace.RunAsync(image, "build", "--no-restore", $"-p:Case={name}");
    }

    [Fact]
    public async Task Tool_Variables_AreSetAndListed()
    {
        string folder = workspace.NewProject("");
        File.WriteAllBytes(Path.Combine(folder, "key"), RandomNumberGenerator.GetBytes(32));
        (await workspace.RunToolAsync(folder, "store", "create", "disk", "--size", "1MiB", "--key", "key")).MustSucceed();
        (await workspace.RunToolAsync(folder, "vars", "set", "disk", "Timeout", "--hex", "0500", "--key", "key")).MustSucceed();
        (await workspace.RunToolAsync(folder, "vars", "export", "disk", "--output", "vars.json", "--key", "key")).MustSucceed();
        (await workspace.RunToolAsync(folder, "vars", "delete", "disk", "Timeout", "--key", "key")).MustSucceed();
        (await workspace.RunToolAsync(folder, "vars", "import", "disk", "vars.json", "--key", "key")).MustSucceed();
        CommandResult list = (await workspace.RunToolAsync(folder, "vars", "list", "disk", "--key", "key")).MustSucceed();
        Assert.Matches("8be4df61-93ca-11d2-aa0d-00e098032b8c +NV BS RT +2 +Timeout", list.Output);
        (await workspace.RunToolAsync(folder, "vars", "get", "disk", "Absent", "--key", "key")).MustFailWith("SVSM7011", "'Absent'");
    }

    private static byte[] Certificate(string name)
    {
        using RSA key = RSA.Create(2048);
        using X509Certificate2 certificate = new CertificateRequest($"CN={name}", key, HashAlgorithmName.SHA256, RSASignaturePadding.Pkcs1)
            .CreateSelfSigned(DateTimeOffset.UnixEpoch, DateTimeOffset.UnixEpoch.AddDays(1));
        return certificate.RawData;
    }
}
