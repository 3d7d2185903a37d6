# SPDX-License-Identifier: MIT
# Copyright (c) The Svsm.Sdk contributors
#
# Entry points, exception stubs and single instructions of the probe.
# Entry: 64-bit mode, paging on, rdi = number of the scenario.

        .include "Svsm.CoreLib.Macros.inc"

        function probe_entry
        lea     stack_top(%rip), %rsp
        xor     %ebp, %ebp
        mov     %rdi, %rbx
        lgdt    gdt_pointer(%rip)
        push    $0x08
        lea     .Lreload(%rip), %rax
        push    %rax
        lretq
.Lreload:
        mov     $0x10, %eax
        mov     %eax, %ds
        mov     %eax, %es
        mov     %eax, %ss
        lea     tss(%rip), %rax
        lea     stack0_top(%rip), %rcx
        mov     %rcx, 4(%rax)                   # RSP0
        lea     ist1_top(%rip), %rcx
        mov     %rcx, 0x24(%rax)                # IST1
        lea     gdt_tss(%rip), %rcx             # descriptor: base in 39:16, 63:56, 95:64
        mov     %ax, 2(%rcx)
        shr     $16, %rax
        mov     %al, 4(%rcx)
        mov     %ah, 7(%rcx)
        shr     $16, %rax
        mov     %eax, 8(%rcx)
        mov     $0x28, %eax
        ltr     %ax
        mov     %rbx, %rdi
        lea     heap(%rip), %rsi
        mov     $0x4000, %edx
        call    probe_main
        ud2
        end_function probe_entry

# Entry of the lower VMPL: rdi = argument, rsp set in its VMSA.
        function probe_lower_entry
        xor     %ebp, %ebp
        call    probe_lower_main
        ud2
        end_function probe_lower_entry

# Entry of the second vCPU: rsp set in its VMSA.
        function probe_second_entry
        xor     %ebp, %ebp
        call    probe_second_main
        ud2
        end_function probe_second_entry

# Handler of interrupts: counts. Nothing is told to the APIC.
        function probe_interrupt_entry
        incq    interrupts(%rip)
        iretq
        end_function probe_interrupt_entry

# ulong probe_interrupts(): interrupts so far. ulong probe_interrupt_address()
        function probe_interrupts
        mov     interrupts(%rip), %rax
        ret
        end_function probe_interrupts

        function probe_interrupt_address
        lea     probe_interrupt_entry(%rip), %rax
        ret
        end_function probe_interrupt_address

# ulong probe_spin_for_interrupts(ulong count): waits without an exit of its own; returns their number
        function probe_spin_for_interrupts
.Lspin:
        cmp     %rdi, interrupts(%rip)
        jb      .Lspin
        mov     interrupts(%rip), %rax
        ret
        end_function probe_spin_for_interrupts

# Waits with interrupts enabled, then disables them.
        function probe_wait_for_interrupt
        sti
        hlt
        cli
        ret
        end_function probe_wait_for_interrupt

# void probe_spin_until(ulong* value, ulong wanted): waits without PAUSE
        function probe_spin_until
        cmp     %rsi, (%rdi)
        jne     probe_spin_until
        ret
        end_function probe_spin_until

# void probe_addresses(ulong* values): stubs, lower entry, IST1 top, RSP0 top, stack top of the lower VMPL, end of the image, entry of the second vCPU
        function probe_addresses
        lea     stubs(%rip), %rax
        mov     %rax, (%rdi)
        lea     probe_lower_entry(%rip), %rax
        mov     %rax, 8(%rdi)
        lea     ist1_top(%rip), %rax
        mov     %rax, 16(%rdi)
        lea     stack0_top(%rip), %rax
        mov     %rax, 24(%rdi)
        lea     lower_stack_top(%rip), %rax
        mov     %rax, 32(%rdi)
        lea     image_end(%rip), %rax
        mov     %rax, 40(%rdi)
        lea     probe_second_entry(%rip), %rax
        mov     %rax, 48(%rdi)
        ret
        end_function probe_addresses

# ulong probe_read(address), void probe_write(address, value): the access is the first instruction, 3 bytes long.
        function probe_read
        mov     (%rdi), %rax
        ret
        end_function probe_read

        function probe_write
        mov     %rsi, (%rdi)
        ret
        end_function probe_write

# void probe_read_indexed(ulong base, ulong index): an operand with base, index, scale and displacement; 5 bytes.
        function probe_read_indexed
        mov     0x10(%rdi,%rsi,8), %rax
        ret
        end_function probe_read_indexed

        function probe_call
        jmp     *%rdi
        end_function probe_call

