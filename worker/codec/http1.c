/* SPDX-License-Identifier: MIT */
/* HTTP/1 heads, see http1.h. Grammar: RFC 9112 2 to 6, RFC 9110 5. Body framing is in http1_body.c. */
#include "worker/codec/http1.h"

#include <string.h>

#include "common/err.h"

struct cursor {			/* what is left of a head */
	const char *p, *end;
	bool strict;		/* requests: CRLF only, no control bytes */
};

/* RFC 9110 5.6.2 tchar */
static bool
is_tchar(char c)
{
	if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'))
		return true;
	return c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL;
}

static bool
is_token(struct http1_text t)
{
	size_t i;

	for (i = 0; i < t.n; i++)
		if (!is_tchar(t.p[i]))
			return false;
	return t.n > 0;
}

static char
lower(char c)
{
	return (char)(c >= 'A' && c <= 'Z' ? c + 32 : c);
}

static bool
text_equal(struct http1_text a, struct http1_text b)
{
	size_t i;

	if (a.n != b.n)
		return false;
	for (i = 0; i < a.n; i++)
		if (lower(a.p[i]) != lower(b.p[i]))
			return false;
	return true;
}

bool
http1_text_is(struct http1_text t, const char *s)
{
	return text_equal(t, (struct http1_text){ s, strlen(s) });
}

static struct http1_text
trim(struct http1_text t)
{
	while (t.n > 0 && (t.p[0] == ' ' || t.p[0] == '\t')) {
		t.p++;
		t.n--;
	}
	while (t.n > 0 && (t.p[t.n - 1] == ' ' || t.p[t.n - 1] == '\t'))
		t.n--;
	return t;
}

int
http1_head_length(const uint8_t *p, size_t n, size_t *seen)
{
	const uint8_t *nl;
	size_t at, i = *seen;

	for (; i < n && (nl = memchr(p + i, '\n', n - i)) != NULL; i = at + 1) {
		at = (size_t)(nl - p);
		if (at + 1 < n && p[at + 1] == '\n')
			at += 2;
		else if (at + 2 < n && p[at + 1] == '\r' && p[at + 2] == '\n')
			at += 3;
		else
			continue;
		return at > HTTP1_HEAD_MAX ? -E_LIMIT : (int)at;
	}
	*seen = n > 2 ? n - 2 : 0;
	return n >= HTTP1_HEAD_MAX ? -E_LIMIT : -E_AGAIN;
}

/* One line without its end. */
static int
next_line(struct cursor *c, struct http1_text *out)
{
	const char *nl = memchr(c->p, '\n', (size_t)(c->end - c->p));
	size_t n, i;

	if (nl == NULL)
		return -E_PROTO;
	n = (size_t)(nl - c->p);
	if (n > 0 && c->p[n - 1] == '\r')
		n--;
	else if (c->strict)
		return -E_PROTO;
	for (i = 0; i < n; i++) {
		char ch = c->p[i];

		if (ch == '\0' || ch == '\r' || (c->strict && ((ch > 0 && ch < ' ' && ch != '\t') || ch == 0x7f)))
			return -E_PROTO;
	}
	out->p = c->p;
	out->n = n;
	c->p = nl + 1;
	return 0;
}

/* "HTTP/1.x", RFC 9112 2.3 */
static int
parse_version(struct http1_text t, uint8_t *minor)
{
	if (t.n != 8 || memcmp(t.p, "HTTP/", 5) != 0 || t.p[6] != '.' || t.p[5] < '0' || t.p[5] > '9' || t.p[7] < '0' ||
	    t.p[7] > '9')
		return -E_PROTO;
	if (t.p[5] != '1')
		return -E_UNSUP;
	*minor = t.p[7] == '0' ? 0 : 1;
	return 0;
}

static bool
cut(struct http1_text *t, char at, struct http1_text *head)
{
	const char *q = t->n > 0 ? memchr(t->p, at, t->n) : NULL;

	if (q == NULL)
		return false;
	head->p = t->p;
	head->n = (size_t)(q - t->p);
	t->p = q + 1;
	t->n -= head->n + 1;
	return true;
}

/* method SP request-target SP HTTP-version, RFC 9112 3 */
static int
parse_request_line(struct http1_text line, struct http1_head *h)
{
	size_t i;

	if (!cut(&line, ' ', &h->method) || !cut(&line, ' ', &h->target) || !is_token(h->method) || h->target.n == 0)
		return -E_PROTO;
	for (i = 0; i < h->target.n; i++)
		if (h->target.p[i] == '\t')
			return -E_PROTO;
	return parse_version(line, &h->minor);
}

