/* SPDX-License-Identifier: MIT */
/* Inbound HTTP proxy: what the heads of requests and answers mean and how they are passed on. RFC 9110, RFC 9112; CONNECT and
 * plain requests with an absolute URI; Basic credentials (RFC 7617). Called by listen.c, mixed.c and http_gateway.c, which
 * moves the bytes and owns everything. */
#include "worker/inbound/http.h"

#include <stdio.h>
#include <string.h>

#include "common/strutil.h"
#include "worker/inbound/http_gateway.h"

enum { CREDENTIALS_MAX = 512 };
enum auth { AUTH_GOOD, AUTH_MISSING, AUTH_BAD };

static void
puts_text(struct bytes *b, struct http1_text t)
{
	bytes_put(b, t.p, t.n);
}

/* ---- answers of our own */

static const char *
reason_of(int status)
{
	switch (status) {
	case 400:
		return "Bad Request";
	case 403:
		return "Forbidden";
	case 407:
		return "Proxy Authentication Required";
	case 431:
		return "Request Header Fields Too Large";
	case 501:
		return "Not Implemented";
	case 502:
		return "Bad Gateway";
	case 503:
		return "Service Unavailable";
	default:
		return "HTTP Version Not Supported";
	}
}

void
http_refuse(struct session *se, int status, bool keep)
{
	char line[96];

	keep = keep && se->keep && se->client->inbound->serving;
	snprintf(line, sizeof(line), "HTTP/1.1 %d %s\r\n", status, reason_of(status));
	bytes_puts(&se->out, line);
	if (status == 407)
		bytes_puts(&se->out, "Proxy-Authenticate: Basic realm=\"proxy\"\r\n");
	bytes_puts(&se->out, "Content-Length: 0\r\n");
	if (!keep)
		bytes_puts(&se->out, "Connection: close\r\n");
	else if (se->minor == 0)
		bytes_puts(&se->out, "Connection: keep-alive\r\n");
	bytes_puts(&se->out, "\r\n");
	bytes_free(&se->head);
	bytes_free(&se->answer);
	se->answer_seen = 0;
	se->begun = false;
	se->client->deadline_ms = session_in(se, HTTP_IDLE_MS);
	se->state = keep ? S_HEAD : S_LAST;
}

/* ---- credentials */

/* "Basic" SP base64(user ":" password), RFC 7617 2. user gets its name. */
static enum auth
check_credentials(const struct session *se, const struct http1_head *h, char user[static CREDENTIALS_MAX])
{
	const struct http1_text *f = http1_find(h, "Proxy-Authorization");
	const struct conn *c = se->client;
	char plain[CREDENTIALS_MAX], *colon;
	struct http1_text t;
	int n;

	user[0] = '\0';
	if (!inbound_needs_auth(c->inbound, &c->meta.src_ip))
		return AUTH_GOOD;
	if (f == NULL || f->n < 6 || !http1_text_is((struct http1_text){ f->p, 6 }, "basic "))
		return AUTH_MISSING;
	t = (struct http1_text){ f->p + 6, f->n - 6 };
	while (t.n > 0 && *t.p == ' ') {
		t.p++;
		t.n--;
	}
	n = base64_decode((uint8_t *)plain, sizeof(plain), t.p, t.n);
	colon = n > 0 ? memchr(plain, ':', (size_t)n) : NULL;
	if (colon == NULL || memchr(plain, '\0', (size_t)n) != NULL ||
	    !inbound_check(c->inbound, plain, (size_t)(colon - plain), colon + 1, (size_t)(plain + n - colon - 1)))
		return AUTH_BAD;
	memcpy(user, plain, (size_t)(colon - plain));
	user[colon - plain] = '\0';
	return AUTH_GOOD;
}

/* ---- CONNECT: RFC 9110 9.3.6 */

static void
on_connect_reply(struct conn *c, int err)
{
	static const char good[] = "HTTP/1.1 200 Connection established\r\n\r\n";
	static const char bad[] = "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
	size_t n = err == 0 ? sizeof(good) - 1 : sizeof(bad) - 1;

	if (c->in != NULL && stream_write(c->in, err == 0 ? good : bad, n) != (ssize_t)n && err == 0)
		conn_close(c, BY_CLIENT);
}

/* The carrier itself is proxied; what came behind the head goes first. */
static int
begin_connect(struct session *se, const struct http1_head *h, size_t len, const char *user)
{
	struct conn *c = se->client;
	struct http1_text host;
	uint16_t port;
	int rc;

	if (h->framing != HTTP1_EMPTY || http1_parse_authority(h->target, &host, &port) != 0 ||
	    conn_set_host(c, host.p, host.n) != 0) {
		http_refuse(se, 400, false);
		return 0;
	}
	if (user[0] != '\0' && conn_set_user(c, user) != 0) {
		http_refuse(se, 503, false);
		return 0;
	}
	c->meta.kind = IN_HTTPS;
	c->meta.dst_port = port;
	bytes_take(&se->in, len);
	rc = conn_early(c, se->in.p + se->in.off, bytes_left(&se->in));
	session_release(se);
	if (rc != 0) {
		conn_close(c, BY_LIMIT);
		return GONE;
	}
	c->reply = on_connect_reply;
	c->deadline_ms = c->w->loop.now_ms + HANDSHAKE_TIMEOUT_MS;
	conn_dispatch(c);
	return GONE;
}

