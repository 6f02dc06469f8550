/* SPDX-License-Identifier: MIT */
/* Address prefixes of the configuration: reading them with the reference's error texts, and testing lists and suffixes. */
#ifndef SLUICE_WORKER_MATCH_CIDR_H
#define SLUICE_WORKER_MATCH_CIDR_H

#include <stdbool.h>
#include <stddef.h>

#include "common/addr.h"

enum { CIDR_WHY_MAX = 256 };

/* 0, or -E_INVAL with why filled as the reference says it: netip.ParsePrefix("x"): no '/' */
int cidr_parse(struct prefix *out, const char *text, char why[static CIDR_WHY_MAX]);
bool cidr_match(const struct prefix *p, int n, const struct ip *ip);
/* The lowest bits of ip equal those of p: IP-SUFFIX. */
bool cidr_suffix_match(const struct prefix *p, const struct ip *ip);

#endif