/* HTTP-version SP status-code SP [reason], RFC 9112 4; the second SP may be missing. */
static int
parse_status_line(struct http1_text line, struct http1_head *h)
{
	struct http1_text version;
	int rc, i;

	if (!cut(&line, ' ', &version))
		return -E_PROTO;
	rc = parse_version(version, &h->minor);
	if (rc != 0)
		return rc;
	if (line.n < 3 || (line.n > 3 && line.p[3] != ' ') || line.p[0] < '1')
		return -E_PROTO;
	for (i = 0; i < 3; i++) {
		if (line.p[i] < '0' || line.p[i] > '9')
			return -E_PROTO;
		h->status = (uint16_t)(h->status * 10 + (line.p[i] - '0'));
	}
	h->reason.p = line.n > 3 ? line.p + 4 : line.p + 3;
	h->reason.n = line.n > 3 ? line.n - 4 : 0;
	return 0;
}

/* field-name ":" OWS field-value OWS, RFC 9112 5; no space before the colon (5.1), no obs-fold (5.2). */
static int
parse_fields(struct cursor *c, struct http1_head *h)
{
	struct http1_text line;
	struct http1_header *f;
	int rc;

	for (;;) {
		rc = next_line(c, &line);
		if (rc != 0)
			return rc;
		if (line.n == 0)
			return c->p == c->end ? 0 : -E_PROTO;
		if (h->n == HTTP1_HEADERS_MAX)
			return -E_LIMIT;
		f = &h->h[h->n];
		if (!cut(&line, ':', &f->name) || !is_token(f->name))
			return -E_PROTO;
		f->value = trim(line);
		h->n++;
	}
}

const struct http1_text *
http1_find(const struct http1_head *h, const char *name)
{
	int i;

	for (i = 0; i < h->n; i++)
		if (http1_text_is(h->h[i].name, name))
			return &h->h[i].value;
	return NULL;
}

int
http1_count(const struct http1_head *h, const char *name)
{
	int i, n = 0;

	for (i = 0; i < h->n; i++)
		n += http1_text_is(h->h[i].name, name);
	return n;
}

bool
http1_has_token(const struct http1_head *h, const char *name, struct http1_text token)
{
	struct http1_text left, item;
	bool more;
	int i;

	for (i = 0; i < h->n; i++) {
		if (!http1_text_is(h->h[i].name, name))
			continue;
		left = h->h[i].value;
		do {
			more = cut(&left, ',', &item);
			if (text_equal(trim(more ? item : left), token))
				return true;
		} while (more);
	}
	return false;
}

static bool
connection_says(const struct http1_head *h, const char *token)
{
	return http1_has_token(h, "Connection", (struct http1_text){ token, strlen(token) });
}

bool
http1_is_hop(const struct http1_head *h, int i)
{
	static const char *const hop[] = { "Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authorization",
		"Proxy-Authenticate", "Proxy-Authentication-Info", "TE", "Upgrade" };
	static const char *const kept[] = { "Content-Length", "Transfer-Encoding", "Host" };
	struct http1_text name = h->h[i].name;
	size_t k;

	for (k = 0; k < sizeof(hop) / sizeof(hop[0]); k++)
		if (http1_text_is(name, hop[k]))
			return true;
	for (k = 0; k < sizeof(kept) / sizeof(kept[0]); k++)
		if (http1_text_is(name, kept[k]))
			return false;
	return http1_has_token(h, "Connection", name);
}

/* Content-Length = 1*DIGIT, RFC 9110 8.6; what would not fit 63 bits is refused. */
static int
parse_length(struct http1_text t, uint64_t *out)
{
	uint64_t v = 0;
	size_t i;

	if (t.n == 0 || t.n > 18)
		return -E_PROTO;
	for (i = 0; i < t.n; i++) {
		if (t.p[i] < '0' || t.p[i] > '9')
			return -E_PROTO;
		v = v * 10 + (uint64_t)(t.p[i] - '0');
	}
	*out = v;
	return 0;
}

/* RFC 9112 6.1 to 6.3, the strict reading. none: what a message without either field is. */
static int
parse_framing(struct http1_head *h, enum http1_framing none)
{
	int lengths = http1_count(h, "Content-Length"), codings = http1_count(h, "Transfer-Encoding");

	if (lengths + codings > 1)
		return -E_PROTO;
	h->framing = none;
	if (codings == 1) {
		if (!http1_text_is(*http1_find(h, "Transfer-Encoding"), "chunked"))
			return -E_UNSUP;
		if (h->minor == 0)
			return -E_PROTO;
		h->framing = HTTP1_CHUNKED;
	} else if (lengths == 1) {
		if (parse_length(*http1_find(h, "Content-Length"), &h->length) != 0)
			return -E_PROTO;
		h->framing = h->length > 0 ? HTTP1_LENGTH : HTTP1_EMPTY;
	}
	h->keep_alive =
	    h->minor == 0 ? connection_says(h, "keep-alive") && !connection_says(h, "close") : !connection_says(h, "close");
	h->upgrade = h->minor > 0 && connection_says(h, "upgrade") && http1_find(h, "Upgrade") != NULL;
	return 0;
}

