// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Runtime.InteropServices;
using Svsm.Wire;

namespace Svsm.Igvm.Imaging;

/// <summary>Turns a VM save area into its page and back.</summary>
public static class VmsaPage
{
    /// <summary>Bytes of the page.</summary>
    public const int ByteLength = 4096;

    /// <summary>The page of a save area.</summary>
    /// <param name="vmsa">The save area.</param>
    /// <returns>4096 bytes.</returns>
    public static byte[] ToArray(in Vmsa vmsa)
    {
        byte[] page = new byte[ByteLength];
        MemoryMarshal.Write(page, in vmsa);
        return page;
    }

    /// <summary>Reads a page.</summary>
    /// <param name="page">4096 bytes.</param>
    /// <returns>The save area.</returns>
    /// <exception cref="ArgumentException">The page has another length.</exception>
    public static Vmsa Read(ReadOnlySpan<byte> page)
    {
        if (page.Length != ByteLength)
        {
            throw new ArgumentException($"A VMSA has {ByteLength} bytes; {page.Length} were given.", nameof(page));
        }

        return MemoryMarshal.Read<Vmsa>(page);
    }
}
