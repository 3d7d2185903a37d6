# SPDX-License-Identifier: MIT
# Copyright (c) The Svsm.Sdk contributors
#
# Entry of the probe guest: 32-bit protected mode, paging off, edi = CPUID page, esi = secrets page, edx = memory map (docs/image-layout.md),
# to C# in long mode.
#
# Memory afterwards: the first 4 GiB at their own address, private (C-bit), in 2-MiB pages; 16 to 18 MiB, where the probe guest is, in
# 4-KiB pages, so that single ones can be shared; the first 2 MiB not at all, so that a null reference faults.

        .include "Svsm.CoreLib.Macros.inc"
        .include "Svsm.Platform.Exceptions.inc"

        .set    TIMER_VECTOR, 0x40
        .set    MSR_GHCB, 0xC0010130
        .set    MSR_EFER, 0xC0000080
        .set    EFER_LME_NXE, 0x900
        .set    CR0_PG_WP_MP, 0x80010002
        .set    CR4_PAE_OSFXSR_OSXMMEXCPT, 0x620
        .set    PRESENT_WRITABLE, 0x3
        .set    PRESENT_WRITABLE_LARGE, 0x83
        .set    LARGE_PAGES_BELOW_4G, 2048
        .set    OWN_LARGE_PAGE, 8
        .set    OWN_BASE, 0x1000000
        .set    FUNCTION_ENCRYPTION, 0x8000001F
        .set    MAX_CPUS, 16                    # Cpus.cs
        .set    STACK_BYTES, 0x4000             # Cpus.cs
        .set    MXCSR_RESET, 0x1F80
        .set    TERMINATE_NO_ENCRYPTION_BIT, 0x100 | 6 << 12 | 1 << 16

        .section .boot, "ax", @progbits
        .code32
        .globl  probe_boot
        .type   probe_boot, @function
probe_boot:
        cli
        cld
        mov     %edi, probe_start
        mov     %esi, probe_start + 8
        mov     %edx, probe_start + 16

        mov     (%edi), %ecx
        add     $16, %edi
1:      sub     $1, %ecx
        jb      .Lno_encryption_bit
        cmpl    $FUNCTION_ENCRYPTION, (%edi)
        je      2f
        add     $48, %edi
        jmp     1b
2:      mov     28(%edi), %ecx
        and     $0x3F, %ecx
        sub     $32, %ecx
        jb      .Lno_encryption_bit
        mov     $1, %ebp
        shl     %cl, %ebp                       # upper half of the C-bit mask
        mov     %ebp, probe_start + 28

        movl    $(page_directory_pointers + PRESENT_WRITABLE), page_map
        mov     %ebp, page_map + 4
        mov     $page_directory_pointers, %edi
        mov     $(page_directories + PRESENT_WRITABLE), %eax
        mov     $4, %ecx
1:      mov     %eax, (%edi)
        mov     %ebp, 4(%edi)
        add     $0x1000, %eax
        add     $8, %edi
        sub     $1, %ecx
        jnz     1b

        mov     $(page_directories + 8), %edi
        mov     $(0x200000 + PRESENT_WRITABLE_LARGE), %eax
        mov     $(LARGE_PAGES_BELOW_4G - 1), %ecx
1:      mov     %eax, (%edi)
        mov     %ebp, 4(%edi)
        add     $0x200000, %eax
        add     $8, %edi
        sub     $1, %ecx
        jnz     1b

        movl    $(probe_page_table + PRESENT_WRITABLE), page_directories + OWN_LARGE_PAGE * 8
        mov     $probe_page_table, %edi
        mov     $(OWN_BASE + PRESENT_WRITABLE), %eax
        mov     $512, %ecx
1:      mov     %eax, (%edi)
        mov     %ebp, 4(%edi)
        add     $0x1000, %eax
        add     $8, %edi
        sub     $1, %ecx
        jnz     1b

        mov     %cr4, %eax
        or      $CR4_PAE_OSFXSR_OSXMMEXCPT, %eax
        mov     %eax, %cr4
        mov     $page_map, %eax
        mov     %eax, %cr3
        mov     $MSR_EFER, %ecx
        rdmsr
        or      $EFER_LME_NXE, %eax
        wrmsr
        mov     %cr0, %eax
        and     $~0xC, %eax
        or      $CR0_PG_WP_MP, %eax
        mov     %eax, %cr0
        lgdt    gdt_pointer
        ljmp    $0x08, $.Llong_mode

.Lno_encryption_bit:
        mov     $TERMINATE_NO_ENCRYPTION_BIT, %eax
        xor     %edx, %edx
        mov     $MSR_GHCB, %ecx
        wrmsr
        vmgexit
