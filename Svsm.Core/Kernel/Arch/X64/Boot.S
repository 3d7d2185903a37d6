# SPDX-License-Identifier: MIT
# Copyright (c) The Svsm.Sdk contributors
#
# The boot stub: from the launch VMSA's 32-bit protected mode to the kernel in the high half. docs/image-layout.md has the whole story.
#
# In:   ebx = BootParameters (Svsm.Core/Wire/ImageLayout.cs), flat segments, paging off, interrupts off. No stack.
# Out:  rdi = C-bit mask, rsi = CPUID page, rsp = KernelStackTop, rip = KernelEntry, on the boot page tables, SSE on.
#
# Registers: ebx parameters, ebp upper half of the C-bit mask, edi reason of a termination.
#
# All that is read here was launched by the security processor: BootParameters and tables are measured, the CPUID page is checked by it.
# The C-bit position is still compared with its range, since a wrong bit would set reserved or address bits. While paging is off every
# access is private; CR3 is loaded twice, because the C-bit lies in the half that 32-bit code cannot reach. The processor treats the walk
# of page tables as private in between.

        .set    MSR_GHCB, 0xC0010130
        .set    MSR_SEV_STATUS, 0xC0010131
        .set    SEV_STATUS_VIRTUAL_TOM, 0x8
        .set    MSR_EFER, 0xC0000080
        .set    EFER_LME_NXE, 0x900
        .set    CR0_PG_WP_MP, 0x80010002
        .set    CR0_TS_EM, 0xC
        .set    CR4_PAE_OSFXSR_OSXMMEXCPT, 0x620

# Svsm.Core/Wire/ImageLayout.cs, BootParameters
        .set    BOOT_MAGIC, 0x50425653
        .set    BOOT_CPUID_PAGE, 0x04
        .set    BOOT_ROOT, 0x08
        .set    BOOT_TABLE_COUNT, 0x0C
        .set    BOOT_KERNEL_WINDOW, 0x10
        .set    BOOT_KERNEL_TABLE_COUNT, 0x18
        .set    BOOT_KERNEL_ENTRY, 0x28
        .set    BOOT_KERNEL_STACK, 0x30

# Svsm.Core/Wire/SecretsPage.cs, CPUID page
        .set    CPUID_MAX_ENTRIES, 64
        .set    CPUID_ENTRIES, 16
        .set    CPUID_ENTRY_LENGTH, 48
        .set    CPUID_EBX, 28
        .set    CPUID_ECX, 32
        .set    FUNCTION_FEATURES, 1
        .set    FUNCTION_ENCRYPTION, 0x8000001F
        .set    FEATURES_ECX_RDRAND_BIT, 30
        .set    C_BIT_LOWEST, 32
        .set    C_BIT_HIGHEST, 51

# Svsm.Core/Wire/TerminationReason.cs
        .set    REASON_SET, 5
        .set    REASON_BOOT_PARAMETERS, 0x01
        .set    REASON_CPUID_PAGE, 0x02
        .set    REASON_ENCRYPTION_BIT, 0x03
        .set    REASON_RANDOM_NUMBERS, 0x04
        .set    REASON_VIRTUAL_TOM, 0x05

        .section .boot, "ax", @progbits
        .code32
        .globl  svsm_boot
        .type   svsm_boot, @function
svsm_boot:
        cli
        cld

# A virtual top of memory gives the C-bit's place in an address another meaning.
        mov     $MSR_SEV_STATUS, %ecx
        rdmsr
        mov     $REASON_VIRTUAL_TOM, %edi
        test    $SEV_STATUS_VIRTUAL_TOM, %eax
        jnz     .Lterminate

        mov     $REASON_BOOT_PARAMETERS, %edi
        cmpl    $BOOT_MAGIC, (%ebx)
        jne     .Lterminate

