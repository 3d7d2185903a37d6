# SPDX-License-Identifier: MIT
# Copyright (c) The Svsm.Sdk contributors
# Policy: objects of one template
# tcti: mssim
tpm2_createprimary -C o -G ecc --template-data template > /dev/null
flush
sha256sum template | cut -c1-64 | xxd -r -p > template.hash
tpm2_startauthsession -S s
tpm2_policytemplate -S s -L policy --template-hash template.hash > /dev/null
tpm2_flushcontext s
tpm2_setprimarypolicy -C o -L policy -g sha256
tpm2_startauthsession --policy-session -S s
tpm2_policytemplate -S s --template-hash template.hash > /dev/null
tpm2_createprimary -C o -P session:s -G ecc -c prim > /dev/null
flush
tpm2_flushcontext s
tpm2_startauthsession --policy-session -S s
tpm2_policytemplate -S s --template-hash template.hash > /dev/null
fails 'policy' tpm2_createprimary -C o -P session:s -G ecc -g sha384 -c prim
tpm2_flushcontext s
