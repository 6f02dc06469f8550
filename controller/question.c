/* SPDX-License-Identifier: MIT */
/* Questions to the workers and the supervisor, from civetweb's threads (bridge_call) and from the loop (bridge_ask). A thread
 * queues its question under the one mutex here, rings the eventfd and sleeps on the question's condition; all else happens on
 * the loop. Every question has a deadline there, so no thread sleeps for ever; a worker that goes away counts as an answer of
 * status 0, but where one of them is asked for all: then the next one is. While none serves (the only one died) questions wait.
 *
 * Owns what is queued and in flight, and the answers' memory until bridge_free(). */
#include "controller/question.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/err.h"
#include "common/memfd.h"
#include "common/wire.h"
#include "controller/ctl.h"

/* ---- questions on the loop */

static void
answer_free(struct bridge_answer *a)
{
	void *p;

	memcpy(&p, &a->data, sizeof(p));	/* lent as const */
	if (a->mapped && p != NULL)
		munmap(p, a->len);
	else
		free(p);
	if (a->fd != -1)
		close(a->fd);
	a->data = NULL;
	a->fd = -1;
}

void
bridge_free(struct bridge_reply *r)
{
	for (int i = 0; i < r->n; i++)
		answer_free(&r->answer[i]);
	r->n = 0;
}

void
question_end(struct bridge *b, struct question *q, int err)
{
	ev_timer_stop(b->ctl->loop, &q->timer);
	if (q->number != 0 && b->table[q->number % BRIDGE_INFLIGHT_MAX] == q)
		b->table[q->number % BRIDGE_INFLIGHT_MAX] = NULL;
	if (q->fd != -1)
		close(q->fd);
	q->fd = -1;
	free(q->body);
	q->body = NULL;
	q->err = err;
	if (q->done == NULL) {		/* the thread frees what is left */
		pthread_mutex_lock(&b->lock);
		q->ended = true;
		pthread_cond_signal(&q->wake);
		pthread_mutex_unlock(&b->lock);
		return;
	}
	q->done(b->ctl, err, q->out, q->arg);
	bridge_free(q->out);
	free(q->out);
	free(q);
}

static void
on_deadline(struct ev_loop *loop, ev_timer *t, int events)
{
	struct question *q = t->data;

	(void)loop;
	(void)events;
	question_end(q->ctl->bridge, q, q->waits ? -E_CLOSED : -E_TIMEOUT);
}

static bool
is_serving(const struct worker *w, uint32_t generation)
{
	return w->id.state == CH_SERVING && w->id.generation == generation && w->peer.fd != -1;
}

static uint32_t
serving_generation(const struct bridge *b)
{
	uint32_t newest = 0;

	list_each(l, &b->workers) {
		const struct worker *w = container_of(l, struct worker, link);
		if (w->id.state == CH_SERVING && w->id.generation > newest)
			newest = w->id.generation;
	}
	return newest;
}

static void
ask_worker(struct question *q, struct worker *w)
{
	const struct msg_query head = { .kind = q->kind };
	struct bridge_answer *a;
	struct wire body;

	if (q->out->n == BRIDGE_ANSWERS_MAX)
		return;
	a = &q->out->answer[q->out->n];
	memset(a, 0, sizeof(*a));
	a->fd = -1;
	a->generation = w->id.generation;
	a->index = w->id.index;
	wire_init(&body);
	wire_put(&body, &head, sizeof(head));
	if (q->len > 0)
		wire_put(&body, q->body, q->len);
	q->asked[q->out->n++] = w;
	q->missing++;
	if (peer_send_wire(&w->peer, q->type, q->number, &body, NULL, 0) != 0) {
		q->asked[q->out->n - 1] = NULL;
		q->missing--;
	}
}

/* Worker 0; while it is being replaced after a crash, the next one: every worker knows what the lead shows. */
static struct worker *
find_lead(const struct bridge *b, uint32_t generation)
{
	struct worker *lead = NULL;

	list_each(l, &b->workers) {
		struct worker *w = container_of(l, struct worker, link);
		if (is_serving(w, generation) && (lead == NULL || w->id.index < lead->id.index))
			lead = w;
	}
	return lead;
}

