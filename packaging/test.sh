#!/bin/sh
# SPDX-License-Identifier: MIT
# Everything that can be tested on one machine: sh packaging/test.sh [--no-install]
# Installs what the tests need, builds, and runs, in this order: layers, banned calls and man pages, unit tests, rule sets against a slow matcher,
# sandbox, fuzz targets, the suites of tests/run.py, and then unit tests and suites again under ASan and UBSan. Every test is a line "ok NAME" or
# "not ok NAME: WHY"; the last line is "N passed, N failed" over all of them, and the exit status is 1 when one failed or something could not be
# built.
#   FUZZ_SECONDS=5   for each fuzz target          TEST_SAN=0   leave the sanitizer pass out
#   CI=true          warnings are errors           JOBS=2       of make
set -u
cd "$(dirname "$0")/.." || exit 1
unset http_proxy https_proxy all_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY no_proxy NO_PROXY

passed=0
failed=0
jobs=${JOBS:-2}
werror=
[ "${CI:-}" != true ] || werror=WERROR=1
tmp=$(mktemp -d "${TMPDIR:-/tmp}/sluice-test.XXXXXX") || exit 1
child=
trap 'rm -rf "$tmp"' EXIT
trap '[ -z "$child" ] || kill "$child" 2>/dev/null; exit 130' INT TERM HUP

ok() {
	passed=$((passed + 1))
	echo "ok $*"
}
not_ok() {
	failed=$((failed + 1))
	echo "not ok $*"
}
title() { printf '\n== %s\n' "$*"; }
finish() {
	printf '\n%s passed, %s failed\n' "$passed" "$failed"
	[ "$failed" = 0 ]
	exit
}

# build NAME MAKE-ARGUMENTS...: one test, "it builds"
build() {
	name=$1
	shift
	if make -j"$jobs" $werror "$@" >"$tmp/build" 2>&1; then
		ok "build $name"
	else
		grep -E -B 2 -A 8 'error|Error|undefined reference' "$tmp/build" | tail -n 60
		not_ok "build $name"
		return 1
	fi
}

# sum NAME COMMAND...: runs it, shows its lines, adds its last line "N passed, N failed"
sum() {
	name=$1
	shift
	# the child writes to a file and tail shows it, so that a signal reaches the child and its exit status is known
	: >"$tmp/out"
	"$@" >"$tmp/out" 2>&1 &
	child=$!
	tail -n +1 -f --pid="$child" -s 0.2 "$tmp/out"
	wait "$child"
	status=$?
	child=
	last=$(grep -E '^[0-9]+ passed, [0-9]+ failed$' "$tmp/out" | tail -n 1)
	if [ -z "$last" ]; then
		not_ok "$name: it ended with status $status and without a result"
		return
	fi
	p=${last%% *}
	f=${last##*, }
	f=${f%% *}
	passed=$((passed + p))
	failed=$((failed + f))
	[ "$status" = 0 ] || [ "$f" != 0 ] || not_ok "$name: exit status $status"
}

# cmocka prints "[  PASSED  ] N test(s)." and "[  FAILED  ] N test(s), listed below:"
unit_tests() {
	for t in "$1"/unit/test_*; do
		case $t in
		*.d | *.o) continue ;;
		esac
		[ -f "$t" ] && [ -x "$t" ] || continue
		timeout 120 "$t" >"$tmp/unit" 2>&1
		status=$?
		p=$(sed -n 's/.*\[  PASSED  \] \([0-9]*\) test(s).*/\1/p' "$tmp/unit" | awk '{ n += $1 } END { print n + 0 }')
		f=$(sed -n 's/.*\[  FAILED  \] \([0-9]*\) test(s).*/\1/p' "$tmp/unit" | awk '{ n += $1 } END { print n + 0 }')
		[ "$status" = 0 ] || [ "$f" != 0 ] || f=1	# it crashed
		s=$(grep -c '\[  SKIPPED \] test_' "$tmp/unit")
		[ $((p + f + s)) != 0 ] || f=1			# it ran nothing
		passed=$((passed + p))
		failed=$((failed + f))
		if [ "$f" = 0 ]; then
			echo "ok $t: $p tests"
		else
			grep -E -A 4 'FAILED|ERROR|runtime error|Sanitizer|^#[0-9]' "$tmp/unit" | head -n 60
			echo "not ok $t: $f of $((p + f)), exit status $status"
		fi
	done
}

case ${1:-} in
'')
	title "packages"
	if ! sh packaging/deps.sh test; then
		not_ok "install packages"
		finish
	fi
	;;
--no-install) ;;
*)
	echo "usage: test.sh [--no-install]" >&2
	exit 2
	;;
esac

title "build"
build programs all || finish
build "unit tests" unit probe match-ask load

title "layers, banned calls, man pages"
for c in layers banned man; do
	if sh "tests/check-$c.sh"; then ok "check $c"; else not_ok "check $c"; fi
done

title "unit tests"
unit_tests build

title "rule sets against a slow matcher"
sum match python3 tests/match/differential.py

title "sandbox"
sum sandbox sh tests/sandbox/run.sh build

title "fuzz targets, ${FUZZ_SECONDS:-5} s each"
if build "fuzz targets" fuzz-build; then
	sum fuzz sh tests/fuzz/run.sh build-fuzz "${FUZZ_SECONDS:-5}"
fi

title "suites"
sum suites python3 tests/run.py build/sluice

if [ "${TEST_SAN:-1}" != 0 ]; then
	title "under ASan and UBSan"
	export ASAN_OPTIONS="abort_on_error=0:detect_leaks=1:log_path=stderr" UBSAN_OPTIONS="print_stacktrace=1"
	if build "with sanitizers" SAN=asan all unit; then
		unit_tests build-asan
		sum "suites (asan)" python3 tests/run.py --label asan build-asan/sluice
	fi
fi
finish
