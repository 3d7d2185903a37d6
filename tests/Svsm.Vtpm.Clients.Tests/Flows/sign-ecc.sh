# SPDX-License-Identifier: MIT
# Copyright (c) The Svsm.Sdk contributors
# ECC signatures, verified by OpenSSL and by the TPM; keys from outside
# tcti: tabrmd
echo message > message
for curve in ecc256 ecc384 ecc521; do
    tpm2_createprimary -Q -C o -G ecc -c parent.ctx
    tpm2_create -Q -C parent.ctx -G $curve -u key.pub -r key.priv
    tpm2_load -Q -C parent.ctx -u key.pub -r key.priv -c key.ctx
    tpm2_readpublic -Q -c key.ctx -f pem -o key.pem
    for hash in sha256 sha384; do
        tpm2_sign -Q -c key.ctx -g $hash -s ecdsa -f plain -o signature message
        openssl dgst -$hash -verify key.pem -signature signature message | has OK
        tpm2_sign -Q -c key.ctx -g $hash -s ecschnorr -o signature message
        tpm2_verifysignature -Q -c key.ctx -g $hash -m message -s signature
        fails 0x2DB tpm2_verifysignature -Q -c key.ctx -g $hash -m key.pub -s signature
    done
    flush
done
openssl ecparam -name prime256v1 -genkey -noout -out other.pem
openssl ec -in other.pem -pubout -out other.pub.pem
openssl dgst -sha256 -sign other.pem -out signature message
tpm2_loadexternal -Q -C o -G ecc -u other.pub.pem -c other.ctx
tpm2_verifysignature -Q -c other.ctx -g sha256 -f ecdsa -m message -s signature -t ticket
tpm2_loadexternal -Q -G ecc -r other.pem -c pair.ctx
tpm2_sign -Q -c pair.ctx -g sha256 -s ecdsa -f plain -o signature message
openssl dgst -sha256 -verify other.pub.pem -signature signature message | has OK
