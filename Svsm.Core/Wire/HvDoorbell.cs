// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The #HV doorbell page: how the host tells a VMPL with restricted injection what happened. The only event that it can inject there is #HV,
// which says "look at the page". For the kernel (reads) and the hypervisor (writes).
//
// The page is shared, and both sides change it at any time: each field by one atomic instruction. A vector in it waits until it is taken
// (exchanged for 0); after a #HV there is no other until NoFurtherSignal is cleared.
// Source: coconut-svsm kernel/src/sev/hv_doorbell.rs and kernel/src/protocols/apic.rs; KVM patches "SEV-SNP restricted injection".

using System;
using System.Runtime.InteropServices;

namespace Svsm.Wire;

/// <summary>SW_EXITINFO1 of <see cref="GhcbExitCode.HvDoorbellPage"/>. The GPA is in SW_EXITINFO2, and in that of the answer.</summary>
public enum HvDoorbellOperation : ulong
{
    /// <summary>Which page the host would like; all ones: any.</summary>
    GetPreferred = 0,

    /// <summary>Use this page.</summary>
    Set = 1,

    /// <summary>Which page is used; all ones: none.</summary>
    Query = 2,

    /// <summary>Use none.</summary>
    Clear = 3,
}

/// <summary>Flags of a doorbell page.</summary>
[Flags]
public enum HvDoorbellFlags : byte
{
    /// <summary>No flag.</summary>
    None = 0,

    /// <summary>An NMI is pending.</summary>
    Nmi = 1 << 0,

    /// <summary>A machine check is pending.</summary>
    MachineCheck = 1 << 1,

    /// <summary>#HV was injected; there is no other until the guest clears this.</summary>
    NoFurtherSignal = 1 << 7,
}

/// <summary>A doorbell page. 4096 bytes.</summary>
[StructLayout(LayoutKind.Explicit, Size = 4096)]
public struct HvDoorbellPage
{
    /// <summary>In <see cref="NoEoiRequired"/>: the interrupt in service needs no EOI. Whoever finds it set clears it instead.</summary>
    public const byte NoEoi = 1 << 0;

    /// <summary>A pending interrupt, 0 = none.</summary>
    [FieldOffset(0x00)]
    public byte Vector;

    /// <summary>See <see cref="HvDoorbellFlags"/>.</summary>
    [FieldOffset(0x01)]
    public HvDoorbellFlags Flags;

    /// <summary>See <see cref="NoEoi"/>.</summary>
    [FieldOffset(0x02)]
    public byte NoEoiRequired;

    /// <summary>Bit n: VMPL n + 1 has an event pending, while a more privileged one runs.</summary>
    [FieldOffset(0x03)]
    public byte VmplEvents;

    /// <summary>The fields above at once.</summary>
    [FieldOffset(0x00)]
    public uint Events;
}
