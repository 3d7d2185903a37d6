// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using System.Numerics;
using System.Security.Cryptography;
using Xunit;

namespace Svsm.Modules.Vtpm.Tests;

// ECDAA signatures over BN P-256, verified by arithmetic of this test's own: s G - T Q is the commitment's point, where T = H(nonce || digest).
// And of a commitment with a second point that K = d P, L = r P.
//
// Sources: TCG TPM 2.0 Library, Part 1, annex C.4.2 ("ECDAA"); TCG Algorithm Registry, "ECC_BN_P256".
public sealed class EcdaaTests
{
    private const uint Key = 0x8000_0000;

    private static readonly BigInteger s_p = Number(Convert.FromHexString("FFFFFFFFFFFCF0CD46E5F25EEE71A49F0CDC65FB12980A82D3292DDBAED33013"));
    private static readonly BigInteger s_n = Number(Convert.FromHexString("FFFFFFFFFFFCF0CD46E5F25EEE71A49E0CDC65FB1299921AF62D536CD10B500D"));
    private static readonly (BigInteger X, BigInteger Y) s_generator = (1, 2);

    [Fact]
    public void Sign_Commitment_IsASignatureOfTheKey()
    {
        var tpm = new TestTpm();
        (BigInteger X, BigInteger Y) key = Primary(tpm);
        Assert.Equal(Multiply(s_n - 1, s_generator), (s_generator.X, s_p - s_generator.Y));
        for (byte i = 0; i < 4; i++)
        {
            byte[] answer = tpm.Do(0x18B, [Key], [0, 4, 0, 0, 0, 0, 0, 0, 0, 0], TestTpm.PasswordSession());

            // K and L are not there; E is a point.
            Assert.Equal([0, 4, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0], answer[..12]);
            (BigInteger X, BigInteger Y) commitment = Point(answer.AsSpan(12), out int size);
            byte[] counter = answer[(12 + size)..(14 + size)];
            byte[] digest = SHA256.HashData([i]);
            byte[] request = [.. TestTpm.Sized(digest), 0, 0x1A, 0, 0x0B, .. counter, 0x80, 0x24, .. TestTpm.U32(TestTpm.Null), 0, 0];
            byte[] signature = tpm.Do(0x15D, [Key], request, TestTpm.PasswordSession());
            Assert.Equal([0, 0x1A, 0, 0x0B, 0, 32], signature[..6]);
            byte[] nonce = signature[6..38];
            BigInteger s = Number(signature.AsSpan(40, 32));
            BigInteger t = Number(SHA256.HashData([.. nonce, .. digest])) % s_n;
            Assert.Equal(commitment, Add(Multiply(s, s_generator), Multiply(s_n - t, key)));

            // A commitment is good once.
            Assert.Equal(0x84u, tpm.Try(0x15D, [Key], request, TestTpm.PasswordSession()) & 0xBF);
        }
    }

