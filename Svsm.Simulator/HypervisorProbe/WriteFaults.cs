// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// A VMPL that writes where it may only read: VMPL0 learns of it, gives the right back, and the write happens. By an instruction, by the walk of page
// tables, by the delivery of an exception, and by the delivery of #VC, which the hypervisor does itself.

using Svsm.Platform;
using Svsm.Wire;

namespace Svsm.HypervisorProbe;

internal static unsafe partial class Probe
{
    // Present, write, RMP, encrypted, VMPL; the last access, or that of a walk, which is a user's.
    private const ulong WriteFault = 0x15_8000_0003;
    private const ulong WalkFault = 0x16_8000_0007;

    private static void WriteFaults()
    {
        CreateLower(out Vmsa* vmsa);
        ulong taskState = NewPrivatePage();
        ulong stack = NewPrivatePage();
        *(ulong*)(taskState + 0x24) = stack + PageSize;
        Grant(taskState, RmpPermissions.Read);
        vmsa->Tr.Base = taskState;
        vmsa->Efer |= 1 << 12;
        Lower(0, 0);

        ulong page = NewPrivatePage();
        Write(page, 0x7777);
        Grant(page, RmpPermissions.Read | RmpPermissions.Write);
        Check(Lower(1, page) == 0x7777, "VMPL2 reads"u8);
        Take(page);
        Check(Lower(1, page) == 0x7777 && vmsa->ExitCode == 0x403, "VMPL2 may still read"u8);
        Lower(2, page);
        Check(Told(vmsa, WriteFault, page) && vmsa->ExitIntInfo == 0, "a write is told"u8);
        Check(Read(page) == 0x7777, "and has not happened"u8);
        Again(vmsa, page);
        Check(Told(vmsa, WriteFault, page), "as long as VMPL0 does nothing"u8);
        GiveBack(vmsa, page);
        Check(Read(page) == 0x6666, "the write happens"u8);

        // Nobody who has got it back has an old translation.
        Write(page, 0x7777);
        Grant(page, RmpPermissions.Read);
        Grant(page, RmpPermissions.Read | RmpPermissions.Write);
        Lower(2, page);
        Check(vmsa->ExitCode == 0x403 && Read(page) == 0x6666, "a right that was given back without a flush"u8);

        Write(page, 0x7777);
        *(ulong*)WindowTable = page | CBit | 3;
        X64.InvalidatePage(Window);
        Take(WindowTable);
        Lower(1, Window);
        Check(Told(vmsa, WalkFault, WindowTable), "so is a walk that sets accessed bits"u8);
        Check((*(ulong*)WindowTable & AccessedBit) == 0, "and has not"u8);
        GiveBack(vmsa, WindowTable);
        Check(s_lowerResult == 0x7777 && (*(ulong*)WindowTable & AccessedBit) != 0, "the bits are set"u8);

        ulong* addresses = stackalloc ulong[7];
        Addresses(addresses);
        SetGate((int)VectorVc, addresses[0] + (VectorVc * 16), interruptStack: 1);
        GrantAndTake(stack);
        Lower(7, 0);
        Check(Told(vmsa, WriteFault, stack + PageSize - 8), "the frame of #VC is a write as well"u8);
        GiveBack(vmsa, stack);
        Check((s_lowerResult & 0x3F) == 47, "#VC is taken"u8);
        SetGate((int)VectorVc, addresses[0] + (VectorVc * 16), interruptStack: 0);

        SetGate((int)VectorUd, addresses[0] + (VectorUd * 16), interruptStack: 1);
        GrantAndTake(stack);
        Lower(16, 0);
        Check((vmsa->ExitIntInfo & 0x8000_07FF) == (0x8000_0300 | VectorUd), "an exception whose frame is the write is told"u8);
        Check(vmsa->ExitCode == 0x400 && vmsa->ExitInfo2 - stack < PageSize, "and where"u8);
        GiveBack(vmsa, stack);
        Check(s_lowerResult == 1, "and taken"u8);
        SetGate((int)VectorUd, addresses[0] + (VectorUd * 16), interruptStack: 0);
    }

    private static void Take(ulong gpa)
    {
        Grant(gpa, RmpPermissions.Read);
        FlushEverywhere(true);
    }

    private static void GrantAndTake(ulong gpa)
    {
        Grant(gpa, RmpPermissions.Read | RmpPermissions.Write);
        Take(gpa);
    }

    private static bool Told(Vmsa* vmsa, ulong error, ulong gpa) =>
        System.Threading.Volatile.Read(ref vmsa->ExitCode) == 0x400 && vmsa->ExitInfo1 == error && vmsa->ExitInfo2 == gpa;

    // VMPL2 goes on where it was.
    private static void Again(Vmsa* vmsa, ulong gpa) => Check(RunVmpl(Vmpl2) == 0 && vmsa->ExitInfo2 == gpa, "run VMPL2 again"u8);

    private static void GiveBack(Vmsa* vmsa, ulong gpa)
    {
        Grant(gpa, RmpPermissions.Read | RmpPermissions.Write);
        Check(RunVmpl(Vmpl2) == 0 && System.Threading.Volatile.Read(ref vmsa->ExitCode) == 0x403, "VMPL2 goes on"u8);
    }
}
