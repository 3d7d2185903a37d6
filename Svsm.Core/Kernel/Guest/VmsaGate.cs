// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// When a VMSA may be run. EFER.SVME makes it runnable: clear while the SVSM reads or writes the page, set while the guest runs.
//
// The host runs each VMPL on a processor of its choice, so the SVSM may be back while the guest still runs elsewhere. That processor
// stores EFER, SVME included, when the guest exits. So a VMSA is closed only when, after SVME was cleared, it is not in use and SVME
// still is clear. Whether it is in use, RMPADJUST tells; to do so it makes the page what it is already.
//
// The page is the guest's, but for the first vCPU's, and the guest may have the host take it: every access can fail (GuestWindow.cs), and a
// page that was exchanged is not validated, so that it fails as well.
// Source: AMDESE linux-svsm src/protocols/core.rs (RMPADJUST of a VMSA that runs).

using Svsm.Kernel.Memory;
using Svsm.Wire;

namespace Svsm.Kernel.Guest;

/// <summary>Opens and closes a VMSA for VMRUN.</summary>
internal static class VmsaGate
{
    /// <summary>Offset of EFER in a VMSA.</summary>
    public const int EferOffset = 0xD0;

    /// <summary>EFER.SVME.</summary>
    public const ulong EferSvme = 1ul << 12;

    /// <summary>Lets the host run the VMSA.</summary>
    /// <param name="vmsa">The mapped page.</param>
    /// <returns>False: the page is gone.</returns>
    public static bool TryOpen(GuestWindow vmsa) => vmsa.TryOrUInt64(EferOffset, EferSvme);

    /// <summary>Keeps the host from running the VMSA.</summary>
    /// <param name="vmsa">The mapped page.</param>
    /// <param name="page">Its address.</param>
    /// <param name="vmpl">VMPL of the guest.</param>
    /// <param name="platform">The processor.</param>
    /// <returns>
    /// <see cref="RmpResult.FailInUse"/>: the guest runs now, the page is not to be touched. Other failures: the page is no VMSA of the SVSM any more.
    /// </returns>
    public static RmpResult Close<TPlatform>(GuestWindow vmsa, PhysicalAddress page, Vmpl vmpl, ref TPlatform platform)
        where TPlatform : IGuestPlatform
    {
        // Ends in the second round at the latest: a guest that has exited cannot be run again without SVME.
        while (true)
        {
            // Atomic, and ahead of what follows: a store that the processor delays would leave the host time to run the guest.
            if (!vmsa.TryAndUInt64(EferOffset, ~EferSvme))
            {
                return RmpResult.FailInput;
            }

            platform.Open(page, PageSize.Small);
            RmpResult result = platform.RmpAdjust(vmpl, RmpPermissions.GuestVmsa);
            platform.Close();
            if (result != RmpResult.Success)
            {
                return result;
            }

            if (!vmsa.TryReadUInt64(EferOffset, out ulong efer))
            {
                return RmpResult.FailInput;
            }

            if ((efer & EferSvme) == 0)
            {
                return RmpResult.Success;
            }
        }
    }
}
