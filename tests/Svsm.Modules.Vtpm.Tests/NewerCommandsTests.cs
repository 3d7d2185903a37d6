// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.IO;
using System.Security.Cryptography;
using System.Text.Json;
using Xunit;

namespace Svsm.Modules.Vtpm.Tests;

// The commands that swtpm does not have, against exact responses that NewerCommands.py has computed by itself.
public sealed class NewerCommandsTests
{
    [Fact]
    public void Execute_ComputedExchanges_AnswersAreTheSame()
    {
        var tpm = new TestTpm();
        using JsonDocument document = TestTpm.Resource("NewerCommands.json");
        foreach (JsonElement exchange in document.RootElement.GetProperty("exchanges").EnumerateArray())
        {
            string command = exchange[0].GetString()!;
            string seen = Convert.ToHexStringLower(tpm.Send(Convert.FromHexString(command)));
            string expected = exchange[1].GetString()!;
            Assert.True(expected.Length == 0 || seen == expected, $"{command}: {seen} instead of {expected}");
        }
    }

    // Whoever changes the script computes the answers again.
    [Fact]
    public void Exchanges_Script_IsTheOneThatMadeThem()
    {
        using JsonDocument document = TestTpm.Resource("NewerCommands.json");
        using Stream script = typeof(TestTpm).Assembly.GetManifestResourceStream("NewerCommands.py")!;
        Assert.Equal(Convert.ToHexStringLower(SHA256.HashData(script)), document.RootElement.GetProperty("script").GetString());
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(1024)]
    public void EccEncrypt_AnyLength_IsDecrypted(int length)
    {
        var tpm = new TestTpm();
        byte[] template = [0, 0x23, 0, 0x0B, .. TestTpm.U32(0x2_0072), 0, 0, 0, 0x10, 0, 0x10, 0, 4, 0, 0x10, 0, 0, 0, 0];
        tpm.Do(0x131, [TestTpm.Owner], [0, 4, 0, 0, 0, 0, .. TestTpm.Sized(template), 0, 0, 0, 0, 0, 0], TestTpm.PasswordSession());
        byte[] text = new byte[length];
        new Random(length).NextBytes(text);
        byte[] scheme = [0, 0x21, 0, 0x0D];
        byte[] cipher = tpm.Do(0x199, [0x8000_0000], [.. TestTpm.Sized(text), .. scheme]);
        Assert.Equal(TestTpm.Sized(text), tpm.Do(0x19A, [0x8000_0000], [.. cipher, .. scheme], TestTpm.PasswordSession())[..(2 + length)]);
        Assert.NotEqual(cipher, tpm.Do(0x199, [0x8000_0000], [.. TestTpm.Sized(text), .. scheme]));

        // Another digest, another scheme.
        cipher[^1] ^= 1;
        Assert.NotEqual(0u, tpm.Try(0x19A, [0x8000_0000], [.. cipher, .. scheme], TestTpm.PasswordSession()));
        Assert.Equal(0x2D2u, tpm.Try(0x199, [0x8000_0000], [.. TestTpm.Sized(text), 0, 0x22, 0, 0x0B]));
    }
}
