/* SPDX-License-Identifier: MIT */
/* Regular expressions of the configuration, written for .NET, run by PCRE2's interpreter: without regard to case,
 * unanchored, UTF-8, bounded. What PCRE2 would read differently is refused. A pattern that reaches a limit does not match. */
#ifndef SLUICE_WORKER_MATCH_REGEX_H
#define SLUICE_WORKER_MATCH_REGEX_H

#include <stdbool.h>
#include <stddef.h>

#include "common/arena.h"

enum {
	REGEX_MATCH_LIMIT = 100000, REGEX_DEPTH_LIMIT = 250,	/* steps, nested back-tracks */
	REGEX_HEAP_KIB = 512,		/* of back-tracking state, shared by all patterns of a generation */
	REGEX_WHY_MAX = 200
};

struct regex;
struct regex_env;

/* *env is made at the first call; both live in the arena. NULL with why filled when the pattern is refused. */
struct regex *regex_compile(struct arena *a, struct regex_env **env, const char *pattern, bool caseless,
    char why[static REGEX_WHY_MAX]);
bool regex_match(const struct regex *re, const char *text, size_t n);

#endif
