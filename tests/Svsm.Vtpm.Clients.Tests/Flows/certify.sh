# SPDX-License-Identifier: MIT
# Copyright (c) The Svsm.Sdk contributors
# Attestation of objects, of their creation and of time
# tcti: tabrmd
tpm2_createprimary -Q -C e -G ecc -g sha256 -c parent.ctx
tpm2_create -Q -C parent.ctx -G ecc -u sign.pub -r sign.priv
tpm2_load -Q -C parent.ctx -u sign.pub -r sign.priv -c sign.ctx
tpm2_readpublic -Q -c sign.ctx -f pem -o sign.pem
tpm2_certify -Q -c parent.ctx -C sign.ctx -g sha256 -o attest -s signature -f plain
openssl dgst -sha256 -verify sign.pem -signature signature attest | has OK
tpm2_create -Q -C parent.ctx -G rsa -u key.pub -r key.priv --creation-data creation.data -t creation.ticket -d creation.hash
tpm2_load -Q -C parent.ctx -u key.pub -r key.priv -c key.ctx
tpm2_certifycreation -Q -C sign.ctx -c key.ctx -d creation.hash -t creation.ticket -g sha256 -o signature -f plain --attestation attest
openssl dgst -sha256 -verify sign.pem -signature signature attest | has OK
head -c 32 /dev/zero > creation.hash
fails 0x4E0 tpm2_certifycreation -Q -C sign.ctx -c key.ctx -d creation.hash -t creation.ticket -g sha256 -o signature --attestation attest
flush
tpm2_load -Q -C parent.ctx -u sign.pub -r sign.priv -c sign.ctx
tpm2_gettime -Q -c sign.ctx -g sha256 -o signature -f plain --attestation attest
openssl dgst -sha256 -verify sign.pem -signature signature attest | has OK
