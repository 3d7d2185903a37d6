// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Runtime.InteropServices;
using Svsm.Diagnostics;
using Svsm.Wire;
using Xunit;

namespace Svsm.Simulator.Tests;

public sealed class SecurityProcessorTests
{
    // Vectors: two implementations, sev-snp-measure's GCTX and an independent script.
    [Theory]
    [InlineData(SnpPageType.Normal, 0x1000, false, "e6e4d78904d9d6b33c0cbfd121998fd2d11744dae606b3aee35e2a45d6869b60b35c63928a9232bef72d6be386f48ec6")]
    [InlineData(SnpPageType.Zero, 0x1000, false, "4bd4147976a1e7554c1c778a781affc1c672f1965a727ba16084989b7e356044a28bbe585a2f75dac9356fa5ab78f061")]
    [InlineData(SnpPageType.Unmeasured, 0x1000, false, "81475a112c0223cebe1ccb31a0aa2567772871200b33515a3cbbd5ed6a68a8e630902dd83469ea6553554bfb67111fad")]
    [InlineData(SnpPageType.Unmeasured, 0x1000, true, "81475a112c0223cebe1ccb31a0aa2567772871200b33515a3cbbd5ed6a68a8e630902dd83469ea6553554bfb67111fad")]
    [InlineData(SnpPageType.Secrets, 0x1000, true, "ede71fa5ddc72c3de70c6ff1149b8ecb6ef08b74b1d3a72c2cece10bd140c06a6181343d33def7db6cc0da1ff9ba4805")]
    [InlineData(SnpPageType.Cpuid, 0x1000, true, "af3c8d305f882f039a48318a961572ddc7ebf40b3d1eae828f4fa6e27a7b3078cf2d84b459e002fb58b4ae83efd7f29c")]
    [InlineData(SnpPageType.Normal, 0x10_0000, true, "fcd01075a27fb4ad66ad0375d1910f07e220325f9329fb1861839b569b9d15ca877eafd18e0f8023fba22e173c42b4d1")]
    [InlineData(SnpPageType.Vmsa, 0xFFFF_FFFF_F000, false, "f4577da9b848673216afc3909e5ea7aa80150dda441526874cd2b0282894709b46484c13a07221aefbedfff667199259")]
    public void Update_SinglePage_GivesVector(SnpPageType type, ulong gpa, bool pattern, string digest)
    {
        var processor = new SecurityProcessor(TestImage.Policy);

        processor.Update(type, gpa, pattern ? TestImage.PatternPage : default);

        Assert.Equal(digest, Convert.ToHexStringLower(processor.Digest.Span));
    }

    [Fact]
    public void Update_EmptyContents_AreZeroes()
    {
        var empty = new SecurityProcessor(TestImage.Policy);
        var zeroes = new SecurityProcessor(TestImage.Policy);

        empty.Update(SnpPageType.Normal, 0x1000, default);
        zeroes.Update(SnpPageType.Normal, 0x1000, new byte[4096]);

        Assert.Equal(zeroes.Digest.ToArray(), empty.Digest.ToArray());
    }

