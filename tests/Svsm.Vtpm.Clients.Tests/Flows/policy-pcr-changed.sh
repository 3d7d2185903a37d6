# SPDX-License-Identifier: MIT
# Copyright (c) The Svsm.Sdk contributors
# Policy: PCRs that change between policy and use
# tcti: swtpm
tpm2_startauthsession -S s
tpm2_policypcr -S s -l sha256:16 -L policy > /dev/null
tpm2_flushcontext s
tpm2_nvdefine 0x1500020 -C o -s 4 -L policy -a 'policyread|ownerwrite' > /dev/null
printf 'abcd' > data
tpm2_nvwrite 0x1500020 -C o -i data
tpm2_startauthsession --policy-session -S s
tpm2_policypcr -S s -l sha256:16 > /dev/null
tpm2_pcrextend 1:sha256=$(printf 'x' | sha256sum | cut -d' ' -f1)
fails 'PCR have changed' tpm2_nvread 0x1500020 -C 0x1500020 -P session:s -s 4
tpm2_flushcontext s
