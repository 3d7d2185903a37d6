# SPDX-License-Identifier: MIT
# Copyright (c) The Svsm.Sdk contributors
#
# Which allocations of frames a test wants refused: the number of the first one, from 0, and how many. A test writes the two words into the file.

        .include "Svsm.CoreLib.Macros.inc"

        function svsm_refusal_address
        lea     svsm_refusal(%rip), %rax
        ret
        end_function svsm_refusal_address

        .data
        .p2align 3
        .globl  svsm_refusal
        .type   svsm_refusal, @object
svsm_refusal:
        .quad   0, 0
        .size   svsm_refusal, . - svsm_refusal

        .section .note.GNU-stack, "", @progbits
