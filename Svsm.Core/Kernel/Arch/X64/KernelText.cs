// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Runtime;
using System.Runtime.CompilerServices;

namespace Svsm.Kernel.Arch;

/// <summary>The kernel's code, as bytes.</summary>
internal static unsafe class KernelText
{
    /// <summary>The bytes from an address to the end of the text.</summary>
    /// <param name="address">A virtual address. Untrusted.</param>
    /// <param name="code">The bytes; empty when the address is not in the text.</param>
    /// <returns>Whether the address is in the text.</returns>
    public static bool TryRead(ulong address, out ReadOnlySpan<byte> code)
    {
        ulong end = End();
        if (address < Start() || address >= end)
        {
            code = default;
            return false;
        }

        // SAFETY: the text is mapped from its start to its end for as long as the kernel runs.
        code = new ReadOnlySpan<byte>((void*)address, (int)(end - address));
        return true;
    }

    /// <summary>First byte of the text.</summary>
    [RuntimeImport("*", "svsm_text_start_address")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    public static extern ulong Start();

    /// <summary>First byte after the text.</summary>
    [RuntimeImport("*", "svsm_text_end_address")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    public static extern ulong End();
}
