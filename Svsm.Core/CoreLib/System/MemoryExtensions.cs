// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System.Runtime.InteropServices;

namespace System;

public static class MemoryExtensions
{
    public static Span<T> AsSpan<T>(this T[]? array) => new(array);

    public static Span<T> AsSpan<T>(this T[]? array, int start) => new Span<T>(array).Slice(start);

    public static Span<T> AsSpan<T>(this T[]? array, int start, int length) => new(array, start, length);

    // Spelled out: the language's own conversion of a string to a span calls this method.
    public static ReadOnlySpan<char> AsSpan(this string? text) =>
        text is null ? default : MemoryMarshal.CreateReadOnlySpan(in text.GetPinnableReference(), text.Length);

    public static bool SequenceEqual<T>(this ReadOnlySpan<T> span, ReadOnlySpan<T> other)
        where T : IEquatable<T>?
    {
        if (span.Length != other.Length)
        {
            return false;
        }

        for (int i = 0; i < span.Length; i++)
        {
            if (!span[i]!.Equals(other[i]))
            {
                return false;
            }
        }

        return true;
    }

    public static bool SequenceEqual<T>(this Span<T> span, ReadOnlySpan<T> other)
        where T : IEquatable<T>? => SequenceEqual((ReadOnlySpan<T>)span, other);

    public static bool StartsWith<T>(this ReadOnlySpan<T> span, ReadOnlySpan<T> value)
        where T : IEquatable<T>? => value.Length <= span.Length && SequenceEqual(span.Slice(0, value.Length), value);

    public static int IndexOf<T>(this ReadOnlySpan<T> span, T value)
        where T : IEquatable<T>?
    {
        for (int i = 0; i < span.Length; i++)
        {
            if (span[i]!.Equals(value))
            {
                return i;
            }
        }

        return -1;
    }

    public static int IndexOf<T>(this Span<T> span, T value)
        where T : IEquatable<T>? => IndexOf((ReadOnlySpan<T>)span, value);

    public static int IndexOfAnyExcept<T>(this ReadOnlySpan<T> span, T value)
        where T : IEquatable<T>?
    {
        for (int i = 0; i < span.Length; i++)
        {
            if (!span[i]!.Equals(value))
            {
                return i;
            }
        }

        return -1;
    }

    public static int IndexOfAnyExcept<T>(this Span<T> span, T value)
        where T : IEquatable<T>? => IndexOfAnyExcept((ReadOnlySpan<T>)span, value);

    public static bool ContainsAnyExcept<T>(this ReadOnlySpan<T> span, T value)
        where T : IEquatable<T>? => IndexOfAnyExcept(span, value) >= 0;

    public static bool ContainsAnyExcept<T>(this Span<T> span, T value)
        where T : IEquatable<T>? => IndexOfAnyExcept((ReadOnlySpan<T>)span, value) >= 0;
}
