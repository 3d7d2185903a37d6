// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using Svsm.Modules.Vtpm.Crypto;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.State;

// Known-answer tests of every algorithm that has a row in the table. A failed one puts the TPM into failure mode.
//
// Sources: FIPS 180-4 examples ("abc"); RFC 4231, test case 1; NIST SP 800-38A, F.3.13 (CFB128-AES128); KDFa by an independent computation.
internal sealed class SelfTests(Tpm tpm)
{
    /// <summary>The largest list of algorithms in a command or response.</summary>
    internal const int MaxList = 64;

    private readonly HashSet<AlgorithmId> _untested = [];

    /// <summary>The algorithm whose test failed; <see cref="AlgorithmId.None"/> when none did.</summary>
    internal AlgorithmId FailedAlgorithm { get; private set; }

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
            default:
                throw new InvalidOperationException($"algorithm {algorithm} has a row and no self test");
        }
    }

    private bool Digest(AlgorithmId algorithm, string expected) => Same(tpm.Cryptography.Hash(algorithm, "abc"u8), expected);

    private static bool Same(ReadOnlySpan<byte> seen, string expected) => TpmCryptography.AreEqual(seen, Convert.FromHexString(expected));
}
