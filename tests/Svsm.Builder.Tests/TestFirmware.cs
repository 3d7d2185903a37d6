// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// A firmware file of the right form: four pages whose metadata say what those of OVMF say. The last 32 bytes hold the reset vector.

using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.Linq;

namespace Svsm.Builder.Tests;

/// <summary>Makes firmware files.</summary>
internal sealed class TestFirmware
{
    public const int Length = 0x4000;

    public const ulong Base = 0x1_0000_0000 - Length;

    private const int SevOffset = 0x100;
    private const int IgvmOffset = 0x400;

    public List<(uint Base, uint Length, uint Type)> Sev { get; } =
    [
        (0x80_0000, 0x9000, 1), (0x80_A000, 0x3000, 1), (0x80_D000, 0x1000, 2), (0x80_E000, 0x1000, 3), (0x80_F000, 0x1000, 4),
        (0x81_1000, 0x1F000, 1), (0x81_0000, 0x1000, 0x10),
    ];

    public List<(uint Base, uint Length, uint Type)> Igvm { get; } =
        [(0x81_2000, 0x1000, 0x100), (0, 0xC0, 0x101), (0xC0, 0x10, 0x102), (0x81_3000, 0x1000, 0x200)];

    /// <summary>Bytes at the reset vector, at most 16.</summary>
    public byte[] Code { get; init; } = [0xF4];

    public byte[] Create()
    {
        byte[] file = new byte[Length];
        file.AsSpan().Fill(0x5A);
        var entries = new List<(string Guid, byte[] Data)>();
        if (Sev.Count != 0)
        {
            List("ASEV"u8, Sev).CopyTo(file, SevOffset);
            entries.Add(("dc886566-984a-4798-a75e-5585a7bf67cc", U32(Length - SevOffset)));
        }

        if (Igvm.Count != 0)
        {
            List("IGVM"u8, Igvm).CopyTo(file, IgvmOffset);
            entries.Add(("784fa70e-3176-4677-8a20-04b68699e374", U32(Length - IgvmOffset)));
        }

        byte[] table = [.. entries.SelectMany(entry => (byte[])[.. entry.Data, .. Tail(entry.Data.Length + 18, entry.Guid)])];
        table = [.. table, .. Tail(table.Length + 18, "96b582de-1fb2-45f7-baea-a366c55a082d")];
        table.CopyTo(file, Length - 32 - table.Length);
        Code.CopyTo(file, Length - 16);
        return file;
    }

    private static byte[] List(ReadOnlySpan<byte> signature, List<(uint Base, uint Length, uint Type)> sections) =>
    [
        .. signature, .. U32(16 + (12 * sections.Count)), .. U32(1), .. U32(sections.Count),
        .. sections.SelectMany(section => (byte[])[.. U32((int)section.Base), .. U32((int)section.Length), .. U32((int)section.Type)]),
    ];

    private static byte[] Tail(int length, string guid) => [(byte)length, (byte)(length >> 8), .. new Guid(guid).ToByteArray()];

    private static byte[] U32(int value)
    {
        byte[] bytes = new byte[4];
        BinaryPrimitives.WriteInt32LittleEndian(bytes, value);
        return bytes;
    }
}
