// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Keys, signature lists and signed updates as their owners make them: by OpenSSL, efitools and sbsigntool from Debian packages (eng/install-prerequisites).

using System;
using System.Diagnostics;
using System.IO;
using System.Linq;
using Xunit;

namespace Svsm.Modules.VarStore.Tests;

/// <summary>A folder with keys PK, KEK, db and other, each with certificate and list.</summary>
public sealed class ClientKeys : IDisposable
{
    internal const string Owner = "12345678-9abc-def0-1234-56789abcdef0";

    private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("svsm-varstore");

    /// <summary>Makes the keys.</summary>
    public ClientKeys()
    {
        foreach (string name in (string[])["PK", "KEK", "db", "other"])
        {
            Run("openssl", "req", "-new", "-x509", "-newkey", "rsa:2048", "-nodes", "-sha256", "-subj", $"/CN={name} of a test/", "-keyout", $"{name}.key", "-out", $"{name}.crt");
            Run("cert-to-efi-sig-list", "-g", Owner, $"{name}.crt", $"{name}.esl");
        }

        // One that "other" issued to an issuer, and that to somebody.
        foreach ((string name, string issuer, string extension) in ((string, string, string)[])[("between", "other", "basicConstraints=critical,CA:TRUE"), ("leaf", "between", "extendedKeyUsage=codeSigning")])
        {
            File.WriteAllText(At($"{name}.ext"), extension);
            Run("openssl", "req", "-new", "-newkey", "rsa:2048", "-nodes", "-subj", $"/CN={name} of a test/", "-keyout", $"{name}.key", "-out", $"{name}.csr");
            Run("openssl", "x509", "-req", "-sha256", "-in", $"{name}.csr", "-CA", $"{issuer}.crt", "-CAkey", $"{issuer}.key", "-CAcreateserial", "-extfile", $"{name}.ext", "-out", $"{name}.crt");
        }

        File.WriteAllBytes(At("nothing.esl"), []);
    }

    /// <inheritdoc/>
    public void Dispose() => _folder.Delete(recursive: true);

    internal string At(string name) => Path.Combine(_folder.FullName, name);

    internal byte[] Read(string name) => File.ReadAllBytes(At(name));

    internal void Run(string program, params string[] arguments)
    {
        using Process process = Process.Start(new ProcessStartInfo(program, arguments)
        {
            WorkingDirectory = _folder.FullName,
            RedirectStandardError = true,
            RedirectStandardOutput = true,
        })!;
        string output = process.StandardOutput.ReadToEnd() + process.StandardError.ReadToEnd();
        process.WaitForExit();
        Assert.True(process.ExitCode == 0, $"{program} {string.Join(' ', arguments)}: {output}");
    }

    /// <summary>An update by efitools.</summary>
    internal byte[] Sign(string variable, string list, string key, string time, bool append = false)
    {
        string[] arguments = ["-g", Owner, "-t", time, "-k", $"{key}.key", "-c", $"{key}.crt", variable, $"{list}.esl", "update.auth"];
        Run("sign-efi-sig-list", append ? ["-a", .. arguments] : arguments);
        return Read("update.auth");
    }
}

/// <summary>What real tools make is taken or refused as EDK2 does.</summary>
public sealed class ClientTests(ClientKeys keys) : IClassFixture<ClientKeys>
{
    private const string SbvarsignAttributes = "NON_VOLATILE,BOOTSERVICE_ACCESS,RUNTIME_ACCESS";

    private readonly TestFirmware _firmware = new();

    private EfiStatus Set(VariableId id, byte[] update, bool append = false) =>
        _firmware.Set(id, TestFirmware.Authenticated | (append ? TestFirmware.Append : 0), update);

    private void Enrol()
    {
        Assert.Equal(EfiStatus.Success, Set(KnownVariables.PlatformKey, keys.Sign("PK", "PK", "PK", "2024-01-01 00:00:01")));
        Assert.Equal(EfiStatus.Success, Set(KnownVariables.KeyExchangeKeys, keys.Sign("KEK", "KEK", "PK", "2024-01-01 00:00:01")));
        Assert.True(_firmware.Store.IsSecureBootOn);
    }

