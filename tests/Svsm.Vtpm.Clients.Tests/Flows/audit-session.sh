# SPDX-License-Identifier: MIT
# Copyright (c) The Svsm.Sdk contributors
# Audit session over commands
# tcti: swtpm
tpm2_startauthsession --audit-session -S session.ctx
tpm2_getrandom 8 -S session.ctx -o a
tpm2_getrandom 8 -S session.ctx -o b
tpm2_flushcontext session.ctx
