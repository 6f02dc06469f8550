/* SPDX-License-Identifier: MIT */
/* One download (spec/config.md 9 "Fetch"): dial, TLS if asked, GET, redirects followed, the body written into a memfd as
 * it comes. Called by the providers of the lead. A fetch owns its stream, timer and memfd until it has told its result
 * or is cancelled. Callers bound how many run.
 *
 * Only the head of an answer is parsed here (by the strict HTTP codec); what the body means is the loader's matter. */
#include "worker/provider/fetch.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "common/memfd.h"
#include "common/strutil.h"
#include "worker/codec/http1.h"
#include "worker/codec/url.h"
#include "worker/outbound/outbound.h"
#include "worker/worker.h"

enum {
	BUFFER = 32768,
	READS_MAX = 8,		/* per event, so that a fast server does not hold the loop */
	HEADS_MAX = 8,		/* 1xx before the answer */
	FIELD_MAX = 512
};
_Static_assert((int)BUFFER >= (int)HTTP1_HEAD_MAX, "a head must fit");

struct fetch {
	struct gen *g;
	struct outbound *via;
	fetch_cb *cb;
	void *arg;
	struct stream *s;
	ev_timer timer;
	struct loop_task task, hop;	/* the reaper's; the next dial after a redirect */
	struct tls_client_opts tls;
	struct url url;
	char url_text[FETCH_URL_MAX];
	char *fields;			/* header fields: own_len bytes for the first host only, then those of every request */
	size_t own_len;
	char origin[HOST_MAX + 1];	/* the first host; own fields and credentials go nowhere else, nor from https to http */
	bool origin_https;
	char *request;
	size_t request_len, sent;
	size_t limit;			/* of the body */
	int redirects, heads;
	bool in_body;
	struct http1_body body;
	int fd;
	size_t size;
	unsigned status;
	char etag[FIELD_MAX], modified[FIELD_MAX], userinfo[FIELD_MAX];
	char text[256];
	size_t seen, len;
	uint8_t in[BUFFER];
};

static void dial(struct fetch *f);

bool
fetch_url_valid(const char *url)
{
	struct url u;

	return strlen(url) < FETCH_URL_MAX && url_parse(&u, url) == 0;
}

static void
fetch_free(struct loop_task *task)
{
	struct fetch *f = container_of(task, struct fetch, task);

	free(f->fields);
	free(f->request);
	free(f);
}

void
fetch_cancel(struct fetch *f)
{
	struct loop *l;

	if (f == NULL)
		return;
	l = &f->g->w->loop;
	ev_timer_stop(l->ev, &f->timer);
	loop_cancel(&f->hop);
	stream_close(f->s, CLOSE_RESET);
	f->s = NULL;
	if (f->fd != -1)
		close(f->fd);
	f->fd = -1;
	loop_bury(l, &f->task);		/* after its stream, which may still look at our TLS options */
}

