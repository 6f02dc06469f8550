/* SPDX-License-Identifier: MIT */
/* The life of an HTTP proxy client: see http_gateway.h for the model. Called by the client's stream and, through
 * session_later(), by itself at the end of a turn. Owns the session and its buffers. */
#include "worker/inbound/http_gateway.h"

#include <stdlib.h>
#include <string.h>

enum { LINGER_READS = 16 };

/* ---- buffers */

void
bytes_free(struct bytes *b)
{
	mem_charge(-(ptrdiff_t)b->cap);
	free(b->p);
	*b = (struct bytes){ 0 };
}

/* Room for n more bytes, moving what is left to the front. */
static bool
bytes_room(struct bytes *b, size_t n, size_t max)
{
	size_t left = bytes_left(b), cap = b->cap > 0 ? b->cap : 1024;
	uint8_t *p;

	if (b->cap - b->len >= n && b->p != NULL)
		return true;
	if (b->off > 0) {
		memmove(b->p, b->p + b->off, left);
		b->off = 0;
		b->len = left;
	}
	if (left + n > max)
		return false;
	while (cap < left + n)
		cap *= 2;
	if (cap > b->cap) {
		p = realloc(b->p, cap);
		if (p == NULL)
			return false;
		mem_charge((ptrdiff_t)(cap - b->cap));
		b->p = p;
		b->cap = cap;
	}
	return true;
}

void
bytes_put(struct bytes *b, const void *p, size_t n)
{
	if (b->failed || n == 0)
		return;
	if (!bytes_room(b, n, 2 * HTTP_OUT_MAX)) {
		b->failed = true;
		return;
	}
	memcpy(b->p + b->len, p, n);
	b->len += n;
}

void
bytes_puts(struct bytes *b, const char *s)
{
	bytes_put(b, s, strlen(s));
}

void
bytes_take(struct bytes *b, size_t n)
{
	b->off += n;
	if (b->off >= b->len)
		bytes_free(b);
}

/* ---- life */

static void
session_reap(struct loop_task *t)
{
	struct session *se = container_of(t, struct session, task);

	session_drop(se);
	bytes_free(&se->in);
	bytes_free(&se->head);
	bytes_free(&se->answer);
	bytes_free(&se->out);
	mem_free(se);
}

/* conn.hs_free of the carrier. The conn to the server is closed later: whoever walks the list of conns may stand on it. */
static void
on_carrier_gone(struct conn *c)
{
	struct session *se = c->hs;

	c->hs = NULL;
	if (se == NULL)
		return;
	se->state = S_DEAD;
	se->client = NULL;
	se->task.fn = session_reap;
	loop_defer(se->loop, &se->task);
}

void
session_release(struct session *se)
{
	struct conn *c = se->client;

	c->hs_free = NULL;
	stream_set_cb(c->in, NULL, NULL);
	on_carrier_gone(c);
}

void
session_end(struct session *se, enum stream_close_how how, enum close_reason why)
{
	struct conn *c = se->client;

	if (se->state == S_DEAD)
		return;
	stream_close(c->in, how);
	c->in = NULL;
	conn_close(c, why);
}

void
session_drop(struct session *se)
{
	bool idle = se->state == S_HEAD || se->answered == A_DONE;
	struct sub *sub = se->sub;
	struct conn *up = se->up;

	if (sub == NULL)
		return;
	sub->session = NULL;
	se->sub = NULL;
	se->up = NULL;
	if ((sub->s.state & ST_CLOSED) == 0)
		conn_close(up, idle ? BY_EOF : BY_CLIENT);
}

void
session_later(struct session *se)
{
	loop_defer(se->loop, &se->task);
}

/* ---- what is waited for */

static bool
sub_readable(const struct session *se)
{
	if (bytes_left(&se->head) > 0)
		return true;
	return bytes_left(&se->in) > 0 && (se->state == S_TUNNEL || (se->state == S_EXCHANGE && !se->req.done));
}

