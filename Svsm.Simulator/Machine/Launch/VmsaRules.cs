// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// What QEMU and KVM take from the VMSA of an IGVM file. They do not load the page: they read registers from it and build another
// one. So a field that they do not know, or a bit that they force, would give the guest another launch digest than the file
// promises; QEMU refuses the former, and this machine the latter as well.
//
// Source: QEMU target/i386/sev.c (check_vmsa), coconut-svsm tools/igvmmeasure (--check-kvm).

using System;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Svsm.Diagnostics;
using Svsm.Igvm;
using Svsm.Wire;

namespace Svsm.Simulator;

internal static class VmsaRules
{
    // KVM puts every launch VMSA at the last page below 2^48.
    public const ulong Gpa = 0xFFFF_FFFF_F000;

    // What the hypervisor can do. A host with several VMPLs offers the injection modes, which stock KVM does not.
    public const SevFeatures SupportedFeatures =
        SevFeatures.SnpActive | SevFeatures.RestrictedInjection | SevFeatures.DebugSwap | SevFeatures.PreventHostIbs |
        SevFeatures.BtbIsolation | SevFeatures.SmtProtection;

    private const ulong EferSvme = 0x1000;
    private const ulong Cr4Mce = 0x40;

    public static void Check(IgvmVpContext context)
    {
        string name = $"the VMSA of vCPU {context.VpIndex}";
        if (context.Gpa != Gpa)
        {
            throw SvsmDiagnostics.ImageRefused.Error($"{name} at GPA 0x{context.Gpa:X}", $"0x{Gpa:X}, where KVM puts it; build the image for flavour Qemu");
        }

        if (context.Data.Length != Unsafe.SizeOf<Vmsa>())
        {
            throw SvsmDiagnostics.ImageRefused.Error($"{name} with {context.Data.Length} bytes", $"{Unsafe.SizeOf<Vmsa>()}");
        }

        Vmsa vmsa = MemoryMarshal.Read<Vmsa>(context.Data.Span);
        CheckFields(name, in vmsa);
        CheckFeatures(name, vmsa.SevFeatures);
        CheckForced(name, in vmsa);
    }

    private static void CheckFields(string name, in Vmsa vmsa)
    {
        // Exactly the fields that QEMU copies; what is left over is what it refuses.
        var taken = new Vmsa
        {
            Es = vmsa.Es,
            Cs = vmsa.Cs,
            Ss = vmsa.Ss,
            Ds = vmsa.Ds,
            Fs = vmsa.Fs,
            Gs = vmsa.Gs,
            Gdtr = vmsa.Gdtr,
            Ldtr = vmsa.Ldtr,
            Idtr = vmsa.Idtr,
            Tr = vmsa.Tr,
            Efer = vmsa.Efer,
            Cr0 = vmsa.Cr0,
            Cr3 = vmsa.Cr3,
            Cr4 = vmsa.Cr4,
            Dr6 = vmsa.Dr6,
            Dr7 = vmsa.Dr7,
            Rflags = vmsa.Rflags,
            Rip = vmsa.Rip,
            Rsp = vmsa.Rsp,
            Rax = vmsa.Rax,
            Rcx = vmsa.Rcx,
            Rdx = vmsa.Rdx,
            Rbx = vmsa.Rbx,
            Rbp = vmsa.Rbp,
            Rsi = vmsa.Rsi,
            Rdi = vmsa.Rdi,
            R8 = vmsa.R8,
            R9 = vmsa.R9,
            R10 = vmsa.R10,
            R11 = vmsa.R11,
            R12 = vmsa.R12,
            R13 = vmsa.R13,
            R14 = vmsa.R14,
            R15 = vmsa.R15,
            Pat = vmsa.Pat,
            SevFeatures = vmsa.SevFeatures,
            Xcr0 = vmsa.Xcr0,
            Mxcsr = vmsa.Mxcsr,
            X87ControlWord = vmsa.X87ControlWord,
        };
        ReadOnlySpan<byte> seen = MemoryMarshal.AsBytes(new ReadOnlySpan<Vmsa>(in vmsa));
        ReadOnlySpan<byte> used = MemoryMarshal.AsBytes(new ReadOnlySpan<Vmsa>(in taken));
        int offset = seen.CommonPrefixLength(used);
        if (offset != seen.Length)
        {
            throw SvsmDiagnostics.ImageRefused.Error($"byte 0x{seen[offset]:X2} at offset 0x{offset:X} of {name}", "0, because QEMU does not take this field from a file");
        }
    }

    private static void CheckFeatures(string name, ulong features)
    {
        if ((features & (ulong)SevFeatures.SnpActive) == 0)
        {
            throw SvsmDiagnostics.ImageRefused.Error($"SEV_FEATURES 0x{features:X} in {name}", "bit 0 (SNP active) set");
        }

        ulong unsupported = features & ~(ulong)SupportedFeatures;
        if (unsupported != 0)
        {
            throw SvsmDiagnostics.ImageRefused.Error(
                $"SEV_FEATURES 0x{features:X} in {name}",
                $"a subset of 0x{(ulong)SupportedFeatures:X} ({SupportedFeatures}); 0x{unsupported:X} is too much");
        }
    }

    private static void CheckForced(string name, in Vmsa vmsa)
    {
        if ((vmsa.Efer & EferSvme) == 0)
        {
            throw SvsmDiagnostics.ImageRefused.Error($"EFER 0x{vmsa.Efer:X} in {name}", "bit 12 (SVME) set, because KVM sets it");
        }

        if (vmsa.Cr0 is not (0x30 or 0x31))
        {
            throw SvsmDiagnostics.ImageRefused.Error($"CR0 0x{vmsa.Cr0:X} in {name}", "0x31 (protected mode) or 0x30 (real mode), because KVM forces the other bits");
        }

        if ((vmsa.Cr4 & Cr4Mce) == 0)
        {
            throw SvsmDiagnostics.ImageRefused.Error($"CR4 0x{vmsa.Cr4:X} in {name}", "bit 6 (MCE) set, because KVM sets it");
        }

        if (vmsa.Dr7 is not (0 or 0x400))
        {
            throw SvsmDiagnostics.ImageRefused.Error($"DR7 0x{vmsa.Dr7:X} in {name}", "0 or 0x400");
        }
    }
}
