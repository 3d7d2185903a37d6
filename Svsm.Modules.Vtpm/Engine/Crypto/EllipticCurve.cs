// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Crypto;

// The elliptic curves y^2 = x^3 + a x + b of the TPM, with a = -3 (NIST) or a = 0 (Barreto-Naehrig), all of prime order.
//
// Points are in projective coordinates (x = X / Z, y = Y / Z; Z = 0 is the point at infinity), three field elements in Montgomery form one
// after the other. The formula of addition is complete: it holds for all points, also equal ones and infinity. Several doublings in a row are
// done in Jacobian coordinates (x = X / Z^2, y = Y / Z^3), where one takes 8 multiplications instead of 13; its formula also holds for
// infinity as long as Y is not 0 there, and no point of a group of prime order has Y = 0. So a multiplication does the same steps for every
// scalar and every point.
//
// Sources: NIST SP 800-186 (P-256, P-384, P-521); ISO/IEC 15946-5 and TCG Algorithm Registry (BN P-256); J. Renes, C. Costello, L. Batina,
// "Complete addition formulas for prime order elliptic curves", algorithms 4 and 7; D. Bernstein, T. Lange, "Explicit-Formulas Database",
// dbl-2001-b and dbl-2009-l (doubling), madd (addition of public points).
internal sealed class EllipticCurve
{
    private const int WindowBits = 4;
    private const int TemporaryCount = 5;

    // Digits of public scalars are odd and below 2^(this - 1), or 0.
    private const int PublicWindowBits = 5;

    private readonly bool _isMinusThree;
    private readonly ulong[] _b;
    private readonly ulong[] _tripleB;
    private readonly ulong[] _generator;
    private readonly ulong[] _temporaries;
    private readonly ulong[] _zero;
    private ulong[]? _generatorTables;
    private ulong[]? _generatorMultiples;

    private EllipticCurve(EccCurve id, int bits, string p, string n, int a, string b, string x, string y)
    {
        Id = id;
        Bits = bits;
        P = Convert.FromHexString(p);
        N = Convert.FromHexString(n);
        B = Convert.FromHexString(b);
        X = Convert.FromHexString(x);
        Y = Convert.FromHexString(y);
        Field = new Modulus(BigIntegers.Read(P));
        Order = new Modulus(BigIntegers.Read(N));
        _isMinusThree = a == -3;
        _b = Enter(B);
        _tripleB = new ulong[Limbs];
        _zero = new ulong[Limbs];
        Field.Add(_b, _b, _tripleB);
        Field.Add(_tripleB, _b, _tripleB);
        _generator = [.. Enter(X), .. Enter(Y), .. Field.One];
        _temporaries = new ulong[(TemporaryCount + 3) * Limbs];
    }

    internal EccCurve Id { get; }

    /// <summary>Bits of the field and of the order.</summary>
    internal int Bits { get; }

    /// <summary>Bytes of a coordinate and of a private key.</summary>
    internal int Size => (Bits + 7) / 8;

    internal Modulus Field { get; }

    /// <summary>The group's order, a prime.</summary>
    internal Modulus Order { get; }

    internal int Limbs => Field.Limbs;

    private int Windows => (Bits + WindowBits - 1) / WindowBits;

    // Limbs of 16 points.
    private int TableSize => (1 << WindowBits) * 3 * Limbs;

    /// <summary>The field's prime.</summary>
    internal byte[] P { get; }

    /// <summary>The order.</summary>
    internal byte[] N { get; }

    /// <summary>p - 3 or 0.</summary>
    internal byte[] A
    {
        get
        {
            var a = new byte[Size];
            if (_isMinusThree)
            {
                P.CopyTo(a, 0);
                a[^1] -= 3;
            }

            return a;
        }
    }

    internal byte[] B { get; }

    /// <summary>The generator's coordinates.</summary>
    internal byte[] X { get; }

    internal byte[] Y { get; }

