/* SPDX-License-Identifier: MIT */
/* Presentation forms of names and record data, for GET /dns/query and logs. Called with records that dns_next() found; each
 * form checks that the data is what its type promises, to the byte. Owns nothing; writes only into the caller's buffer. */
#include <arpa/inet.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/err.h"
#include "common/strutil.h"
#include "worker/codec/dns.h"
#include "worker/codec/dns_impl.h"

/* Output text; err is the first thing that went wrong. */
struct text {
	char *p;
	size_t n, cap;
	int err;
};

/* What is left of a record's data; at > end is never reached. */
struct data {
	const struct dns_msg *m;
	size_t at, end;
	struct text *t;
};

static void
put(struct text *t, char c)
{
	if (t->n + 1 < t->cap)
		t->p[t->n++] = c;
	else if (t->err == 0)
		t->err = -E_LIMIT;
}

__attribute__((format(printf, 2, 3))) static void
put_fmt(struct text *t, const char *fmt, ...)
{
	char buf[INET6_ADDRSTRLEN + 16];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(buf, sizeof(buf), fmt, ap);
	va_end(ap);
	for (const char *s = buf; *s != '\0'; s++)
		put(t, *s);
}

static void
broken(struct text *t)
{
	if (t->err == 0)
		t->err = -E_PROTO;
}

static int
finish(struct text *t)
{
	if (t->cap > 0)
		t->p[t->n] = '\0';
	return t->err != 0 ? t->err : t->cap > 0 ? (int)t->n : -E_LIMIT;
}

/* RFC 1035 5.1: \X for what means something in a master file, \DDD for what cannot be printed. */
static void
put_escaped(struct text *t, uint8_t c, const char *special)
{
	if (c < 0x20 || c > 0x7e)
		put_fmt(t, "\\%03u", c);
	else {
		if (strchr(special, c) != NULL)
			put(t, '\\');
		put(t, (char)c);
	}
}

/* ---- names */

/* RFC 1035 4.1.4. A pointer must lead to before the part it ends, so every jump goes back and the walk ends. With jumps 0
 * none is allowed. limit: no byte of the first part lies at or after it. Returns the end of the first part, 0 when the name
 * is broken. */
static size_t
name_walk(const struct dns_msg *m, size_t off, size_t limit, int jumps, struct text *t)
{
	size_t part = off, after = 0, len = 0, n = limit;

	for (;;) {
		uint8_t c;

		if (off >= n)
			return 0;
		c = m->p[off];
		if (c >= 0xc0) {
			size_t to;

			if (n - off < 2 || jumps-- == 0)
				return 0;
			to = (size_t)(c & 0x3f) << 8 | m->p[off + 1];
			if (to >= part)
				return 0;
			if (after == 0)
				after = off + 2;
			part = off = to;
			n = m->n;
			continue;
		}
		len += c + 1u;
		if (c > DNS_LABEL_MAX || len > DNS_NAME_MAX || c >= n - off)
			return 0;
		off++;
		if (c == 0)
			break;
		for (uint8_t i = 0; i < c; i++)
			put_escaped(t, m->p[off + i], "\"$();@\\. ");
		put(t, '.');
		off += c;
	}
	if (len == 1)
		put(t, '.');
	return after != 0 ? after : off;
}

int
dns_name_text(const struct dns_msg *m, size_t off, char *out, size_t cap)
{
	struct text t = { .p = out, .cap = cap };

	if (name_walk(m, off, m->n, DNS_JUMPS_MAX, &t) == 0)
		broken(&t);
	return finish(&t);
}

/* ---- fields */

static const uint8_t *
take(struct data *d, size_t n)
{
	const uint8_t *p = d->m->p + d->at;

	if (d->t->err != 0 || d->end - d->at < n) {
		broken(d->t);
		return NULL;
	}
	d->at += n;
	return p;
}

