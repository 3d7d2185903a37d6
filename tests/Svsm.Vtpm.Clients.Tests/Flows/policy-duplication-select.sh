# SPDX-License-Identifier: MIT
# Copyright (c) The Svsm.Sdk contributors
# Policy: duplication to one new parent
# tcti: mssim
tpm2_createprimary -C o -G ecc -c old > /dev/null
flush
tpm2_createprimary -C o -G rsa -c new > /dev/null
flush
tpm2_readpublic -c new -n new.name > /dev/null
flush
tpm2_startauthsession -S s
tpm2_policyduplicationselect -S s -L policy -N new.name > /dev/null
tpm2_flushcontext s
tpm2_create -C old -G ecc -L policy -a 'sensitivedataorigin|userwithauth|decrypt|sign' -u key.pub -r key.priv > /dev/null
flush
tpm2_load -C old -u key.pub -r key.priv -c key > /dev/null
flush
tpm2_readpublic -c key -n key.name > /dev/null
flush
tpm2_startauthsession --policy-session -S s
tpm2_policyduplicationselect -S s -N new.name -n key.name > /dev/null
tpm2_duplicate -C new -c key -G null -p session:s -r dup.priv -s dup.seed
flush
tpm2_flushcontext s
tpm2_import -C new -u key.pub -r imported.priv -i dup.priv -s dup.seed > /dev/null
flush
tpm2_load -C new -u key.pub -r imported.priv -c imported > /dev/null
flush
tpm2_startauthsession --policy-session -S s
tpm2_policyduplicationselect -S s -N new.name -n key.name > /dev/null
fails 'policy' tpm2_duplicate -C old -c key -G null -p session:s -r dup.priv -s dup.seed
flush
tpm2_flushcontext s
