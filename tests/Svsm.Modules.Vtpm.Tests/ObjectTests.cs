// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using System.Linq;
using System.Text.Json;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;
using Xunit;

namespace Svsm.Modules.Vtpm.Tests;

public sealed class ObjectTests
{
    // Attributes: fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, restricted, decrypt.
    private const string StorageTemplate = "0023000b00030072000000060080004300100003001000000000";
    private const string SigningTemplate = "0023000b00040072000000100018000b000300100000" + "0000";
    private static readonly byte[] s_empty = [0, 4, 0, 0, 0, 0];

    [Theory]
    [InlineData("ecc256")]
    [InlineData("rsa2048")]
    [InlineData("ecc521")]
    public void Load_ObjectsOfSwtpm_AreLoadedAndUsed(string parentKind)
    {
        using JsonDocument document = TestTpm.Resource("SwtpmObjects.json");
        JsonElement parent = document.RootElement.GetProperty("parents").EnumerateArray().Single(p => p.GetProperty("parent").GetString() == parentKind);
        var tpm = new TestTpm();
        tpm.Engine.Persistent.OwnerSeed = Convert.FromHexString(document.RootElement.GetProperty("ownerSeed").GetString()!);
        tpm.Engine.Persistent.OwnerProof = Convert.FromHexString(document.RootElement.GetProperty("ownerProof").GetString()!);

        // The template is the public area without its unique value.
        byte[] expected = Convert.FromHexString(parent.GetProperty("public").GetString()!);
        var reader = new TpmReader(expected.AsMemory(2));
        Assert.Equal(TpmResponseCode.Success, PublicArea.Read(ref reader, out PublicArea area));
        byte[] template = (area with { Unique = [], UniqueY = [] }).ToBytes();
        byte[] answer = tpm.Do(0x131, [TestTpm.Owner], [.. s_empty, .. TestTpm.Sized(template), 0, 0, 0, 0, 0, 0], TestTpm.PasswordSession());
        Assert.Equal(expected, answer[4..(4 + expected.Length)]);

        byte[] auth = TestTpm.PasswordSession([.. "auth"u8]);
        foreach (JsonElement child in parent.GetProperty("children").EnumerateArray())
        {
            byte[] publicArea = Convert.FromHexString(child.GetProperty("public").GetString()!);
            byte[] privatePart = Convert.FromHexString(child.GetProperty("private").GetString()!);
            Assert.Equal(0u, tpm.Try(0x157, [0x8000_0000], [.. privatePart, .. publicArea], TestTpm.PasswordSession()));
            var key = (KeyObject)tpm.Engine.Objects.Find(new TpmHandle(0x8000_0001))!;
            Assert.Equal("auth"u8, key.Auth);
            byte[] digest = new byte[32];
            switch (child.GetProperty("kind").GetString())
            {
                case "seal":
                    Assert.Equal([.. TestTpm.Sized([.. "secret"u8])], tpm.Do(0x15E, [0x8000_0001], [], auth)[..8]);
                    break;
                case "rsa2048":
                case "ecc256":
                case "ecc384":
                case "ecc521":
                    // RSASSA or ECDSA with SHA-256 and no ticket; the same TPM verifies it.
                    byte[] scheme = [0, (byte)(key.Public.Type == AlgorithmId.Rsa ? 0x14 : 0x18), 0, 0x0B];
                    byte[] noTicket = [0x80, 0x24, .. TestTpm.U32(TestTpm.Null), 0, 0];
                    byte[] signature = tpm.Do(0x15D, [0x8000_0001], [.. TestTpm.Sized(digest), .. scheme, .. noTicket], auth)[..^5];
                    Assert.Equal(0u, tpm.Try(0x177, [0x8000_0001], [.. TestTpm.Sized(digest), .. signature]));
                    signature[^1] ^= 1;
                    Assert.Equal(0x2DBu, tpm.Try(0x177, [0x8000_0001], [.. TestTpm.Sized(digest), .. signature]));
                    break;
                case "hmac":
                    Assert.Equal(0u, tpm.Try(0x155, [0x8000_0001], [.. TestTpm.Sized(digest), 0, 0x10], auth));
                    break;
                default:
                    Assert.Equal(0u, tpm.Try(0x164, [0x8000_0001], [0, 0, 0x43, .. TestTpm.Sized(new byte[16]), .. TestTpm.Sized(digest)], auth));
                    break;
            }

            tpm.Do(0x165, [], TestTpm.U32(0x8000_0001));

            // Any bit of the private part counts, and the public part it was made for.
            privatePart[^1] ^= 1;
            Assert.Equal(0x1DFu, tpm.Try(0x157, [0x8000_0000], [.. privatePart, .. publicArea], TestTpm.PasswordSession()));
            privatePart[^1] ^= 1;
            publicArea[9] ^= 4;
            Assert.Equal(0x1DFu, tpm.Try(0x157, [0x8000_0000], [.. privatePart, .. publicArea], TestTpm.PasswordSession()));
        }
    }

