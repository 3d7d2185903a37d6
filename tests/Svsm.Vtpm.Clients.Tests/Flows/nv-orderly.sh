# SPDX-License-Identifier: MIT
# Copyright (c) The Svsm.Sdk contributors
# NV: orderly data and counters across an orderly and a sudden end
# tcti: mssim
tpm2_nvdefine 0x1500011 -C o -s 4 -a 'ownerread|ownerwrite|orderly' > /dev/null
tpm2_nvdefine 0x1500012 -C o -s 8 -a 'ownerread|ownerwrite|orderly|nt=counter' > /dev/null
printf 'abcd' > data
tpm2_nvwrite 0x1500011 -C o -i data
tpm2_nvincrement 0x1500012 -C o
tpm2_shutdown -c
power_cycle
tpm2_startup -c
same "$(tpm2_nvread 0x1500011 -C o -s 4)" abcd
same "$(tpm2_nvread 0x1500012 -C o -s 8 | xxd -p)" 0000000000000001
power_cycle
tpm2_startup -c
fails 'before being initialized' tpm2_nvread 0x1500011 -C o -s 4
same "$(tpm2_nvread 0x1500012 -C o -s 8 | xxd -p)" 00000000000000ff
tpm2_nvincrement 0x1500012 -C o
same "$(tpm2_nvread 0x1500012 -C o -s 8 | xxd -p)" 0000000000000100
