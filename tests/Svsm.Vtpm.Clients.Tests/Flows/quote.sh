# SPDX-License-Identifier: MIT
# Copyright (c) The Svsm.Sdk contributors
# Quotes with ECC and RSA keys, checked by the tools
# tcti: tabrmd
tpm2_createek -Q -c ek.ctx -G ecc -u ek.pub
tpm2_createak -Q -C ek.ctx -c ak.ctx -G ecc -g sha256 -s ecdsa -u ak.pub -f pem -n ak.name
tpm2_pcrextend 16:sha256=0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20
tpm2_quote -Q -c ak.ctx -l sha256:0,1,16+sha1:2 -q abcdef -m quote.msg -s quote.sig -o quote.pcrs -g sha256
tpm2_checkquote -Q -u ak.pub -m quote.msg -s quote.sig -f quote.pcrs -g sha256 -q abcdef
fails "" tpm2_checkquote -Q -u ak.pub -m quote.msg -s quote.sig -f quote.pcrs -g sha256 -q abcdee
flush
tpm2_createek -Q -c ek.ctx -G rsa -u ek.pub
tpm2_createak -Q -C ek.ctx -c ak.ctx -G rsa -g sha256 -s rsassa -u ak.pub -f pem -n ak.name
tpm2_quote -Q -c ak.ctx -l sha256:all -m quote.msg -s quote.sig -o quote.pcrs -g sha256
tpm2_checkquote -Q -u ak.pub -m quote.msg -s quote.sig -f quote.pcrs -g sha256
