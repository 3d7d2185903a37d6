// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// What is no good report, one thing at a time; each time beside the report that is good. The tests play AMD and the chip.

using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.Linq;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using Svsm.Attestation.Tests;
using Xunit;

namespace Svsm.Migration.Tests;

public sealed class PeerReportTests
{
    private const uint Svn = 7;
    private static readonly byte[] s_author = SHA384.HashData("author"u8);
    private static readonly byte[] s_family = [.. Enumerable.Repeat((byte)0xFA, 16)];
    private static readonly byte[] s_hostData = SHA256.HashData("vm 1"u8);
    private static readonly byte[] s_bytes = [0, 0x7F, 0x80, 0x84, 0xFF, 0x30, 0x03, 0x06, 0x24];
    private static readonly byte[] s_data = SHA384.HashData("conversation"u8);
    private static readonly Lazy<(byte[] Ark, byte[] Ask, byte[] Vcek)> s_chain = new(() => TestAuthority.MakeChain());

    private static byte[] Table => TestAuthority.MakeTable(s_chain.Value.Vcek, s_chain.Value.Ask, s_chain.Value.Ark);

    [Theory]
    [InlineData(2u)]
    [InlineData(3u)]
    [InlineData(5u)]
    public void Check_GoodReport_IsGood(uint version)
    {
        Assert.Equal(MigrationReason.None, Check(Make(report => report[0] = (byte)version), out string why));
        Assert.Equal("", why);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(4)]
    [InlineData(5)]
    public void Check_CertificatesInAnyOrder_AreGood(int order)
    {
        byte[][] certificates = [s_chain.Value.Vcek, s_chain.Value.Ask, s_chain.Value.Ark];
        (certificates[0], certificates[order % 3]) = (certificates[order % 3], certificates[0]);
        (certificates[1], certificates[1 + (order / 3)]) = (certificates[1 + (order / 3)], certificates[1]);

        Assert.Equal(MigrationReason.None, Check(Make(), out _, TestAuthority.MakeTable(certificates)));
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public void Check_EntriesThatAreNoCertificates_AreLeftOut(int at)
    {
        foreach (byte[] strange in (byte[][])[[], [0, 0], [1, 2, 3], [5, 0], [0x30, 0], [0x30, 0x80, 0, 0]])
        {
            var certificates = new List<byte[]> { s_chain.Value.Vcek, s_chain.Value.Ask, s_chain.Value.Ark };
            certificates.Insert(at, strange);
            Assert.Equal(MigrationReason.None, Check(Make(), out _, TestAuthority.MakeTable([.. certificates])));
        }
    }

    [Theory]
    [InlineData(0x000, 1)]
    [InlineData(0x000, 4)]
    [InlineData(0x000, 6)]
    [InlineData(0x034, 0)]
    [InlineData(0x034, 2)]
    [InlineData(0x048, 0)]
    [InlineData(0x048, 3)]
    [InlineData(0x048, 5)]
    [InlineData(0x048, 0x1D)]
    [InlineData(0x030, 1)]
    [InlineData(0x030, 2)]
    [InlineData(0x033, 1)]
    [InlineData(0x00A, 7)]
    [InlineData(0x00A, 0xB)]
    [InlineData(0x050, 1)]
    [InlineData(0x07F, 1)]
    [InlineData(0x080, 1)]
    [InlineData(0x08F, 1)]
    [InlineData(0x110, 1)]
    [InlineData(0x13F, 1)]
    [InlineData(0x010, 1)]
    [InlineData(0x01F, 1)]
    [InlineData(0x004, 6)]
    public void Check_SignedReportWithAnotherField_IsNotTrusted(int offset, byte value)
    {
        byte[] good = Make();
        Assert.NotEqual(value, good[offset]);

        MigrationReason reason = Check(Make(report => report[offset] = value), out string why);

        Assert.Equal(MigrationReason.NotTrusted, reason);
        Assert.NotEqual("", why);
    }

    [Fact]
    public void Check_HigherSvn_IsGood() => Assert.Equal(MigrationReason.None, Check(Make(report => report[4] = (byte)Svn + 1), out _));

    [Fact]
    public void Check_OneRuleOfSeveral_IsEnough_ButNotTwoHalves()
    {
        MigrationRule other = new(SHA384.HashData("another"u8), new byte[16], 0);
        Assert.Equal(MigrationReason.None, Check(Make(), out _, policy: Policy(rules: [other, Rule()])));
        Assert.Equal(MigrationReason.NotTrusted, Check(Make(), out _, policy: Policy(rules: [other])));
        Assert.Equal(
            MigrationReason.NotTrusted,
            Check(Make(), out _, policy: Policy(rules: [Rule() with { FamilyId = new byte[16] }, other with { FamilyId = s_family }, Rule() with { MinimumSvn = Svn + 1 }])));
    }

    [Fact]
    public void Check_TcbBelowTheMinimumInOneByte_IsNotTrusted()
    {
        Assert.Equal(MigrationReason.None, Check(Make(), out _, policy: Policy(TestAuthority.Tcb)));
        for (int part = 0; part < 8; part++)
        {
            // All other bytes are lower by far: as a number it is lower, too.
            ulong have = (TestAuthority.Tcb >> (8 * part)) & 0xFF;
            Assert.Equal(MigrationReason.None, Check(Make(), out _, policy: Policy(have << (8 * part))));
            Assert.Equal(MigrationReason.NotTrusted, Check(Make(), out string why, policy: Policy((have + 1) << (8 * part))));
            Assert.Contains("TCB", why, StringComparison.Ordinal);
        }
    }

    [Theory]
    [InlineData(0x008)]
    [InlineData(0x009)]
    [InlineData(0x00B)]
    [InlineData(0x0C0)]
    [InlineData(0x0DF)]
    public void Check_OtherPolicyOrHostData_IsNotThisGuest(int offset)
    {
        Assert.Equal(MigrationReason.NotThisGuest, Check(Make(report => report[offset] ^= 1), out string why));
        Assert.NotEqual("", why);

        // Both alike are alike.
        byte[] own = Make(report => report[offset] ^= 1);
        Assert.Equal(MigrationReason.None, PeerReport.Check(own, Table, own, Policy(), s_data, out _));
    }

    [Fact]
    public void Check_OtherConversation_IsNotTrusted() =>
        Assert.Equal(MigrationReason.NotTrusted, PeerReport.Check(Make(), Table, Make(), Policy(), SHA384.HashData("another"u8), out _));

    [Fact]
    public void Check_EachBitOfTheSignedPart_IsSigned()
    {
        byte[] good = Make();
        Assert.Equal(MigrationReason.None, Check(good, out _));
        for (int bit = 0; bit < 0x2A0 * 8; bit += 37)
        {
            byte[] changed = [.. good];
            changed[bit / 8] ^= (byte)(1 << (bit % 8));
            Assert.True(Check(changed, out _) == MigrationReason.NotTrusted, $"bit {bit % 8} of byte 0x{bit / 8:X}");
        }

        // The numbers of the signature.
        foreach (int offset in (int[])[0x2A0, 0x2CF, 0x2E8, 0x317])
        {
            byte[] changed = [.. good];
            changed[offset] ^= 1;
            Assert.Equal(MigrationReason.NotTrusted, Check(changed, out _));
        }
    }

    [Fact]
    public void Check_OtherRoot_IsNotTrusted()
    {
        Assert.Equal(MigrationReason.NotTrusted, Check(Make(), out string why, policy: Policy(root: SHA384.HashData(Spki(s_chain.Value.Ask)))));
        Assert.Contains("root", why, StringComparison.Ordinal);
    }

    [Fact]
    public void Check_MissingCertificate_IsNotTrusted()
    {
        (byte[] ark, byte[] ask, byte[] vcek) = s_chain.Value;
        foreach (byte[][] certificates in (byte[][][])[[ask, ark], [vcek, ark], [vcek, ask], [vcek], []])
        {
            Assert.Equal(MigrationReason.NotTrusted, Check(Make(), out _, TestAuthority.MakeTable(certificates)));
        }

        Assert.Equal(MigrationReason.NotTrusted, Check(Make(), out _, []));
    }

    [Fact]
    public void Check_ChainThatIsNotAmds_IsNotTrusted()
    {
        ChainOptions[] chains = [new() { Pss = false }, new() { SmallAuthority = true }, new() { WithoutAuthority = true }, new() { StrangerSigns = true }];
        foreach (ChainOptions options in chains)
        {
            (byte[] ark, byte[] ask, byte[] vcek) = TestAuthority.MakeChain(options);
            Assert.Equal(MigrationReason.NotTrusted, Check(Make(), out _, TestAuthority.MakeTable(vcek, ask, ark)));
        }
    }

    [Theory]
    [InlineData("3.1", 5)]
    [InlineData("3.2", 4)]
    [InlineData("3.3", 0)]
    [InlineData("3.4", 1)]
    [InlineData("3.7", 1)]
    [InlineData("3.8", 0xDA)]
    [InlineData("3.8", 0x5B)]
    [InlineData("3.8", -1)]
    public void Check_CertificateForAnotherTcb_IsNotTrusted(string extension, int value)
    {
        Dictionary<string, byte[]> extensions = TestAuthority.MilanExtensions();
        if (value < 0)
        {
            extensions.Remove(extension);
        }
        else
        {
            extensions[extension] = TestAuthority.Number(value);
        }

        Assert.Equal(MigrationReason.NotTrusted, CheckWith(extensions, Make()));
    }

    [Fact]
    public void Check_CertificateOfAnotherChip_IsNotTrusted()
    {
        Dictionary<string, byte[]> other = TestAuthority.MilanExtensions();
        other["4"] = SHA512.HashData("other"u8);
        Assert.Equal(MigrationReason.NotTrusted, CheckWith(other, Make()));
        other["4"] = TestAuthority.ChipId[..63];
        Assert.Equal(MigrationReason.NotTrusted, CheckWith(other, Make()));
        other.Remove("4");
        Assert.Equal(MigrationReason.NotTrusted, CheckWith(other, Make()));

        // The host may leave the id out.
        Assert.Equal(MigrationReason.None, CheckWith(other, Make(report => report.AsSpan(0x1A0, 64).Clear())));
        Dictionary<string, byte[]> wrapped = TestAuthority.MilanExtensions();
        wrapped["4"] = [4, 64, .. TestAuthority.ChipId];
        Assert.Equal(MigrationReason.None, CheckWith(wrapped, Make()));
    }

    [Fact]
    public void Check_Turin_HasItsOwnOrder()
    {
        Dictionary<string, byte[]> turin = TestAuthority.MilanExtensions();
        (turin["3.9"], turin["3.1"], turin["3.2"], turin["3.3"], turin["3.8"], turin["4"]) =
            (TestAuthority.Number(1), TestAuthority.Number(2), TestAuthority.Number(3), TestAuthority.Number(4), TestAuthority.Number(9), TestAuthority.ChipId[..8]);
        byte[] report = Make(report =>
        {
            report[0] = 3;
            new byte[] { 1, 2, 3, 4, 0, 0, 0, 9 }.CopyTo(report, 0x180);
            report.AsSpan(0x1A8, 56).Clear();
        });

        Assert.Equal(MigrationReason.None, CheckWith(turin, report));
        turin["3.3"] = TestAuthority.Number(5);
        Assert.Equal(MigrationReason.NotTrusted, CheckWith(turin, report));
    }

    [Fact]
    public void Check_AuthoritysSignatureThatIsNoNumberOfItsKey_IsNotTrusted()
    {
        // As large as any number of its length: not below the modulus.
        (byte[] ark, byte[] ask, byte[] vcek) = s_chain.Value;
        byte[] large = [.. vcek[..^512], .. Enumerable.Repeat((byte)0xFF, 512)];
        Assert.Equal(MigrationReason.NotTrusted, Check(Make(), out _, TestAuthority.MakeTable(large, ask, ark)));
        byte[] zero = [.. vcek[..^512], .. new byte[512]];
        Assert.Equal(MigrationReason.NotTrusted, Check(Make(), out _, TestAuthority.MakeTable(zero, ask, ark)));
    }

    // BouncyCastle calls itself for each level, up to a limit of its own.
    [Theory]
    [InlineData(new byte[] { 0x30, 0x80 })]
    [InlineData(new byte[] { 0x31, 0x80 })]
    [InlineData(new byte[] { 0x24, 0x80 })]
    [InlineData(new byte[] { 0xA0, 0x80 })]
    [InlineData(new byte[] { 0x28, 0x80 })]
    public void Check_CertificateOfNestedParts_EndsSoon(byte[] head)
    {
        byte[] nested = new byte[0x3FC0];
        for (int i = 0; i + 1 < nested.Length; i += 2)
        {
            head.CopyTo(nested, i);
        }

        Assert.Equal(MigrationReason.NotTrusted, Check(Make(), out _, TestAuthority.MakeTable(nested)));
    }

    [Theory]
    [InlineData(0x30)]
    [InlineData(0x31)]
    [InlineData(0xA0)]
    [InlineData(0x24)]
    public void Check_CertificateOfNestedPartsWithLengths_EndsSoon(byte tag)
    {
        var heads = new List<byte[]>();
        for (int length = 0; length < 0x3FB0;)
        {
            byte[] head = [tag, 0x82, (byte)(length >> 8), (byte)length];
            heads.Add(head);
            length += head.Length;
        }

        heads.Reverse();
        byte[] nested = [.. heads.SelectMany(head => head)];
        Assert.Equal(MigrationReason.NotTrusted, Check(Make(), out _, TestAuthority.MakeTable(nested)));
    }

    [Fact]
    public void Check_HostileTables_EndWithAReason() => Fuzz(1, 3_000);

    [Fact]
    [Trait("Run", "all")]
    public void Check_ManyHostileTables_EndWithAReason() => Fuzz(2, 100_000);

    private static void Fuzz(int seed, int rounds)
    {
        var random = new Random(seed);
        byte[] table = Table;
        byte[] report = Make();
        byte[] withoutSignature = [.. report];
        withoutSignature.AsSpan(0x2A0).Clear();
        int used = (24 * 4) + s_chain.Value.Vcek.Length + s_chain.Value.Ask.Length + s_chain.Value.Ark.Length;
        int good = 0;
        for (int round = 0; round < rounds; round++)
        {
            byte[] changed = [.. table];
            int changes = random.Next(1, 4);
            for (int i = 0; i < changes; i++)
            {
                int at = random.Next(8) == 0 ? random.Next(96) : random.Next(used);
                switch (random.Next(4))
                {
                    case 0:
                        changed[at] = (byte)random.Next(256);
                        break;
                    case 1:
                        changed[at] ^= (byte)(1 << random.Next(8));
                        break;
                    case 2:
                        changed[at] = s_bytes[random.Next(s_bytes.Length)];
                        break;
                    default:
                        int length = random.Next(1, 64);
                        changed.AsSpan(at, Math.Min(length, changed.Length - at)).Fill((byte)random.Next(256));
                        break;
                }
            }

            if (random.Next(10) == 0)
            {
                changed = changed[..random.Next(changed.Length)];
            }

            // What is not signed does not count: parts of the table that nobody reads, or bits that are not bits of a signature.
            // Signatures take most of the time: most reports have none, and end when the certificates are read.
            good += PeerReport.Check(round % 20 == 0 ? report : withoutSignature, changed, report, Policy(), s_data, out _) == MigrationReason.None ? 1 : 0;
        }

        Assert.True(good < rounds / 60, $"{good} of {rounds}");
        for (int round = 0; round < rounds; round++)
        {
            byte[] noise = new byte[random.Next(600)];
            random.NextBytes(noise);
            if (noise.Length > 48)
            {
                BinaryPrimitives.WriteInt32LittleEndian(noise.AsSpan(16), 24);
                BinaryPrimitives.WriteInt32LittleEndian(noise.AsSpan(20), noise.Length - 24);
                noise[24] = 0x30;
            }

            Assert.Equal(MigrationReason.NotTrusted, PeerReport.Check(report, noise, report, Policy(), s_data, out _));
            byte[] otherReport = [.. report];
            otherReport[random.Next(otherReport.Length)] ^= (byte)random.Next(256);
            PeerReport.Check(otherReport, [], report, Policy(), s_data, out _);
        }
    }

    private static MigrationReason Check(byte[] report, out string why, byte[]? table = null, MigrationPolicy? policy = null) =>
        PeerReport.Check(report, table ?? Table, Make(), policy ?? Policy(), s_data, out why);

    private static MigrationReason CheckWith(Dictionary<string, byte[]> extensions, byte[] report)
    {
        (byte[] ark, byte[] ask, byte[] vcek) = TestAuthority.MakeChain(new() { Extensions = extensions });
        return Check(report, out _, TestAuthority.MakeTable(vcek, ask, ark));
    }

    private static byte[] Make(Action<byte[]>? change = null) => TestAuthority.MakeReport(report =>
    {
        report[0x004] = (byte)Svn;
        s_family.CopyTo(report, 0x010);
        report[0x048] = 1;
        s_data.CopyTo(report, 0x050);
        s_hostData.CopyTo(report, 0x0C0);
        s_author.CopyTo(report, 0x110);
        change?.Invoke(report);
    });

    private static MigrationRule Rule() => new(s_author, s_family, Svn);

    private static MigrationPolicy Policy(ulong tcb = 0, byte[]? root = null, MigrationRule[]? rules = null) =>
        MigrationPolicy.TryRead(MigrationPolicy.Make(root ?? SHA384.HashData(Spki(s_chain.Value.Ark)), tcb, rules ?? [Rule()]))!;

    private static byte[] Spki(byte[] certificate)
    {
        using X509Certificate2 read = X509CertificateLoader.LoadCertificate(certificate);
        return read.PublicKey.ExportSubjectPublicKeyInfo();
    }
}
