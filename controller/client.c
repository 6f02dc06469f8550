/* SPDX-License-Identifier: MIT */
/* Clients of the API: reading, framing, writing, time-outs. Created by front.c for every accepted socket; owns the socket, the
 * TLS state, the bytes not yet framed, the queue to send, and the call that is being read. */
#include "controller/client.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "common/err.h"
#include "controller/call.h"
#include "controller/front.h"
#include "controller/http.h"
#include "controller/stream.h"
#include "controller/tls.h"

enum {
	IN_FIRST = 4096,
	IOV_BATCH = 16,			/* pieces a system call */
	READS_A_TURN = 8		/* so that one client cannot keep the loop */
};

struct out {
	struct out *next;
	struct blob *blob;
	size_t off;
};

/* ---- blobs */

struct blob *
blob_take(char *data, size_t len)
{
	struct blob *b = data != NULL ? malloc(sizeof(*b)) : NULL;

	if (b == NULL) {
		free(data);
		return NULL;
	}
	b->refs = 1;
	b->len = len;
	b->data = data;
	return b;
}

struct blob *
blob_copy(const void *p, size_t len)
{
	char *data = malloc(len > 0 ? len : 1);

	if (data != NULL && len > 0)
		memcpy(data, p, len);
	return blob_take(data, len);
}

struct blob *
blob_hold(struct blob *b)
{
	if (b != NULL)
		b->refs++;
	return b;
}

void
blob_put(struct blob *b)
{
	if (b == NULL || --b->refs > 0)
		return;
	free(b->data);
	free(b);
}

/* ---- watchers and time */

static void
watch(struct client *c)
{
	bool read = c->state <= CL_BODY || c->state == CL_STREAM || c->state == CL_LINGER;
	bool tls_write = c->tls != NULL && tls_wants_write(c->tls);

	if (c->state == CL_DEAD)
		return;
	if (read)
		ev_io_start(c->loop, &c->rd);
	else
		ev_io_stop(c->loop, &c->rd);
	if (c->head != NULL ? c->state != CL_TLS : tls_write)
		ev_io_start(c->loop, &c->wr);
	else
		ev_io_stop(c->loop, &c->wr);
}

void
client_timeout(struct client *c, double seconds)
{
	if (c->state == CL_DEAD)
		return;
	ev_timer_stop(c->loop, &c->timer);
	ev_timer_set(&c->timer, seconds, 0.);
	if (seconds > 0)
		ev_timer_start(c->loop, &c->timer);
}

static void
enter(struct client *c, enum client_state state)
{
	static const double limits[] = {
		[CL_TLS] = CLIENT_HEAD_S, [CL_HEAD] = CLIENT_IDLE_S, [CL_BODY] = CLIENT_BODY_S, [CL_SEND] = CLIENT_SEND_S,
		[CL_STREAM] = CLIENT_SEND_S, [CL_LINGER] = CLIENT_LINGER_S, [CL_DEAD] = 0
	};

	c->state = state;
	c->progressed = false;
	client_timeout(c, limits[state]);
	watch(c);
}

/* ---- the end */

static void
drop_queue(struct client *c)
{
	while (c->head != NULL) {
		struct out *o = c->head;
		c->head = o->next;
		blob_put(o->blob);
		free(o);
	}
	c->tail = &c->head;
	c->queued = 0;
	c->nqueued = 0;
}

void
client_close(struct client *c)
{
	struct call *call = c->call;

	if (c->state == CL_DEAD)
		return;
	c->state = CL_DEAD;
	ev_io_stop(c->loop, &c->rd);
	ev_io_stop(c->loop, &c->wr);
	ev_timer_stop(c->loop, &c->timer);
	tls_free(c->tls);
	c->tls = NULL;
	close(c->fd);
	c->fd = -1;
	drop_queue(c);
	if (c->sub != NULL)
		stream_gone(c);
	c->call = NULL;
	if (call != NULL)
		front_abandon(call);
	front_dead(c);
}

