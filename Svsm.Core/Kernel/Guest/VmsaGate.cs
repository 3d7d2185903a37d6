// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// When a VMSA may be run. EFER.SVME makes it runnable: clear while the SVSM reads or writes the page, set while the guest runs.
//
// The host runs each VMPL on a processor of its choice, so the SVSM may be back while the guest still runs elsewhere. Then
// the processor has GUEST_EXITCODE = busy in the page, and stores EFER, SVME included, when the guest exits. So the gate is closed
// only when, after SVME was cleared, the page is not busy and SVME still is clear.
// Source: AMD64 Architecture Programmer's Manual, volume 2, 15.36 (VMSA of an SNP guest), appendix C (VMEXIT_BUSY).

using System.Threading;
using Svsm.Wire;

namespace Svsm.Kernel.Guest;

/// <summary>Opens and closes a VMSA for VMRUN.</summary>
internal static class VmsaGate
{
    private const ulong EferSvme = 1ul << 12;
    private const ulong ExitBusy = ulong.MaxValue - 1;

    /// <summary>Lets the host run the VMSA.</summary>
    public static void Open(ref Vmsa vmsa) => Interlocked.Or(ref vmsa.Efer, EferSvme);

    /// <summary>Keeps the host from running the VMSA.</summary>
    /// <returns>False: the guest runs now; the page is not to be touched.</returns>
    public static bool TryClose(ref Vmsa vmsa)
    {
        // Ends in the second round at the latest: a guest that has exited cannot be run again without SVME.
        do
        {
            // Atomic, and ahead of the reads below: a store that the processor delays would leave the host time to run the guest.
            Interlocked.And(ref vmsa.Efer, ~EferSvme);
            if (Volatile.Read(ref vmsa.ExitCode) == ExitBusy)
            {
                return false;
            }
        }
        while ((Volatile.Read(ref vmsa.Efer) & EferSvme) != 0);

        return true;
    }
}
