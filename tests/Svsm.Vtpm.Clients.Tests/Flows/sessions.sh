# SPDX-License-Identifier: MIT
# Copyright (c) The Svsm.Sdk contributors
# Sessions: HMAC session as a file, loaded and saved by the tools
# tcti: mssim
tpm2_startauthsession --hmac-session -S session.ctx
tpm2_changeauth -c owner secret
tpm2_changeauth -c owner -p secret other
tpm2_flushcontext session.ctx
same "$(tpm2_getcap handles-saved-session)" ""
