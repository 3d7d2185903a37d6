// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The compiler expands these wherever they are called, and supplies the bodies of those that have none.

using System.Diagnostics.CodeAnalysis;
using Internal.Runtime.CompilerHelpers;

namespace System.Runtime.CompilerServices;

public static unsafe class Unsafe
{
    // SAFETY (whole class): the caller answers for every pointer, reference and length, as in .NET.

    [Intrinsic]
    public static extern ref T Add<T>(ref T source, int elementOffset);

    [Intrinsic]
    public static extern ref T Add<T>(ref T source, nint elementOffset);

    [Intrinsic]
    public static extern ref T Add<T>(ref T source, nuint elementOffset);

    [Intrinsic]
    public static extern void* Add<T>(void* source, int elementOffset);

    [Intrinsic]
    public static extern ref T AddByteOffset<T>(ref T source, nint byteOffset);

    [Intrinsic]
    public static extern ref T AddByteOffset<T>(ref T source, nuint byteOffset);

    [Intrinsic]
    public static extern bool AreSame<T>([AllowNull] ref readonly T left, [AllowNull] ref readonly T right);

    [Intrinsic]
    [return: NotNullIfNotNull(nameof(o))]
    public static extern T? As<T>(object? o)
        where T : class?;

    [Intrinsic]
    public static extern ref TTo As<TFrom, TTo>(ref TFrom source);

    [Intrinsic]
    public static extern void* AsPointer<T>(ref readonly T value);

    [Intrinsic]
    public static extern ref T AsRef<T>(void* source);

    [Intrinsic]
    public static extern ref T AsRef<T>(scoped ref readonly T source);

    [Intrinsic]
    public static TTo BitCast<TFrom, TTo>(TFrom source)
    {
        if (sizeof(TFrom) != sizeof(TTo))
        {
            ThrowHelpers.ThrowNotSupportedException();
        }

        // SAFETY: the parameter is as large as the result.
        return ReadUnaligned<TTo>(&source);
    }

    [Intrinsic]
    public static extern nint ByteOffset<T>([AllowNull] ref readonly T origin, [AllowNull] ref readonly T target);

    [Intrinsic]
    public static extern bool IsAddressGreaterThan<T>([AllowNull] ref readonly T left, [AllowNull] ref readonly T right);

    [Intrinsic]
    public static extern bool IsAddressLessThan<T>([AllowNull] ref readonly T left, [AllowNull] ref readonly T right);

    [Intrinsic]
    public static extern bool IsNullRef<T>(ref readonly T source);

    [Intrinsic]
    public static extern ref T NullRef<T>();

    [Intrinsic]
    public static extern T ReadUnaligned<T>(void* source);

    [Intrinsic]
    public static extern T ReadUnaligned<T>(ref readonly byte source);

    [Intrinsic]
    public static int SizeOf<T>() => sizeof(T);

    [Intrinsic]
    public static extern void SkipInit<T>(out T value);

    [Intrinsic]
    public static extern ref T Subtract<T>(ref T source, int elementOffset);

    [Intrinsic]
    public static extern void WriteUnaligned<T>(void* destination, T value);

    [Intrinsic]
    public static extern void WriteUnaligned<T>(ref byte destination, T value);

    public static void CopyBlock(void* destination, void* source, uint byteCount) => SpanHelpers.NativeMove(destination, source, byteCount);

    public static void CopyBlockUnaligned(void* destination, void* source, uint byteCount) => SpanHelpers.NativeMove(destination, source, byteCount);

    public static void InitBlock(void* startAddress, byte value, uint byteCount) => SpanHelpers.NativeFill(startAddress, value, byteCount);

    public static void InitBlockUnaligned(void* startAddress, byte value, uint byteCount) => SpanHelpers.NativeFill(startAddress, value, byteCount);
}
