# SPDX-License-Identifier: MIT
# Copyright (c) The Svsm.Sdk contributors
# NV: ordinary data, in pieces, larger than a buffer
# tcti: mssim
tpm2_nvdefine 0x1500001 -C o -s 2000 -a 'ownerread|ownerwrite|authread|authwrite' -p pass > /dev/null
head -c 2000 /dev/urandom > data
tpm2_nvwrite 0x1500001 -C o -i data
tpm2_nvread 0x1500001 -C 0x1500001 -P pass -s 2000 -o back
cmp data back
printf 'xyz' > part
tpm2_nvwrite 0x1500001 -C 0x1500001 -P pass --offset 10 -i part
same "$(tpm2_nvread 0x1500001 -C o -s 3 --offset 10)" xyz
fails 'handle does not match\|auth' tpm2_nvread 0x1500001 -C 0x1500001 -P wrong -s 3
tpm2_nvreadpublic 0x1500001 | has 'written'
tpm2_nvundefine 0x1500001 -C o
same "$(tpm2_getcap handles-nv-index)" ""
