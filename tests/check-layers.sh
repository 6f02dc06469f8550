#!/bin/sh
# SPDX-License-Identifier: MIT
# Who may include whom. common is below supervisor, worker and controller, which never include each other; worker/loader and supervisor/helper
# are programs of their own. Inside worker/ a file includes its own folder and those left of it in ORDER; the files of worker/ itself are on top. The headers in
# SHARED are the words all of the worker speaks. Prints each offending line and exits 1 when there is one.
set -u
cd "$(dirname "$0")/.." || exit 2

find common supervisor worker controller -name '*.[ch]' | sort | xargs grep -n '^[[:space:]]*#[[:space:]]*include[[:space:]]*"' /dev/null | awk '
BEGIN {
	ORDER = "crypto codec match loop tls13 stream quic netstack stat sniff dns rule outbound group provider core inbound tun"
	SHARED = "worker/meta.h worker/gen.h worker/worker.h worker/patch.h"
	n = split(ORDER, word, " ")
	for (i = 1; i <= n; i++)
		rank[word[i]] = i
	n = split(SHARED, word, " ")
	for (i = 1; i <= n; i++)
		shared[word[i]] = 1
}
# the part of a path that the rules are about: common, supervisor, helper, controller, loader, a folder of worker, or worker for its own files
function layer(path,  p, n) {
	n = split(path, p, "/")
	if (p[1] == "supervisor" && n > 2)
		return p[2]
	if (p[1] != "worker")
		return p[1]
	return n > 2 ? p[2] : "worker"
}
function bad(why) {
	print $0 "   <- " why
	wrong = 1
}
{
	file = $0
	sub(/:.*/, "", file)
	header = $0
	sub(/^[^"]*"/, "", header)
	sub(/".*/, "", header)
	if (header !~ /^(common|supervisor|worker|controller)\//) {
		bad("paths start at the root of the tree")
		next
	}
	from = layer(file)
	to = layer(header)
	top = file
	sub(/\/.*/, "", top)
	htop = header
	sub(/\/.*/, "", htop)
	if (from == to || (to == "common" && from != "common"))
		next
	if (from == "common")
		bad("common includes nothing but common")
	else if (top != htop)
		bad(top " never includes " htop)
	else if (from == "loader" || to == "loader" || from == "helper" || to == "helper")
		bad("loader and helper are programs of their own")
	else if (header in shared || from == "worker")
		next
	else if (to == "worker")
		bad("only meta.h, gen.h, worker.h and patch.h are for all of the worker")
	else if (!(from in rank) || !(to in rank))
		bad("a folder that the order does not know")
	else if (rank[to] > rank[from])
		bad("worker/" from " is left of worker/" to)
}
END { exit wrong }'
