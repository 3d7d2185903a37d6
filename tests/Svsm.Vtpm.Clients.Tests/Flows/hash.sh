# SPDX-License-Identifier: MIT
# Copyright (c) The Svsm.Sdk contributors
# Hashes: short, and longer than a buffer
# tcti: mssim
printf 'abc' > short
seq 5000 > long
for algorithm in sha1 sha256 sha384 sha512; do
    for file in short long; do
        tpm2_hash -C o -g $algorithm -o digest -t ticket $file
        same "$(xxd -p -c 200 digest)" "$(${algorithm}sum $file | cut -d' ' -f1)"
    done
done
