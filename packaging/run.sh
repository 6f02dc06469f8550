#!/bin/sh
# SPDX-License-Identifier: MIT
# From a clone to a running proxy: sh packaging/run.sh [--no-install]
# Installs what is missing, builds, writes run/config.yaml on the first start (a proxy on 127.0.0.1, everything DIRECT, an API with a random
# secret), prints the addresses, and becomes sluice. A later start keeps the configuration and prints its values again.
set -eu
cd "$(dirname "$0")/.."
home=run
config=$home/config.yaml

say() { printf '%s\n' "$*"; }
die() {
	say "run.sh: $*" >&2
	exit 1
}

case ${1:-} in
'') sh packaging/deps.sh run ;;
--no-install) ;;
*) die "usage: run.sh [--no-install]" ;;
esac
make -j"$(nproc)" || die "the build failed"

random_hex() { od -An -N16 -tx1 /dev/urandom | tr -d ' \n'; }

if [ ! -e "$config" ]; then
	old=$(umask)
	umask 077
	mkdir -p "$home"
	chmod 0700 "$home"
	cat > "$config.new" <<YAML
# Written by packaging/run.sh; yours from now on. README.md shows one with real nodes.
mixed-port: 7890            # HTTP, SOCKS4 and SOCKS5 on one port
allow-lan: false            # 127.0.0.1 only
mode: rule
log-level: info
external-controller: 127.0.0.1:9090
secret: "$(random_hex)"
rules:
  - MATCH,DIRECT
YAML
	mv "$config.new" "$config"
	umask "$old"
	say "wrote $config"
fi

# The value of a top-level key of the configuration, for printing only: sluice itself reads the file properly.
value() {
	sed -n "s/^$1:[[:space:]]*//p" "$config" | sed -n '1{s/[[:space:]]\{1,\}#.*$//;s/[[:space:]]*$//;s/^"\(.*\)"$/\1/;s/^'"'"'\(.*\)'"'"'$/\1/;p;}'
}
port=$(value mixed-port)
kind=http
if [ -z "$port" ] || [ "$port" = 0 ]; then
	port=$(value port)
fi
if [ -z "$port" ] || [ "$port" = 0 ]; then
	port=$(value socks-port)
	kind=socks5h
fi
api=$(value external-controller)
secret=$(value secret)
case $api in
:* | 0.0.0.0:* | \*:*) api=127.0.0.1:${api##*:} ;;
'[::]:'*) api="[::1]:${api##*:}" ;;
esac

# Is somebody listening on that local TCP port? The kernel's tables say so without a tool.
busy() {
	hex=$(printf '%04X' "$1")
	cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | awk -v p=":$hex" '$4 == "0A" && substr($2, length($2) - 4) == p { found = 1 } END { exit !found }'
}
taken=
for p in "$port" "${api##*:}"; do
	case $p in
	'' | 0 | *[!0-9]*) ;;
	*) ! busy "$p" || taken="$taken $p" ;;
	esac
done
if [ -n "$taken" ]; then
	say "run.sh: these ports are in use by another program:$taken" >&2
	say "run.sh: end it (sluice itself: build/sluice stop -d $home), or change mixed-port and external-controller in $config" >&2
	exit 1
fi

say ""
if [ -n "$port" ] && [ "$port" != 0 ]; then
	say "proxy:   $kind://127.0.0.1:$port"
fi
if [ -n "$api" ]; then
	say "API:     http://$api"
	say "secret:  ${secret:-(none)}"
	say ""
	say "Try them from another terminal; any address may stand in the place of the proxy's target:"
	[ -z "$port" ] || [ "$port" = 0 ] || say "  curl -sS -x $kind://127.0.0.1:$port ${secret:+-H 'Authorization: Bearer $secret' }http://$api/version"
	say "  curl -sS ${secret:+-H 'Authorization: Bearer $secret' }http://$api/configs"
fi
say ""
exec build/sluice -d "$home"