    internal static EllipticCurve Create(EccCurve id) => id switch
    {
        EccCurve.NistP256 => new(
            id,
            256,
            "FFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF",
            "FFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551",
            -3,
            "5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B",
            "6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296",
            "4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5"),
        EccCurve.NistP384 => new(
            id,
            384,
            "FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEFFFFFFFF0000000000000000FFFFFFFF",
            "FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973",
            -3,
            "B3312FA7E23EE7E4988E056BE3F82D19181D9C6EFE8141120314088F5013875AC656398D8A2ED19D2A85C8EDD3EC2AEF",
            "AA87CA22BE8B05378EB1C71EF320AD746E1D3B628BA79B9859F741E082542A385502F25DBF55296C3A545E3872760AB7",
            "3617DE4A96262C6F5D9E98BF9292DC29F8F41DBD289A147CE9DA3113B5F0B8C00A60B1CE1D7E819D7A431D7C90EA0E5F"),
        EccCurve.NistP521 => new(
            id,
            521,
            "01FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF",
            "01FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFA51868783BF2F966B7FCC0148F709A5D03BB5C9B8899C47AEBB6FB71E91386409",
            -3,
            "0051953EB9618E1C9A1F929A21A0B68540EEA2DA725B99B315F3B8B489918EF109E156193951EC7E937B1652C0BD3BB1BF073573DF883D2C34F1EF451FD46B503F00",
            "00C6858E06B70404E9CD9E3ECB662395B4429C648139053FB521F828AF606B4D3DBAA14B5E77EFE75928FE1DC127A2FFA8DE3348B3C1856A429BF97E7E31C2E5BD66",
            "011839296A789A3BC0045C8A5FB42C7D1BD998F54449579B446817AFBD17273E662C97EE72995EF42640C550B9013FAD0761353C7086A272C24088BE94769FD16650"),
        EccCurve.BnP256 => new(
            id,
            256,
            "FFFFFFFFFFFCF0CD46E5F25EEE71A49F0CDC65FB12980A82D3292DDBAED33013",
            "FFFFFFFFFFFCF0CD46E5F25EEE71A49E0CDC65FB1299921AF62D536CD10B500D",
            0,
            "0000000000000000000000000000000000000000000000000000000000000003",
            "0000000000000000000000000000000000000000000000000000000000000001",
            "0000000000000000000000000000000000000000000000000000000000000002"),
        _ => throw new ArgumentOutOfRangeException(nameof(id), id, "not a curve of this TPM"),
    };

    /// <summary>Reads a point that anybody may have made.</summary>
    /// <param name="point">Its coordinates.</param>
    /// <param name="result">The point.</param>
    /// <returns>False when a coordinate is not below the prime, or the point is not on the curve.</returns>
    internal bool TryDecode(in EccPoint point, out ulong[] result)
    {
        result = new ulong[3 * Limbs];
        Span<ulong> x = result.AsSpan(0, Limbs);
        Span<ulong> y = result.AsSpan(Limbs, Limbs);
        if (!BigIntegers.TryRead(point.X.Span, x) || !BigIntegers.TryRead(point.Y.Span, y) || Field.BelowMask(x) == 0 || Field.BelowMask(y) == 0)
        {
            return false;
        }

        Field.Enter(x, x);
        Field.Enter(y, y);
        Field.One.CopyTo(result.AsSpan(2 * Limbs));
        var right = new ulong[Limbs];
        EvaluateRight(x, right);
        var left = new ulong[Limbs];
        Field.Multiply(y, y, left);
        return Modulus.EqualMask(left, right) != 0;
    }

    /// <summary>Affine coordinates; null for the point at infinity.</summary>
    internal EccPoint? Encode(ReadOnlySpan<ulong> point)
    {
        var x = new byte[Size];
        var y = new byte[Size];
        return TryEncode(point, x, y) ? new EccPoint(x, y) : null;
    }

    /// <summary>Affine coordinates.</summary>
    /// <param name="point">A point.</param>
    /// <param name="x">Room for <see cref="Size"/> bytes.</param>
    /// <param name="y">The same.</param>
    /// <returns>False for the point at infinity, which has none.</returns>
    internal bool TryEncode(ReadOnlySpan<ulong> point, Span<byte> x, Span<byte> y)
    {
        ReadOnlySpan<ulong> z = point.Slice(2 * Limbs, Limbs);
        if (Modulus.ZeroMask(z) != 0)
        {
            return false;
        }

        Span<ulong> inverse = stackalloc ulong[Limbs];
        Span<ulong> coordinate = stackalloc ulong[Limbs];
        Field.InvertPrime(z, inverse);
        Field.Multiply(point[..Limbs], inverse, coordinate);
        Field.Leave(coordinate, coordinate);
        BigIntegers.Write(coordinate, x);
        Field.Multiply(point.Slice(Limbs, Limbs), inverse, coordinate);
        Field.Leave(coordinate, coordinate);
        BigIntegers.Write(coordinate, y);
        inverse.Clear();
        coordinate.Clear();
        return true;
    }