void
client_free(struct client *c)
{
	free(c->in);
	free(c);
}

/* ---- writing */

static ssize_t
write_some(struct client *c)
{
	struct iovec iov[IOV_BATCH];
	struct msghdr m = { .msg_iov = iov };
	ssize_t n;

	if (c->tls != NULL)
		return tls_write(c->tls, c->head->blob->data + c->head->off, c->head->blob->len - c->head->off);
	for (const struct out *o = c->head; o != NULL && m.msg_iovlen < IOV_BATCH; o = o->next) {
		iov[m.msg_iovlen].iov_base = o->blob->data + o->off;
		iov[m.msg_iovlen++].iov_len = o->blob->len - o->off;
	}
	do
		n = sendmsg(c->fd, &m, MSG_NOSIGNAL);
	while (n == -1 && errno == EINTR);
	if (n == -1)
		return errno == EAGAIN ? -E_AGAIN : -E_RESET;
	return n;
}

static void
consume(struct client *c, size_t n)
{
	c->queued -= n;
	while (n > 0) {
		struct out *o = c->head;
		size_t left = o->blob->len - o->off;
		if (n < left) {
			o->off += n;
			return;
		}
		n -= left;
		c->head = o->next;
		if (c->head == NULL)
			c->tail = &c->head;
		c->nqueued--;
		blob_put(o->blob);
		free(o);
	}
}

/* Everything is sent: on to the next request, which may lie in the buffer already, or to the end. */
static void
sent(struct client *c)
{
	if (c->state == CL_SEND && c->close_after) {
		enter(c, CL_LINGER);
	} else if (c->state == CL_SEND) {
		enter(c, CL_HEAD);
		if (c->in_len > 0)
			client_timeout(c, CLIENT_HEAD_S);
		if (c->in_len > 0 || c->tls != NULL)
			ev_feed_event(c->loop, &c->rd, EV_READ);
	}
	if (c->state == CL_LINGER) {
		tls_bye(c->tls);
		shutdown(c->fd, SHUT_WR);
	}
}

void
client_flush(struct client *c)
{
	while (c->state != CL_DEAD && c->state != CL_TLS && c->head != NULL) {
		ssize_t n = write_some(c);
		if (n == -E_AGAIN)
			break;
		if (n < 0) {
			client_close(c);
			return;
		}
		consume(c, (size_t)n);
		c->progressed = true;
	}
	if (c->state != CL_DEAD && c->head == NULL)
		sent(c);
	watch(c);
}

void
client_send(struct client *c, struct blob *b)
{
	struct out *o = b != NULL && c->state != CL_DEAD ? malloc(sizeof(*o)) : NULL;

	if (o == NULL || b->len == 0) {
		bool empty = b != NULL && b->len == 0;
		free(o);
		blob_put(b);
		if (!empty)
			client_close(c);
		return;
	}
	*o = (struct out){ .blob = b };
	*c->tail = o;
	c->tail = &o->next;
	c->queued += b->len;
	c->nqueued++;
}

void
client_answered(struct client *c, bool close)
{
	if (c->state == CL_DEAD)
		return;
	c->close_after = close;
	enter(c, CL_SEND);
	client_flush(c);
}

void
client_stream(struct client *c)
{
	if (c->state == CL_DEAD)
		return;
	enter(c, CL_STREAM);
	client_flush(c);
	if (c->state == CL_STREAM && (c->in_len > 0 || c->tls != NULL))
		ev_feed_event(c->loop, &c->rd, EV_READ);
}

void
client_linger(struct client *c)
{
	if (c->state == CL_DEAD || c->state == CL_LINGER)
		return;
	enter(c, CL_LINGER);
	client_flush(c);
}

/* ---- framing */