# void probe_push(ulong stack): pushes with another stack
        function probe_push
        mov     %rsp, %rax
        mov     %rdi, %rsp
        push    %rax
        pop     %rax
        mov     %rax, %rsp
        ret
        end_function probe_push

        function probe_wbinvd
        wbinvd
        ret
        end_function probe_wbinvd

        function probe_invd
        invd
        ret
        end_function probe_invd

        function probe_write_dr7
        mov     %rdi, %db7
        ret
        end_function probe_write_dr7

        function probe_monitor
        mov     %rdi, %rax
        xor     %ecx, %ecx
        xor     %edx, %edx
        monitor
        ret
        end_function probe_monitor

        function probe_mwait
        xor     %eax, %eax
        xor     %ecx, %ecx
        mwait
        ret
        end_function probe_mwait

        function probe_out_string
        mov     $0x80, %edx
        mov     $4, %ecx
        lea     stubs(%rip), %rsi
        rep     outsb
        ret
        end_function probe_out_string

        function probe_in_string
        mov     $0x80, %edx
        mov     %rsp, %rdi
        insl
        ret
        end_function probe_in_string

        function probe_read_tsc_aux
        rdtscp
        ret
        end_function probe_read_tsc_aux

        function probe_rdtsc
        rdtsc
        ret
        end_function probe_rdtsc

# ulong probe_compare_exchange(): RFLAGS after an exit, a comparison of 1 with 0xFF8C00 and CMPXCHG16B in one piece
        function probe_compare_exchange
        push    %rbx
        xor     %ebx, %ebx
        mov     $0xC0010130, %ecx               # the GHCB MSR: one exit
        mov     $0xFF8C00, %edi
        mov     $1, %esi
        push    %rbx
        push    %rbx
        rdmsr
        mov     $0, %eax
        mov     $0, %edx
        cmp     %rdi, %rsi
        cmpxchg16b (%rsp)
        pushfq
        pop     %rax
        add     $16, %rsp
        pop     %rbx
        ret
        end_function probe_compare_exchange

        function probe_in_bytes
        mov     $0x3FD, %edx
        mov     $4, %ecx
        lea     ist1(%rip), %rdi
        rep     insb
        ret
        end_function probe_in_bytes

        function probe_out_word
        mov     $0x80, %edx
        lea     stubs(%rip), %rsi
        outsw
        ret
        end_function probe_out_word

        function probe_vmmcall
        vmmcall
        ret
        end_function probe_vmmcall

        function probe_rdpmc
        xor     %ecx, %ecx
        rdpmc
        ret
        end_function probe_rdpmc

        function probe_read_dr7
        mov     %db7, %rax
        ret
        end_function probe_read_dr7

        function probe_invlpgb
        mov     %rdi, %rax
        mov     %esi, %ecx
        xor     %edx, %edx
        .byte   0x0F, 0x01, 0xFE                # invlpgb
        ret
        end_function probe_invlpgb

        function probe_tlbsync
        .byte   0x0F, 0x01, 0xFF                # tlbsync
        ret
        end_function probe_tlbsync

        function probe_psmash
        mov     %rdi, %rax
        .byte   0xF3, 0x0F, 0x01, 0xFF          # psmash
        ret
        end_function probe_psmash

        function probe_vmrun
        mov     %rdi, %rax
        vmrun   %rax
        ret
        end_function probe_vmrun

        function probe_halt_marked
        mov     $0x5353, %eax
        hlt
        ret
        end_function probe_halt_marked

# void probe_give_way(void* doorbell page, ulong request): writes the GHCB MSR and exits, or halts for a request of 0; neither if #HV has come.
# The exception handler goes on at the end when it comes later, from the window on.
        function probe_give_way
        mov     $0xC0010130, %ecx
        mov     %esi, %eax
        mov     %rsi, %rdx
        shr     $32, %rdx
        testb   $0x80, 1(%rdi)
give_way_window:
        jnz     give_way_end
        test    %rsi, %rsi
        jz      1f
        wrmsr
        vmgexit
        jmp     give_way_end
1:      hlt
give_way_end:
        ret
        end_function probe_give_way

        function probe_give_way_addresses
        lea     give_way_window(%rip), %rax
        mov     %rax, (%rdi)
        lea     give_way_end(%rip), %rax
        mov     %rax, 8(%rdi)
        ret
        end_function probe_give_way_addresses

        function probe_ud2
        ud2
        ret
        end_function probe_ud2

# void probe_count(ulong n): 2 n instructions, and 1 for ret
        function probe_count
.Lcount:
        dec     %rdi
        jnz     .Lcount
        ret
        end_function probe_count

# void probe_paging_off(): leaves long mode for 32-bit code without paging, does a CPUID-free round trip, and comes back.
        function probe_paging_off
        push    %rbx
        push    %rbp
        lea     .Lcompat(%rip), %rax
        push    $0x38
        push    %rax
        lretq
        .code32
