// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Restricted injection as a VMPL0 with that feature meets it: requests for the #HV doorbell page, what is shown there, what ends a HLT, and
// what takes the processor away from VMPL2.

using System.Threading;
using Svsm.Platform;
using Svsm.Wire;

namespace Svsm.HypervisorProbe;

internal static unsafe partial class Probe
{
    private const ulong AnyPage = ulong.MaxValue;
    private const ulong SelfNmi = (1 << 18) | (4 << 8);
    private const byte Ring = (byte)HvDoorbellFlags.NoFurtherSignal;

    private static ulong s_doorbellGpa;

    private static HvDoorbellPage* Doorbell => (HvDoorbellPage*)Shared(s_doorbellGpa);

    private static bool Ask(HvDoorbellOperation operation, ulong gpa, out ulong answer)
    {
        Begin(GhcbExitCode.HvDoorbellPage, (ulong)operation, gpa);
        bool done = Call() == GhcbCompletion.Success;
        answer = Ghcb->SwExitInfo2;
        return done;
    }

    private static bool Shows(byte vector, byte flags, byte noEoi, ulong rings) =>
        Doorbell->Vector == vector && (byte)Doorbell->Flags == flags && Doorbell->NoEoiRequired == noEoi && Volatile.Read(ref s_rings) == rings;

    private static void DoorbellPage()
    {
        s_doorbellGpa = NewPage();
        Doorbell->Events = 0;
        WriteApic(0x80F, 0x1FF);
        WriteApic(0x83F, 0x41);
        Check(Ask(HvDoorbellOperation.GetPreferred, 0, out ulong answer) && answer == AnyPage, "the host wants no doorbell page in particular"u8);
        Check(Ask(HvDoorbellOperation.Query, 0, out answer) && answer == AnyPage, "there is no doorbell page at first"u8);
        Check(!Ask(HvDoorbellOperation.Set, s_doorbellGpa + 8, out answer) && answer == (ulong)GhcbError.InvalidInput, "a doorbell page is aligned"u8);
        Check(!Ask(HvDoorbellOperation.Set, NewPrivatePage(), out _), "and shared"u8);
        Check(!Ask(HvDoorbellOperation.Set, 1ul << 40, out _), "and RAM"u8);
        Check(!Ask((HvDoorbellOperation)4, s_doorbellGpa, out _), "there are four operations"u8);
        Check(s_rings == 0, "without a page nothing is signalled"u8);
        Check(Ask(HvDoorbellOperation.Set, s_doorbellGpa, out answer) && answer == s_doorbellGpa, "set a doorbell page"u8);
        Check(Shows(0x41, Ring, 1, 1), "what was pending is shown, RFLAGS.IF or not"u8);
        Check(Ask(HvDoorbellOperation.Query, 0, out answer) && answer == s_doorbellGpa, "query it"u8);

        WriteApic(0x83F, 0x51);
        Check(Shows(0x41, Ring, 0, 1), "a vector waits until the last one was taken"u8);
        Doorbell->Vector = 0;
        X64.ReadMsr(SevMsr.SevStatus);
        Check(Shows(0x51, Ring, 0, 1), "there is no second signal, and no EOI is saved when more is in service"u8);
        Doorbell->Vector = 0;
        Doorbell->Flags = HvDoorbellFlags.None;
        WriteApic(0x80B, 0);
        Check(ReadApic(0x812) == 2, "the EOI of the higher one"u8);
        WriteApic(0x80B, 0);
        Check(ReadApic(0x812) == 0, "and of the lower one"u8);

        WriteApic(0x83F, 0x42);
        Check(Shows(0x42, Ring, 1, 2), "the next signal"u8);
        Doorbell->Events = 0;
        Check(ReadApic(0x812) == 0, "an EOI by way of the page"u8);
        WriteApic(0x830, SelfNmi);
        Check(Shows(0, (byte)(HvDoorbellFlags.Nmi | HvDoorbellFlags.NoFurtherSignal), 0, 3), "an NMI"u8);
        Doorbell->Events = 0;
        Begin(GhcbExitCode.HvIpi, (1 << 18) | 0x61, 0);
        Check(Call() == GhcbCompletion.Success && Shows(0x61, Ring, 1, 4), "an IPI by way of the GHCB page"u8);
        Begin(GhcbExitCode.HvIpi, 0x500, 0);
        Check(CallRefused(GhcbError.InvalidInput), "INIT is none"u8);
        Doorbell->Events = 0;

        WriteApic(0x83E, 0xB);
        WriteApic(0x832, 0x43);
        WriteApic(0x838, 1_000_000);
        GiveWay(Doorbell, 0);
        Check(Shows(0x43, Ring, 1, 5), "the timer ends a HLT with interrupts off"u8);
        Doorbell->Vector = 0;
        WriteApic(0x83F, 0x54);
        Check(Shows(0x54, Ring, 0, 5), "what comes before the flag is cleared is shown without a signal"u8);
        Doorbell->Events = 0;
        WriteApic(0x80B, 0);
        WriteApic(0x80B, 0);
        Check(Ask(HvDoorbellOperation.Clear, 0, out _) && Ask(HvDoorbellOperation.Query, 0, out answer) && answer == AnyPage, "clear the doorbell page"u8);
        WriteApic(0x83F, 0x45);
        Check(Doorbell->Events == 0 && s_rings == 5, "nothing is shown then"u8);
        Check(Ask(HvDoorbellOperation.Set, s_doorbellGpa, out _) && Shows(0x45, Ring, 1, 6), "until there is one again"u8);
        Doorbell->Events = 0;
    }

