# SPDX-License-Identifier: MIT
# Copyright (c) The Svsm.Sdk contributors
# Sealed data: under an ECC and an RSA parent
# tcti: tabrmd
tpm2_createprimary -Q -C o -G ecc -c parent.ctx
echo secret > data
tpm2_create -Q -C parent.ctx -i data -u seal.pub -r seal.priv -p open
tpm2_load -Q -C parent.ctx -u seal.pub -r seal.priv -c seal.ctx
same "$(tpm2_unseal -c seal.ctx -p open)" secret
fails 0x98E tpm2_unseal -c seal.ctx -p wrong
flush
tpm2_createprimary -Q -C o -G rsa -c parent.ctx
tpm2_create -Q -C parent.ctx -i data -u seal.pub -r seal.priv
tpm2_load -Q -C parent.ctx -u seal.pub -r seal.priv -c seal.ctx
same "$(tpm2_unseal -c seal.ctx)" secret
