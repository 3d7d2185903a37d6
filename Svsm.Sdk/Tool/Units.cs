// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers;
using System.Globalization;

namespace Svsm.Tool;

// How numbers are written: addresses with at least 12 digits so that columns line up, other values as they are, sizes in units of 1024.
internal static class Units
{
    public static string Address(ulong value) => string.Create(CultureInfo.InvariantCulture, $"0x{value:x12}");

    public static string Hex(ulong value) => string.Create(CultureInfo.InvariantCulture, $"0x{value:x}");

    public static string Number(long value) => value.ToString(CultureInfo.InvariantCulture);

    /// <summary>Reads so many bytes as hexadecimal digits, two each and nothing else.</summary>
    public static bool TryReadHex(ReadOnlySpan<char> text, Span<byte> bytes) =>
        text.Length == 2 * bytes.Length && Convert.FromHexString(text, bytes, out _, out _) == OperationStatus.Done;

    public static string Size(ulong bytes)
    {
        if (bytes < 1024)
        {
            return string.Create(CultureInfo.InvariantCulture, $"{bytes} B");
        }

        double value = bytes;
        int unit = -1;
        while (value >= 1024 && unit < 4)
        {
            value /= 1024;
            unit++;
        }

        string[] names = ["KiB", "MiB", "GiB", "TiB", "PiB"];
        return string.Create(CultureInfo.InvariantCulture, $"{(value < 100 ? Math.Round(value, 1) : Math.Round(value)):0.#} {names[unit]}");
    }
}
