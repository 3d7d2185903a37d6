// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using Svsm.Modules.Vtpm.Crypto;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.State;

// Known-answer tests of every algorithm that has a row in the table. A failed one puts the TPM into failure mode.
//
// Sources: FIPS 180-4 examples ("abc"); RFC 4231, test case 1; NIST SP 800-38A, appendix F; RFC 4493, 4;
// RFC 6979, A.2.5 (P-256); KDFa, KDFe, MGF1 and the RSA private operation by independent computations.
internal sealed class SelfTests(Tpm tpm)
{
    /// <summary>The largest list of algorithms in a command or response.</summary>
    internal const int MaxList = 64;

    private readonly HashSet<AlgorithmId> _untested = [];

    /// <summary>The algorithm whose test failed; <see cref="AlgorithmId.None"/> when none did.</summary>
    internal AlgorithmId FailedAlgorithm { get; private set; }

    /// <summary>Goes on where <see cref="Untested"/> was.</summary>
    internal void Restore(AlgorithmId[] untested)
    {
        _untested.Clear();
        _untested.UnionWith(untested);
    }

    /// <summary>After power-on nothing is tested.</summary>
    internal void Restart()
    {
        FailedAlgorithm = AlgorithmId.None;
        foreach (AlgorithmRow row in Algorithms.Rows)
        {
            _untested.Add(row.Id);
        }
    }

    internal AlgorithmId[] Untested()
    {
        AlgorithmId[] list = [.. _untested];
        Array.Sort(list);
        return list;
    }

    /// <summary>Tests all algorithms, or those that were not tested yet.</summary>
    /// <returns>False when one failed; the TPM is in failure mode then.</returns>
    internal bool RunAll(bool again)
    {
        if (again)
        {
            Restart();
        }

        return Run(Untested());
    }

    /// <summary>Tests the given algorithms; those that the TPM does not have are passed over.</summary>
    internal bool Run(ReadOnlySpan<AlgorithmId> algorithms)
    {
        foreach (AlgorithmId algorithm in algorithms)
        {
            if (!_untested.Contains(algorithm))
            {
                continue;
            }

            if (!Passes(algorithm))
            {
                FailedAlgorithm = algorithm;
                tpm.Fail();
                return false;
            }

            _untested.Remove(algorithm);
        }

        return true;
    }

