// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// What the hypervisor knows of VMPL2, moved from one machine to another while VMPL0 of both reads a register of a device that the test plays. The registers
// of VMPL2 and its private pages are the same on both anyway: it waits at the same instruction.

using Svsm.Platform;
using Svsm.Wire;

namespace Svsm.HypervisorProbe;

internal static unsafe partial class Probe
{
    private const ulong SourceDevice = 0xFEF0_4000;
    private const ulong TargetDevice = 0xFEF0_5000;
    private const uint DeviceValue = 0x1234_5678;
    private const uint MovedTimer = 0x48;

    // 0.2 s, in nanoseconds.
    private const ulong MovedTime = 200_000_000;

    private static void Move(bool isSource)
    {
        CreateRunning();
        ulong page = NewPage();
        s_lowerOperand = NewPrivatePage();
        Write(s_lowerOperand, 1);
        if (isSource)
        {
            Lower(17, page);
        }

        BeginDevice(GhcbExitCode.MmioRead, isSource ? SourceDevice : TargetDevice);
        Check(Call() == GhcbCompletion.Success && *Scratch == DeviceValue, "the test answers"u8);
        if (!isSource)
        {
            Check(Lower(18, page) == 0, "VMPL2 finds what it had elsewhere"u8);
        }
    }

    // VMPL2, there.
    private static void LeaveState()
    {
        RegisterGhcb();
        WriteApic(0x80F, 0x1FF);
        WriteApic(0x83E, 0xB);
        WriteApic(0x832, MovedTimer);
        *Shared(s_lowerAddress) = 0x1357;
        Check(ChangePageState(s_lowerOperand, PageStateOperation.Shared) == 0, "page state change to shared"u8);
        *Shared(s_lowerOperand) = 0x2468;
        WriteApic(0x838, MovedTime);
        *Shared(s_lowerAddress + 8) = X64.ReadTimeStampCounter();
    }

    // VMPL2, here: which of it is missing, 0 if nothing.
    private static ulong FindState()
    {
        if (*Shared(s_lowerAddress) != 0x1357 || *Shared(s_lowerOperand) != 0x2468)
        {
            return 1;
        }

        // It has registered its GHCB page there, and never here.
        ulong left = ReadApic(0x839);
        if (ReadApic(0x80F) != 0x1FF || ReadApic(0x832) != MovedTimer || left == 0 || left > MovedTime)
        {
            return 2;
        }

        if (X64.ReadTimeStampCounter() < *Shared(s_lowerAddress + 8))
        {
            return 3;
        }

        ulong before = Interrupts();
        WaitForInterrupt();
        return Interrupts() == before + 1 ? 0ul : 4;
    }
}
