// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// A file with the setup header of a Linux kernel, written from the boot protocol's document. It boots nothing.

using System;
using System.Buffers.Binary;
using System.Text;

namespace Svsm.Builder.Tests;

internal static class TestBzImage
{
    public const int SetupSectors = 3;

    public const int ProtectedModeOffset = (SetupSectors + 1) * 512;

    public const int ProtectedModeLength = 0x3010;

    /// <summary>Makes a file: protocol 2.15, loaded at 16 MiB, needs 8 MiB there.</summary>
    public static byte[] Create()
    {
        byte[] file = new byte[ProtectedModeOffset + ProtectedModeLength + 100];
        file.AsSpan(0, ProtectedModeOffset).Fill(0x11);
        file.AsSpan(0x1F1, 0x26C - 0x1F1).Clear();
        file[0x1F1] = SetupSectors;
        Set32(file, 0x1F4, ProtectedModeLength / 16);
        Set16(file, 0x1FE, 0xAA55);
        file[0x201] = 0x26C - 0x202;
        Encoding.ASCII.GetBytes("HdrS").CopyTo(file, 0x202);
        Set16(file, 0x206, 0x20F);
        file[0x211] = 1;
        Set32(file, 0x22C, 0x7FFF_FFFF);
        Set32(file, 0x230, 0x20_0000);
        file[0x234] = 1;
        Set16(file, 0x236, 0x7F);
        Set32(file, 0x238, 2047);
        BinaryPrimitives.WriteUInt64LittleEndian(file.AsSpan(0x258), 0x100_0000);
        Set32(file, 0x260, 0x80_0000);
        for (int i = 0; i < ProtectedModeLength; i++)
        {
            file[ProtectedModeOffset + i] = (byte)((i * 7) + (i >> 8));
        }

        // What follows is a signature, for example, and is no part of what is loaded.
        file.AsSpan(ProtectedModeOffset + ProtectedModeLength).Fill(0xEE);
        return file;
    }

    public static void Set16(byte[] file, int offset, ushort value) => BinaryPrimitives.WriteUInt16LittleEndian(file.AsSpan(offset), value);

    public static void Set32(byte[] file, int offset, uint value) => BinaryPrimitives.WriteUInt32LittleEndian(file.AsSpan(offset), value);
}
