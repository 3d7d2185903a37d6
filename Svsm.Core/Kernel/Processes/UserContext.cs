// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// What a process has in registers while it does not run, and the way to CPL 3 and back (User.S). Entering is a call that returns when the process
// needs the kernel: the reason is in the context then.

using System;
using System.Runtime;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Svsm.Kernel.Arch;
using Svsm.Platform;

namespace Svsm.Kernel.Processes;

/// <summary>Registers of a process. Known to User.S. Aligned to 64 bytes; the FPU state follows at <see cref="ExtendedOffset"/>.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct UserContext
{
    /// <summary><see cref="Vector"/> of a system call.</summary>
    public const ulong SystemCall = 0x100;

    /// <summary>Offset of the FPU state, as XSAVE or FXSAVE leave it.</summary>
    public const int ExtendedOffset = 256;

    private const int LegacyControlOffset = 0;
    private const int LegacyMxcsrOffset = 24;
    private const ushort InitialControl = 0x037F;
    private const uint InitialMxcsr = 0x1F80;

    // Interrupts off, as in the kernel: #HV does not ask.
    private const ulong InitialFlags = 0x2;

    /// <summary>General registers.</summary>
    public ulong Rax, Rcx, Rdx, Rbx, Rbp, Rsi, Rdi, R8, R9, R10, R11, R12, R13, R14, R15;

    /// <summary>Why the process was left: a vector, or <see cref="SystemCall"/>.</summary>
    public ulong Vector;

    /// <summary>Error code of the exception, 0 where there is none.</summary>
    public ulong ErrorCode;

    /// <summary>Next instruction.</summary>
    public ulong Rip;

    /// <summary>Flags.</summary>
    public ulong Rflags;

    /// <summary>Stack.</summary>
    public ulong Rsp;

    /// <summary>CR2 when the process was left.</summary>
    public ulong FaultAddress;

    /// <summary>Base of FS: thread-local data.</summary>
    public ulong FsBase;

    /// <summary>Flags that a process may have as it likes: CF, PF, AF, ZF, SF, TF not, DF, OF, RF not, AC, ID.</summary>
    public const ulong FlagsMask = 0x0024_0CD5;

    /// <summary>Sets up the first entry.</summary>
    /// <param name="context">All zero, with the FPU state behind it.</param>
    /// <param name="entry">First instruction.</param>
    /// <param name="stack">RSP.</param>
    public static void Initialize(UserContext* context, ulong entry, ulong stack)
    {
        context->Rip = entry;
        context->Rsp = stack;
        context->Rflags = InitialFlags;

        // SAFETY: the FPU state follows the registers. Its header says "initial state" with zeroes, but MXCSR is loaded in any case.
        byte* extended = (byte*)context + ExtendedOffset;
        *(ushort*)(extended + LegacyControlOffset) = InitialControl;
        *(uint*)(extended + LegacyMxcsrOffset) = InitialMxcsr;
    }

    /// <summary>The FPU state as FXSAVE leaves it.</summary>
    // SAFETY: it follows the registers.
    public static ReadOnlySpan<byte> LegacyState(UserContext* context) => new((byte*)context + ExtendedOffset, SignalFrame.ExtendedLength);

    /// <summary>Replaces it. XSAVE areas: the header says that x87 and SSE state are not initial.</summary>
    /// <param name="context">The context.</param>
    /// <param name="state">512 bytes; MXCSR has no bits that do not exist.</param>
    public static void SetLegacyState(UserContext* context, ReadOnlySpan<byte> state)
    {
        const ulong X87AndSse = 3;

        // SAFETY: it follows the registers, and the header, where there is one, follows it.
        byte* extended = (byte*)context + ExtendedOffset;
        state.Slice(0, SignalFrame.ExtendedLength).CopyTo(new Span<byte>(extended, SignalFrame.ExtendedLength));
        *(ulong*)(extended + SignalFrame.ExtendedLength) |= X87AndSse;
    }

    /// <summary>Runs the process until it needs the kernel. The caller holds the CPU, and has loaded the address space.</summary>
    /// <param name="context">The registers. <see cref="Rip"/> and <see cref="Rsp"/> are addresses of a process.</param>
    [RuntimeImport("*", "svsm_user_enter")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    public static extern void Enter(UserContext* context);

    /// <summary>Lets the current CPU run processes: SYSCALL and its registers.</summary>
    public static void PrepareCpu()
    {
        const uint Efer = 0xC000_0080;
        const uint Star = 0xC000_0081;
        const uint LongStar = 0xC000_0082;
        const uint FlagMask = 0xC000_0084;
        const ulong SystemCallEnable = 1;
        X64.WriteMsr(Star, (ulong)KernelLayout.CodeSelector << 32);
        X64.WriteMsr(LongStar, SystemCallEntry());

        // Everything but the bit that is always set: no trap, no AC (SMAP), strings go up.
        X64.WriteMsr(FlagMask, 0xFFFF_FFFD);
        X64.WriteMsr(Efer, X64.ReadMsr(Efer) | SystemCallEnable);
    }

    [RuntimeImport("*", "svsm_system_call_address")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern ulong SystemCallEntry();
}