    [Fact]
    public void TryExecute_LongCommand_IsContinuedOrEndsWithoutATrace()
    {
        var tpm = new TestTpm();
        byte[] template = Convert.FromHexString("0001000b00040072000000100014000b0800000000000000");
        byte[] command = TestTpm.Command(0x131, [TestTpm.Null], [.. s_empty, .. TestTpm.Sized(template), 0, 0, 0, 0, 0, 0], TestTpm.PasswordSession());
        var response = new byte[Tpm.MaxCommandSize];
        var clock = new SteppingClock();
        Assert.Equal(TpmOpenResult.Done, Tpm.TryManufacture(new TpmPlatform(clock, tpm, null), out Tpm? engine));
        engine!.Execute(TestTpm.Command(0x144, [], [0, 0]), 0, response);

        // Each look at the clock is 10 ms later: two or three steps are a slice.
        clock.Step = 10;
        Assert.False(engine.TryExecute(command, 0, response, out int size));
        Assert.False(engine.TryContinue(response, out size));
        Assert.Equal(10, engine.Cancel(response));
        Assert.Equal(0x909u, TestTpm.Code(response));
        Assert.Throws<InvalidOperationException>(() => engine.TryContinue(response, out _));
        Assert.Equal(0, engine.Objects.LoadedCount);

        // Another command ends it too.
        Assert.False(engine.TryExecute(command, 0, response, out _));
        Assert.True(engine.TryExecute(TestTpm.Command(0x17B, [], [0, 8]), 0, response, out size));
        Assert.Equal(20, size);
        Assert.Throws<InvalidOperationException>(() => engine.TryContinue(response, out _));

        // Slow enough, it never comes to its end.
        clock.Step = 1000;
        bool isDone = engine.TryExecute(command, 0, response, out size);
        for (int i = 0; i < 10 && !isDone; i++)
        {
            isDone = engine.TryContinue(response, out size);
        }

        Assert.True(isDone);
        Assert.Equal(0x922u, TestTpm.Code(response));
        Assert.Equal(0, engine.Objects.LoadedCount);

        // With time enough it does.
        clock.Step = 0;
        size = engine.Execute(command, 0, response);
        Assert.Equal(0u, TestTpm.Code(response));
        Assert.Equal(1, engine.Objects.LoadedCount);
        Assert.False(engine.IsFailed);
    }

    [Fact]
    public void Create_OwnBlobs_BelongToTheirParentOnly()
    {
        var tpm = new TestTpm();
        Primary(tpm, StorageTemplate);
        byte[] answer = tpm.Do(0x153, [0x8000_0000], [.. s_empty, .. TestTpm.Sized(Convert.FromHexString(SigningTemplate)), 0, 0, 0, 0, 0, 0], TestTpm.PasswordSession());
        int privateSize = 2 + BinaryPrimitives.ReadUInt16BigEndian(answer);
        int publicSize = 2 + BinaryPrimitives.ReadUInt16BigEndian(answer.AsSpan(privateSize));
        byte[] blobs = answer[..(privateSize + publicSize)];
        Assert.Equal(0u, tpm.Try(0x157, [0x8000_0000], blobs, TestTpm.PasswordSession()));

        // A signing key is no parent; another TPM's parent is another one.
        Assert.Equal(0x18Au, tpm.Try(0x157, [0x8000_0001], blobs, TestTpm.PasswordSession()));
        var other = new TestTpm();
        other.Engine.Persistent.OwnerSeed[0] ^= 1;
        Primary(other, StorageTemplate);
        Assert.Equal(0x1DFu, other.Try(0x157, [0x8000_0000], blobs, TestTpm.PasswordSession()));
    }

    [Theory]
    [InlineData("0023000b00030072000000060080004300100003001000000000", 0u)]
    [InlineData("0023000b00030072000000100003001000000000", 0x2D2u)] // no scheme has that number
    [InlineData("0023000b000300720000001000100003001000000000", 0x2D6u)] // a parent without a cipher
    [InlineData("0023000b00070072000000060080004300100003001000000000", 0x2C2u)] // restricted for both uses
    [InlineData("0023000b00020070000000060080004300100003001000000000", 0x2C2u)] // fixedParent without fixedTPM
    [InlineData("0023000b00030052000000060080004300100003001000000000", 0x2C2u)] // an asymmetric key from outside
    [InlineData("0023000b00040072000000060080004300180" + "00b0003001000000000", 0x2D6u)] // a cipher for what is no parent
    [InlineData("0023000b00030072000000060080004300100002001000000000", 0x2E6u)] // P-224
    [InlineData("0001000b00030072000000060080004300100400000000000000", 0x2C4u)] // RSA-1024
    [InlineData("0001000b00030072000000060080004300100800000000030000", 0x8Du)] // exponent 3
    public void CreatePrimary_TemplatesGoodAndBad_HaveTheirCodes(string template, uint code)
    {
        var tpm = new TestTpm();
        byte[] parameters = [.. s_empty, .. TestTpm.Sized(Convert.FromHexString(template)), 0, 0, 0, 0, 0, 0];
        Assert.Equal(code, tpm.Try(0x131, [TestTpm.Owner], parameters, TestTpm.PasswordSession()));
    }

    private static void Primary(TestTpm tpm, string template)
        => tpm.Do(0x131, [TestTpm.Owner], [.. s_empty, .. TestTpm.Sized(Convert.FromHexString(template)), 0, 0, 0, 0, 0, 0], TestTpm.PasswordSession());

    private sealed class SteppingClock : ITpmClock
    {
        private long _now;

        internal long Step { get; set; }

        public long Milliseconds => _now += Step;
    }
}
