// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Operations with secrets, each done with a thousand different ones, in a form in which a debugger can count instructions: what counts is what
// is executed between the beginning and the end of `Measure`. It allocates nothing; before it everything that it uses is in its place, and
// the garbage collector has just run, so that what is new lies in memory as it did for the secret before (clearing and copying take a few
// instructions more or less by alignment).

using System;
using System.Collections.Generic;
using System.Linq;
using System.Runtime.CompilerServices;
using Svsm.Cryptography;
using Svsm.Modules.Vtpm.Crypto;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.StaticTpm;

/// <summary>Operations for counting.</summary>
internal static class Counting
{
    /// <summary>Bits of the keys of RSA operations.</summary>
    internal const int KeyBits = 2048;

    private const int Secrets = 1000;

    private static readonly Dictionary<string, Func<byte[], Operation>> s_operations = new()
    {
        ["p256-generator"] = static _ => new GeneratorTimes(EccCurve.NistP256),
        ["p256-point"] = static _ => new PointTimes(EccCurve.NistP256),
        ["p256-ecdsa"] = static _ => new Ecdsa(EccCurve.NistP256),
        ["p384-ecdsa"] = static _ => new Ecdsa(EccCurve.NistP384),
        ["p384-point"] = static _ => new PointTimes(EccCurve.NistP384),
        ["p521-ecdsa"] = static _ => new Ecdsa(EccCurve.NistP521),
        ["bn256-point"] = static _ => new PointTimes(EccCurve.BnP256),
        ["bn256-ecdaa"] = static _ => new Ecdaa(EccCurve.BnP256),
        ["rsa2048"] = static keys => new Rsa(keys),
        ["aes-gcm-page"] = static _ => new SealPage(),
    };

    internal static IEnumerable<string> Operations => s_operations.Keys;

