# SPDX-License-Identifier: MIT
# Copyright (c) The Svsm.Sdk contributors
# NV: PIN fail and PIN pass
# tcti: mssim
tpm2_nvdefine 0x1500005 -C o -s 8 -p right -a 'ownerread|ownerwrite|authread|no_da|nt=pinfail' > /dev/null
printf '\0\0\0\0\0\0\0\2' > limit
tpm2_nvwrite 0x1500005 -C o -i limit
tpm2_nvread 0x1500005 -C 0x1500005 -P right -s 8 -o a
fails 'auth' tpm2_nvread 0x1500005 -C 0x1500005 -P wrong -s 8
same "$(tpm2_nvread 0x1500005 -C o -s 4 | xxd -p)" 00000001
tpm2_nvread 0x1500005 -C 0x1500005 -P right -s 8 -o a
same "$(tpm2_nvread 0x1500005 -C o -s 4 | xxd -p)" 00000000
fails 'auth' tpm2_nvread 0x1500005 -C 0x1500005 -P wrong -s 8
fails 'auth' tpm2_nvread 0x1500005 -C 0x1500005 -P wrong -s 8
fails 'auth' tpm2_nvread 0x1500005 -C 0x1500005 -P right -s 8
tpm2_nvdefine 0x1500006 -C o -s 8 -p right -a 'ownerread|ownerwrite|authread|nt=pinpass' > /dev/null
tpm2_nvwrite 0x1500006 -C o -i limit
tpm2_nvread 0x1500006 -C 0x1500006 -P right -s 8 -o a
tpm2_nvread 0x1500006 -C 0x1500006 -P right -s 8 -o a
fails 'auth' tpm2_nvread 0x1500006 -C 0x1500006 -P right -s 8
