# SPDX-License-Identifier: MIT
# Copyright (c) The Svsm.Sdk contributors
# Command audit
# tcti: tabrmd
tpm2_createprimary -Q -C e -G ecc -c parent.ctx
tpm2_create -Q -C parent.ctx -G ecc -u sign.pub -r sign.priv
tpm2_load -Q -C parent.ctx -u sign.pub -r sign.priv -c sign.ctx
tpm2_readpublic -Q -c sign.ctx -f pem -o sign.pem
tpm2_setcommandauditstatus TPM2_CC_GetRandom
tpm2_getcap commands-audit | has TPM2_CC_GetRandom
tpm2_getrandom --hex 8
tpm2_getcommandauditdigest -Q -c sign.ctx -g sha256 -s signature -f plain -m attest
openssl dgst -sha256 -verify sign.pem -signature signature attest | has OK
tpm2_setcommandauditstatus -c TPM2_CC_GetRandom
