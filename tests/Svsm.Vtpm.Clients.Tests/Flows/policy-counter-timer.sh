# SPDX-License-Identifier: MIT
# Copyright (c) The Svsm.Sdk contributors
# Policy: clock, counters
# tcti: mssim
:
policy() { :; tpm2_policycountertimer -S s "$@" safe > /dev/null; }
tpm2_startauthsession -S s
policy -L policy
tpm2_flushcontext s
tpm2_nvdefine 0x1500021 -C o -s 4 -p pass -L policy -a 'policyread|ownerwrite' > /dev/null
printf 'abcd' > data
tpm2_nvwrite 0x1500021 -C o -i data
tpm2_startauthsession --policy-session -S s
policy
same "$(tpm2_nvread 0x1500021 -C 0x1500021 -P session:s -s 4)" abcd
tpm2_flushcontext s
tpm2_startauthsession --policy-session -S s
fails 'policy' tpm2_nvread 0x1500021 -C 0x1500021 -P session:s -s 4
tpm2_flushcontext s
