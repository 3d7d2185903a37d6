# SPDX-License-Identifier: MIT
# Copyright (c) The Svsm.Sdk contributors
# NV: certified content
# tcti: tabrmd
tpm2_nvdefine 0x1500032 -C o -s 8 -a 'ownerread|ownerwrite|authread' > /dev/null
printf 'abcdefgh' > data
tpm2_nvwrite 0x1500032 -C o -i data
tpm2_createprimary -C o -G rsa2048:rsassa:null -a 'sign|userwithauth|sensitivedataorigin|fixedtpm|fixedparent' -c signer > /dev/null
tpm2_nvcertify -C signer -c o -g sha256 -f plain -s rsassa -o signature --attestation attest --size 4 --offset 2 0x1500032
tpm2_readpublic -c signer -f pem -o signer.pem > /dev/null
openssl dgst -sha256 -verify signer.pem -signature signature attest
tail -c 4 attest | cmp - <(printf 'cdef')
