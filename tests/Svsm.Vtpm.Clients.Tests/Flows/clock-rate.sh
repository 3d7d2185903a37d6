# SPDX-License-Identifier: MIT
# Copyright (c) The Svsm.Sdk contributors
# Clock: rate
# tcti: swtpm
tpm2_clockrateadjust s
tpm2_clockrateadjust ss
tpm2_clockrateadjust fff
tpm2_readclock | has 'clock'
