// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// SVSM_CORE_CREATE_VCPU and SVSM_CORE_DELETE_VCPU: a page of the guest becomes the VMSA of a vCPU, and an ordinary page again.
//
//   create   RCX = VMSA, RDX = calling area, R8 bits 31:0 = APIC id
//   delete   RCX = VMSA
//
// The guest writes the VMSA and gives it away; from then on it can read the page, and no more. The SVSM checks what a VMSA of the guest must not
// choose: its VMPL, the SEV features (the caller's), and EFER.SVME (set: the page is meant to run). Everything else in it is the guest's
// own affair. Whether the vCPU runs, and when, is settled between the guest and the host, which the guest tells of the VMSA itself.
//
// A CPU has one vCPU of the guest at a time. Creating another one for the same APIC id replaces it, as an operating system does that takes over
// from firmware: the new one is served, the old VMSA stays one until it is deleted. Its calling area becomes an ordinary page, or goes on
// being the one of the new vCPU.
//
// Codes, in the order of the checks:
//   INVALID_PARAMETER   an address not aligned to 4 KiB; VMSA = calling area; APIC id of the caller, or of no CPU
//   BUSY                that CPU is serving a call of its vCPU, or a page is in use by another call, or the guest is being stopped to be moved
//                       (GuestGate.cs): to be repeated
//   INVALID_PARAMETER   create: the calling area is another vCPU's. Delete: the VMSA is the caller's
//   INVALID_ADDRESS     create: a page is not the guest's memory, or is a VMSA or calling area. Delete: the page is no VMSA of the guest
//   INVALID_PARAMETER   create: the VMSA has another VMPL, other SEV features, or SVME clear
//   0x8000_1001         the processor refused the page: the host has taken it
//   0x8000_1003         delete: the vCPU runs at this moment
// When a call fails, pages and vCPUs are as they were; but a page that the host has taken is lost, and with its VMSA a vCPU ends.
//
// A vCPU that comes from another machine (GuestMove.cs) is put by the same checks: TryRestore.
// Source: coconut-svsm kernel/src/protocols/core.rs, AMDESE linux-svsm src/protocols/core.rs.

using System;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics.X86;
using System.Threading;
using Svsm.Kernel.Guest;
using Svsm.Kernel.Locks;
using Svsm.Kernel.Memory;
using Svsm.Wire;

namespace Svsm.Kernel.Protocols;

/// <summary>Creates and deletes vCPUs of the guest.</summary>
internal static class VcpuCalls
{
    /// <summary>Offset of the VMPL in a VMSA.</summary>
    public const int VmplOffset = 0xCA;

    /// <summary>Offset of SEV_FEATURES in a VMSA.</summary>
    public const int FeaturesOffset = 0x3B0;

    /// <summary>Creates a vCPU; see the head of this file.</summary>
    public static SvsmResultCode Create<TPlatform>(
        PhysicalAddress vmsa, PhysicalAddress callingArea, uint apicId, in GuestContext context, in PageStateTable table, ref TPlatform platform)
        where TPlatform : IGuestPlatform
    {
        bool isValid = vmsa.IsAlignedTo(PageSize.Small) && callingArea.IsAlignedTo(PageSize.Small) && vmsa.Value != callingArea.Value
            && apicId < (uint)context.Vcpus.Length && apicId != (uint)context.Index;
        if (!isValid)
        {
            return SvsmResultCode.InvalidParameter;
        }

        ref GuestVcpu vcpu = ref context.Vcpus[(int)apicId];
        if (!vcpu.Lock.TryAcquire(LockRank.GuestVcpu))
        {
            return SvsmResultCode.Busy;
        }

        // The guest writes the new VMSA as one that can run: whoever stops the guest has to know of it.
        SvsmResultCode result = GuestGate.IsOpen ? CreateLocked(vmsa, callingArea, ref vcpu, in context, table, ref platform) : SvsmResultCode.Busy;
        vcpu.Lock.Release(LockRank.GuestVcpu);
        return result;
    }

