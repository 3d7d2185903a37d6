# SPDX-License-Identifier: MIT
# Copyright (c) The Svsm.Sdk contributors
#
# First instructions of the hypervisor, its exception stubs, and the world switch.
#
# Entry: multiboot 1 by QEMU's -kernel: 32-bit protected mode, flat segments, paging off, eax = 0x2BADB002, ebx = multiboot information.
# Address space: everything one to one, up to 512 GiB. Page 0 is not mapped, so that a null reference faults. Only the image's text is
# executable, and it is read-only.

        .include "Svsm.CoreLib.Macros.inc"

        .set    MULTIBOOT_MAGIC, 0x1BADB002
        .set    MULTIBOOT_FLAGS, 0x00010003     # modules page-aligned, memory map, load addresses in this header
        .set    SELECTOR_CODE, 0x08
        .set    SELECTOR_DATA, 0x10
        .set    SELECTOR_CODE32, 0x18
        .set    PTE_TABLE, 0x03                 # present, writable
        .set    PTE_LARGE_DATA, 0x83            # present, writable, large; NX is set in the upper half
        .set    PTE_SMALL_DATA, 0x03
        .set    PTE_SMALL_TEXT, 0x01            # present
        .set    IMAGE_DIRECTORY_OFFSET, 0x40    # page directory entry of the link address, 16 MiB
        .set    PTE_NX_HIGH, 0x80000000
        .set    STACK_SIZE, 0x10000
        .set    HEAP_SIZE, 0x40000
        .set    APIC_END_OF_INTERRUPT, 0xFEE000B0

        .section .multiboot, "a", @progbits
        .p2align 2
multiboot_header:
        .long   MULTIBOOT_MAGIC
        .long   MULTIBOOT_FLAGS
        .long   -(MULTIBOOT_MAGIC + MULTIBOOT_FLAGS)
        .long   multiboot_header                # where this header is loaded
        .long   image_start                     # where the load starts
        .long   load_end                        # where it ends
        .long   image_end                       # zeroes up to here
        .long   hypervisor_entry

        .section .text.hypervisor_entry, "ax", @progbits
        .globl  hypervisor_entry
        .code32
hypervisor_entry:
        cli
        cld
        mov     %ebx, %esi                      # multiboot information

# GiB 1 to 511 by 1-GiB pages, not executable.
        mov     $pml4, %edi
        movl    $pdpt + PTE_TABLE, (%edi)
        mov     $pdpt + 8, %edi
        mov     $1, %ecx
.Lgigabyte:
        mov     %ecx, %eax
        shl     $30, %eax
        or      $PTE_LARGE_DATA, %eax
        mov     %eax, (%edi)
        mov     %ecx, %eax
        shr     $2, %eax
        or      $PTE_NX_HIGH, %eax
        mov     %eax, 4(%edi)
        add     $8, %edi
        inc     %ecx
        cmp     $512, %ecx
        jb      .Lgigabyte

# GiB 0 by 2-MiB pages, not executable.
        movl    $pd + PTE_TABLE, pdpt
        mov     $pd, %edi
        xor     %ecx, %ecx
.Lmegabytes:
        mov     %ecx, %eax
        shl     $21, %eax
        or      $PTE_LARGE_DATA, %eax
        mov     %eax, (%edi)
        movl    $PTE_NX_HIGH, 4(%edi)
        add     $8, %edi
        inc     %ecx
        cmp     $512, %ecx
        jb      .Lmegabytes

# The first 2 MiB by 4-KiB pages, without page 0.
        movl    $pt_low + PTE_TABLE, pd
        movl    $0, pd + 4
        mov     $pt_low + 8, %edi
        mov     $1, %ecx
.Lpages:
        mov     %ecx, %eax
        shl     $12, %eax
        or      $PTE_SMALL_DATA, %eax
        mov     %eax, (%edi)
        movl    $PTE_NX_HIGH, 4(%edi)
        add     $8, %edi
        inc     %ecx
        cmp     $512, %ecx
        jb      .Lpages

