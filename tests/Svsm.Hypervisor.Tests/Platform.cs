// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// What the model takes from Svsm.Platform, which is freestanding: one structure.

using System.Runtime.InteropServices;

namespace Svsm.Platform;

/// <summary>What CPUID returned.</summary>
[StructLayout(LayoutKind.Sequential)]
public struct CpuidResult
{
    /// <summary>EAX.</summary>
    public uint Eax;

    /// <summary>EBX.</summary>
    public uint Ebx;

    /// <summary>ECX.</summary>
    public uint Ecx;

    /// <summary>EDX.</summary>
    public uint Edx;
}
