// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// What PVALIDATE and RMPADJUST answer, for every state of a page, operation and page size, at every VMPL; tried from inside, a fresh page for each row but
// those of the VMSA that runs.
//
// Not here: a page that is not assigned stops the run (scenarios ValidateUnassigned and AdjustUnassigned). Nobody is below VMPL3: what VMPL2 may do with
// VMPL3, VMPL3 tries with VMPL4.
//
// Sources:
//   A  AMD64 Architecture Programmer's Manual, volume 3, pages PVALIDATE and RMPADJUST
//   V  VeriSMo source/verismo/src/arch/rmp/access_s.rs: order of the checks
//   K  Linux arch/x86/include/asm/sev.h, KVM's #NPF handling for SEV-SNP: page sizes, who splits a 2-MiB entry
//   U  Linux arch/x86/coco/sev, EDK2 BaseMemEncryptSevLib: carry flag, FAIL_SIZEMISMATCH and what to do about it
//   I  kvm list, 2022-04, Brijesh Singh on snp_cleanup_vmsa; linux-svsm src/protocols/core.rs: FAIL_INUSE
//   M  EDK2 MpInitLib AmdSev.c: FAIL_PERMISSION for a target VMPL that is not below the caller's

using Svsm.Platform;
using Svsm.Wire;

namespace Svsm.HypervisorProbe;

/// <summary>State of the page that a row works on.</summary>
internal enum RowState
{
    /// <summary>Assigned by a 4-KiB entry, not validated.</summary>
    Assigned,

    /// <summary>Validated, 4-KiB entry.</summary>
    Valid,

    /// <summary>Assigned by a 2-MiB entry, not validated.</summary>
    LargeAssigned,

    /// <summary>Validated, 2-MiB entry.</summary>
    LargeValid,

    /// <summary>VMSA that does not run.</summary>
    Vmsa,

    /// <summary>VMSA that runs.</summary>
    RunningVmsa,
}

/// <summary>What a row does.</summary>
internal enum RowOperation
{
    /// <summary>PVALIDATE, validate.</summary>
    Validate,

    /// <summary>PVALIDATE, rescind.</summary>
    Rescind,

    /// <summary>RMPADJUST of the next VMPL, no rights.</summary>
    Revoke,

    /// <summary>RMPADJUST of the next VMPL, all rights.</summary>
    Grant,

    /// <summary>RMPADJUST of the caller's VMPL.</summary>
    AdjustOwn,

    /// <summary>RMPADJUST of VMPL 4.</summary>
    AdjustBeyond,
}

internal static unsafe partial class Probe
{
    private const uint Small = X64.PageSize4K;
    private const uint Large = X64.PageSize2M;
    private const ulong Ok = 0;
    private const ulong NoChange = 1ul << 8;
    private const ulong FailInUse = 3;
    private const ulong RaisedGp = (1ul << 63) | (VectorGp << 32);
    private const ulong RaisedVc = (1ul << 63) | (VectorVc << 32) | NotValidated;

    private const ulong RmpTableRamLength = 384ul << 20;
    private const ulong VmplCount = 4;

    private static ulong s_row;
    private static ulong s_runningVmsa;
    private static ulong s_nextLargeArea = RmpTableRamLength;

    private static void RmpTable()
    {
        s_runningVmsa = StartSecond(out _);

        // The lower ones have no rights to the pages.
        for (ulong vmpl = 0; vmpl < VmplCount; vmpl++)
        {
            if (vmpl != 0)
            {
                s_lowerVmpl = vmpl;
                CreateRunning();
            }

            for (uint size = Small; size <= Large; size++)
            {
                for (RowOperation operation = RowOperation.Validate; operation <= RowOperation.AdjustBeyond; operation++)
                {
                    for (RowState state = RowState.Assigned; state <= RowState.RunningVmsa; state++)
                    {
                        Row(state, operation, size, vmpl, Wanted(state, operation, size, vmpl));
                    }
                }
            }
        }

        Check(s_row == VmplCount * 2 * 6 * 6, "every combination"u8);

        // The host cannot take a VMSA that runs either.
        Check(ChangePageState(s_runningVmsa, PageStateOperation.Shared) != 0, "page state change of a VMSA that runs"u8);
        s_firstTurn = ulong.MaxValue;
    }

