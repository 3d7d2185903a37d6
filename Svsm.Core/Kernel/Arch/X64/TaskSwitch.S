# SPDX-License-Identifier: MIT
# Copyright (c) The Svsm.Sdk contributors
#
# From one task's stack to another's (Tasks/Scheduler.cs). What a called function has to keep is pushed; the compiler expects nothing else to survive
# a call.

        .include "Svsm.CoreLib.Macros.inc"
        .include "Svsm.Kernel.CalleeSaved.inc"

# rdi = where rsp goes, rsi = the other task's rsp.
        function svsm_task_switch
        save_callee_saved
        mov     %rsp, (%rdi)
        mov     %rsi, %rsp
        restore_callee_saved
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
