# SPDX-License-Identifier: MIT
# Copyright (c) The Svsm.Sdk contributors
# Policy: sealed to PCRs
# tcti: mssim
tpm2_createprimary -C o -c prim > /dev/null
flush
tpm2_pcrread sha256:16 -o pcrs > /dev/null
tpm2_createpolicy --policy-pcr -l sha256:16 -f pcrs -L policy > /dev/null
printf 'secret' > data
tpm2_create -C prim -L policy -i data -u pub -r priv -a 'fixedtpm|fixedparent|noda' > /dev/null
flush
tpm2_load -C prim -u pub -r priv -c sealed > /dev/null
flush
tpm2_startauthsession --policy-session -S s
tpm2_policypcr -S s -l sha256:16 > /dev/null
same "$(tpm2_unseal -c sealed -p session:s)" secret
flush
tpm2_flushcontext s
tpm2_pcrextend 16:sha256=$(printf 'x' | sha256sum | cut -d' ' -f1)
tpm2_startauthsession --policy-session -S s
tpm2_policypcr -S s -l sha256:16 > /dev/null
fails 'policy' tpm2_unseal -c sealed -p session:s
flush
tpm2_flushcontext s
