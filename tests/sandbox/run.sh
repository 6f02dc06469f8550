#!/bin/sh
# SPDX-License-Identifier: MIT
# Tries every forbidden act in every role, and what each role must be able to do: tests/sandbox/run.sh BUILD_DIR
# Needs BUILD_DIR/tests/probe. As root: with a change of user, without Landlock, in stage 1 only, and as an ordinary user;
# otherwise the last only, with and without Landlock. A control runs each act with no sandbox at
# all, so that a refusal is known to be the sandbox's.
set -u
probe=${1:?usage: run.sh BUILD_DIR}/tests/probe
[ -x "$probe" ] || { echo "not ok no $probe"; echo "0 passed, 1 failed"; exit 1; }
passed=0
failed=0

ok() { passed=$((passed + 1)); echo "ok $1"; }
not_ok() { failed=$((failed + 1)); echo "not ok $1"; }

# try NAME ARGS...: the probe's exit status decides
try() {
	name=$1
	shift
	said=$("$probe" "$@" 2>&1)
	case $? in
	0) ok "$name: $said" ;;
	2)
		case $said in
		skip*) ok "$name # $said" ;;
		*) not_ok "$name: $said" ;;
		esac ;;
	*) not_ok "$name: $said" ;;
	esac
}

# A refusal must be one of permission, not a slip of the test.
forbid() {
	try "$@"
	case $said in
	"refused EPERM"* | "refused EACCES"* | "refused ENOSYS"* | "refused ENOTTY"*) ;;
	refused*)
		passed=$((passed - 1))
		not_ok "$1: refused for another reason: $said" ;;
	esac
}

# Where every port is free to all, only the roles that may not bind() at all are refused.
if [ "$(cat /proc/sys/net/ipv4/ip_unprivileged_port_start 2>/dev/null || echo 1024)" -le 81 ]; then
	free_port=worker
else
	free_port=
fi

if [ "$(id -u)" = 0 ]; then
	for act in $("$probe" list loader); do
		said=$("$probe" none "$act" 2>&1)
		case $said in
		done) ok "control $act" ;;
		*) ok "control $act # cannot be done on this machine: $said" ;;
		esac
	done
	modes="-- -l -1l -n"
else
	modes="-n -nl"
fi
for role in loader worker controller nethelper; do
	for mode in $modes; do
		for act in $("$probe" list $role); do
			[ "$role $act" = "$free_port bind-privileged" ] && continue
			forbid "$role $mode $act" $mode $role "$act"
		done
	done
	for mode in $modes; do
		case $mode in
		*1*) continue ;;
		esac
		for act in $("$probe" list-work $role); do
			try "$role $mode can $act" $mode $role "$act"
		done
	done
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
