# SPDX-License-Identifier: MIT
# Copyright (c) The Svsm.Sdk contributors
#
# #HV, and what it may come between. The host can inject #HV at any instruction, with or without a reason, also while one is being handled.
# So the handler does as little as can be done: it never looks at the doorbell page, calls nothing, and leaves the stack that is its own
# (IST 4) within a few instructions. What the events are is found out later, where the kernel is ready for it (Snp/Doorbell.cs).
#
#   anywhere                             PerCpu.Turn.HasEvents is set, and the code goes on: it looks at the flag before it gives the CPU away
#   between that look and giving away    (run_window, halt_window) the CPU is not given away
#   in a task that nothing holds         (Turn.Holds is 0, RSP in the task's stack) the task goes on in svsm_preempted, on its own stack
#   at the end of svsm_preempted         (resume_start) it begins anew: the registers of the task are still in its frame
#   while on IST 4                       the frame of the first #HV is overwritten: the VM ends. A host that keeps to the protocol has set
#                                        NoFurtherSignal then, and waits until the kernel clears it, which it does on other stacks only
#
# Whoever is on another stack than the task's (#VC, NMI, #DF, the request loop's) is not preempted; for the end of #VC see VcHandler.cs.
# CPL 3: the process is left, as by an exception (User.S). RSP is the process's own choice, also for the first instructions after
# SYSCALL: so neither is compared with the stack of #HV. Just before a process is entered (user_window) it is not entered.
#
# Source of the windows: coconut-svsm (the switch of VMPL is abandoned when #HV comes between the look and VMGEXIT).

        .include "Svsm.CoreLib.Macros.inc"

        .set    MSR_GHCB, 0xC0010130
        .set    VECTOR_HYPERVISOR, 28
        .set    NO_FURTHER_SIGNAL, 0x80

        .set    PER_CPU, 0xFFFFFF0000001000             # KernelLayout.PerCpuData
        .set    HV_STACK_BOTTOM, 0xFFFFFF000001E000     # KernelLayout.HvStackTop - ExceptionStackSize
        .set    HV_STACK_SIZE, 0x2000

        .set    HOLDS, 0                                # TurnState
        .set    HAS_EVENTS, 4
        .set    STACK_BOTTOM, 8
        .set    STACK_SIZE, 16

        .set    USER_CODE, 0x33

        .set    FRAME_RIP, 24                           # behind rdx, rcx, rax
        .set    FRAME_CS, 32
        .set    FRAME_RFLAGS, 40
        .set    FRAME_RSP, 48
        .set    FRAME_SS, 56

        .set    REGISTERS, 15 * 8
        .set    XSAVE_HEADER, 512

# If rax lies in a window, go on at the target. Changes rdx.
        .macro  leave_window start, end, target
        lea     \start(%rip), %rdx
        cmp     %rdx, %rax
        jb      9f
        lea     \end(%rip), %rdx
        cmp     %rdx, %rax
        jae     9f
        lea     \target(%rip), %rdx
        mov     %rdx, FRAME_RIP(%rsp)
        jmp     hv_return
9:
        .endm

        function svsm_hv_entry
        push    %rax
        push    %rcx
        push    %rdx
        cmpq    $USER_CODE, FRAME_CS(%rsp)
        je      hv_user
        mov     FRAME_RIP(%rsp), %rax
        lea     svsm_system_call(%rip), %rdx
        cmp     %rdx, %rax
        jb      1f
        lea     svsm_system_call_end(%rip), %rdx
        cmp     %rdx, %rax
        jb      hv_note
1:      movabs  $HV_STACK_BOTTOM, %rax
        mov     FRAME_RSP(%rsp), %rdx
        sub     %rax, %rdx
        cmp     $HV_STACK_SIZE, %rdx
        jb      hv_nested

        movabs  $PER_CPU, %rcx
        movb    $1, HAS_EVENTS(%rcx)
        mov     FRAME_RIP(%rsp), %rax
        leave_window run_window, run_window_end, run_abandoned
        leave_window halt_window, halt_window_end, halt_window_end
        leave_window user_window, user_window_end, user_abandoned

        lea     resume_start(%rip), %rdx
        cmp     %rdx, %rax
        jb      1f
        lea     resume_iret(%rip), %rdx
        cmp     %rdx, %rax
        ja      1f
        jb      2f
        subq    $REGISTERS, FRAME_RSP(%rsp)
2:      lea     resume_again(%rip), %rdx
        mov     %rdx, FRAME_RIP(%rsp)
        movl    $1, HOLDS(%rcx)
        jmp     hv_return

1:      cmpl    $0, HOLDS(%rcx)
        jne     hv_return
        mov     FRAME_RSP(%rsp), %rdx
        mov     %rdx, %rax
        sub     STACK_BOTTOM(%rcx), %rax
        cmp     STACK_SIZE(%rcx), %rax
        jae     hv_return
        mov     FRAME_SS(%rsp), %rax
        mov     %rax, -8(%rdx)
        mov     %rdx, -16(%rdx)
        mov     FRAME_RFLAGS(%rsp), %rax
        mov     %rax, -24(%rdx)
        mov     FRAME_CS(%rsp), %rax
        mov     %rax, -32(%rdx)
        mov     FRAME_RIP(%rsp), %rax
        mov     %rax, -40(%rdx)
        subq    $40, FRAME_RSP(%rsp)
        lea     svsm_preempted(%rip), %rdx
        mov     %rdx, FRAME_RIP(%rsp)
        movl    $1, HOLDS(%rcx)
