// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System.Diagnostics.CodeAnalysis;
using System.Runtime;
using System.Runtime.CompilerServices;

namespace System;

public static unsafe class Environment
{
    /// <summary>Stops the image: hands the text to its panic path (<c>svsm_fail_fast</c>), which does not return.</summary>
    [DoesNotReturn]
    public static void FailFast(string? message)
    {
        // SAFETY: a literal does not move, and the callee reads exactly its length.
        fixed (char* text = message)
        {
            PlatformFailFast(text, message is null ? 0 : message.Length);
        }
    }

    [DoesNotReturn]
    internal static void FailFast(ReadOnlySpan<char> message)
    {
        // SAFETY: as above; the span's memory outlives the call, which does not return.
        fixed (char* text = message)
        {
            PlatformFailFast(text, message.Length);
        }
    }

    [DoesNotReturn]
    [RuntimeImport("*", "svsm_fail_fast")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern void PlatformFailFast(char* text, int length);
}
