/* SPDX-License-Identifier: MIT */
/* The OPT record (EDNS, RFC 6891) of questions to name servers: client subnet where it is configured, padding where the question
 * is encrypted. Called by transport.c and carrier.c; owns nothing. */
#include <string.h>

#include "worker/codec/dns.h"
#include "worker/dns/internal.h"

enum { OPT_ECS = 8, OPT_PADDING = 12, UDP_SIZE = 1232 };	/* RFC 7871 6, RFC 7830 3 */

static void
set16(uint8_t *p, unsigned v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

/* The client subnet option (RFC 7871 6): address bits beyond the prefix are zero. */
static size_t
put_ecs(uint8_t *p, const struct prefix *ecs)
{
	size_t n = ((size_t)ecs->bits + 7) / 8;

	set16(p, OPT_ECS);
	set16(p + 2, (unsigned)(4 + n));
	set16(p + 4, ecs->ip.family == 4 ? 1 : 2);
	p[6] = ecs->bits;
	p[7] = 0;
	memcpy(p + 8, ecs->ip.b, n);
	if (ecs->bits % 8 != 0)
		p[8 + n - 1] &= (uint8_t)(0xff << (8 - ecs->bits % 8));
	return 8 + n;
}

size_t
edns_add(uint8_t out[static EDNS_QUERY_MAX], const uint8_t *query, size_t n, const struct prefix *ecs, bool pad)
{
	size_t rdlen, at = n;

	memcpy(out, query, n);
	if (!pad && ecs->ip.family == 0)
		return n;
	memset(out + at, 0, 11);		/* RFC 6891 6.1.2 */
	set16(out + at + 1, DNS_T_OPT);
	set16(out + at + 3, UDP_SIZE);
	rdlen = at + 9;
	at += 11;
	if (ecs->ip.family != 0)
		at += put_ecs(out + at, ecs);
	if (pad) {				/* RFC 8467 4.1 */
		size_t left = (EDNS_PAD - (at + 4) % EDNS_PAD) % EDNS_PAD;

		set16(out + at, OPT_PADDING);
		set16(out + at + 2, (unsigned)left);
		memset(out + at + 4, 0, left);
		at += 4 + left;
	}
	set16(out + rdlen, (unsigned)(at - rdlen - 2));
	set16(out + 10, 1);
	return at;
}

size_t
edns_strip(uint8_t *p, size_t n)
{
	struct dns_msg m;
	struct dns_rr rr;
	size_t at = 0;

	if (dns_open(&m, p, n) != 0)
		return n;
	while (dns_next(&m, &rr) > 0)
		at = rr.type == DNS_T_OPT && rr.section == DNS_ADDITIONAL ? rr.name : 0;
	if (at == 0 || m.off != n)
		return n;
	set16(p + 10, ((unsigned)p[10] << 8 | p[11]) - 1);
	return at;
}