    /// <summary>Deletes a vCPU; see the head of this file.</summary>
    public static SvsmResultCode Delete<TPlatform>(PhysicalAddress vmsa, in GuestContext context, in PageStateTable table, ref TPlatform platform)
        where TPlatform : IGuestPlatform
    {
        if (!vmsa.IsAlignedTo(PageSize.Small))
        {
            return SvsmResultCode.InvalidParameter;
        }

        for (int i = 0; i < context.Vcpus.Length; i++)
        {
            ref GuestVcpu vcpu = ref context.Vcpus[i];
            if (!Volatile.Read(ref vcpu.Exists) || vcpu.Vmsa.Value != vmsa.Value)
            {
                continue;
            }

            if (i == context.Index)
            {
                return SvsmResultCode.InvalidParameter;
            }

            if (!vcpu.Lock.TryAcquire(LockRank.GuestVcpu))
            {
                return SvsmResultCode.Busy;
            }

            // It may have been replaced before the lock was taken. Then the guest's next try finds the page as what it is by then.
            bool isSame = vcpu.Exists && vcpu.Vmsa.Value == vmsa.Value;
            SvsmResultCode result = isSame ? DeleteLocked(ref vcpu, in context, table, ref platform) : SvsmResultCode.Busy;
            vcpu.Lock.Release(LockRank.GuestVcpu);
            return result;
        }

        // None of a CPU: replaced earlier, or no VMSA at all.
        return DeletePage(vmsa, in context, table, ref platform);
    }

    /// <summary>
    /// Puts a vCPU of another machine where there is none, closed and quiet. It differs from <see cref="Create"/> in that its VMSA comes with it, and that
    /// what is pending in its calling area stays. No vCPU of the guest has run here: no processor remembers a translation.
    /// </summary>
    /// <param name="head">Its pages. Vmsa 0, of vCPU 0 alone: <paramref name="first"/>.</param>
    /// <param name="contents">The VMSA, a page of private memory.</param>
    /// <param name="first">The frame of the SVSM that is the VMSA of the first vCPU.</param>
    /// <param name="features">SEV_FEATURES of the guest's vCPUs.</param>
    /// <param name="context">Which vCPU it becomes.</param>
    /// <param name="table">The page states.</param>
    /// <param name="platform">The processor.</param>
    /// <returns>False: it does not fit, or is there already. Nothing changed; but a page that the host has taken is lost.</returns>
    public static bool TryRestore<TPlatform>(
        in MoveVcpu head, ReadOnlySpan<byte> contents, PhysicalAddress first, SevFeatures features, in GuestContext context, in PageStateTable table,
        ref TPlatform platform)
        where TPlatform : IGuestPlatform
    {
        bool isFirst = head.Vmsa == 0;
        PhysicalAddress vmsa = isFirst ? first : new PhysicalAddress(head.Vmsa);
        PhysicalAddress area = new(head.CallingArea);

        // Closed before it is written, too: of a VMSA that was open for a moment the host could run.
        bool isValid = vmsa.IsAlignedTo(PageSize.Small) && area.IsAlignedTo(PageSize.Small) && (!isFirst || context.Index == 0)
            && contents[VmplOffset] == (byte)context.Vmpl
            && MemoryMarshal.Read<ulong>(contents.Slice(FeaturesOffset)) == (ulong)features
            && (MemoryMarshal.Read<ulong>(contents.Slice(VmsaGate.EferOffset)) & VmsaGate.EferSvme) == 0;
        ref GuestVcpu vcpu = ref context.Current;
        vcpu.Lock.Acquire(LockRank.GuestVcpu);

        // One that is a calling area already is another vCPU's.
        bool isRestored = isValid && !vcpu.Exists && GuestPages.ClaimCallingArea(table, area) == PageResult.Success;
        if (isRestored)
        {
            isRestored = isFirst ? TryWrite(vmsa, contents, ref platform) : TryPutVmsa(vmsa, contents, context.Vmpl, table, ref platform);
            if (isRestored)
            {
                Fill(ref vcpu, vmsa, area, features, isFirst);
                vcpu.IsQuiet = true;
            }
            else
            {
                _ = GuestPages.ReleaseCallingArea(table, area);
            }
        }

        vcpu.Lock.Release(LockRank.GuestVcpu);
        return isRestored;
    }

    /// <summary>Ends a vCPU whose VMSA the host has taken: the page is lost, its calling area an ordinary page of the guest again.</summary>
    /// <param name="vcpu">The vCPU, whose lock is held. Its VMSA is a page of the guest.</param>
    /// <param name="table">The page states.</param>
    public static void Lose(ref GuestVcpu vcpu, in PageStateTable table)
    {
        // Who else works on these pages holds the lock of the vCPU, too; but for a call that has its list in the calling area, which ends by itself.
        while (!TryMove(table, vcpu.Vmsa, PageState.Vmsa, PageState.Lost) || !TryMove(table, vcpu.CallingArea, PageState.CallingArea, PageState.Guest))
        {
            X86Base.Pause();
        }

        vcpu.Exists = false;
    }

