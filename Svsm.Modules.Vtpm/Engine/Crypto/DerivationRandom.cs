// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Security.Cryptography;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Crypto;

// The numbers of a derived object: one long KDFa of the parent's secret, of which the object takes what it needs.
//
// Source: TCG TPM 2.0 Library, Part 1, "Object Derivation"; the length of 8192 bits is that of the TCG reference implementation.
internal sealed class DerivationRandom(ICryptography cryptography, AlgorithmId hash, byte[] key, byte[] label, byte[] context) : IRandomSource, IUnfinishedWork
{
    private const uint LengthInBits = 8192;

    private readonly byte[] _block = new byte[Algorithms.DigestSize(hash)];
    private uint _counter;
    private int _left;

    public void Fill(Span<byte> result)
    {
        foreach (ref byte value in result)
        {
            if (_left == 0)
            {
                Next();
            }

            value = _block[^_left--];
        }
    }

    public void Clear() => CryptographicOperations.ZeroMemory(_block);

    private void Next()
    {
        IHashState state = cryptography.StartHmac(hash, key);
        state.UpdateUInt32(++_counter);
        state.Update(label);
        if (label.Length == 0 || label[^1] != 0)
        {
            state.Update([0]);
        }

        state.Update(context);
        state.UpdateUInt32(LengthInBits);
        state.Finish(_block);
        _left = _block.Length;
    }
}