static void
head_reset(struct http1_head *h)
{
	memset(h, 0, offsetof(struct http1_head, h));
}

int
http1_parse_request(const uint8_t *p, size_t n, struct http1_head *out)
{
	struct cursor c = { (const char *)p, (const char *)p + n, true };
	struct http1_text line;
	int rc;

	head_reset(out);
	if ((rc = next_line(&c, &line)) != 0 || (rc = parse_request_line(line, out)) != 0 || (rc = parse_fields(&c, out)) != 0 ||
	    (rc = parse_framing(out, HTTP1_EMPTY)) != 0)
		return rc;
	return http1_count(out, "Host") > 1 ? -E_PROTO : 0;
}

int
http1_parse_response(const uint8_t *p, size_t n, enum http1_to to, struct http1_head *out)
{
	struct cursor c = { (const char *)p, (const char *)p + n, false };
	struct http1_text line;
	int rc;

	head_reset(out);
	if ((rc = next_line(&c, &line)) != 0 || (rc = parse_status_line(line, out)) != 0 || (rc = parse_fields(&c, out)) != 0 ||
	    (rc = parse_framing(out, HTTP1_UNTIL_CLOSE)) != 0)
		return rc;
	if (to == HTTP1_TO_HEAD || out->status < 200 || out->status == 204 || out->status == 304 ||
	    (to == HTTP1_TO_CONNECT && out->status < 300))
		out->framing = HTTP1_EMPTY;
	if (out->framing == HTTP1_UNTIL_CLOSE)
		out->keep_alive = false;
	return 0;
}

/* reg-name, IPv4 or [IPv6], optionally ":port"; host_only without brackets. -1 as port when none is written. */
static int
split_authority(struct http1_text a, struct http1_text *host, int32_t *port)
{
	struct http1_text rest;
	size_t i;

	*port = -1;
	if (a.n > 0 && a.p[0] == '[') {
		rest = (struct http1_text){ a.p + 1, a.n - 1 };
		if (!cut(&rest, ']', host) || (rest.n > 0 && rest.p[0] != ':'))
			return -E_PROTO;
		if (rest.n > 0)
			rest = (struct http1_text){ rest.p + 1, rest.n - 1 };
	} else {
		rest = a;
		if (!cut(&rest, ':', host)) {
			*host = a;
			rest.n = 0;
		}
	}
	if (host->n == 0 || host->n > 255)
		return -E_PROTO;
	for (i = 0; i < host->n; i++)
		if (strchr("/?#@\\\"<>[]", host->p[i]) != NULL)
			return -E_PROTO;
	for (i = 0; i < rest.n; i++) {
		if (rest.p[i] < '0' || rest.p[i] > '9' || i >= 5)
			return -E_PROTO;
		*port = (*port < 0 ? 0 : *port) * 10 + (rest.p[i] - '0');
	}
	return *port > 65535 ? -E_PROTO : 0;
}

int
http1_parse_authority(struct http1_text target, struct http1_text *host, uint16_t *port)
{
	int32_t v;

	if (split_authority(target, host, &v) != 0 || v < 0)
		return -E_PROTO;
	*port = (uint16_t)v;
	return 0;
}

int
http1_parse_uri(struct http1_text target, struct http1_uri *out)
{
	struct http1_text scheme, t = target, user;
	size_t i;
	int32_t port;

	if (target.n == 0 || target.p[0] == '/' || !cut(&t, ':', &scheme) || t.n < 2 || t.p[0] != '/' || t.p[1] != '/')
		return -E_PROTO;
	if (!http1_text_is(scheme, "http"))
		return -E_UNSUP;
	t = (struct http1_text){ t.p + 2, t.n - 2 };
	for (i = 0; i < t.n && t.p[i] != '/' && t.p[i] != '?' && t.p[i] != '#'; i++)
		;
	out->authority = (struct http1_text){ t.p, i };
	out->path = (struct http1_text){ t.p + i, t.n - i };
	for (i = 0; i < out->path.n; i++)
		if (out->path.p[i] == '#')
			out->path.n = i;
	if (cut(&out->authority, '@', &user) && out->authority.n > 0 && memchr(out->authority.p, '@', out->authority.n) != NULL)
		return -E_PROTO;
	if (split_authority(out->authority, &out->host, &port) != 0)
		return -E_PROTO;
	out->port = (uint16_t)(port < 0 ? 80 : port);
	return 0;
}