static void
ask_workers(struct bridge *b, struct question *q)
{
	uint32_t newest = serving_generation(b);

	if (q->to == BRIDGE_LEAD) {
		struct worker *lead = find_lead(b, newest);
		if (lead != NULL)
			ask_worker(q, lead);
		return;
	}
	list_each(l, &b->workers) {
		struct worker *w = container_of(l, struct worker, link);
		if (w->peer.fd != -1 && (q->to == BRIDGE_WORKERS || is_serving(w, newest)))
			ask_worker(q, w);
	}
}

static int
ask_supervisor(struct bridge *b, struct question *q)
{
	int fd = q->fd;

	q->fd = -1;
	memset(&q->out->answer[0], 0, sizeof(q->out->answer[0]));
	q->out->answer[0].fd = -1;
	q->missing = 1;
	return peer_send(&b->supervisor, q->type, q->number, q->body, q->len, &fd, fd != -1 ? 1 : 0);
}

/* Gives it a number and sends it; may end it at once. */
static void
question_begin(struct bridge *b, struct question *q)
{
	int err = -E_LIMIT;

	for (int i = 0; i < BRIDGE_INFLIGHT_MAX && q->number == 0; i++) {
		b->last = b->last >= INT32_MAX ? 1 : b->last + 1;	/* the upper half is life.c's */
		if (b->table[b->last % BRIDGE_INFLIGHT_MAX] == NULL)
			q->number = b->last;
	}
	if (q->number != 0) {
		b->table[q->number % BRIDGE_INFLIGHT_MAX] = q;
		if (q->to == BRIDGE_SUPERVISOR) {
			err = ask_supervisor(b, q) == 0 ? 0 : -E_CLOSED;
		} else {
			ask_workers(b, q);
			q->waits = q->missing == 0;
			err = 0;
		}
	}
	if (err != 0) {
		question_end(b, q, err);
		return;
	}
	ev_timer_set(&q->timer, q->ms / 1000., 0.);
	ev_now_update(b->ctl->loop);
	ev_timer_start(b->ctl->loop, &q->timer);
}

void
question_ring(struct bridge *b)
{
	for (;;) {
		struct question *q = NULL;
		pthread_mutex_lock(&b->lock);
		if (!list_empty(&b->queue)) {
			q = container_of(b->queue.next, struct question, link);
			list_remove(&q->link);
			b->nqueue--;
		}
		pthread_mutex_unlock(&b->lock);
		if (q == NULL)
			return;
		question_begin(b, q);
	}
}

void
question_forget(struct bridge *b, const struct worker *w)
{
	for (int i = 0; i < BRIDGE_INFLIGHT_MAX; i++) {
		struct question *q = b->table[i];
		bool found = false;
		for (int k = 0; q != NULL && q->to != BRIDGE_SUPERVISOR && k < q->out->n; k++)
			if (q->asked[k] == w) {
				q->asked[k] = NULL;
				found = true;
			}
		if (!found || --q->missing > 0)
			continue;
		/* a lead that ended before it answered: its successor is asked, once */
		if (q->to == BRIDGE_LEAD && !q->again) {
			q->again = true;
			q->out->n = 0;
			ask_workers(b, q);
			q->waits = q->missing == 0;
		}
		if (q->missing == 0 && !q->waits)
			question_end(b, q, 0);
	}
}

void
question_go_on(struct bridge *b)
{
	for (int i = 0; i < BRIDGE_INFLIGHT_MAX; i++) {
		struct question *q = b->table[i];

		if (q == NULL || !q->waits)
			continue;
		ask_workers(b, q);
		q->waits = q->missing == 0;
	}
}

struct question *
question_find(struct bridge *b, uint32_t number, bool of_workers)
{
	struct question *q = b->table[number % BRIDGE_INFLIGHT_MAX];

	return q != NULL && q->number == number && (q->to != BRIDGE_SUPERVISOR) == of_workers ? q : NULL;
}

/* ---- asking */

