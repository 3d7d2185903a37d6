# SPDX-License-Identifier: MIT
# Copyright (c) The Svsm.Sdk contributors
# Policy: an authorisation with a ticket, used later
# tcti: mssim
tpm2_startauthsession -S s
tpm2_policysecret -S s -L policy -c o > /dev/null
tpm2_flushcontext s
tpm2_setprimarypolicy -C e -L policy -g sha256
tpm2_startauthsession --policy-session -S s
tpm2_policysecret -S s -c o -t -3600 --ticket ticket --timeout timeout > /dev/null
tpm2_flushcontext s
tpm2_startauthsession --policy-session -S s
printf '\x40\x00\x00\x01' > name
tpm2_policyticket -S s -n name --ticket ticket --timeout timeout > /dev/null
tpm2_changeauth -c e -p session:s new
tpm2_flushcontext s
