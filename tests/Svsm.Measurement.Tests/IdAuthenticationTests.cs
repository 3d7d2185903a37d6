// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using System.Linq;
using System.Security.Cryptography;
using Svsm.Igvm;
using Xunit;

namespace Svsm.Measurement.Tests;

public sealed class IdAuthenticationTests
{
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Sign_ThenVerify_Succeeds(bool withAuthor)
    {
        using var idKey = ECDsa.Create(ECCurve.NamedCurves.nistP384);
        using var authorKey = ECDsa.Create(ECCurve.NamedCurves.nistP384);
        IdBlock block = IdBlockTests.Create();

        IdAuthentication authentication = IdAuthentication.Sign(block, idKey, withAuthor ? authorKey : null);

        Assert.True(authentication.Verify(block));
        Assert.Equal(IdKey.FromKey(idKey), authentication.IdKey);
        Assert.Equal(withAuthor ? IdKey.FromKey(authorKey) : null, authentication.AuthorKey);
        byte[] bytes = authentication.ToArray();
        Assert.Equal(4096, bytes.Length);
        IdAuthentication parsed = IdAuthentication.Parse(bytes);
        Assert.Equal(authentication, parsed);
        Assert.True(parsed.Verify(block));
    }

    // The layout of ID_AUTH_INFO, with signatures checked by plain ECDSA and not by the code under test.
    [Fact]
    public void ToArray_Signed_HasEveryFieldAtItsOffsetInLittleEndianForm()
    {
        using var idKey = ECDsa.Create(ECCurve.NamedCurves.nistP384);
        using var authorKey = ECDsa.Create(ECCurve.NamedCurves.nistP384);
        IdBlock block = IdBlockTests.Create();

        byte[] bytes = IdAuthentication.Sign(block, idKey, authorKey).ToArray();

        Assert.Equal((1u, 1u), (U32(bytes, 0), U32(bytes, 4)));
        Assert.Equal((2u, 2u), (U32(bytes, 0x240), U32(bytes, 0x880)));
        ECParameters id = idKey.ExportParameters(false);
        Assert.Equal(id.Q.X, Number(bytes, 0x244));
        Assert.Equal(id.Q.Y, Number(bytes, 0x244 + 72));
        ECParameters author = authorKey.ExportParameters(false);
        Assert.Equal(author.Q.X, Number(bytes, 0x884));
        Assert.Equal(author.Q.Y, Number(bytes, 0x884 + 72));
        Assert.True(idKey.VerifyData(block.ToArray(), (byte[])[.. Number(bytes, 0x40), .. Number(bytes, 0x40 + 72)], HashAlgorithmName.SHA384));
        Assert.True(authorKey.VerifyData(bytes[0x240..0x644], (byte[])[.. Number(bytes, 0x680), .. Number(bytes, 0x680 + 72)], HashAlgorithmName.SHA384));
        foreach ((int start, int end) in new[] { (0x08, 0x40), (0x40 + 144, 0x240), (0x244 + 144, 0x680), (0x680 + 144, 0x880), (0x884 + 144, 0x1000) })
        {
            Assert.Equal(-1, bytes.AsSpan(start, end - start).IndexOfAnyExcept((byte)0));
        }
    }

    [Fact]
    public void Verify_AnyChange_Fails()
    {
        using var idKey = ECDsa.Create(ECCurve.NamedCurves.nistP384);
        using var authorKey = ECDsa.Create(ECCurve.NamedCurves.nistP384);
        IdBlock block = IdBlockTests.Create();
        byte[] good = IdAuthentication.Sign(block, idKey, authorKey).ToArray();

        Assert.False(IdAuthentication.Parse(good).Verify(block with { GuestSvn = 8 }));
        foreach (int offset in new[] { 0x40, 0x40 + 72, 0x244, 0x244 + 72, 0x680, 0x680 + 72, 0x884, 0x884 + 72 })
        {
            byte[] bad = (byte[])good.Clone();
            bad[offset] ^= 1;

            Assert.False(IdAuthentication.Parse(bad).Verify(block), $"Byte 0x{offset:X} does not matter.");
        }
    }

