# SPDX-License-Identifier: MIT
# Copyright (c) The Svsm.Sdk contributors
# Sealed data with an authValue
# tcti: tabrmd
tpm2_createprimary -C o -G ecc -c prim > /dev/null
printf 'sealed secret' > data
tpm2_create -C prim -p pass -i data -u pub -r priv > /dev/null
tpm2_load -C prim -u pub -r priv -c sealed > /dev/null
same "$(tpm2_unseal -c sealed -p pass)" 'sealed secret'
fails 'auth' tpm2_unseal -c sealed -p wrong
