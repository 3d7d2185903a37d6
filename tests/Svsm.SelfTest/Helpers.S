# SPDX-License-Identifier: MIT
# Copyright (c) The Svsm.Sdk contributors
#
# The assembly side of the tests: calls in both directions, helpers with register contracts, exception entries.

        .include "Svsm.CoreLib.Macros.inc"

# int selftest_add3(int, int, int)
        function selftest_add3
        lea     (%rdi,%rsi), %eax
        add     %edx, %eax
        ret
        end_function selftest_add3

# int selftest_call2(void* function, int, int): calls C# from assembly
        function selftest_call2
        sub     $8, %rsp
        mov     %rdi, %rax
        mov     %esi, %edi
        mov     %edx, %esi
        call    *%rax
        add     $8, %rsp
        ret
        end_function selftest_call2

# int selftest_call_export(int): calls a C# export by name
        function selftest_call_export
        sub     $8, %rsp
        call    selftest_exported
        add     $8, %rsp
        ret
        end_function selftest_call_export

# int selftest_assign_ref(void** destination, void* value): 0 when both helpers stored the value and kept every register
# that compiled code counts on.
        function selftest_assign_ref
        mov     $0x1111, %edx
        mov     $0x2222, %ecx
        mov     $0x3333, %r8d
        mov     %rdi, %r9
        mov     %rsi, %r10
        call    RhpAssignRef
        cmp     %r10, (%r9)
        jne     1f
        movq    $0, (%r9)
        mov     %r9, %rdi
        mov     %r10, %rsi
        call    RhpCheckedAssignRef
        cmp     %r10, (%r9)
        jne     1f
        cmp     $0x1111, %edx
        jne     1f
        cmp     $0x2222, %ecx
        jne     1f
        cmp     $0x3333, %r8d
        jne     1f
        xor     %eax, %eax
        ret
1:      mov     $1, %eax
        ret
        end_function selftest_assign_ref

# int selftest_byref_assign_ref(void** destination, void** source): 0 when the word was copied and both pointers advanced
        function selftest_byref_assign_ref
        mov     %rdi, %r9
        mov     %rsi, %r10
        mov     $0x1111, %edx
        call    RhpByRefAssignRef
        lea     8(%r9), %rax
        cmp     %rax, %rdi
        jne     1f
        lea     8(%r10), %rax
        cmp     %rax, %rsi
        jne     1f
        mov     (%r10), %rax
        cmp     %rax, (%r9)
        jne     1f
        cmp     $0x1111, %edx
        jne     1f
        xor     %eax, %eax
        ret
1:      mov     $1, %eax
        ret
        end_function selftest_byref_assign_ref

# One entry per exception vector, 16 bytes apart: vector and error code (0 where the processor gives none) on the stack.
# The handler does not return, so nothing is saved.
        .section .text.selftest_exception_entries, "ax", @progbits
        .globl  selftest_exception_entries
        .p2align 4
selftest_exception_entries:
        .set    vector, 0
        .rept   32
        .p2align 4
        .if     (vector == 8) || ((vector >= 10) && (vector <= 14)) || (vector == 17) || (vector == 21) || (vector == 29) || (vector == 30)
        .else
        pushq   $0
        .endif
        pushq   $vector
        jmp     exception_common
        .set    vector, vector + 1
        .endr

exception_common:
        cld
        mov     %rsp, %rdi
        and     $-16, %rsp
        call    selftest_exception
        ud2

# void* selftest_exception_entry_table()
        function selftest_exception_entry_table
        lea     selftest_exception_entries(%rip), %rax
        ret
        end_function selftest_exception_entry_table

        .section .note.GNU-stack, "", @progbits
