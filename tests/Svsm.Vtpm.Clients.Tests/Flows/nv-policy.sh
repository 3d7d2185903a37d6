# SPDX-License-Identifier: MIT
# Copyright (c) The Svsm.Sdk contributors
# NV: read by policy, authValue changed by policy
# tcti: mssim
tpm2_startauthsession -S s
tpm2_policycommandcode -S s -L policy TPM2_CC_NV_ChangeAuth > /dev/null
tpm2_flushcontext s
tpm2_nvdefine 0x1500009 -C o -s 4 -p old -L policy -a 'authread|authwrite|ownerwrite' > /dev/null
printf 'abcd' > data
tpm2_nvwrite 0x1500009 -C o -i data
tpm2_startauthsession --policy-session -S s
tpm2_policycommandcode -S s TPM2_CC_NV_ChangeAuth > /dev/null
tpm2_changeauth -c 0x1500009 -p session:s new
tpm2_flushcontext s
same "$(tpm2_nvread 0x1500009 -C 0x1500009 -P new -s 4)" abcd