    [Theory]
    [InlineData(0x000, 2)]
    [InlineData(0x004, 2)]
    [InlineData(0x240, 1)]
    [InlineData(0x880, 1)]
    [InlineData(0x040 + 48, 1)]
    [InlineData(0x040 + 72 + 71, 1)]
    [InlineData(0x040 + 144, 1)]
    [InlineData(0x244 + 48, 1)]
    [InlineData(0x244 + 144, 1)]
    [InlineData(0x680 + 511, 1)]
    public void Parse_FieldOutsideTheFormat_Throws(int offset, byte value)
    {
        using var idKey = ECDsa.Create(ECCurve.NamedCurves.nistP384);
        byte[] bytes = IdAuthentication.Sign(IdBlockTests.Create(), idKey, idKey).ToArray();
        bytes[offset] = value;

        Assert.Throws<MeasurementException>(() => IdAuthentication.Parse(bytes));
    }

    [Theory]
    [InlineData(0)]
    [InlineData(4095)]
    [InlineData(4097)]
    public void Parse_OtherLength_Throws(int length) =>
        Assert.Equal(MeasurementError.BadIdBlock, Assert.Throws<MeasurementException>(() => IdAuthentication.Parse(new byte[length])).Error);

    [Fact]
    public void Parse_NoIdKey_Throws()
    {
        byte[] bytes = new byte[4096];
        bytes[0] = 1;

        Assert.Equal(MeasurementError.BadIdBlock, Assert.Throws<MeasurementException>(() => IdAuthentication.Parse(bytes)).Error);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void ToIgvm_ThroughAFile_StillVerifies(bool withAuthor)
    {
        using var idKey = ECDsa.Create(ECCurve.NamedCurves.nistP384);
        IdBlock block = IdBlockTests.Create();
        IdAuthentication authentication = IdAuthentication.Sign(block, idKey, withAuthor ? idKey : null);
        var file = new IgvmFile
        {
            Platforms = [new IgvmPlatform { CompatibilityMask = 1, PlatformType = IgvmPlatformType.SevSnp }],
            Initializations = [new IgvmGuestPolicy { CompatibilityMask = 1, Policy = block.Policy }],
            Directives = [new IgvmPageData { Gpa = 0, CompatibilityMask = 1, Data = TestPages.Pattern }, authentication.ToIgvm(block, 1)],
        };

        IgvmFile parsed = IgvmFile.Parse(file.Write());
        (IdBlock readBlock, IdAuthentication read) = IdAuthentication.FromIgvm(parsed.Directives.OfType<IgvmSnpIdBlock>().Single(), parsed.FindGuestPolicy(1)!.Value);

        Assert.Equal(block, readBlock);
        Assert.Equal(authentication, read);
        Assert.True(read.Verify(readBlock));
        Assert.False(read.Verify(readBlock with { Policy = 0x2_0000 }));
    }

    [Fact]
    public void FromIgvm_OtherVersion_Throws()
    {
        using var idKey = ECDsa.Create(ECCurve.NamedCurves.nistP384);
        IgvmSnpIdBlock directive = IdAuthentication.Sign(IdBlockTests.Create(), idKey).ToIgvm(IdBlockTests.Create(), 1);

        Assert.Throws<MeasurementException>(() => IdAuthentication.FromIgvm(directive with { Version = 2 }, 0));
    }

    [Fact]
    public void Sign_PublicKeyOnly_Throws()
    {
        using var idKey = ECDsa.Create(ECCurve.NamedCurves.nistP384);
        using var publicKey = ECDsa.Create(idKey.ExportParameters(false));

        Assert.ThrowsAny<CryptographicException>(() => IdAuthentication.Sign(IdBlockTests.Create(), publicKey));
    }

    private static uint U32(byte[] bytes, int offset) => BinaryPrimitives.ReadUInt32LittleEndian(bytes.AsSpan(offset));

    // 48 bytes, turned around.
    private static byte[] Number(byte[] bytes, int offset) => [.. bytes.AsSpan(offset, 48).ToArray().Reverse()];
}
