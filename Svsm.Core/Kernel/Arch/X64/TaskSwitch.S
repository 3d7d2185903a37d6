# SPDX-License-Identifier: MIT
# Copyright (c) The Svsm.Sdk contributors
#
# From one task's stack to another's (Tasks/Scheduler.cs). What a called function has to keep is pushed: rbp, rbx, r12 to r15, and the control
# words of SSE and x87. The compiler expects nothing else to survive a call.

        .include "Svsm.CoreLib.Macros.inc"

# rdi = where rsp goes, rsi = the other task's rsp.
        function svsm_task_switch
        push    %rbp
        push    %rbx
        push    %r12
        push    %r13
        push    %r14
        push    %r15
        sub     $8, %rsp
        stmxcsr (%rsp)
        fnstcw  4(%rsp)
        mov     %rsp, (%rdi)
        mov     %rsi, %rsp
        ldmxcsr (%rsp)
        fldcw   4(%rsp)
        add     $8, %rsp
        pop     %r15
        pop     %r14
        pop     %r13
        pop     %r12
        pop     %rbx
        pop     %rbp
        ret
        end_function svsm_task_switch

# Where a new task begins; its stack is as after a call.
        function svsm_task_start
        sub     $8, %rsp
        xor     %ebp, %ebp                      # ends stack traces
        call    svsm_task_main
        ud2
        end_function svsm_task_start

        function svsm_task_start_address
        lea     svsm_task_start(%rip), %rax
        ret
        end_function svsm_task_start_address

        .section .note.GNU-stack, "", @progbits
