# SPDX-License-Identifier: MIT
# Copyright (c) The Svsm.Sdk contributors
# Policy: one command with its parameters
# tcti: swtpm
tpm2_nvdefine 0x1500023 -C o -s 4 -a 'ownerread|ownerwrite' > /dev/null
printf 'abcd' > data
tpm2_nvwrite 0x1500023 -C o -i data
tpm2_nvread 0x1500023 -C o -s 4 --cphash cp.hash > /dev/null
tpm2_startauthsession -S s
tpm2_policycphash -S s -L policy --cphash cp.hash > /dev/null
tpm2_flushcontext s
tpm2_setprimarypolicy -C o -L policy -g sha256
tpm2_startauthsession --policy-session -S s
tpm2_policycphash -S s --cphash cp.hash > /dev/null
same "$(tpm2_nvread 0x1500023 -C o -P session:s -s 4)" abcd
tpm2_flushcontext s
tpm2_startauthsession --policy-session -S s
tpm2_policycphash -S s --cphash cp.hash > /dev/null
fails 'policy' tpm2_nvread 0x1500023 -C o -P session:s -s 3
tpm2_flushcontext s