# The 2 MiB that hold this image by 4-KiB pages: text executable and read-only, the rest neither.
        movl    $pt_image + PTE_TABLE, pd + IMAGE_DIRECTORY_OFFSET
        movl    $0, pd + IMAGE_DIRECTORY_OFFSET + 4
        mov     $pt_image, %edi
        mov     $image_start, %ecx
.Limage:
        mov     %ecx, %eax
        cmp     $text_end, %ecx
        jae     .Limage_data
        or      $PTE_SMALL_TEXT, %eax
        mov     %eax, (%edi)
        movl    $0, 4(%edi)
        jmp     .Limage_next
.Limage_data:
        or      $PTE_SMALL_DATA, %eax
        mov     %eax, (%edi)
        movl    $PTE_NX_HIGH, 4(%edi)
.Limage_next:
        add     $8, %edi
        add     $0x1000, %ecx
        cmp     $image_start + 0x200000, %ecx
        jb      .Limage

# Here the other processors come in, with 0 in esi.
enter_long_mode:
        mov     %cr4, %eax
        or      $0x620, %eax                    # PAE, OSFXSR, OSXMMEXCPT
        mov     %eax, %cr4
        mov     $pml4, %eax
        mov     %eax, %cr3
        mov     $0xC0000080, %ecx               # EFER
        rdmsr
        or      $0x900, %eax                    # LME, NXE
        wrmsr
        mov     %cr0, %eax
        and     $~0x60000004, %eax              # CD, NW, EM
        or      $0x80010022, %eax               # PG, WP, NE, MP
        mov     %eax, %cr0
        lgdt    gdt_pointer
        ljmp    $SELECTOR_CODE, $long_mode
        .code64
long_mode:
        mov     $SELECTOR_DATA, %eax
        mov     %eax, %ds
        mov     %eax, %es
        mov     %eax, %ss
        xor     %eax, %eax
        mov     %eax, %fs
        mov     %eax, %gs
        lldt    %ax
        xor     %ebp, %ebp
        test    %esi, %esi
        jz      .Lother_processor
        lea     stack_top(%rip), %rsp
        mov     %esi, %edi                      # multiboot information, zero-extended
        lea     heap(%rip), %rsi
        mov     $HEAP_SIZE, %edx
        call    svsm_hypervisor_main
        ud2
.Lother_processor:
        mov     processor_stack(%rip), %rsp
        call    svsm_hypervisor_processor_main
        ud2

        .code32
processor_protected_mode:
        mov     $SELECTOR_DATA, %eax
        mov     %eax, %ds
        mov     %eax, %es
        mov     %eax, %ss
        xor     %esi, %esi
        jmp     enter_long_mode
        .code64

# Start of another processor: copied to a page below 1 MiB, which the start-up interrupt names. Real mode, cs = the page.
        .section .rodata.processor_start, "a", @progbits
        .code16
processor_start:
        cli
        mov     %cs, %ax
        mov     %ax, %ds
        lgdtl   processor_gdt_pointer - processor_start
        mov     %cr0, %eax
        or      $1, %al
        mov     %eax, %cr0
        ljmpl   $SELECTOR_CODE32, $processor_protected_mode
processor_gdt_pointer:
        .word   gdt_pointer - gdt - 1
        .long   gdt
processor_start_end:
        .code64

# bool svsm_compare_exchange_is_sound(): whether CMPXCHG16B leaves the flags alone that are not its own. QEMU 7.2 makes them up from an operand of the
# instruction before if what came before that loaded the flags, as POPF, IRET and VMRUN do. 0x8000 is no flag at all.
        function svsm_compare_exchange_is_sound
        push    %rbx
        xor     %eax, %eax
        xor     %edx, %edx
        xor     %ebx, %ebx
        xor     %ecx, %ecx
        push    %rax
        push    %rax
        mov     $0x8000, %edi
        mov     $1, %esi
        pushfq
        popfq
        cmp     %rdi, %rsi
        cmpxchg16b (%rsp)
        pushfq
        pop     %rax
        shr     $15, %eax
        and     $1, %eax
        xor     $1, %eax
        add     $16, %rsp
        pop     %rbx
        ret
        end_function svsm_compare_exchange_is_sound

