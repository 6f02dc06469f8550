/* SPDX-License-Identifier: MIT */
/* DNS over HTTPS as a client (RFC 8484): POST requests on one HTTP/2 session (RFC 9113, nghttp2's memory interface). Called by
 * carrier.c, which moves the bytes. What a server sends ends this session at worst; answers are handed on only after nghttp2 has
 * returned, for whoever is told may close the connection. */
#include <nghttp2/nghttp2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "common/log.h"
#include "common/strutil.h"
#include "worker/codec/dns.h"
#include "worker/dns/carrier.h"

enum { WINDOW = 1 << 20, HEADERS_MAX = 16384 /* of one answer; a longer list ends the session */, LENGTH_TEXT = 12 };
static const char media_type[] = "application/dns-message";	/* RFC 8484 6 */

struct doh {
	nghttp2_session *h2;
	char authority[HOST_MAX + 16], authorization[512];
	const char *path;
};

enum { DONE = 1 };			/* of carrier_ask.stream: its HTTP stream is over */

static struct carrier_ask *
ask_of(nghttp2_session *h2, int32_t stream)
{
	return nghttp2_session_get_stream_user_data(h2, stream);
}

static int
on_header(nghttp2_session *h2, const nghttp2_frame *frame, const uint8_t *name, size_t n_name, const uint8_t *value,
    size_t n_value, uint8_t flags, void *arg)
{
	struct carrier_ask *a = ask_of(h2, frame->hd.stream_id);

	(void)flags;
	(void)arg;
	if (a != NULL && n_name == 7 && memcmp(name, ":status", 7) == 0 && n_value == 3)
		a->status = (value[0] - '0') * 100 + (value[1] - '0') * 10 + value[2] - '0';
	return 0;
}

static int
on_data(nghttp2_session *h2, uint8_t flags, int32_t stream, const uint8_t *p, size_t n, void *arg)
{
	struct carrier_ask *a = ask_of(h2, stream);
	uint8_t *grown;

	(void)flags;
	(void)arg;
	if (a == NULL)
		return 0;
	grown = a->n_answer + n <= DNS_MSG_MAX ? realloc(a->answer, a->n_answer + n) : NULL;
	if (grown == NULL) {
		a->status = -1;
		return nghttp2_submit_rst_stream(h2, NGHTTP2_FLAG_NONE, stream, NGHTTP2_CANCEL);
	}
	a->answer = grown;
	memcpy(a->answer + a->n_answer, p, n);
	a->n_answer += n;
	return 0;
}

static int
on_stream_close(nghttp2_session *h2, int32_t stream, uint32_t error, void *arg)
{
	struct carrier_ask *a = ask_of(h2, stream);

	(void)arg;
	if (a == NULL)
		return 0;
	if (error != NGHTTP2_NO_ERROR)
		a->status = -1;
	a->stream = -DONE;
	return 0;
}

static ssize_t
read_body(nghttp2_session *h2, int32_t stream, uint8_t *buf, size_t n, uint32_t *flags, nghttp2_data_source *source, void *arg)
{
	struct carrier_ask *a = ask_of(h2, stream);
	size_t left = a != NULL ? a->n - a->n_sent : 0;

	(void)source;
	(void)arg;
	if (a == NULL)
		return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;	/* given up meanwhile */
	n = n < left ? n : left;
	memcpy(buf, a->query + a->n_sent, n);
	a->n_sent += n;
	if (a->n_sent == a->n)
		*flags |= NGHTTP2_DATA_FLAG_EOF;
	return (ssize_t)n;
}

static nghttp2_session *
session_new(struct carrier *c)
{
	nghttp2_session_callbacks *callbacks;
	nghttp2_session *h2 = NULL;

	if (nghttp2_session_callbacks_new(&callbacks) != 0)
		return NULL;
	nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
	nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
	if (nghttp2_session_client_new(&h2, callbacks, c) != 0)
		h2 = NULL;
	nghttp2_session_callbacks_del(callbacks);
	return h2;
}

