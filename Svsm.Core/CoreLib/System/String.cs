// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Strings are literals, placed in the image by the compiler. Nothing here makes a new one.

using System.Diagnostics.CodeAnalysis;
using System.Runtime.CompilerServices;
using Internal.Runtime.CompilerHelpers;

namespace System;

public sealed class String : IEquatable<string>
{
    // Layout and names are the compiler's: length, then the characters in place.
    private readonly int _stringLength;
    private char _firstChar;

    public static readonly string Empty = "";

    public int Length
    {
        [Intrinsic]
        get => _stringLength;
    }

    [IndexerName("Chars")]
    public char this[int index]
    {
        [Intrinsic]
        get
        {
            if ((uint)index >= (uint)_stringLength)
            {
                ThrowHelpers.ThrowIndexOutOfRangeException();
            }

            return Unsafe.Add(ref _firstChar, index);
        }
    }

    public ref readonly char GetPinnableReference() => ref _firstChar;

    public static bool IsNullOrEmpty([NotNullWhen(false)] string? value) => value is null || value.Length == 0;

    public bool Equals(string? value) => Equals(this, value);

    public override bool Equals(object? obj) => obj is string other && Equals(this, other);

    public override int GetHashCode()
    {
        uint hash = 2166136261;
        for (int i = 0; i < _stringLength; i++)
        {
            hash = (hash ^ Unsafe.Add(ref _firstChar, i)) * 16777619;
        }

        return (int)hash;
    }

    public static bool Equals(string? a, string? b)
    {
        if (ReferenceEquals(a, b))
        {
            return true;
        }

        if (a is null || b is null || a._stringLength != b._stringLength)
        {
            return false;
        }

        for (int i = 0; i < a._stringLength; i++)
        {
            if (Unsafe.Add(ref a._firstChar, i) != Unsafe.Add(ref b._firstChar, i))
            {
                return false;
            }
        }

        return true;
    }

    public static bool operator ==(string? a, string? b) => Equals(a, b);

    public static bool operator !=(string? a, string? b) => !Equals(a, b);

    public static implicit operator ReadOnlySpan<char>(string? value) => value.AsSpan();
}