1:      hlt
        jmp     1b

        .code64
.Llong_mode:
        mov     $0x10, %eax
        mov     %eax, %ds
        mov     %eax, %es
        mov     %eax, %ss
        mov     $page_map, %eax
        or      probe_start + 24, %rax
        mov     %rax, %cr3
        lea     probe_stacks + STACK_BYTES(%rip), %rsp
        xor     %ebp, %ebp
        lea     probe_start(%rip), %rdi
        call    probe_main
        ud2

# From the VMSA that CREATE_VCPU made of: rsp = top of the vCPU's stack, on the same page tables.
        .globl  probe_cpu_entry
probe_cpu_entry:
        fninit
        pushq   $MXCSR_RESET
        ldmxcsr (%rsp)
        pop     %rax
        xor     %ebp, %ebp
        call    probe_cpu_main
        ud2

        .p2align 3
gdt:
        .quad   0
        .quad   0x00AF9B000000FFFF              # 64-bit code
        .quad   0x00CF93000000FFFF              # data
gdt_pointer:
        .word   . - gdt - 1
        .long   gdt
        .size   probe_boot, . - probe_boot

# 16 bytes that a test may change in the ELF file: a command, filled up with zeroes. Commands.cs has the list.
        .section .probe_command, "a", @progbits
        .globl  probe_command
        .type   probe_command, @object
        .p2align 4
probe_command:
        .skip   16
        .size   probe_command, 16

# ulong probe_call(SvsmCall* call, byte* callingArea): the registers go out and come back through the structure (rax, rcx, rdx, r8, r9).
# The request to run VMPL0 is in the GHCB MSR already. Returns what call_pending was afterwards: 0 if the SVSM took the call.
        function probe_call
        mov     %rdi, %r10
        mov     %rsi, %r11
        mov     (%r10), %rax
        mov     8(%r10), %rcx
        mov     16(%r10), %rdx
        mov     24(%r10), %r8
        mov     32(%r10), %r9
        movb    $1, (%r11)
        vmgexit
        mov     %rax, (%r10)
        mov     %rcx, 8(%r10)
        mov     %rdx, 16(%r10)
        mov     %r8, 24(%r10)
        mov     %r9, 32(%r10)
        xor     %eax, %eax
        xchg    %al, (%r11)
        ret
        end_function probe_call

        function probe_stack_pointer
        mov     %rsp, %rax
        ret
        end_function probe_stack_pointer

        function probe_store_gdt
        sgdt    (%rdi)
        ret
        end_function probe_store_gdt

        function probe_undefined
        ud2
        end_function probe_undefined

        exception_entries probe

# Machine.TimerVector.
        function probe_timer_entry
        pushq   $0
        pushq   $TIMER_VECTOR
        jmp     probe_exception_common
        end_function probe_timer_entry

# What is pending comes now.
        function probe_take_interrupts
        sti
        nop
        cli
        ret
        end_function probe_take_interrupts

        .macro  address_of function_name, symbol
        function \function_name
        lea     \symbol(%rip), %rax
        ret
        end_function \function_name
        .endm

        address_of probe_exception_stubs_address, probe_exception_stubs
        address_of probe_timer_entry_address, probe_timer_entry
        address_of probe_command_address, probe_command
        address_of probe_page_table_address, probe_page_table
        address_of probe_ghcbs_address, probe_ghcbs
        address_of probe_device_pages_address, probe_device_pages
        address_of probe_stacks_address, probe_stacks
        address_of probe_vmsas_address, probe_vmsas
        address_of probe_areas_address, probe_areas
        address_of probe_cpu_entry_address, probe_cpu_entry
        address_of probe_pages_address, probe_pages

        .bss
        .p2align 12
page_map:
        .skip   4096
page_directory_pointers:
        .skip   4096
page_directories:
        .skip   4 * 4096
probe_page_table:
        .skip   4096
probe_pages:
        .skip   4 * 4096
probe_ghcbs:
        .skip   MAX_CPUS * 4096
probe_device_pages:
        .skip   3 * 4096
probe_vmsas:
        .skip   MAX_CPUS * 4096
probe_areas:
        .skip   MAX_CPUS * 4096
        .p2align 14                             # STACK_BYTES: Cpus.cs finds the vCPU by its stack
probe_stacks:
        .skip   MAX_CPUS * STACK_BYTES
# ProbeStart (Program.cs): CPUID page, secrets page, memory map, C-bit mask.
probe_start:
        .skip   32

        .section .note.GNU-stack, "", @progbits