# The C-bit position, and whether there is RDRAND.
        mov     BOOT_CPUID_PAGE(%ebx), %esi
        mov     (%esi), %ecx
        mov     $REASON_CPUID_PAGE, %edi
        cmp     $CPUID_MAX_ENTRIES, %ecx
        ja      .Lterminate
        xor     %ebp, %ebp                      # EBX of the encryption function; 0 is no position
        xor     %edx, %edx                      # ECX of the features function
        add     $CPUID_ENTRIES, %esi
.Lentry:
        sub     $1, %ecx
        jb      .Lentries_done
        cmpl    $FUNCTION_ENCRYPTION, (%esi)
        jne     1f
        mov     CPUID_EBX(%esi), %ebp
1:      cmpl    $FUNCTION_FEATURES, (%esi)
        jne     2f
        mov     CPUID_ECX(%esi), %edx
2:      add     $CPUID_ENTRY_LENGTH, %esi
        jmp     .Lentry
.Lentries_done:
        mov     $REASON_ENCRYPTION_BIT, %edi
        mov     %ebp, %ecx
        and     $0x3F, %ecx
        sub     $C_BIT_LOWEST, %ecx
        cmp     $(C_BIT_HIGHEST - C_BIT_LOWEST), %ecx
        ja      .Lterminate
        mov     $1, %ebp
        shl     %cl, %ebp
        mov     $REASON_RANDOM_NUMBERS, %edi
        bt      $FEATURES_ECX_RDRAND_BIT, %edx
        jnc     .Lterminate

# The C-bit in every present entry of the boot tables.
        mov     BOOT_ROOT(%ebx), %edi
        mov     BOOT_TABLE_COUNT(%ebx), %ecx
        shl     $9, %ecx
1:      testb   $1, (%edi)
        jz      2f
        or      %ebp, 4(%edi)
2:      add     $8, %edi
        sub     $1, %ecx
        jnz     1b

        mov     %cr4, %eax
        or      $CR4_PAE_OSFXSR_OSXMMEXCPT, %eax
        mov     %eax, %cr4
        mov     BOOT_ROOT(%ebx), %eax
        mov     %eax, %cr3
        mov     $MSR_EFER, %ecx
        rdmsr
        or      $EFER_LME_NXE, %eax
        wrmsr
        mov     %cr0, %eax
        and     $~CR0_TS_EM, %eax
        or      $CR0_PG_WP_MP, %eax
        mov     %eax, %cr0
        lgdt    boot_gdt_pointer
        ljmp    $0x08, $.Llong_mode

.Lterminate:
        mov     %edi, %eax
        shl     $16, %eax
        or      $(0x100 | REASON_SET << 12), %eax
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
        xor     %eax, %eax
        mov     %eax, %fs
        mov     %eax, %gs
        shl     $32, %rbp
        mov     BOOT_ROOT(%rbx), %eax
        or      %rbp, %rax
        mov     %rax, %cr3

# The C-bit in every present entry of the kernel's tables.
        mov     BOOT_KERNEL_WINDOW(%rbx), %rdi
        mov     BOOT_KERNEL_TABLE_COUNT(%rbx), %ecx
        shl     $9, %ecx
1:      testb   $1, (%rdi)
        jz      2f
        or      %rbp, (%rdi)
2:      add     $8, %rdi
        sub     $1, %ecx
        jnz     1b

        mov     %rbp, %rdi
        mov     BOOT_CPUID_PAGE(%rbx), %esi
        mov     BOOT_KERNEL_STACK(%rbx), %rsp
        jmp     *BOOT_KERNEL_ENTRY(%rbx)

# Accessed bits are set: the processor has no reason to write here.
        .p2align 3
boot_gdt:
        .quad   0
        .quad   0x00AF9B000000FFFF              # 64-bit code
        .quad   0x00CF93000000FFFF              # data
boot_gdt_pointer:
        .word   . - boot_gdt - 1
        .long   boot_gdt
        .size   svsm_boot, . - svsm_boot

        .section .note.GNU-stack, "", @progbits
