# SPDX-License-Identifier: MIT
# Copyright (c) The Svsm.Sdk contributors
# Sessions: salted with an ecc key, parameters encrypted
# tcti: swtpm
tpm2_createprimary -C o -G ecc -c prim > /dev/null
flush
tpm2_startauthsession --hmac-session -c prim -S s
flush
tpm2_sessionconfig s --enable-encrypt --enable-decrypt > /dev/null
tpm2_nvdefine 0x1500033 -C o -s 8 -p 'pass' -a 'authread|authwrite' > /dev/null
printf 'secret!!' > data
tpm2_nvwrite 0x1500033 -C 0x1500033 -P session:s+pass -i data
same "$(tpm2_nvread 0x1500033 -C 0x1500033 -P session:s+pass -s 8)" 'secret!!'
fails 'auth' tpm2_nvread 0x1500033 -C 0x1500033 -P session:s+wrong -s 8
tpm2_flushcontext s
