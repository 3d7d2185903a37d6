// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Diagnostics;
using Svsm.Igvm;
using Xunit;

namespace Svsm.Simulator.Tests;

public sealed class IdBlockVerifierTests
{
    private static readonly IgvmSnpIdBlock s_block = TestIdBlock.Sign(TestImage.Digest, TestImage.Policy, withAuthor: true);
    private static readonly IgvmSnpIdBlock s_other = TestIdBlock.Sign(TestImage.Digest, TestImage.Policy, withAuthor: true);

    [Fact]
    public void Verify_SignedByBothKeys_IsTaken() => Verify(s_block);

    [Fact]
    public void Verify_VersionAndAuthorSwitch_AreIgnoredAsInQemu() => Verify(s_block with { Version = 9, AuthorKeyEnabled = 0 });

    [Fact]
    public void Verify_NoAuthor_IsTaken() =>
        Verify(s_block with { AuthorKeySignature = IgvmSnpSignature.Empty, AuthorPublicKey = IgvmSnpPublicKey.Empty, AuthorKeyAlgorithm = 0 });

    public static TheoryData<string, IgvmSnpIdBlock, string> Refusals() => new()
    {
        { "digest", s_block with { LaunchDigest = new byte[48] }, "launch digest 000000" },
        { "family", s_block with { FamilyId = new byte[16] }, "signature of the ID block" },
        { "image", s_block with { ImageId = new byte[16] }, "signature of the ID block" },
        { "SVN", s_block with { GuestSvn = 8 }, "signature of the ID block" },
        { "signature", s_block with { IdKeySignature = s_other.IdKeySignature }, "signature of the ID block" },
        { "zero signature", s_block with { IdKeySignature = IgvmSnpSignature.Empty }, "signature of the ID block" },
        { "key", s_block with { IdPublicKey = s_other.IdPublicKey }, "signature of the ID block" },
        { "author's signature", s_block with { AuthorKeySignature = s_other.AuthorKeySignature }, "signature of the ID key" },
        { "author", s_block with { AuthorPublicKey = s_other.AuthorPublicKey }, "signature of the ID key" },
        { "algorithm", s_block with { IdKeyAlgorithm = 2 }, "algorithm 2 of the ID key" },
        { "author's algorithm", s_block with { AuthorKeyAlgorithm = 0 }, "algorithm 0 of the author key" },
        { "curve", s_block with { IdPublicKey = s_block.IdPublicKey with { Curve = 1 } }, "curve 1 of the ID key" },
        { "author's curve", s_block with { AuthorPublicKey = s_block.AuthorPublicKey with { Curve = 3 } }, "curve 3 of the author key" },
        { "no point", s_block with { IdPublicKey = s_block.IdPublicKey with { X = s_block.IdPublicKey.Y } }, "no point of P-384" },
        { "long number", s_block with { IdKeySignature = s_block.IdKeySignature with { R = Ones() } }, "more than 48 bytes" },
    };

    [Theory]
    [MemberData(nameof(Refusals), DisableDiscoveryEnumeration = true)]
    public void Verify_AnythingElse_IsRefused(string name, IgvmSnpIdBlock block, string part)
    {
        var error = Assert.Throws<SvsmDiagnosticException>(() => Verify(block));

        Assert.True(error.Diagnostic == SvsmDiagnostics.LaunchRefused, name);
        Assert.Contains(part, error.Message, StringComparison.Ordinal);
    }

    private static void Verify(IgvmSnpIdBlock block) => IdBlockVerifier.Verify(block, Convert.FromHexString(TestImage.Digest), TestImage.Policy);

    private static byte[] Ones()
    {
        byte[] field = new byte[72];
        field.AsSpan().Fill(1);
        return field;
    }
}
