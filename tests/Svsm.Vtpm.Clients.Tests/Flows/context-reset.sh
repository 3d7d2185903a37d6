# SPDX-License-Identifier: MIT
# Copyright (c) The Svsm.Sdk contributors
# Contexts end with a TPM Reset
# tcti: mssim
tpm2_createprimary -C o -G hmac -a 'sign|userwithauth|sensitivedataorigin|fixedtpm|fixedparent' -c key.ctx > /dev/null
tpm2_shutdown -c
power_cycle
tpm2_startup -c
printf 'data' > data
fails 'integrity' tpm2_hmac -c key.ctx data
