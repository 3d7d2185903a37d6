# SPDX-License-Identifier: MIT
# Copyright (c) The Svsm.Sdk contributors
# NV: extended digests
# tcti: swtpm
tpm2_nvdefine 0x1500004 -C o -g sha384 -a 'ownerread|ownerwrite|nt=extend' > /dev/null
printf 'falafel' > data
tpm2_nvextend 0x1500004 -C o -i data
want=$( { head -c 48 /dev/zero; cat data; } | sha384sum | cut -d' ' -f1)
same "$(tpm2_nvread 0x1500004 -C o | xxd -p -c 100)" "$want"
