# SPDX-License-Identifier: MIT
# Copyright (c) The Svsm.Sdk contributors
# AES modes over several buffers
# tcti: tabrmd
tpm2_createprimary -Q -C o -G ecc -c parent.ctx
head -c 3008 /dev/urandom > plain
for mode in cfb ctr ofb; do
    tpm2_create -Q -C parent.ctx -G aes128$mode -u key.pub -r key.priv
    tpm2_load -Q -C parent.ctx -u key.pub -r key.priv -c key.ctx
    tpm2_getrandom -o iv 16
    tpm2_encryptdecrypt -Q -c key.ctx -t iv -o cipher plain
    tpm2_encryptdecrypt -Q -d -c key.ctx -t iv -o back cipher
    cmp plain back
    flush
done
tpm2_create -Q -C parent.ctx -G aes256cbc -u key.pub -r key.priv
tpm2_load -Q -C parent.ctx -u key.pub -r key.priv -c key.ctx
tpm2_encryptdecrypt -Q -c key.ctx -t iv -o cipher plain
tpm2_encryptdecrypt -Q -d -c key.ctx -t iv -o back cipher
cmp plain back