    /// <summary>scalar * generator.</summary>
    internal ulong[] MultiplyGenerator(ReadOnlySpan<ulong> scalar)
    {
        var result = new ulong[3 * Limbs];
        MultiplyGenerator(scalar, result);
        return result;
    }

    /// <summary>scalar * generator.</summary>
    /// <param name="scalar">As many limbs as the order has.</param>
    /// <param name="result">Room for a point.</param>
    internal void MultiplyGenerator(ReadOnlySpan<ulong> scalar, Span<ulong> result)
    {
        // A table per window, so nothing is doubled. It has no secrets and is kept.
        _generatorTables ??= MakeGeneratorTables();
        Span<ulong> entry = stackalloc ulong[3 * Limbs];
        SetToInfinity(result);
        for (int window = 0; window < Windows; window++)
        {
            Modulus.Select(_generatorTables.AsSpan(window * TableSize, TableSize), 3 * Limbs, Modulus.Bits(scalar, window * WindowBits, WindowBits), entry);
            Add(result, entry, result);
        }

        entry.Clear();
        ClearTemporaries();
    }

    /// <summary>The public point of a private key.</summary>
    /// <param name="key">From 1 to the order less 1.</param>
    internal EccPoint PublicPoint(ReadOnlySpan<byte> key)
    {
        Span<ulong> scalar = stackalloc ulong[Limbs];
        BigIntegers.Read(key, scalar);
        EccPoint point = Encode(MultiplyGenerator(scalar))!.Value;
        scalar.Clear();
        return point;
    }

    /// <summary>scalar * point.</summary>
    /// <param name="scalar">As many limbs as the order has.</param>
    /// <param name="point">A point of the curve.</param>
    internal ulong[] Multiply(ReadOnlySpan<ulong> scalar, ReadOnlySpan<ulong> point)
    {
        var result = new ulong[3 * Limbs];
        Multiply(scalar, point, result);
        return result;
    }

    /// <summary>scalar * point.</summary>
    /// <param name="scalar">As many limbs as the order has.</param>
    /// <param name="point">A point of the curve.</param>
    /// <param name="result">Room for another one.</param>
    internal void Multiply(ReadOnlySpan<ulong> scalar, ReadOnlySpan<ulong> point, Span<ulong> result)
    {
        Span<ulong> table = stackalloc ulong[TableSize];
        Span<ulong> entry = stackalloc ulong[3 * Limbs];
        MakeTable(point, table);
        SetToInfinity(result);
        for (int window = Windows - 1; window >= 0; window--)
        {
            Double(result, WindowBits);
            Modulus.Select(table, 3 * Limbs, Modulus.Bits(scalar, window * WindowBits, WindowBits), entry);
            Add(result, entry, result);
        }

        CryptographicOperations.ZeroMemory(MemoryMarshal.AsBytes(table));
        entry.Clear();
        ClearTemporaries();
    }

    /// <summary>generatorScalar * generator + scalar * point. All of it is public: what is done depends on it.</summary>
    /// <param name="generatorScalar">As many limbs as the order has.</param>
    /// <param name="scalar">The same.</param>
    /// <param name="point">A point of the curve.</param>
    internal ulong[] SumOfMultiples(ReadOnlySpan<ulong> generatorScalar, ReadOnlySpan<ulong> scalar, ReadOnlySpan<ulong> point)
    {
        // Odd multiples of both points, and the scalars in digits of which one in six is not 0; they share the doublings.
        _generatorMultiples ??= MakePublicTable(_generator);
        bool isInfinite = Modulus.ZeroMask(point.Slice(2 * Limbs, Limbs)) != 0;
        ulong[] multiples = isInfinite ? [] : MakePublicTable(point);
        Span<sbyte> generatorDigits = stackalloc sbyte[(Limbs * 64) + 1];
        Span<sbyte> digits = stackalloc sbyte[generatorDigits.Length];
        SplitPublic(generatorScalar, generatorDigits);
        SplitPublic(isInfinite ? _zero : scalar, digits);

        // In Jacobian coordinates.
        var result = new ulong[3 * Limbs];
        SetToInfinity(result);
        int doublings = 0;
        for (int i = digits.Length - 1; i >= 0; i--)
        {
            doublings++;
            if (digits[i] != 0 || generatorDigits[i] != 0)
            {
                DoubleJacobian(result, doublings);
                doublings = 0;
                AddMultiple(result, _generatorMultiples, generatorDigits[i]);
                AddMultiple(result, multiples, digits[i]);
            }
        }

        DoubleJacobian(result, doublings);
        LeaveJacobian(result);
        return result;
    }

