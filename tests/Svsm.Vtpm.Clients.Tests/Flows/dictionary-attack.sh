# SPDX-License-Identifier: MIT
# Copyright (c) The Svsm.Sdk contributors
# Dictionary attack: lockout and its end
# tcti: mssim
tpm2_createprimary -C o -G ecc -c prim > /dev/null
flush
printf 'sealed secret' > data
tpm2_create -C prim -p pass -i data -u pub -r priv > /dev/null
flush
tpm2_load -C prim -u pub -r priv -c sealed > /dev/null
flush
tpm2_dictionarylockout --setup-parameters --max-tries=3 --recovery-time=1000 --lockout-recovery-time=1000
for i in 1 2 3; do fails 'auth' tpm2_unseal -c sealed -p wrong; flush; done
fails 'lockout' tpm2_unseal -c sealed -p pass
flush
tpm2_getcap properties-variable | has 'inLockout: *1'
tpm2_dictionarylockout --clear-lockout
same "$(tpm2_unseal -c sealed -p pass)" 'sealed secret'
flush
