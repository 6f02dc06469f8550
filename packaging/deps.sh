#!/bin/sh
# SPDX-License-Identifier: MIT
# The Debian 12 packages that sluice needs, and the one apt call that installs those of them that are missing. run.sh and test.sh call it.
#   deps.sh run          what building and running needs          deps.sh test         that, and what the tests need
#   deps.sh --list SET   prints the packages of a set             deps.sh --missing SET  prints those that are not installed
set -eu

BUILD="gcc libc6-dev make libev-dev libseccomp-dev libssl-dev libpcre2-dev libnghttp2-dev libyaml-dev libzstd-dev libcjson-dev libcivetweb-dev libwslay-dev"
RUN="ca-certificates curl"
TEST="clang-14 libclang-rt-14-dev libcmocka-dev openssl python3 dpkg-dev lintian mandoc systemd"
# Other people's programs that the tests talk to, and their checker of messages. The daemons among them are not to run by themselves.
PEERS="unbound knot dnsperf knot-dnsutils libldns-dev iproute2"
DAEMONS="unbound knot"

usage() {
	echo "usage: deps.sh [--list | --missing] run | test" >&2
	exit 2
}

action=install
case ${1:-} in
--list | --missing)
	action=${1#--}
	shift
	;;
esac
case ${1:-} in
run) set_of="$BUILD $RUN" ;;
test) set_of="$BUILD $RUN $TEST $PEERS" ;;
*) usage ;;
esac

missing() {
	for p in $set_of; do
		[ "$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null || :)" = installed ] || printf '%s ' "$p"
	done
}

if [ "$action" = list ]; then
	echo "$set_of"
	exit 0
fi
if ! command -v dpkg-query >/dev/null 2>&1; then
	echo "deps.sh: this is no Debian system; install what corresponds to: $set_of" >&2
	exit 1
fi
need=$(missing)
need=${need% }
if [ "$action" = missing ]; then
	[ -z "$need" ] || echo "$need"
	exit 0
fi
[ -n "$need" ] || exit 0

as_root=
if [ "$(id -u)" != 0 ]; then
	if command -v sudo >/dev/null 2>&1; then
		as_root=sudo
	else
		echo "deps.sh: these packages are missing and only root can install them: $need" >&2
		echo "deps.sh: run as root: apt-get install --no-install-recommends $need" >&2
		exit 1
	fi
fi

known() {
	for p in $need; do
		apt-cache show --no-all-versions "$p" >/dev/null 2>&1 || return 1
	done
}

# A daemon's unit is masked before its package comes, or installing it would start it. One that was installed before is left as it is.
mask_daemons() {
	for d in $DAEMONS; do
		case " $need " in
		*" $d "*) [ -e "/etc/systemd/system/$d.service" ] || $as_root ln -s /dev/null "/etc/systemd/system/$d.service" ;;
		esac
	done
}

install() {
	# shellcheck disable=SC2086 # a list of packages
	$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $need
}

echo "installing: $need"
[ ! -d /etc/systemd/system ] || mask_daemons
# Package lists are fetched only where they are missing or too old to install from.
if ! { known && install; }; then
	$as_root apt-get update -q && install || {
		echo "deps.sh: apt could not install: $need" >&2
		exit 1
	}
fi
