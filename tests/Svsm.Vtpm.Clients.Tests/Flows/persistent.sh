# SPDX-License-Identifier: MIT
# Copyright (c) The Svsm.Sdk contributors
# Persistent objects live across power cycles
# tcti: swtpm
tpm2_createprimary -C o -G hmac -a 'sign|userwithauth|sensitivedataorigin|fixedtpm|fixedparent' -c key.ctx > /dev/null
tpm2_evictcontrol -C o -c key.ctx 0x81000005 > /dev/null
flush
printf 'data' > data
tpm2_hmac -c key.ctx -g sha256 -o a data
tpm2_shutdown -c
power_cycle
tpm2_startup -c
tpm2_getcap handles-persistent | has 0x81000005
tpm2_hmac -c 0x81000005 -g sha256 -o b data
cmp a b
tpm2_evictcontrol -C o -c 0x81000005 > /dev/null
same "$(tpm2_getcap handles-persistent)" ""
fails 'handle' tpm2_hmac -c 0x81000005 data
