// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Security.Cryptography;
using Xunit;

namespace Svsm.Measurement.Tests;

public sealed class IdKeyTests
{
    [Fact]
    public void FromPem_PrivateAndPublicForms_GiveTheSameKey()
    {
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP384);
        IdKey expected = IdKey.FromKey(key);

        Assert.Equal(expected, IdKey.FromPem(key.ExportPkcs8PrivateKeyPem()));
        Assert.Equal(expected, IdKey.FromPem(key.ExportECPrivateKeyPem()));
        Assert.Equal(expected, IdKey.FromPem(key.ExportSubjectPublicKeyInfoPem()));
        using ECDsa loaded = IdKey.LoadPrivateKey(key.ExportECPrivateKeyPem());
        Assert.Equal(expected, IdKey.FromKey(loaded));
    }

    [Fact]
    public void Digest_OfAKey_IsTheHashOfItsRecord()
    {
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP384);
        IdKey idKey = IdKey.FromKey(key);

        Assert.Equal(0x404, idKey.ToArray().Length);
        Assert.Equal(new LaunchDigest(SHA384.HashData(idKey.ToArray())), idKey.Digest);
    }

    // RFC 6979, A.2.6: curve P-384, SHA-384, message "sample".
    [Fact]
    public void Sign_VectorOfRfc6979_GivesItsSignature()
    {
        using var key = ECDsa.Create(new ECParameters
        {
            Curve = ECCurve.NamedCurves.nistP384,
            D = Convert.FromHexString("6B9D3DAD2E1B8C1C05B19875B6659F4DE23C3B667BF297BA9AA47740787137D896D5724E4C70A825F872C9EA60D2EDF5"),
        });

        byte[] record = IdKey.Sign(key, "sample"u8);

        byte[] r = record[..IdKey.NumberLength];
        byte[] s = record[72..(72 + IdKey.NumberLength)];
        Array.Reverse(r);
        Array.Reverse(s);
        Assert.Equal("94EDBB92A5ECB8AAD4736E56C691916B3F88140666CE9FA73D64C4EA95AD133C81A648152E44ACF96E36DD1E80FABE46", Convert.ToHexString(r));
        Assert.Equal("99EF4AEB15F178CEA1FE40DB2603138F130E740A19624526203B6351D0A3A94FA329C145786E679E7B82C71A38628AC8", Convert.ToHexString(s));
        Assert.True(IdKey.FromKey(key).Verify("sample"u8, record));
    }

    [Fact]
    public void FromPem_OtherCurve_Throws()
    {
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        using var larger = ECDsa.Create(ECCurve.NamedCurves.nistP521);

        AssertBadKey(() => IdKey.FromPem(key.ExportECPrivateKeyPem()));
        AssertBadKey(() => IdKey.LoadPrivateKey(larger.ExportECPrivateKeyPem()).Dispose());
    }

    [Fact]
    public void LoadPrivateKey_PublicKey_Throws()
    {
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP384);

        AssertBadKey(() => IdKey.LoadPrivateKey(key.ExportSubjectPublicKeyInfoPem()).Dispose());
    }

    [Theory]
    [InlineData("")]
    [InlineData("no key")]
    [InlineData("-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n")]
    public void FromPem_NoKey_Throws(string pem)
    {
        AssertBadKey(() => IdKey.FromPem(pem));
        AssertBadKey(() => IdKey.LoadPrivateKey(pem).Dispose());
    }

    [Fact]
    public void FromPem_RsaKey_Throws()
    {
        using var key = RSA.Create(2048);

        AssertBadKey(() => IdKey.FromPem(key.ExportRSAPrivateKeyPem()));
        AssertBadKey(() => IdKey.FromPem(key.ExportSubjectPublicKeyInfoPem()));
    }

    private static void AssertBadKey(Action action) => Assert.Equal(MeasurementError.BadKey, Assert.Throws<MeasurementException>(action).Error);
}
