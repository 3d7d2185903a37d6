# SPDX-License-Identifier: MIT
# Copyright (c) The Svsm.Sdk contributors
#
# Instructions that C# has no word for, one function each; declared in X64.cs. System V convention: arguments rdi, rsi, rdx; result rax.
# Source of encodings and register use: AMD64 Architecture Programmer's Manual, volume 3.

        .include "Svsm.CoreLib.Macros.inc"

        function svsm_x64_cpuid
        push    %rbx
        mov     %rdx, %r8
        mov     %edi, %eax
        mov     %esi, %ecx
        cpuid
        mov     %eax, (%r8)
        mov     %ebx, 4(%r8)
        mov     %ecx, 8(%r8)
        mov     %edx, 12(%r8)
        pop     %rbx
        ret
        end_function svsm_x64_cpuid

        function svsm_x64_rdmsr
        mov     %edi, %ecx
        rdmsr
        shl     $32, %rdx
        or      %rdx, %rax
        ret
        end_function svsm_x64_rdmsr

        function svsm_x64_wrmsr
        mov     %edi, %ecx
        mov     %esi, %eax
        mov     %rsi, %rdx
        shr     $32, %rdx
        wrmsr
        ret
        end_function svsm_x64_wrmsr

        function svsm_x64_in8
        mov     %edi, %edx
        xor     %eax, %eax
        in      %dx, %al
        ret
        end_function svsm_x64_in8

        function svsm_x64_in16
        mov     %edi, %edx
        xor     %eax, %eax
        in      %dx, %ax
        ret
        end_function svsm_x64_in16

        function svsm_x64_in32
        mov     %edi, %edx
        in      %dx, %eax
        ret
        end_function svsm_x64_in32

        function svsm_x64_out8
        mov     %edi, %edx
        mov     %esi, %eax
        out     %al, %dx
        ret
        end_function svsm_x64_out8

        function svsm_x64_out16
        mov     %edi, %edx
        mov     %esi, %eax
        out     %ax, %dx
        ret
        end_function svsm_x64_out16

        function svsm_x64_out32
        mov     %edi, %edx
        mov     %esi, %eax
        out     %eax, %dx
        ret
        end_function svsm_x64_out32

        function svsm_x64_read_cr0
        mov     %cr0, %rax
        ret
        end_function svsm_x64_read_cr0

        function svsm_x64_write_cr0
        mov     %rdi, %cr0
        ret
        end_function svsm_x64_write_cr0

        function svsm_x64_read_cr2
        mov     %cr2, %rax
        ret
        end_function svsm_x64_read_cr2

        function svsm_x64_write_cr2
        mov     %rdi, %cr2
        ret
        end_function svsm_x64_write_cr2

        function svsm_x64_read_cr3
        mov     %cr3, %rax
        ret
        end_function svsm_x64_read_cr3

        function svsm_x64_write_cr3
        mov     %rdi, %cr3
        ret
        end_function svsm_x64_write_cr3

        function svsm_x64_read_cr4
        mov     %cr4, %rax
        ret
        end_function svsm_x64_read_cr4

        function svsm_x64_write_cr4
        mov     %rdi, %cr4
        ret
        end_function svsm_x64_write_cr4

        function svsm_x64_read_flags
        pushfq
        pop     %rax
        ret
        end_function svsm_x64_read_flags

        function svsm_x64_lgdt
        lgdt    (%rdi)
        ret
        end_function svsm_x64_lgdt

        function svsm_x64_lidt
        lidt    (%rdi)
        ret
        end_function svsm_x64_lidt

        function svsm_x64_ltr
        ltr     %di
        ret
        end_function svsm_x64_ltr

        function svsm_x64_invlpg
        invlpg  (%rdi)
        ret
        end_function svsm_x64_invlpg

# rdx is already the third argument.
        function svsm_x64_invlpgb
        mov     %rdi, %rax
        mov     %esi, %ecx
        invlpgb
        ret
        end_function svsm_x64_invlpgb

        function svsm_x64_tlbsync
        tlbsync
        ret
        end_function svsm_x64_tlbsync

        function svsm_x64_sti
        sti
        ret
        end_function svsm_x64_sti

        function svsm_x64_cli
        cli
        ret
        end_function svsm_x64_cli

        function svsm_x64_hlt
        hlt
        ret
        end_function svsm_x64_hlt

        function svsm_x64_pause
        pause
        ret
        end_function svsm_x64_pause

        function svsm_x64_sti_hlt
        sti
        hlt
        ret
        end_function svsm_x64_sti_hlt

        function svsm_x64_rdtsc
        rdtsc
        shl     $32, %rdx
        or      %rdx, %rax
        ret
        end_function svsm_x64_rdtsc

        function svsm_x64_rdtsc_ordered
        lfence
        rdtsc
        shl     $32, %rdx
        or      %rdx, %rax
        ret
        end_function svsm_x64_rdtsc_ordered

        function svsm_x64_rdrand
        rdrand  %rcx
        setc    %al
        movzbl  %al, %eax
        mov     %rcx, (%rdi)
        ret
        end_function svsm_x64_rdrand

        function svsm_x64_rdseed
        rdseed  %rcx
        setc    %al
        movzbl  %al, %eax
        mov     %rcx, (%rdi)
        ret
        end_function svsm_x64_rdseed

        function svsm_x64_wbinvd
        wbinvd
        ret
        end_function svsm_x64_wbinvd

        function svsm_x64_mfence
        mfence
        ret
        end_function svsm_x64_mfence

        function svsm_x64_vmgexit
        vmgexit
        ret
        end_function svsm_x64_vmgexit

# edx is already the third argument. Result: EAX in the low half, CF in bit 32.
        function svsm_x64_pvalidate
        mov     %rdi, %rax
        mov     %esi, %ecx
        pvalidate
        setc    %cl
        movzbl  %cl, %ecx
        mov     %eax, %eax
        shl     $32, %rcx
        or      %rcx, %rax
        ret
        end_function svsm_x64_pvalidate

# rdx is already the third argument. Result: EAX.
        function svsm_x64_rmpadjust
        mov     %rdi, %rax
        mov     %rsi, %rcx
        rmpadjust
        ret
        end_function svsm_x64_rmpadjust

        function svsm_x64_fxsave
        fxsave64 (%rdi)
        ret
        end_function svsm_x64_fxsave

        function svsm_x64_fxrstor
        fxrstor64 (%rdi)
        ret
        end_function svsm_x64_fxrstor

        .section .note.GNU-stack, "", @progbits