    /// <summary>Does an operation with a thousand secrets.</summary>
    internal static void Run(string name, byte[] keys)
    {
        Operation operation = s_operations[name](keys);
        operation.Prepare(Secrets - 1);
        operation.Do();
        for (int i = 0; i < Secrets; i++)
        {
            GC.Collect();
            operation.Prepare(i);
            Measure(operation);
        }
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static void Measure(Operation operation) => operation.Do();

    private abstract class Operation
    {
        private readonly Random _random = new(1);

        internal abstract void Prepare(int index);

        internal abstract void Do();

        // Not for secrets that protect anything.
        protected byte[] Bytes(int count)
        {
            var bytes = new byte[count];
            _random.NextBytes(bytes);
            return bytes;
        }
    }

    // An operation with a scalar from 1 to the order less 1.
    private abstract class CurveOperation : Operation
    {
        protected CurveOperation(EccCurve id)
        {
            Curve = EllipticCurve.Create(id);
            Scalar = new ulong[Curve.Limbs];
            Key = new byte[Curve.Size];
            First = new byte[Curve.Size];
            Second = new byte[Curve.Size];
            Point = new ulong[3 * Curve.Limbs];
        }

        protected EllipticCurve Curve { get; }

        protected ulong[] Scalar { get; }

        protected byte[] Key { get; }

        protected byte[] First { get; }

        protected byte[] Second { get; }

        protected ulong[] Point { get; }

        internal override void Prepare(int index)
        {
            byte[] key = Curve.PrivateKeyFrom(Bytes(Curve.Size + 8));
            Array.Clear(Scalar);
            int bits = Curve.Bits - 1;
            switch (index)
            {
                // Small numbers, large ones, one bit, and then runs of ones.
                case < 20:
                    Scalar[0] = (ulong)index + 1;
                    break;
                case < 40:
                    Curve.Order.Value.CopyTo(Scalar);
                    BigIntegers.Subtract(Scalar, [(ulong)index - 19]);
                    break;
                case < 100:
                    SetBit(index * bits / 100);
                    break;
                case < 160:
                    for (int bit = (index - 100) * bits / 60; bit < bits; bit++)
                    {
                        SetBit(bit);
                    }

                    break;
                default:
                    BigIntegers.Read(key, Scalar);
                    break;
            }

            BigIntegers.Write(Scalar, Key);
        }

        private void SetBit(int bit) => Scalar[bit / 64] |= 1UL << (bit % 64);
    }

    private sealed class GeneratorTimes(EccCurve id) : CurveOperation(id)
    {
        internal override void Do()
        {
            Curve.MultiplyGenerator(Scalar, Point);
            Curve.TryEncode(Point, First, Second);
        }
    }

    // ECDH.
    private sealed class PointTimes(EccCurve id) : CurveOperation(id)
    {
        private readonly ulong[] _other = new ulong[3 * EllipticCurve.Create(id).Limbs];

        internal override void Prepare(int index)
        {
            base.Prepare(index);
            Curve.MultiplyGenerator(BigIntegers.Read(Curve.PrivateKeyFrom(Bytes(Curve.Size + 8)), Curve.Limbs), _other);
        }

        internal override void Do() => Curve.TryMultiply(Key, _other, First, Second);
    }

    // The scalars are keys and, the other way round, ephemeral keys.
    private sealed class Ecdsa(EccCurve id) : CurveOperation(id)
    {
        private readonly ulong[] _ephemeral = new ulong[EllipticCurve.Create(id).Limbs];
        private readonly byte[] _digest = new byte[32];

        internal override void Prepare(int index)
        {
            base.Prepare(Secrets - 1 - index);
            Scalar.CopyTo(_ephemeral, 0);
            base.Prepare(index);
            Bytes(_digest.Length).CopyTo(_digest, 0);
        }

        internal override void Do() => EccSignatures.TrySignEcdsa(Curve, Key, _digest, _ephemeral, First, Second);
    }

    // The last step of signing; Commit is multiplications of points.
    private sealed class Ecdaa(EccCurve id) : CurveOperation(id)
    {
        private readonly byte[] _digest = new byte[32];
        private readonly byte[] _committed = new byte[EllipticCurve.Create(id).Size];

        internal override void Prepare(int index)
        {
            base.Prepare(Secrets - 1 - index);
            Key.CopyTo(_committed, 0);
            base.Prepare(index);
            Bytes(_digest.Length).CopyTo(_digest, 0);
        }

        internal override void Do() => EccSignatures.TryAddProduct(Curve, _committed, _digest, Key, First);
    }

    // A page of a guest that moves (Svsm.Modules.Migration): keys of zeroes, of ones, of one bit, and any; pages of zeroes, and any.
    private sealed class SealPage : Operation, IDisposable
    {
        private readonly byte[] _page = new byte[4096];
        private readonly byte[] _encrypted = new byte[4096];
        private readonly byte[] _head = new byte[24];
        private readonly byte[] _nonce = new byte[AesGcm256.NonceLength];
        private readonly byte[] _tag = new byte[AesGcm256.TagLength];
        private AesGcm256? _cipher;

        internal override void Prepare(int index)
        {
            byte[] key = new byte[AesGcm256.KeyLength];
            switch (index)
            {
                case 0:
                    break;
                case 1:
                    key.AsSpan().Fill(byte.MaxValue);
                    break;
                case < 258:
                    key[(index - 2) / 8] = (byte)(1 << ((index - 2) % 8));
                    break;
                default:
                    Bytes(key.Length).CopyTo(key, 0);
                    Bytes(_page.Length).CopyTo(_page, 0);
                    break;
            }

            _cipher?.Dispose();
            _cipher = new AesGcm256(key);
        }

        internal override void Do() => _cipher!.Seal(_nonce, _head, _page, _encrypted, _tag);

        public void Dispose() => _cipher?.Dispose();
    }

    // With a new key each time, so blinding is made in it, too.
    private sealed class Rsa(byte[] keys) : Operation, IRandomSource
    {
        private const int Size = KeyBits / 8;
        private const int KeySize = Size + (Size / 2);

        private readonly byte[] _input = new byte[Size];
        private readonly byte[] _output = new byte[Size];
        private readonly byte[] _random = new byte[Size];
        private RsaPrivateKey? _key;

        void IRandomSource.Fill(Span<byte> result) => _random.CopyTo(result);

        internal override void Prepare(int index)
        {
            ReadOnlySpan<byte> key = keys.AsSpan(index % (keys.Length / KeySize) * KeySize, KeySize);
            _key = RsaPrivateKey.Create(key[..Size], key[Size..], RsaPublicKey.DefaultExponent);
            Bytes(Size).CopyTo(_random, 0);
            Array.Clear(_input);
            switch (index)
            {
                case < 10:
                    _input[^1] = (byte)index;
                    break;
                case < 20:
                    // Below the modulus by a little: its lowest bit is 1.
                    key[..Size].CopyTo(_input);
                    _input[^1] -= (byte)(((index - 10) % 2) + 1);
                    break;
                default:
                    Bytes(Size).CopyTo(_input, 0);
                    _input[0] = 0;
                    break;
            }
        }

        internal override void Do()
        {
            if (!_key!.TryApply(_input, _output, this))
            {
                throw new InvalidOperationException("a private operation gives a wrong result");
            }
        }
    }
}