    /// <summary>key * point for a point that anybody may have made.</summary>
    /// <param name="key">A private key.</param>
    /// <param name="point">The point.</param>
    /// <param name="result">The product.</param>
    /// <returns>TPM_RC_ECC_POINT for no point of the curve; TPM_RC_NO_RESULT for the point at infinity.</returns>
    internal TpmResponseCode TryMultiply(ReadOnlySpan<byte> key, in EccPoint point, out EccPoint result)
    {
        result = default;
        if (!TryDecode(point, out ulong[] decoded))
        {
            return TpmResponseCode.EccPoint;
        }

        var x = new byte[Size];
        var y = new byte[Size];
        if (!TryMultiply(key, decoded, x, y))
        {
            return TpmResponseCode.NoResult;
        }

        result = new EccPoint(x, y);
        return TpmResponseCode.Success;
    }

    /// <summary>key * point.</summary>
    /// <param name="key">A private key.</param>
    /// <param name="point">A point of the curve.</param>
    /// <param name="x">Room for a coordinate of the product.</param>
    /// <param name="y">The same.</param>
    /// <returns>False for the point at infinity.</returns>
    internal bool TryMultiply(ReadOnlySpan<byte> key, ReadOnlySpan<ulong> point, Span<byte> x, Span<byte> y)
    {
        Span<ulong> scalar = stackalloc ulong[Limbs];
        Span<ulong> product = stackalloc ulong[3 * Limbs];
        BigIntegers.Read(key, scalar);
        Multiply(scalar, point, product);
        bool isFinite = TryEncode(product, x, y);
        scalar.Clear();
        product.Clear();
        return isFinite;
    }

    /// <summary>A number modulo the field's prime.</summary>
    internal byte[] ReduceToField(ReadOnlySpan<byte> number)
    {
        var result = new ulong[Limbs];
        BigIntegers.Reduce(BigIntegers.Read(number), Field.Value, result);
        return BigIntegers.ToBytes(result, Size);
    }

    /// <summary>The sum of two points.</summary>
    internal void Add(ReadOnlySpan<ulong> first, ReadOnlySpan<ulong> second, Span<ulong> result)
    {
        Span<ulong> t = _temporaries;
        int n = Limbs;
        if (_isMinusThree)
        {
            AddMinusThree(first, second, t[..(TemporaryCount * n)], t[(TemporaryCount * n)..]);
        }
        else
        {
            AddZero(first, second, t[..(TemporaryCount * n)], t[(TemporaryCount * n)..]);
        }

        t[(TemporaryCount * n)..].CopyTo(result);
    }

    /// <summary>Whether a private key is in the range from 1 to the order less 1.</summary>
    internal bool IsPrivateKey(ReadOnlySpan<byte> key)
    {
        Span<ulong> scalar = stackalloc ulong[Limbs];
        bool valid = BigIntegers.TryRead(key, scalar) && (Order.BelowMask(scalar) & ~Modulus.ZeroMask(scalar)) != 0;
        scalar.Clear();
        return valid;
    }

    /// <summary>A private key from 64 more random bits than it has: from 1 to the order less 1, evenly but for 2^-64.</summary>
    /// <remarks>Source: FIPS 186-4, B.4.1.</remarks>
    internal byte[] PrivateKeyFrom(ReadOnlySpan<byte> random)
    {
        Span<ulong> lessOne = stackalloc ulong[Limbs];
        Order.Value.CopyTo(lessOne);
        lessOne[0] ^= 1;
        ulong[] wide = BigIntegers.Read(random);
        Span<ulong> key = stackalloc ulong[Limbs];
        BigIntegers.Reduce(wide, lessOne, key);
        BigIntegers.Add(key, [1]);
        byte[] result = BigIntegers.ToBytes(key, Size);
        key.Clear();
        CryptographicOperations.ZeroMemory(MemoryMarshal.AsBytes(wide.AsSpan()));
        return result;
    }

