/* SPDX-License-Identifier: MIT */
/* One end of a channel on the event loop: sending with a bounded queue, dispatch by the owner's table, and the orderly end
 * of a peer that closed or broke the table. Every program's channels run through here; whatever the other end does, the
 * receiver goes on.
 *
 * Life: the owner's callbacks (fn, on_gone) are the only places where a peer can change hands. While a handler runs
 * (dispatching) the end of the peer is only noted; on_gone follows when the handler is back. An end noticed outside of the
 * loop's own callbacks (in peer_send, peer_fail, peer_wait) is reported in the next turn of the loop, never inside the
 * owner's call. After on_gone the struct is not touched. The peer owns its fd, and the copies and fds in its queue. */
#include "common/peer.h"

#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/err.h"
#include "common/log.h"

struct peer_out {			/* a message that waits; one allocation with its fds and body behind it */
	struct peer_out *next;
	uint16_t type;
	uint32_t id;
	size_t len;
	int nfds;
	int fds[];			/* then the body */
};

static const char text_closed[] = "closed the channel";

/* ---- the end */

static void
queue_drop(struct peer *p)
{
	while (p->head != NULL) {
		struct peer_out *o = p->head;

		p->head = o->next;
		imsg_close_fds(o->fds, o->nfds);
		free(o);
	}
	p->tail = &p->head;
	p->queued = 0;
}

static void
release(struct peer *p)
{
	ev_io_stop(p->loop, &p->rd);	/* these also take back what was fed to the loop */
	ev_io_stop(p->loop, &p->wr);
	queue_drop(p);
	close(p->fd);
	p->fd = -1;
	p->dead = true;
}

/* Closes and notes that the owner has to be told. why may lie in p->why. */
static void
finish(struct peer *p, int level, const char *why)
{
	if (p->fd == -1)
		return;
	if (why != p->why)
		(void)snprintf(p->why, sizeof(p->why), "%s", why);
	if (log_enabled(level))
		log_write(level, "%s: %s", p->name, p->why);
	release(p);
	p->gone_due = true;
}

/* Tells the owner, who may free p: the caller must not touch it afterwards. */
static void
tell_gone(struct peer *p)
{
	char why[sizeof(p->why)];

	p->gone_due = false;
	memcpy(why, p->why, sizeof(why));
	if (p->on_gone != NULL)
		p->on_gone(p, why);
}

/* For ends noticed inside the owner's call: on_write() of the next turn tells. */
static void
tell_later(struct peer *p)
{
	if (p->gone_due && !p->dispatching)
		ev_feed_event(p->loop, &p->wr, EV_CUSTOM);
}

void
peer_fail(struct peer *p, const char *why)
{
	finish(p, LL_WARNING, why);
	tell_later(p);
}

/* ---- sending */

static int
out_send(const struct peer *p, const struct peer_out *o)
{
	return imsg_send_as(p->fd, p->version, o->type, o->id, o->fds + o->nfds, o->len, o->fds, o->nfds);
}

/* Nothing can be sent any more. What the other end sent before it closed is still to be read: on_read() does, then ends it. */
static void
go_deaf(struct peer *p)
{
	p->deaf = true;
	queue_drop(p);
	ev_io_stop(p->loop, &p->wr);
	ev_feed_event(p->loop, &p->rd, EV_READ);
}

/* Sends what waits. 0 when the queue is empty, -E_AGAIN, or another error: the peer cannot be sent to. */
static int
queue_flush(struct peer *p)
{
	while (p->head != NULL) {
		struct peer_out *o = p->head;
		int r = out_send(p, o);

		if (r != 0)
			return r;
		p->head = o->next;
		if (p->head == NULL)
			p->tail = &p->head;
		p->queued--;
		imsg_close_fds(o->fds, o->nfds);
		free(o);
	}
	return 0;
}

/* What an attempt to flush means for the peer. */
static void
flushed(struct peer *p, int r)
{
	if (r == 0) {
		ev_io_stop(p->loop, &p->wr);
	} else if (r == -E_CLOSED) {
		go_deaf(p);
	} else if (r != -E_AGAIN) {
		(void)snprintf(p->why, sizeof(p->why), "cannot be sent to: %s", strerrordesc_np(errno));
		finish(p, LL_WARNING, p->why);
	}
}

static void
on_write(struct ev_loop *loop, ev_io *w, int events)
{
	struct peer *p = w->data;

	(void)loop;
	if (p->fd != -1 && (events & EV_WRITE) != 0)
		flushed(p, queue_flush(p));
	if (p->gone_due && !p->dispatching)
		tell_gone(p);
}

