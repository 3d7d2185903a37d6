# SPDX-License-Identifier: MIT
# Copyright (c) The Svsm.Sdk contributors
# Clear: by lockout, forbidden, by platform
# tcti: swtpm
tpm2_changeauth -c owner secret
tpm2_clear
tpm2_changeauth -c owner other
tpm2_clearcontrol -C l s
fails 'disabled' tpm2_clear
tpm2_clearcontrol -C p c
tpm2_clear -c p
tpm2_changeauth -c owner again