static void
put_name(struct data *d, int jumps)
{
	size_t after = d->t->err == 0 ? name_walk(d->m, d->at, d->end, jumps, d->t) : 0;

	if (after == 0)
		broken(d->t);
	else
		d->at = after;
}

static unsigned
u8(struct data *d)
{
	const uint8_t *p = take(d, 1);

	return p != NULL ? *p : 0;
}

static unsigned
u16(struct data *d)
{
	const uint8_t *p = take(d, 2);

	return p != NULL ? dns_get16(p) : 0;
}

static uint32_t
u32(struct data *d)
{
	const uint8_t *p = take(d, 4);

	return p != NULL ? dns_get32(p) : 0;
}

static void
put_ip(struct data *d, int family)
{
	const uint8_t *p = take(d, family == AF_INET ? 4 : 16);
	char s[INET6_ADDRSTRLEN];

	if (p != NULL && inet_ntop(family, p, s, sizeof(s)) != NULL)
		put_fmt(d->t, "%s", s);
}

static void
put_quoted(struct data *d, size_t n)
{
	const uint8_t *p = take(d, n);

	put(d->t, '"');
	for (size_t i = 0; p != NULL && i < n; i++)
		put_escaped(d->t, p[i], "\"\\");
	put(d->t, '"');
}

/* ---- SVCB and HTTPS */

/* RFC 9460 14.3.2, RFC 9461 5 */
enum { SVC_MANDATORY, SVC_ALPN, SVC_NO_DEFAULT_ALPN, SVC_PORT, SVC_IPV4HINT, SVC_ECH, SVC_IPV6HINT, SVC_DOHPATH };

static void
put_svc_key(struct text *t, unsigned key)
{
	static const char *const names[] = { "mandatory", "alpn", "no-default-alpn", "port", "ipv4hint", "ech", "ipv6hint",
		"dohpath" };

	if (key < countof(names))
		put_fmt(t, "%s", names[key]);
	else
		put_fmt(t, "key%u", key);
}

/* RFC 4648 4, without a buffer: ECHConfigList as RFC 9460 A.1 and the ECH draft print it. */
static void
put_base64(struct data *d)
{
	while (d->end - d->at > 0 && d->t->err == 0) {
		size_t n = d->end - d->at < 48 ? d->end - d->at : 48;
		const uint8_t *p = take(d, n);
		char s[72];

		if (p != NULL && base64_encode(s, sizeof(s), p, n) > 0)
			for (const char *c = s; *c != '\0'; c++)
				put(d->t, *c);
	}
}

/* A comma or backslash inside an item of a list is escaped twice (RFC 9460 A.1). */
static void
put_alpn(struct data *d)
{
	for (bool first = true; d->at < d->end && d->t->err == 0; first = false) {
		unsigned n = u8(d);
		const uint8_t *p = take(d, n);

		if (n == 0)
			broken(d->t);
		if (!first)
			put(d->t, ',');
		for (unsigned i = 0; p != NULL && i < n; i++) {
			if (p[i] == ',' || p[i] == '\\')
				put_fmt(d->t, "\\\\");
			put_escaped(d->t, p[i], "\"\\");
		}
	}
}

/* The value of one SvcParam, which d holds exactly. */
static void
put_svc_value(struct data *d, unsigned key)
{
	if (key == SVC_ALPN) {
		put_alpn(d);
	} else if (key == SVC_PORT) {
		put_fmt(d->t, "%u", u16(d));
	} else if (key == SVC_ECH) {
		put_base64(d);
	} else if (key == SVC_MANDATORY || key == SVC_IPV4HINT || key == SVC_IPV6HINT) {
		for (bool first = true; d->at < d->end && d->t->err == 0; first = false) {
			if (!first)
				put(d->t, ',');
			if (key == SVC_MANDATORY)
				put_svc_key(d->t, u16(d));
			else
				put_ip(d, key == SVC_IPV4HINT ? AF_INET : AF_INET6);
		}
	} else {
		size_t n = d->end - d->at;
		const uint8_t *p = take(d, n);

		for (size_t i = 0; p != NULL && i < n; i++)
			put_escaped(d->t, p[i], "\"\\");
	}
	if (d->at != d->end)
		broken(d->t);
}