static int
enqueue(struct peer *p, uint16_t type, uint32_t id, const void *body, size_t len, const int *fds, int nfds)
{
	size_t fdbytes = sizeof(int) * (size_t)nfds;
	struct peer_out *o = NULL;

	if (p->queued < PEER_QUEUE_MAX)
		o = malloc(sizeof(*o) + fdbytes + len);
	if (o == NULL) {
		imsg_close_fds(fds, nfds);
		peer_fail(p, p->queued < PEER_QUEUE_MAX ? "out of memory for its messages" : "does not read: its queue is full");
		return -E_LIMIT;
	}
	*o = (struct peer_out){ .type = type, .id = id, .len = len, .nfds = nfds };
	if (nfds > 0)
		memcpy(o->fds, fds, fdbytes);
	if (len > 0)
		memcpy(o->fds + nfds, body, len);
	*p->tail = o;
	p->tail = &o->next;
	p->queued++;
	ev_io_start(p->loop, &p->wr);
	return 0;
}

int
peer_send(struct peer *p, uint16_t type, uint32_t id, const void *body, size_t len, const int *fds, int nfds)
{
	int r;

	if (len > IMSG_BODY_MAX || nfds > IMSG_FDS) {
		log_error("%s: message %u of %zu bytes and %d fds is over the limit and not sent", p->name, type, len, nfds);
		imsg_close_fds(fds, nfds);
		return -E_LIMIT;
	}
	if (p->fd == -1 || p->deaf) {
		imsg_close_fds(fds, nfds);
		return -E_CLOSED;
	}
	if (p->head != NULL)
		return enqueue(p, type, id, body, len, fds, nfds);
	r = imsg_send_as(p->fd, p->version, type, id, body, len, fds, nfds);
	if (r == -E_AGAIN)
		return enqueue(p, type, id, body, len, fds, nfds);
	if (r != 0) {
		flushed(p, r);
		tell_later(p);
	}
	imsg_close_fds(fds, nfds);
	return r == 0 ? 0 : -E_CLOSED;
}

int
peer_send_wire(struct peer *p, uint16_t type, uint32_t id, struct wire *body, const int *fds, int nfds)
{
	int r;

	if (body->failed) {
		log_error("%s: message %u could not be built and is not sent", p->name, type);
		imsg_close_fds(fds, nfds);
		r = -E_LIMIT;
	} else {
		r = peer_send(p, type, id, body->p, body->len, fds, nfds);
	}
	wire_free(body);
	return r;
}

/* ---- receiving */

/* Checks m against the table. The handler, or NULL with the reason in p->why. */
static const struct imsg_handler *
check(struct peer *p, const struct imsg *m)
{
	const struct imsg_handler *h = NULL;

	for (unsigned i = 0; i < p->ntable && h == NULL; i++) {
		if (p->table[i].type == m->hdr.type)
			h = &p->table[i];
	}
	if (h == NULL) {
		(void)snprintf(p->why, sizeof(p->why), "sent message %u, which is not for it to send", m->hdr.type);
		return NULL;
	}
	if ((h->states & p->state) == 0)
		(void)snprintf(p->why, sizeof(p->why), "sent %s in state 0x%x, where it is not legal", h->name, p->state);
	else if (m->hdr.len < h->min || m->hdr.len > h->max)
		(void)snprintf(p->why, sizeof(p->why), "sent %s with a body of %u bytes, %u to %u are legal", h->name,
		    m->hdr.len, h->min, h->max);
	else if (m->nfds > h->nfds || (m->nfds < h->nfds && (h->flags & IMSG_FDS_UPTO) == 0))
		(void)snprintf(p->why, sizeof(p->why), "sent %s with %d fds, %s%u are legal", h->name, m->nfds,
		    (h->flags & IMSG_FDS_UPTO) != 0 ? "0 to " : "", h->nfds);
	else
		return h;
	return NULL;
}

/* Hands one message to the table. The end of the peer, if that comes of it, is left to the caller to report. */
static void
dispatch(struct peer *p, struct imsg *m)
{
	const struct imsg_handler *h = check(p, m);
	uint32_t outer_id = p->cur_id;
	int outer_nfds = p->cur_nfds;
	bool outer = p->dispatching;
	struct wire body;

	if (h == NULL) {
		imsg_close_fds(m->fds, m->nfds);
		finish(p, LL_WARNING, p->why);
		return;
	}
	wire_read(&body, m->body, m->hdr.len);
	p->cur_id = m->hdr.id;
	p->cur_nfds = m->nfds;
	p->dispatching = true;
	if (h->fn(p, &body, m->fds) < 0) {
		imsg_close_fds(m->fds, m->nfds);
		if (p->fd != -1) {
			(void)snprintf(p->why, sizeof(p->why), "sent a malformed %s (%u bytes, %d fds)", h->name, m->hdr.len,
			    m->nfds);
			finish(p, LL_WARNING, p->why);
		}
	}
	p->dispatching = outer;
	p->cur_id = outer_id;
	p->cur_nfds = outer_nfds;
}