    [Fact]
    public void Efitools_Hierarchy_IsKept()
    {
        Assert.Equal(EfiStatus.SecurityViolation, Set(KnownVariables.PlatformKey, keys.Sign("PK", "PK", "other", "2024-01-01 00:00:01")));
        Enrol();
        Assert.Equal(EfiStatus.Success, Set(KnownVariables.Allowed, keys.Sign("db", "db", "KEK", "2024-01-01 00:00:01")));
        Assert.Equal(keys.Read("db.esl"), _firmware.Get(KnownVariables.Allowed));
        Assert.Equal(EfiStatus.SecurityViolation, Set(KnownVariables.Allowed, keys.Sign("db", "other", "KEK", "2024-01-01 00:00:01")));
        Assert.Equal(EfiStatus.SecurityViolation, Set(KnownVariables.Allowed, keys.Sign("db", "other", "KEK", "2023-12-31 23:59:59")));
        Assert.Equal(EfiStatus.SecurityViolation, Set(KnownVariables.Allowed, keys.Sign("db", "other", "db", "2024-02-01 00:00:00")));
        Assert.Equal(EfiStatus.SecurityViolation, Set(KnownVariables.Allowed, keys.Sign("db", "other", "other", "2024-02-01 00:00:00")));
        Assert.Equal(EfiStatus.SecurityViolation, Set(KnownVariables.KeyExchangeKeys, keys.Sign("KEK", "other", "KEK", "2024-02-01 00:00:00")));
        Assert.Equal(EfiStatus.SecurityViolation, Set(KnownVariables.Forbidden, keys.Sign("db", "other", "KEK", "2024-02-01 00:00:00")));
        Assert.Equal(EfiStatus.Success, Set(KnownVariables.Allowed, keys.Sign("db", "other", "PK", "2024-02-01 00:00:00", append: true), append: true));
        Assert.Equal([.. keys.Read("db.esl"), .. keys.Read("other.esl")], _firmware.Get(KnownVariables.Allowed)!);
        Assert.Equal(EfiStatus.Success, Set(KnownVariables.Allowed, keys.Sign("db", "nothing", "KEK", "2024-03-01 00:00:00")));
        Assert.Null(_firmware.Get(KnownVariables.Allowed));
    }

    [Fact]
    public void Efitools_NewPlatformKey_AndNone()
    {
        Enrol();
        Assert.Equal(EfiStatus.Success, Set(KnownVariables.PlatformKey, keys.Sign("PK", "other", "PK", "2024-01-02 00:00:00")));
        Assert.Equal(EfiStatus.SecurityViolation, Set(KnownVariables.PlatformKey, keys.Sign("PK", "nothing", "PK", "2024-01-03 00:00:00")));
        Assert.Equal(EfiStatus.Success, Set(KnownVariables.PlatformKey, keys.Sign("PK", "nothing", "other", "2024-01-03 00:00:00")));
        Assert.False(_firmware.Store.IsSecureBootOn);
    }

    [Fact]
    public void Efitools_ReadWhatIsStored()
    {
        Enrol();
        Set(KnownVariables.Allowed, keys.Sign("db", "db", "KEK", "2024-01-01 00:00:01"));
        File.WriteAllBytes(keys.At("told.esl"), _firmware.Get(KnownVariables.Allowed)!);
        keys.Run("sig-list-to-certs", "told.esl", "told");
        keys.Run("openssl", "x509", "-in", "db.crt", "-outform", "DER", "-out", "db.der");
        Assert.Equal(keys.Read("db.der"), keys.Read("told-0.der"));
    }

    [Fact]
    public void Sbsigntool_UpdatesAndLists_AreTaken()
    {
        Enrol();
        keys.Run("openssl", "x509", "-in", "other.crt", "-outform", "DER", "-out", "other.der");
        keys.Run("sbsiglist", "--owner", ClientKeys.Owner, "--type", "x509", "--output", "sbsiglist.esl", "other.der");
        keys.Run("sbvarsign", "--attr", SbvarsignAttributes, "--key", "KEK.key", "--cert", "KEK.crt", "--output", "sb.auth", "db", "sbsiglist.esl");
        Assert.Equal(EfiStatus.Success, Set(KnownVariables.Allowed, keys.Read("sb.auth")));
        Assert.Equal(keys.Read("other.esl"), _firmware.Get(KnownVariables.Allowed));

        File.WriteAllBytes(keys.At("hash"), [.. Enumerable.Repeat((byte)7, 32)]);
        keys.Run("sbsiglist", "--owner", ClientKeys.Owner, "--type", "sha256", "--output", "hash.esl", "hash");
        keys.Run("sbvarsign", "--attr", $"{SbvarsignAttributes},APPEND_WRITE", "--key", "KEK.key", "--cert", "KEK.crt", "--output", "sb.auth", "dbx", "hash.esl");
        Assert.Equal(EfiStatus.SecurityViolation, Set(KnownVariables.Forbidden, keys.Read("sb.auth")));
        Assert.Equal(EfiStatus.Success, Set(KnownVariables.Forbidden, keys.Read("sb.auth"), append: true));
        Assert.Equal(keys.Read("hash.esl"), _firmware.Get(KnownVariables.Forbidden));
        keys.Run("sbvarsign", "--attr", SbvarsignAttributes, "--key", "other.key", "--cert", "other.crt", "--output", "sb.auth", "db", "db.esl");
        Assert.Equal(EfiStatus.SecurityViolation, Set(KnownVariables.Allowed, keys.Read("sb.auth")));
    }