/* RFC 9460 2.2: priority, uncompressed name, then keys in rising order. */
static void
put_svcb(struct data *d)
{
	long last = -1;

	put_fmt(d->t, "%u ", u16(d));
	put_name(d, 0);
	while (d->at < d->end && d->t->err == 0) {
		unsigned key = u16(d), n = u16(d);
		struct data v = *d;

		if (take(d, n) == NULL || (long)key <= last) {
			broken(d->t);
			return;
		}
		last = (long)key;
		v.end = d->at;
		put(d->t, ' ');
		put_svc_key(d->t, key);
		if (key == SVC_NO_DEFAULT_ALPN && n == 0)
			continue;
		put_fmt(d->t, "=\"");
		put_svc_value(&v, key);
		put(d->t, '"');
	}
}

/* ---- record types */

static void
put_txt(struct data *d)
{
	for (bool first = true; d->at < d->end && d->t->err == 0; first = false) {
		if (!first)
			put(d->t, ' ');
		put_quoted(d, u8(d));
	}
}

static void
put_soa(struct data *d)
{
	put_name(d, DNS_JUMPS_MAX);
	put(d->t, ' ');
	put_name(d, DNS_JUMPS_MAX);
	for (int i = 0; i < 5; i++)
		put_fmt(d->t, " %u", u32(d));
}

static void
put_caa(struct data *d)
{
	unsigned n, flags = u8(d);	/* RFC 8659 4.1 */
	const uint8_t *p;

	put_fmt(d->t, "%u ", flags);
	n = u8(d);
	p = take(d, n);
	for (unsigned i = 0; p != NULL && i < n; i++)
		put_escaped(d->t, p[i], "\"\\ ");
	put(d->t, ' ');
	put_quoted(d, d->end - d->at);
}

static void
put_unknown(struct data *d)
{
	size_t n = d->end - d->at;
	const uint8_t *p = take(d, n);

	put_fmt(d->t, "\\# %zu", n);
	if (n > 0)
		put(d->t, ' ');
	for (size_t i = 0; p != NULL && i < n; i++)
		put_fmt(d->t, "%02x", p[i]);
}

int
dns_rdata_text(const struct dns_msg *m, const struct dns_rr *rr, char *out, size_t cap)
{
	struct text t = { .p = out, .cap = cap };
	struct data d = { .m = m, .at = rr->rdata, .end = rr->rdata + rr->rdlen, .t = &t };

	switch (rr->type) {
	case DNS_T_A:
		put_ip(&d, AF_INET);
		break;
	case DNS_T_AAAA:
		put_ip(&d, AF_INET6);
		break;
	case DNS_T_NS:
	case DNS_T_CNAME:
	case DNS_T_PTR:
	case DNS_T_DNAME:
		put_name(&d, DNS_JUMPS_MAX);
		break;
	case DNS_T_SOA:
		put_soa(&d);		/* RFC 1035 3.3.13 */
		break;
	case DNS_T_MX:
		put_fmt(&t, "%u ", u16(&d));	/* RFC 1035 3.3.9 */
		put_name(&d, DNS_JUMPS_MAX);
		break;
	case DNS_T_SRV:			/* RFC 2782; compressed by some all the same (RFC 3597 4) */
		for (int i = 0; i < 3; i++)
			put_fmt(&t, "%u ", u16(&d));
		put_name(&d, DNS_JUMPS_MAX);
		break;
	case DNS_T_TXT:
		put_txt(&d);		/* RFC 1035 3.3.14 */
		break;
	case DNS_T_CAA:
		put_caa(&d);
		break;
	case DNS_T_SVCB:
	case DNS_T_HTTPS:
		put_svcb(&d);
		break;
	default:
		put_unknown(&d);
	}
	if (d.at != d.end)
		broken(&t);
	return finish(&t);
}
