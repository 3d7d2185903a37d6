// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Writes a cpio archive of format "newc", as Linux wants its initial RAM disk: per file a header of "070701" and 13 numbers of 8 hexadecimal
// digits, the name with a zero, the contents, each padded to 4 bytes; at the end a file called "TRAILER!!!".
//
// Source: Linux Documentation/driver-api/early-userspace/buffer-format.rst.

using System;
using System.Collections.Generic;
using System.Globalization;
using System.Text;

namespace Svsm.Linux.Tests;

/// <summary>An initial RAM disk being packed.</summary>
internal sealed class CpioArchive
{
    private const uint Directory = 0x4000;
    private const uint CharacterDevice = 0x2000;
    private const uint RegularFile = 0x8000;
    private const uint Permissions = 0x1ED;
    private const int Alignment = 4;

    private readonly List<byte> _bytes = [];
    private uint _number;

    /// <summary>Adds a directory.</summary>
    public void AddDirectory(string name) => Add(name, Directory | Permissions, [], 0, 0);

    /// <summary>Adds a file that anybody may read and execute.</summary>
    public void AddFile(string name, ReadOnlySpan<byte> contents) => Add(name, RegularFile | Permissions, contents, 0, 0);

    /// <summary>Adds a character device.</summary>
    public void AddDevice(string name, uint major, uint minor) => Add(name, CharacterDevice | Permissions, [], major, minor);

    /// <summary>Ends the archive.</summary>
    /// <returns>All of it.</returns>
    public byte[] Finish()
    {
        Add("TRAILER!!!", 0, [], 0, 0);
        return [.. _bytes];
    }

    private void Add(string name, uint mode, ReadOnlySpan<byte> contents, uint deviceMajor, uint deviceMinor)
    {
        byte[] nameBytes = [.. Encoding.UTF8.GetBytes(name), 0];
        uint[] numbers =
        [
            ++_number, mode, 0, 0, 1, 0, (uint)contents.Length, 0, 0, deviceMajor, deviceMinor, (uint)nameBytes.Length, 0,
        ];
        var header = new StringBuilder("070701");
        foreach (uint number in numbers)
        {
            header.Append(CultureInfo.InvariantCulture, $"{number:X8}");
        }

        _bytes.AddRange(Encoding.ASCII.GetBytes(header.ToString()));
        _bytes.AddRange(nameBytes);
        Pad();
        _bytes.AddRange(contents);
        Pad();
    }

    private void Pad()
    {
        while (_bytes.Count % Alignment != 0)
        {
            _bytes.Add(0);
        }
    }
}