    /// <summary>Makes a page that was taken from the guest (<see cref="GuestPages.Take"/>) a VMSA.</summary>
    /// <param name="vmsa">The page. It is Changing; afterwards no longer.</param>
    /// <param name="guest">VMPL of the guest.</param>
    /// <param name="table">The page states.</param>
    /// <param name="platform">The processor.</param>
    /// <returns>False: the page is lost.</returns>
    public static bool TryEndTaking<TPlatform>(PhysicalAddress vmsa, Vmpl guest, in PageStateTable table, ref TPlatform platform)
        where TPlatform : IGuestPlatform
    {
        platform.Open(vmsa, PageSize.Small);
        bool isVmsa = platform.RmpAdjust(guest, RmpPermissions.GuestVmsa) == RmpResult.Success;
        platform.Close();
        table.End(vmsa, PageSize.Small, isVmsa ? PageState.Vmsa : PageState.Lost);
        return isVmsa;
    }

    private static bool TryMove(in PageStateTable table, PhysicalAddress page, PageState from, PageState to)
    {
        PageResult result = table.Begin(page, PageSize.Small, from, to);
        if (result == PageResult.Success)
        {
            table.End(page, PageSize.Small, to);
        }

        return result != PageResult.Busy;
    }

    // The pages are held one after the other, or given up all: nothing is waited for in between.
    private static SvsmResultCode CreateLocked<TPlatform>(
        PhysicalAddress vmsa, PhysicalAddress callingArea, ref GuestVcpu vcpu, in GuestContext context, in PageStateTable table, ref TPlatform platform)
        where TPlatform : IGuestPlatform
    {
        bool keepsArea = vcpu.Exists && vcpu.CallingArea.Value == callingArea.Value;
        bool leavesArea = vcpu.Exists && !keepsArea;
        if (!keepsArea)
        {
            PageResult begun = table.Begin(callingArea, PageSize.Small, PageState.Guest, PageState.CallingArea);
            if (begun != PageResult.Success)
            {
                return begun == PageResult.NoChange ? SvsmResultCode.InvalidParameter : CoreProtocol.ToResultCode(begun);
            }
        }

        SvsmResultCode result = SvsmResultCode.Busy;
        bool holdsOld = leavesArea && table.Begin(vcpu.CallingArea, PageSize.Small, PageState.CallingArea, PageState.Guest) == PageResult.Success;
        if (holdsOld || !leavesArea)
        {
            result = TryClearPending(callingArea, ref platform) ? TakeVmsa(vmsa, in context, table, ref platform) : SvsmResultCode.InvalidAddress;
        }

        bool succeeded = result == SvsmResultCode.Success;
        if (!keepsArea)
        {
            table.End(callingArea, PageSize.Small, succeeded ? PageState.CallingArea : PageState.Guest);
        }

        if (holdsOld)
        {
            table.End(vcpu.CallingArea, PageSize.Small, succeeded ? PageState.Guest : PageState.CallingArea);
        }

        if (succeeded)
        {
            Fill(ref vcpu, vmsa, callingArea, context.Current.Features, isFirst: false);
            vcpu.IsQuiet = false;
        }

        return result;
    }

    private static void Fill(ref GuestVcpu vcpu, PhysicalAddress vmsa, PhysicalAddress callingArea, SevFeatures features, bool isFirst)
    {
        vcpu.Vmsa = vmsa;
        vcpu.CallingArea = callingArea;
        vcpu.Features = features;
        vcpu.IsFirst = isFirst;
        vcpu.Exists = true;
        vcpu.Generation++;
    }

    private static SvsmResultCode DeleteLocked<TPlatform>(ref GuestVcpu vcpu, in GuestContext context, in PageStateTable table, ref TPlatform platform)
        where TPlatform : IGuestPlatform
    {
        if (table.Begin(vcpu.CallingArea, PageSize.Small, PageState.CallingArea, PageState.Guest) != PageResult.Success)
        {
            return SvsmResultCode.Busy;
        }

        SvsmResultCode result = DeletePage(vcpu.Vmsa, in context, table, ref platform);
        bool ends = result is SvsmResultCode.Success or SvsmResultCode.PValidateFailInput;
        table.End(vcpu.CallingArea, PageSize.Small, ends ? PageState.Guest : PageState.CallingArea);
        vcpu.Exists = !ends;
        return result;
    }

