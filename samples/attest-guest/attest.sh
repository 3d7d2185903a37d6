#!/bin/sh
# SPDX-License-Identifier: MIT
# Copyright (c) The Svsm.Sdk contributors
#
# For the guest: asks the SVSM for an attestation report, with certificates and the manifest of its services. Linux 6.11 or later, as root; a BusyBox
# is enough.
#
#   attest.sh NONCE DIR      NONCE: a file of 64 bytes, chosen by who verifies
#   attest.sh NONCE DIR GUID the manifest of this service alone
#
# DIR gets report, certificates (empty: the host gave none) and manifest.

set -eu

[ $# -ge 2 ] || { echo "usage: attest.sh NONCE DIR [GUID]" >&2; exit 64; }

[ -d /sys/kernel/config/tsm ] || modprobe sev-guest 2> /dev/null || true
[ -d /sys/kernel/config/tsm/report ] || mount -t configfs none /sys/kernel/config 2> /dev/null || true
[ -d /sys/kernel/config/tsm/report ] || { echo "attest.sh: no /sys/kernel/config/tsm/report: this is no SEV-SNP guest, or its kernel lacks sev-guest" >&2; exit 1; }

question=/sys/kernel/config/tsm/report/svsm.$$
mkdir "$question"
trap 'rmdir "$question"' EXIT

# Without this line the report would be the operating system's own.
echo svsm > "$question/service_provider"
[ -z "${3:-}" ] || echo "$3" > "$question/service_guid"
cat "$1" > "$question/inblob"

# What is read belongs together as long as nobody asks in between.
before=$(cat "$question/generation")
cat "$question/outblob" > "$2/report"
cat "$question/auxblob" > "$2/certificates"
cat "$question/manifestblob" > "$2/manifest"
[ "$(cat "$question/generation")" = "$before" ] || { echo "attest.sh: somebody else asked at the same time" >&2; exit 1; }
