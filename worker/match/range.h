/* SPDX-License-Identifier: MIT */
/* Lists of numbers, "80/443/8000-8080" (spec/config.md 2, last paragraph): port rules, UID, DSCP, sniffer ports. */
#ifndef SLUICE_WORKER_MATCH_RANGE_H
#define SLUICE_WORKER_MATCH_RANGE_H

#include <stdbool.h>
#include <stdint.h>

enum { RANGES_MAX = 28 };	/* the reference's limit; more are refused */

struct range {
	uint32_t from, to;
};
struct ranges {			/* n 0: no restriction, matches everything */
	struct range r[RANGES_MAX];
	int n;
};

/* Tokens are split at '/' and ','. "" and "*" give n 0. Numbers over max match nothing, ranges end at max. NULL, or why the
 * text is refused. */
const char *range_parse(struct ranges *out, const char *text, uint32_t max);
/* The same, where a number over max is refused as a whole: *over is set. */
const char *range_parse_over(struct ranges *out, const char *text, uint32_t max, bool *over);
bool range_match(const struct ranges *ranges, uint32_t v);

#endif
