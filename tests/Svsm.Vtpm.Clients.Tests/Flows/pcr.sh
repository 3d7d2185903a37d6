# SPDX-License-Identifier: MIT
# Copyright (c) The Svsm.Sdk contributors
# PCRs: extend, event, read, reset
# tcti: mssim
d=$(printf 'a' | sha256sum | cut -d' ' -f1)
tpm2_pcrextend 16:sha256=$d
want=$( { head -c 32 /dev/zero; printf "$d" | xxd -r -p; } | sha256sum | cut -d' ' -f1)
tpm2_pcrread sha256:16 -o pcr.bin > /dev/null
same "$(xxd -p -c 64 pcr.bin)" "$want"
printf 'event data' > event
tpm2_pcrevent 16 event | has sha256
tpm2_pcrreset 16
tpm2_pcrread sha256:16 -o pcr.bin > /dev/null
same "$(xxd -p -c 64 pcr.bin)" "$(printf '0%.0s' $(seq 64))"
fails 'locality' tpm2_pcrreset 0
