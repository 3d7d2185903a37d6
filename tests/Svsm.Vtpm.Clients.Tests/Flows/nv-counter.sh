# SPDX-License-Identifier: MIT
# Copyright (c) The Svsm.Sdk contributors
# NV: counters do not go back, not even when they are defined again
# tcti: swtpm
tpm2_nvdefine 0x1500002 -C o -s 8 -a 'ownerread|ownerwrite|nt=counter' > /dev/null
fails 'before being initialized' tpm2_nvread 0x1500002 -C o -s 8
tpm2_nvincrement 0x1500002 -C o
tpm2_nvincrement 0x1500002 -C o
same "$(tpm2_nvread 0x1500002 -C o -s 8 | xxd -p)" 0000000000000002
tpm2_nvundefine 0x1500002 -C o
tpm2_nvdefine 0x1500002 -C o -s 8 -a 'ownerread|ownerwrite|nt=counter' > /dev/null
tpm2_nvincrement 0x1500002 -C o
same "$(tpm2_nvread 0x1500002 -C o -s 8 | xxd -p)" 0000000000000003
printf x > data
fails 'attributes' tpm2_nvwrite 0x1500002 -C o -i data
