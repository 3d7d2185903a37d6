# SPDX-License-Identifier: MIT
# Copyright (c) The Svsm.Sdk contributors
# RSA signatures, verified by OpenSSL and by the TPM
# tcti: tabrmd
tpm2_createprimary -Q -C o -G ecc -c parent.ctx
echo message > message
tpm2_create -Q -C parent.ctx -G rsa2048 -u key.pub -r key.priv
tpm2_load -Q -C parent.ctx -u key.pub -r key.priv -c key.ctx
tpm2_readpublic -Q -c key.ctx -f pem -o key.pem
for hash in sha1 sha256 sha384 sha512; do
    tpm2_sign -Q -c key.ctx -g $hash -s rsassa -f plain -o signature message
    openssl dgst -$hash -verify key.pem -signature signature message | has OK
    tpm2_sign -Q -c key.ctx -g $hash -s rsapss -f plain -o signature message
    openssl dgst -$hash -sigopt rsa_padding_mode:pss -verify key.pem -signature signature message | has OK
    tpm2_sign -Q -c key.ctx -g $hash -s rsassa -o signature message
    tpm2_verifysignature -Q -c key.ctx -g $hash -m message -s signature -t ticket
    tpm2_sign -Q -c key.ctx -g $hash -s rsapss -o signature message
    tpm2_verifysignature -Q -c key.ctx -g $hash -m message -s signature
    fails 0x2DB tpm2_verifysignature -Q -c key.ctx -g $hash -m key.pub -s signature
done
