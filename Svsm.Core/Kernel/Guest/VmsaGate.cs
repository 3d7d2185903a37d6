// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// When a VMSA may be run. EFER.SVME makes it runnable: clear while the SVSM reads or writes the page, set while the guest runs.
//
// The host runs each VMPL on a processor of its choice, so the SVSM may be back while the guest still runs elsewhere. That processor
// stores EFER, SVME included, when the guest exits. So a VMSA is closed only when, after SVME was cleared, it is not in use and SVME
// still is clear. Whether it is in use, RMPADJUST tells; to do so it makes the page what it is already.
// Source: AMDESE linux-svsm src/protocols/core.rs (RMPADJUST of a VMSA that runs).

using System.Threading;
using Svsm.Kernel.Memory;
using Svsm.Wire;

namespace Svsm.Kernel.Guest;

/// <summary>Opens and closes a VMSA for VMRUN.</summary>
internal static class VmsaGate
{
    private const ulong EferSvme = 1ul << 12;

    /// <summary>Lets the host run the VMSA.</summary>
    public static void Open(ref Vmsa vmsa) => Interlocked.Or(ref vmsa.Efer, EferSvme);

    /// <summary>Keeps the host from running the VMSA.</summary>
    /// <param name="vmsa">The mapped page.</param>
    /// <param name="page">Its address.</param>
    /// <param name="vmpl">VMPL of the guest.</param>
    /// <param name="platform">The processor.</param>
    /// <returns>
    /// <see cref="RmpResult.FailInUse"/>: the guest runs now, the page is not to be touched. Other failures: the page is no VMSA of the SVSM any more.
    /// </returns>
    public static RmpResult Close<TPlatform>(ref Vmsa vmsa, PhysicalAddress page, Vmpl vmpl, ref TPlatform platform)
        where TPlatform : IGuestPlatform
    {
        RmpResult result;

        // Ends in the second round at the latest: a guest that has exited cannot be run again without SVME.
        do
        {
            // Atomic, and ahead of what follows: a store that the processor delays would leave the host time to run the guest.
            Interlocked.And(ref vmsa.Efer, ~EferSvme);
            platform.Open(page, PageSize.Small);
            result = platform.RmpAdjust(vmpl, RmpPermissions.GuestVmsa);
            platform.Close();
        }
        while (result == RmpResult.Success && (Volatile.Read(ref vmsa.Efer) & EferSvme) != 0);

        return result;
    }
}
