# SPDX-License-Identifier: MIT
# Copyright (c) The Svsm.Sdk contributors
# Policy: these handles only
# tcti: swtpm
printf x | sha256sum | cut -c1-64 | xxd -r -p > name.hash
tpm2_startauthsession -S s
tpm2_policynamehash -S s -L policy -n name.hash > /dev/null
tpm2_flushcontext s
tpm2_nvdefine 0x1500021 -C o -s 4 -L policy -a 'policyread|ownerwrite' > /dev/null
printf 'abcd' > data
tpm2_nvwrite 0x1500021 -C o -i data
tpm2_startauthsession --policy-session -S s
tpm2_policynamehash -S s -n name.hash > /dev/null
fails 'policy' tpm2_nvread 0x1500021 -C 0x1500021 -P session:s -s 4
tpm2_flushcontext s
