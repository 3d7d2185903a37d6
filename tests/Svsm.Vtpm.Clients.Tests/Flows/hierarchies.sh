# SPDX-License-Identifier: MIT
# Copyright (c) The Svsm.Sdk contributors
# Hierarchies: authorisations, and switching off
# tcti: mssim
tpm2_changeauth -c owner secret
fails 'authorization' tpm2_changeauth -c owner -p wrong other
tpm2_changeauth -c owner -p secret other
tpm2_changeauth -c endorsement endorse
tpm2_changeauth -c lockout lock
tpm2_changeauth -c platform plat
tpm2_hierarchycontrol -C p -P plat shEnable clear
tpm2_getcap properties-variable | has 'shEnable: *0'
tpm2_hierarchycontrol -C p -P plat shEnable set
tpm2_getcap properties-variable | has 'shEnable: *1'