static void
take_in(struct client *c, size_t n)
{
	c->in_len -= n;
	if (c->in_len > 0)
		memmove(c->in, c->in + n, c->in_len);
	c->scan = 0;
	if (c->in_len == 0) {		/* an idle client holds no buffer */
		free(c->in);
		c->in = NULL;
		c->in_cap = 0;
	}
}

/* True when a whole head was found and handed on. */
static bool
frame_head(struct client *c)
{
	struct call *call;
	ssize_t n;

	while (c->in_len >= 2 && c->in[0] == '\r' && c->in[1] == '\n')	/* RFC 9112 2.2 */
		take_in(c, 2);
	if (c->in_len == 0)
		return false;
	n = http_head_length(c->in, c->in_len, &c->scan);
	if (n == 0)
		return false;
	call = call_new(c);
	if (call == NULL) {
		client_close(c);
		return false;
	}
	c->call = call;
	if (n > 0) {
		call->head = malloc((size_t)n);
		if (call->head == NULL) {
			client_close(c);
			return false;
		}
		memcpy(call->head, c->in, (size_t)n);
		take_in(c, (size_t)n);
	}
	enter(c, CL_BODY);
	front_head(call, n > 0 ? http_parse(&call->http, call->head, (size_t)n) : n == -E_LIMIT ? 431 : 400);
	return c->state == CL_BODY;
}

/* Decodes what is there of the body; hands the call on when it is whole. */
static void
frame_body(struct client *c)
{
	struct call *call = c->call;
	const char *data;
	size_t used, len, off = 0;
	int r;

	do {
		r = http_body_feed(&call->framing, c->in_len > 0 ? c->in + off : "", c->in_len - off, &used, &data, &len);
		off += used;
		if (r >= 0 && len > 0) {
			int e = call_body_add(call, data, len);
			if (e != 0) {
				front_refuse(call, e == -E_LIMIT ? 413 : 500);
				return;
			}
		}
		if (r < 0) {
			front_refuse(call, 400);
			return;
		}
	} while (r == 0 && used > 0 && off < c->in_len);
	if (off > 0)
		take_in(c, off);
	if (r == 1) {
		enter(c, CL_BUSY);
		front_call(call);
	}
}

static void
process(struct client *c)
{
	if (c->state == CL_HEAD && !frame_head(c))
		return;
	if (c->state == CL_BODY)
		frame_body(c);
}

/* ---- reading */

static ssize_t
read_some(struct client *c, void *p, size_t n)
{
	ssize_t r;

	if (c->tls != NULL)
		return tls_read(c->tls, p, n);
	do
		r = recv(c->fd, p, n, 0);
	while (r == -1 && errno == EINTR);
	if (r == -1)
		return errno == EAGAIN ? -E_AGAIN : -E_RESET;
	return r;
}

/* A stream's client, or one that is being ended: nothing is kept. False when there is no more. */
static bool
read_loose(struct client *c)
{
	char buf[4096];
	ssize_t n;

	if (c->state == CL_STREAM && c->in_len > 0) {	/* came together with the request */
		size_t len = c->in_len < sizeof(buf) ? c->in_len : sizeof(buf);
		memcpy(buf, c->in, len);
		take_in(c, len);
		stream_input(c, buf, len);
		return true;
	}
	n = read_some(c, buf, sizeof(buf));
	if (n == -E_AGAIN)
		return false;
	if (n <= 0)
		client_close(c);
	else if (c->state == CL_STREAM)
		stream_input(c, buf, (size_t)n);
	return n > 0;
}

