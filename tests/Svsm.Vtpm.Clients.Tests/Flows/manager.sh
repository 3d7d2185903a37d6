# SPDX-License-Identifier: MIT
# Copyright (c) The Svsm.Sdk contributors
# Resource manager: more objects than slots, sequences between them
# tcti: tabrmd
for i in 1 2 3 4 5 6; do tpm2_createprimary -C o -G hmac -a 'sign|userwithauth|sensitivedataorigin|fixedtpm|fixedparent' -g sha$( [ $((i % 2)) = 0 ] && echo 256 || echo 384) -c key$i.ctx > /dev/null; done
printf 'data' > data
for i in 1 2 3 4 5 6; do tpm2_hmac -c key$i.ctx -o mac$i data; done
cmp mac1 mac3
cmp mac2 mac6
seq 3000 > long
tpm2_hash -C n -g sha256 -o digest long
same "$(xxd -p -c 64 digest)" "$(sha256sum long | cut -d' ' -f1)"
