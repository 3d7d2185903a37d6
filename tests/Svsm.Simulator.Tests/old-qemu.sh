#!/bin/sh
# SPDX-License-Identifier: MIT
# Copyright (c) The Svsm.Sdk contributors
#
# Stands in for a QEMU that is too old.

echo "QEMU emulator version 5.2.0 (a stand-in)"
