# SPDX-License-Identifier: MIT
# Copyright (c) The Svsm.Sdk contributors
#
# To CPL 3 and back. svsm_user_enter(context) is a call of the kernel that returns when the process needs the kernel, for whatever reason; what the
# kernel's compiler expects to survive a call is on the kernel's stack meanwhile. All registers of the process are in its context then, and the
# context is not changed while the process does not run: an entry can be given up and begun anew at any point before IRETQ.
#
# Ways back:
#
#   SYSCALL       svsm_system_call. The processor leaves RSP as it was, so CPL 0 runs some instructions on an address that the process chose. They
#                 push nothing and call nothing: registers go to fixed addresses of the CPU's own page, which needs no GS base and so no SWAPGS.
#                 What may come between: #HV, #VC, NMI, #MC and #DF have stacks of their own (IST); of these #HV alone may go on here, and it does
#                 no more than to set HasEvents, since the CPU is held (Holds is not 0). Any other exception would be a fault of the kernel: SFMASK
#                 clears TF, IF, AC, DF and NT, and no debug register is ever set.
#   exception     svsm_exception_common (Entry.S) and svsm_hv_entry (Doorbell.S) jump to svsm_user_exit if CS has CPL 3. Their stack is TSS.RSP0,
#                 which is the kernel's stack below svsm_user_enter, or the one of an IST entry, which is left for good.
#
# The way there is IRETQ for every reason. SYSRET is not used: it would fault at CPL 0 with RSP of the process if RIP is not canonical. IRETQ can
# fault too, but on the kernel's stack; the kernel enters with RIP and RSP below the middle of the address space only.
#
# #HV between the look at HasEvents and IRETQ (user_window): the entry is given up, the reason is vector 28. The process is not run with an event
# pending, else the host would wait for the kernel while the process runs on.

        .include "Svsm.CoreLib.Macros.inc"
        .include "Svsm.Kernel.CalleeSaved.inc"

        .set    PER_CPU, 0xFFFFFF0000001000             # KernelLayout.PerCpuData
        .set    HAS_EVENTS, 4                           # TurnState
        .set    USER_RAX, PER_CPU + 0x18                # UserState
        .set    USER_CONTEXT, PER_CPU + 0x20
        .set    KERNEL_RSP, PER_CPU + 0x28
        .set    TSS_RSP0_OFFSET, 0xAC                   # PerCpu.Tss.Rsp[0]

        .set    USER_CODE, 0x33
        .set    USER_DATA, 0x2B
        .set    SYSTEM_CALL, 0x100
        .set    FLAGS_CLEAR, 0x2
        .set    VECTOR_HYPERVISOR, 28
        .set    MSR_FS_BASE, 0xC0000100

        .set    RAX, 0x00                               # UserContext
        .set    RCX, 0x08
        .set    RDX, 0x10
        .set    RBX, 0x18
        .set    RBP, 0x20
        .set    RSI, 0x28
        .set    RDI, 0x30
        .set    R8, 0x38
        .set    R9, 0x40
        .set    R10, 0x48
        .set    R11, 0x50
        .set    R12, 0x58
        .set    R13, 0x60
        .set    R14, 0x68
        .set    R15, 0x70
        .set    VECTOR, 0x78
        .set    ERROR, 0x80
        .set    RIP, 0x88
        .set    RFLAGS, 0x90
        .set    RSP, 0x98
        .set    CR2, 0xA0
        .set    FS_BASE, 0xA8
        .set    EXTENDED, 256

# rdi = context.
        function svsm_user_enter
        save_callee_saved
        movabs  $PER_CPU, %rbx
        mov     %rsp, %rax
        movabs  %rax, KERNEL_RSP
        mov     %rax, TSS_RSP0_OFFSET(%rbx)
        mov     %rdi, %rax
        movabs  %rax, USER_CONTEXT

        mov     FS_BASE(%rdi), %rax
        mov     %rax, %rdx
        shr     $32, %rdx
        mov     $MSR_FS_BASE, %ecx
        xor     %r8d, %r8d
        mov     %r8d, %ds
        mov     %r8d, %es
        mov     %r8d, %fs
        mov     %r8d, %gs
        wrmsr

        mov     svsm_extended_mask(%rip), %rax
        test    %rax, %rax
        jz      1f
        mov     %rax, %rdx
        shr     $32, %rdx
        xrstor64 EXTENDED(%rdi)
        jmp     2f
