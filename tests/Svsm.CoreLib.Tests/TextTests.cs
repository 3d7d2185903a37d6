// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using System.Globalization;
using System.Text;
using Svsm.Platform;
using Xunit;

namespace Svsm.CoreLib.Tests;

public class TextTests
{
    private static readonly List<byte> s_written = [];

    private struct Sink : ITextSink
    {
        public static void Write(byte value) => s_written.Add(value);
    }

    [Theory]
    [InlineData(0UL)]
    [InlineData(9UL)]
    [InlineData(10UL)]
    [InlineData(4294967296UL)]
    [InlineData(ulong.MaxValue)]
    public void WriteDecimal_Unsigned_IsWrittenAsDotnetDoes(ulong value) =>
        Assert.Equal(value.ToString(CultureInfo.InvariantCulture), Written(() => Text<Sink>.WriteDecimal(value)));

    [Theory]
    [InlineData(0L)]
    [InlineData(-1L)]
    [InlineData(long.MaxValue)]
    [InlineData(long.MinValue)]
    public void WriteDecimal_Signed_IsWrittenAsDotnetDoes(long value) =>
        Assert.Equal(value.ToString(CultureInfo.InvariantCulture), Written(() => Text<Sink>.WriteDecimal(value)));

    [Fact]
    public void WriteDecimal_32Bits_KeepsTheSign()
    {
        Assert.Equal("-2147483648", Written(() => Text<Sink>.WriteDecimal(int.MinValue)));
        Assert.Equal("4294967295", Written(() => Text<Sink>.WriteDecimal(uint.MaxValue)));
    }

    [Theory]
    [InlineData(0UL, 1, "0")]
    [InlineData(0UL, 0, "0")]
    [InlineData(0UL, -5, "0")]
    [InlineData(0xABUL, 1, "ab")]
    [InlineData(0xABUL, 4, "00ab")]
    [InlineData(0x1234UL, 2, "1234")]
    [InlineData(0x10UL, 2, "10")]
    [InlineData(0x100UL, 2, "100")]
    [InlineData(1UL, 16, "0000000000000001")]
    [InlineData(1UL, 99, "0000000000000001")]
    [InlineData(ulong.MaxValue, 1, "ffffffffffffffff")]
    public void WriteHex_Width_IsTheLeast(ulong value, int digits, string expected) =>
        Assert.Equal(expected, Written(() => Text<Sink>.WriteHex(value, digits)));

    [Theory]
    [InlineData("")]
    [InlineData("plain")]
    [InlineData("\u007F\u0080\u07FF\u0800\uFFFF")]
    [InlineData("\U00010000\U0010FFFF")]
    public void Write_Utf16_BecomesUtf8(string text) => Assert.Equal(text, Written(() => Text<Sink>.Write(text.AsSpan())));

    [Theory]
    [InlineData(0xD800, 0x41)]
    [InlineData(0xDC00, 0x41)]
    [InlineData(0xDC00, 0xD800)]
    [InlineData(0xD800, 0xD800)]
    public void Write_LoneSurrogate_BecomesReplacementCharacter(int first, int second)
    {
        char[] text = [(char)first, (char)second];

        Assert.Equal(Encoding.UTF8.GetString(Encoding.UTF8.GetBytes(text)), Written(() => Text<Sink>.Write(text)));
    }

    [Fact]
    public void WriteLine_Utf8_AddsLineFeed() => Assert.Equal("é\n", Written(() => Text<Sink>.WriteLine("é"u8)));

    private static string Written(Action write)
    {
        s_written.Clear();
        write();
        return Encoding.UTF8.GetString(s_written.ToArray());
    }
}