    // Runs VMPL2 until it left that way, with an event of VMPL0 that comes soon; each time later, for on a busy PC VMPL2 may not have come that far.
    private static void RunUntil(Vmsa* vmsa, ulong exitCode)
    {
        ulong soon = 1_000_000;
        do
        {
            Doorbell->Events = 0;
            WriteApic(0x838, soon);
            GiveWay(Doorbell, (Vmpl2 << 32) | GhcbMsr.RunVmplRequest);
            soon += soon / 2;
        }
        while (Volatile.Read(ref vmsa->ExitCode) != exitCode);
    }

    // The test has the machine tell VMPL0 something soon after VMPL0 has read a register of its device.
    private static void Notified()
    {
        s_doorbellGpa = NewPage();
        Doorbell->Events = 0;
        WriteApic(0x80F, 0x1FF);
        Check(Ask(HvDoorbellOperation.Set, s_doorbellGpa, out _), "set a doorbell page"u8);
        CreateLower(out Vmsa* vmsa);
        vmsa->Efer |= 1 << 12;
        Lower(0, 0);

        TakeWord(0, "while VMPL0 halts"u8);
        s_lowerTask = 12;
        TakeWord((Vmpl2 << 32) | GhcbMsr.RunVmplRequest, "while VMPL2 runs and never gives way"u8);
        s_firstTurn = 1;
        Lower(0, 0);
        s_lowerTask = 13;
        TakeWord((Vmpl2 << 32) | GhcbMsr.RunVmplRequest, "while VMPL2 halts"u8);
    }

    private static void TakeWord(ulong request, System.ReadOnlySpan<byte> when)
    {
        const byte Vector = 0xE2;
        BeginDevice(GhcbExitCode.MmioRead, SourceDevice);
        Check(Call() == GhcbCompletion.Success && *Scratch == DeviceValue, "the test answers"u8);
        GiveWay(Doorbell, request);
        Check(Doorbell->Vector == Vector, when);
        Doorbell->Events = 0;
        WriteApic(0x80B, 0);
    }

    private static void DoorbellVmpls()
    {
        CreateLower(out Vmsa* vmsa);
        vmsa->Efer |= 1 << 12;
        Lower(0, 0);

        // VMPL2 never gives way.
        s_lowerTask = 12;
        RunUntil(vmsa, 0x60);
        Check(Doorbell->Vector == 0x43, "an event of VMPL0 ends VMPL2's turn"u8);
        s_firstTurn = 1;
        Doorbell->Events = 0;
        Lower(0, 0);
        Check(vmsa->ExitCode == 0x403, "which goes on where it was"u8);

        // VMPL2 halts: it does so again after VMPL0 had the processor.
        s_lowerTask = 13;
        RunUntil(vmsa, 0x78);
        RunUntil(vmsa, 0x78);
        Check(Doorbell->Vector == 0x43, "an event of VMPL0 while VMPL2 halts"u8);
        Doorbell->Events = 0;

        // The other way round it waits, and VMPL0 can see so.
        WriteApic(0x832, 0x1_0043);
        ulong page = NewVmsaPage();
        vmsa = MakeLower(page);
        vmsa->Efer |= 1 << 12;
        Check(X64.RmpAdjust(page, X64.PageSize4K, Vmpl2 | (uint)(RmpPermissions.Read | RmpPermissions.VmsaPage)) == Success, "make a VMSA page"u8);
        Begin(GhcbExitCode.ApCreation, Vmpl2 << 16, page);
        SetRax((ulong)SevFeatures.SnpActive);
        Check(Call() == GhcbCompletion.Success, "AP creation"u8);
        Lower(0, 0);
        Lower(14, 0);
        ulong before = Interrupts();
        ulong rings = s_rings;
        while ((Volatile.Read(ref Doorbell->VmplEvents) & 2) == 0)
        {
        }

        Check(s_rings == rings && Interrupts() == before, "an event of VMPL2 waits while VMPL0 runs"u8);
        Check(Lower(15, 0) == before + 1, "and is taken when VMPL2 runs"u8);
    }
}
