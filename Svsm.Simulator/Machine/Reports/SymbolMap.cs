// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Names for addresses. The file that the SDK writes beside an image has one "0xADDRESS name" per line; the listing of nm
// ("ADDRESS T name") and the map of GNU ld (symbol lines among others) are read too. Other lines are passed over.

using System;
using System.Collections.Generic;
using System.Globalization;
using System.IO;
using System.Text.RegularExpressions;

namespace Svsm.Simulator;

/// <summary>Names for the addresses of the SVSM's kernel.</summary>
public sealed partial class SymbolMap
{
    // A name that starts further below the address is not the function that contains it.
    private const ulong MaxDistance = 0x1_0000;

    private readonly ulong[] _addresses;
    private readonly string[] _names;

    private SymbolMap(SortedDictionary<ulong, string> symbols)
    {
        _addresses = [.. symbols.Keys];
        _names = [.. symbols.Values];
    }

    /// <summary>A map without names.</summary>
    public static SymbolMap Empty { get; } = new([]);

    /// <summary>Number of names.</summary>
    public int Count => _addresses.Length;

    /// <summary>Reads a map.</summary>
    /// <param name="reader">Text with one symbol per line.</param>
    /// <returns>The map; of several names for one address the first counts.</returns>
    /// <exception cref="IOException">The reader failed.</exception>
    public static SymbolMap Read(TextReader reader)
    {
        ArgumentNullException.ThrowIfNull(reader);
        var symbols = new SortedDictionary<ulong, string>();
        while (reader.ReadLine() is string line)
        {
            Match match = SymbolLine().Match(line);
            if (match.Success)
            {
                symbols.TryAdd(ParseAddress(match.Groups["address"]), match.Groups["name"].Value);
            }
        }

        return new SymbolMap(symbols);
    }

    /// <summary>The name for an address.</summary>
    /// <param name="address">A virtual address.</param>
    /// <returns><c>name</c>, <c>name + 0x12</c>, or null when no symbol starts within 64 KiB below.</returns>
    public string? Find(ulong address)
    {
        int index = Array.BinarySearch(_addresses, address);
        if (index >= 0)
        {
            return _names[index];
        }

        index = ~index - 1;
        if (index < 0 || address - _addresses[index] >= MaxDistance)
        {
            return null;
        }

        return string.Create(CultureInfo.InvariantCulture, $"{_names[index]} + 0x{address - _addresses[index]:X}");
    }

    /// <summary>The address of a name.</summary>
    /// <param name="name">A name, exactly.</param>
    /// <returns>The lowest address that has it, or null.</returns>
    public ulong? AddressOf(string name)
    {
        int index = Array.IndexOf(_names, name);
        return index < 0 ? null : _addresses[index];
    }

    /// <summary>Adds names to a line of a backtrace.</summary>
    /// <param name="line">A console line.</param>
    /// <returns>The line, with the name after each <c>at 0xADDRESS</c> that has one.</returns>
    public string Annotate(string line)
    {
        ArgumentNullException.ThrowIfNull(line);
        if (_addresses.Length == 0 || !line.Contains("at 0x", StringComparison.Ordinal))
        {
            return line;
        }

        return BacktraceAddress().Replace(line, match =>
            Find(ParseAddress(match.Groups["address"])) is string name ? $"{match.Value} {name}" : match.Value);
    }

    private static ulong ParseAddress(Group group) => ulong.Parse(group.ValueSpan, NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture);

    [GeneratedRegex(@"^\s*(?:0[xX])?(?<address>[0-9A-Fa-f]{8,16})\s+(?:[A-Za-z]\s+)?(?<name>[^\s=]+)\s*$", RegexOptions.CultureInvariant)]
    private static partial Regex SymbolLine();

    [GeneratedRegex(@"\bat 0x(?<address>[0-9A-Fa-f]{1,16})\b", RegexOptions.CultureInvariant)]
    private static partial Regex BacktraceAddress();
}
