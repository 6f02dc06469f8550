/* SPDX-License-Identifier: MIT */
/* The layer that speaks first and then steps aside; see handshake.h. Owns its flight and answer buffers, and the lower
 * stream as every layer does. */
#include "worker/outbound/handshake.h"

#include <stdlib.h>
#include <string.h>

#include "worker/loop/pool.h"

static size_t
pending(const struct handshake *h)
{
	return h->in_len - h->in_off;
}

static int
fail_lower(struct handshake *h, int err)
{
	struct stream *l = h->s.lower;

	stream_fail(&h->s, err, 0, "%s", (l->state & ST_FAIL) != 0 ? stream_why(l) : err_text(err));
	return -err;
}

/* Writes what is left of the flight. 0, or -E_* once failed. */
static int
push(struct handshake *h)
{
	while (h->out_off < h->out_len) {
		ssize_t n = stream_write(h->s.lower, h->out + h->out_off, h->out_len - h->out_off);

		if (n == -E_AGAIN)
			return 0;
		if (n <= 0)
			return fail_lower(h, n == 0 ? E_CLOSED : (int)-n);
		h->out_off += (size_t)n;
	}
	h->out_len = h->out_off = 0;
	return 0;
}

/* Reads what is there and lets the protocol look at it until it wants more. */
static int
pull(struct handshake *h)
{
	while (!h->done) {
		size_t before;
		ssize_t n;
		int rc;

		if (h->in_len == h->in_cap) {
			stream_fail(&h->s, E_PROTO, 0, "the answer is too long");
			return -E_PROTO;
		}
		n = stream_read(h->s.lower, h->in + h->in_len, h->in_cap - h->in_len);
		if (n == -E_AGAIN)
			return 0;
		if (n == 0) {
			stream_fail(&h->s, E_CLOSED, 0, "the server closed the connection in the handshake");
			return -E_CLOSED;
		}
		if (n < 0)
			return fail_lower(h, (int)-n);
		h->in_len += (size_t)n;
		do {		/* one read may hold several answers */
			before = h->in_off;
			rc = h->step(h);
			if (rc != 0)
				return rc;
		} while (!h->done && h->in_off != before && pending(h) != 0);
		if (!h->done && h->in_off != 0) {
			memmove(h->in, h->in + h->in_off, pending(h));
			h->in_len -= h->in_off;
			h->in_off = 0;
		}
	}
	return 0;
}

static void
drop_answer(struct handshake *h)
{
	free(h->in);
	h->in = NULL;
	h->in_len = h->in_off = h->in_cap = 0;
}

/* From an event of the lower stream. */
static void
open_now(struct handshake *h)
{
	free(h->out);
	h->out = NULL;
	if (pending(h) == 0)
		drop_answer(h);
	h->s.state |= ST_OPEN;
	stream_want(h->s.lower, (int)h->s.wanted);
	if (h->in != NULL && (h->s.wanted & ST_READ) != 0)
		stream_ready(&h->s, ST_READ);
	stream_tell(&h->s, ST_OPEN);
}

static void
advance(struct handshake *h, int events)
{
	int rc = 0;

	if (!h->started) {
		h->started = true;
		rc = h->step(h);
	}
	if (rc == 0)
		rc = push(h);
	if (rc == 0 && (events & ST_READ) != 0)
		rc = pull(h);
	if (rc == 0)
		rc = push(h);
	if (rc != 0)
		return;
	if (h->done && h->out_off == h->out_len)
		open_now(h);
	else
		stream_want(h->s.lower, ST_READ | (h->out_off < h->out_len ? ST_WRITE : 0));
}

static void
on_lower(struct stream *lower, int events, void *arg)
{
	struct handshake *h = arg;

	if ((h->s.state & (ST_CLOSED | ST_FAIL)) != 0)
		return;
	if ((h->s.state & ST_OPEN) != 0) {
		if ((events & ST_FAIL) != 0)
			(void)fail_lower(h, lower->err);
		else
			stream_tell(&h->s, events & ~ST_OPEN);
	} else if ((events & ST_FAIL) != 0) {
		(void)fail_lower(h, lower->err);
	} else {
		advance(h, events);
	}
}

/* Bytes behind the answer. */
static ssize_t
serve_rest(struct handshake *h, const struct iovec *v, int n)
{
	size_t got = 0;

	for (int i = 0; i < n && pending(h) != 0; i++) {
		size_t part = v[i].iov_len < pending(h) ? v[i].iov_len : pending(h);

		memcpy(v[i].iov_base, h->in + h->in_off, part);
		h->in_off += part;
		got += part;
	}
	if (pending(h) == 0)
		drop_answer(h);
	else if ((h->s.wanted & ST_READ) != 0)
		stream_ready(&h->s, ST_READ);
	return (ssize_t)got;
}

