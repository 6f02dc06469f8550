#!/bin/sh
# SPDX-License-Identifier: MIT
# Calls that the code must not make: they block, have no bound, depend on the locale or the real clock, or resolve names; and typedefs of
# structs. Comments and strings are not looked at. Prints each offending line and exits 1 when there is one.
set -u
cd "$(dirname "$0")/.." || exit 2

find common supervisor worker controller -name '*.[ch]' ! -path 'common/blake3/*' | sort | xargs awk '
BEGIN {
	CALLS = "time gettimeofday sleep usleep getaddrinfo gethostbyname system popen strcpy stpcpy strcat sprintf vsprintf atoi atol atoll strtok" \
	    " localtime gmtime ctime asctime gets alloca rand tmpnam mktemp"
	n = split(CALLS, word, " ")
	for (i = 1; i <= n; i++)
		banned[word[i]] = 1
}
# the line without comments, strings and character constants; in_comment lasts over lines
function code(s,  out, c, two, i, n) {
	out = ""
	n = length(s)
	for (i = 1; i <= n; i++) {
		c = substr(s, i, 1)
		two = substr(s, i, 2)
		if (in_comment) {
			if (two == "*/") {
				in_comment = 0
				i++
			}
		} else if (two == "/*") {
			in_comment = 1
			i++
			out = out " "
		} else if (two == "//")
			break
		else if (c == "\"" || c == "\047") {
			for (i++; i <= n && substr(s, i, 1) != c; i++)
				if (substr(s, i, 1) == "\\")
					i++
			out = out "0"
		} else
			out = out c
	}
	return out
}
function bad(why) {
	print FILENAME ":" FNR ": " $0 "   <- " why
	wrong = 1
}
FNR == 1 { in_comment = 0 }
!in_comment && !/[(]|typedef|\/\*/ { next }
{
	s = code($0)
	if (s ~ /(^|[^A-Za-z0-9_])typedef[ \t]+(struct|union|enum)([^A-Za-z0-9_]|$)/)
		bad("no typedef of structs")
	while (match(s, /[A-Za-z_][A-Za-z0-9_]*[ \t]*[(]/)) {
		before = substr(s, 1, RSTART - 1)
		name = substr(s, RSTART, RLENGTH - 1)
		s = substr(s, RSTART + RLENGTH)
		gsub(/[ \t]/, "", name)
		# x.time( and x->time( are members of our own
		if (name in banned && before !~ /([.]|->)[ \t]*$/)
			bad(name "() is banned")
	}
}
END { exit wrong }'
