# SPDX-License-Identifier: MIT
# Copyright (c) The Svsm.Sdk contributors
#
# A task that loops, for TaskCheck.cs: fills all registers of the FPU and all general ones from a seed, loops until it is told to stop, and
# looks whether they are still there.

        .include "Svsm.CoreLib.Macros.inc"

        .set    FIRST_XMM, 0x100

        .macro  set_register register, number
        lea     \number(%rdi), \register
        .endm

        .macro  check_register register, number
        sub     %rdi, \register
        sub     $\number, \register
        or      \register, %rsi
        .endm

# rdi = seed below 2^62, rsi = byte that is not 0 when the loop is to end. Returns 0: nothing was lost.
        function svsm_check_registers
        push    %rbx
        push    %rbp
        push    %r12
        push    %r13
        push    %r14
        push    %r15
        sub     $40, %rsp
        stmxcsr (%rsp)
        fnstcw  4(%rsp)
        mov     %rdi, 8(%rsp)

        mov     %edi, %eax                      # rounding of SSE and x87: seed 1:0
        and     $3, %eax
        mov     %eax, %ecx
        shl     $13, %eax
        or      $0x1F80, %eax
        mov     %eax, 16(%rsp)
        ldmxcsr 16(%rsp)
        shl     $10, %ecx
        or      $0x037F, %ecx
        mov     %cx, 20(%rsp)
        fldcw   20(%rsp)
        fildq   8(%rsp)

        .irp    number, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
        lea     FIRST_XMM + \number(%rdi), %rax
        movq    %rax, %xmm\number
        punpcklqdq %xmm\number, %xmm\number
        .endr
        set_register %rax, 1
        set_register %rcx, 2
        set_register %rdx, 3
        set_register %rbx, 4
        set_register %rbp, 5
        set_register %r8, 6
        set_register %r9, 7
        set_register %r10, 8
        set_register %r11, 9
        set_register %r12, 10
        set_register %r13, 11
        set_register %r14, 12
        set_register %r15, 13
1:      cmpb    $0, (%rsi)
        je      1b

        xor     %esi, %esi
        check_register %rax, 1
        check_register %rcx, 2
        check_register %rdx, 3
        check_register %rbx, 4
        check_register %rbp, 5
        check_register %r8, 6
        check_register %r9, 7
        check_register %r10, 8
        check_register %r11, 9
        check_register %r12, 10
        check_register %r13, 11
        check_register %r14, 12
        check_register %r15, 13
        mov     8(%rsp), %rax
        check_register %rax, 0
        .irp    number, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
        movq    %xmm\number, %rax
        check_register %rax, FIRST_XMM + \number
        psrldq  $8, %xmm\number
        movq    %xmm\number, %rax
        check_register %rax, FIRST_XMM + \number
        .endr
        fistpq  24(%rsp)
        mov     24(%rsp), %rax
        check_register %rax, 0
        mov     16(%rsp), %eax
        stmxcsr 24(%rsp)
        xor     24(%rsp), %eax
        and     $0x6000, %eax
        or      %rax, %rsi
        movzwl  20(%rsp), %eax
        fnstcw  24(%rsp)
        movzwl  24(%rsp), %ecx
        xor     %ecx, %eax
        or      %rax, %rsi

        ldmxcsr (%rsp)
        fldcw   4(%rsp)
        mov     %rsi, %rax
        add     $40, %rsp
        pop     %r15
        pop     %r14
        pop     %r13
        pop     %r12
        pop     %rbp
        pop     %rbx
        ret
        end_function svsm_check_registers

        .section .note.GNU-stack, "", @progbits
