// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Diagnostics.CodeAnalysis;
using System.Runtime.CompilerServices;

namespace Svsm.Measurement;

/// <summary>A SEV-SNP launch digest, or another SHA-384 value that goes into one. 48 bytes; the default is all zeroes.</summary>
public readonly struct LaunchDigest : IEquatable<LaunchDigest>, ISpanParsable<LaunchDigest>
{
    /// <summary>Bytes of a digest.</summary>
    public const int ByteLength = 48;

    private readonly Bytes48 _bytes;

    /// <summary>A digest from its bytes.</summary>
    /// <param name="bytes">48 bytes.</param>
    /// <exception cref="ArgumentException">The length differs.</exception>
    public LaunchDigest(ReadOnlySpan<byte> bytes)
    {
        if (bytes.Length != ByteLength)
        {
            throw new ArgumentException($"A launch digest has {ByteLength} bytes; {bytes.Length} were given.", nameof(bytes));
        }

        bytes.CopyTo(_bytes);
    }

    /// <summary>True when both digests are equal.</summary>
    /// <param name="left">One.</param>
    /// <param name="right">The other.</param>
    /// <returns>True when equal.</returns>
    public static bool operator ==(LaunchDigest left, LaunchDigest right) => left.Equals(right);

    /// <summary>True when the digests differ.</summary>
    /// <param name="left">One.</param>
    /// <param name="right">The other.</param>
    /// <returns>True when different.</returns>
    public static bool operator !=(LaunchDigest left, LaunchDigest right) => !left.Equals(right);

    /// <summary>Reads 96 hexadecimal digits.</summary>
    /// <param name="text">The digits, upper or lower case, nothing else.</param>
    /// <returns>The digest.</returns>
    /// <exception cref="FormatException">The text is something else.</exception>
    public static LaunchDigest Parse(ReadOnlySpan<char> text) => TryParse(text, out LaunchDigest digest)
        ? digest
        : throw new FormatException($"A launch digest is written as {2 * ByteLength} hexadecimal digits; this text has {text.Length} characters, or others than these digits.");

    /// <inheritdoc cref="Parse(ReadOnlySpan{char})"/>
    public static LaunchDigest Parse(string text)
    {
        ArgumentNullException.ThrowIfNull(text);
        return Parse(text.AsSpan());
    }

    /// <summary>Reads 96 hexadecimal digits.</summary>
    /// <param name="text">The digits.</param>
    /// <param name="digest">The digest; zeroes when the text is something else.</param>
    /// <returns>True when the text is a digest.</returns>
    public static bool TryParse(ReadOnlySpan<char> text, out LaunchDigest digest)
    {
        digest = default;
        if (text.Length != 2 * ByteLength)
        {
            return false;
        }

        Span<byte> bytes = stackalloc byte[ByteLength];
        if (Convert.FromHexString(text, bytes, out _, out _) != System.Buffers.OperationStatus.Done)
        {
            return false;
        }

        digest = new LaunchDigest(bytes);
        return true;
    }

    static LaunchDigest ISpanParsable<LaunchDigest>.Parse(ReadOnlySpan<char> s, IFormatProvider? provider) => Parse(s);

    static bool ISpanParsable<LaunchDigest>.TryParse(ReadOnlySpan<char> s, IFormatProvider? provider, out LaunchDigest result) => TryParse(s, out result);

    static LaunchDigest IParsable<LaunchDigest>.Parse(string s, IFormatProvider? provider) => Parse(s);

    static bool IParsable<LaunchDigest>.TryParse([NotNullWhen(true)] string? s, IFormatProvider? provider, out LaunchDigest result) => TryParse(s, out result);

    /// <summary>Copies the bytes.</summary>
    /// <param name="destination">At least 48 bytes.</param>
    /// <exception cref="ArgumentException">The destination is shorter.</exception>
    public void CopyTo(Span<byte> destination) => ((ReadOnlySpan<byte>)_bytes).CopyTo(destination);

    /// <summary>The bytes.</summary>
    /// <returns>48 bytes, a copy.</returns>
    public byte[] ToArray() => ((ReadOnlySpan<byte>)_bytes).ToArray();

    /// <inheritdoc/>
    public bool Equals(LaunchDigest other) => ((ReadOnlySpan<byte>)_bytes).SequenceEqual(other._bytes);

    /// <inheritdoc/>
    public override bool Equals(object? obj) => obj is LaunchDigest other && Equals(other);

    /// <inheritdoc/>
    public override int GetHashCode()
    {
        var hash = default(HashCode);
        hash.AddBytes(_bytes);
        return hash.ToHashCode();
    }

    /// <summary>96 lower-case hexadecimal digits.</summary>
    /// <returns>The text.</returns>
    public override string ToString() => Convert.ToHexStringLower(_bytes);

    [InlineArray(ByteLength)]
    private struct Bytes48
    {
        private byte _element0;
    }
}