int
doh_open(struct carrier *c)
{
	static const nghttp2_settings_entry settings[] = { { NGHTTP2_SETTINGS_ENABLE_PUSH, 0 },
		{ NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, WINDOW }, { NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, HEADERS_MAX } };
	const struct dns_server *s = c->conf;
	struct doh *d = calloc(1, sizeof(*d));

	if (d == NULL)
		return -E_NOMEM;
	c->doh = d;
	d->path = s->path[0] != '\0' ? s->path : "/";
	if (s->port == 443 && s->ip.family != 6)
		(void)str_copy(d->authority, sizeof(d->authority), s->host);
	else
		(void)hostport_text(d->authority, sizeof(d->authority), s->host, s->port);
	if (s->user[0] != '\0') {
		size_t n = strlen(s->user);
		char *at = d->authorization + strlen("Basic ");

		memcpy(d->authorization, "Basic ", strlen("Basic "));
		if (base64_encode(at, sizeof(d->authorization) - strlen("Basic "), (const uint8_t *)s->user, n) == 0)
			d->authorization[0] = '\0';
	}
	d->h2 = session_new(c);
	if (d->h2 == NULL || nghttp2_submit_settings(d->h2, NGHTTP2_FLAG_NONE, settings, countof(settings)) != 0)
		return -E_NOMEM;
	return 0;
}

void
doh_close(struct carrier *c)
{
	nghttp2_session_del(c->doh->h2);
	free(c->doh);
	c->doh = NULL;
}

/* nghttp2 copies names and values. */
static nghttp2_nv
field(const char *name, const char *value)
{
	nghttp2_nv nv = { .namelen = strlen(name), .valuelen = strlen(value) };

	memcpy(&nv.name, &name, sizeof(name));
	memcpy(&nv.value, &value, sizeof(value));
	return nv;
}

int
doh_submit(struct carrier *c, struct carrier_ask *a)
{
	struct doh *d = c->doh;
	nghttp2_data_provider body = { .read_callback = read_body };
	char length[LENGTH_TEXT];
	nghttp2_nv nv[8];
	size_t n = 0;
	int32_t id;

	if (nghttp2_session_check_request_allowed(d->h2) == 0)
		return -E_CLOSED;	/* GOAWAY (RFC 9113 6.8), or stream numbers ran out */
	snprintf(length, sizeof(length), "%zu", a->n);
	nv[n++] = field(":method", "POST");
	nv[n++] = field(":scheme", "https");
	nv[n++] = field(":authority", d->authority);
	nv[n++] = field(":path", d->path);
	nv[n++] = field("accept", media_type);
	nv[n++] = field("content-type", media_type);
	nv[n++] = field("content-length", length);
	if (d->authorization[0] != '\0')
		nv[n++] = field("authorization", d->authorization);
	a->status = 0;
	id = nghttp2_submit_request(d->h2, NULL, nv, n, &body, a);
	if (id < 0)
		return -E_LIMIT;
	a->stream = id;
	return 0;
}

void
doh_forget(struct carrier *c, struct carrier_ask *a)
{
	if (a->stream <= 0)
		return;
	(void)nghttp2_session_set_stream_user_data(c->doh->h2, a->stream, NULL);
	(void)nghttp2_submit_rst_stream(c->doh->h2, NGHTTP2_FLAG_NONE, a->stream, NGHTTP2_CANCEL);
}

int
doh_fill(struct carrier *c)
{
	while (c->n_out < CARRIER_OUT_MAX / 2) {
		const uint8_t *p;
		ssize_t n = nghttp2_session_mem_send(c->doh->h2, &p);

		if (n < 0 || (size_t)n > CARRIER_OUT_MAX - c->n_out)
			return -E_PROTO;
		if (n == 0)
			break;
		memcpy(c->out + c->n_out, p, (size_t)n);
		c->n_out += (size_t)n;
	}
	return nghttp2_session_want_read(c->doh->h2) == 0 && nghttp2_session_want_write(c->doh->h2) == 0 ? -E_CLOSED : 0;
}

int
doh_feed(struct carrier *c, const uint8_t *p, size_t n)
{
	return nghttp2_session_mem_recv(c->doh->h2, p, n) == (ssize_t)n ? 0 : -E_PROTO;
}

struct carrier_ask *
doh_ready(struct carrier *c)
{
	list_each(n, &c->sent) {
		struct carrier_ask *a = container_of(n, struct carrier_ask, node);

		if (a->stream == -DONE)
			return a;
	}
	return NULL;
}
