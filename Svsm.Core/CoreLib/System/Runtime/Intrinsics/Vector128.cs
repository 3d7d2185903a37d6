// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace System.Runtime.Intrinsics;

[Intrinsic]
[StructLayout(LayoutKind.Sequential, Size = 16)]
public readonly struct Vector128<T>
{
    private readonly ulong _00;
    private readonly ulong _01;
}

public static class Vector128
{
    [Intrinsic]
    public static Vector128<byte> Create(byte value) => Create(value);
}
