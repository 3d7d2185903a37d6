// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Kernel.Devices;
using Svsm.Platform;

namespace Svsm.Kernel.Diagnostics;

/// <summary>Lines on the console, in pieces.</summary>
internal static class Log
{
    /// <summary>Writes text.</summary>
    public static void Text(ReadOnlySpan<byte> text) => Text<Devices.Console>.Write(text);

    /// <summary>Writes a number as 0x and hexadecimal digits.</summary>
    public static void Hex(ulong value, int minimumDigits = 1)
    {
        Text("0x"u8);
        Text<Devices.Console>.WriteHex(value, minimumDigits);
    }

    /// <summary>Writes a number in decimal.</summary>
    public static void Decimal(ulong value) => Text<Devices.Console>.WriteDecimal(value);

    /// <summary>Writes text and ends the line.</summary>
    public static void Line(ReadOnlySpan<byte> text) => Text<Devices.Console>.WriteLine(text);
}
