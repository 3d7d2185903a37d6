# SPDX-License-Identifier: MIT
# Copyright (c) The Svsm.Sdk contributors
#
# Where the processor enters the kernel: from the boot stub, and through the IDT.

        .include "Svsm.CoreLib.Macros.inc"
        .include "Svsm.Platform.Exceptions.inc"

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

# From the VMSA of a further CPU (ProcessorVmsa.cs): rsp = top of its stack, on its page tables, interrupts off.
        function svsm_cpu_entry
        fninit
        xor     %ebp, %ebp                      # ends stack traces
        call    svsm_cpu_main
        ud2
        end_function svsm_cpu_entry

# svsm_exception(TrapFrame*), TrapFrame.cs.
        exception_entries svsm, svsm_user_exit

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
        address_of svsm_cpu_entry_address, svsm_cpu_entry
        address_of svsm_text_start_address, svsm_text_start
        address_of svsm_text_end_address, svsm_text_end
        address_of svsm_data_start_address, svsm_data_start
        address_of svsm_data_end_address, svsm_data_end
        address_of svsm_record_address, svsm_record

        .bss
        .p2align 12
svsm_cpuid_page:
        .skip   4096
        .size   svsm_cpuid_page, . - svsm_cpuid_page

# Svsm.Wire.KernelRecord, and the ring of 64 log entries behind it.
        .globl  svsm_record
        .type   svsm_record, @object
svsm_record:
        .skip   64 + (64 * 128)
        .size   svsm_record, . - svsm_record

        .section .note.GNU-stack, "", @progbits
