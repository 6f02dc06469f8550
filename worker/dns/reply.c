/* SPDX-License-Identifier: MIT */
/* The messages of the DNS server; see reply.h. A name server's answer to the very question of the client is passed as bytes: the
 * names in front of its records have the same length, so compression pointers stay right. Behind a hosts alias the name differs,
 * and the records are written anew. */
#include "worker/dns/reply.h"

#include <string.h>

#include "common/err.h"

enum {
	OPT_SIZE = 11,			/* RFC 6891 6.1.2, without options */
	OPT_DO = 0x8000,		/* RFC 3225 3 */
	OPCODE = 0x7800, TTL_AT = 4,
	T_IXFR = 251, T_AXFR = 252,
	POINTER_MAX = 0x3fff,		/* RFC 1035 4.1.4 */
	NAMES_MAX = 16			/* names that later ones may point at; others are written whole */
};

struct writer {
	uint8_t *p;
	size_t n, max;			/* max leaves room for the OPT record */
	uint16_t count[DNS_SECTIONS_];
	bool cut;			/* something did not fit */
	size_t names[NAMES_MAX];	/* offsets of whole names */
	int n_names;
};

static uint16_t
get16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static void
set16(uint8_t *p, unsigned v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

/* ---- questions */

/* A whole name without pointers: its length, 0 when it is none. */
static size_t
plain_name(const uint8_t *p, size_t n, size_t off)
{
	size_t at = off;

	while (at < n && p[at] != 0) {
		if (p[at] > DNS_LABEL_MAX || at + p[at] + 2u - off > DNS_NAME_MAX)
			return 0;
		at += p[at] + 1u;
	}
	return at < n ? at + 1 - off : 0;
}

/* RFC 6891 6.1.1, 6.1.3, 6.2.3 */
static int
read_opt(struct dns_question *q, const struct dns_msg *m, const struct dns_rr *rr)
{
	if (q->edns || rr->section != DNS_ADDITIONAL || m->p[rr->name] != 0)
		return DNS_R_FORMAT;
	q->edns = true;
	q->udp_size = rr->class < DNS_REPLY_MIN ? DNS_REPLY_MIN : rr->class > DNS_REPLY_UDP_MAX ? DNS_REPLY_UDP_MAX : rr->class;
	q->dnssec_ok = (rr->ttl & OPT_DO) != 0;
	return (rr->ttl >> 16 & 0xff) != 0 ? DNS_R_BADVERS : 0;
}

int
dns_question_read(struct dns_question *q, const uint8_t *p, size_t n)
{
	struct dns_msg m;
	struct dns_rr rr;
	int rc, bad = 0;
	size_t len;

	if (n < DNS_HEADER || (get16(p + 2) & DNS_F_QR) != 0)
		return -E_PROTO;
	*q = (struct dns_question){ .id = get16(p), .flags = get16(p + 2), .udp_size = DNS_REPLY_MIN };
	if ((q->flags & OPCODE) != 0)
		return DNS_R_NOTIMP;
	if (get16(p + 4) != 1)
		return DNS_R_FORMAT;
	len = plain_name(p, n, DNS_HEADER);
	if (len == 0 || dns_open(&m, p, n) != 0)
		return DNS_R_FORMAT;
	memcpy(q->name, p + DNS_HEADER, len);
	q->n = (uint8_t)len;
	q->type = m.qtype;
	q->class = m.qclass;
	while ((rc = dns_next(&m, &rr)) > 0)
		if (rr.type == DNS_T_OPT && bad != DNS_R_FORMAT) {
			int r = read_opt(q, &m, &rr);

			bad = r != 0 ? r : bad;
		}
	if (rc < 0 || bad != 0)
		return rc < 0 ? DNS_R_FORMAT : bad;
	if (q->type == DNS_T_OPT)
		return DNS_R_FORMAT;	/* nothing that a name has */
	/* zones are not transferred, and other classes are nobody's here */
	return q->class != DNS_CLASS_IN || q->type == T_AXFR || q->type == T_IXFR ? DNS_R_REFUSED : 0;
}

bool
dns_question_host(const struct dns_question *q, char out[static HOST_MAX + 1])
{
	size_t at = 0, k = 0;

	while (at + 1 < q->n) {
		uint8_t len = q->name[at++];

		if (memchr(q->name + at, '.', len) != NULL || memchr(q->name + at, '\0', len) != NULL)
			return false;
		if (k > 0)
			out[k++] = '.';
		memcpy(out + k, q->name + at, len);
		k += len;
		at += len;
	}
	out[k] = '\0';
	return true;
}

/* ---- writing */

static int
begin(struct writer *w, const struct dns_question *q, uint8_t *out, size_t cap)
{
	if (cap < DNS_REPLY_MIN)
		return -E_LIMIT;
	*w = (struct writer){ .p = out, .n = DNS_HEADER, .max = cap - (q->edns ? OPT_SIZE : 0) };
	memset(out, 0, DNS_HEADER);
	if (q->n == 0)
		return 0;
	memcpy(out + w->n, q->name, q->n);	/* RFC 1035 4.1.2 */
	w->names[w->n_names++] = w->n;
	w->n += q->n;
	set16(out + w->n, q->type);
	set16(out + w->n + 2, q->class);
	w->n += 4;
	return 0;
}

/* The header (RFC 1035 4.1.1) and the OPT record; flags are those beside the echoed ones and QR, RA. */
static int
finish(struct writer *w, const struct dns_question *q, unsigned flags, int rcode)
{
	static const uint8_t opt[OPT_SIZE] = { 0, 0, DNS_T_OPT };
	uint8_t *p = w->p;

	if (q->edns) {
		memcpy(p + w->n, opt, sizeof(opt));
		set16(p + w->n + 3, DNS_REPLY_UDP_MAX);
		p[w->n + 5] = (uint8_t)(rcode >> 4);
		set16(p + w->n + 7, q->dnssec_ok ? OPT_DO : 0);
		w->n += sizeof(opt);
		w->count[DNS_ADDITIONAL]++;
	}
	set16(p, q->id);
	flags |= DNS_F_QR | DNS_F_RA | (q->flags & (unsigned)(OPCODE | DNS_F_RD | DNS_F_CD)) | (w->cut ? DNS_F_TC : 0u);
	set16(p + 2, flags | ((unsigned)rcode & DNS_F_RCODE));
	set16(p + 4, q->n > 0);
	for (int i = 0; i < DNS_SECTIONS_; i++)
		set16(p + 6 + 2 * i, w->count[i]);
	return (int)w->n;
}

static bool
put(struct writer *w, const void *data, size_t n)
{
	if (w->max - w->n < n)
		return false;
	memcpy(w->p + w->n, data, n);
	w->n += n;
	return true;
}

/* A name, or a pointer to where the same one stands whole. */
static bool
put_name(struct writer *w, const uint8_t *name, size_t n)
{
	uint8_t pointer[2];
	size_t at = w->n;

	for (int i = 0; i < w->n_names && n > 2; i++) {
		if (w->n - w->names[i] < n || memcmp(w->p + w->names[i], name, n) != 0)
			continue;
		set16(pointer, (unsigned)(0xc000 | w->names[i]));
		return put(w, pointer, sizeof(pointer));
	}
	if (!put(w, name, n))
		return false;
	if (w->n_names < NAMES_MAX && at <= POINTER_MAX)
		w->names[w->n_names++] = at;
	return true;
}

/* A record is begun, its data put, and then ended; one that did not fit leaves no trace but TC. */
struct record {
	size_t start, rdata;
	int n_names;
	bool ok;
};

static struct record
record_begin(struct writer *w, const uint8_t *name, size_t n, unsigned type, uint32_t ttl)
{
	struct record r = { .start = w->n, .n_names = w->n_names };
	uint8_t fixed[10] = { 0 };

	set16(fixed, type);			/* RFC 1035 4.1.3 */
	set16(fixed + 2, DNS_CLASS_IN);
	set16(fixed + TTL_AT, ttl >> 16);
	set16(fixed + TTL_AT + 2, ttl & 0xffff);
	r.ok = put_name(w, name, n) && put(w, fixed, sizeof(fixed));
	r.rdata = w->n;
	return r;
}

static bool
record_end(struct writer *w, const struct record *r, bool ok, int section)
{
	if (!r->ok || !ok) {
		w->n = r->start;
		w->n_names = r->n_names;
		w->cut = true;
		return false;
	}
	set16(w->p + r->rdata - 2, (unsigned)(w->n - r->rdata));
	w->count[section]++;
	return true;
}

/* ---- replies of our own */

int
dns_reply_empty(const struct dns_question *q, uint8_t *out, size_t cap, int rcode)
{
	struct writer w;
	int rc = begin(&w, q, out, cap);

	return rc == 0 ? finish(&w, q, rcode == DNS_R_OK ? DNS_F_AA : 0, rcode) : rc;
}

/* A record of the question's name that holds another name. */
static bool
put_alias(struct writer *w, const struct dns_question *q, unsigned type, const uint8_t *name, size_t n, uint32_t ttl)
{
	struct record r = record_begin(w, q->name, q->n, type, ttl);

	return record_end(w, &r, r.ok && put_name(w, name, n), DNS_ANSWER);
}

int
dns_reply_ips(const struct dns_question *q, uint8_t *out, size_t cap, const char *alias, const struct ip *ips, int n,
    uint32_t ttl)
{
	uint8_t target[DNS_NAME_MAX];
	const uint8_t *name = q->name;
	int family = q->type == DNS_T_A ? 4 : 6, len = q->n, rc;
	struct writer w;

	if (alias != NULL) {
		name = target;
		len = dns_name_wire(target, alias);
	}
	rc = len < 0 ? len : begin(&w, q, out, cap);
	if (rc != 0)
		return rc;
	if (alias != NULL && !put_alias(&w, q, DNS_T_CNAME, target, (size_t)len, DNS_REPLY_TTL))
		return finish(&w, q, DNS_F_AA, DNS_R_OK);
	for (int i = 0; i < n; i++) {
		struct record r;

		if (ips[i].family != family)
			continue;
		r = record_begin(&w, name, (size_t)len, q->type, ttl);
		if (!record_end(&w, &r, r.ok && put(&w, ips[i].b, family == 4 ? 4 : 16), DNS_ANSWER))
			break;
	}
	return finish(&w, q, DNS_F_AA, DNS_R_OK);
}

int
dns_reply_name(const struct dns_question *q, uint8_t *out, size_t cap, const char *name, uint32_t ttl)
{
	uint8_t wire[DNS_NAME_MAX];
	int len = dns_name_wire(wire, name), rc;
	struct writer w;

	rc = len < 0 ? len : begin(&w, q, out, cap);
	if (rc != 0)
		return rc;
	(void)put_alias(&w, q, DNS_T_PTR, wire, (size_t)len, ttl);
	return finish(&w, q, DNS_F_AA, DNS_R_OK);
}

/* ---- replies made of a name server's */

static uint8_t
fold(uint8_t c)
{
	return c >= 'A' && c <= 'Z' ? (uint8_t)(c | 0x20) : c;
}

static bool
same_question(const struct dns_question *q, const struct dns_msg *m)
{
	if ((m->flags & DNS_F_QR) == 0 || m->questions != 1 || m->qtype != q->type || m->qclass != q->class ||
	    m->off != DNS_HEADER + q->n + 4u)
		return false;
	for (size_t i = 0; i < q->n; i++)
		if (fold(m->p[DNS_HEADER + i]) != fold(q->name[i]))
			return false;
	return true;
}

int
dns_reply_pass(const struct dns_question *q, uint8_t *out, size_t cap, const uint8_t *msg, size_t n)
{
	struct writer w;
	struct dns_msg m;
	struct dns_rr rr;
	int rc = begin(&w, q, out, cap);
	size_t end;

	if (rc != 0)
		return rc;
	end = w.n;
	if (dns_open(&m, msg, n) != 0 || !same_question(q, &m))
		return -E_PROTO;
	while ((rc = dns_next(&m, &rr)) > 0 && rr.type != DNS_T_OPT) {
		if (m.off > w.max) {
			w.cut = rr.section != DNS_ADDITIONAL;	/* RFC 2181 9 */
			break;
		}
		w.count[rr.section]++;
		end = m.off;
	}
	/* an extended RCODE is no success, whatever its low bits are */
	if (rc < 0 || (rc > 0 && rr.type == DNS_T_OPT && rr.ttl >> 24 != 0))
		return -E_PROTO;
	memcpy(out + w.n, msg + w.n, end - w.n);
	w.n = end;
	/* AD is not passed: nothing was validated here (RFC 6840 5.8) */
	return finish(&w, q, DNS_F_AA | (m.flags & (unsigned)DNS_F_TC), m.flags & DNS_F_RCODE);
}

/* The name at off without pointers; *after is where the record goes on. 0 when it is broken: pointers lead backwards only (RFC
 * 1035 4.1.4). */
static size_t
expand(const uint8_t *p, size_t n, size_t off, uint8_t out[static DNS_NAME_MAX], size_t *after)
{
	size_t k = 0, limit = off;
	int jumps = 0;

	*after = 0;
	while (off < n && p[off] != 0) {
		uint8_t c = p[off];

		if (c >= 0xc0) {
			if (off + 2 > n || ++jumps > DNS_JUMPS_MAX)
				return 0;
			*after = *after == 0 ? off + 2 : *after;
			off = get16(p + off) & POINTER_MAX;
			if (off >= limit)
				return 0;
			limit = off;
			continue;
		}
		if (c > DNS_LABEL_MAX || off + c + 1u > n || k + c + 2u > DNS_NAME_MAX)
			return 0;
		memcpy(out + k, p + off, c + 1u);
		k += c + 1u;
		off += c + 1u;
	}
	if (off >= n)
		return 0;
	out[k++] = 0;
	*after = *after == 0 ? off + 1 : *after;
	return k;
}

/* Writes a record of an answer anew; types that an address question does not need are left out. -E_PROTO: a broken one. */
static int
copy_record(struct writer *w, const struct dns_msg *m, const struct dns_rr *rr)
{
	size_t end = rr->rdata + rr->rdlen, at = rr->rdata, n;
	bool address = rr->type == DNS_T_A || rr->type == DNS_T_AAAA;
	bool cname = rr->type == DNS_T_CNAME, soa = rr->type == DNS_T_SOA;
	uint8_t name[DNS_NAME_MAX];
	struct record r;
	struct ip ip;
	bool ok;

	if (!cname && !soa && !address)
		return 0;
	if (rr->section != (soa ? DNS_AUTHORITY : DNS_ANSWER) || (address && dns_rr_ip(m, rr, &ip) != 0))
		return 0;
	n = expand(m->p, m->n, rr->name, name, &at);
	if (n == 0)
		return -E_PROTO;
	r = record_begin(w, name, n, rr->type, rr->ttl);
	ok = r.ok;
	at = rr->rdata;
	for (int i = 0; i < (cname ? 1 : soa ? 2 : 0); i++) {	/* RFC 1035 3.3.1, 3.3.13 */
		n = expand(m->p, end, at, name, &at);
		if (n == 0)
			return -E_PROTO;
		ok = ok && put_name(w, name, n);
	}
	if (end - at != (soa ? 20u : cname ? 0u : rr->rdlen))
		return -E_PROTO;
	(void)record_end(w, &r, ok && put(w, m->p + at, end - at), rr->section);
	return 0;
}

int
dns_reply_alias(const struct dns_question *q, uint8_t *out, size_t cap, const char *alias, const uint8_t *msg, size_t n)
{
	uint8_t target[DNS_NAME_MAX];
	int len = dns_name_wire(target, alias), rc;
	struct dns_msg m;
	struct dns_rr rr;
	struct writer w;

	rc = len < 0 ? len : begin(&w, q, out, cap);
	if (rc != 0)
		return rc;
	if (!put_alias(&w, q, DNS_T_CNAME, target, (size_t)len, DNS_REPLY_TTL) || msg == NULL)
		return finish(&w, q, DNS_F_AA, DNS_R_OK);
	if (dns_open(&m, msg, n) != 0 || (m.flags & DNS_F_QR) == 0)
		return -E_PROTO;
	while (!w.cut && (rc = dns_next(&m, &rr)) > 0 && rr.section != DNS_ADDITIONAL) {
		rc = copy_record(&w, &m, &rr);
		if (rc != 0)
			return rc;
	}
	if (rc < 0)
		return rc;
	return finish(&w, q, DNS_F_AA | (m.flags & (unsigned)DNS_F_TC), m.flags & DNS_F_RCODE);
}
