// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Xunit;

namespace Svsm.Modules.Vtpm.Tests;

// TPM2_MAC and TPM2_MAC_Start with AES keys: CMAC. Which combinations have which errors was seen on swtpm 0.7.1.
public sealed class MacTests
{
    private const uint Key = 0x8000_0000;
    private const ushort None = 0x10;
    private const ushort CmacScheme = 0x3F;
    private const ushort Ctr = 0x40;

    // RFC 4493, 4: the key, and the first bytes of one message.
    private const string KeyBytes = "2b7e151628aed2a6abf7158809cf4f3c";
    private const string Message = "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e5130c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710";

    [Theory]
    [InlineData(0, "bb1d6929e95937287fa37d129b756746")]
    [InlineData(16, "070a16b46b4d4144f79bdd9dd04a287c")]
    [InlineData(40, "dfa66747de9ae63030ca32611497c827")]
    [InlineData(64, "51f0bebf7e3b9d92fc49741779363cfe")]
    public void Mac_PublicVectors_AreRight(int length, string expected)
    {
        byte[] data = Convert.FromHexString(Message)[..length];
        var tpm = new TestTpm();
        Load(tpm);
        Assert.Equal([.. TestTpm.Sized(Convert.FromHexString(expected))], tpm.Do(0x155, [Key], [.. TestTpm.Sized(data), 0, 0x10], TestTpm.PasswordSession())[..18]);

        // In pieces, saved and loaded, suspended and resumed between them.
        for (int piece = 1; piece <= 33; piece += 8)
        {
            tpm.Do(0x15B, [Key], [0, 0, 0, (byte)CmacScheme], TestTpm.PasswordSession());
            for (int done = 0; done < length; done += piece)
            {
                tpm.Do(0x15C, [0x8000_0001], TestTpm.Sized(data[done..Math.Min(length, done + piece)]), TestTpm.PasswordSession());
                byte[] context = tpm.Do(0x162, [0x8000_0001], []);
                tpm.Do(0x165, [], TestTpm.U32(0x8000_0001));
                tpm.Do(0x161, [], context);
                tpm.SuspendAndResume();
            }

            byte[] result = tpm.Do(0x13E, [0x8000_0001], [0, 0, .. TestTpm.U32(TestTpm.Null)], TestTpm.PasswordSession());
            Assert.Equal(TestTpm.Sized(Convert.FromHexString(expected)), result[..18]);
        }
    }

    [Theory]
    [InlineData(None, None, 0x2C4u)]
    [InlineData(None, CmacScheme, 0u)]
    [InlineData(None, 0x0B, 0x2D2u)]
    [InlineData(CmacScheme, None, 0u)]
    [InlineData(CmacScheme, CmacScheme, 0u)]
    [InlineData(CmacScheme, 0x0B, 0x2C4u)]
    [InlineData(Ctr, None, 0x2D2u)]
    [InlineData(Ctr, CmacScheme, 0x2C4u)]
    [InlineData(Ctr, 0x0B, 0x2C4u)]
    public void Mac_SchemeOfKeyAndCommand_HaveToFit(ushort mode, ushort scheme, uint code)
    {
        var tpm = new TestTpm();
        Assert.Equal(0u, Primary(tpm, 0x4_0072, mode));
        Assert.Equal(code, tpm.Try(0x155, [Key], [.. TestTpm.Sized(1), .. TestTpm.U16(scheme)], TestTpm.PasswordSession()));
        Assert.Equal(code, tpm.Try(0x15B, [Key], [0, 0, .. TestTpm.U16(scheme)], TestTpm.PasswordSession()));
    }

    [Fact]
    public void Mac_OtherKeys_HaveTheirCodes()
    {
        // Not for signing, restricted, an HMAC key with TPM_ALG_CMAC.
        var tpm = new TestTpm();
        Primary(tpm, 0x2_0072, None);
        Assert.Equal(0x19Cu, tpm.Try(0x155, [Key], [.. TestTpm.Sized(1), .. TestTpm.U16(CmacScheme)], TestTpm.PasswordSession()));
        Primary(tpm, 0x5_0072, CmacScheme);
        Assert.Equal(0x182u, tpm.Try(0x155, [Key + 1], [.. TestTpm.Sized(1), .. TestTpm.U16(None)], TestTpm.PasswordSession()));
        tpm.Do(0x131, [TestTpm.Owner], [0, 4, 0, 0, 0, 0, .. TestTpm.Sized(0, 8, 0, 0x0B, 0, 4, 0, 0x72, 0, 0, 0, 5, 0, 0x0B, 0, 0), 0, 0, 0, 0, 0, 0], TestTpm.PasswordSession());
        Assert.Equal(0x2C4u, tpm.Try(0x155, [Key + 2], [.. TestTpm.Sized(1), .. TestTpm.U16(CmacScheme)], TestTpm.PasswordSession()));
    }

    [Fact]
    public void Cmac_Mode_IsForMacsOnly()
    {
        // A key that decrypts, an encryption, a session.
        var tpm = new TestTpm();
        Assert.Equal(0x2D2u, Primary(tpm, 0x6_0072, CmacScheme));
        Assert.Equal(0x2D2u, Primary(tpm, 0x2_0072, CmacScheme));
        Assert.Equal(0x2D2u, Primary(tpm, 0x3_0072, CmacScheme));
        Assert.Equal(0u, Primary(tpm, 0x4_0072, CmacScheme));
        byte[] iv = TestTpm.Sized(new byte[16]);
        Assert.Equal(0x189u, tpm.Try(0x164, [Key], [0, 0, 0x10, .. iv, .. iv], TestTpm.PasswordSession()));
        Assert.Equal(0x2C9u, tpm.Try(0x164, [Key], [0, 0, 0x3F, .. iv, .. iv], TestTpm.PasswordSession()));
        Assert.Equal(0x4C9u, tpm.Try(0x176, [TestTpm.Null, TestTpm.Null], [.. iv, 0, 0, 0, 0, 6, 0, 128, 0, 0x3F, 0, 0x0B]));
    }

    private static uint Primary(TestTpm tpm, uint attributes, ushort mode)
    {
        byte[] template = [0, 0x25, 0, 0x0B, .. TestTpm.U32(attributes), 0, 0, 0, 6, 0, 128, .. TestTpm.U16(mode), 0, 0];
        return tpm.Try(0x131, [TestTpm.Owner], [0, 4, 0, 0, 0, 0, .. TestTpm.Sized(template), 0, 0, 0, 0, 0, 0], TestTpm.PasswordSession());
    }

    private static void Load(TestTpm tpm)
    {
        byte[] area = [0, 0x25, 0, 0x10, .. TestTpm.U32(0x4_0040), 0, 0, 0, 6, 0, 128, 0, (byte)CmacScheme, 0, 0];
        byte[] sensitive = [0, 0x25, 0, 0, 0, 0, .. TestTpm.Sized(Convert.FromHexString(KeyBytes))];
        tpm.Do(0x167, [], [.. TestTpm.Sized(sensitive), .. TestTpm.Sized(area), .. TestTpm.U32(TestTpm.Null)]);
    }
}
