/* SPDX-License-Identifier: MIT */
/* Prefix lists and suffixes. Called by the general section, by rules and by PATCH /configs; owns nothing. */
#include "worker/match/cidr.h"

#include <stdio.h>
#include <string.h>

#include "common/err.h"
#include "common/strutil.h"

int
cidr_parse(struct prefix *out, const char *text, char why[static CIDR_WHY_MAX])
{
	const char *slash = strrchr(text, '/');
	char head[ADDR_TEXT_MAX];
	int shown = (int)strnlen(text, 64), head_len;
	struct ip ip;
	int64_t bits;

	if (prefix_parse(out, text) == 0)
		return 0;
	if (slash == NULL) {
		(void)snprintf(why, CIDR_WHY_MAX, "netip.ParsePrefix(\"%.*s\"): no '/'", shown, text);
		return -E_INVAL;
	}
	head_len = (int)(slash - text > 60 ? 60 : slash - text);
	(void)snprintf(head, sizeof head, "%.*s", head_len, text);
	if (ip_parse(&ip, head) != 0)
		(void)snprintf(why, CIDR_WHY_MAX, "netip.ParsePrefix(\"%.*s\"): ParseAddr(\"%s\"): unable to parse IP", shown,
		    text, head);
	else if (str_to_i64(slash + 1, 0, INT64_MAX, &bits) != 0)
		(void)snprintf(why, CIDR_WHY_MAX, "netip.ParsePrefix(\"%.*s\"): bad bits after slash: \"%.32s\"", shown, text,
		    slash + 1);
	else
		(void)snprintf(why, CIDR_WHY_MAX, "netip.ParsePrefix(\"%.*s\"): prefix length out of range", shown, text);
	return -E_INVAL;
}

bool
cidr_match(const struct prefix *p, int n, const struct ip *ip)
{
	for (int i = 0; i < n; i++)
		if (ip_in_prefix(ip, &p[i]))
			return true;
	return false;
}

bool
cidr_suffix_match(const struct prefix *p, const struct ip *ip)
{
	size_t size = ip->family == 4 ? 4 : 16, whole = p->bits / 8;
	unsigned rest = p->bits % 8;

	if (ip->family == 0 || ip->family != p->ip.family || p->bits > size * 8)
		return false;
	if (memcmp(ip->b + size - whole, p->ip.b + size - whole, whole) != 0)
		return false;
	return rest == 0 || ((ip->b[size - whole - 1] ^ p->ip.b[size - whole - 1]) & ((1U << rest) - 1)) == 0;
}
