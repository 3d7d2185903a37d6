# SPDX-License-Identifier: MIT
# Copyright (c) The Svsm.Sdk contributors
#
# What compiled C# calls and C# cannot be: helpers with their own register contract, and memory moves.
#
# Contract (SysV AMD64, as the compiler of the pinned version emits it):
#   RhpAssignRef, RhpCheckedAssignRef   rdi = destination, rsi = reference; may change rax, rdi, rsi only
#   RhpByRefAssignRef                   rdi = destination, rsi = source; advances both by 8; may also change rcx
#   RhpInitialDynamicInterfaceDispatch  r11 = dispatch cell; every argument register must survive
#   RhpPInvoke and kin                  rdi = transition frame; there is no collector to tell, so nothing to do
# There is no garbage collector, so a reference is stored by a plain store.

        .include "Svsm.CoreLib.Macros.inc"

        function RhpAssignRef
        .globl  RhpCheckedAssignRef
        .type   RhpCheckedAssignRef, @function
RhpCheckedAssignRef:
        mov     %rsi, (%rdi)
        ret
        end_function RhpAssignRef

        function RhpByRefAssignRef
        mov     (%rsi), %rcx
        mov     %rcx, (%rdi)
        add     $8, %rdi
        add     $8, %rsi
        ret
        end_function RhpByRefAssignRef

        function RhpPInvoke
        .globl  RhpPInvokeReturn, RhpReversePInvoke, RhpReversePInvokeReturn, RhpGcPoll
RhpPInvokeReturn:
RhpReversePInvoke:
RhpReversePInvokeReturn:
RhpGcPoll:
        ret
        end_function RhpPInvoke

# Finds the method once per call; nothing is cached in the cell. Arguments in xmm0-7 survive because the resolver is built to use none of
# them as arguments, but it may use them as scratch: they are kept too.
        function RhpInitialDynamicInterfaceDispatch
        push    %rbp
        mov     %rsp, %rbp
        push    %rdi
        push    %rsi
        push    %rdx
        push    %rcx
        push    %r8
        push    %r9
        sub     $128, %rsp
        movups  %xmm0, (%rsp)
        movups  %xmm1, 16(%rsp)
        movups  %xmm2, 32(%rsp)
        movups  %xmm3, 48(%rsp)
        movups  %xmm4, 64(%rsp)
        movups  %xmm5, 80(%rsp)
        movups  %xmm6, 96(%rsp)
        movups  %xmm7, 112(%rsp)
        mov     %r11, %rsi
        call    svsm_resolve_interface
        movups  (%rsp), %xmm0
        movups  16(%rsp), %xmm1
        movups  32(%rsp), %xmm2
        movups  48(%rsp), %xmm3
        movups  64(%rsp), %xmm4
        movups  80(%rsp), %xmm5
        movups  96(%rsp), %xmm6
        movups  112(%rsp), %xmm7
        add     $128, %rsp
        pop     %r9
        pop     %r8
        pop     %rcx
        pop     %rdx
        pop     %rsi
        pop     %rdi
        pop     %rbp
        jmp     *%rax
        end_function RhpInitialDynamicInterfaceDispatch

# void* memmove(void* destination, const void* source, size_t length): any overlap.
# Up to 32 bytes everything is loaded before anything is stored, which makes overlap harmless.
        function memmove
        .globl  memcpy
        .type   memcpy, @function
memcpy:
        mov     %rdi, %rax
        mov     %rdx, %rcx
        cmp     $16, %rdx
        ja      .Lmove_over16
        cmp     $8, %edx
        jae     .Lmove_8to16
        cmp     $4, %edx
        jae     .Lmove_4to7
        cmp     $2, %edx
        jae     .Lmove_2to3
        test    %edx, %edx
        jz      .Lmove_done
        movzbl  (%rsi), %ecx
        mov     %cl, (%rdi)
.Lmove_done:
        ret
.Lmove_2to3:
        movzwl  (%rsi), %ecx
        movzwl  -2(%rsi,%rdx), %r8d
        mov     %cx, (%rdi)
        mov     %r8w, -2(%rdi,%rdx)
        ret
.Lmove_4to7:
        mov     (%rsi), %ecx
        mov     -4(%rsi,%rdx), %r8d
        mov     %ecx, (%rdi)
        mov     %r8d, -4(%rdi,%rdx)
        ret
.Lmove_8to16:
        mov     (%rsi), %rcx
        mov     -8(%rsi,%rdx), %r8
        mov     %rcx, (%rdi)
        mov     %r8, -8(%rdi,%rdx)
        ret
.Lmove_over16:
        cmp     $32, %rdx
        ja      .Lmove_over32
        mov     (%rsi), %rcx
        mov     8(%rsi), %r8
        mov     -16(%rsi,%rdx), %r9
        mov     -8(%rsi,%rdx), %r10
        mov     %rcx, (%rdi)
        mov     %r8, 8(%rdi)
        mov     %r9, -16(%rdi,%rdx)
        mov     %r10, -8(%rdi,%rdx)
        ret
.Lmove_over32:
        mov     %rdi, %r8
        sub     %rsi, %r8
        cmp     %rdx, %r8               # unsigned: below the length only when the destination starts inside the source
        jb      .Lmove_backward
        mov     -8(%rsi,%rdx), %r9      # the tail, read before it can be overwritten
        lea     -8(%rdi,%rdx), %r10
        shr     $3, %rcx
        rep movsq
        mov     %r9, (%r10)
        ret
.Lmove_backward:
        mov     (%rsi), %r9             # the head, read before it can be overwritten
.Lmove_backward_next:
        mov     -8(%rsi,%rdx), %r8
        mov     %r8, -8(%rdi,%rdx)
        sub     $8, %rdx
        cmp     $8, %rdx
        jae     .Lmove_backward_next
        mov     %r9, (%rdi)
        ret
        end_function memmove

# void* memset(void* destination, int value, size_t length)
        function memset
        mov     %rdi, %r8
        movzbl  %sil, %eax
        movabs  $0x0101010101010101, %rcx
        imul    %rcx, %rax
        cmp     $8, %rdx
        jb      .Lset_small
        mov     %rdx, %rcx
        mov     %rax, -8(%rdi,%rdx)
        shr     $3, %rcx
        rep stosq
        mov     %r8, %rax
        ret
.Lset_small:
        test    %edx, %edx
        jz      .Lset_done
        mov     %al, (%rdi)
        inc     %rdi
        dec     %edx
        jmp     .Lset_small
.Lset_done:
        mov     %r8, %rax
        ret
        end_function memset

# Address of the section table that the compiler writes (null-terminated by its own count).
        function svsm_module_header
        lea     __ReadyToRunHeader(%rip), %rax
        ret
        end_function svsm_module_header

        .data
        .globl  __security_cookie, RhpTrapThreads
        .p2align 3
# Compared on return from methods with stack buffers. An image may put a random value here before its first C#.
__security_cookie:
        .quad   0x00002b992ddfa232
# "A collection is wanted": never.
RhpTrapThreads:
        .long   0

        .section .note.GNU-stack, "", @progbits
