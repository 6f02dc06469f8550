#!/bin/sh
# SPDX-License-Identifier: MIT
# Runs every fuzz target of a folder for some seconds: run.sh DIR SECONDS. One line a target, "ok fuzz X: N runs" or "not ok fuzz X: WHY",
# then "N passed, N failed"; exit 1 when one failed. The corpus beside this script is copied first and never written. What a failing target
# left (its log and the input that broke it) is kept, and its place is in the line.
set -u

if [ $# -ne 2 ] || [ ! -d "$1" ]; then
	echo "usage: run.sh DIR SECONDS" >&2
	exit 2
fi
dir=$1
seconds=$2
here=$(cd "$(dirname "$0")" && pwd)
tmp=$(mktemp -d "${TMPDIR:-/tmp}/sluice-fuzz.XXXXXX") || exit 2
passed=0
failed=0
child=
trap '[ -n "$child" ] && kill "$child" 2>/dev/null; rm -rf "$tmp"; exit 130' INT TERM HUP

# why LOG: the one line that says what happened
why() {
	line=$(grep -E -m 1 'ERROR: |runtime error: |SUMMARY: ' "$1")
	[ -n "$line" ] || line=$(tail -n 1 "$1")
	printf '%s' "${line:-no output}" | tr -d '\r' | cut -c 1-200
}

for target in "$dir"/fuzz_*; do
	case $target in
	*.d | *.o) continue ;;
	esac
	[ -f "$target" ] && [ -x "$target" ] || continue
	name=${target##*/fuzz_}
	mkdir -p "$tmp/$name/corpus" "$tmp/$name/artifacts"
	if [ -d "$here/corpus/$name" ]; then
		cp -R "$here/corpus/$name/." "$tmp/$name/corpus/"
	fi
	"$target" -max_total_time="$seconds" -rss_limit_mb=512 -timeout=5 -print_final_stats=1 \
		-artifact_prefix="$tmp/$name/artifacts/" "$tmp/$name/corpus" >"$tmp/$name/log" 2>&1 &
	child=$!
	wait "$child"
	status=$?
	child=
	runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$tmp/$name/log" | tail -n 1)
	if [ "$status" -eq 0 ] && [ "${runs:-0}" -gt 0 ]; then
		echo "ok fuzz $name: $runs runs"
		passed=$((passed + 1))
		rm -rf "${tmp:?}/$name"
	else
		echo "not ok fuzz $name: $(why "$tmp/$name/log") (exit $status, see $tmp/$name)"
		failed=$((failed + 1))
	fi
done

[ "$failed" -eq 0 ] && rm -rf "$tmp"
echo "$passed passed, $failed failed"
if [ "$failed" -ne 0 ] || [ "$passed" -eq 0 ]; then
	exit 1
fi
