// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// What an SVSM does with pages, and the flush that each step needs. The same program without one of them must not get through.
//
//   flush   after                                    by                          needed before
//   0       VMPL2 lost a page                        CR4.PGE                     VMPL0 writes it
//   1       VMPL2 lost a page, which was rescinded   INVLPGB, TLBSYNC            it is validated
//   2       a rescind                                INVLPG                      it is validated
//   3       a rescind, through a global mapping      INVLPGB by address, TLBSYNC it is validated
//   4       a rescind                                CR3                         it is validated
//   5       VMPL2 lost its rights                    TLBSYNC after an INVLPGB    it gets one again
//   6       VMPL2 lost a page                        CR4.PGE                     the page becomes a VMSA
//   7       VMPL2 of another vCPU lost a page        INVLPGB, TLBSYNC            VMPL0 reads it
//   8       VMPL2 of another vCPU may not write      INVLPGB, TLBSYNC            VMPL0 of the vCPU that took the right reads it

using Svsm.Platform;
using Svsm.Wire;

namespace Svsm.HypervisorProbe;

internal static unsafe partial class Probe
{
    private const ulong InvalidateAll = 0xC;                // of this address space identifier, global ones too
    private const ulong InvalidateAddress = 0xD;
    private const ulong Global = 1ul << 8;
    private const ulong Cr4PageGlobal = 1ul << 7;

    private static void Flushes(int omitted)
    {
        CreateRunning();
        ulong page = GrantedPage();
        Revoke(page);
        FlushHere(omitted != 0);
        Write(page, 1);

        page = GrantedPage();
        Revoke(page);
        Rescind(page);
        X64.InvalidatePage(page);
        FlushEverywhere(omitted != 1);
        Revalidate(page);
        Write(page, 1);

        page = NewPrivatePage();
        Rescind(page);
        if (omitted != 2)
        {
            X64.InvalidatePage(page + 0x123);
        }

        Revalidate(page);

        *(ulong*)WindowTable = page | CBit | Global | 3;
        X64.WriteCr4(X64.ReadCr4() | Cr4PageGlobal);
        Rescind(Window);
        X64.WriteCr3(X64.ReadCr3());
        Invlpgb((Window + PageSize) | InvalidateAddress, 1);
        Invlpgb(Window | InvalidateAddress & ~8ul, 0);
        if (omitted != 3)
        {
            Invlpgb((Window - PageSize) | InvalidateAddress, 1);
        }

        TlbSync();
        Revalidate(Window);
        *(ulong*)WindowTable = 0;
        X64.InvalidatePage(Window);

        Rescind(page);
        if (omitted != 4)
        {
            X64.WriteCr3(X64.ReadCr3());
        }

        Revalidate(page);

        page = GrantedPage();
        Revoke(page);
        Invlpgb(InvalidateAll, 0);
        if (omitted != 5)
        {
            TlbSync();
        }

        Grant(page, RmpPermissions.Read | RmpPermissions.Write);

        page = GrantedPage();
        Revoke(page);
        FlushHere(omitted != 6);
        Grant(page, RmpPermissions.VmsaPage);

        StartSecondAtVmpl2();
        page = GrantedPage();
        Revoke(page);
        FlushHere(true);
        FlushEverywhere(omitted != 7);
        Read(page);

        page = GrantedPage();
        Grant(page, RmpPermissions.Read);
        FlushHere(true);
        FlushEverywhere(omitted != 8);
        Read(page);
    }

    private static ulong GrantedPage()
    {
        ulong page = NewVmsaPage();
        Grant(page, RmpPermissions.Read | RmpPermissions.Write);
        Lower(1, page);
        return page;
    }

    private static void Revoke(ulong page) => Grant(page, RmpPermissions.None);

    private static void Rescind(ulong linear) =>
        Check(X64.PValidate(linear, X64.PageSize4K, false, out bool unchanged) == Success && !unchanged, "rescind"u8);

    private static void Revalidate(ulong linear) =>
        Check(X64.PValidate(linear, X64.PageSize4K, true, out bool unchanged) == Success && !unchanged, "validate again"u8);

    private static void FlushHere(bool really)
    {
        if (really)
        {
            ulong cr4 = X64.ReadCr4();
            X64.WriteCr4(cr4 ^ Cr4PageGlobal);
            X64.WriteCr4(cr4);
            Check(X64.ReadCr4() == cr4, "CR4"u8);
        }
    }

    private static void FlushEverywhere(bool really)
    {
        if (really)
        {
            Invlpgb(InvalidateAll, 0);
            TlbSync();
        }
    }

    private static void StartSecondAtVmpl2()
    {
        ulong* addresses = stackalloc ulong[7];
        Addresses(addresses);
        ulong page = NewVmsaPage();
        Vmsa* vmsa = MakeVmsa(page, (byte)Vmpl2, addresses[6]);
        vmsa->Efer |= 1 << 12;

        // Half of the lower VMPL's stack: the other half is in use on vCPU 0.
        vmsa->Rsp -= PageSize;
        Grant(page, RmpPermissions.VmsaPage);
        Begin(GhcbExitCode.ApCreation, 1 | (Vmpl2 << 16) | (1ul << 32), page);
        SetRax((ulong)SevFeatures.SnpActive);
        Check(Call() == GhcbCompletion.Success, "start vCPU 1 at VMPL2"u8);
        s_firstTurn = 1;
        while (System.Threading.Volatile.Read(ref s_secondTurn) != 1)
        {
            System.Runtime.Intrinsics.X86.X86Base.Pause();
        }
    }
}
