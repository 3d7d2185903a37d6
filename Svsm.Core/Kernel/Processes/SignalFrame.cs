// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Faults of a process as signals: what the .NET runtime makes NullReferenceException and DivideByZeroException of. The process has given a handler
// (rt_sigaction); the kernel puts the registers on its stack as Linux does, and goes on in the handler, which changes them there and comes back by
// rt_sigreturn. No other signals exist: nobody sends any. Free of hardware.
//
// What comes back is the process's own choice: registers are anything, RIP and RSP must be addresses of a process, of the flags only those are
// taken that a process may have.
//
//   rt_sigframe: return address (the restorer), ucontext (304 bytes), siginfo (128 bytes); above it the FPU state as FXSAVE leaves it.
//
// Source: Linux arch/x86/include/asm/sigframe.h, arch/x86/include/uapi/asm/sigcontext.h, include/uapi/asm-generic/ucontext.h and siginfo.h.

using System.Diagnostics.CodeAnalysis;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Svsm.Kernel.Processes;

/// <summary>Signals of faults.</summary>
internal enum Signal : uint
{
    /// <summary>None.</summary>
    None = 0,

    /// <summary>SIGILL.</summary>
    IllegalInstruction = 4,

    /// <summary>SIGTRAP.</summary>
    Trap = 5,

    /// <summary>SIGBUS.</summary>
    Bus = 7,

    /// <summary>SIGFPE.</summary>
    Arithmetic = 8,

    /// <summary>SIGSEGV.</summary>
    Segment = 11,
}

/// <summary>What a process wants done on a signal; <c>struct sigaction</c> of the kernel.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct SignalAction
{
    /// <summary>The handler is called with three arguments, and the restorer is set.</summary>
    public const ulong Restorer = 0x0400_0000;

    /// <summary>SIG_DFL and SIG_IGN, which end a process on a fault; above them a function.</summary>
    public const ulong LastNumber = 1;

    /// <summary>The function, or a number.</summary>
    public ulong Handler;

    /// <summary>Flags.</summary>
    public ulong Flags;

    /// <summary>Where the handler returns to: calls rt_sigreturn.</summary>
    public ulong ReturnAddress;

    /// <summary>Signals that are held back meanwhile; there are none.</summary>
    public ulong Mask;
}

/// <summary>The actions for signals of faults.</summary>
internal struct SignalActions
{
    /// <summary>Highest signal number.</summary>
    public const uint MaxSignal = 64;

    private const int Count = 12;

    [InlineArray(Count)]
    private struct Actions
    {
        private SignalAction _element0;
    }

    private Actions _actions;

    /// <summary>The action of a signal; those of signals that do not exist here are all one.</summary>
    /// <param name="signal">1 to <see cref="MaxSignal"/>.</param>
    [UnscopedRef]
    public ref SignalAction Of(uint signal) => ref _actions[signal < Count ? (int)signal : 0];
}