static ssize_t
hs_readv(struct stream *s, const struct iovec *v, int n)
{
	struct handshake *h = (struct handshake *)s;

	if ((s->state & ST_FAIL) != 0)
		return -s->err;
	if ((s->state & ST_OPEN) == 0)
		return -E_AGAIN;
	return h->in != NULL ? serve_rest(h, v, n) : stream_readv(s->lower, v, n);
}

static ssize_t
hs_writev(struct stream *s, const struct iovec *v, int n)
{
	if ((s->state & ST_FAIL) != 0)
		return -s->err;
	return (s->state & ST_OPEN) == 0 ? -E_AGAIN : stream_writev(s->lower, v, n);
}

static int
hs_flush(struct stream *s)
{
	return (s->state & ST_OPEN) != 0 ? stream_flush(s->lower) : 0;
}

static int
hs_shut_wr(struct stream *s)
{
	return (s->state & ST_OPEN) != 0 ? stream_shut_wr(s->lower) : -E_AGAIN;
}

static void
hs_want(struct stream *s, int events)
{
	struct handshake *h = (struct handshake *)s;

	s->wanted = (unsigned)events;
	if ((s->state & ST_OPEN) == 0)
		return;		/* the handshake has its own interest */
	if (h->in != NULL && (events & ST_READ) != 0)
		stream_ready(s, ST_READ);
	stream_want(s->lower, events);
}

static int
hs_raw_fd(const struct stream *s, int dir)
{
	const struct handshake *h = (const struct handshake *)s;

	if ((s->state & ST_OPEN) == 0 || (dir == ST_READ && h->in != NULL))
		return -1;
	return stream_raw_fd(s->lower, dir);
}

static void
hs_bypassed(struct stream *s, int dir, size_t n)
{
	if (s->lower->ops->bypassed != NULL)
		s->lower->ops->bypassed(s->lower, dir, n);
}

/* Nothing of this layer is left once it is open: what is handed over is the lower stream. */
static int
hs_freeze(struct stream *s, struct wire *w, int *fds)
{
	struct handshake *h = (struct handshake *)s;

	if ((s->state & ST_OPEN) == 0 || h->in != NULL || s->lower->ops->freeze == NULL)
		return -E_UNSUP;
	return s->lower->ops->freeze(s->lower, w, fds);
}

static void
hs_destroy(struct stream *s)
{
	struct handshake *h = (struct handshake *)s;

	if (h->gone != NULL)
		h->gone(h);
	free(h->out);
	free(h->in);
	mem_free(h);
}

static const struct stream_ops handshake_ops = {
	.name = "handshake", .readv = hs_readv, .writev = hs_writev, .flush = hs_flush, .shut_wr = hs_shut_wr, .want = hs_want,
	    .raw_fd = hs_raw_fd,
	.bypassed = hs_bypassed, .freeze = hs_freeze, .destroy = hs_destroy,
};

struct handshake *
handshake_new(struct stream *lower, size_t size, size_t in_cap, int (*step)(struct handshake *))
{
	struct handshake *h;

	if (lower == NULL)
		return NULL;
	h = mem_got(calloc(1, size));
	if (h != NULL)
		h->in = malloc(in_cap);
	if (h == NULL || h->in == NULL) {
		mem_free(h);
		stream_close(lower, CLOSE_RESET);
		return NULL;
	}
	h->in_cap = in_cap;
	h->step = step;
	stream_init(&h->s, &handshake_ops, lower->loop, lower);
	stream_set_cb(lower, on_lower, h);
	return h;
}

void
handshake_start(struct handshake *h)
{
	if ((h->s.lower->state & ST_OPEN) != 0 && (h->s.lower->state & ST_FAIL) == 0)
		advance(h, ST_OPEN);
}

int
handshake_put(struct handshake *h, const void *p, size_t n)
{
	uint8_t *grown;

	if (n > HANDSHAKE_OUT_MAX - h->out_len) {
		stream_fail(&h->s, E_LIMIT, 0, "the request is too long");
		return -E_LIMIT;
	}
	grown = realloc(h->out, h->out_len + n);
	if (grown == NULL) {
		stream_fail(&h->s, E_NOMEM, 0, "out of memory");
		return -E_NOMEM;
	}
	memcpy(grown + h->out_len, p, n);
	h->out = grown;
	h->out_len += n;
	return 0;
}

void
handshake_take(struct handshake *h, size_t n)
{
	h->in_off += n;
}

void
handshake_done(struct handshake *h)
{
	h->done = true;
}
