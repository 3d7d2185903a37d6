# SPDX-License-Identifier: MIT
# Copyright (c) The Svsm.Sdk contributors
# RSA encryption, by the TPM and by OpenSSL
# tcti: tabrmd
tpm2_createprimary -Q -C o -G ecc -c parent.ctx
tpm2_create -Q -C parent.ctx -G rsa2048 -u key.pub -r key.priv
tpm2_load -Q -C parent.ctx -u key.pub -r key.priv -c key.ctx
tpm2_readpublic -Q -c key.ctx -f pem -o key.pem
echo secret > plain
for scheme in rsaes oaep; do
    tpm2_rsaencrypt -Q -c key.ctx -s $scheme -o cipher plain
    same "$(tpm2_rsadecrypt -c key.ctx -s $scheme cipher)" secret
done
openssl pkeyutl -encrypt -pubin -inkey key.pem -pkeyopt rsa_padding_mode:oaep -pkeyopt rsa_oaep_md:sha256 -in plain -out cipher
same "$(tpm2_rsadecrypt -c key.ctx -s oaep cipher)" secret
openssl pkeyutl -encrypt -pubin -inkey key.pem -in plain -out cipher
same "$(tpm2_rsadecrypt -c key.ctx -s rsaes cipher)" secret
head -c 256 plain /dev/zero | head -c 255 > short
fails 0x95 tpm2_rsadecrypt -c key.ctx -s oaep short