    [Fact]
    public void Sbsigntool_AnyVariable_BelongsToItsSigner()
    {
        var id = new VariableId(TestFirmware.Vendor, "Private");
        File.WriteAllBytes(keys.At("data"), [1, 2, 3]);
        foreach ((string key, EfiStatus expected) in ((string, EfiStatus)[])[("other", EfiStatus.Success), ("KEK", EfiStatus.SecurityViolation)])
        {
            keys.Run("sbvarsign", "--guid", ClientKeys.Owner, "--attr", SbvarsignAttributes, "--key", $"{key}.key", "--cert", $"{key}.crt", "--output", "data.auth", "Private", "data");
            Assert.Equal(expected, Set(id, keys.Read("data.auth")));
        }

        Assert.Equal([1, 2, 3], _firmware.Get(id));
    }

    [Theory]
    [InlineData("sha256", false)]
    [InlineData("sha384", false)]
    [InlineData("sha512", true)]
    public void OpenSsl_MessagesWithAChain_AreTaken(string hash, bool hasAttributes)
    {
        Set(KnownVariables.PlatformKey, keys.Sign("PK", "PK", "PK", "2024-01-01 00:00:01"));
        Assert.Equal(EfiStatus.Success, Set(KnownVariables.KeyExchangeKeys, keys.Sign("KEK", "other", "PK", "2024-01-01 00:00:01")));
        var time = new DateTime(2024, 1, 2, 3, 4, 5);
        byte[] list = keys.Read("db.esl");
        File.WriteAllBytes(keys.At("content"), TestSigner.Content(KnownVariables.Allowed, TestFirmware.Authenticated, time, list));
        foreach ((string[] more, EfiStatus expected) in ((string[], EfiStatus)[])[([], EfiStatus.SecurityViolation), (["-certfile", "between.crt"], EfiStatus.Success)])
        {
            string[] arguments =
            [
                "cms", "-sign", "-binary", "-md", hash, "-in", "content", "-signer", "leaf.crt", "-inkey", "leaf.key", "-outform", "DER", "-out", "message", .. more,
            ];
            keys.Run("openssl", hasAttributes ? arguments : [.. arguments, "-noattr"]);
            Assert.Equal(expected, Set(KnownVariables.Allowed, TestSigner.Descriptor(time, keys.Read("message"), list)));
        }

        Assert.Equal(list, _firmware.Get(KnownVariables.Allowed));
    }

    [Fact]
    public void OpenSsl_DetachedSignature_IsTakenThroughEfitools()
    {
        keys.Run("sign-efi-sig-list", "-o", "-t", "2024-01-01 00:00:01", "PK", "PK.esl", "bundle");

        // efitools put the file into the update as it is, whatever their help says about PEM.
        foreach ((string form, EfiStatus expected) in ((string, EfiStatus)[])[("PEM", EfiStatus.SecurityViolation), ("DER", EfiStatus.Success)])
        {
            keys.Run("openssl", "smime", "-sign", "-binary", "-noattr", "-md", "sha256", "-in", "bundle", "-signer", "PK.crt", "-inkey", "PK.key", "-outform", form, "-out", "bundle.p7");
            keys.Run("sign-efi-sig-list", "-i", "bundle.p7", "-t", "2024-01-01 00:00:01", "PK", "PK.esl", "detached.auth");
            Assert.Equal(expected, Set(KnownVariables.PlatformKey, keys.Read("detached.auth")));
        }

        Assert.True(_firmware.Store.IsSecureBootOn);
    }

    [Fact]
    public void Image_FilesOfTools_AreItsKeys()
    {
        keys.Run("openssl", "x509", "-in", "PK.crt", "-outform", "DER", "-out", "PK.der");
        var firmware = new TestFirmware(keys: new SecureBootKeys(keys.Read("PK.der"), keys.Read("KEK.esl"), keys.Read("db.esl"), default));
        Assert.True(firmware.Store.IsSecureBootOn);
        Assert.Equal(EfiStatus.Success, firmware.Set(KnownVariables.Allowed, TestFirmware.Authenticated, keys.Sign("db", "other", "KEK", "2024-01-01 00:00:01")));
        Assert.Equal(EfiStatus.Success, firmware.Set(KnownVariables.PlatformKey, TestFirmware.Authenticated, keys.Sign("PK", "nothing", "PK", "2024-01-01 00:00:01")));
    }
}
