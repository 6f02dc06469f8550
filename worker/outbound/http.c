/* SPDX-License-Identifier: MIT */
/* HTTP CONNECT client (RFC 9110 9.3.6), over TLS if asked; TCP only. Called through outbound_type. The fixed part of the
 * request is made once, at configuration; after the 200 the stream layer is transparent (handshake.c). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/strutil.h"
#include "worker/codec/http1.h"
#include "worker/outbound/handshake.h"
#include "worker/outbound/types.h"

enum { FIELDS_MAX = 4096, ANSWER_MAX = 16384 };

struct http {
	struct outbound ob;
	struct node_tls tls;
	const char *host;	/* a Host field of `headers`; NULL: the target */
	const char *fields;	/* all other fields and the blank line */
};
struct hello {
	struct handshake h;
	size_t seen;
	const struct http *node;
	char to[HOST_MAX + 16];
	bool asked;
};

/* Names come from clients: nothing that could end the line may pass. */
static bool
name_fits_a_line(const char *s)
{
	for (; *s != '\0'; s++)
		if ((unsigned char)*s <= ' ' || *s == 0x7f)
			return false;
	return true;
}

static int
ask(struct hello *s)
{
	char head[2 * sizeof(s->to) + FIELDS_MAX + 64];
	int n = snprintf(head, sizeof(head), "CONNECT %s HTTP/1.1\r\nHost: %s\r\n%s", s->to, s->node->host != NULL ?
	    s->node->host : s->to,
	    s->node->fields);

	s->asked = true;
	if (n < 0 || (size_t)n >= sizeof(head)) {
		stream_fail(&s->h.s, E_LIMIT, 0, "the request is too long");
		return -E_LIMIT;
	}
	return handshake_put(&s->h, head, (size_t)n);
}

static int
refused(struct hello *s, const struct http1_head *head)
{
	int code = head->status == 407 || head->status == 401 ? E_AUTH : head->status == 403 ? E_PERM : E_REFUSED;

	stream_fail(&s->h.s, code, 0, "the proxy answered %u %.*s", head->status, head->reason.n > 48 ? 48 :
	    (int)head->reason.n, head->reason.p);
	return -code;
}

static int
step(struct handshake *h)
{
	struct hello *s = (struct hello *)h;
	struct http1_head head;
	int n;

	if (!s->asked)
		return ask(s);
	n = http1_head_length(h->in + h->in_off, h->in_len - h->in_off, &s->seen);
	if (n == -E_AGAIN)
		return 0;
	if (n < 0 || http1_parse_response(h->in + h->in_off, (size_t)n, HTTP1_TO_CONNECT, &head) != 0) {
		stream_fail(&h->s, E_PROTO, 0, "the proxy's answer is no HTTP");
		return -E_PROTO;
	}
	if (head.status >= 200 && head.status != 200)
		return refused(s, &head);
	handshake_take(h, (size_t)n);
	s->seen = 0;
	if (head.status == 200)
		handshake_done(h);
	return 0;
}

static struct stream *
http_dial(struct outbound *ob, const struct dial *dial)
{
	struct http *n = (struct http *)ob;
	const struct target *to = dial->to;
	bool named = to->host != NULL && to->host[0] != '\0';
	struct hello *s = (struct hello *)handshake_new(node_dial(ob, dial, &n->tls), sizeof(*s), ANSWER_MAX, step);
	char ip[ADDR_TEXT_MAX];

	if (s == NULL)
		return NULL;
	s->node = n;
	if (named ? strlen(to->host) > HOST_MAX || !name_fits_a_line(to->host) : to->ip.family == 0) {
		stream_fail(&s->h.s, E_INVAL, 0, "the target's name cannot be asked for");
		return &s->h.s;
	}
	hostport_text(s->to, sizeof(s->to), named ? to->host : ip_text(&to->ip, ip), to->port);
	handshake_start(&s->h);
	return &s->h.s;
}

/* ---- configuration */

