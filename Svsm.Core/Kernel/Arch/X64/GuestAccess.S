# SPDX-License-Identifier: MIT
# Copyright (c) The Svsm.Sdk contributors
#
# Accesses to pages of the guest that may fault: the guest can have the host take such a page at any moment. The exception handler finds the
# faulting instruction in the table .svsm_fixups (instruction, continuation) and goes on behind it; Fixups.cs.
# System V convention: arguments rdi, rsi, rdx, rcx; result rax.

        .include "Svsm.CoreLib.Macros.inc"

        .macro  may_fault instruction, continuation
        .pushsection .svsm_fixups, "a", @progbits
        .quad   \instruction, \continuation
        .popsection
        .endm

# rdi = destination, rsi = source, rdx = length. rax = 1, or 0 after a fault.
        function svsm_guest_copy
        mov     %rdx, %rcx
        shr     $3, %rcx
1:      rep movsq
        mov     %edx, %ecx
        and     $7, %ecx
        jz      3f
2:      rep movsb
3:      mov     $1, %eax
        ret
4:      xor     %eax, %eax
        ret
        may_fault 1b, 4b
        may_fault 2b, 4b
        end_function svsm_guest_copy

# rdi = destination, rsi = length, a multiple of 8. rax = 1, or 0 after a fault.
        function svsm_guest_zero
        mov     %rsi, %rcx
        shr     $3, %rcx
        xor     %eax, %eax
1:      rep stosq
        mov     $1, %eax
        ret
2:      xor     %eax, %eax
        ret
        may_fault 1b, 2b
        end_function svsm_guest_zero

# rdi = address of 8 bytes, rsi = bits. Clears all other bits, atomically. rax = 1, or 0 after a fault.
        function svsm_guest_and
1:      lock and %rsi, (%rdi)
        mov     $1, %eax
        ret
2:      xor     %eax, %eax
        ret
        may_fault 1b, 2b
        end_function svsm_guest_and

# rdi = address of 8 bytes, rsi = bits. Sets them, atomically. rax = 1, or 0 after a fault.
        function svsm_guest_or
1:      lock or %rsi, (%rdi)
        mov     $1, %eax
        ret
2:      xor     %eax, %eax
        ret
        may_fault 1b, 2b
        end_function svsm_guest_or

# rdi = address, esi = page size, edx = 1 to validate. Result: EAX in the low half, CF in bit 32; FAIL_INPUT after a fault.
        function svsm_guest_pvalidate
        mov     %rdi, %rax
        mov     %esi, %ecx
1:      pvalidate
        setc    %cl
        movzbl  %cl, %ecx
        mov     %eax, %eax
        shl     $32, %rcx
        or      %rcx, %rax
        ret
2:      mov     $1, %eax
        ret
        may_fault 1b, 2b
        end_function svsm_guest_pvalidate

# rdi = address, rsi = page size, rdx = VMPL and rights. Result: EAX; FAIL_INPUT after a fault.
        function svsm_guest_rmpadjust
        mov     %rdi, %rax
        mov     %rsi, %rcx
1:      rmpadjust
        ret
2:      mov     $1, %eax
        ret
        may_fault 1b, 2b
        end_function svsm_guest_rmpadjust

        function svsm_fixups_start_address
        lea     svsm_fixups_start(%rip), %rax
        ret
        end_function svsm_fixups_start_address

        function svsm_fixups_end_address
        lea     svsm_fixups_end(%rip), %rax
        ret
        end_function svsm_fixups_end_address

        .section .note.GNU-stack, "", @progbits