/* ---- plain requests */

/* origin-form of the target, Host from the URI (RFC 9112 3.2.2), hop-by-hop fields removed (RFC 9110 7.6.1). */
static void
rewrite_request(struct bytes *out, const struct http1_head *h, const struct http1_uri *u, bool keep)
{
	bool whole = http1_text_is(h->method, "OPTIONS") && u->path.n == 0;	/* RFC 9112 3.2.4 */
	int i;

	puts_text(out, h->method);
	bytes_puts(out, whole ? " *" : u->path.n == 0 || u->path.p[0] == '?' ? " /" : " ");
	puts_text(out, u->path);
	bytes_puts(out, " HTTP/1.1\r\nHost: ");
	puts_text(out, u->authority);
	bytes_puts(out, "\r\n");
	for (i = 0; i < h->n; i++) {
		if (http1_is_hop(h, i) || http1_text_is(h->h[i].name, "Host"))
			continue;
		puts_text(out, h->h[i].name);
		bytes_puts(out, ": ");
		puts_text(out, h->h[i].value);
		bytes_puts(out, "\r\n");
	}
	if (h->upgrade) {
		bytes_puts(out, "Connection: Upgrade\r\nUpgrade: ");
		puts_text(out, *http1_find(h, "Upgrade"));
		bytes_puts(out, "\r\n");
	} else if (!keep) {
		bytes_puts(out, "Connection: close\r\n");
	}
	bytes_puts(out, "\r\n");
}

/* True when the kept conn to a server serves this request too. */
static bool
same_server(const struct session *se, const char *target, const char *user)
{
	return se->sub != NULL && (se->sub->s.state & ST_CLOSED) == 0 && se->up->state == CONN_RELAY && !se->up_end &&
	    strcmp(se->sub->target, target) == 0 && strcmp(se->up->meta.in_user, user) == 0;
}

static void
on_plain_reply(struct conn *c, int err)
{
	struct sub *sub = c->in != NULL ? container_of(c->in, struct sub, s) : NULL;
	struct session *se = sub != NULL ? sub->session : NULL;

	if (se == NULL || err == 0)
		return;
	/* This conn is closed when we return. */
	sub->session = NULL;
	se->sub = NULL;
	se->up = NULL;
	se->up_end = se->dial_failed = true;
	session_later(se);
}

static int
dial_server(struct session *se, const struct http1_uri *u, const char *target, const char *user)
{
	struct conn *up;

	session_drop(se);
	up = session_upstream(se, target);
	if (up == NULL)
		return -E_LIMIT;
	up->meta.kind = IN_HTTP;
	up->meta.dst_port = u->port;
	up->reply = on_plain_reply;
	if (conn_set_host(up, u->host.p, u->host.n) != 0 || (user[0] != '\0' && conn_set_user(up, user) != 0)) {
		session_drop(se);
		return -E_INVAL;
	}
	return 0;
}

static int
begin_exchange(struct session *se, const struct http1_head *h, size_t len, const char *user)
{
	char target[HOST_MAX + 8];
	struct http1_uri u;
	int rc;

	if (http1_parse_uri(h->target, &u) != 0) {
		http_refuse(se, 400, false);
		return 0;
	}
	snprintf(target, sizeof(target), "%.*s:%u", (int)u.host.n, u.host.p, (unsigned)u.port);
	str_lower(target);
	rewrite_request(&se->head, h, &u, se->keep);
	if (se->head.failed) {
		session_end(se, CLOSE_RESET, BY_LIMIT);
		return GONE;
	}
	if (!same_server(se, target, user) && (rc = dial_server(se, &u, target, user)) != 0) {
		http_refuse(se, rc == -E_LIMIT ? 503 : 400, false);
		return 0;
	}
	http1_body_init(&se->req, h);
	se->to_head = http1_text_is(h->method, "HEAD");
	se->upgrade = h->upgrade;
	se->interim = se->unchunk = false;
	se->answered = A_HEAD;
	se->state = S_EXCHANGE;
	se->client->deadline_ms = 0;
	bytes_take(&se->in, len);
	if (se->up->state == CONN_HANDSHAKE)
		conn_dispatch(se->up);
	return 0;
}