    [Fact]
    public void Commit_SecondPoint_IsMultipliedByKeyAndNumber()
    {
        var tpm = new TestTpm();
        (BigInteger X, BigInteger Y) key = Primary(tpm);

        // (x2, y2) with x2 = H(s2) mod p: the first s2 for which there is a y2. p is 3 modulo 4.
        byte[] s2 = [0];
        BigInteger x;
        BigInteger y;
        do
        {
            s2[0]++;
            x = Number(SHA256.HashData(s2)) % s_p;
            y = BigInteger.ModPow(((x * x * x) + 3) % s_p, (s_p + 1) / 4, s_p);
        }
        while (y * y % s_p != ((x * x * x) + 3) % s_p);

        byte[] generator = TestTpm.Sized([.. TestTpm.Sized(Bytes(s_generator.X)), .. TestTpm.Sized(Bytes(s_generator.Y))]);
        byte[] answer = tpm.Do(0x18B, [Key], [.. generator, .. TestTpm.Sized(s2), .. TestTpm.Sized(Bytes(y))], TestTpm.PasswordSession());
        (BigInteger X, BigInteger Y) k = Point(answer, out int size);
        (BigInteger X, BigInteger Y) l = Point(answer.AsSpan(size), out int second);
        (BigInteger X, BigInteger Y) e = Point(answer.AsSpan(size + second), out int third);
        byte[] counter = answer[(size + second + third)..(size + second + third + 2)];

        // With the signature the number r is known up to the key: s (x2, y2) = L + T K, and s G = E + T Q.
        byte[] digest = SHA256.HashData([9]);
        byte[] request = [.. TestTpm.Sized(digest), 0, 0x1A, 0, 0x0B, .. counter, 0x80, 0x24, .. TestTpm.U32(TestTpm.Null), 0, 0];
        byte[] signature = tpm.Do(0x15D, [Key], request, TestTpm.PasswordSession());
        BigInteger s = Number(signature.AsSpan(40, 32));
        BigInteger t = Number(SHA256.HashData([.. signature[6..38], .. digest])) % s_n;
        Assert.Equal(Multiply(s, (x, y)), Add(l, Multiply(t, k)));
        Assert.Equal(Multiply(s, s_generator), Add(e, Multiply(t, key)));
    }

    private static (BigInteger X, BigInteger Y) Primary(TestTpm tpm)
    {
        byte[] template = [0, 0x23, 0, 0x0B, .. TestTpm.U32(0x4_0072), 0, 0, 0, 0x10, 0, 0x1A, 0, 0x0B, 0, 0, 0, 0x10, 0, 0x10, 0, 0, 0, 0];
        byte[] answer = tpm.Send(TestTpm.Command(
            0x131, [TestTpm.Owner], [0, 4, 0, 0, 0, 0, .. TestTpm.Sized(template), 0, 0, 0, 0, 0, 0], TestTpm.PasswordSession()));
        Assert.Equal(0u, TestTpm.Code(answer));
        return (Number(answer.AsSpan(44, 32)), Number(answer.AsSpan(78, 32)));
    }

    private static (BigInteger X, BigInteger Y) Point(ReadOnlySpan<byte> sized, out int size)
    {
        size = 2 + BinaryPrimitives.ReadUInt16BigEndian(sized);
        int length = BinaryPrimitives.ReadUInt16BigEndian(sized[2..]);
        return (Number(sized.Slice(4, length)), Number(sized[(6 + length)..size]));
    }

    private static BigInteger Number(ReadOnlySpan<byte> bytes) => new(bytes, isUnsigned: true, isBigEndian: true);

    private static byte[] Bytes(BigInteger value)
    {
        byte[] bytes = value.ToByteArray(isUnsigned: true, isBigEndian: true);
        return [.. new byte[32 - bytes.Length], .. bytes];
    }

    private static (BigInteger X, BigInteger Y) Multiply(BigInteger factor, (BigInteger X, BigInteger Y) point)
    {
        (BigInteger X, BigInteger Y)? result = null;
        for (long bit = (long)factor.GetBitLength() - 1; bit >= 0; bit--)
        {
            if (result is not null)
            {
                result = Add(result.Value, result.Value);
            }

            if (!((factor >> (int)bit) & 1).IsZero)
            {
                result = result is null ? point : Add(result.Value, point);
            }
        }

        return result!.Value;
    }

    // No sum here is the point at infinity.
    private static (BigInteger X, BigInteger Y) Add((BigInteger X, BigInteger Y) left, (BigInteger X, BigInteger Y) right)
    {
        BigInteger slope = left == right
            ? 3 * left.X * left.X * Inverse(2 * left.Y)
            : (right.Y - left.Y) * Inverse(right.X - left.X);
        BigInteger x = Reduce((slope * slope) - left.X - right.X);
        return (x, Reduce((slope * (left.X - x)) - left.Y));
    }

    private static BigInteger Inverse(BigInteger value) => BigInteger.ModPow(Reduce(value), s_p - 2, s_p);

    private static BigInteger Reduce(BigInteger value) => ((value % s_p) + s_p) % s_p;
}
