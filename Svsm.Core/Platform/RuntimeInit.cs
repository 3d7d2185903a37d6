// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using Internal.Runtime;

namespace Svsm.Platform;

/// <summary>What an image does once before its C# may use static fields that hold references.</summary>
/// <remarks>
/// Before it: a stack, CR0.EM clear, CR4.OSFXSR set (compiled code uses SSE2), <see cref="BootHeap.Initialize"/>.
/// An image also exports <c>svsm_fail_fast(char* text, int length)</c>: its panic path, which must not return.
/// </remarks>
public static class RuntimeInit
{
    /// <summary>Creates the objects that hold static fields with references.</summary>
    public static void Run() => GCStatics.Initialize();
}
