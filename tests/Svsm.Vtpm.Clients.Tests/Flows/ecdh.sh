# SPDX-License-Identifier: MIT
# Copyright (c) The Svsm.Sdk contributors
# ECDH with ephemeral keys; curve parameters
# tcti: tabrmd
for curve in ecc256 ecc384 ecc521 ; do
    tpm2_createprimary -Q -C o -G $curve:ecdh -a 'decrypt|userwithauth|sensitivedataorigin' -c key.ctx
    tpm2_ecdhkeygen -u public -o z1 -c key.ctx
    tpm2_ecdhzgen -u public -o z2 -c key.ctx
    cmp z1 z2
    flush
done
for curve in ecc256 ecc384 ecc521; do
    tpm2_geteccparameters -Q $curve -o parameters
    tpm2_ecephemeral -Q -u q.bin -t counter $curve
done
tpm2_createprimary -Q -C o -G ecc256:ecdh -a 'decrypt|userwithauth|sensitivedataorigin' -c key.ctx
tpm2_ecephemeral -Q -u ephemeral -t counter ecc256
tpm2_ecdhkeygen -u static -o z1 -c key.ctx
tpm2_zgen2phase -Q -c key.ctx --static-public static --ephemeral-public ephemeral -t 0 --output-Z1 z2 --output-Z2 z3
cmp z1 z2
test -s z3
