# SPDX-License-Identifier: MIT
# Copyright (c) The Svsm.Sdk contributors
#
# Where the processor enters the kernel: from the boot stub, and through the IDT.

        .include "Svsm.CoreLib.Macros.inc"

        .set    MSR_GHCB, 0xC0010130
        .set    CONFIGURATION_KERNEL_ROOT, 0xFFFFFF8040000038   # KernelAddressSpace.Configuration, ImageConfiguration.KernelRoot
        .set    RANDOM_TRIES, 64
        .set    MXCSR_RESET, 0x1F80
        .set    TERMINATE_RANDOM_NUMBERS, 0x100 | 5 << 12 | 0x04 << 16

# From the boot stub: rdi = C-bit mask, rsi = CPUID page (identity-mapped by the boot tables), rsp = top of the stack.
# Copies the CPUID page while it is reachable, leaves the boot tables for the kernel's own, and puts a random number behind the
# stack cookies before the first C#. The number is the processor's: a host that could choose it could overrun stack buffers unseen.
# The boot stub has checked that RDRAND exists.
        function svsm_kernel_entry
        mov     %rdi, %rbx
        lea     svsm_cpuid_page(%rip), %rdi
        mov     $512, %ecx
        rep movsq
        movabs  $CONFIGURATION_KERNEL_ROOT, %rax
        mov     (%rax), %rax
        or      %rbx, %rax
        mov     %rax, %cr3

        mov     $RANDOM_TRIES, %ecx
1:      rdrand  %rax
        jc      2f
        sub     $1, %ecx
        jnz     1b
        mov     $TERMINATE_RANDOM_NUMBERS, %eax
        xor     %edx, %edx
        mov     $MSR_GHCB, %ecx
        wrmsr
        vmgexit
3:      hlt
        jmp     3b
2:      mov     %rax, __security_cookie(%rip)

# MXCSR and the x87 control word are zero at launch, which would make every inexact result an exception.
        fninit
        pushq   $MXCSR_RESET
        ldmxcsr (%rsp)
        pop     %rax

        xor     %ebp, %ebp                      # ends stack traces
        mov     %rbx, %rdi
        call    svsm_kernel_main
        ud2
        end_function svsm_kernel_entry

# Stubs of vectors 0 to 31, 16 bytes each. All end in svsm_exception_common with a TrapFrame (TrapFrame.cs) on the stack.
        .macro  exception vector, pushes_error_code
        .p2align 4
        .if     \pushes_error_code == 0
        pushq   $0
        .endif
        pushq   $\vector
        jmp     svsm_exception_common
        .endm

        function svsm_exception_stubs
        .irp    vector, 0, 1, 2, 3, 4, 5, 6, 7
        exception \vector, 0
        .endr
        exception 8, 1
        exception 9, 0
        .irp    vector, 10, 11, 12, 13, 14
        exception \vector, 1
        .endr
        exception 15, 0
        exception 16, 0
        exception 17, 1
        .irp    vector, 18, 19, 20
        exception \vector, 0
        .endr
        exception 21, 1
        .irp    vector, 22, 23, 24, 25, 26, 27, 28
        exception \vector, 0
        .endr
        exception 29, 1
        exception 30, 1
        exception 31, 0
        end_function svsm_exception_stubs

# Compiled code uses xmm0 to xmm15 for copies: they are kept, together with the rest of what FXSAVE keeps.
        function svsm_exception_common
        push    %rax
        push    %rcx
        push    %rdx
        push    %rbx
        push    %rbp
        push    %rsi
        push    %rdi
        push    %r8
        push    %r9
        push    %r10
        push    %r11
        push    %r12
        push    %r13
        push    %r14
        push    %r15
        cld
        mov     %rsp, %rdi
        mov     %rsp, %rbx
        sub     $512, %rsp
        and     $-16, %rsp
        fxsave64 (%rsp)
        xor     %ebp, %ebp                      # a trace of the handler ends here; the interrupted code's is in the frame
        call    svsm_exception
        fxrstor64 (%rsp)
        mov     %rbx, %rsp
        pop     %r15
        pop     %r14
        pop     %r13
        pop     %r12
        pop     %r11
        pop     %r10
        pop     %r9
        pop     %r8
        pop     %rdi
        pop     %rsi
        pop     %rbp
        pop     %rbx
        pop     %rdx
        pop     %rcx
        pop     %rax
        add     $16, %rsp                       # vector and error code
        iretq
        end_function svsm_exception_common

# rdi = GDTR operand, rsi = code selector, rdx = data selector.
        function svsm_load_gdt
        lgdt    (%rdi)
        mov     %edx, %ds
        mov     %edx, %es
        mov     %edx, %ss
        pop     %rax
        push    %rsi
        push    %rax
        lretq
        end_function svsm_load_gdt

        function svsm_frame_pointer
        mov     %rbp, %rax
        ret
        end_function svsm_frame_pointer

# Addresses that C# cannot name.
        .macro  address_of function_name, symbol
        function \function_name
        lea     \symbol(%rip), %rax
        ret
        end_function \function_name
        .endm

        address_of svsm_exception_stubs_address, svsm_exception_stubs
        address_of svsm_cpuid_page_address, svsm_cpuid_page
        address_of svsm_text_start_address, svsm_text_start
        address_of svsm_text_end_address, svsm_text_end

        .bss
        .p2align 12
svsm_cpuid_page:
        .skip   4096
        .size   svsm_cpuid_page, . - svsm_cpuid_page

        .section .note.GNU-stack, "", @progbits
