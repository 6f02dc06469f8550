/* SPDX-License-Identifier: MIT */
/* Acknowledged changes: a state-changing call of the API is answered only when every serving worker has acknowledged it, so
 * that no connection accepted after the answer sees the old state. Workers of a starting generation get the change too, after
 * their snapshot, but are not waited for. A worker that does not acknowledge in time is replaced. Payloads are opaque here.
 * Cap: CHANGES_MAX in flight, then 503. */
#include "supervisor/change.h"

#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "common/log.h"
#include "supervisor/child.h"
#include "supervisor/messages.h"

struct change {
	struct list link;
	struct sup *sup;
	uint32_t seq, id;
	struct child *asker;		/* who is told the result; NULL: nobody, or it went away */
	struct child *waiting[WORKERS_MAX];
	int n_waiting;
	struct msg_result result;	/* the first acknowledgement, or the first that was not 204 */
	bool alone;			/* a lead's, and it is the only serving worker */
	double limit;			/* seconds */
	ev_timer timer;
};
struct changes {
	struct list all;
	uint32_t last_seq, count;
};

void
changes_init(struct sup *s)
{
	s->changes = calloc(1, sizeof *s->changes);
	if (s->changes == NULL)
		fatal("out of memory");
	list_init(&s->changes->all);
}

static void
finish(struct change *c)
{
	struct sup *s = c->sup;

	ev_timer_stop(s->loop, &c->timer);
	if (c->result.status == 0) {
		/* the lead has made the change itself already: with no other worker that is all */
		c->result.status = c->alone ? 204 : 503;
		if (!c->alone)
			memcpy(c->result.text, "no worker acknowledged the change", 34);
	}
	if (c->asker != NULL)
		child_send(c->asker, MSG_RESULT, c->id, &c->result, sizeof c->result, -1);
	list_remove(&c->link);
	s->changes->count--;
	free(c);
}

static void
on_timeout(struct ev_loop *loop, ev_timer *t, int events)
{
	struct change *c = t->data;

	(void)loop;
	(void)events;
	for (int i = 0; i < c->n_waiting; i++) {
		log_error("%s did not acknowledge a change within %.0f s: it is replaced", c->waiting[i]->name, c->limit);
		kill(c->waiting[i]->pid, SIGKILL);
	}
	c->n_waiting = 0;
	finish(c);
}

void
changes_start(struct sup *s, struct child *asker, uint32_t id, struct child *except, const struct msg_change *m,
    const void *payload, size_t len)
{
	uint8_t body[IMSG_BODY_MAX];
	struct msg_change head = *m;
	struct change *c = s->changes->count < CHANGES_MAX ? calloc(1, sizeof *c) : NULL;

	if (c == NULL || len + sizeof head > sizeof body) {
		free(c);
		if (asker != NULL)
			messages_result(&asker->peer, id, 503, NULL, "too many changes are waiting");
		return;
	}
	c->sup = s;
	c->id = id;
	c->asker = asker;
	/* a rule set may have to be compiled first */
	c->limit = m->kind == CHANGE_RULE_SET || m->kind == CHANGE_GEO ? LOADER_TIMEOUT_S + CHANGE_TIMEOUT_S : CHANGE_TIMEOUT_S;
	c->seq = head.seq = ++s->changes->last_seq;
	memcpy(body, &head, sizeof head);
	memcpy(body + sizeof head, payload, len);
	list_append(&s->changes->all, &c->link);
	s->changes->count++;
	ev_timer_init(&c->timer, on_timeout, c->limit, 0);
	c->timer.data = c;
	ev_timer_start(s->loop, &c->timer);
	list_each(n, &s->children) {
		struct child *w = container_of(n, struct child, link);

		if (w->role != ROLE_WORKER || w == except || w->state == CH_DRAINING || w->stopping)
			continue;
		if (child_send(w, MSG_CHANGE, 0, body, sizeof head + len, -1) == 0 && w->state == CH_SERVING)
			c->waiting[c->n_waiting++] = w;
	}
	c->alone = except != NULL && c->n_waiting == 0;
	if (c->n_waiting == 0)
		finish(c);
}

static void
settle(struct change *c, const struct child *w)
{
	for (int i = 0; i < c->n_waiting; i++)
		if (c->waiting[i] == w) {
			c->waiting[i] = c->waiting[--c->n_waiting];
			break;
		}
	if (c->n_waiting == 0)
		finish(c);
}

void
changes_ack(struct sup *s, struct child *w, uint32_t seq, const struct msg_result *r)
{
	list_each_safe(n, tmp, &s->changes->all) {
		struct change *c = container_of(n, struct change, link);

		if (c->seq != seq)
			continue;
		if (c->result.status == 0 || (c->result.status == 204 && r->status != 204))
			c->result = *r;
		c->result.key[sizeof c->result.key - 1] = c->result.text[sizeof c->result.text - 1] = '\0';
		settle(c, w);
		return;
	}
}

void
changes_child_gone(struct sup *s, struct child *w)
{
	list_each_safe(n, tmp, &s->changes->all) {
		struct change *c = container_of(n, struct change, link);

		if (c->asker == w)
			c->asker = NULL;
		settle(c, w);
	}
}

bool
changes_busy(const struct sup *s)
{
	return s->changes->count > 0;
}

uint32_t
changes_sequence(const struct sup *s)
{
	return s->changes->last_seq;
}

void
changes_resume(struct sup *s, uint32_t last_seq)
{
	s->changes->last_seq = last_seq;
}
