# SPDX-License-Identifier: MIT
# Copyright (c) The Svsm.Sdk contributors
# Policy: approved in an NV index
# tcti: mssim
tpm2_nvdefine 0x1500024 -C o -s 34 -a 'ownerread|ownerwrite|authread' > /dev/null
tpm2_startauthsession -S s
tpm2_policycommandcode -S s -L approved TPM2_CC_NV_Read > /dev/null
tpm2_flushcontext s
{ printf '\x00\x0b'; cat approved; } | tpm2_nvwrite 0x1500024 -C o -i-
tpm2_startauthsession -S s
tpm2_policyauthorizenv -S s -L policy -C 0x1500024 0x1500024 > /dev/null
tpm2_flushcontext s
tpm2_nvdefine 0x1500025 -C o -s 4 -L policy -a 'policyread|ownerwrite' > /dev/null
printf 'abcd' > data
tpm2_nvwrite 0x1500025 -C o -i data
tpm2_startauthsession --policy-session -S s
tpm2_policycommandcode -S s TPM2_CC_NV_Read > /dev/null
tpm2_policyauthorizenv -S s -C 0x1500024 0x1500024 > /dev/null
same "$(tpm2_nvread 0x1500025 -C 0x1500025 -P session:s -s 4)" abcd
tpm2_flushcontext s