/// <summary>What is on the stack of a handler.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct SignalFrame
{
    /// <summary>Bytes of the FPU state that goes with it.</summary>
    public const int ExtendedLength = 512;

    /// <summary>Offset of MXCSR in the FPU state.</summary>
    public const int MxcsrOffset = 24;

    /// <summary>Bits of MXCSR that exist.</summary>
    public const uint MxcsrMask = 0xFFFF;

    private const ulong RedZone = 128;
    private const ulong UserCode = 0x33;
    private const ulong UserData = 0x2B;

    /// <summary>Return address of the handler.</summary>
    public ulong ReturnAddress;

    /// <summary>ucontext: flags, link, alternative stack.</summary>
    public fixed ulong Head[5];

    /// <summary>Registers.</summary>
    public ulong R8, R9, R10, R11, R12, R13, R14, R15, Rdi, Rsi, Rbp, Rbx, Rdx, Rax, Rcx, Rsp, Rip, Rflags;

    /// <summary>CS, GS, FS, SS.</summary>
    public ulong Segments;

    /// <summary>Error code of the exception.</summary>
    public ulong ErrorCode;

    /// <summary>Its vector.</summary>
    public ulong Vector;

    /// <summary>Zero.</summary>
    public ulong OldMask;

    /// <summary>CR2.</summary>
    public ulong FaultAddress;

    /// <summary>Address of the FPU state; 0: it stays as it is.</summary>
    public ulong Extended;

    /// <summary>Zero.</summary>
    public fixed ulong Reserved[8];

    /// <summary>Mask of signals.</summary>
    public ulong Mask;

    /// <summary>siginfo: signal and error number.</summary>
    public ulong Number;

    /// <summary>siginfo: code.</summary>
    public ulong Code;

    /// <summary>siginfo: address of the fault.</summary>
    public ulong Address;

    /// <summary>siginfo: the rest.</summary>
    public fixed ulong Rest[13];

    /// <summary>Makes the frame of a fault.</summary>
    /// <param name="context">The registers.</param>
    /// <param name="signal">The signal.</param>
    /// <param name="code">Its code: SEGV_MAPERR is 1, SEGV_ACCERR 2, FPE_INTDIV 1.</param>
    /// <param name="action">What to do.</param>
    /// <param name="frame">The frame.</param>
    /// <returns>Where it belongs: with the FPU state above it, at <see cref="Extended"/>.</returns>
    public static ulong Make(in UserContext context, Signal signal, uint code, in SignalAction action, out SignalFrame frame)
    {
        frame = default;
        ulong extended = (context.Rsp - RedZone - ExtendedLength) & ~63ul;
        frame.ReturnAddress = action.ReturnAddress;
        frame.R8 = context.R8;
        frame.R9 = context.R9;
        frame.R10 = context.R10;
        frame.R11 = context.R11;
        frame.R12 = context.R12;
        frame.R13 = context.R13;
        frame.R14 = context.R14;
        frame.R15 = context.R15;
        frame.Rdi = context.Rdi;
        frame.Rsi = context.Rsi;
        frame.Rbp = context.Rbp;
        frame.Rbx = context.Rbx;
        frame.Rdx = context.Rdx;
        frame.Rax = context.Rax;
        frame.Rcx = context.Rcx;
        frame.Rsp = context.Rsp;
        frame.Rip = context.Rip;
        frame.Rflags = context.Rflags;
        frame.Segments = UserCode | (UserData << 48);
        frame.ErrorCode = context.ErrorCode;
        frame.Vector = context.Vector;
        frame.FaultAddress = context.FaultAddress;
        frame.Extended = extended;
        frame.Number = (ulong)signal;
        frame.Code = code;
        frame.Address = context.Vector == Arch.Vector.PageFault ? context.FaultAddress : context.Rip;

        // As after a call of a function whose stack was aligned.
        return ((extended - (ulong)sizeof(SignalFrame)) & ~15ul) - sizeof(ulong);
    }

    /// <summary>Has the process go on in its handler.</summary>
    /// <param name="context">The registers.</param>
    /// <param name="signal">The signal.</param>
    /// <param name="action">What to do.</param>
    /// <param name="address">Where the frame is.</param>
    public static void Enter(ref UserContext context, Signal signal, in SignalAction action, ulong address)
    {
        context.Rip = action.Handler;
        context.Rsp = address;
        context.Rdi = (ulong)signal;
        context.Rsi = address + InfoOffset;
        context.Rdx = address + sizeof(ulong);
        context.Rax = 0;
        context.Rflags = 0x2;
    }

    /// <summary>Takes the registers of a frame over, as the process left them.</summary>
    /// <param name="context">Gets the registers.</param>
    public readonly void Restore(ref UserContext context)
    {
        context.R8 = R8;
        context.R9 = R9;
        context.R10 = R10;
        context.R11 = R11;
        context.R12 = R12;
        context.R13 = R13;
        context.R14 = R14;
        context.R15 = R15;
        context.Rdi = Rdi;
        context.Rsi = Rsi;
        context.Rbp = Rbp;
        context.Rbx = Rbx;
        context.Rdx = Rdx;
        context.Rax = Rax;
        context.Rcx = Rcx;
        context.Rsp = Rsp;
        context.Rip = Rip;
        context.Rflags = (Rflags & UserContext.FlagsMask) | 0x2;
    }

    private const ulong InfoOffset = 8 + 304;
}
