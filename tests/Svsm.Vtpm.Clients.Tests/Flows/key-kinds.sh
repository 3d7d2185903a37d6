# SPDX-License-Identifier: MIT
# Copyright (c) The Svsm.Sdk contributors
# Every kind of key: created, loaded, its Name
# tcti: tabrmd
for kind in rsa2048 ecc256 ecc384 ecc521 aes128cfb aes256cfb hmac; do
    tpm2_createprimary -Q -C o -G ecc -c parent.ctx
    tpm2_create -Q -C parent.ctx -G $kind -u key.pub -r key.priv --creation-data data -t ticket -d digest
    tpm2_load -Q -C parent.ctx -u key.pub -r key.priv -c key.ctx -n name
    tpm2_readpublic -Q -c key.ctx -n name2
    cmp name name2
    flush
done
tpm2_createprimary -Q -C o -G ecc -c parent.ctx
for kind in ecc rsa aes hmac; do
    tpm2_create -Q -C parent.ctx -G $kind -c key.ctx -u key.pub -r key.priv
    tpm2_readpublic -Q -c key.ctx
    tpm2_flushcontext -t
done
