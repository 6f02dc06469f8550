/* SPDX-License-Identifier: MIT */
/* The sub-stream of an HTTP proxy client: what the relay of a conn to a server sees of the session (http_gateway.h). Called by
 * relays only. Nothing is closed from inside an operation: it notes what happened and schedules session_run(). Owned by its
 * conn. */
#include "worker/inbound/http_gateway.h"

#include <stdlib.h>
#include <string.h>

static size_t
iov_put(const struct iovec *v, int n, size_t skip, const uint8_t *p, size_t len)
{
	size_t done = 0;
	int i;

	for (i = 0; i < n && done < len; i++) {
		size_t room = v[i].iov_len, k;

		if (skip >= room) {
			skip -= room;
			continue;
		}
		room -= skip;
		k = len - done < room ? len - done : room;
		memcpy((uint8_t *)v[i].iov_base + skip, p + done, k);
		skip = 0;
		done += k;
	}
	return done;
}

/* The first len bytes of v; their number of pieces. */
static int
iov_cut(const struct iovec *v, int n, size_t len, struct iovec *out, int max)
{
	int i;

	for (i = 0; i < n && i < max && len > 0; i++) {
		out[i] = v[i];
		if (out[i].iov_len > len)
			out[i].iov_len = len;
		len -= out[i].iov_len;
	}
	return i;
}

static struct session *
session_of(const struct stream *s)
{
	const struct sub *sub = (const void *)s;	/* its first member */

	return sub->session != NULL && sub->session->state != S_DEAD ? sub->session : NULL;
}

/* Body bytes from in. */
static ssize_t
body_from_in(struct session *se, const struct iovec *v, int n, size_t room)
{
	struct http1_body *b = &se->req;
	size_t len = bytes_left(&se->in) < room ? bytes_left(&se->in) : room;
	ssize_t k = http1_body_pass(b, se->in.p + se->in.off, len);

	if (k <= 0)
		return k < 0 ? k : -E_AGAIN;
	iov_put(v, n, 0, se->in.p + se->in.off, (size_t)k);
	bytes_take(&se->in, (size_t)k);
	return k;
}

/* The client is gone in the midst of a request, or broke its framing. */
static ssize_t
client_broke(struct session *se)
{
	se->keep = false;
	se->client_eof = true;
	se->answered = A_BODY;		/* nothing sensible can be answered any more */
	se->up_end = true;
	session_later(se);
	return -E_RESET;
}

static ssize_t
read_body(struct session *se, const struct iovec *v, int n)
{
	struct iovec cut[8];
	size_t room = 0;
	ssize_t k;
	int i;

	for (i = 0; i < n; i++)
		room += v[i].iov_len;
	if (se->req.framing == HTTP1_LENGTH && bytes_left(&se->in) == 0) {
		if (room > se->req.left)
			room = (size_t)se->req.left;
		k = stream_readv(se->client->in, cut, iov_cut(v, n, room, cut, 8));
		if (k > 0)
			http1_body_pass(&se->req, v[0].iov_base, (size_t)k);	/* a length looks at no byte */
	} else {
		k = bytes_left(&se->in) > 0 ? 1 : session_fill(se, 16384);
		if (k > 0)
			k = body_from_in(se, v, n, room);
	}
	if (k == -E_AGAIN)
		return k;
	if (k <= 0)
		return client_broke(se);
	return k;
}

static ssize_t
sub_readv(struct stream *s, const struct iovec *v, int n)
{
	struct session *se = session_of(s);
	ssize_t k;

	if (se == NULL)
		return -E_RESET;
	if (bytes_left(&se->head) > 0) {
		k = (ssize_t)iov_put(v, n, 0, se->head.p + se->head.off, bytes_left(&se->head));
		bytes_take(&se->head, (size_t)k);
	} else if (se->state == S_TUNNEL && bytes_left(&se->in) > 0) {
		k = (ssize_t)iov_put(v, n, 0, se->in.p + se->in.off, bytes_left(&se->in));
		bytes_take(&se->in, (size_t)k);
	} else if (se->state == S_TUNNEL) {
		return stream_readv(se->client->in, v, n);
	} else if (se->state == S_EXCHANGE && !se->req.done) {
		k = read_body(se, v, n);
	} else {
		return -E_AGAIN;
	}
	if (k > 0 && se->req.done && bytes_left(&se->head) == 0)
		session_later(se);
	if (k > 0)
		session_wants(se);
	return k;
}

