# SPDX-License-Identifier: MIT
# Copyright (c) The Svsm.Sdk contributors
# Another authValue for an object
# tcti: tabrmd
tpm2_createprimary -Q -C o -G ecc -c parent.ctx
echo secret > data
tpm2_create -Q -C parent.ctx -i data -u seal.pub -r seal.priv -p one
tpm2_load -Q -C parent.ctx -u seal.pub -r seal.priv -c seal.ctx
tpm2_changeauth -Q -C parent.ctx -c seal.ctx -p one -r seal2.priv two
same "$(tpm2_unseal -c seal.ctx -p one)" secret
flush
tpm2_load -Q -C parent.ctx -u seal.pub -r seal2.priv -c seal.ctx
same "$(tpm2_unseal -c seal.ctx -p two)" secret
