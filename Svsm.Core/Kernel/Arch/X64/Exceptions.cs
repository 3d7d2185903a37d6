// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// What happens on an exception: an access to the guest's memory that may fault goes on as failed, #VC is handled, everything else is a panic.
// The kernel runs with interrupts off and causes no other. #HV gets here only when it comes on the stack of #HV (Doorbell.S).

using System.Runtime.InteropServices;
using Svsm.Kernel.Diagnostics;
using Svsm.Kernel.Snp;
using Svsm.Platform;
using Svsm.Wire;

namespace Svsm.Kernel.Arch;

/// <summary>The C# end of the exception stubs.</summary>
internal static unsafe class Exceptions
{
    [UnmanagedCallersOnly(EntryPoint = "svsm_exception")]
    private static void OnException(TrapFrame* frame)
    {
        // SAFETY: the entry code passes the frame that it made, which lives until this returns.
        if (Fixups.TryApply(ref *frame))
        {
            return;
        }

        if (frame->Vector == Vector.VmmCommunication)
        {
            VcHandler.Handle(ref *frame);
            return;
        }

        if (frame->Vector == Vector.Hypervisor)
        {
            Panic.Stop(TerminationReason.HvNested, "#HV on the stack of #HV: the host does not wait for the kernel"u8, in *frame);
        }

        bool stackOverflow = frame->Vector is Vector.DoubleFault or Vector.PageFault && KernelLayout.IsGuardPage(X64.ReadCr2());
        Panic.Stop(
            stackOverflow ? TerminationReason.StackOverflow : TerminationReason.UnexpectedException,
            stackOverflow ? "a stack ran into its guard page"u8 : "unexpected exception"u8,
            in *frame);
    }
}