/* Copies the question; takes fd. */
static int
question_fill(struct question *q, struct ctl *ctl, enum bridge_to to, uint16_t type, uint32_t kind, const void *body, size_t len, int fd,
    unsigned ms)
{
	memset(q, 0, sizeof(*q));
	list_init(&q->link);
	q->ctl = ctl;
	q->to = to;
	q->type = type;
	q->kind = kind;
	q->fd = fd;
	q->ms = ms;
	ev_timer_init(&q->timer, on_deadline, 0., 0.);
	q->timer.data = q;
	if (len == 0)
		return 0;
	q->body = malloc(len);
	if (q->body == NULL)
		return -E_NOMEM;
	memcpy(q->body, body, len);
	q->len = len;
	return 0;
}

static int
enqueue(struct bridge *b, struct question *q)
{
	const uint64_t one = 1;
	int r = 0;

	pthread_mutex_lock(&b->lock);
	if (b->shut) {
		r = -E_CLOSED;
	} else if (b->nqueue >= QUEUE_MAX) {
		r = -E_LIMIT;
	} else {
		list_append(&b->queue, &q->link);
		b->nqueue++;
	}
	pthread_mutex_unlock(&b->lock);
	if (r == 0)
		(void)!write(b->bell, &one, sizeof(one));
	return r;
}

int
bridge_call(struct ctl *ctl, enum bridge_to to, uint16_t type, uint32_t kind, const void *body, size_t len, int fd, unsigned ms,
    struct bridge_reply *out)
{
	struct bridge *b = ctl->bridge;
	struct question q;
	int r;

	out->n = 0;
	out->type = 0;
	r = question_fill(&q, ctl, to, type, kind, body, len, fd, ms);
	q.out = out;
	if (r == 0 && pthread_cond_init(&q.wake, NULL) != 0)
		r = -E_NOMEM;
	if (r != 0) {
		free(q.body);
		if (fd != -1)
			close(fd);
		return r;
	}
	r = enqueue(b, &q);
	if (r == 0) {
		pthread_mutex_lock(&b->lock);
		while (!q.ended)
			pthread_cond_wait(&q.wake, &b->lock);
		pthread_mutex_unlock(&b->lock);
		r = q.err;
	} else {
		free(q.body);
		if (fd != -1)
			close(fd);
	}
	pthread_cond_destroy(&q.wake);
	return r;
}

int
bridge_ask(struct ctl *ctl, enum bridge_to to, uint16_t type, uint32_t kind, const void *body, size_t len, int fd, unsigned ms,
    bridge_cb *done, void *arg)
{
	struct question *q = malloc(sizeof(*q));
	struct bridge_reply *out = calloc(1, sizeof(*out));
	int r = -E_NOMEM;

	if (q == NULL || out == NULL)
		goto out;
	r = question_fill(q, ctl, to, type, kind, body, len, fd, ms);
	if (r != 0)
		goto out;
	q->out = out;
	q->done = done;
	q->arg = arg;
	/* through the queue as well: done() is never called inside of this call */
	r = enqueue(ctl->bridge, q);
	if (r == 0)
		return 0;
	free(q->body);
out:
	if (fd != -1)
		close(fd);
	free(q);
	free(out);
	return r;
}

/* ---- answers */

int
answer_inline(struct bridge_answer *a, const uint8_t *p, size_t n)
{
	uint8_t *copy = malloc(n > 0 ? n : 1);

	if (copy == NULL)
		return -E_NOMEM;
	memcpy(copy, p, n);
	a->data = copy;
	a->len = n;
	return 0;
}

int
answer_memfd(struct bridge_answer *a, int fd)
{
	const void *p;
	size_t n;

	if (memfd_map(fd, &p, &n, BRIDGE_DATA_MAX) != 0)
		return -E_PROTO;
	a->data = p;
	a->len = n;
	a->mapped = p != NULL;
	return 0;
}

void
bridge_shut(struct ctl *ctl)
{
	struct bridge *b = ctl->bridge;

	pthread_mutex_lock(&b->lock);
	b->shut = true;
	pthread_mutex_unlock(&b->lock);
	while (!list_empty(&b->queue)) {	/* nobody adds any more */
		struct question *q = container_of(b->queue.next, struct question, link);
		list_remove(&q->link);
		question_end(b, q, -E_CLOSED);
	}
	for (int i = 0; i < BRIDGE_INFLIGHT_MAX; i++)
		if (b->table[i] != NULL)
			question_end(b, b->table[i], -E_CLOSED);
}
