/* SPDX-License-Identifier: MIT */
/* What all byte-stream layers share: telling, failing, closing with a bounded wait for sealed bytes, and the reaper. Called by
 * every layer and every user of one; owns nothing but the linger records of streams that are closing. The contract is in
 * stream.h. */
#include "worker/stream/stream.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LINGER_MS = 5000 };

struct closing {			/* a closed stream whose last record is not out yet; at most LINGER_MS */
	struct stream *s;
	ev_timer timer;
	bool shutting;		/* shut_wr() wants to be called again */
};

ssize_t
stream_read(struct stream *s, void *p, size_t n)
{
	struct iovec v = { p, n };

	return s->ops->readv(s, &v, 1);
}

ssize_t
stream_write(struct stream *s, const void *p, size_t n)
{
	struct iovec v = { NULL, n };

	memcpy(&v.iov_base, &p, sizeof(p));	/* writers do not write to it */
	return s->ops->writev(s, &v, 1);
}

int
stream_flush(struct stream *s)
{
	return s->ops->flush == NULL ? 0 : s->ops->flush(s);
}

int
stream_shut_wr(struct stream *s)
{
	return s->ops->shut_wr == NULL ? -E_UNSUP : s->ops->shut_wr(s);
}

int
stream_raw_fd(const struct stream *s, int dir)
{
	return s->ops->raw_fd == NULL ? -1 : s->ops->raw_fd(s, dir);
}

void
stream_set_cb(struct stream *s, stream_cb *cb, void *arg)
{
	s->cb = cb;
	s->arg = arg;
}

const char *
stream_why(const struct stream *s)
{
	return s->text != NULL ? s->text : err_text(s->err);
}

static void
run_ready(struct loop_task *t)
{
	struct stream *s = container_of(t, struct stream, task);
	unsigned events = s->ready & (s->wanted | ST_OPEN | ST_FAIL);

	s->state |= s->ready & ST_OPEN;
	s->ready = 0;
	if (events != 0)
		stream_tell(s, (int)events);
}

void
stream_init(struct stream *s, const struct stream_ops *ops, struct loop *loop, struct stream *lower)
{
	*s = (struct stream){ .ops = ops, .loop = loop, .lower = lower };
	loop_task_init(&s->task, run_ready);
}

void
stream_ready(struct stream *s, int events)
{
	if (s->task.fn != run_ready)		/* the reaper has it */
		return;
	s->ready |= (unsigned)events;
	loop_defer(s->loop, &s->task);
}

void
stream_tell(struct stream *s, int events)
{
	if (s->cb != NULL)
		s->cb(s, events, s->arg);
}

/* Out of memory only costs the text. */
__attribute__((format(printf, 2, 0)))
static char *
make_text(int sys_errno, const char *fmt, va_list ap)
{
	char *p = malloc(STREAM_TEXT_MAX);
	int n;

	if (p == NULL)
		return NULL;
	n = vsnprintf(p, STREAM_TEXT_MAX, fmt, ap);
	if (n < 0)
		n = 0;
	if (sys_errno != 0 && n < STREAM_TEXT_MAX) {
		const char *why = strerrordesc_np(sys_errno);

		snprintf(p + n, (size_t)(STREAM_TEXT_MAX - n), ": %s", why != NULL ? why : "unknown error");
		if (n + 2 < STREAM_TEXT_MAX && p[n + 2] >= 'A' && p[n + 2] <= 'Z')
			p[n + 2] = (char)(p[n + 2] - 'A' + 'a');
	}
	return p;
}

void
stream_fail(struct stream *s, int code, int sys_errno, const char *fmt, ...)
{
	va_list ap;

	if ((s->state & ST_FAIL) != 0)
		return;
	s->state |= ST_FAIL;
	s->err = code < 0 ? -code : code;
	va_start(ap, fmt);
	s->text = make_text(sys_errno, fmt, ap);
	va_end(ap);
	stream_ready(s, ST_FAIL);
}

static void
reap(struct loop_task *t)
{
	struct stream *s = container_of(t, struct stream, task);

	free(s->text);
	s->text = NULL;
	s->ops->destroy(s);
}

/* The upper layer is buried first, so its destroy() still finds the lower one's memory. */
static void
bury(struct stream *s)
{
	struct stream *lower = s->lower;

	s->cb = NULL;
	s->task.fn = reap;
	loop_bury(s->loop, &s->task);
	if (lower != NULL)
		stream_close(lower, s->how);
}

static void
linger_end(struct closing *l)
{
	ev_timer_stop(l->s->loop->ev, &l->timer);
	bury(l->s);
	free(l);
}

static void
on_linger(struct stream *s, int events, void *arg)
{
	struct closing *l = arg;

	if ((events & ST_FAIL) == 0) {
		if (l->shutting && stream_shut_wr(s) == -E_AGAIN)
			return;
		l->shutting = false;
		if (stream_flush(s) == -E_AGAIN)
			return;
	}
	linger_end(l);
}

static void
on_linger_over(struct ev_loop *ev, ev_timer *w, int revents)
{
	(void)ev;
	(void)revents;
	linger_end(container_of(w, struct closing, timer));
}

/* True when s waits for its last bytes. */
static bool
linger_start(struct stream *s)
{
	struct closing *l;
	bool shutting;

	if (s->ops->flush == NULL || (s->state & (ST_OPEN | ST_FAIL)) != ST_OPEN || s->err != 0)
		return false;
	shutting = s->lower != NULL && stream_shut_wr(s) == -E_AGAIN;
	if (!shutting && stream_flush(s) != -E_AGAIN)
		return false;
	l = malloc(sizeof(*l));
	if (l == NULL)
		return false;
	*l = (struct closing){ .s = s, .shutting = shutting };
	ev_timer_init(&l->timer, on_linger_over, LINGER_MS / 1000.0, 0.0);
	ev_timer_start(s->loop->ev, &l->timer);
	stream_set_cb(s, on_linger, l);
	stream_want(s, ST_WRITE);
	return true;
}

void
stream_close(struct stream *s, enum stream_close_how how)
{
	if (s == NULL || (s->state & ST_CLOSED) != 0)
		return;
	s->state |= ST_CLOSED;
	s->how = how;
	s->cb = NULL;
	if (how == CLOSE_FLUSH && linger_start(s))
		return;
	bury(s);
}
