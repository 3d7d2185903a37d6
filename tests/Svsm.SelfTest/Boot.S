# SPDX-License-Identifier: MIT
# Copyright (c) The Svsm.Sdk contributors
#
# Entry of the self-test image: PVH (32-bit, paging off, ebx = physical address of hvm_start_info) to C#.
# Memory after the jump: the first GiB of physical memory at VIRTUAL_BASE and nothing else, so a null reference faults.
# Source: Xen public/arch-x86/hvm/start_info.h; note type 18 is XEN_ELFNOTE_PHYS32_ENTRY.

        .include "Svsm.CoreLib.Macros.inc"

        .set    VIRTUAL_BASE, 0xFFFFFF8000000000
        .set    CR0_PE_MP_WP_PG, 0x80010003
        .set    CR4_PAE_OSFXSR_OSXMMEXCPT, 0x620
        .set    MSR_EFER, 0xC0000080
        .set    EFER_LME_NXE, 0x900
        .set    PRESENT_WRITABLE, 0x3
        .set    PRESENT_WRITABLE_LARGE, 0x83
        .set    STACK_BYTES, 0x10000
        .set    HEAP_BYTES, 0x100000

        .section .note.pvh, "a", @note
        .long   4, 4, 18
        .asciz  "Xen"
        .long   pvh_start

        .section .boot, "ax", @progbits
        .code32
        .globl  pvh_start
pvh_start:
        cli
        cld
        mov     %ebx, %esi
        mov     $(page_directories - VIRTUAL_BASE + PRESENT_WRITABLE), %eax
        mov     %eax, page_directory_pointers - VIRTUAL_BASE
        mov     $(page_directory_pointers - VIRTUAL_BASE + PRESENT_WRITABLE), %eax
        mov     %eax, page_map - VIRTUAL_BASE           # identity, until the jump
        mov     %eax, page_map - VIRTUAL_BASE + 511 * 8
        mov     $(page_directories - VIRTUAL_BASE), %edi
        mov     $PRESENT_WRITABLE_LARGE, %eax
        mov     $512, %ecx
1:      mov     %eax, (%edi)
        movl    $0, 4(%edi)
        add     $0x200000, %eax
        add     $8, %edi
        loop    1b

        mov     $(page_map - VIRTUAL_BASE), %eax
        mov     %eax, %cr3
        mov     $CR4_PAE_OSFXSR_OSXMMEXCPT, %eax
        mov     %eax, %cr4
        mov     $MSR_EFER, %ecx
        mov     $EFER_LME_NXE, %eax
        xor     %edx, %edx
        wrmsr
        mov     $CR0_PE_MP_WP_PG, %eax
        mov     %eax, %cr0
        lgdt    boot_gdt_pointer
        ljmp    $8, $long_mode

        .code64
long_mode:
        xor     %eax, %eax
        mov     %eax, %ds
        mov     %eax, %es
        mov     %eax, %ss
        mov     %esi, %edi
        movabs  $high, %rax
        jmp     *%rax

boot_gdt_pointer:
        .word   gdt_end - gdt - 1
        .long   gdt - VIRTUAL_BASE

        function high
        movq    $0, page_map(%rip)
        mov     %cr3, %rax
        mov     %rax, %cr3
        lgdt    gdt_pointer(%rip)                       # at an address that is still mapped
        lea     stack_top(%rip), %rsp
        xor     %ebp, %ebp
        movabs  $VIRTUAL_BASE, %rax
        add     %rax, %rdi                              # hvm_start_info
        lea     heap(%rip), %rsi
        mov     $HEAP_BYTES, %edx
        call    selftest_main
        ud2
        end_function high

        .section .rodata
        .p2align 3
gdt:
        .quad   0
        .quad   0x00AF9B000000FFFF                      # 64-bit code, accessed
gdt_end:
gdt_pointer:
        .word   gdt_end - gdt - 1
        .quad   gdt

        .bss
        .p2align 12
page_map:
        .skip   4096
page_directory_pointers:
        .skip   4096
page_directories:
        .skip   4096
        .skip   STACK_BYTES
stack_top:
heap:
        .skip   HEAP_BYTES

        .section .note.GNU-stack, "", @progbits
