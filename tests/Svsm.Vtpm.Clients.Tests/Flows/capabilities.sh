# SPDX-License-Identifier: MIT
# Copyright (c) The Svsm.Sdk contributors
# Capabilities: algorithms, commands, properties
# tcti: swtpm
tpm2_getcap algorithms | has sha512
tpm2_getcap commands | has TPM2_CC_PCR_Extend
tpm2_getcap properties-fixed | has 'TPM2_PT_PCR_COUNT'
tpm2_getcap properties-variable | has 'TPM2_PT_PERMANENT'
tpm2_getcap handles-permanent | has 0x40000001
