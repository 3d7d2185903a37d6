// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Instructions that the compiler emits in place of the call. A body that calls itself is never run.

using System.Runtime.CompilerServices;

namespace System.Runtime.Intrinsics.X86;

[Intrinsic]
public abstract class X86Base
{
    public static bool IsSupported
    {
        [Intrinsic]
        get => IsSupported;
    }

    [Intrinsic]
    public static void Pause() => Pause();

    /// <summary>Divides a 64-bit number by a 32-bit one (DIV). A quotient of more than 32 bits is a divide error.</summary>
    [Intrinsic]
    public static (uint Quotient, uint Remainder) DivRem(uint lower, uint upper, uint divisor) => DivRem(lower, upper, divisor);

    [Intrinsic]
    internal static uint BitScanForward(uint value) => BitScanForward(value);

    [Intrinsic]
    internal static uint BitScanReverse(uint value) => BitScanReverse(value);

    [Intrinsic]
    public abstract class X64
    {
        public static bool IsSupported
        {
            [Intrinsic]
            get => IsSupported;
        }

        /// <summary>Divides a 128-bit number by a 64-bit one (DIV). A quotient of more than 64 bits is a divide error.</summary>
        [Intrinsic]
        public static (ulong Quotient, ulong Remainder) DivRem(ulong lower, ulong upper, ulong divisor) => DivRem(lower, upper, divisor);

        [Intrinsic]
        internal static ulong BitScanForward(ulong value) => BitScanForward(value);

        [Intrinsic]
        internal static ulong BitScanReverse(ulong value) => BitScanReverse(value);
    }
}

[Intrinsic]
public abstract class Sse : X86Base
{
    public static new bool IsSupported
    {
        [Intrinsic]
        get => IsSupported;
    }

    [Intrinsic]
    public static void StoreFence() => StoreFence();
}

[Intrinsic]
public abstract class Sse2 : Sse
{
    public static new bool IsSupported
    {
        [Intrinsic]
        get => IsSupported;
    }

    [Intrinsic]
    public static void LoadFence() => LoadFence();

    [Intrinsic]
    public static void MemoryFence() => MemoryFence();

    [Intrinsic]
    public static unsafe Vector128<byte> LoadVector128(byte* address) => LoadVector128(address);

    [Intrinsic]
    public static unsafe void Store(byte* address, Vector128<byte> source) => Store(address, source);

    [Intrinsic]
    public static Vector128<byte> Xor(Vector128<byte> left, Vector128<byte> right) => Xor(left, right);
}
