# SPDX-License-Identifier: MIT
# Copyright (c) The Svsm.Sdk contributors
# Dictionary attack parameters and reset
# tcti: mssim
tpm2_dictionarylockout --setup-parameters --max-tries=5 --recovery-time=60 --lockout-recovery-time=120
tpm2_getcap properties-variable > p
grep -q 'TPM2_PT_MAX_AUTH_FAIL: 0x5' p
tpm2_dictionarylockout --clear-lockout
