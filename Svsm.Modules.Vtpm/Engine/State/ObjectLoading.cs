// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Modules.Vtpm.Crypto;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.State;

// Checks of objects that come from outside: their parts have to be possible ones and to belong together.
//
// Source: TCG TPM 2.0 Library, Part 3, TPM2_Load and TPM2_LoadExternal; Part 1, "Object Loading".
internal static class ObjectLoading
{
    /// <summary>Whether an object can be loaded.</summary>
    /// <param name="cryptography">The primitives.</param>
    /// <param name="parent">The parent; null for an external object.</param>
    /// <param name="area">The public part.</param>
    /// <param name="sensitive">The secret part, or null.</param>
    /// <param name="atPublic">Where errors of the public part are.</param>
    /// <param name="atSensitive">Where errors of the secret part are.</param>
    internal static TpmResponseCode Check(
        ICryptography cryptography, KeyObject? parent, in PublicArea area, in Sensitive? sensitive, ErrorPlace atPublic, ErrorPlace atSensitive)
    {
        TpmResponseCode code;
        if (sensitive is null || area.NameHash == AlgorithmId.Null)
        {
            code = ObjectCreation.CheckScheme(null, area);
        }
        else if (sensitive.Value.SeedValue.Length > Algorithms.DigestSize(area.NameHash))
        {
            return TpmResponseCode.KeySize.At(atSensitive);
        }
        else
        {
            code = ObjectCreation.CheckPublic(parent, area);
        }

        if (code != TpmResponseCode.Success)
        {
            return code.At(atPublic);
        }

        // What a parent that stays here protects was made or checked here.
        if (parent is null || !parent.Public.Has(ObjectAttributes.FixedTpm))
        {
            code = CheckKeys(cryptography, area, sensitive, atPublic, atSensitive);
            if (code != TpmResponseCode.Success)
            {
                return code;
            }
        }

        return area.Type == AlgorithmId.Rsa && sensitive is Sensitive secret
            && !RsaPrivateKey.IsPrimeOf(secret.Secret, area.Unique, RsaPublicKey.ExponentOf(area))
            ? TpmResponseCode.Binding
            : TpmResponseCode.Success;
    }

    private static TpmResponseCode CheckKeys(
        ICryptography cryptography, in PublicArea area, in Sensitive? sensitive, ErrorPlace atPublic, ErrorPlace atSensitive)
    {
        int digestSize = Algorithms.DigestSize(area.NameHash);
        if (sensitive is Sensitive given)
        {
            if (given.Type != area.Type)
            {
                return TpmResponseCode.Type.At(atSensitive);
            }

            if (digestSize != 0 && given.Auth.Length > digestSize)
            {
                return TpmResponseCode.Size.At(atSensitive);
            }
        }

        TpmResponseCode code = area.Type switch
        {
            AlgorithmId.Rsa => CheckRsa(area, sensitive, atPublic, atSensitive),
            AlgorithmId.Ecc => CheckEcc(cryptography, area, sensitive, atPublic),
            _ => CheckSymmetric(cryptography, area, sensitive, atPublic, atSensitive),
        };
        if (code != TpmResponseCode.Success)
        {
            return code;
        }

        // The seed of a parent protects what is below it.
        return area.IsParent && digestSize != 0 && sensitive is Sensitive seeded
            && (seeded.SeedValue.Length < digestSize / 2 || seeded.SeedValue.Length > digestSize)
            ? TpmResponseCode.Size.At(atSensitive)
            : TpmResponseCode.Success;
    }

    private static TpmResponseCode CheckRsa(in PublicArea area, in Sensitive? sensitive, ErrorPlace atPublic, ErrorPlace atSensitive)
    {
        int size = area.Parameters.KeyBits / 8;
        if (area.Unique.Length != size || area.Unique[0] < 0x80 || (area.Unique[^1] & 1) == 0)
        {
            return TpmResponseCode.Key.At(atPublic);
        }

        if (area.Parameters.Exponent is > 0 and < 7 || (sensitive is not null && !SmallPrimes.IsPrime(RsaPublicKey.ExponentOf(area))))
        {
            return TpmResponseCode.Value.At(atPublic);
        }

        return sensitive is Sensitive given && (given.Secret.Length * 2 != size || given.Secret[0] < 0x80)
            ? TpmResponseCode.KeySize.At(atSensitive)
            : TpmResponseCode.Success;
    }

    private static TpmResponseCode CheckEcc(ICryptography cryptography, in PublicArea area, in Sensitive? sensitive, ErrorPlace atPublic)
    {
        EllipticCurve curve = cryptography.Curve(area.Parameters.Curve);
        if (sensitive is not Sensitive given)
        {
            if (area.Unique.Length != curve.Size || area.UniqueY.Length != curve.Size)
            {
                return TpmResponseCode.Key.At(atPublic);
            }

            return area.NameHash != AlgorithmId.Null && !curve.TryDecode(area.Point, out _) ? TpmResponseCode.EccPoint.At(atPublic) : TpmResponseCode.Success;
        }

        if (given.Secret.Length > curve.Size || !curve.IsPrivateKey(given.Secret))
        {
            return TpmResponseCode.KeySize;
        }

        if (area.NameHash == AlgorithmId.Null)
        {
            return TpmResponseCode.Success;
        }

        EccPoint point = curve.PublicPoint(given.Secret);
        return SameNumber(point.X.Span, area.Unique) && SameNumber(point.Y.Span, area.UniqueY) ? TpmResponseCode.Success : TpmResponseCode.Binding;
    }

    private static TpmResponseCode CheckSymmetric(
        ICryptography cryptography, in PublicArea area, in Sensitive? sensitive, ErrorPlace atPublic, ErrorPlace atSensitive)
    {
        int digestSize = Algorithms.DigestSize(area.NameHash);
        if (sensitive is not Sensitive given)
        {
            return area.Unique.Length != digestSize ? TpmResponseCode.Key.At(atPublic) : TpmResponseCode.Success;
        }

        bool fits = area.Type == AlgorithmId.SymmetricCipher
            ? given.Secret.Length == area.Parameters.Symmetric.KeyBits / 8
            : given.Secret.Length <= (area.Parameters.Scheme == AlgorithmId.Null ? TpmLimits.MaxSensitiveData : Algorithms.Find(area.Parameters.SchemeHash)!.BlockSize);
        if (!fits)
        {
            return TpmResponseCode.KeySize.At(atSensitive);
        }

        if (digestSize == 0)
        {
            return TpmResponseCode.Success;
        }

        return given.SeedValue.Length != digestSize ? TpmResponseCode.KeySize.At(atSensitive)
            : !TpmCryptography.AreEqual(area.Unique, ObjectCreation.SymmetricUnique(cryptography, area, given.SeedValue, given.Secret)) ? TpmResponseCode.Binding
            : TpmResponseCode.Success;
    }

    // Leading zeros may be missing or too many.
    private static bool SameNumber(ReadOnlySpan<byte> left, ReadOnlySpan<byte> right) => left.TrimStart((byte)0).SequenceEqual(right.TrimStart((byte)0));
}