    [Fact]
    public void Update_SamePageTwice_IsRefused()
    {
        var processor = new SecurityProcessor(TestImage.Policy);
        processor.Update(SnpPageType.Normal, 0x1000, default);

        var error = Assert.Throws<SvsmDiagnosticException>(() => processor.Update(SnpPageType.Zero, 0x1000, default));

        Assert.Same(SvsmDiagnostics.LaunchRefused, error.Diagnostic);
        Assert.Contains("0x1000", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Update_SeveralVmsas_ShareOneAddress()
    {
        var processor = new SecurityProcessor(TestImage.Policy);

        processor.Update(SnpPageType.Vmsa, VmsaRules.Gpa, default);
        byte[] one = processor.Digest.ToArray();
        processor.Update(SnpPageType.Vmsa, VmsaRules.Gpa, default);

        Assert.NotEqual(one, processor.Digest.ToArray());
    }

    // The guest's pages and its digest are final.
    [Fact]
    public void UpdateAndFinish_AfterFinish_AreRefused()
    {
        var processor = new SecurityProcessor(TestImage.Policy);
        processor.Update(SnpPageType.Normal, 0x1000, default);
        GuestContext guest = processor.Finish(null);
        byte[] digest = processor.Digest.ToArray();

        var update = Assert.Throws<SvsmDiagnosticException>(() => processor.Update(SnpPageType.Normal, 0x2000, default));
        var vmsa = Assert.Throws<SvsmDiagnosticException>(() => processor.Update(SnpPageType.Vmsa, VmsaRules.Gpa, default));
        var finish = Assert.Throws<SvsmDiagnosticException>(() => processor.Finish(null));

        Assert.All([update, vmsa, finish], error => Assert.Same(SvsmDiagnostics.LaunchRefused, error.Diagnostic));
        Assert.Contains("a launch update of a guest that runs already", update.Message, StringComparison.Ordinal);
        Assert.Contains("a second end of the launch", finish.Message, StringComparison.Ordinal);
        Assert.Equal(digest, processor.Digest.ToArray());
        Assert.Equal(digest, guest.Digest.ToArray());
    }

    // Refused, and not finished: the guest is still being launched.
    [Fact]
    public void Finish_WrongIdBlock_LeavesTheLaunchAsItWas()
    {
        var processor = new SecurityProcessor(TestImage.Policy);

        Assert.Throws<SvsmDiagnosticException>(() => processor.Finish(TestIdBlock.Sign(TestImage.Digest, TestImage.Policy, false)));
        processor.Update(SnpPageType.Normal, 0x1000, default);

        Assert.Equal(processor.Digest.ToArray(), processor.Finish(null).Digest.ToArray());
    }

    [Theory]
    [InlineData(0x3_0000)]
    [InlineData(0x2_0000)]
    [InlineData(0x3F3_0137)]
    public void Policy_Valid_IsTaken(ulong policy) => Assert.Equal(48, new SecurityProcessor(policy).Digest.Length);

    [Theory]
    [InlineData(0x1_0000, "bit 17")]
    [InlineData(0x400_0000 | 0x3_0000, "bits 63 to 26")]
    [InlineData(0x3_0138, "1.56")]
    [InlineData(0x3_0200, "2.0")]
    public void Policy_Invalid_IsRefused(ulong policy, string part)
    {
        var error = Assert.Throws<SvsmDiagnosticException>(() => new SecurityProcessor(policy));

        Assert.Same(SvsmDiagnostics.LaunchRefused, error.Diagnostic);
        Assert.Contains(part, error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void SecretsPage_Keys_AreFreshAndDifferent()
    {
        var processor = new SecurityProcessor(TestImage.Policy);
        SecretsPage first = MemoryMarshal.Read<SecretsPage>(processor.CreateSecretsPage());
        SecretsPage second = MemoryMarshal.Read<SecretsPage>(new SecurityProcessor(TestImage.Policy).CreateSecretsPage());

        byte[][] keys = [[.. first.Vmpck0], [.. first.Vmpck1], [.. first.Vmpck2], [.. first.Vmpck3], [.. second.Vmpck0], new byte[32]];
        for (int i = 0; i < keys.Length; i++)
        {
            for (int j = i + 1; j < keys.Length; j++)
            {
                Assert.NotEqual(keys[i], keys[j]);
            }
        }

        // The firmware keeps what the guest got, in however many pages.
        GuestContext guest = processor.Finish(null);
        Assert.Equal(keys[..4], guest.MessageKeys);
        Assert.Equal(MemoryMarshal.AsBytes(new ReadOnlySpan<SecretsPage>(in first)), processor.CreateSecretsPage().AsSpan(0, Marshal.SizeOf<SecretsPage>()));
        Assert.NotEqual(0u, first.Version);
        Assert.Equal(0ul, first.SvsmSize);
    }
}
