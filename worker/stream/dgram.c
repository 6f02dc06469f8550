/* SPDX-License-Identifier: MIT */
/* What all packet layers share: failing, closing, the reaper, and the small queue of packets that wait for a way to open.
 * Called by the outbounds and by UDP sessions; owns the queued copies. */
#include "worker/stream/dgram.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/stream/stream.h"

struct dgram_queued {
	struct dgram_queued *next;
	struct ip ip;
	uint16_t port;
	size_t len, host_len;
	uint8_t data[];			/* host, NUL, payload */
};

static void
run_fail(struct loop_task *t)
{
	struct dgram *d = container_of(t, struct dgram, task);

	if (d->cb != NULL)
		d->cb(d, ST_FAIL, NULL, 0, d->arg);
}

void
dgram_init(struct dgram *d, const struct dgram_ops *ops, struct loop *loop)
{
	*d = (struct dgram){ .ops = ops, .loop = loop };
	loop_task_init(&d->task, run_fail);
}

void
dgram_fail(struct dgram *d, int code, int sys_errno, const char *fmt, ...)
{
	va_list ap;
	const char *why;
	int n;

	if ((d->state & (ST_FAIL | ST_CLOSED)) != 0)
		return;
	d->state |= ST_FAIL;
	d->err = code < 0 ? -code : code;
	d->text = malloc(STREAM_TEXT_MAX);	/* out of memory only costs the text */
	if (d->text != NULL) {
		va_start(ap, fmt);
		n = vsnprintf(d->text, STREAM_TEXT_MAX, fmt, ap);
		va_end(ap);
		why = sys_errno != 0 ? strerrordesc_np(sys_errno) : NULL;
		if (why != NULL && n >= 0 && n < STREAM_TEXT_MAX)
			snprintf(d->text + n, (size_t)(STREAM_TEXT_MAX - n), ": %s", why);
	}
	loop_defer(d->loop, &d->task);
}

static void
reap(struct loop_task *t)
{
	struct dgram *d = container_of(t, struct dgram, task);

	free(d->text);
	d->text = NULL;
	d->ops->destroy(d);
}

void
dgram_close(struct dgram *d)
{
	if (d == NULL || (d->state & ST_CLOSED) != 0)
		return;
	d->state |= ST_CLOSED;
	d->cb = NULL;
	d->task.fn = reap;
	loop_bury(d->loop, &d->task);
}

const char *
dgram_why(const struct dgram *d)
{
	return d->text != NULL ? d->text : err_text(d->err);
}

int
dgram_freeze(struct dgram *d, struct wire *w, int *fds)
{
	if (d->ops->freeze == NULL || (d->state & (ST_OPEN | ST_FAIL | ST_CLOSED)) != ST_OPEN)
		return -E_UNSUP;
	wire_put_str(w, d->ops->name);
	return d->ops->freeze(d, w, fds);
}

int
dgram_queue_put(struct dgram_queue *q, const struct packet *p)
{
	size_t host_len = p->addr.host != NULL ? strlen(p->addr.host) : 0;
	struct dgram_queued *d;

	if (q->n >= DGRAM_EARLY || p->len > DGRAM_EARLY_BYTES - q->bytes || host_len > HOST_MAX)
		return -E_AGAIN;
	d = malloc(sizeof(*d) + host_len + 1 + p->len);
	if (d == NULL)
		return -E_NOMEM;
	*d = (struct dgram_queued){ .ip = p->addr.ip, .port = p->addr.port, .len = p->len, .host_len = host_len };
	if (host_len != 0)
		memcpy(d->data, p->addr.host, host_len);
	d->data[host_len] = '\0';
	if (p->len != 0)
		memcpy(d->data + host_len + 1, p->data, p->len);
	if (q->tail != NULL)
		q->tail->next = d;
	else
		q->head = d;
	q->tail = d;
	q->n++;
	q->bytes += p->len;
	return 0;
}

void
dgram_queue_drain(struct dgram_queue *q, void (*give)(void *arg, const struct packet *p), void *arg)
{
	struct dgram_queued *d = q->head;

	*q = (struct dgram_queue){ .head = NULL };	/* give() may close the queue's owner */
	while (d != NULL) {
		struct dgram_queued *next = d->next;
		struct packet p = { .data = d->data + d->host_len + 1, .len = d->len,
			.addr = { .host = (const char *)d->data, .ip = d->ip, .port = d->port } };

		give(arg, &p);
		free(d);
		d = next;
	}
}

static void
give_nothing(void *arg, const struct packet *p)
{
	(void)arg;
	(void)p;
}

void
dgram_queue_clear(struct dgram_queue *q)
{
	dgram_queue_drain(q, give_nothing, NULL);
}