int
http_request(struct session *se, size_t len)
{
	char user[CREDENTIALS_MAX];
	struct http1_head h;
	enum auth auth;
	bool connect;
	int rc;

	rc = http1_parse_request(se->in.p + se->in.off, len, &h);
	if (rc != 0) {
		se->minor = 1;
		http_refuse(se, rc == -E_LIMIT ? 431 : rc == -E_UNSUP ? 501 : 400, false);
		return 0;
	}
	se->minor = h.minor;
	se->keep = h.keep_alive;
	if (h.minor == 0 && http1_has_token(&h, "Proxy-Connection", (struct http1_text){ "keep-alive", 10 }))
		se->keep = true;
	auth = check_credentials(se, &h, user);
	if (auth != AUTH_GOOD) {
		/* A body would have to be read before the next request. */
		http_refuse(se, auth == AUTH_MISSING ? 407 : 403, h.framing == HTTP1_EMPTY);
		if (se->state == S_HEAD)
			bytes_take(&se->in, len);
		return 0;
	}
	connect = http1_text_is(h.method, "CONNECT");
	rc = connect ? begin_connect(se, &h, len, user) : begin_exchange(se, &h, len, user);
	return rc;
}

/* ---- answers of servers */

static void
rewrite_answer(struct session *se, const struct http1_head *h, bool last)
{
	struct bytes *out = &se->out;
	char line[32];
	int i;

	snprintf(line, sizeof(line), "HTTP/1.1 %03d ", h->status);
	bytes_puts(out, line);
	puts_text(out, h->reason);
	bytes_puts(out, "\r\n");
	for (i = 0; i < h->n; i++) {
		if (http1_is_hop(h, i) || (se->minor == 0 && http1_text_is(h->h[i].name, "Transfer-Encoding")))
			continue;
		puts_text(out, h->h[i].name);
		bytes_puts(out, ": ");
		puts_text(out, h->h[i].value);
		bytes_puts(out, "\r\n");
	}
	if (h->status == 101) {
		bytes_puts(out, "Connection: Upgrade\r\nUpgrade: ");
		puts_text(out, *http1_find(h, "Upgrade"));
		bytes_puts(out, "\r\n");
	} else if (last && !se->keep) {
		bytes_puts(out, "Connection: close\r\n");
	} else if (last && se->minor == 0) {
		bytes_puts(out, "Connection: keep-alive\r\n");
	}
	bytes_puts(out, "\r\n");
}

int
http_answer(struct session *se, const uint8_t *p, size_t n)
{
	struct http1_head h;

	if (http1_parse_response(p, n, se->to_head ? HTTP1_TO_HEAD : HTTP1_TO_OTHER, &h) != 0)
		return -E_PROTO;
	if (h.status == 101) {		/* RFC 9110 7.8 */
		if (!se->upgrade || !h.upgrade || !se->req.done)
			return -E_PROTO;
		rewrite_answer(se, &h, false);
		se->state = S_TUNNEL;
		return se->out.failed ? -E_NOMEM : 0;
	}
	if (h.status < 200) {		/* RFC 9110 15.2: not for HTTP/1.0 */
		if (se->minor > 0) {
			rewrite_answer(se, &h, false);
			se->interim = true;
		}
		return se->out.failed ? -E_NOMEM : 0;
	}
	se->up_keep = h.keep_alive;
	se->unchunk = se->minor == 0 && h.framing == HTTP1_CHUNKED;
	se->keep = se->keep && h.framing != HTTP1_UNTIL_CLOSE && !se->unchunk && se->client->inbound->serving;
	rewrite_answer(se, &h, true);
	http1_body_init(&se->resp, &h);
	se->answered = se->resp.done ? A_DONE : A_BODY;
	return se->out.failed ? -E_NOMEM : 0;
}

/* ---- the type */

static void
on_first(struct stream *s, int events, void *arg)
{
	struct conn *c = arg;
	uint8_t bytes[4096];
	ssize_t n = stream_read(s, bytes, sizeof(bytes));

	(void)events;
	if (n == -E_AGAIN)
		return;
	if (n <= 0)
		conn_close(c, BY_CLIENT);
	else
		http_begin(c, bytes, (size_t)n);
}

void
http_begin(struct conn *c, const uint8_t *p, size_t n)
{
	if (session_start(c, p, n) != 0)
		conn_close(c, BY_LIMIT);
}

/* No session before the first byte: a client that never speaks costs its conn only. */
static void
http_accept(struct inbound *inb, struct conn *c)
{
	(void)inb;
	stream_set_cb(c->in, on_first, c);
	stream_want(c->in, ST_READ);
}

static int
http_init(struct inbound *inb, const struct cfg_node *node, struct cfg_err *err)
{
	(void)inb;
	(void)node;
	(void)err;
	return 0;
}

const struct inbound_type inbound_http = { .name = "http",
	.api_name = "HTTP",
	.needs = IN_STREAM,
	.size = sizeof(struct inbound),
	.init = http_init,
	.accept = http_accept };
