// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The request loop of the boot vCPU: run the guest, take its call, answer it, run it again.
//
// A call exists only if the guest left by VMGEXIT (GUEST_EXITCODE 0x403) and its calling area says pending = 1; the byte is
// cleared when the call is taken. Whatever else brings the loop back (an interrupt, the host's whim) is answered by running the
// guest again: the host can make that happen as often as it likes, and gains nothing but its own time.
//
// The registers of the call are read from the VMSA once. The guest cannot change them meanwhile: it does not run (VmsaGate.cs),
// and its VMPL has no rights on the page.

using System.Diagnostics.CodeAnalysis;
using System.Threading;
using Svsm.Kernel.Arch;
using Svsm.Kernel.Diagnostics;
using Svsm.Kernel.Guest;
using Svsm.Kernel.Memory;
using Svsm.Kernel.Snp;
using Svsm.Wire;

namespace Svsm.Kernel.Protocols;

/// <summary>Serves the guest.</summary>
internal static unsafe class RequestLoop
{
    private const ulong ExitVmgexit = 0x403;
    private const byte Pending = 1;

    /// <summary>Runs the guest and answers its calls for as long as the VM exists.</summary>
    /// <param name="vmsaPage">The guest's VMSA.</param>
    [DoesNotReturn]
    public static void Run(PhysicalAddress vmsaPage)
    {
        ref GuestContext context = ref PerCpu.Current.Guest;
        SnpPlatform platform = default;

        // Both stay mapped: a VMSA page is the SVSM's own, a calling area cannot be rescinded.
        // SAFETY: the mapping of the VMSA is never ended.
        ref Vmsa vmsa = ref *(Vmsa*)AddressSpace.MapWindow(vmsaPage);
        PhysicalAddress mappedArea = context.CallingArea;
        GuestWindow area = platform.Map(mappedArea);
        while (true)
        {
            VmsaGate.Open(ref vmsa);
            Host.RunVmpl(context.Vmpl);
            RmpResult closed = VmsaGate.Close(ref vmsa, vmsaPage, context.Vmpl, ref platform);
            if (closed is not (RmpResult.Success or RmpResult.FailInUse))
            {
                Panic.Stop(TerminationReason.RmpAdjust, "the guest's VMSA is none any more"u8, (ulong)closed);
            }

            if (closed == RmpResult.FailInUse || Volatile.Read(ref vmsa.ExitCode) != ExitVmgexit || area.ReadByte(CallingArea.CallPendingOffset) != Pending)
            {
                continue;
            }

            area.WriteByte(CallingArea.CallPendingOffset, 0);
            SvsmRequest request = new() { Selector = vmsa.Rax, Rcx = vmsa.Rcx, Rdx = vmsa.Rdx, R8 = vmsa.R8, R9 = vmsa.R9 };
            if (ProtocolTable.Dispatch(ref request, ref context, KernelMemory.PageStates, ref platform, out SvsmResultCode result) == CallOutcome.HostViolation)
            {
                Panic.Stop(TerminationReason.PageStateViolation, "a page of the guest is not in the state that the SVSM gave it"u8, request.Rcx);
            }

            vmsa.Rax = (ulong)result;
            vmsa.Rcx = request.Rcx;
            vmsa.Rdx = request.Rdx;
            vmsa.R8 = request.R8;
            vmsa.R9 = request.R9;
            if (context.CallingArea.Value != mappedArea.Value)
            {
                platform.Unmap(area);
                mappedArea = context.CallingArea;
                area = platform.Map(mappedArea);
            }
        }
    }
}
