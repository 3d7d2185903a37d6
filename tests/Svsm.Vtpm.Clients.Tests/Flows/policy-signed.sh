# SPDX-License-Identifier: MIT
# Copyright (c) The Svsm.Sdk contributors
# Policy: signed by a key outside of the TPM
# tcti: mssim
openssl ecparam -name prime256v1 -genkey -noout -out signer.pem
openssl ec -in signer.pem -pubout -out signer.pub 2> /dev/null
tpm2_loadexternal -C o -G ecc -u signer.pub -c signer.ctx > /dev/null
flush
tpm2_startauthsession -S s
printf '\0\0\0\0' > message
openssl dgst -sha256 -sign signer.pem -out signature message
tpm2_policysigned -S s -g sha256 -s signature -f ecdsa -c signer.ctx -L policy > /dev/null
flush
tpm2_flushcontext s
tpm2_nvdefine 0x1500030 -C o -s 4 -L policy -a 'policyread|ownerwrite' > /dev/null
printf 'abcd' > data
tpm2_nvwrite 0x1500030 -C o -i data
tpm2_startauthsession --policy-session -S s
tpm2_policysigned -S s -g sha256 -s signature -f ecdsa -c signer.ctx > /dev/null
flush
same "$(tpm2_nvread 0x1500030 -C 0x1500030 -P session:s -s 4)" abcd
tpm2_flushcontext s
printf '\0\0\0\1' > message
openssl dgst -sha256 -sign signer.pem -out signature message
tpm2_startauthsession --policy-session -S s
fails 'signature' tpm2_policysigned -S s -g sha256 -s signature -f ecdsa -c signer.ctx
flush
tpm2_flushcontext s
