// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using Internal.Runtime;

namespace System.Runtime.CompilerServices;

public static unsafe class RuntimeHelpers
{
    [Intrinsic]
    public static extern bool IsReferenceOrContainsReferences<T>()
        where T : allows ref struct;

    /// <summary>A hash by identity: objects do not move, so their address serves.</summary>
    public static int GetHashCode(object? o)
    {
        nint address = Unsafe.As<object?, nint>(ref o);
        return (int)(address >> 3) ^ (int)(address >> 35);
    }

    // The compiler replaces both calls by data in the image. Their bodies are reached when it could not.

    [Intrinsic]
    public static void InitializeArray(Array array, RuntimeFieldHandle fldHandle) => Environment.FailFast("RuntimeHelpers.InitializeArray");

    [Intrinsic]
    public static ReadOnlySpan<T> CreateSpan<T>(RuntimeFieldHandle fldHandle)
    {
        Environment.FailFast("RuntimeHelpers.CreateSpan");
        return default;
    }
}

// The body of an array object behind its type pointer.
internal class RawArrayData
{
    public uint Length;
    public uint Padding;
    public byte Data;
}

// The body of any other object behind its type pointer.
internal class RawData
{
    public byte Data;
}