static int
add_field(char *out, size_t *at, const char *name, const char *value, const struct cfg_node *where, struct cfg_err *err)
{
	int n;

	if (name[0] == '\0' || strpbrk(name, " \t\r\n:") != NULL || strpbrk(value, "\r\n") != NULL)
		return cfg_fail(err, where, "headers", "'headers' has a field that HTTP cannot carry: %.64s", name);
	n = snprintf(out + *at, FIELDS_MAX - *at, "%s: %s\r\n", name, value);
	if (n < 0 || (size_t)n >= FIELDS_MAX - *at)
		return cfg_fail(err, where, "headers", "'headers' is longer than %d bytes", FIELDS_MAX);
	*at += (size_t)n;
	return 0;
}

static const struct cfg_node *
field_of(const struct cfg_node *headers, const char *name)
{
	cfg_each(c, headers)
		if (str_case_equal(cfg_key(c), name))
			return c;
	return NULL;
}

/* Fields that the reference sends unless `headers` has its own: spec/protocols.md 1.4. */
static int
fixed_fields(struct http *h, const struct cfg_node *headers, const char *auth, struct cfg_err *err)
{
	static const char *const defaults[][2] = { { "User-Agent", "Go-http-client/1.1" }, { "Proxy-Connection", "Keep-Alive" } };
	char out[FIELDS_MAX + 3];
	size_t at = 0;

	for (size_t i = 0; i < countof(defaults); i++)
		if (field_of(headers, defaults[i][0]) == NULL && add_field(out, &at, defaults[i][0], defaults[i][1], NULL,
		    err) != 0)
			return -E_INVAL;
	if (auth != NULL && add_field(out, &at, "Proxy-Authorization", auth, NULL, err) != 0)
		return -E_INVAL;
	cfg_each(c, headers) {
		const char *value = cfg_text(c);

		if (value == NULL)
			return cfg_fail(err, c, "headers", "'headers[%s]' expected type 'string'", cfg_key(c));
		if (str_case_equal(cfg_key(c), "host")) {
			if (!name_fits_a_line(value))
				return cfg_fail(err, c, "headers", "'headers' has a field that HTTP cannot carry: Host");
			h->host = arena_strdup(&h->ob.gen->arena, value);
		} else if (auth != NULL && str_case_equal(cfg_key(c), "proxy-authorization")) {
			continue;	/* user and password win */
		} else if (add_field(out, &at, cfg_key(c), value, c, err) != 0) {
			return -E_INVAL;
		}
	}
	memcpy(out + at, "\r\n", 3);
	h->fields = arena_strdup(&h->ob.gen->arena, out);
	return 0;
}

static int
http_init(struct outbound *ob, const struct cfg_node *item, struct cfg_err *err)
{
	struct http *h = (struct http *)ob;
	const char *user = "", *password = "";
	char plain[600], auth[900] = "Basic ";
	const struct cfg_node *headers;
	int n;

	ob->flags &= ~(unsigned)OB_UDP;
	if (cfgw_str(item, "username", &user, err) != 0 || cfgw_str(item, "password", &password, err) != 0 ||
	    node_tls_parse(ob, item, "sni", &h->tls, err) != 0 || cfg_map(cfg_get(item, "headers"), "headers", &headers,
	    err) != 0)
		return -E_INVAL;
	n = snprintf(plain, sizeof(plain), "%s:%s", user, password);
	if (n < 0 || (size_t)n >= sizeof(plain) || base64_encode(auth + 6, sizeof(auth) - 6, (const uint8_t *)plain,
	    (size_t)n) == 0)
		return cfg_fail(err, item, "username", "username and password are too long");
	return fixed_fields(h, headers, user[0] != '\0' && password[0] != '\0' ? auth : NULL, err);
}

static const char *const keys[] = { "username", "password", "tls", "sni", "skip-cert-verify", "fingerprint", "headers", NULL };

const struct outbound_type outbound_http = {
	.name = "http", .api_name = "Http", .flags = OB_TCP, .size = sizeof(struct http), .keys = keys,
	.init = http_init, .dial = http_dial,
};
