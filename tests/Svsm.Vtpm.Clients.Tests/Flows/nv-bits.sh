# SPDX-License-Identifier: MIT
# Copyright (c) The Svsm.Sdk contributors
# NV: bits
# tcti: mssim
tpm2_nvdefine 0x1500003 -C o -s 8 -a 'ownerread|ownerwrite|nt=bits' > /dev/null
tpm2_nvsetbits 0x1500003 -C o -i 0x0f
tpm2_nvsetbits 0x1500003 -C o -i 0xf000000000000000
same "$(tpm2_nvread 0x1500003 -C o -s 8 | xxd -p)" f00000000000000f
