// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using System.Linq;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using Svsm.Igvm;
using Xunit;

namespace Svsm.Simulator.Tests;

public sealed class AttestationReportTests
{
    private static readonly byte[] s_data = [.. Enumerable.Range(0, 64).Select(i => (byte)i)];

    [Theory]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(5)]
    public void Make_Signature_VerifiesAgainstTheChain(int version)
    {
        byte[] report = Make(version, TestMessage.Guest());

        // As a verifier does it: R and S little-endian in fields of 72 bytes, the key from the certificate.
        byte[] r = report[0x2A0..0x2D0];
        byte[] s = report[0x2E8..0x318];
        Array.Reverse(r);
        Array.Reverse(s);
        using X509Certificate2 vcek = X509CertificateLoader.LoadCertificate(TestChip.Instance.Vcek.Span);
        using ECDsa key = vcek.GetECDsaPublicKey()!;
        Assert.True(key.VerifyData(report.AsSpan(0, 0x2A0), [.. r, .. s], HashAlgorithmName.SHA384, DSASignatureFormat.IeeeP1363FixedFieldConcatenation));
        Assert.Equal(new byte[24], report[0x2D0..0x2E8]);
        Assert.Equal(new byte[0x4A0 - 0x318], report[0x318..]);
    }

    [Fact]
    public void Make_Version2_HasEveryField()
    {
        GuestContext guest = TestMessage.Guest();

        byte[] report = Make(2, guest);

        Assert.Equal(2u, Read32(report, 0));
        Assert.Equal(0u, Read32(report, 4));
        Assert.Equal(TestImage.Policy, Read64(report, 8));
        Assert.Equal(new byte[32], report[0x10..0x30]);
        Assert.Equal(1u, Read32(report, 0x30));
        Assert.Equal(1u, Read32(report, 0x34));
        Assert.Equal(0u, Read32(report, 0x48));
        Assert.Equal(s_data, report[0x50..0x90]);
        Assert.Equal(TestImage.Digest, Convert.ToHexStringLower(report.AsSpan(0x90, 48)));
        Assert.Equal(new byte[0x80], report[0xC0..0x140]);
        Assert.Equal(guest.ReportId.ToArray(), report[0x140..0x160]);
        Assert.All(report[0x160..0x180], value => Assert.Equal(0xFF, value));
        Assert.Equal(TestChip.Instance.ChipId, report[0x1A0..0x1E0]);
        Assert.All((int[])[0x38, 0x180, 0x1E0, 0x1F0], offset => Assert.Equal(0xDB18_0000_0000_0004ul, Read64(report, offset)));
        Assert.Equal((byte[])[1, 55, 1, 0, 1, 55, 1, 0], report[0x1E8..0x1F0]);
        Assert.Equal(new byte[24], report[0x188..0x1A0]);
        Assert.Equal(new byte[0xA8], report[0x1F8..0x2A0]);
    }

    [Theory]
    [InlineData(3)]
    [InlineData(5)]
    public void Make_NewerVersion_TellsTheProcessor(int version)
    {
        byte[] report = Make(version, TestMessage.Guest());

        Assert.Equal((uint)version, Read32(report, 0));
        Assert.Equal((byte[])[0x17, 1, 2], report[0x188..0x18B]);
        Assert.Equal(new byte[0x15], report[0x18B..0x1A0]);

        // Launch and current mitigation vector, which versions before 5 have not.
        Assert.Equal(0ul, Read64(report, 0x1F8));
        Assert.Equal(0ul, Read64(report, 0x200));
        Assert.Equal(new byte[0x98], report[0x208..0x2A0]);
    }

    // What the versions have in common is the same: only what was reserved is new.
    [Theory]
    [InlineData(3)]
    [InlineData(5)]
    public void Make_NewerVersion_DiffersInItsOwnFieldsOnly(int version)
    {
        GuestContext guest = TestMessage.Guest();
        byte[] old = Make(2, guest);
        byte[] report = Make(version, guest);

        Assert.Equal([0, 0x188, 0x189, 0x18A], Enumerable.Range(0, 0x2A0).Where(offset => old[offset] != report[offset]));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Make_IdBlock_IsTold(bool withAuthor)
    {
        IgvmSnpIdBlock block = TestIdBlock.Sign(TestImage.Digest, TestImage.Policy, withAuthor);

        byte[] report = Make(2, TestMessage.Guest(block));

        Assert.Equal(7u, Read32(report, 4));
        Assert.All(report[0x10..0x20], value => Assert.Equal(0xFA, value));
        Assert.All(report[0x20..0x30], value => Assert.Equal(0x1D, value));
        Assert.Equal(withAuthor ? 1u : 0u, Read32(report, 0x48));
        Assert.Equal(SHA384.HashData(KeyBytes(block.IdPublicKey)), report[0xE0..0x110]);
        Assert.Equal(withAuthor ? SHA384.HashData(KeyBytes(block.AuthorPublicKey)) : new byte[48], report[0x110..0x140]);
    }

    [Fact]
    public void Make_TwoLaunches_HaveOtherReportIds() => Assert.NotEqual(Make(2, TestMessage.Guest())[0x140..0x160], Make(2, TestMessage.Guest())[0x140..0x160]);

    [Theory]
    [InlineData(1, false)]
    [InlineData(2, true)]
    [InlineData(3, true)]
    [InlineData(4, false)]
    [InlineData(5, true)]
    [InlineData(6, false)]
    public void IsVersion_Known_AreThree(int version, bool known) => Assert.Equal(known, AttestationReport.IsVersion(version));

    private static byte[] Make(int version, GuestContext guest) => AttestationReport.Make(version, guest, TestChip.Instance, vmpl: 1, s_data);

    private static byte[] KeyBytes(IgvmSnpPublicKey key)
    {
        byte[] bytes = new byte[1028];
        bytes[0] = 2;
        key.X.CopyTo(bytes.AsMemory(4));
        key.Y.CopyTo(bytes.AsMemory(76));
        return bytes;
    }

    private static uint Read32(byte[] report, int offset) => BinaryPrimitives.ReadUInt32LittleEndian(report.AsSpan(offset));

    private static ulong Read64(byte[] report, int offset) => BinaryPrimitives.ReadUInt64LittleEndian(report.AsSpan(offset));
}