    /// <summary>Whether a point's x coordinate is a number modulo the order. Both are public.</summary>
    /// <param name="point">The point; false for the one at infinity.</param>
    /// <param name="number">A number below the order.</param>
    internal bool HasCoordinate(ReadOnlySpan<ulong> point, ReadOnlySpan<ulong> number)
    {
        ReadOnlySpan<ulong> z = point.Slice(2 * Limbs, Limbs);
        Span<ulong> coordinate = stackalloc ulong[Limbs];
        Span<ulong> product = stackalloc ulong[Limbs];
        number.CopyTo(coordinate);
        if (Modulus.ZeroMask(z) != 0)
        {
            return false;
        }

        // The prime may be above the order, but not above twice the order.
        for (ulong carry = 0; carry == 0 && Field.BelowMask(coordinate) != 0; carry = BigIntegers.Add(coordinate, Order.Value))
        {
            Field.Enter(coordinate, product);
            Field.Multiply(product, z, product);
            if (Modulus.EqualMask(product, point[..Limbs]) != 0)
            {
                return true;
            }
        }

        return false;
    }

    private void SetToInfinity(Span<ulong> point)
    {
        point.Clear();
        Field.One.CopyTo(point[Limbs..]);
    }

    // Digits that are 0 or odd and below 2^(PublicWindowBits - 1), each at least PublicWindowBits places above the one before.
    private static void SplitPublic(ReadOnlySpan<ulong> scalar, Span<sbyte> digits)
    {
        digits.Clear();
        int carry = 0;
        for (int i = 0; i < digits.Length;)
        {
            int bits = i < scalar.Length * 64 ? (int)Modulus.Bits(scalar, i, PublicWindowBits) : 0;
            if (((bits + carry) & 1) == 0)
            {
                i++;
                continue;
            }

            int digit = bits + carry;
            carry = digit >= 1 << (PublicWindowBits - 1) ? 1 : 0;
            digits[i] = (sbyte)(digit - (carry << PublicWindowBits));
            i += PublicWindowBits;
        }
    }

    private void ClearTemporaries()
    {
        CryptographicOperations.ZeroMemory(MemoryMarshal.AsBytes(_temporaries.AsSpan()));
        Field.ClearProduct();
    }

    private ulong[] Enter(byte[] value)
    {
        var limbs = new ulong[Limbs];
        BigIntegers.Read(value, limbs);
        Field.Enter(limbs, limbs);
        return limbs;
    }

    // x^3 + a x + b.
    private void EvaluateRight(ReadOnlySpan<ulong> x, Span<ulong> result)
    {
        Field.Multiply(x, x, result);
        Field.Multiply(result, x, result);
        for (int i = 0; _isMinusThree && i < 3; i++)
        {
            Field.Subtract(result, x, result);
        }

        Field.Add(result, _b, result);
    }

    // 0, 1, 2, ... times the point.
    private void MakeTable(ReadOnlySpan<ulong> point, Span<ulong> table)
    {
        int size = 3 * Limbs;
        SetToInfinity(table[..size]);
        point.CopyTo(table[size..]);
        for (int i = 2; i < 1 << WindowBits; i++)
        {
            Add(table.Slice((i - 1) * size, size), point, table.Slice(i * size, size));
        }
    }

    // For each window, its multiples of 16^window times the generator.
    private ulong[] MakeGeneratorTables()
    {
        int size = 3 * Limbs;
        var tables = new ulong[Windows * TableSize];
        var point = (ulong[])_generator.Clone();
        for (int window = 0; window < Windows; window++)
        {
            Span<ulong> table = tables.AsSpan(window * TableSize, TableSize);
            MakeTable(point, table);
            Add(table[(TableSize - size)..], point, point);
        }

        return tables;
    }