# void svsm_hypervisor_layout(ulong* values): image start, text end, image end, exception stubs, start code of other processors, its end,
# and where that finds its stack
        function svsm_hypervisor_layout
        movq    $image_start, (%rdi)
        movq    $text_end, 8(%rdi)
        movq    $image_end, 16(%rdi)
        movq    $exception_stubs, 24(%rdi)
        movq    $processor_start, 32(%rdi)
        movq    $processor_start_end, 40(%rdi)
        movq    $processor_stack, 48(%rdi)
        ret
        end_function svsm_hypervisor_layout

# void svsm_world_switch(Vmcb* vmcb, WorldFrame* frame)
#
# Runs the guest until its next exit. WorldFrame (WorldSwitch.cs): 16 registers in the processor's numbering (RAX and RSP travel in the
# VMCB), time-stamp before entry (0x80) and after exit (0x88), FXSAVE area (0x100).
# GIF is clear before and after. Between the two RDTSC there are, beside the guest's, the instructions that WorldSwitch.cs counts.
        .set    FRAME_TSC_ENTRY, 0x80
        .set    FRAME_TSC_EXIT, 0x88
        .set    FRAME_FX, 0x100

        function svsm_world_switch
        push    %rbx
        push    %rbp
        push    %r12
        push    %r13
        push    %r14
        push    %r15
        push    %rsi
        fxrstor64 FRAME_FX(%rsi)
        rdtsc
        shl     $32, %rdx
        or      %rdx, %rax
        mov     %rax, FRAME_TSC_ENTRY(%rsi)
        mov     %rdi, %rax
        vmload  %rax
        mov     0x08(%rsi), %rcx
        mov     0x10(%rsi), %rdx
        mov     0x18(%rsi), %rbx
        mov     0x28(%rsi), %rbp
        mov     0x38(%rsi), %rdi
        mov     0x40(%rsi), %r8
        mov     0x48(%rsi), %r9
        mov     0x50(%rsi), %r10
        mov     0x58(%rsi), %r11
        mov     0x60(%rsi), %r12
        mov     0x68(%rsi), %r13
        mov     0x70(%rsi), %r14
        mov     0x78(%rsi), %r15
        mov     0x30(%rsi), %rsi
        vmrun   %rax
        vmsave  %rax
        xchg    %rsi, (%rsp)                    # guest's rsi to the stack, frame to rsi
        mov     %rcx, 0x08(%rsi)
        mov     %rdx, 0x10(%rsi)
        rdtsc
        shl     $32, %rdx
        or      %rdx, %rax
        mov     %rax, FRAME_TSC_EXIT(%rsi)
        mov     %rbx, 0x18(%rsi)
        mov     %rbp, 0x28(%rsi)
        mov     %rdi, 0x38(%rsi)
        mov     %r8, 0x40(%rsi)
        mov     %r9, 0x48(%rsi)
        mov     %r10, 0x50(%rsi)
        mov     %r11, 0x58(%rsi)
        mov     %r12, 0x60(%rsi)
        mov     %r13, 0x68(%rsi)
        mov     %r14, 0x70(%rsi)
        mov     %r15, 0x78(%rsi)
        pop     0x30(%rsi)
        fxsave64 FRAME_FX(%rsi)
        pop     %r15
        pop     %r14
        pop     %r13
        pop     %r12
        pop     %rbp
        pop     %rbx
        ret
        end_function svsm_world_switch

# Interrupts wait outside of the guest from now on. IF is set for good: with it, those of the outer machine end the guest's run.
        function svsm_hold_interrupts
        clgi
        sti
        ret
        end_function svsm_hold_interrupts

# Takes what waits.
        function svsm_take_interrupt
        stgi
        nop
        clgi
        ret
        end_function svsm_take_interrupt

# uint svsm_take_pins(): the pins that have interrupted since the last call.
        function svsm_take_pins
        xor     %eax, %eax
        xchg    %al, pins(%rip)
        ret
        end_function svsm_take_pins

