# SPDX-License-Identifier: MIT
# Copyright (c) The Svsm.Sdk contributors
# Shutdown with state: PCRs survive
# tcti: mssim
tpm2_pcrextend 1:sha256=$(printf 'a' | sha256sum | cut -d' ' -f1)
tpm2_pcrread sha256:1 -o before > /dev/null
tpm2_shutdown
power_cycle
tpm2_startup
tpm2_pcrread sha256:1 -o after > /dev/null
cmp before after
tpm2_shutdown -c
power_cycle
tpm2_startup -c
tpm2_pcrread sha256:1 -o after > /dev/null
! cmp -s before after