    // Odd multiples of a point that is not infinity, so none of them is: affine coordinates, by one inversion for all.
    private ulong[] MakePublicTable(ReadOnlySpan<ulong> point)
    {
        const int Entries = 1 << (PublicWindowBits - 2);
        int n = Limbs;
        int size = 3 * n;
        var multiples = new ulong[Entries * size];
        point.CopyTo(multiples);
        ulong[] step = point.ToArray();
        Double(step, 1);
        for (int i = 1; i < Entries; i++)
        {
            Add(multiples.AsSpan((i - 1) * size, size), step, multiples.AsSpan(i * size, size));
        }

        // Products of all Z up to each; then back, from the inverse of the last to that of each.
        var products = new ulong[Entries * n];
        multiples.AsSpan(2 * n, n).CopyTo(products);
        for (int i = 1; i < Entries; i++)
        {
            Field.Multiply(products.AsSpan((i - 1) * n, n), multiples.AsSpan((i * size) + (2 * n), n), products.AsSpan(i * n, n));
        }

        var table = new ulong[Entries * 2 * n];
        Span<ulong> rest = new ulong[n];
        Span<ulong> inverse = new ulong[n];
        Field.InvertPublic(products.AsSpan((Entries - 1) * n), rest);
        for (int i = Entries - 1; i >= 0; i--)
        {
            Span<ulong> multiple = multiples.AsSpan(i * size, size);
            rest.CopyTo(inverse);
            if (i != 0)
            {
                Field.Multiply(rest, products.AsSpan((i - 1) * n, n), inverse);
                Field.Multiply(rest, multiple[(2 * n)..], rest);
            }

            Field.Multiply(multiple[..n], inverse, table.AsSpan(2 * i * n, n));
            Field.Multiply(multiple.Slice(n, n), inverse, table.AsSpan(((2 * i) + 1) * n, n));
        }

        return table;
    }

    // Adds a multiple of a point from a table of odd ones.
    private void AddMultiple(Span<ulong> point, ReadOnlySpan<ulong> table, int digit)
    {
        if (digit == 0)
        {
            return;
        }

        int size = 2 * Limbs;
        Span<ulong> entry = stackalloc ulong[size];
        table.Slice(Math.Abs(digit) / 2 * size, size).CopyTo(entry);
        if (digit < 0)
        {
            Field.Subtract(_zero, entry[Limbs..], entry[Limbs..]);
        }

        AddPublic(point, entry);
    }

    // Adds a point in affine coordinates, not infinity, to one in Jacobian coordinates; both are public.
    private void AddPublic(Span<ulong> point, ReadOnlySpan<ulong> other)
    {
        int n = Limbs;
        Modulus f = Field;
        Span<ulong> x = point[..n];
        Span<ulong> y = point.Slice(n, n);
        Span<ulong> z = point.Slice(2 * n, n);
        if (Modulus.ZeroMask(z) != 0)
        {
            other.CopyTo(point);
            f.One.CopyTo(z);
            return;
        }

        Span<ulong> square = _temporaries.AsSpan(0, n);
        Span<ulong> differenceX = _temporaries.AsSpan(n, n);
        Span<ulong> differenceY = _temporaries.AsSpan(2 * n, n);
        Span<ulong> cube = _temporaries.AsSpan(3 * n, n);
        f.Square(z, square);
        f.Multiply(other[..n], square, differenceX);
        f.Subtract(differenceX, x, differenceX);
        f.Multiply(square, z, square);
        f.Multiply(other[n..], square, differenceY);
        f.Subtract(differenceY, y, differenceY);
        if (Modulus.ZeroMask(differenceX) != 0)
        {
            // The same point, or its opposite.
            if (Modulus.ZeroMask(differenceY) != 0)
            {
                DoubleJacobian(point, 1);
                return;
            }

            SetToInfinity(point);
            return;
        }

        // X = R^2 - H^3 - 2 X1 H^2, Y = R (X1 H^2 - X) - Y1 H^3, Z = Z1 H.
        f.Multiply(z, differenceX, z);
        f.Square(differenceX, square);
        f.Multiply(square, differenceX, cube);
        f.Multiply(x, square, square);
        f.Square(differenceY, x);
        f.Subtract(x, cube, x);
        f.Subtract(x, square, x);
        f.Subtract(x, square, x);
        f.Multiply(y, cube, cube);
        f.Subtract(square, x, square);
        f.Multiply(differenceY, square, y);
        f.Subtract(y, cube, y);
    }

