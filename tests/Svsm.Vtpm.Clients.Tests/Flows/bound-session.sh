# SPDX-License-Identifier: MIT
# Copyright (c) The Svsm.Sdk contributors
# Sessions: bound to a key
# tcti: mssim
tpm2_createprimary -C o -G ecc -p bindauth -c prim > /dev/null
flush
tpm2_startauthsession --hmac-session --tpmkey-context prim --bind-context prim --bind-auth bindauth -S s
flush
tpm2_sessionconfig s | has 'Session-Handle'
tpm2_flushcontext s