hv_return:
        pop     %rdx
        pop     %rcx
        pop     %rax
        iretq

hv_note:
        movabs  $PER_CPU, %rcx
        movb    $1, HAS_EVENTS(%rcx)
        jmp     hv_return

hv_user:
        movabs  $PER_CPU, %rcx
        movb    $1, HAS_EVENTS(%rcx)
        pop     %rdx
        pop     %rcx
        pop     %rax
        pushq   $0
        pushq   $VECTOR_HYPERVISOR
        jmp     svsm_user_exit

hv_nested:
        pop     %rdx
        pop     %rcx
        pop     %rax
        pushq   $0
        pushq   $VECTOR_HYPERVISOR
        jmp     svsm_exception_common
        end_function svsm_hv_entry

# On the stack of a task, behind a frame for IRETQ. Holds is 1: #HV does nothing here but set the flag.
        function svsm_preempted
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
resume_again:
        cld
        mov     %rsp, %rbx
        mov     %cr2, %r12
        sub     svsm_extended_size(%rip), %rsp
        and     $-64, %rsp
        mov     svsm_extended_mask(%rip), %r13
        test    %r13, %r13
        jz      1f
        lea     XSAVE_HEADER(%rsp), %rdi        # what XSAVE does not write must be zero for XRSTOR
        mov     $8, %ecx
        xor     %eax, %eax
        rep stosq
        mov     %r13d, %eax
        mov     %r13, %rdx
        shr     $32, %rdx
        xsave64 (%rsp)
        jmp     2f
1:      fxsave64 (%rsp)
2:      xor     %ebp, %ebp                      # a trace ends here
        call    svsm_preempt
        test    %r13, %r13
        jz      3f
        mov     %r13d, %eax
        mov     %r13, %rdx
        shr     $32, %rdx
        xrstor64 (%rsp)
        jmp     4f
3:      fxrstor64 (%rsp)
4:      mov     %r12, %cr2
        mov     %rbx, %rsp
        movabs  $PER_CPU, %rcx
        movl    $0, HOLDS(%rcx)
resume_start:
        cmpb    $0, HAS_EVENTS(%rcx)
        jne     resume_hold
        mov     0x00(%rsp), %r15
        mov     0x08(%rsp), %r14
        mov     0x10(%rsp), %r13
        mov     0x18(%rsp), %r12
        mov     0x20(%rsp), %r11
        mov     0x28(%rsp), %r10
        mov     0x30(%rsp), %r9
        mov     0x38(%rsp), %r8
        mov     0x40(%rsp), %rdi
        mov     0x48(%rsp), %rsi
        mov     0x50(%rsp), %rbp
        mov     0x58(%rsp), %rbx
        mov     0x60(%rsp), %rdx
        mov     0x68(%rsp), %rcx
        mov     0x70(%rsp), %rax
        lea     REGISTERS(%rsp), %rsp
resume_iret:
        iretq
resume_hold:
        movl    $1, HOLDS(%rcx)
        jmp     resume_again
        end_function svsm_preempted

# rdi = request, rsi = flags of the doorbell page, or a byte that is 0. Gives the CPU to another VMPL by a request in the GHCB MSR.
# Returns the answer; all ones: #HV has come, and nothing was asked.
        function svsm_run_vmpl
        mov     $MSR_GHCB, %ecx
        mov     %edi, %eax
        mov     %rdi, %rdx
        shr     $32, %rdx
        testb   $NO_FURTHER_SIGNAL, (%rsi)
run_window:
        jnz     run_abandoned
        wrmsr
        vmgexit
run_window_end:
        rdmsr
        shl     $32, %rdx
        or      %rdx, %rax
        ret
run_abandoned:
        mov     $-1, %rax
        ret
        end_function svsm_run_vmpl

# rdi = flags of the doorbell page, or a byte that is 0. Halts unless #HV has come.
        function svsm_halt
        testb   $NO_FURTHER_SIGNAL, (%rdi)
halt_window:
        jnz     halt_window_end
        hlt
halt_window_end:
        ret
        end_function svsm_halt

# rdi = XCR0: has XSAVE keep these parts of the FPU state of this CPU.
        function svsm_enable_xsave
        mov     %cr4, %rax
        or      $1 << 18, %rax                  # OSXSAVE
        mov     %rax, %cr4
        mov     %edi, %eax
        mov     %rdi, %rdx
        shr     $32, %rdx
        xor     %ecx, %ecx
        xsetbv
        ret
        end_function svsm_enable_xsave

# rdi = what XSAVE keeps (0: FXSAVE), rsi = bytes that it needs.
        function svsm_set_extended_state
        mov     %rdi, svsm_extended_mask(%rip)
        mov     %rsi, svsm_extended_size(%rip)
        ret
        end_function svsm_set_extended_state

        .macro  address_of function_name, symbol
        function \function_name
        lea     \symbol(%rip), %rax
        ret
        end_function \function_name
        .endm

        address_of svsm_hv_entry_address, svsm_hv_entry
        address_of svsm_preempted_address, svsm_preempted

        .globl  svsm_extended_mask

        .data
        .p2align 3
svsm_extended_mask:
        .quad   0
svsm_extended_size:
        .quad   512

        .section .note.GNU-stack, "", @progbits