.Lcompat:
        mov     %cr0, %eax
        and     $0x7FFFFFFF, %eax
        mov     %eax, %cr0                      # paging off
        mov     paging_off_word, %ebx           # private without C-bit
        add     $1, %ebx
        mov     %ebx, paging_off_word
        or      $0x80000000, %eax
        mov     %eax, %cr0                      # and on again
        ljmp    $0x08, $.Llong
        .code64
.Llong:
        pop     %rbp
        pop     %rbx
        mov     paging_off_word(%rip), %eax
        ret
        end_function probe_paging_off

# ulong probe_user(): CPUID at CPL 3, then #UD, by which the exception handler comes back (probe_user_return).
        function probe_user
        push    %rbx
        push    %rbp
        push    %r12
        push    %r13
        push    %r14
        push    %r15
        mov     %rsp, user_return_stack(%rip)
        lea     user_stack_top(%rip), %rax
        push    $0x1B
        push    %rax
        push    $2
        push    $0x23
        lea     probe_user_code(%rip), %rax
        push    %rax
        iretq
        .globl  probe_user_code
probe_user_code:
        mov     $0x8000001F, %eax
        xor     %ecx, %ecx
        cpuid
        ud2
        .globl  probe_user_return
probe_user_return:
        mov     user_return_stack(%rip), %rsp
        mov     %rbx, %rax
        pop     %r15
        pop     %r14
        pop     %r13
        pop     %r12
        pop     %rbp
        pop     %rbx
        ret
        end_function probe_user

# ulong probe_store_gdt(ulong* limit): returns the base
        function probe_store_gdt
        sub     $16, %rsp
        sgdt    (%rsp)
        movzwl  (%rsp), %eax
        mov     %rax, (%rdi)
        mov     2(%rsp), %rax
        add     $16, %rsp
        ret
        end_function probe_store_gdt

        function probe_user_return_address
        lea     probe_user_return(%rip), %rax
        ret
        end_function probe_user_return_address

# Exception stubs, 16 bytes each. Frame for probe_exception(Frame*): rax, rcx, rdx, rbx, rbp, rsi, rdi, r8 to r15, vector, error code, rip,
# cs, rflags, rsp, ss. SSE registers are not kept: the handler's C# runs on its own in this probe.
        .section .text.stubs, "ax", @progbits
        .p2align 4
stubs:
        .set    vector, 0
        .rept   32
        .p2align 4
        .if (vector == 8) || ((vector >= 10) && (vector <= 14)) || (vector == 17) || (vector == 29) || (vector == 30)
        .else
        push    $0
        .endif
        push    $vector
        jmp     stub_common
        .set    vector, vector + 1
        .endr
stub_common:
        push    %r15
        push    %r14
        push    %r13
        push    %r12
        push    %r11
        push    %r10
        push    %r9
        push    %r8
        push    %rdi
        push    %rsi
        push    %rbp
        push    %rbx
        push    %rdx
        push    %rcx
        push    %rax
        mov     %rsp, %rdi
        mov     %rsp, %rbx
        and     $-16, %rsp
        sub     $512, %rsp
        fxsave64 (%rsp)
        mov     %rsp, %r12
        cld
        call    probe_exception
        fxrstor64 (%r12)
        mov     %rbx, %rsp
        pop     %rax
        pop     %rcx
        pop     %rdx
        pop     %rbx
        pop     %rbp
        pop     %rsi
        pop     %rdi
        pop     %r8
        pop     %r9
        pop     %r10
        pop     %r11
        pop     %r12
        pop     %r13
        pop     %r14
        pop     %r15
        add     $16, %rsp
        iretq

        .data
        .p2align 3
gdt:
        .quad   0
        .quad   0x00AF9B000000FFFF              # 08 code, 64-bit
        .quad   0x00CF93000000FFFF              # 10 data
        .quad   0x00CFF3000000FFFF              # 18 data, CPL 3
        .quad   0x00AFFB000000FFFF              # 20 code, 64-bit, CPL 3
gdt_tss:
        .quad   0x0000890000000067              # 28 TSS, base filled in
        .quad   0
        .quad   0x00CF9B000000FFFF              # 38 code, 32-bit
gdt_pointer:
        .word   . - gdt - 1
        .quad   gdt
        .p2align 3
user_return_stack:
        .quad   0
paging_off_word:
        .long   0x1000

        .bss
        .p2align 12
stack:  .skip   0x4000
stack_top:
stack0: .skip   0x1000
stack0_top:
ist1:   .skip   0x1000
ist1_top:
user_stack: .skip 0x1000
user_stack_top:
lower_stack: .skip 0x2000
lower_stack_top:
tss:    .skip   0x68
        .p2align 3
interrupts: .skip 8
        .p2align 4
heap:   .skip   0x4000

        .section .note.GNU-stack, "", @progbits
