// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// What QEMU and KVM accept in a launch VMSA. They take the registers out of the file, and KVM builds the page that is measured from these
// registers; a field that is not among them, or that KVM forces, would be lost, so QEMU refuses it or the launch digest differs.
//
// Source: QEMU target/i386/sev.c (check_vmsa, sev_apply_cpu_context); KVM arch/x86/kvm/svm (init_vmcb and sev_es_sync_vmsa) for forced bits;
// coconut-svsm tools/igvmmeasure (--check-kvm).

using System;
using System.Collections.Generic;
using System.Globalization;
using Svsm.Wire;

namespace Svsm.Igvm.Imaging;

internal static class KvmVmsaRules
{
    private const ulong EferSvme = 0x1000;
    private const ulong Cr4Mce = 0x40;

    // Each string says what is seen and what is wanted; none when the host takes the VMSA as it is.
    public static IEnumerable<string> FindViolations(Vmsa vmsa)
    {
        if (FindUnsupportedByte(vmsa) is int offset)
        {
            yield return Text($"the launch VMSA has a byte that is not 0 at offset 0x{offset:X}, in a field that QEMU does not take over; wanted is 0");
        }

        if ((vmsa.Efer & EferSvme) == 0)
        {
            yield return Text($"EFER of the launch VMSA is 0x{vmsa.Efer:X}; wanted is bit 12 (SVME) set, as KVM sets it");
        }

        if (vmsa.Cr0 is not (0x30 or 0x31))
        {
            yield return Text($"CR0 of the launch VMSA is 0x{vmsa.Cr0:X}; wanted is 0x31 (protected mode) or 0x30 (real mode), as KVM sets it");
        }

        if ((vmsa.Cr4 & Cr4Mce) == 0)
        {
            yield return Text($"CR4 of the launch VMSA is 0x{vmsa.Cr4:X}; wanted is bit 6 (MCE) set, as KVM sets it");
        }

        if (vmsa.Dr7 is not (0 or 0x400))
        {
            yield return Text($"DR7 of the launch VMSA is 0x{vmsa.Dr7:X}; wanted is 0 or 0x400");
        }
    }

    private static int? FindUnsupportedByte(Vmsa vmsa)
    {
        vmsa.Es = default;
        vmsa.Cs = default;
        vmsa.Ss = default;
        vmsa.Ds = default;
        vmsa.Fs = default;
        vmsa.Gs = default;
        vmsa.Gdtr = default;
        vmsa.Idtr = default;
        vmsa.Ldtr = default;
        vmsa.Tr = default;
        vmsa.Efer = vmsa.Cr0 = vmsa.Cr3 = vmsa.Cr4 = vmsa.Xcr0 = vmsa.Dr6 = vmsa.Dr7 = 0;
        vmsa.Rax = vmsa.Rbx = vmsa.Rcx = vmsa.Rdx = vmsa.Rsi = vmsa.Rdi = vmsa.Rbp = vmsa.Rsp = 0;
        vmsa.R8 = vmsa.R9 = vmsa.R10 = vmsa.R11 = vmsa.R12 = vmsa.R13 = vmsa.R14 = vmsa.R15 = 0;
        vmsa.Rip = vmsa.Rflags = vmsa.Pat = vmsa.SevFeatures = 0;
        vmsa.X87ControlWord = 0;
        vmsa.Mxcsr = 0;
        int offset = VmsaPage.ToArray(in vmsa).AsSpan().IndexOfAnyExcept((byte)0);
        return offset < 0 ? null : offset;
    }

    private static string Text(FormattableString text) => text.ToString(CultureInfo.InvariantCulture);
}
