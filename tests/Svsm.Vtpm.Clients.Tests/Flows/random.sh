# SPDX-License-Identifier: MIT
# Copyright (c) The Svsm.Sdk contributors
# Random numbers, stirred
# tcti: swtpm
tpm2_getrandom 32 -o a
tpm2_getrandom 32 -o b
! cmp -s a b
printf 'stir' > s
tpm2_stirrandom s
same "$(tpm2_getrandom --hex 16 | wc -c)" 32
