// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The request loop of a CPU: run the guest's vCPU, take its call, answer it, run it again. A CPU without such a vCPU halts: the host
// wakes it when the guest has made one by CREATE_VCPU, has the host run it, and it calls. An event for this CPU (Snp/Doorbell.cs) ends both.
//
// A call exists only if the guest left by VMGEXIT (GUEST_EXITCODE 0x403) and its calling area says pending = 1; the byte is
// cleared when the call is taken. Whatever else brings the loop back (an interrupt, the host's whim) is answered by running the
// guest again: the host can make that happen as often as it likes, and gains nothing but its own time.
//
// The registers of the call are read from the VMSA once. The guest cannot change them meanwhile: it does not run (VmsaGate.cs),
// and its VMPL has no rights on the page. VMSA and calling area are mapped only while the loop holds the lock of the vCPU's record.

using System.Diagnostics.CodeAnalysis;
using System.Threading;
using Svsm.Kernel.Arch;
using Svsm.Kernel.Diagnostics;
using Svsm.Kernel.Guest;
using Svsm.Kernel.Locks;
using Svsm.Kernel.Memory;
using Svsm.Kernel.Snp;
using Svsm.Kernel.Tasks;
using Svsm.Platform;
using Svsm.Wire;

namespace Svsm.Kernel.Protocols;

/// <summary>Serves the guest.</summary>
internal static unsafe class RequestLoop
{
    private const ulong ExitVmgexit = 0x403;
    private const byte Pending = 1;

    /// <summary>Runs the current CPU's vCPU of the guest and answers its calls for as long as the VM exists.</summary>
    /// <param name="guest">VMPL of the guest.</param>
    [DoesNotReturn]
    public static void Run(Vmpl guest)
    {
        GuestContext context = new(GuestVcpus.All, (int)PerCpu.Current.Index, guest);
        ref GuestVcpu vcpu = ref context.Current;
        while (true)
        {
            vcpu.Lock.Acquire(LockRank.GuestVcpu);
            bool exists = vcpu.Exists;
            if (exists)
            {
                Serve(in context, ref vcpu);
            }

            vcpu.Lock.Release(LockRank.GuestVcpu);
            Scheduler.Yield();
            SelfCheck.Run();
            Panic.Join();
            if (!Scheduler.TryLeave(halt: !exists))
            {
                continue;
            }

            if (!exists)
            {
                Doorbell.Halt();
            }
            else if (!Host.TryRunVmpl(guest))
            {
                // The guest has not named its new VMSA to the host yet, or another vCPU has just deleted this one. The first VMSA
                // the SVSM has named itself.
                if (Volatile.Read(ref vcpu.IsFirst))
                {
                    Panic.Stop(TerminationReason.RunVmpl, "the host refused to run the guest's VMPL"u8);
                }

                Doorbell.Halt();
            }

            Scheduler.Return();
        }
    }

    private static void Serve(in GuestContext context, ref GuestVcpu vcpu)
    {
        SnpPlatform platform = default;
        using FrameMapping mapping = FrameMapping.Map(vcpu.Vmsa);

        // SAFETY: a mapped page, as large as the structure; a VMSA stays one while the record's lock is held.
        ref Vmsa vmsa = ref *(Vmsa*)mapping.Pointer;
        RmpResult closed = VmsaGate.Close(ref vmsa, vcpu.Vmsa, context.Vmpl, ref platform);
        if (closed is not (RmpResult.Success or RmpResult.FailInUse))
        {
            Panic.Stop(TerminationReason.RmpAdjust, "the guest's VMSA is none any more"u8, (ulong)closed);
        }

        if (closed == RmpResult.Success && Volatile.Read(ref vmsa.ExitCode) == ExitVmgexit && TryTakeCall(vcpu.CallingArea, ref platform))
        {
            Answer(in context, ref vmsa, ref platform);
        }

        VmsaGate.Open(ref vmsa);
    }

    // A calling area that the guest gave away has no call: the guest finds its call unhandled.
    private static bool TryTakeCall(PhysicalAddress callingArea, ref SnpPlatform platform)
    {
        GuestWindow area = platform.Map(callingArea);
        bool isPending = area.TryReadByte(CallingArea.CallPendingOffset, out byte pending) && pending == Pending && area.TryWriteByte(CallingArea.CallPendingOffset, 0);
        platform.Unmap(area);
        return isPending;
    }

    private static void Answer(in GuestContext context, ref Vmsa vmsa, ref SnpPlatform platform)
    {
        SvsmRequest request = new() { Selector = vmsa.Rax, Rcx = vmsa.Rcx, Rdx = vmsa.Rdx, R8 = vmsa.R8, R9 = vmsa.R9 };
        if (ProtocolTable.Dispatch(ref request, in context, KernelMemory.PageStates, ref platform, out SvsmResultCode result) == CallOutcome.HostViolation)
        {
            Panic.Stop(TerminationReason.PageStateViolation, "a page of the guest is not in the state that the SVSM gave it"u8, request.Rcx);
        }

        vmsa.Rax = (ulong)result;
        vmsa.Rcx = request.Rcx;
        vmsa.Rdx = request.Rdx;
        vmsa.R8 = request.R8;
        vmsa.R9 = request.R9;
    }
}
