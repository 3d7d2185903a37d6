# SPDX-License-Identifier: MIT
# Copyright (c) The Svsm.Sdk contributors
# Self tests
# tcti: mssim
tpm2_selftest -f
tpm2_gettestresult | has 'success'
tpm2_incrementalselftest aes sha256
tpm2_testparms aes128cfb
