// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System.Runtime.InteropServices;

namespace Svsm.Kernel.Arch;

/// <summary>What Entry.S leaves on the stack for an exception, lowest address first.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct TrapFrame
{
    /// <summary>General registers, in the order in which Entry.S pops them.</summary>
    public ulong R15, R14, R13, R12, R11, R10, R9, R8, Rdi, Rsi, Rbp, Rbx, Rdx, Rcx, Rax;

    /// <summary>Vector, 0 to 31.</summary>
    public ulong Vector;

    /// <summary>Error code, 0 for vectors without one.</summary>
    public ulong ErrorCode;

    /// <summary>Pushed by the processor.</summary>
    public ulong Rip, Cs, Rflags, Rsp, Ss;
}
