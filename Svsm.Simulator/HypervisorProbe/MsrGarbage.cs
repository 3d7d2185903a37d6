// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// RDMSR and WRMSR of every MSR, and of some that there are not, with garbage: by the instructions, so that the processor answers. What the host answers to
// such requests is the business of the probe guest (host-msrs).

using Svsm.Platform;

namespace Svsm.HypervisorProbe;

internal static unsafe partial class Probe
{
    private const uint MsrEfer = 0xC000_0080;
    private const uint MsrsPerRange = 0x2000;
    private const ulong MsrInstruction = 2;
    private const ulong MsrExit = 0x7C;

    // SYSENTER (3), PAT, EFER to SFMASK (5), FS, GS and KERNEL_GS base, TSC_AUX; GHCB, SEV_STATUS.
    private const ulong OwnMsrs = 15;

    private static ulong s_garbage = 0x9E37_79B9_7F4A_7C15;

    // But for EFER, which decides whether this goes on.
    private static void MsrGarbage()
    {
        ulong own = 0;
        uint* ranges = stackalloc uint[4] { 0, 0x4000_0000, 0xC000_0000, 0xC001_0000 };
        for (int range = 0; range < 4; range++)
        {
            for (uint msr = ranges[range]; msr < ranges[range] + MsrsPerRange; msr++)
            {
                Expect(MsrInstruction);
                X64.ReadMsr(msr);
                own += IsPassed() ? 1ul : 0;
                if (msr != MsrEfer)
                {
                    Expect(MsrInstruction);
                    X64.WriteMsr(msr, Garbage());
                    IsPassed();
                }
            }
        }

        Check(own == OwnMsrs, "how many MSRs are the guest's own"u8);
    }

    // One of these is the end.
    private static void EferGarbage()
    {
        for (int i = 0; i < 1000; i++)
        {
            X64.WriteMsr(MsrEfer, Garbage());
            Msr(Svsm.Wire.GhcbMsr.SevInfoRequest);
        }
    }

    // Nothing came of it; if anything did, it was an exception that belongs to it.
    private static bool IsPassed()
    {
        bool isPassed = s_count == 0;
        Check(isPassed || Got(VectorVc, MsrExit) || Got(VectorGp, 0), "an MSR passes, or raises #VC or #GP"u8);
        s_skip = 0;
        return isPassed;
    }

    private static ulong Garbage()
    {
        s_garbage = (s_garbage * 6364136223846793005) + 1442695040888963407;
        return s_garbage ^ (s_garbage >> 32);
    }
}
