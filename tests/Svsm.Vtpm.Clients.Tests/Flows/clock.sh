# SPDX-License-Identifier: MIT
# Copyright (c) The Svsm.Sdk contributors
# Clock: runs, set forward, not back
# tcti: mssim
tpm2_readclock > clock
grep -q 'safe: yes' clock
tpm2_setclock 1000000
fails 'out of range' tpm2_setclock 1000
tpm2_readclock | has 'clock: 100'
