// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The end of the VM, for a reason: keys wiped, reason, registers and stack addresses on the console, termination request to the host.
//
//   svsm: stopped: <text> (reason 0x<TerminationReason>)
//   svsm: value 0x...                                         only where a number says more
//   svsm: vector 14 error 0x2 cr2 0x...                       only for exceptions, up to the registers
//   svsm: rip 0x... rsp 0x... rflags 0x...
//   svsm: rax 0x... rcx 0x... ...
//   svsm:   at 0xffffff80002012ab                             one line per frame, innermost first
//
// The general registers may hold a secret: their lines are for the log in memory, and for the console of an image that may be debugged.
// Host tools turn the addresses of "at" lines into names with the image's map file; docs/kernel.md has the format.
// The order matters: keys first, because the printing may fail. A panic while panicking only terminates.

using System;
using System.Diagnostics.CodeAnalysis;
using System.Runtime;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Threading;
using Svsm.Kernel.Arch;
using Svsm.Kernel.Snp;
using Svsm.Kernel.Tasks;
using Svsm.Platform;
using Svsm.Wire;

namespace Svsm.Kernel.Diagnostics;

/// <summary>Ends the VM.</summary>
internal static unsafe class Panic
{
    private const int MaxFrames = 32;
    private const int AddressDigits = 16;

    private static bool s_isEnding;

    /// <summary>Ends the VM if another CPU is doing so: a host that ignores the request must not be served on.</summary>
    public static void Join()
    {
        if (Volatile.Read(ref s_isEnding))
        {
            Host.Terminate(TerminationReason.OtherCpu);
        }
    }

    /// <summary>Ends the VM for a reason of the outside.</summary>
    /// <param name="reason">What the host gets to know.</param>
    /// <param name="text">What the console gets to know.</param>
    [DoesNotReturn]
    public static void Stop(TerminationReason reason, ReadOnlySpan<byte> text)
    {
        Begin(reason, text);
        EndHere(reason);
    }

    /// <summary>Ends the VM for a reason of the outside, with a number that matters.</summary>
    [DoesNotReturn]
    public static void Stop(TerminationReason reason, ReadOnlySpan<byte> text, ulong value)
    {
        Begin(reason, text);
        Log.Text("svsm: value "u8);
        Log.Hex(value);
        Log.End(default, LogLevel.Error);
        EndHere(reason);
    }

    /// <summary>Ends the VM for an exception.</summary>
    [DoesNotReturn]
    public static void Stop(TerminationReason reason, ReadOnlySpan<byte> text, in TrapFrame frame)
    {
        ulong faultAddress = X64.ReadCr2();
        Begin(reason, text);
        Log.Text("svsm: vector "u8);
        Log.Decimal(frame.Vector);
        Register(" error "u8, frame.ErrorCode, 1);
        Register(" cr2 "u8, faultAddress, 1);
        Log.End(default, LogLevel.Error);
        Register("svsm: rip "u8, frame.Rip, AddressDigits);
        Register(" rsp "u8, frame.Rsp, AddressDigits);
        Register(" rflags "u8, frame.Rflags, 1);
        Register(" cs "u8, frame.Cs, 1);
        Log.End(default, LogLevel.Error);
        Register("svsm: rax "u8, frame.Rax, 1);
        Register(" rcx "u8, frame.Rcx, 1);
        Register(" rdx "u8, frame.Rdx, 1);
        Register(" rbx "u8, frame.Rbx, 1);
        Register(" rbp "u8, frame.Rbp, 1);
        Register(" rsi "u8, frame.Rsi, 1);
        Register(" rdi "u8, frame.Rdi, 1);
        Log.End(default, LogLevel.Debug);
        Register("svsm: r8 "u8, frame.R8, 1);
        Register(" r9 "u8, frame.R9, 1);
        Register(" r10 "u8, frame.R10, 1);
        Register(" r11 "u8, frame.R11, 1);
        Register(" r12 "u8, frame.R12, 1);
        Register(" r13 "u8, frame.R13, 1);
        Register(" r14 "u8, frame.R14, 1);
        Register(" r15 "u8, frame.R15, 1);
        Log.End(default, LogLevel.Debug);
        At(frame.Rip);
        Trace(frame.Rbp);
        Host.Terminate(reason);
    }

    // A check of compiled code failed (bounds, overflow, an exception): the core library calls this.
    [RuntimeExport("svsm_fail_fast")]
    private static void FailFast(char* text, int length)
    {
        Begin(TerminationReason.Internal, "internal error"u8);
        Log.Text("svsm: "u8);

        // SAFETY: the core library passes the extent of the text.
        Log.Text(new ReadOnlySpan<char>(text, length));
        Log.End(default, LogLevel.Error);
        EndHere(TerminationReason.Internal);
    }

    private static void Begin(TerminationReason reason, ReadOnlySpan<byte> text)
    {
        ref PerCpu cpu = ref PerCpu.Current;
        if (cpu.Panics)
        {
            Host.Terminate(TerminationReason.NestedPanic);
        }

        cpu.Panics = true;
        Volatile.Write(ref s_isEnding, true);
        WipeKeys();
        Log.EndInterrupted();
        Log.Text("svsm: stopped: "u8);
        Log.Text(text);
        Register(" (reason "u8, (ulong)reason, 2);
        Log.End(")"u8, LogLevel.Error);
    }

    // Has a frame of its own, whatever is inlined around it: so the trace starts with the method that gave up.
    [DoesNotReturn]
    [MethodImpl(MethodImplOptions.NoInlining)]
    private static void EndHere(TerminationReason reason)
    {
        Trace(FramePointer());
        Host.Terminate(reason);
    }

    // SAFETY: the builder maps the secrets page there, writable.
    private static void WipeKeys()
    {
        ref SecretsPage secrets = ref *(SecretsPage*)KernelAddressSpace.Secrets;
        Wipe(ref secrets.Vmpck0);
        Wipe(ref secrets.Vmpck1);
        Wipe(ref secrets.Vmpck2);
        Wipe(ref secrets.Vmpck3);
    }

    private static void Wipe(ref Bytes32 key) => ((Span<byte>)key).Clear();

    // Compiled code keeps a chain of frames in RBP: saved RBP, return address. A broken chain must not break the panic: each frame
    // must lie above the last one, in the same stack, and return into the text.
    private static void Trace(ulong framePointer)
    {
        if (!KernelLayout.TryFindStack(framePointer, out ulong end) && !Scheduler.TryFindStack(framePointer, out end))
        {
            return;
        }

        for (int i = 0; i < MaxFrames && framePointer % sizeof(ulong) == 0 && framePointer <= end - (2 * sizeof(ulong)); i++)
        {
            // SAFETY: the two words were just found to lie in a mapped stack.
            ulong next = ((ulong*)framePointer)[0];
            ulong returnAddress = ((ulong*)framePointer)[1];
            if (!KernelText.TryRead(returnAddress, out _))
            {
                return;
            }

            At(returnAddress);
            if (next <= framePointer)
            {
                return;
            }

            framePointer = next;
        }
    }

    private static void At(ulong address)
    {
        Register("svsm:   at "u8, address, AddressDigits);
        Log.End(default, LogLevel.Error);
    }

    private static void Register(ReadOnlySpan<byte> name, ulong value, int digits)
    {
        Log.Text(name);
        Log.Hex(value, digits);
    }

    [RuntimeImport("*", "svsm_frame_pointer")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern ulong FramePointer();
}