1:      fxrstor64 EXTENDED(%rdi)
2:      pushq   $USER_DATA
        pushq   RSP(%rdi)
        pushq   RFLAGS(%rdi)
        pushq   $USER_CODE
        pushq   RIP(%rdi)
        cmpb    $0, HAS_EVENTS(%rbx)
user_window:
        jne     user_abandoned
        mov     RAX(%rdi), %rax
        mov     RCX(%rdi), %rcx
        mov     RDX(%rdi), %rdx
        mov     RBX(%rdi), %rbx
        mov     RBP(%rdi), %rbp
        mov     RSI(%rdi), %rsi
        mov     R8(%rdi), %r8
        mov     R9(%rdi), %r9
        mov     R10(%rdi), %r10
        mov     R11(%rdi), %r11
        mov     R12(%rdi), %r12
        mov     R13(%rdi), %r13
        mov     R14(%rdi), %r14
        mov     R15(%rdi), %r15
        mov     RDI(%rdi), %rdi
        iretq
user_window_end:
user_abandoned:
        movabs  USER_CONTEXT, %rax
        movq    $VECTOR_HYPERVISOR, VECTOR(%rax)
        jmp     user_return
        end_function svsm_user_enter

# On some stack of the kernel: vector, error code, then the processor's frame.
        function svsm_user_exit
        movabs  %rax, USER_RAX
        movabs  USER_CONTEXT, %rax
        popq    VECTOR(%rax)
        popq    ERROR(%rax)
        popq    RIP(%rax)
        add     $8, %rsp
        popq    RFLAGS(%rax)
        popq    RSP(%rax)
        mov     %rcx, RCX(%rax)
        mov     %rdx, RDX(%rax)
user_save:
        mov     %rbx, RBX(%rax)
        mov     %rbp, RBP(%rax)
        mov     %rsi, RSI(%rax)
        mov     %rdi, RDI(%rax)
        mov     %r8, R8(%rax)
        mov     %r9, R9(%rax)
        mov     %r10, R10(%rax)
        mov     %r11, R11(%rax)
        mov     %r12, R12(%rax)
        mov     %r13, R13(%rax)
        mov     %r14, R14(%rax)
        mov     %r15, R15(%rax)
        mov     %cr2, %rcx
        mov     %rcx, CR2(%rax)
        mov     %rax, %rbx
        movabs  USER_RAX, %rax
        mov     %rax, RAX(%rbx)
        cld
        mov     svsm_extended_mask(%rip), %rax
        test    %rax, %rax
        jz      1f
        mov     %rax, %rdx
        shr     $32, %rdx
        xsave64 EXTENDED(%rbx)
        jmp     user_return
1:      fxsave64 EXTENDED(%rbx)
user_return:
        movabs  KERNEL_RSP, %rax
        mov     %rax, %rsp
        pushq   $FLAGS_CLEAR                    # an exception leaves AC as the process had it, which would turn off SMAP
        popfq
        fninit
        restore_callee_saved
        ret
        end_function svsm_user_exit

# rcx = rip, r11 = rflags; rsp is still that of the process. Doorbell.S knows where it ends to be so.
        function svsm_system_call
        movabs  %rax, USER_RAX
        movabs  USER_CONTEXT, %rax
        mov     %rsp, RSP(%rax)
        mov     %rcx, RIP(%rax)
        mov     %r11, RFLAGS(%rax)
        mov     %rcx, RCX(%rax)
        mov     %rdx, RDX(%rax)
        movq    $SYSTEM_CALL, VECTOR(%rax)
        mov     %rax, %rdx
        movabs  KERNEL_RSP, %rax
        mov     %rax, %rsp
svsm_system_call_end:
        mov     %rdx, %rax
        jmp     user_save
        end_function svsm_system_call

        function svsm_system_call_address
        lea     svsm_system_call(%rip), %rax
        ret
        end_function svsm_system_call_address

        .globl  user_window, user_window_end, user_abandoned, svsm_system_call_end

        .section .note.GNU-stack, "", @progbits
