# SPDX-License-Identifier: MIT
# Copyright (c) The Svsm.Sdk contributors
# Credentials: made and activated under RSA and ECC endorsement keys
# tcti: tabrmd
head -c 20 /dev/urandom > secret
for kind in rsa ecc; do
    tpm2_createek -Q -c ek.ctx -G $kind -u ek.pub
    tpm2_createak -Q -C ek.ctx -c ak.ctx -G ecc -g sha256 -s ecdsa -u ak.pub -n ak.name
    tpm2_makecredential -Q -u ek.pub -s secret -n $(od -An -tx1 ak.name | tr -d ' \n') -o blob
    tpm2_startauthsession --policy-session -S session.ctx
    tpm2_policysecret -Q -S session.ctx -c e
    tpm2_activatecredential -Q -c ak.ctx -C ek.ctx -i blob -o opened -P session:session.ctx
    tpm2_flushcontext session.ctx
    cmp secret opened
    flush
done
