/* SPDX-License-Identifier: MIT */
/* DNS messages: writing queries, walking answers. See dns.h; presentation forms are in dns_text.c. Called by the resolver
 * for every answer of a nameserver, so this is the hot part: a record is stepped over without its names being copied. Owns
 * nothing. */
#include "worker/codec/dns.h"

#include <string.h>

#include "common/err.h"
#include "worker/codec/dns_impl.h"

/* ---- names */

int
dns_name_wire(uint8_t out[static DNS_NAME_MAX], const char *name)
{
	size_t len = strnlen(name, DNS_NAME_MAX), at = 0;

	if (len > 0 && name[len - 1] == '.')
		len--;
	if (len > DNS_NAME_MAX - 2)
		return -E_INVAL;
	for (size_t i = 0; i < len;) {
		const char *dot = memchr(name + i, '.', len - i);
		size_t n = dot != NULL ? (size_t)(dot - (name + i)) : len - i;

		if (n == 0 || n > DNS_LABEL_MAX || (dot != NULL && i + n + 1 == len))
			return -E_INVAL;
		out[at++] = (uint8_t)n;		/* RFC 1035 3.1 */
		memcpy(out + at, name + i, n);
		at += n;
		i += n + 1;
	}
	out[at++] = 0;
	return (int)at;
}

/* Where the name at off ends, without following its pointer (RFC 1035 4.1.4); 0 when it is broken. */
size_t
dns_name_skip(const uint8_t *p, size_t n, size_t off)
{
	size_t start = off;

	while (off < n) {
		uint8_t c = p[off];

		if (c == 0)
			return off + 1;
		if (c >= 0xc0)
			return off + 2 <= n ? off + 2 : 0;
		/* 01 and 10 are reserved; a name may be 255 bytes with its root */
		if (c > DNS_LABEL_MAX || off + c + 2u - start > DNS_NAME_MAX)
			return 0;
		off += c + 1u;
	}
	return 0;
}

/* ---- writing */

/* RFC 1035 4.1.1, 4.1.2; RFC 6891 6.1.2, 6.1.3 */
int
dns_query_write(uint8_t out[static DNS_QUERY_MAX], uint16_t id, const char *name, uint16_t type, uint16_t udp_size)
{
	static const uint8_t opt[11] = { 0, 0, DNS_T_OPT };	/* root, OPT, class = size, TTL = 0, no data */
	int len = dns_name_wire(out + DNS_HEADER, name);
	size_t at = DNS_HEADER;

	if (len < 0)
		return len;
	memset(out, 0, DNS_HEADER);
	dns_set16(out, id);
	dns_set16(out + 2, DNS_F_RD);
	dns_set16(out + 4, 1);
	at += (size_t)len;
	dns_set16(out + at, type);
	dns_set16(out + at + 2, DNS_CLASS_IN);
	at += 4;
	if (udp_size != 0) {
		dns_set16(out + 10, 1);
		memcpy(out + at, opt, sizeof(opt));
		dns_set16(out + at + 3, udp_size);
		at += sizeof(opt);
	}
	return (int)at;
}

int
dns_answer_empty(uint8_t *out, size_t cap, const uint8_t *query, size_t n, int rcode)
{
	struct dns_msg m;

	if (dns_open(&m, query, n) != 0 || m.questions != 1 || m.off > cap)
		return -E_PROTO;
	memmove(out, query, m.off);
	dns_set16(out + 2, (uint16_t)(DNS_F_QR | DNS_F_RA | (m.flags & DNS_F_RD) | (rcode & DNS_F_RCODE)));
	memset(out + 6, 0, 6);		/* no records */
	return (int)m.off;
}

/* ---- reading */

int
dns_open(struct dns_msg *m, const void *msg, size_t n)
{
	const uint8_t *p = msg;

	if (n < DNS_HEADER)
		return -E_PROTO;
	*m = (struct dns_msg){ .p = p, .n = n, .off = DNS_HEADER, .id = dns_get16(p), .flags = dns_get16(p + 2),
		.questions = dns_get16(p + 4), .left = { dns_get16(p + 6), dns_get16(p + 8), dns_get16(p + 10) } };
	for (unsigned i = 0; i < m->questions; i++) {
		size_t end = dns_name_skip(p, n, m->off);

		if (end == 0 || n - end < 4)
			return -E_PROTO;
		if (i == 0) {
			m->qtype = dns_get16(p + end);
			m->qclass = dns_get16(p + end + 2);
		}
		m->off = end + 4;
	}
	return 0;
}