    // Doubles a point some times.
    private void Double(Span<ulong> point, int times)
    {
        int n = Limbs;
        Modulus f = Field;
        Span<ulong> x = point[..n];
        Span<ulong> y = point.Slice(n, n);
        ReadOnlySpan<ulong> z = point.Slice(2 * n, n);
        Span<ulong> square = _temporaries.AsSpan(0, n);

        // Into Jacobian coordinates with the same Z. Y becomes 1 at infinity.
        f.Square(z, square);
        f.Multiply(x, z, x);
        f.Multiply(y, square, y);
        ulong isInfinite = Modulus.ZeroMask(z);
        ReadOnlySpan<ulong> one = f.One;
        for (int i = 0; i < n; i++)
        {
            y[i] |= one[i] & isInfinite;
        }

        DoubleJacobian(point, times);
        LeaveJacobian(point);
    }

    private void LeaveJacobian(Span<ulong> point)
    {
        Span<ulong> x = point[..Limbs];
        Span<ulong> z = point.Slice(2 * Limbs, Limbs);
        Span<ulong> square = _temporaries.AsSpan(0, Limbs);
        Field.Square(z, square);
        Field.Multiply(x, z, x);
        Field.Multiply(square, z, z);
    }

    private void DoubleJacobian(Span<ulong> point, int times)
    {
        int n = Limbs;
        Modulus f = Field;
        Span<ulong> x = point[..n];
        Span<ulong> y = point.Slice(n, n);
        Span<ulong> z = point.Slice(2 * n, n);
        Span<ulong> delta = _temporaries.AsSpan(0, n);
        Span<ulong> gamma = _temporaries.AsSpan(n, n);
        Span<ulong> beta = _temporaries.AsSpan(2 * n, n);
        Span<ulong> alpha = _temporaries.AsSpan(3 * n, n);
        Span<ulong> sum = _temporaries.AsSpan(4 * n, n);
        for (int time = 0; time < times; time++)
        {
            f.Square(z, delta);
            f.Square(y, gamma);
            f.Multiply(x, gamma, beta);

            // 3 (X - Z^2) (X + Z^2) is 3 X^2 + a Z^4 for a = -3.
            if (_isMinusThree)
            {
                f.Subtract(x, delta, sum);
                f.Add(x, delta, alpha);
                f.Multiply(sum, alpha, alpha);
            }
            else
            {
                f.Square(x, alpha);
            }

            f.Add(alpha, alpha, sum);
            f.Add(alpha, sum, alpha);

            // Z = (Y + Z)^2 - gamma - delta, X = alpha^2 - 8 beta, Y = alpha (4 beta - X) - 8 gamma^2.
            f.Add(y, z, z);
            f.Square(z, z);
            f.Subtract(z, gamma, z);
            f.Subtract(z, delta, z);
            f.Add(beta, beta, beta);
            f.Add(beta, beta, beta);
            f.Square(alpha, x);
            f.Subtract(x, beta, x);
            f.Subtract(x, beta, x);
            f.Subtract(beta, x, beta);
            f.Multiply(alpha, beta, y);
            f.Square(gamma, gamma);
            f.Add(gamma, gamma, gamma);
            f.Add(gamma, gamma, gamma);
            f.Add(gamma, gamma, gamma);
            f.Subtract(y, gamma, y);
        }
    }

    private void AddMinusThree(ReadOnlySpan<ulong> first, ReadOnlySpan<ulong> second, Span<ulong> t, Span<ulong> result)
    {
        int n = Limbs;
        Modulus f = Field;
        ReadOnlySpan<ulong> x1 = first[..n];
        ReadOnlySpan<ulong> y1 = first.Slice(n, n);
        ReadOnlySpan<ulong> z1 = first.Slice(2 * n, n);
        ReadOnlySpan<ulong> x2 = second[..n];
        ReadOnlySpan<ulong> y2 = second.Slice(n, n);
        ReadOnlySpan<ulong> z2 = second.Slice(2 * n, n);
        Span<ulong> t0 = t[..n];
        Span<ulong> t1 = t.Slice(n, n);
        Span<ulong> t2 = t.Slice(2 * n, n);
        Span<ulong> t3 = t.Slice(3 * n, n);
        Span<ulong> t4 = t.Slice(4 * n, n);
        Span<ulong> x3 = result[..n];
        Span<ulong> y3 = result.Slice(n, n);
        Span<ulong> z3 = result.Slice(2 * n, n);

        AddCommon(x1, y1, z1, x2, y2, z2, t0, t1, t2, t3, t4, x3, y3);
        f.Multiply(_b, t2, z3);
        f.Subtract(y3, z3, x3);
        f.Add(x3, x3, z3);
        f.Add(x3, z3, x3);
        f.Subtract(t1, x3, z3);
        f.Add(t1, x3, x3);
        f.Multiply(_b, y3, y3);
        f.Add(t2, t2, t1);
        f.Add(t1, t2, t2);
        f.Subtract(y3, t2, y3);
        f.Subtract(y3, t0, y3);
        f.Add(y3, y3, t1);
        f.Add(t1, y3, y3);
        f.Add(t0, t0, t1);
        f.Add(t1, t0, t0);
        f.Subtract(t0, t2, t0);
        f.Multiply(t4, y3, t1);
        f.Multiply(t0, y3, t2);
        f.Multiply(x3, z3, y3);
        f.Add(y3, t2, y3);
        f.Multiply(t3, x3, x3);
        f.Subtract(x3, t1, x3);
        f.Multiply(t4, z3, z3);
        f.Multiply(t3, t0, t1);
        f.Add(z3, t1, z3);
    }

