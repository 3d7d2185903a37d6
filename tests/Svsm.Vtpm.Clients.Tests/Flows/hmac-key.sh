# SPDX-License-Identifier: MIT
# Copyright (c) The Svsm.Sdk contributors
# HMAC: a primary key, its context, a sequence
# tcti: mssim
tpm2_createprimary -C o -G hmac -a 'sign|userwithauth|sensitivedataorigin|fixedtpm|fixedparent' -c key.ctx > /dev/null
flush
printf 'short' > short
seq 1000 > long
tpm2_hmac -c key.ctx -g sha256 -o a short
flush
tpm2_hmac -c key.ctx -g sha256 -o b short
flush
cmp a b
tpm2_hmac -c key.ctx -g sha256 -o c long
! cmp -s a c