/* Receives one message, or ends the peer. 0, -E_AGAIN, or -E_CLOSED / -E_PROTO with the peer ended. */
static int
receive(struct peer *p, struct imsg *m)
{
	int r;

	if (p->fd == -1)
		return -E_CLOSED;
	r = imsg_recv(p->fd, m);
	if (r == 0 && m->hdr.version != p->version) {
		imsg_close_fds(m->fds, m->nfds);
		r = -E_PROTO;
	}
	if (r == 0 || (r == -E_AGAIN && !p->deaf))
		return r;
	if (r == -E_PROTO) {
		finish(p, LL_WARNING, "sent what is no message");
		return r;
	}
	finish(p, LL_DEBUG, text_closed);
	return -E_CLOSED;
}

static void
on_read(struct ev_loop *loop, ev_io *w, int events)
{
	struct peer *p = w->data;
	bool last = p->deaf;		/* then this is the last turn, and its one bound is what a socket can have queued */
	struct imsg m;

	(void)loop;
	(void)events;
	for (int i = 0; i < (last ? PEER_QUEUE_MAX : PEER_BATCH) && p->fd != -1; i++) {
		if (receive(p, &m) != 0)
			break;
		dispatch(p, &m);
	}
	if (last)
		finish(p, LL_DEBUG, text_closed);
	if (p->gone_due && !p->dispatching)	/* else a handler runs the loop, and the outer dispatch tells */
		tell_gone(p);
}

/* ---- waiting for one answer */

static int64_t
now_ms(void)
{
	struct timespec ts = { 0 };

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* One look at the channel, for at most ms. */
static int
wait_io(struct peer *p, int64_t ms)
{
	struct pollfd pfd = { .fd = p->fd, .events = (short)(p->head != NULL ? POLLIN | POLLOUT : POLLIN) };
	int r = poll(&pfd, 1, (int)ms);

	if (r == -1 && errno != EINTR) {
		finish(p, LL_WARNING, "cannot be waited for");
		return -E_CLOSED;
	}
	if (r > 0 && (pfd.revents & POLLOUT) != 0)
		flushed(p, queue_flush(p));
	return p->fd == -1 ? -E_CLOSED : 0;
}

int
peer_wait(struct peer *p, uint16_t type, uint32_t id, int ms, struct imsg *m)
{
	int64_t deadline = now_ms() + ms, left;
	bool outer = p->dispatching;
	int r;

	p->dispatching = true;		/* the caller still holds p: nobody is told before the loop runs */
	for (;;) {
		r = receive(p, m);
		if (r == 0 && m->hdr.type == type && m->hdr.id == id)
			break;
		if (r == 0)
			dispatch(p, m);
		else if (r != -E_AGAIN)
			break;
		left = deadline - now_ms();
		if (left <= 0) {
			r = p->fd == -1 ? -E_CLOSED : -E_TIMEOUT;
			break;
		}
		if (r == -E_AGAIN && (r = wait_io(p, left)) != 0)
			break;
	}
	p->dispatching = outer;
	tell_later(p);
	return r;
}

/* ---- life */

void
peer_open(struct peer *p, struct ev_loop *loop, int fd, const char *name, const struct imsg_handler *table, unsigned n,
    void *arg, void (*on_gone)(struct peer *, const char *why))
{
	memset(p, 0, sizeof(*p));
	p->fd = fd;
	p->name = name;
	p->table = table;
	p->ntable = n;
	p->arg = arg;
	p->on_gone = on_gone;
	p->loop = loop;
	p->version = IMSG_VERSION;
	p->tail = &p->head;
	ev_io_init(&p->rd, on_read, fd, EV_READ);
	ev_io_init(&p->wr, on_write, fd, EV_WRITE);
	p->rd.data = p;
	p->wr.data = p;
	ev_io_start(loop, &p->rd);
}

void
peer_close(struct peer *p)
{
	p->gone_due = false;
	if (p->loop == NULL)		/* never opened */
		return;
	if (p->fd == -1) {
		ev_clear_pending(p->loop, &p->wr);
		return;
	}
	(void)queue_flush(p);
	release(p);
}
