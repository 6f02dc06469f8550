/* SPDX-License-Identifier: MIT */
/* Globs of the -WILDCARD rules: '*' is any run of characters, dots too, '?' is one. Not the domain patterns of hosts and DNS. */
#ifndef SLUICE_WORKER_MATCH_GLOB_H
#define SLUICE_WORKER_MATCH_GLOB_H

#include <stdbool.h>

bool glob_match(const char *pattern, const char *text);		/* the whole text; case counts */
bool glob_match_case(const char *pattern, const char *text);	/* ASCII case does not count; the pattern is lower case */

#endif