    private bool Passes(AlgorithmId algorithm)
    {
        ICryptography cryptography = tpm.Cryptography;
        switch (algorithm)
        {
            case AlgorithmId.Sha1:
                return Digest(algorithm, "a9993e364706816aba3e25717850c26c9cd0d89d");
            case AlgorithmId.Sha256:
                return Digest(algorithm, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
            case AlgorithmId.Sha384:
                return Digest(algorithm, "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7");
            case AlgorithmId.Sha512:
                return Digest(
                    algorithm,
                    "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f");
            case AlgorithmId.Hmac:
            case AlgorithmId.KeyedHash:
                var key = new byte[20];
                key.AsSpan().Fill(0x0B);
                return Same(
                    cryptography.Hmac(AlgorithmId.Sha256, key, "Hi There"u8),
                    "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
            case AlgorithmId.Aes:
            case AlgorithmId.CipherFeedback:
            case AlgorithmId.SymmetricCipher:
                byte[] data = Convert.FromHexString("6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51");
                cryptography.TransformCfb(
                    Convert.FromHexString("2b7e151628aed2a6abf7158809cf4f3c"), Convert.FromHexString("000102030405060708090a0b0c0d0e0f"), data, encrypt: true);
                return Same(data, "3b3fd92eb72dad20333449f8e83cfb4ac8a64537a0b3a93fcde3cdad9f1ce58b");
            case AlgorithmId.Cmac:
                var mac = new Cmac(cryptography, Convert.FromHexString("2b7e151628aed2a6abf7158809cf4f3c"));
                mac.Update(Convert.FromHexString("6bc1bee22e409f96e93d7e117393172a"));
                return Same(mac.Finish(), "070a16b46b4d4144f79bdd9dd04a287c");
            case AlgorithmId.Counter:
                return Mode(algorithm, "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff", "874d6191b620e3261bef6864990db6ce9806f66b7970fdff8617187bb9fffdff");
            case AlgorithmId.OutputFeedback:
                return Mode(algorithm, "000102030405060708090a0b0c0d0e0f", "3b3fd92eb72dad20333449f8e83cfb4a7789508d16918f03f53c52dac54ed825");
            case AlgorithmId.BlockChaining:
                return Mode(algorithm, "000102030405060708090a0b0c0d0e0f", "7649abac8119b246cee98e9b12e9197d5086cb9b507219ee95db113a917678b2");
            case AlgorithmId.CodeBook:
                return Mode(algorithm, "00000000000000000000000000000000", "3ad77bb40d7a3660a89ecaf32466ef97f5d3d58503b9699de785895a96fdbaaf");
            case AlgorithmId.Xor:
            case AlgorithmId.Kdf1Sp800108:
                var secret = new byte[32];
                for (int i = 0; i < secret.Length; i++)
                {
                    secret[i] = (byte)i;
                }

                Span<byte> contexts = stackalloc byte[32];
                contexts[..16].Fill(1);
                contexts[16..].Fill(2);
                return Same(
                    cryptography.DeriveKey(AlgorithmId.Sha256, secret, "ATH", contexts[..16], contexts[16..], 256),
                    "3ebbbc6a56e0cce9b3cac004ef1dd9ab7989cebce76447be0249a9b007f0f588");
            case AlgorithmId.Rsa:
            case AlgorithmId.RsaSsa:
            case AlgorithmId.RsaEs:
            case AlgorithmId.RsaPss:
            case AlgorithmId.Oaep:
                return RsaPasses();
            case AlgorithmId.Ecc:
            case AlgorithmId.EcDsa:
            case AlgorithmId.EcDh:
            case AlgorithmId.EcDaa:
            case AlgorithmId.EcSchnorr:
                return EccPasses();
            case AlgorithmId.Mgf1:
            case AlgorithmId.Kdf2:
                return Same(
                    cryptography.Mask(AlgorithmId.Sha256, "bar"u8, 50),
                    "382576a7841021cc28fc4c0948753fb8312090cea942ea4c4e735d10dc724b155f9f6069f289d61daca0cb814502ef04eae1");
            case AlgorithmId.Kdf1Sp80056A:
                return Same(
                    cryptography.DeriveKeyFromPoint(AlgorithmId.Sha256, "Z"u8, "TEST", "U"u8, "V"u8, 384),
                    "38941d8d6c87dd4908a6cc986398e9201ec28b22f4a8632ee02e67d3c38dd3665b7b3cd259e86b290ea7502874d2daf9");
            default:
                throw new InvalidOperationException($"algorithm {algorithm} has a row and no self test");
        }
    }

    // The private operation with a key that was made for this test, on the bytes 0 to 255.
    private bool RsaPasses()
    {
        const string TestModulus =
            "acec480a28376d33ed8d8de6977f608cd697696fe8ed5a3ae34024b5e838645bbce64bdd6af6b03f72cb8fd1360254d6ef06295599fe2c94b784f3acb0cedf16"
            + "95b6b7524b1f9fcccfe04861cddab4ec7131451ac330084c8a32ea5811abebf8f14522261d3673e07195c3443664c4f0f7f5fd6626304b416a9ed6aa2b93b6fe"
            + "411401c28d670cad709b612a5415aa9fb24aced0705c8217c570ad0205d2f7c9d228ea324a1a16108cf8d167a158eb2afc9a6ef655718f0e7c0676fdb6d01dc3"
            + "fcc8108e123c47b9e0bc8f5a6d1b1a5a04ed110cb9029dae4631356b4c22824312e93b1efb83e061deacfac37eb6bf574b362767746e05821f32a271f9fec961";
        const string TestPrime =
            "ddd4ba2c1b76f37b46154480599e0a3cfa4d3cdd6ce546087171dea0d3cc8788fca96b688de5e65bba88831be75a90e0015f3a0871b7d41ffa23b0c58bb49583"
            + "9d0b3b41e66cccf08896dd7ff32203ad54ad2cbd65da7856cc0f3f636638536ea8c4a9a05dda019bfd7269c30cef85b08c3266dd9ab612cd6a253d837745974d";
        RsaPrivateKey? key = RsaPrivateKey.Create(Convert.FromHexString(TestModulus), Convert.FromHexString(TestPrime), RsaPublicKey.DefaultExponent);
        var value = new byte[256];
        for (int i = 0; i < value.Length; i++)
        {
            value[i] = (byte)i;
        }

        return key is not null && key.TryApply(value, value, tpm.Random)
            && Same(tpm.Cryptography.Hash(AlgorithmId.Sha256, value), "4d98fa911fe6c51bd880e46e3600c798a431216f5834752da4de9b75ea591336");
    }

    private bool EccPasses()
    {
        EllipticCurve curve = tpm.Cryptography.Curve(EccCurve.NistP256);
        byte[] scalar = Convert.FromHexString("c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721");
        EccPoint? point = curve.Encode(curve.MultiplyGenerator(BigIntegers.Read(scalar, curve.Limbs)));
        return point is not null && Same(
            [.. point.Value.X.Span, .. point.Value.Y.Span],
            "60fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb67903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299");
    }

    // Two blocks of SP 800-38A, appendix F, there and back.
    private bool Mode(AlgorithmId mode, string iv, string expected)
    {
        byte[] key = Convert.FromHexString("2b7e151628aed2a6abf7158809cf4f3c");
        byte[] data = Convert.FromHexString("6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51");
        var original = (byte[])data.Clone();
        tpm.Cryptography.TransformMode(mode, key, Convert.FromHexString(iv), data, encrypt: true);
        bool passes = Same(data, expected);
        tpm.Cryptography.TransformMode(mode, key, Convert.FromHexString(iv), data, encrypt: false);
        return passes && TpmCryptography.AreEqual(data, original);
    }

    private bool Digest(AlgorithmId algorithm, string expected) => Same(tpm.Cryptography.Hash(algorithm, "abc"u8), expected);

    private static bool Same(ReadOnlySpan<byte> seen, string expected) => TpmCryptography.AreEqual(seen, Convert.FromHexString(expected));
}
