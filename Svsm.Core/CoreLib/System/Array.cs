// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System.Collections;
using System.Runtime.CompilerServices;

namespace System;

public abstract class Array : IEnumerable
{
    internal readonly int _length;

    public int Length
    {
        [Intrinsic]
        get => _length;
    }

    public static T[] Empty<T>() => EmptyArray<T>.Value;

    // Loops over arrays are compiled to index loops; only a loop over an array seen as an IEnumerable comes here.
    IEnumerator IEnumerable.GetEnumerator()
    {
        Environment.FailFast("Array: enumerating an array through IEnumerable is not supported");
        return null!;
    }

    private static class EmptyArray<T>
    {
        internal static readonly T[] Value = new T[0];
    }
}

// The compiler derives the type of every T[] from this one.
internal class Array<T> : Array
{
}
