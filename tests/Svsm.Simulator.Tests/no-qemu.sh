#!/bin/sh
# SPDX-License-Identifier: MIT
# Copyright (c) The Svsm.Sdk contributors
#
# Stands in for a program that is no QEMU.

echo "usage: something else"
