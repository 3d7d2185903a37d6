// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.IO;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text.Json;
using System.Threading.Tasks;
using Xunit;

namespace Svsm.Tool.Tests;

/// <summary>A store for variables, and svsm vars on it.</summary>
public abstract class VarsTest : ToolTest
{
    protected const string Vendor = "12345678-9abc-def0-1234-56789abcdef0";

    protected VarsTest() => File.WriteAllBytes(At("key"), StoreKey);

    protected byte[] StoreKey { get; } = RandomNumberGenerator.GetBytes(32);

    protected async Task Create(string size = "1MiB", string name = "disk") =>
        Assert.Equal(ExitStatus.Success, (await Run("store", "create", At(name), "--size", size, "--key", At("key"))).Status);

    internal Task<Outcome> Vars(string command, params string[] args) => Run(["vars", command, At("disk"), .. args, "--key", At("key")]);

    /// <summary>A command that must succeed.</summary>
    protected async Task<JsonElement> Done(string command, params string[] args)
    {
        Outcome outcome = await Vars(command, [.. args, "--json"]);
        Assert.Equal((ExitStatus.Success, ""), (outcome.Status, outcome.Error));
        return outcome.Json;
    }

    protected static X509Certificate2 NewCertificate(string name)
    {
        using RSA key = RSA.Create(2048);
        return new CertificateRequest($"CN={name}", key, HashAlgorithmName.SHA256, RSASignaturePadding.Pkcs1).CreateSelfSigned(DateTimeOffset.UnixEpoch, DateTimeOffset.UnixEpoch.AddDays(1));
    }
}
