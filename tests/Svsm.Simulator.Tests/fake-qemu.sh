#!/bin/sh
# SPDX-License-Identifier: MIT
# Copyright (c) The Svsm.Sdk contributors
#
# Stands in for QEMU: the "hypervisor" that it is told to load is a shell script, and it runs that.
# The script finds its own folder in $here and the arguments in $arguments.

if [ "$1" = --version ]; then
    echo "QEMU emulator version 9.1.0 (a stand-in)"
    exit 0
fi

arguments="$*"
while [ $# -gt 0 ]; do
    if [ "$1" = -kernel ]; then
        kernel=$2
    fi
    shift
done
here=$(dirname "$kernel")
. "$kernel"