static void
finish(struct fetch *f, int err, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

static void
finish(struct fetch *f, int err, const char *fmt, ...)
{
	struct fetch_result r = { .err = err, .text = f->text, .status = f->status, .fd = -1, .size = f->size };
	va_list ap;

	r.etag = f->etag;
	r.modified = f->modified;
	r.userinfo = f->userinfo;
	va_start(ap, fmt);
	(void)vsnprintf(f->text, sizeof f->text, fmt, ap);
	va_end(ap);
	if (err == 0 && f->fd != -1) {
		if (memfd_seal(f->fd) == 0) {
			r.fd = f->fd;
			f->fd = -1;
		} else {
			r.err = E_SYS;
			(void)str_copy(f->text, sizeof f->text, strerror(errno));
		}
	}
	fetch_cb *cb = f->cb;
	void *arg = f->arg;

	fetch_cancel(f);	/* freed at the end of this turn: the result may still lend from it */
	cb(arg, &r);
}

/* ---- the request */

static int
build_request(struct fetch *f)
{
	static const char basic_of[] = "Authorization: Basic ";
	char host[HOST_MAX + 16], plain[URL_USER_MAX], basic[URL_USER_MAX * 2] = "";
	const struct url *u = &f->url;
	bool home = strcasecmp(u->host, f->origin) == 0 && (u->https || !f->origin_https);
	int n;

	url_host_field(u, host, sizeof host);
	if (u->user[0] != '\0' && home) {
		size_t k = str_percent_decode(plain, u->user, strlen(u->user));

		if (base64_encode(basic, sizeof basic, (const uint8_t *)plain, k) == 0)
			basic[0] = '\0';
	}
	n = snprintf(f->request, FETCH_REQUEST_MAX, "GET %s%.*s HTTP/1.1\r\nHost: %s\r\n%s%s%s%sConnection: close\r\n\r\n",
	    u->path_len > 0 && u->path[0] == '/' ? "" : "/", (int)u->path_len, u->path, host, f->fields + (home ? 0 : f->own_len),
	    basic[0] != '\0' ? basic_of : "", basic, basic[0] != '\0' ? "\r\n" : "");
	if (n < 0 || n >= FETCH_REQUEST_MAX)
		return -E_LIMIT;
	f->request_len = (size_t)n;
	f->sent = 0;
	return 0;
}

/* A field name or value that cannot end its line. */
static bool
plain_field(const char *s)
{
	for (; *s != '\0'; s++)
		if ((unsigned char)*s < ' ' && *s != '\t')
			return false;
	return true;
}

static bool
managed(const char *name)
{
	static const char *const ours[] = { "Host", "Connection", "Content-Length", "Transfer-Encoding", "Accept-Encoding",
		"If-None-Match", "If-Modified-Since", "TE", "Upgrade", "Range" };

	for (size_t i = 0; i < countof(ours); i++)
		if (strcasecmp(name, ours[i]) == 0)
			return true;
	return name[0] == '\0' || strpbrk(name, " :\t") != NULL;
}

static void
add_field(char *out, size_t *at, const char *name, const char *value)
{
	int n;

	if (!plain_field(name) || !plain_field(value) || *at >= FETCH_REQUEST_MAX)
		return;
	n = snprintf(out + *at, FETCH_REQUEST_MAX - *at, "%s: %s\r\n", name, value);
	if (n > 0 && (size_t)n < FETCH_REQUEST_MAX - *at)
		*at += (size_t)n;
	else
		out[*at] = '\0';
}

static int
build_fields(struct fetch *f, const struct fetch_opts *o)
{
	const char *agent = o->user_agent != NULL ? o->user_agent : f->g->general.global_ua;
	size_t at = 0;

	f->fields = calloc(1, FETCH_REQUEST_MAX);
	f->request = calloc(1, FETCH_REQUEST_MAX);
	if (f->fields == NULL || f->request == NULL)
		return -E_NOMEM;
	for (int i = 0; o->headers != NULL && o->headers[2 * i] != NULL && i < FETCH_HEADERS_MAX; i++) {
		const char *name = o->headers[2 * i], *value = o->headers[2 * i + 1];

		if (strcasecmp(name, "User-Agent") == 0)
			agent = value;
		else if (!managed(name))
			add_field(f->fields, &at, name, value);
	}
	f->own_len = at;
	if (agent != NULL && agent[0] != '\0')
		add_field(f->fields, &at, "User-Agent", agent);
	if (o->etag != NULL && o->etag[0] != '\0')
		add_field(f->fields, &at, "If-None-Match", o->etag);
	if (o->modified != NULL && o->modified[0] != '\0')
		add_field(f->fields, &at, "If-Modified-Since", o->modified);
	return 0;
}

/* 0, or a positive code. */
static int
send_request(struct fetch *f)
{
	while (f->sent < f->request_len) {
		ssize_t n = stream_write(f->s, f->request + f->sent, f->request_len - f->sent);

		if (n == -E_AGAIN)
			break;
		if (n <= 0)
			return n == 0 ? E_CLOSED : (int)-n;
		f->sent += (size_t)n;
	}
	stream_want(f->s, f->sent < f->request_len ? ST_READ | ST_WRITE : ST_READ);
	return 0;
}

/* ---- the answer. What follows returns 0 to go on, or 1 when f is finished and must not be touched. */

static int
fail(struct fetch *f, int code, const char *what)
{
	finish(f, code, "%s%s%s", what, what[0] != '\0' ? ": " : "", err_text(code));
	return 1;
}

static int
store(struct fetch *f, const uint8_t *p, size_t n)
{
	if (n > f->limit - f->size) {
		finish(f, E_LIMIT, "the answer is larger than %zu bytes", f->limit);
		return 1;
	}
	while (n > 0) {
		ssize_t r = write(f->fd, p, n);

		if (r == -1 && errno == EINTR)
			continue;
		if (r <= 0)
			return fail(f, r == -1 ? err_from_errno(errno) : E_SYS, "cannot keep the answer");
		p += r;
		n -= (size_t)r;
		f->size += (size_t)r;
	}
	return 0;
}

static int
take_body(struct fetch *f)
{
	size_t at = 0;

	while (at < f->len && !f->body.done) {
		bool content;
		ssize_t n = http1_body_step(&f->body, f->in + at, f->len - at, &content);

		if (n < 0)
			return fail(f, E_PROTO, "bad body");
		if (content && store(f, f->in + at, (size_t)n) != 0)
			return 1;
		at += (size_t)n;
		if (n == 0)
			break;
	}
	f->len -= at;
	memmove(f->in, f->in + at, f->len);
	if (f->body.done) {
		finish(f, 0, "%s", "");
		return 1;
	}
	return 0;
}

static void
copy_field(char *out, const struct http1_head *h, const char *name)
{
	const struct http1_text *t = http1_find(h, name);
	size_t n = t != NULL && t->n < FIELD_MAX ? t->n : 0;

	if (n > 0)
		memcpy(out, t->p, n);
	out[n] = '\0';
}

static void
on_hop(struct loop_task *task)
{
	dial(container_of(task, struct fetch, hop));
}

static int
follow(struct fetch *f, const struct http1_head *h)
{
	const struct http1_text *t = http1_find(h, "Location");
	char to[FETCH_URL_MAX], next[FETCH_URL_MAX];

	if (t == NULL || t->n == 0 || t->n >= sizeof to)
		return fail(f, E_PROTO, "a redirect without a place");
	memcpy(to, t->p, t->n);
	to[t->n] = '\0';
	if (++f->redirects > FETCH_REDIRECTS_MAX) {
		finish(f, E_LIMIT, "stopped after %d redirects", FETCH_REDIRECTS_MAX);
		return 1;
	}
	if (url_resolve(next, sizeof next, f->url_text, to) != 0 || url_parse(&f->url, next) != 0)
		return fail(f, E_INVAL, "a redirect to what is no http URL");
	(void)str_copy(f->url_text, sizeof f->url_text, next);
	if (url_parse(&f->url, f->url_text) != 0)	/* its path lies in the text */
		return fail(f, E_INVAL, "a redirect to what is no http URL");
	stream_close(f->s, CLOSE_RESET);
	f->s = NULL;
	loop_defer(&f->g->w->loop, &f->hop);
	return 1;
}

static int
take_head(struct fetch *f)
{
	struct http1_head h;
	int n;

	for (;;) {
		n = http1_head_length(f->in, f->len, &f->seen);
		if (n == -E_AGAIN)
			return f->len == sizeof f->in ? fail(f, E_PROTO, "bad answer") : 0;
		if (n < 0 || http1_parse_response(f->in, (size_t)n, HTTP1_TO_OTHER, &h) != 0)
			return fail(f, E_PROTO, "bad answer");
		if (h.status >= 200)
			break;
		if (++f->heads > HEADS_MAX)
			return fail(f, E_PROTO, "bad answer");
		f->len -= (size_t)n;
		memmove(f->in, f->in + n, f->len);
		f->seen = 0;
	}
	f->status = h.status;
	if (h.status == 301 || h.status == 302 || h.status == 303 || h.status == 307 || h.status == 308)
		return follow(f, &h);
	copy_field(f->etag, &h, "ETag");
	copy_field(f->modified, &h, "Last-Modified");
	copy_field(f->userinfo, &h, "Subscription-Userinfo");
	if (h.status == 304) {
		finish(f, 0, "%s", "");
		return 1;
	}
	if (h.status >= 300) {
		finish(f, E_NOTFOUND, "%u %.*s", h.status, h.reason.n < 64 ? (int)h.reason.n : 64, h.reason.p);
		return 1;
	}
	f->fd = memfd_open("fetched");
	if (f->fd < 0) {
		f->fd = -1;
		return fail(f, E_SYS, "cannot keep the answer");
	}
	http1_body_init(&f->body, &h);
	f->in_body = true;
	f->len -= (size_t)n;
	memmove(f->in, f->in + n, f->len);
	return take_body(f);
}

static int
at_end(struct fetch *f)
{
	if (f->in_body && f->body.framing == HTTP1_UNTIL_CLOSE) {	/* RFC 9112 6.3 8 */
		finish(f, 0, "%s", "");
		return 1;
	}
	return fail(f, E_CLOSED, f->in_body ? "the answer is cut off" : "no answer");
}

static int
receive(struct fetch *f)
{
	for (int i = 0; i < READS_MAX; i++) {
		ssize_t n = stream_read(f->s, f->in + f->len, sizeof f->in - f->len);

		if (n == -E_AGAIN)
			return 0;
		if (n == 0)
			return at_end(f);
		if (n < 0)
			return fail(f, (int)-n, "read");
		f->len += (size_t)n;
		if ((f->in_body ? take_body(f) : take_head(f)) != 0)
			return 1;
	}
	return 0;
}

static void
on_stream(struct stream *s, int events, void *arg)
{
	struct fetch *f = arg;
	int rc;

	if ((events & ST_FAIL) != 0) {
		finish(f, s->err != 0 ? s->err : E_CLOSED, "%s", stream_why(s));
		return;
	}
	if ((events & (ST_OPEN | ST_WRITE)) != 0 && f->sent < f->request_len) {
		rc = send_request(f);
		if (rc != 0) {
			(void)fail(f, rc, "send");
			return;
		}
	}
	if ((events & ST_READ) != 0)
		(void)receive(f);
}

/* ---- life */

static void
on_timeout(struct ev_loop *ev, ev_timer *timer, int revents)
{
	(void)ev;
	(void)revents;
	(void)fail(timer->data, E_TIMEOUT, "");
}

static void
dial(struct fetch *f)
{
	struct target to = { .port = f->url.port };
	struct dial d = { .to = &to };
	struct stream *s;

	f->seen = f->len = 0;
	f->heads = 0;
	if (build_request(f) != 0) {
		(void)fail(f, E_LIMIT, "the request is too long");
		return;
	}
	if (ip_parse(&to.ip, f->url.host) != 0)
		to = (struct target){ .host = f->url.host, .port = f->url.port };
	f->tls = (struct tls_client_opts){ .server_name = f->url.host, .fingerprint = "" };
	s = outbound_dial(f->via, &d);
	if (s != NULL && f->url.https)
		s = tls_client(s, &f->tls);
	if (s == NULL) {
		(void)fail(f, E_NOMEM, "");
		return;
	}
	f->s = s;
	stream_set_cb(s, on_stream, f);
	if ((s->state & (ST_OPEN | ST_FAIL)) == ST_OPEN)
		stream_ready(s, ST_OPEN);
}

struct fetch *
fetch_start(struct gen *g, const char *url, const struct fetch_opts *o, fetch_cb *cb, void *arg)
{
	struct fetch *f = strlen(url) < FETCH_URL_MAX ? calloc(1, sizeof *f) : NULL;
	struct loop *l = &g->w->loop;

	if (f == NULL)
		return NULL;
	loop_task_init(&f->task, fetch_free);
	loop_task_init(&f->hop, on_hop);
	f->g = g;
	f->via = o->via != NULL ? o->via : g->direct;
	f->cb = cb;
	f->arg = arg;
	f->fd = -1;
	f->limit = o->size_limit > 0 && o->size_limit < FETCH_SIZE_MAX ? o->size_limit : FETCH_SIZE_MAX;
	(void)str_copy(f->url_text, sizeof f->url_text, url);
	if (url_parse(&f->url, f->url_text) != 0 || build_fields(f, o) != 0) {
		fetch_free(&f->task);
		return NULL;
	}
	(void)str_copy(f->origin, sizeof f->origin, f->url.host);
	f->origin_https = f->url.https;
	ev_now_update(l->ev);
	ev_timer_init(&f->timer, on_timeout, (o->timeout_ms != 0 ? o->timeout_ms : FETCH_TIMEOUT_MS) / 1000., 0.);
	f->timer.data = f;
	ev_timer_start(l->ev, &f->timer);
	loop_defer(l, &f->hop);		/* so that no failure is told from inside this call */
	return f;
}