/* The head of an answer is collected until it is whole. Bytes used, or -E_*. */
static ssize_t
write_head(struct session *se, const struct iovec *v, int n)
{
	struct bytes *a = &se->answer;
	size_t before, used = 0;
	int i, r;

	for (i = 0; i < n; i++) {
		before = bytes_left(a);
		if (before >= HTTP1_HEAD_MAX)
			return -E_PROTO;
		bytes_put(a, v[i].iov_base, v[i].iov_len < HTTP1_HEAD_MAX - before ? v[i].iov_len : HTTP1_HEAD_MAX - before);
		if (a->failed)
			return -E_NOMEM;
		r = bytes_left(a) == 0 ? -E_AGAIN : http1_head_length(a->p, a->len, &se->answer_seen);
		if (r == -E_AGAIN) {
			used += a->len - before;
			continue;
		}
		if (r < 0)
			return -E_PROTO;
		used += (size_t)r - before;
		r = http_answer(se, a->p, (size_t)r);
		bytes_free(a);
		se->answer_seen = 0;
		return r < 0 ? r : (ssize_t)used;
	}
	return (ssize_t)used;
}

/* One run of a chunked answer for a client that knows no chunks. */
static ssize_t
write_unchunked(struct session *se, const struct iovec *v, int n)
{
	struct http1_body look = se->resp;
	bool content;
	ssize_t k, w;
	int i;

	for (i = 0; i < n && v[i].iov_len == 0; i++)
		;
	if (i == n)
		return 0;
	k = http1_body_step(&look, v[i].iov_base, v[i].iov_len, &content);
	if (k <= 0 || !content) {
		se->resp = look;
		return k;
	}
	w = stream_write(se->client->in, v[i].iov_base, (size_t)k);
	if (w > 0)
		http1_body_step(&se->resp, v[i].iov_base, (size_t)w, &content);
	return w;
}

/* Walks body over the first most bytes of v: how many belong to it. */
static ssize_t
pass_iov(struct http1_body *b, const struct iovec *v, int n, size_t most)
{
	size_t total = 0;
	ssize_t k;
	int i;

	for (i = 0; i < n && !b->done && total < most; i++) {
		k = http1_body_pass(b, v[i].iov_base, v[i].iov_len < most - total ? v[i].iov_len : most - total);
		if (k < 0)
			return k;
		total += (size_t)k;
	}
	return (ssize_t)total;
}

static ssize_t
write_body(struct session *se, const struct iovec *v, int n)
{
	struct http1_body look = se->resp;
	struct iovec cut[8];
	ssize_t k;

	if (se->unchunk)
		return write_unchunked(se, v, n);
	k = pass_iov(&look, v, n, SIZE_MAX);
	if (k <= 0)
		return k;
	k = stream_writev(se->client->in, cut, iov_cut(v, n, (size_t)k, cut, 8));
	if (k > 0)
		pass_iov(&se->resp, v, n, (size_t)k);
	return k;
}

/* What a failed write means: of the client, or of the server's framing. */
static ssize_t
write_failed(struct session *se, ssize_t err)
{
	se->up_end = true;
	se->up_reset = true;
	session_later(se);
	return err == -E_PROTO ? err : -E_RESET;
}

