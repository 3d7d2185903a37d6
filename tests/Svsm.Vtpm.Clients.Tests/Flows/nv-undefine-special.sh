# SPDX-License-Identifier: MIT
# Copyright (c) The Svsm.Sdk contributors
# NV: an index that only a policy and the platform remove
# tcti: swtpm
tpm2_startauthsession -S s
tpm2_policycommandcode -S s -L policy TPM2_CC_NV_UndefineSpaceSpecial > /dev/null
tpm2_flushcontext s
tpm2_nvdefine 0x1500010 -C p -s 4 -L policy -a 'ppread|ppwrite|platformcreate|policydelete' > /dev/null
fails 'policy session' tpm2_nvundefine 0x1500010 -C p
tpm2_startauthsession --policy-session -S s
tpm2_policycommandcode -S s TPM2_CC_NV_UndefineSpaceSpecial > /dev/null
tpm2_nvundefine 0x1500010 -C p -S s
tpm2_flushcontext s
same "$(tpm2_getcap handles-nv-index)" ""