    // The outcome, by the first rule that holds.
    private static ulong Wanted(RowState state, RowOperation operation, uint size, ulong vmpl)
    {
        bool isValidate = operation == RowOperation.Validate;
        bool isValid = state is not (RowState.Assigned or RowState.LargeAssigned);
        bool isLarge = state is RowState.LargeAssigned or RowState.LargeValid;
        bool isAligned = size == Small || state is not (RowState.Vmsa or RowState.RunningVmsa);
        if (operation is RowOperation.Validate or RowOperation.Rescind)
        {
            return vmpl != 0 ? RaisedGp                                                                 // A
                : !isAligned ? FailInput                                                                // A: a VMSA is never 2-MiB aligned
                : state == RowState.RunningVmsa ? FailInUse                                             // I
                : size == Large && !isLarge ? FailSizeMismatch                                          // A V U
                : isValid == isValidate ? NoChange : Ok;                                                // A U; K: a 2-MiB entry is split first
        }

        bool isBeyond = operation == RowOperation.AdjustBeyond || (vmpl == VmplCount - 1 && operation != RowOperation.AdjustOwn);
        return isBeyond ? FailInput                                                                     // A V: before the page
            : operation == RowOperation.AdjustOwn ? FailPermission                                      // M V: before the page
            : !isAligned ? FailInput                                                                    // A
            : !isValid ? RaisedVc                                                                       // A V: before the size
            : state == RowState.RunningVmsa ? FailInUse                                                 // I
            : size == Large && !isLarge ? FailSizeMismatch                                              // A V
            : operation == RowOperation.Grant && vmpl != 0 ? FailPermission                             // A V: what it has not it cannot give
            : Ok;                                                                                       // A; K: a 2-MiB entry is split first
    }

    private static void Row(RowState state, RowOperation operation, uint size, ulong vmpl, ulong wanted)
    {
        s_row++;
        ulong page = MakeState(state, size);
        ulong rdx = operation switch
        {
            RowOperation.AdjustOwn => vmpl,
            RowOperation.AdjustBeyond => 4,
            _ => (vmpl + 1) | (operation == RowOperation.Grant ? (ulong)RmpPermissions.All : 0),
        };
        ulong outcome;
        if (vmpl == 0)
        {
            outcome = operation switch
            {
                RowOperation.Validate => TryValidate(page, size, validate: true),
                RowOperation.Rescind => TryValidate(page, size, validate: false),
                _ => TryAdjust(page, size, rdx),
            };
        }
        else
        {
            s_lowerOperand = size | (rdx << 32);
            outcome = Lower(operation == RowOperation.Validate ? 9u : operation == RowOperation.Rescind ? 10u : 11u, page);
        }

        if (outcome != wanted)
        {
            Text<Console>.Write("probe: row "u8);
            Text<Console>.WriteDecimal(s_row);
            Text<Console>.Write(": state "u8);
            Text<Console>.WriteDecimal((ulong)state);
            Text<Console>.Write(", operation "u8);
            Text<Console>.WriteDecimal((ulong)operation);
            Text<Console>.Write(size == Large ? ", 2 MiB, VMPL"u8 : ", 4 KiB, VMPL"u8);
            Text<Console>.WriteDecimal(vmpl);
            Text<Console>.Write(" got "u8);
            Text<Console>.WriteHex(outcome);
            Text<Console>.Write(" wanted "u8);
            Text<Console>.WriteHex(wanted);
            Text<Console>.WriteLine();
            Exit(1);
        }
    }

    private static ulong MakeState(RowState state, uint size)
    {
        switch (state)
        {
            case RowState.LargeAssigned:
            case RowState.LargeValid:
                ulong large = NewLargeArea();
                Begin(GhcbExitCode.PageStateChange, 0, 0);
                ulong buffer = GhcbGpa + GhcbPage.SharedBufferOffset;
                *Shared(buffer) = 0;
                *Shared(buffer + 8) = large | ((ulong)PageStateOperation.Private << PageStateChangeBuffer.OperationShift) | PageStateChangeBuffer.Large;
                SetScratch(buffer);
                Check(Call() == GhcbCompletion.Success && Ghcb->SwExitInfo2 == 0, "page state change of 2 MiB"u8);
                if (state == RowState.LargeValid)
                {
                    Check(X64.PValidate(large, Large, true, out bool same) == Success && !same, "PVALIDATE of 2 MiB"u8);
                }

                return large;
            case RowState.RunningVmsa:
                return s_runningVmsa;
            case RowState.Vmsa:
                ulong vmsa = NewVmsaPage();
                Grant(vmsa, RmpPermissions.VmsaPage);
                return vmsa;
            default:
                // The size of the instruction counts for the address, too.
                ulong page = size == Large ? NewLargeArea() : NewPage();
                Check(ChangePageState(page, PageStateOperation.Private) == 0, "page state change to private"u8);
                if (state == RowState.Valid)
                {
                    Check(X64.PValidate(page, Small, true, out bool unchanged) == Success && !unchanged, "PVALIDATE"u8);
                }

                return page;
        }
    }

    // From the end of RAM downwards, so that small pages leave no gaps.
    private static ulong NewLargeArea() => s_nextLargeArea -= LargePage;

    private static ulong TryValidate(ulong address, uint size, bool validate)
    {
        Expect(skip: 4);
        ulong result = X64.PValidate(address, size, validate, out bool unchanged);
        return Outcome(result | (result == 0 && unchanged ? NoChange : 0));
    }

    private static ulong TryAdjust(ulong address, uint size, ulong rdx)
    {
        Expect(skip: 4);
        return Outcome(X64.RmpAdjust(address, size, rdx));
    }

    private static ulong Outcome(ulong result)
    {
        s_skip = 0;
        return s_count == 0 ? result : (1ul << 63) | (s_vector << 32) | s_error;
    }
}
