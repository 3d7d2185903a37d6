# SPDX-License-Identifier: MIT
# Copyright (c) The Svsm.Sdk contributors
# NV: write lock, read lock, global lock
# tcti: swtpm
tpm2_nvdefine 0x1500007 -C o -s 4 -a 'ownerread|ownerwrite|write_stclear|read_stclear' > /dev/null
tpm2_nvdefine 0x1500008 -C o -s 4 -a 'ownerread|ownerwrite|globallock|writedefine' > /dev/null
printf 'abcd' > data
tpm2_nvwrite 0x1500007 -C o -i data
tpm2_nvwrite 0x1500008 -C o -i data
tpm2_nvwritelock 0x1500007 -C o
fails 'locked' tpm2_nvwrite 0x1500007 -C o -i data
tpm2_nvreadlock 0x1500007 -C o
fails 'locked' tpm2_nvread 0x1500007 -C o -s 4
tpm2_nvwritelock -C o --global
fails 'locked' tpm2_nvwrite 0x1500008 -C o -i data
tpm2_shutdown -c
power_cycle
tpm2_startup -c
tpm2_nvwrite 0x1500007 -C o -i data
same "$(tpm2_nvread 0x1500007 -C o -s 4)" abcd
fails 'locked' tpm2_nvwrite 0x1500008 -C o -i data