    // No call is pending in a new area, whatever the guest left there.
    private static bool TryClearPending<TPlatform>(PhysicalAddress callingArea, ref TPlatform platform)
        where TPlatform : IGuestPlatform
    {
        GuestWindow window = platform.Map(callingArea);
        bool isCleared = window.TryWriteUInt64(CallingArea.CallPendingOffset, 0);
        platform.Unmap(window);
        return isCleared;
    }

    private static SvsmResultCode TakeVmsa<TPlatform>(PhysicalAddress vmsa, in GuestContext context, in PageStateTable table, ref TPlatform platform)
        where TPlatform : IGuestPlatform
    {
        PageResult taken = GuestPages.Take(table, ref platform, vmsa, context.Vmpl, PageState.Vmsa);
        if (taken != PageResult.Success)
        {
            // A VMSA already is no page to make one of.
            return taken == PageResult.NoChange ? SvsmResultCode.InvalidAddress : CoreProtocol.ToResultCode(taken);
        }

        // Checked only when no vCPU of the guest can write there any more, through an old translation neither.
        platform.FlushGuestTranslations();
        GuestWindow window = platform.Map(vmsa);
        bool isRead = window.TryReadByte(VmplOffset, out byte vmpl)
            & window.TryReadUInt64(VmsaGate.EferOffset, out ulong efer) & window.TryReadUInt64(FeaturesOffset, out ulong features);
        platform.Unmap(window);
        if (!isRead)
        {
            table.End(vmsa, PageSize.Small, PageState.Lost);
            return SvsmResultCode.PValidateFailInput;
        }

        if ((efer & VmsaGate.EferSvme) == 0 || vmpl != (byte)context.Vmpl || features != (ulong)context.Current.Features)
        {
            PageResult returned = GuestPages.GiveBack(table, ref platform, vmsa, context.Vmpl);
            return returned == PageResult.Success ? SvsmResultCode.InvalidParameter : CoreProtocol.ToResultCode(returned);
        }

        return TryEndTaking(vmsa, context.Vmpl, table, ref platform) ? SvsmResultCode.Success : SvsmResultCode.PValidateFailInput;
    }

    private static bool TryPutVmsa<TPlatform>(PhysicalAddress vmsa, ReadOnlySpan<byte> contents, Vmpl guest, in PageStateTable table, ref TPlatform platform)
        where TPlatform : IGuestPlatform
    {
        if (GuestPages.Take(table, ref platform, vmsa, guest, PageState.Vmsa) != PageResult.Success)
        {
            return false;
        }

        if (!TryWrite(vmsa, contents, ref platform))
        {
            table.End(vmsa, PageSize.Small, PageState.Lost);
            return false;
        }

        return TryEndTaking(vmsa, guest, table, ref platform);
    }

    private static bool TryWrite<TPlatform>(PhysicalAddress page, ReadOnlySpan<byte> contents, ref TPlatform platform)
        where TPlatform : IGuestPlatform
    {
        GuestWindow window = platform.Map(page);
        bool isWritten = window.TryWrite(0, contents);
        platform.Unmap(window);
        return isWritten;
    }

    private static SvsmResultCode DeletePage<TPlatform>(PhysicalAddress vmsa, in GuestContext context, in PageStateTable table, ref TPlatform platform)
        where TPlatform : IGuestPlatform
    {
        PageResult begun = table.Begin(vmsa, PageSize.Small, PageState.Vmsa, PageState.Guest);
        if (begun != PageResult.Success)
        {
            return begun == PageResult.NoChange ? SvsmResultCode.InvalidAddress : CoreProtocol.ToResultCode(begun);
        }

        // A VMSA that runs is not touched: to make it what it is already tells.
        platform.Open(vmsa, PageSize.Small);
        RmpResult closed = platform.RmpAdjust(context.Vmpl, RmpPermissions.GuestVmsa);
        platform.Close();
        if (closed == RmpResult.Success)
        {
            GuestWindow window = platform.Map(vmsa);
            closed = VmsaGate.Close(window, vmsa, context.Vmpl, ref platform);
            platform.Unmap(window);
        }

        switch (closed)
        {
            case RmpResult.Success:
                PageResult returned = GuestPages.GiveBack(table, ref platform, vmsa, context.Vmpl);
                return returned == PageResult.Success ? SvsmResultCode.Success : CoreProtocol.ToResultCode(returned);
            case RmpResult.FailInUse:
                table.End(vmsa, PageSize.Small, PageState.Vmsa);
                return SvsmResultCode.VmsaInUse;
            default:
                table.End(vmsa, PageSize.Small, PageState.Lost);
                return SvsmResultCode.PValidateFailInput;
        }
    }
}
