# SPDX-License-Identifier: MIT
# Copyright (c) The Svsm.Sdk contributors
# Duplication to another parent, with and without an inner wrap
# tcti: tabrmd
echo message > message
tpm2_startauthsession -S trial.ctx
tpm2_policycommandcode -Q -S trial.ctx -L policy TPM2_CC_Duplicate
tpm2_flushcontext trial.ctx
for inner in null aes; do
    tpm2_createprimary -Q -C o -G ecc -c old.ctx
    tpm2_createprimary -Q -C p -G rsa -c new.ctx
    tpm2_create -Q -C old.ctx -G ecc -u key.pub -r key.priv -L policy -a 'sensitivedataorigin|userwithauth|sign'
    tpm2_load -Q -C old.ctx -u key.pub -r key.priv -c key.ctx
    tpm2_startauthsession --policy-session -S session.ctx
    tpm2_policycommandcode -Q -S session.ctx TPM2_CC_Duplicate
    if [ $inner = null ]; then
        tpm2_duplicate -Q -C new.ctx -c key.ctx -G null -p session:session.ctx -r dup.priv -s dup.seed
        tpm2_flushcontext session.ctx
        tpm2_import -Q -C new.ctx -u key.pub -i dup.priv -r new.priv -s dup.seed
    else
        tpm2_duplicate -Q -C new.ctx -c key.ctx -G aes -o inner.key -p session:session.ctx -r dup.priv -s dup.seed
        tpm2_flushcontext session.ctx
        tpm2_import -Q -C new.ctx -u key.pub -i dup.priv -r new.priv -s dup.seed -k inner.key
    fi
    flush
    tpm2_load -Q -C new.ctx -u key.pub -r new.priv -c key.ctx
    tpm2_sign -Q -c key.ctx -g sha256 -o signature message
    tpm2_verifysignature -Q -c key.ctx -g sha256 -m message -s signature
    flush
done