    private void AddZero(ReadOnlySpan<ulong> first, ReadOnlySpan<ulong> second, Span<ulong> t, Span<ulong> result)
    {
        int n = Limbs;
        Modulus f = Field;
        Span<ulong> t0 = t[..n];
        Span<ulong> t1 = t.Slice(n, n);
        Span<ulong> t2 = t.Slice(2 * n, n);
        Span<ulong> t3 = t.Slice(3 * n, n);
        Span<ulong> t4 = t.Slice(4 * n, n);
        Span<ulong> x3 = result[..n];
        Span<ulong> y3 = result.Slice(n, n);
        Span<ulong> z3 = result.Slice(2 * n, n);

        AddCommon(
            first[..n], first.Slice(n, n), first.Slice(2 * n, n), second[..n], second.Slice(n, n), second.Slice(2 * n, n), t0, t1, t2, t3, t4, x3, y3);
        f.Add(t0, t0, x3);
        f.Add(x3, t0, t0);
        f.Multiply(_tripleB, t2, t2);
        f.Add(t1, t2, z3);
        f.Subtract(t1, t2, t1);
        f.Multiply(_tripleB, y3, y3);
        f.Multiply(t4, y3, x3);
        f.Multiply(t3, t1, t2);
        f.Subtract(t2, x3, x3);
        f.Multiply(y3, t0, y3);
        f.Multiply(t1, z3, t1);
        f.Add(t1, y3, y3);
        f.Multiply(t0, t3, t0);
        f.Multiply(z3, t4, z3);
        f.Add(z3, t0, z3);
    }

    // The products that both kinds of addition begin with: t0 = x1 x2, t1 = y1 y2, t2 = z1 z2, and the cross sums t3 = x1 y2 + x2 y1,
    // t4 = y1 z2 + y2 z1, y3 = x1 z2 + x2 z1.
    private void AddCommon(
        ReadOnlySpan<ulong> x1,
        ReadOnlySpan<ulong> y1,
        ReadOnlySpan<ulong> z1,
        ReadOnlySpan<ulong> x2,
        ReadOnlySpan<ulong> y2,
        ReadOnlySpan<ulong> z2,
        Span<ulong> t0,
        Span<ulong> t1,
        Span<ulong> t2,
        Span<ulong> t3,
        Span<ulong> t4,
        Span<ulong> x3,
        Span<ulong> y3)
    {
        Modulus f = Field;
        f.Multiply(x1, x2, t0);
        f.Multiply(y1, y2, t1);
        f.Multiply(z1, z2, t2);
        f.Add(x1, y1, t3);
        f.Add(x2, y2, t4);
        f.Multiply(t3, t4, t3);
        f.Add(t0, t1, t4);
        f.Subtract(t3, t4, t3);
        f.Add(y1, z1, t4);
        f.Add(y2, z2, x3);
        f.Multiply(t4, x3, t4);
        f.Add(t1, t2, x3);
        f.Subtract(t4, x3, t4);
        f.Add(x1, z1, x3);
        f.Add(x2, z2, y3);
        f.Multiply(x3, y3, x3);
        f.Add(t0, t2, y3);
        f.Subtract(x3, y3, y3);
    }
}
