# SPDX-License-Identifier: MIT
# Copyright (c) The Svsm.Sdk contributors
# PCR banks: allocation takes effect at the next TPM Reset
# tcti: swtpm
tpm2_getcap pcrs | has 'sha1: \[ 0'
tpm2_pcrallocate sha256:all+sha1:none+sha384:none+sha512:none > /dev/null
tpm2_getcap pcrs | has 'sha1: \[ 0'
tpm2_shutdown -c
power_cycle
tpm2_startup -c
tpm2_getcap pcrs > caps
grep -q 'sha1: \[ \]' caps
grep -q 'sha256: \[ 0' caps