/* RFC 1035 4.1.3 */
int
dns_next(struct dns_msg *m, struct dns_rr *rr)
{
	const uint8_t *p;
	size_t end;

	while (m->section < DNS_SECTIONS_ && m->left[m->section] == 0)
		m->section++;
	if (m->section == DNS_SECTIONS_)
		return 0;
	end = dns_name_skip(m->p, m->n, m->off);
	if (end == 0 || m->n - end < 10)
		return -E_PROTO;
	p = m->p + end;
	*rr = (struct dns_rr){ .name = m->off, .rdata = end + 10, .type = dns_get16(p), .class = dns_get16(p + 2),
		.ttl = dns_get32(p + 4), .rdlen = dns_get16(p + 8), .section = (uint8_t)m->section };
	if (m->n - rr->rdata < rr->rdlen)
		return -E_PROTO;
	m->off = rr->rdata + rr->rdlen;
	m->left[m->section]--;
	return 1;
}

static uint8_t
fold(uint8_t c)
{
	return c >= 'A' && c <= 'Z' ? (uint8_t)(c | 0x20) : c;
}

bool
dns_echoes(const struct dns_msg *m, const uint8_t *query, size_t n)
{
	size_t end = n > DNS_HEADER ? dns_name_skip(query, n, DNS_HEADER) : 0, name = end - DNS_HEADER;

	if (end == 0 || n - end < 4 || (m->flags & DNS_F_QR) == 0 || m->questions != 1)
		return false;
	/* The first name of a message has nothing that it could point at, so it comes back as it was sent but for case. Length
	 * bytes are below 'A' and compare as they are. */
	if (m->n < end + 4 || memcmp(m->p + end, query + end, 4) != 0)
		return false;
	for (size_t i = 0; i < name; i++)
		if (fold(m->p[DNS_HEADER + i]) != fold(query[DNS_HEADER + i]))
			return false;
	return true;
}

int
dns_rr_ip(const struct dns_msg *m, const struct dns_rr *rr, struct ip *ip)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
	const uint8_t *d = m->p + rr->rdata;

	if (rr->class != DNS_CLASS_IN)
		return -E_PROTO;
	if (rr->type == DNS_T_A && rr->rdlen == 4) {			/* RFC 1035 3.4.1 */
		*ip = (struct ip){ .family = 4 };
		memcpy(ip->b, d, 4);
	} else if (rr->type == DNS_T_AAAA && rr->rdlen == 16 && memcmp(d, mapped, 12) != 0) {	/* RFC 3596 2.2 */
		ip->family = 6;
		memcpy(ip->b, d, 16);
	} else {
		return -E_PROTO;
	}
	return 0;
}

void
dns_rr_set_ttl(uint8_t *msg, const struct dns_rr *rr, uint32_t ttl)
{
	uint8_t *p = msg + rr->rdata - 6;	/* RFC 1035 4.1.3: TTL, RDLENGTH, RDATA */

	dns_set16(p, (uint16_t)(ttl >> 16));
	dns_set16(p + 2, (uint16_t)ttl);
}

uint32_t
dns_soa_ttl(const struct dns_msg *m, const struct dns_rr *rr)
{
	size_t end = rr->rdata + rr->rdlen, at;
	uint32_t least;

	if (rr->type != DNS_T_SOA)
		return 0;
	at = dns_name_skip(m->p, end, rr->rdata);	/* RFC 1035 3.3.13: MNAME, RNAME, five numbers, the last is MINIMUM */
	at = at != 0 ? dns_name_skip(m->p, end, at) : 0;
	if (at == 0 || end - at != 20)
		return 0;
	least = dns_get32(m->p + at + 16);
	return least < rr->ttl ? least : rr->ttl;
}
