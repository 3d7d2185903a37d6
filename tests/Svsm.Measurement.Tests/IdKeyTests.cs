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
