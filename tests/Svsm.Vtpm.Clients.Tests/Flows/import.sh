# SPDX-License-Identifier: MIT
# Copyright (c) The Svsm.Sdk contributors
# Keys made by OpenSSL under RSA and ECC parents
# tcti: tabrmd
openssl genrsa -out rsa.pem 2048
openssl ecparam -name prime256v1 -genkey -noout -out ecc.pem
head -c 16 /dev/zero > aes.key
echo message > message
for kind in rsa ecc; do
    tpm2_createprimary -Q -C o -G $kind -c parent.ctx
    tpm2_import -Q -C parent.ctx -G rsa -i rsa.pem -u key.pub -r key.priv
    tpm2_load -Q -C parent.ctx -u key.pub -r key.priv -c key.ctx
    tpm2_sign -Q -c key.ctx -g sha256 -f plain -o signature message
    openssl dgst -sha256 -prverify rsa.pem -signature signature message | has OK
    flush
    tpm2_import -Q -C parent.ctx -G ecc -i ecc.pem -u key.pub -r key.priv
    tpm2_load -Q -C parent.ctx -u key.pub -r key.priv -c key.ctx
    tpm2_sign -Q -c key.ctx -g sha256 -f plain -o signature message
    openssl dgst -sha256 -prverify ecc.pem -signature signature message | has OK
    flush
    tpm2_import -Q -C parent.ctx -G aes -i aes.key -u key.pub -r key.priv
    tpm2_load -Q -C parent.ctx -u key.pub -r key.priv -c key.ctx
    head -c 16 /dev/zero > iv
    tpm2_encryptdecrypt -Q -c key.ctx -t iv -o cipher message
    same "$(openssl enc -d -aes-128-cfb -K 00000000000000000000000000000000 -iv 00000000000000000000000000000000 -in cipher)" message
    flush
done