# Takes an NMI that waits, and leaves the timer's interrupt alone: who takes that has to look at the clock.
        function svsm_take_nmi
        cli
        stgi
        nop
        clgi
        nop
        sti
        ret
        end_function svsm_take_nmi

# Waits for an interrupt or NMI and takes it. The shadow of STI ends behind HLT: what comes before is not lost. An NMI that comes before skips
# the HLT (nmi_interrupt).
        function svsm_wait_for_interrupt
        cli
        stgi
wait_begin:
        sti
        hlt
wait_end:
        sti
        clgi
        ret
        end_function svsm_wait_for_interrupt

# Debug registers 0 to 3, which the VMCB does not hold.
        function svsm_read_debug_registers
        mov     %db0, %rax
        mov     %rax, (%rdi)
        mov     %db1, %rax
        mov     %rax, 8(%rdi)
        mov     %db2, %rax
        mov     %rax, 16(%rdi)
        mov     %db3, %rax
        mov     %rax, 24(%rdi)
        ret
        end_function svsm_read_debug_registers

        function svsm_write_debug_registers
        mov     (%rdi), %rax
        mov     %rax, %db0
        mov     8(%rdi), %rax
        mov     %rax, %db1
        mov     16(%rdi), %rax
        mov     %rax, %db2
        mov     24(%rdi), %rax
        mov     %rax, %db3
        ret
        end_function svsm_write_debug_registers

# Exceptions of the hypervisor itself: none is expected, all but the NMI end the run. 16 bytes per stub.
# Frame for svsm_hypervisor_exception(ulong* frame): vector, error code, rip, cs, rflags, rsp, ss.
        .section .text.exception_stubs, "ax", @progbits
        .p2align 4
exception_stubs:
        .set    vector, 0
        .rept   32
        .p2align 4
        .if vector == 2
        jmp     nmi_interrupt
        .endif
        .if (vector == 8) || ((vector >= 10) && (vector <= 14)) || (vector == 17)
        .else
        push    $0
        .endif
        push    $vector
        jmp     exception_common
        .set    vector, vector + 1
        .endr

# Outer timer, or another processor: the clock is asked and the model looked at, so all there is to do is to end the interrupt. Spurious: not
# even that.
        .p2align 4
        jmp     timer_interrupt
        .p2align 4
        iretq

# Pins of PCI devices: which is noted (Interrupts.cs), and the interrupt is ended.
        .set    pin, 0
        .rept   4
        .p2align 4
        lock orb $(1 << pin), pins(%rip)
        jmp     timer_interrupt
        .set    pin, pin + 1
        .endr

timer_interrupt:
        push    %rax
        mov     $APIC_END_OF_INTERRUPT, %eax
        movl    $0, (%rax)
        pop     %rax
        iretq

nmi_interrupt:
        push    %rax
        lea     wait_begin(%rip), %rax
        cmp     %rax, 8(%rsp)
        jb      .Lnmi_done
        lea     wait_end(%rip), %rax
        cmp     %rax, 8(%rsp)
        jae     .Lnmi_done
        mov     %rax, 8(%rsp)
.Lnmi_done:
        pop     %rax
        iretq

exception_common:
        mov     %rsp, %rdi
        mov     %rbp, %rsi
        and     $-16, %rsp
        cld
        call    svsm_hypervisor_exception
        ud2

        .section .rodata.gdt, "a", @progbits
        .p2align 3
gdt:
        .quad   0
        .quad   0x00AF9B000000FFFF              # code, 64-bit
        .quad   0x00CF93000000FFFF              # data
        .quad   0x00CF9B000000FFFF              # code, 32-bit
gdt_pointer:
        .word   . - gdt - 1
        .long   gdt

        .bss
        .p2align 12
pml4:   .skip   0x1000
pdpt:   .skip   0x1000
pd:     .skip   0x1000
pt_low: .skip   0x1000
pt_image: .skip 0x1000
processor_stack: .skip 0x10
stack:  .skip   STACK_SIZE
stack_top:
heap:   .skip   HEAP_SIZE
pins:   .skip   1

        .section .note.GNU-stack, "", @progbits
