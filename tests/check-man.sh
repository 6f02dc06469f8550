#!/bin/sh
# SPDX-License-Identifier: MIT
# The manual pages have no mistakes that mandoc or groff know. Prints each and exits 1 when there is one; says so when neither is here.
set -u
cd "$(dirname "$0")/.." || exit 2

have=
wrong=$(
	for page in packaging/man/*; do
		! command -v mandoc >/dev/null || mandoc -T lint -W warning "$page" 2>&1
		! command -v groff >/dev/null || ! man -w 7 groff_mdoc >/dev/null 2>&1 || LC_ALL=C.UTF-8 man --warnings -l "$page" 2>&1 >/dev/null
	done
)
for tool in mandoc groff; do
	! command -v $tool >/dev/null || have=1
done
[ -n "$have" ] || echo "check-man: neither mandoc nor groff is here: nothing was checked"
[ -z "$wrong" ] || echo "$wrong"
[ -z "$wrong" ]