/* A client whose requests are being read. False when there is no more for now. */
static bool
read_request(struct client *c)
{
	ssize_t n;

	if (c->in_len > 0 && c->state == CL_HEAD && c->scan == 0) {	/* a pipelined request waits in the buffer */
		process(c);
		if (c->state != CL_HEAD || c->scan == 0)
			return true;	/* something was taken out; reading goes on when only a part of a head is left */
	}
	if (c->in_cap - c->in_len < IN_FIRST / 2) {
		size_t cap = c->in_cap == 0 ? IN_FIRST : c->in_cap * 2;
		char *p = cap <= CLIENT_IN_MAX ? realloc(c->in, cap) : NULL;
		if (p == NULL) {
			client_close(c);
			return false;
		}
		c->in = p;
		c->in_cap = cap;
	}
	n = read_some(c, c->in + c->in_len, c->in_cap - c->in_len);
	if (n == -E_AGAIN) {
		if (c->in_len == 0)
			take_in(c, 0);
		return false;
	}
	if (n <= 0) {			/* the end, perhaps in the middle of a request: nobody to answer */
		client_close(c);
		return false;
	}
	if (c->in_len == 0 && c->state == CL_HEAD)
		client_timeout(c, CLIENT_HEAD_S);
	c->in_len += (size_t)n;
	process(c);
	return true;
}

static bool
handshake(struct client *c)
{
	int r = tls_handshake(c->tls);

	if (r == 0)
		enter(c, CL_HEAD);
	else if (r != -E_AGAIN)
		client_close(c);
	return r == 0;
}

static void
on_readable(struct ev_loop *loop, ev_io *w, int events)
{
	struct client *c = w->data;
	bool more = true;

	(void)loop;
	(void)events;
	for (int i = 0; more && i < READS_A_TURN; i++) {
		if (c->state == CL_TLS)
			more = handshake(c);
		else if (c->state == CL_HEAD || c->state == CL_BODY)
			more = read_request(c);
		else if (c->state == CL_STREAM || c->state == CL_LINGER)
			more = read_loose(c);
		else
			break;
	}
	/* TLS may hold decoded bytes that the socket will not announce */
	if (more && c->state != CL_DEAD && c->tls != NULL && (c->state <= CL_BODY || c->state == CL_STREAM))
		ev_feed_event(c->loop, &c->rd, EV_READ);
	watch(c);
}

static void
on_writable(struct ev_loop *loop, ev_io *w, int events)
{
	struct client *c = w->data;

	if (c->state == CL_TLS || c->head == NULL)
		on_readable(loop, &c->rd, events);
	else
		client_flush(c);
}

/* ---- time-outs */

static void
on_timer(struct ev_loop *loop, ev_timer *t, int events)
{
	struct client *c = t->data;

	(void)loop;
	(void)events;
	if (c->state == CL_BUSY) {
		front_delayed(c->call);
	} else if (c->state == CL_SEND || c->state == CL_STREAM) {
		if (c->head != NULL && !c->progressed) {
			client_close(c);	/* it does not read */
			return;
		}
		c->progressed = false;
		client_timeout(c, CLIENT_SEND_S);
		if (c->state == CL_STREAM)
			stream_idle(c);
	} else if (c->state == CL_BODY || (c->state == CL_HEAD && c->in_len > 0)) {
		front_late(c);
	} else {
		client_close(c);
	}
}

struct client *
client_new(struct front *front, struct ev_loop *loop, int fd, struct tls_server *tls, const struct ip *ip, bool local)
{
	struct client *c = calloc(1, sizeof(*c));

	if (c == NULL || (tls != NULL && (c->tls = tls_accept(tls, fd)) == NULL)) {
		close(fd);
		free(c);
		return NULL;
	}
	list_init(&c->link);
	c->front = front;
	c->loop = loop;
	c->fd = fd;
	c->tail = &c->head;
	c->peer.local = local;
	c->peer.tls = tls != NULL;
	c->ip = *ip;
	c->peer.loopback = local || ip_is_loopback(ip);
	ev_io_init(&c->rd, on_readable, fd, EV_READ);
	ev_io_init(&c->wr, on_writable, fd, EV_WRITE);
	ev_timer_init(&c->timer, on_timer, 0., 0.);
	c->rd.data = c->wr.data = c->timer.data = c;
	enter(c, tls != NULL ? CL_TLS : CL_HEAD);
	return c;
}
