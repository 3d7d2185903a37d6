// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Restricted injection, the host's side: what the APIC of a VMPL has to deliver is shown in that VMPL's #HV doorbell page (Svsm.Core/Wire/
// HvDoorbell.cs), and #HV says that there is something.
//
//   Present   a vector is shown when the guest has taken the last one, and is in service from then on; #HV unless NoFurtherSignal is set
//   no EOI    offered for an edge-triggered interrupt while nothing else is pending or in service; withdrawn when something comes along, so
//             that the guest's EOI is seen. An offer that the guest took (the bit is clear) is an EOI
//   Note      an event for a less privileged VMPL sets its bit in the page of the one that runs, and waits
//
// A page that is not RAM, or private by now, shows nothing: the host can wait for ever, the guest had it so.
// Source: that a vector which is shown blocks the next one, and presenting is accepting: KVM patches "SEV-SNP restricted injection".
// The rule of no EOI is that of the paravirtual EOI of KVM and Hyper-V, whose name the field has.

using System;
using Svsm.Wire;

namespace Svsm.Hypervisor;

/// <summary>Doorbell pages.</summary>
internal static unsafe class Doorbell
{
    // SAFETY (whole type): a page is a whole one of shared memory, found anew each time.

    /// <summary>No page.</summary>
    public const ulong None = ulong.MaxValue;

    /// <summary>Registers the page of a VMPL.</summary>
    /// <returns>False when the address is not that of a shared page of RAM. The VMPL has none then.</returns>
    public static bool TrySet(GuestMemory memory, VmplContext context, ulong gpa)
    {
        GuestPage* page = (gpa & (Amd64.PageSize - 1)) == 0 ? memory.Find(gpa) : null;
        bool accepted = page != null && !page->Assigned;
        context.Doorbell = accepted ? gpa : None;
        return accepted;
    }

    /// <summary>Whether there is something for a VMPL that its page has room for.</summary>
    public static bool CanPresent(GuestMemory memory, VmplContext context)
    {
        LocalApic apic = context.Apic;
        HvDoorbellPage* page = apic.HasRequests ? Find(memory, context) : null;
        if (page == null)
        {
            return false;
        }

        SettleEnd(page, apic);
        return (apic.NmiPending && (page->Flags & HvDoorbellFlags.Nmi) == 0) || (apic.Pending >= 0 && page->Vector == 0);
    }

    /// <summary>Shows a VMPL what its APIC has to deliver, as far as there is room.</summary>
    /// <param name="memory">The guest's memory.</param>
    /// <param name="context">The VMPL.</param>
    /// <param name="canSignal">Whether #HV can be injected now. If it would have to be, and cannot, nothing is shown.</param>
    /// <returns>Whether to inject #HV.</returns>
    public static bool Present(GuestMemory memory, VmplContext context, bool canSignal)
    {
        HvDoorbellPage* page = Find(memory, context);
        if (page == null || ((page->Flags & HvDoorbellFlags.NoFurtherSignal) == 0 && !canSignal))
        {
            return false;
        }

        LocalApic apic = context.Apic;
        SettleEnd(page, apic);
        if (apic.EndsByDoorbell)
        {
            // Something else is pending: the end of what is in service must be seen.
            apic.EndsByDoorbell = false;
            page->NoEoiRequired &= unchecked((byte)~HvDoorbellPage.NoEoi);
        }

        bool shown = false;
        if (apic.NmiPending && (page->Flags & HvDoorbellFlags.Nmi) == 0)
        {
            apic.AcceptNmi(masked: false);
            page->Flags |= HvDoorbellFlags.Nmi;
            shown = true;
        }

        int vector = apic.Pending;
        if (vector >= 0 && page->Vector == 0)
        {
            bool alone = !apic.IsAnyInService;
            apic.Accept(vector);
            page->Vector = (byte)vector;
            shown = true;
            if (alone && !apic.HasRequests && !apic.IsLevel(vector))
            {
                apic.EndsByDoorbell = true;
                page->NoEoiRequired |= HvDoorbellPage.NoEoi;
            }
        }

        bool signal = shown && (page->Flags & HvDoorbellFlags.NoFurtherSignal) == 0;
        page->Flags |= signal ? HvDoorbellFlags.NoFurtherSignal : HvDoorbellFlags.None;
        return signal;
    }

    /// <summary>Tells the VMPL that runs of an event for a less privileged one.</summary>
    /// <param name="memory">The guest's memory.</param>
    /// <param name="context">The VMPL that runs.</param>
    /// <param name="vmpl">The VMPL that has the event; not 0.</param>
    public static void Note(GuestMemory memory, VmplContext context, int vmpl)
    {
        HvDoorbellPage* page = Find(memory, context);
        if (page != null)
        {
            page->VmplEvents |= (byte)(1 << (vmpl - 1));
        }
    }

    /// <summary>Takes note of an EOI that the guest gave by way of its page.</summary>
    public static void SettleEnd(GuestMemory memory, VmplContext context)
    {
        HvDoorbellPage* page = context.Apic.EndsByDoorbell ? Find(memory, context) : null;
        if (page != null)
        {
            SettleEnd(page, context.Apic);
        }
    }

    /// <summary>The page of a VMPL, or null.</summary>
    public static HvDoorbellPage* Find(GuestMemory memory, VmplContext context)
    {
        GuestPage* page = context.Doorbell == None ? null : memory.Find(context.Doorbell);
        return page == null || page->Assigned ? null : (HvDoorbellPage*)memory.SharedBytes(page);
    }

    private static void SettleEnd(HvDoorbellPage* page, LocalApic apic)
    {
        if (apic.EndsByDoorbell && (page->NoEoiRequired & HvDoorbellPage.NoEoi) == 0)
        {
            apic.EndsByDoorbell = false;

            // Edge-triggered: nobody else wants to know.
            apic.EndInterrupt();
        }
    }
}