void
session_wants(struct session *se)
{
	unsigned sub = se->sub != NULL ? se->sub->s.wanted : 0;
	int ev = 0;

	if (se->state == S_DEAD)
		return;
	switch (se->state) {
	case S_EXCHANGE:
		if (!se->req.done || bytes_left(&se->head) > 0)
			ev |= (sub & ST_READ) != 0 && !sub_readable(se) ? ST_READ : 0;
		else if (!se->client_eof && bytes_left(&se->in) < HTTP_AHEAD_MAX)
			ev |= ST_READ;
		ev |= (int)(sub & ST_WRITE);
		break;
	case S_TUNNEL:
		ev |= (sub & ST_READ) != 0 && !sub_readable(se) ? ST_READ : 0;
		ev |= (int)(sub & ST_WRITE);
		break;
	case S_LAST:
		ev |= ST_WRITE;
		break;
	default:
		ev |= ST_READ;
		break;
	}
	if (bytes_left(&se->out) > 0)
		ev = (ev & ~(se->state == S_HEAD ? ST_READ : 0)) | ST_WRITE;
	if ((int)se->client->in->wanted != ev)
		stream_want(se->client->in, ev);
	if ((sub & ST_READ) != 0 && sub_readable(se))
		stream_ready(&se->sub->s, ST_READ);
}

/* ---- the client's side */

/* More bytes of the client into in. > 0, 0 end, -E_*. */
ssize_t
session_fill(struct session *se, size_t most)
{
	struct bytes *in = &se->in;
	ssize_t n;

	if (!bytes_room(in, most, HTTP_IN_MAX))
		return -E_LIMIT;
	n = stream_read(se->client->in, in->p + in->len, most);
	if (n > 0)
		in->len += (size_t)n;
	else if (bytes_left(in) == 0)
		bytes_free(in);
	return n;
}

int
session_flush(struct session *se)
{
	struct bytes *out = &se->out;
	ssize_t n;

	if (out->failed)
		return -E_NOMEM;
	if (bytes_left(out) == 0)
		return 0;
	while (bytes_left(out) > 0) {
		n = stream_write(se->client->in, out->p + out->off, bytes_left(out));
		if (n < 0)
			return (int)n;
		bytes_take(out, (size_t)n);
	}
	stream_flush(se->client->in);
	return 0;
}

/* HEAD: 0 = something changed, -E_AGAIN, GONE. */
static int
read_head(struct session *se)
{
	struct bytes *in = &se->in;
	ssize_t n;
	int r;

	for (;;) {
		while (bytes_left(in) > 0 && (in->p[in->off] == '\r' || in->p[in->off] == '\n'))	/* RFC 9112 2.2 */
			bytes_take(in, 1);
		if (bytes_left(in) > 0) {
			r = http1_head_length(in->p + in->off, bytes_left(in), &se->seen);
			if (r > 0) {
				se->seen = 0;
				return http_request(se, (size_t)r);
			}
			if (r != -E_AGAIN) {
				http_refuse(se, 431, false);
				return 0;
			}
			if (!se->begun)
				se->client->deadline_ms = session_in(se, HANDSHAKE_TIMEOUT_MS);
			se->begun = true;
		}
		n = session_fill(se, 4096);
		if (n == -E_AGAIN)
			return -E_AGAIN;
		if (n <= 0) {
			session_end(se, CLOSE_FLUSH, BY_CLIENT);
			return GONE;
		}
	}
}

/* The server is gone: what the client is told depends on how far the answer was. */
static int
server_gone(struct session *se)
{
	se->up_end = false;
	if (se->answered == A_DONE) {
		session_drop(se);
		bytes_free(&se->head);
		if (!se->req.done)
			se->state = S_LAST;
		return 0;
	}
	if (se->answered == A_BODY) {
		session_end(se, CLOSE_RESET, BY_REMOTE);	/* cut short: it must not look complete */
		return GONE;
	}
	session_drop(se);
	if (se->used && !se->dial_failed && !se->interim && bytes_left(&se->answer) == 0) {
		/* A kept-alive connection ended as we used it: the client sees the same and may repeat its request, RFC 9112
		 * 9.3.1. */
		session_end(se, CLOSE_FLUSH, BY_REMOTE);
		return GONE;
	}
	http_refuse(se, 502, se->req.done);
	return 0;
}

static int
exchange(struct session *se)
{
	bool sent = se->req.done && bytes_left(&se->head) == 0;

	if (se->up_end && !(se->answered == A_DONE && sent))
		return server_gone(se);
	if (se->answered != A_DONE || (se->keep && !sent))
		return -E_AGAIN;
	if (!se->keep || !se->up_keep || se->up_end)
		session_drop(se);
	se->up_end = false;
	bytes_free(&se->head);
	if (!se->keep) {
		se->state = S_LAST;
		return 0;
	}
	se->used = true;
	se->state = S_HEAD;
	se->begun = false;
	se->client->deadline_ms = session_in(se, HTTP_IDLE_MS);
	return 0;
}

