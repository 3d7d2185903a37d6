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
//
// A VMSA that is gone is the end of its vCPU: the CPU is without one until CREATE_VCPU gives it another. Gone is what faults or what RMPADJUST
// refuses; a page that the host puts in its place does both, since it is not validated. The first VMSA is the SVSM's own memory: without it the
// VM ends.
//
// While the guest is stopped to be moved (GuestGate.cs), a vCPU that has come back is served until it is quiet, and not run: its answer waits in its
// VMSA. A write to a page whose changes are noticed (DirtyPages.cs) is no call; the page is the guest's to write again. Which page, the processor has put
// into the VMSA.

using System;
using System.Diagnostics.CodeAnalysis;
using System.Runtime.InteropServices;
using System.Threading;
using Svsm.Kernel.Arch;
using Svsm.Kernel.Diagnostics;
using Svsm.Kernel.Guest;
using Svsm.Kernel.Locks;
using Svsm.Kernel.Memory;
using Svsm.Kernel.Modules;
using Svsm.Kernel.Snp;
using Svsm.Kernel.Tasks;
using Svsm.Platform;
using Svsm.Wire;

namespace Svsm.Kernel.Protocols;

/// <summary>Serves the guest.</summary>
internal static class RequestLoop
{
    private const ulong ExitVmgexit = 0x403;
    private const ulong ExitNestedPageFault = 0x400;
    private const byte Pending = 1;

    // Nanoseconds that a vCPU waits for a page at most, if its guest is paced: a tenth of a second.
    private const ulong LongestWait = 100_000_000;

    // In a VMSA.
    private const int RaxOffset = 0x1F8;
    private const int RegistersOffset = 0x308;
    private const int ExitInfo2Offset = 0x398;
    private const int ExitCodeOffset = 0x3C0;

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
            bool isClosed = true;
            if (GuestGate.Serves(in vcpu))
            {
                isClosed = !vcpu.Exists || Serve(in context, ref vcpu);
                vcpu.IsQuiet = isClosed && !GuestGate.IsOpen && ModuleService.TryFinish(context.Index);
            }

            bool runs = vcpu.Exists && !isClosed && GuestGate.IsOpen;
            vcpu.Lock.Release(LockRank.GuestVcpu);
            KernelRecords.NoteFrames();
            Scheduler.Yield();
            SelfCheck.Run();
            Panic.Join();
            if (!Scheduler.TryLeave(halt: !runs))
            {
                continue;
            }

            if (!runs)
            {
                // Looked at behind Leave: whoever opens the gate afterwards sees that this CPU is away.
                if (!GuestGate.IsOpen || !vcpu.Exists)
                {
                    Doorbell.Halt();
                }
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

    // Returns whether the VMSA is closed, and stays so: the guest is stopped.
    private static bool Serve(in GuestContext context, ref GuestVcpu vcpu)
    {
        SnpPlatform platform = default;
        GuestWindow vmsa = platform.Map(vcpu.Vmsa);
        RmpResult closed = VmsaGate.Close(vmsa, vcpu.Vmsa, context.Vmpl, ref platform);
        bool isThere = closed == RmpResult.FailInUse || (closed == RmpResult.Success && TryServe(vmsa, in context, ref vcpu, ref platform));
        bool opens = GuestGate.IsOpen;
        isThere = isThere && (!opens || VmsaGate.TryOpen(vmsa));
        platform.Unmap(vmsa);
        if (isThere)
        {
            return !opens && closed == RmpResult.Success;
        }

        if (vcpu.IsFirst)
        {
            Panic.Stop(TerminationReason.RmpAdjust, "the guest's VMSA is none any more"u8, (ulong)closed);
        }

        // A page of the guest: it may have told the host to take it.
        Log.Text("svsm: the host has taken the VMSA of vCPU "u8);
        Log.Decimal((ulong)context.Index);
        Log.End(default, LogLevel.Warning);
        VcpuCalls.Lose(ref vcpu, KernelMemory.PageStates);
        return true;
    }

    // Returns false when the VMSA is gone.
    private static bool TryServe(GuestWindow vmsa, in GuestContext context, ref GuestVcpu vcpu, ref SnpPlatform platform)
    {
        if (!vmsa.TryReadUInt64(ExitCodeOffset, out ulong exit))
        {
            return false;
        }

        if (exit == ExitNestedPageFault)
        {
            // Whether it could be given back or not, the guest tries again.
            bool isRead = vmsa.TryReadUInt64(ExitInfo2Offset, out ulong address);
            if (isRead && GuestGate.IsOpen)
            {
                GiveBack(ref vcpu, new PhysicalAddress(address), context.Vmpl, ref platform);
            }

            return isRead;
        }

        if (exit != ExitVmgexit || !TryTakeCall(vcpu.CallingArea, ref platform))
        {
            return true;
        }

        Registers registers = default;
        Span<byte> bytes = MemoryMarshal.AsBytes(new Span<Registers>(ref registers));
        if (!vmsa.TryReadUInt64(RaxOffset, out ulong selector) || !vmsa.TryRead(RegistersOffset, bytes))
        {
            return false;
        }

        SvsmRequest request = new() { Selector = selector, Rcx = registers.Rcx, Rdx = registers.Rdx, R8 = registers.R8, R9 = registers.R9 };
        SvsmResultCode result;
        if (ProtocolTable.TryFindModule(request.Protocol, out int module))
        {
            result = ModuleService.Handle(ref request, in context, module);
        }
        else if (ProtocolTable.Dispatch(ref request, in context, KernelMemory.PageStates, ref platform, out result) == CallOutcome.HostViolation)
        {
            Panic.Stop(TerminationReason.PageStateViolation, "a page of the guest is not in the state that the SVSM gave it"u8, request.Rcx);
        }

        KernelRecords.Count(request.Protocol, request.Call, result);
        registers.Rcx = request.Rcx;
        registers.Rdx = request.Rdx;
        registers.R8 = request.R8;
        registers.R9 = request.R9;
        return vmsa.TryWriteUInt64(RaxOffset, (ulong)result) && vmsa.TryWrite(RegistersOffset, bytes);
    }

    private static void GiveBack(ref GuestVcpu vcpu, PhysicalAddress address, Vmpl guest, ref SnpPlatform platform)
    {
        bool waits = vcpu.WaitsSince != 0;
        bool hasWaited = waits && KernelClock.Now - vcpu.WaitsSince > LongestWait;
        bool isLater = DirtyPages.GiveBack(KernelMemory.PageStates, ref platform, address, guest, hasWaited) == GiveBackResult.Later;
        vcpu.WaitsSince = !isLater ? 0 : waits ? vcpu.WaitsSince : KernelClock.Now;
    }

    // A calling area that the guest gave away has no call: the guest finds its call unhandled.
    private static bool TryTakeCall(PhysicalAddress callingArea, ref SnpPlatform platform)
    {
        GuestWindow area = platform.Map(callingArea);
        bool isPending = area.TryReadByte(CallingArea.CallPendingOffset, out byte pending) && pending == Pending && area.TryWriteByte(CallingArea.CallPendingOffset, 0);
        platform.Unmap(area);
        return isPending;
    }

    // The part of a VMSA from RCX to R9.
    [StructLayout(LayoutKind.Sequential)]
    private struct Registers
    {
        public ulong Rcx;
        public ulong Rdx;
        public ulong Rbx;
        public ulong Reserved;
        public ulong Rbp;
        public ulong Rsi;
        public ulong Rdi;
        public ulong R8;
        public ulong R9;
    }
}
