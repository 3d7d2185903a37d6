# SPDX-License-Identifier: MIT
# Copyright (c) The Svsm.Sdk contributors
# Policy: approved by a signature
# tcti: swtpm
tpm2_startauthsession -S s
tpm2_policycommandcode -S s -L approved TPM2_CC_NV_Read > /dev/null
tpm2_flushcontext s
tpm2_createprimary -C o -G rsa2048:rsassa:null -a 'sign|userwithauth|sensitivedataorigin|fixedtpm|fixedparent' -c signer.ctx > /dev/null
flush
tpm2_readpublic -c signer.ctx -n signer.name > /dev/null
flush
tpm2_sign -c signer.ctx -g sha256 -o signature approved
flush
tpm2_verifysignature -c signer.ctx -g sha256 -m approved -s signature -t ticket
flush
tpm2_startauthsession -S s
tpm2_policyauthorize -S s -L policy -i approved -n signer.name > /dev/null
tpm2_flushcontext s
tpm2_nvdefine 0x1500031 -C o -s 4 -L policy -a 'policyread|ownerwrite' > /dev/null
printf 'abcd' > data
tpm2_nvwrite 0x1500031 -C o -i data
tpm2_startauthsession --policy-session -S s
tpm2_policycommandcode -S s TPM2_CC_NV_Read > /dev/null
tpm2_policyauthorize -S s -i approved -n signer.name -t ticket > /dev/null
same "$(tpm2_nvread 0x1500031 -C 0x1500031 -P session:s -s 4)" abcd
tpm2_flushcontext s
tpm2_startauthsession --policy-session -S s
tpm2_policycommandcode -S s TPM2_CC_NV_Write > /dev/null
fails 'value is out of range' tpm2_policyauthorize -S s -i approved -n signer.name -t ticket
tpm2_flushcontext s
