#!/bin/sh
# SPDX-License-Identifier: MIT
# Measures a build: tests/bench/run.sh BUILD_DIR [ARGUMENTS OF bench.py]. The measuring tools are not part of this tree: they are looked for in
# ../shared/bench, or in $BENCH. MIHOMO=PATH adds the reference to the table.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
build=${1:-build}
[ $# = 0 ] || shift
tools=${BENCH:-$root/../shared/bench}

if [ ! -f "$tools/bench.py" ]; then
	echo "bench: there is no $tools/bench.py; set BENCH to the folder with the measuring tools" >&2
	exit 1
fi
case $build in
/*) program=$build/sluice ;;
*) program=$root/$build/sluice ;;
esac
if [ ! -x "$program" ]; then
	echo "bench: there is no $program; run make first" >&2
	exit 1
fi
[ $# != 0 ] || set -- --suite plain,api,reload
[ -z "${MIHOMO:-}" ] || set -- "mihomo=$MIHOMO" "$@"
exec python3 "$tools/bench.py" "sluice=$program" "$@"