/* The last byte is out: ours ends, and what still comes is thrown away, so that no reset overtakes the answer (RFC 9112 9.6). */
static int
last(struct session *se)
{
	int r;

	session_drop(se);
	r = se->client_eof ? -E_UNSUP : stream_shut_wr(se->client->in);
	if (r == -E_AGAIN)
		return r;
	if (r != 0) {
		session_end(se, CLOSE_FLUSH, BY_EOF);
		return GONE;
	}
	bytes_free(&se->in);
	se->state = S_LINGER;
	se->client->deadline_ms = session_in(se, HTTP_LINGER_MS);
	return 0;
}

static int
linger(struct session *se)
{
	uint8_t junk[4096];
	ssize_t n;
	int i;

	for (i = 0; i < LINGER_READS; i++) {
		n = stream_read(se->client->in, junk, sizeof(junk));
		if (n == -E_AGAIN)
			return -E_AGAIN;
		if (n <= 0) {
			session_end(se, CLOSE_FLUSH, BY_EOF);
			return GONE;
		}
	}
	return -E_AGAIN;
}

/* 0 = look again, -E_AGAIN = wait, GONE. */
static int
advance(struct session *se)
{
	switch (se->state) {
	case S_HEAD:
		if (se->up_end)
			session_drop(se);
		se->up_end = false;
		return read_head(se);
	case S_EXCHANGE:
		return exchange(se);
	case S_TUNNEL:
		if (!se->up_end)
			return -E_AGAIN;
		session_end(se, se->up_reset ? CLOSE_RESET : CLOSE_FLUSH, BY_REMOTE);
		return GONE;
	case S_LAST:
		return last(se);
	case S_LINGER:
		return linger(se);
	default:
		return GONE;
	}
}

static void
session_run(struct session *se)
{
	int r;

	while (se->state != S_DEAD) {
		r = session_flush(se);
		if (r == -E_AGAIN)
			break;
		if (r != 0) {
			session_end(se, CLOSE_RESET, BY_CLIENT);
			return;
		}
		r = advance(se);
		if (r == GONE)
			return;
		if (r == -E_AGAIN)
			break;
	}
	session_wants(se);
}

static void
on_task(struct loop_task *t)
{
	session_run(container_of(t, struct session, task));
}

/* While an answer is awaited: the next request, or the client's end. False when the session ended. */
static bool
read_ahead(struct session *se)
{
	ssize_t n = session_fill(se, HTTP_AHEAD_MAX);

	if (n > 0 || n == -E_AGAIN)
		return true;
	if (n == 0) {
		se->client_eof = true;
		se->client->deadline_ms = session_in(se, HALF_CLOSED_IDLE_MS);
		return true;
	}
	session_end(se, CLOSE_RESET, BY_CLIENT);
	return false;
}

static void
on_client(struct stream *s, int events, void *arg)
{
	struct session *se = arg;
	bool open = se->state == S_EXCHANGE || se->state == S_TUNNEL;

	(void)s;
	if ((events & ST_FAIL) != 0) {
		session_end(se, CLOSE_RESET, BY_CLIENT);
		return;
	}
	if (open && (events & ST_READ) != 0) {
		if (se->state == S_EXCHANGE && se->req.done && bytes_left(&se->head) == 0) {
			if (!read_ahead(se))
				return;
		} else if (se->sub != NULL && (se->sub->s.wanted & ST_READ) != 0) {
			stream_tell(&se->sub->s, ST_READ);
		}
	}
	if (open && (events & ST_WRITE) != 0 && se->sub != NULL && (se->sub->s.wanted & ST_WRITE) != 0 &&
	    bytes_left(&se->out) == 0)
		stream_tell(&se->sub->s, ST_WRITE);
	session_run(se);
}

int
session_start(struct conn *c, const uint8_t *p, size_t n)
{
	struct session *se = mem_got(calloc(1, sizeof(*se)));

	if (se == NULL)
		return -E_NOMEM;
	se->client = c;
	se->loop = &c->w->loop;
	loop_task_init(&se->task, on_task);
	c->hs = se;
	c->hs_free = on_carrier_gone;
	bytes_put(&se->in, p, n);
	stream_set_cb(c->in, on_client, se);
	session_run(se);
	return 0;
}