static ssize_t
sub_writev(struct stream *s, const struct iovec *v, int n)
{
	struct session *se = session_of(s);
	ssize_t k;

	if (se == NULL)
		return -E_RESET;
	k = session_flush(se);
	if (k == -E_AGAIN) {
		session_wants(se);
		return k;
	}
	if (k == 0 && se->state == S_TUNNEL)
		return stream_writev(se->client->in, v, n);
	if (k == 0 && (se->state != S_EXCHANGE || se->answered == A_DONE))
		k = -E_PROTO;		/* an answer nobody asked for, e.g. 408 to an idle connection */
	else if (k == 0)
		k = se->answered == A_HEAD ? write_head(se, v, n) : write_body(se, v, n);
	if (k == -E_AGAIN)
		return k;
	if (k < 0)
		return write_failed(se, k);
	if (se->client_eof)
		se->client->deadline_ms = session_in(se, HALF_CLOSED_IDLE_MS);
	if (se->answered == A_BODY && se->resp.done)
		se->answered = A_DONE;
	if (se->answered == A_DONE || bytes_left(&se->out) > 0 || se->state == S_TUNNEL)
		session_later(se);
	return k;
}

static int
sub_flush(struct stream *s)
{
	struct session *se = session_of(s);

	return se != NULL && session_flush(se) == 0 ? stream_flush(se->client->in) : 0;
}

/* The server's end. */
static int
sub_shut_wr(struct stream *s)
{
	struct session *se = session_of(s);

	if (se == NULL)
		return 0;
	if (se->state == S_TUNNEL) {
		int r = session_flush(se);

		return r != 0 ? r : stream_shut_wr(se->client->in);
	}
	if (se->state == S_EXCHANGE && se->answered == A_BODY && se->resp.framing == HTTP1_UNTIL_CLOSE)
		se->answered = A_DONE;
	se->up_end = true;
	session_later(se);
	return 0;
}

static void
sub_want(struct stream *s, int events)
{
	struct session *se = session_of(s);

	s->wanted = (unsigned)events;
	if (se != NULL)
		session_wants(se);
}

/* After 101 in both directions, and into an answer that ends with its connection. */
static int
sub_raw_fd(const struct stream *s, int dir)
{
	const struct session *se = session_of(s);

	if (se == NULL || bytes_left(dir == ST_READ ? &se->in : &se->out) > 0 || (dir == ST_READ && bytes_left(&se->head) > 0))
		return -1;
	if (se->state == S_TUNNEL ||
	    (dir == ST_WRITE && se->state == S_EXCHANGE && se->answered == A_BODY && se->resp.framing == HTTP1_UNTIL_CLOSE))
		return stream_raw_fd(se->client->in, dir);
	return -1;
}

static void
sub_bypassed(struct stream *s, int dir, size_t n)
{
	struct session *se = session_of(s);

	if (se != NULL && se->client->in->ops->bypassed != NULL)
		se->client->in->ops->bypassed(se->client->in, dir, n);
}

static void
sub_destroy(struct stream *s)
{
	struct sub *sub = container_of(s, struct sub, s);
	struct session *se = sub->session;

	if (se != NULL) {
		se->sub = NULL;
		se->up = NULL;
		se->up_end = true;
		se->up_reset |= s->how == CLOSE_RESET;
		session_later(se);
	}
	mem_free(sub);
}

static const struct stream_ops sub_ops = {
	.name = "http", .readv = sub_readv, .writev = sub_writev, .flush = sub_flush, .shut_wr = sub_shut_wr, .want = sub_want,
	.raw_fd = sub_raw_fd, .bypassed = sub_bypassed, .destroy = sub_destroy
};

struct conn *
session_upstream(struct session *se, const char *target)
{
	const struct meta *m = &se->client->meta;
	struct conn_from from = { .inbound = se->client->inbound, .in_name = m->in_name, .special_proxy = m->special_proxy,
		.special_rules = m->special_rules, .src_ip = m->src_ip, .in_ip = m->in_ip, .src_port = m->src_port, .in_port = m->in_port };
	size_t n = strlen(target) + 1;
	struct sub *sub = mem_got(calloc(1, sizeof(*sub) + n));
	struct conn *c;

	if (sub == NULL)
		return NULL;
	stream_init(&sub->s, &sub_ops, se->loop, NULL);
	sub->s.state = ST_OPEN;
	memcpy(sub->target, target, n);
	c = conn_new(se->client->w, &from, &sub->s);
	if (c == NULL)
		return NULL;		/* sub was closed by it */
	sub->session = se;
	se->sub = sub;
	se->up = c;
	se->used = se->up_end = se->up_reset = se->dial_failed = false;
	return c;
}
