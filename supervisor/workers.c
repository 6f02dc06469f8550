/* SPDX-License-Identifier: MIT */
/* The workers of a generation that serves: started, drained, started again when they die, replaced when they grow too large.
 * Called by reload.c and messages.c; owns nothing but the fields of struct generation named here.
 *
 * A worker that dies loses its own flows and nothing else: at once another living one is sent its listener slots (ADOPT;
 * generation.reader says who reads whose), so no connection waits for the start of a new worker or for its back-off. When that
 * one is READY, the stand-in gives the slots back (RETURN) with the UDP sessions that began meanwhile. A generation of one
 * worker has no stand-in: connections wait in the accept queues. Worker 0's stand-in leads for DNS, too: it has the DNS
 * listeners, and the others ask it. */
#include "supervisor/workers.h"

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <unistd.h>

#include "common/log.h"
#include "supervisor/child.h"
#include "supervisor/controller.h"
#include "supervisor/lastgood.h"
#include "supervisor/listeners.h"
#include "supervisor/logsink.h"
#include "supervisor/messages.h"
#include "supervisor/reload.h"
#include "supervisor/state.h"
#include "supervisor/upgrade.h"

enum { REPLACE_AFTER_S = 10 };	/* a worker that is over its memory limit sooner serves a load that needs more: a new one would be no better */

int
workers_count(const struct msg_job_done *o)
{
	cpu_set_t set;
	int n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
	long long quota = 0, period = 0;
	FILE *f;

	if (o->workers > 0)
		return o->workers > WORKERS_MAX ? WORKERS_MAX : (int)o->workers;
	f = fopen("/sys/fs/cgroup/cpu.max", "re");
	if (f != NULL) {
		if (fscanf(f, "%lld %lld", &quota, &period) == 2 && quota > 0 && period > 0 && quota / period < n)
			n = quota / period > 0 ? (int)(quota / period) : 1;
		fclose(f);
	}
	return n > WORKERS_AUTO_MAX ? WORKERS_AUTO_MAX : n;
}

struct child *
workers_start(struct generation *g, uint32_t index, unsigned keep, struct child **at)
{
	struct sup *s = g->sup;
	struct child *c = child_spawn(s, ROLE_WORKER, g, index);
	struct msg_hello hello = { .generation = g->number,
		.index = index,
		.workers = (uint32_t)g->n_workers,
		.log_level = (uint32_t)logsink_level(s),
		.flags = (s->opt.command == CMD_TEST ? HELLO_TEST : 0) | (s->opt.geodata_mode ? HELLO_GEODATA_MODE : 0) };
	struct msg_config config = { 0 };
	int fds[2];

	if (c == NULL)
		return NULL;
	*at = c;
	fds[0] = state_page_take(s, c);
	fds[1] = fcntl(s->shared_fd, F_DUPFD_CLOEXEC, 3);
	if (fds[0] < 0 || fds[1] < 0) {
		log_error("%s: no counter page is free", c->name);
		child_kill(c);
		imsg_close_fds(fds, fds[0] < 0 ? 0 : 1);
		return NULL;
	}
	hello.slot = c->slot;
	peer_send(&c->peer, MSG_HELLO, 0, &hello, sizeof hello, fds, 2);
	state_send(s, c, keep);
	child_send(c, MSG_CONFIG, 0, &config, sizeof config, fcntl(g->tree_fd, F_DUPFD_CLOEXEC, 3));
	return c;
}

/* ---- hand-over */

static void
channel(struct child *from, struct child *to, uint16_t flags)
{
	struct msg_handoff give = { .peer_generation = to->gen->number,
		.peer_index = to->index,
		.peer_workers = (uint32_t)to->gen->n_workers,
		.sender = 1,
		.flags = flags };
	struct msg_handoff take = { .peer_generation = from->gen->number,
		.peer_index = from->index,
		.peer_workers = (uint32_t)from->gen->n_workers,
		.flags = flags };
	int pair[2];

	if (from->ipc != to->ipc || imsg_pair(pair) != 0)	/* workers speak their own version only: it drains */
		return;
	child_send(to, MSG_HANDOFF, 0, &take, sizeof take, pair[1]);
	child_send(from, MSG_HANDOFF, 0, &give, sizeof give, pair[0]);
	if (flags & HANDOFF_PRIMARY)
		from->heir = to->pid;
}

/* The heirs are the one that takes the connections, and those that have the slots this worker read: its UDP sessions must be
 * where their clients' datagrams arrive. */
void
workers_drain(struct child *w, struct generation *to)
{
	uint32_t n = (uint32_t)to->n_workers, primary = w->index % n, heirs = 1u << primary;

	for (uint32_t slot = 0; slot < LISTEN_SLOTS_MAX; slot++)
		if (w->gen->reader[slot % (uint32_t)w->gen->n_workers] == w->index)
			heirs |= 1u << slot % n;
	for (uint32_t i = 0; i < n; i++)
		if ((heirs & 1u << i) != 0 && to->worker[i] != NULL)
			channel(w, to->worker[i], i == primary ? HANDOFF_PRIMARY : 0);
	child_send(w, MSG_DRAIN, 0, NULL, 0, -1);
	messages_set_state(w, CH_DRAINING);
}

static bool
serves(const struct child *c)
{
	return c != NULL && c->state == CH_SERVING && !c->stopping;
}

static struct child *
heir_of(const struct child *w, const struct generation *g)
{
	uint32_t n = (uint32_t)g->n_workers;

	for (uint32_t i = 0; i < n; i++)
		if (serves(g->worker[i]) && g->worker[i]->pid == w->heir)
			return g->worker[i];
	return NULL;
}

void
workers_rehome(struct sup *s)
{
	struct generation *g = s->serving;

	list_each(k, &s->children) {
		struct child *w = container_of(k, struct child, link);

		if (w->role != ROLE_WORKER || w->state != CH_DRAINING || w->stopping || w->gen == NULL || heir_of(w, g) != NULL)
			continue;
		for (uint32_t i = 0; i < (uint32_t)g->n_workers; i++) {
			struct child *to = g->worker[(w->index + i) % (uint32_t)g->n_workers];

			if (serves(to)) {
				channel(w, to, HANDOFF_PRIMARY | HANDOFF_LATE);
				break;
			}
		}
	}
}

/* ---- who leads for DNS: worker 0, or who reads its listeners */

static void
link_one(struct child *lead, struct child *other)
{
	struct msg_dns_link m = { .lead = 1 };
	int pair[2];

	if (lead->ipc != other->ipc || imsg_pair(pair) != 0)	/* it asks for itself */
		return;
	child_send(lead, MSG_DNS_LINK, 0, &m, sizeof m, pair[0]);
	m.lead = 0;
	child_send(other, MSG_DNS_LINK, 0, &m, sizeof m, pair[1]);
}

void
workers_link(struct generation *g, struct child *only)
{
	struct child *lead = g->reader[0] != NOBODY ? g->worker[g->reader[0]] : NULL;

	if (lead == NULL)
		return;
	if (only == lead)
		only = NULL;
	for (int i = 0; i < g->n_workers; i++) {
		struct child *c = g->worker[i];

		if (c != NULL && c != lead && (c->state == CH_READY || c->state == CH_SERVING) && !c->stopping &&
		    (only == NULL || c == only))
			link_one(lead, c);
	}
}

/* A stand-in leads: before it is given the DNS listeners it may write the memory that belongs to them. */
static void
appoint(struct generation *g, struct child *c)
{
	struct msg_dns_lead m = { .name = "" };
	int fd;

	child_send(c, MSG_DNS_LEAD, 0, &m, sizeof m, -1);
	for (int k = 0; k < SHARED_KINDS; k++) {
		fd = state_shared_dup(g->sup, k, m.name, sizeof m.name);
		if (fd != -1)
			child_send(c, MSG_DNS_LEAD, 0, &m, sizeof m, fd);
	}
	workers_link(g, NULL);
}

/* ---- stand-ins */

/* c reads the slots of that worker from now on. */
static void
stand_in(struct generation *g, struct child *c, uint32_t index)
{
	g->reader[index] = (uint8_t)c->index;
	if (index == 0)
		appoint(g, c);
	listeners_adopt(g->sup, c, index, NULL);
}

static void
take_over(struct generation *g, uint32_t dead)
{
	struct child *c = NULL;

	for (uint32_t k = 1; k < (uint32_t)g->n_workers && !serves(c); k++)
		c = g->worker[(dead + k) % (uint32_t)g->n_workers];
	for (uint32_t i = 0; i < (uint32_t)g->n_workers; i++) {
		if (g->reader[i] != dead)
			continue;
		g->reader[i] = NOBODY;
		if (serves(c))
			stand_in(g, c, i);
	}
}

static void
give_back(struct generation *g, struct child *c)
{
	struct msg_return m = { .index = c->index };
	uint8_t reader = g->reader[c->index];

	g->reader[c->index] = (uint8_t)c->index;
	if (reader == c->index || reader == NOBODY || !serves(g->worker[reader]))
		return;
	channel(g->worker[reader], c, 0);
	child_send(g->worker[reader], MSG_RETURN, 0, &m, sizeof m, -1);
}

/* What nobody reads since all were dead. */
static void
take_orphans(struct generation *g, struct child *c)
{
	for (uint32_t i = 0; i < (uint32_t)g->n_workers; i++)
		if (g->reader[i] == NOBODY)
			stand_in(g, c, i);
}

void
workers_listen(struct child *c, const struct msg_listen *key)
{
	const struct generation *g = c->gen;

	for (uint32_t i = 0; i < (uint32_t)g->n_workers; i++)
		if (g->reader[i] == c->index && i != c->index && g == c->sup->serving)
			listeners_adopt(c->sup, c, i, key);
}

/* ---- ends and beginnings */

static void
on_respawn(struct ev_loop *loop, ev_timer *t, int events)
{
	struct generation *g = t->data;
	uint32_t i = (uint32_t)(t - g->respawn);

	(void)events;
	if (g->state != GEN_SERVING || g->worker[i] != NULL || g->sup->stopping)
		return;
	if (workers_start(g, i, ~0u, &g->worker[i]) == NULL && g->worker[i] == NULL) {	/* no process to be had: its end would have come back here */
		ev_timer_set(t, 1, 0);
		ev_timer_start(loop, t);
	}
}

double
workers_backoff(uint32_t *failures, ev_tstamp lived)
{
	double d;

	if (lived > 60)
		*failures = 0;
	d = *failures == 0 ? 0 : 0.05 * (double)(1u << (*failures < 8 ? *failures : 8));
	(*failures)++;
	return d > 10 ? 10 : d;
}

void
workers_gone(struct generation *g, struct child *c)
{
	struct sup *s = g->sup;
	uint32_t i = c->index;

	if (g->successor[i] == c) {
		log_warn("%s was to replace another, which goes on", c->name);
		g->successor[i] = NULL;
		return;
	}
	if (g->worker[i] != NULL || c->state == CH_DRAINING)	/* one that had been replaced */
		return;
	take_over(g, i);
	workers_rehome(s);
	if (upgrade_crashed(s, g) || lastgood_crashed(s, g))
		return;
	if (g->successor[i] != NULL) {
		g->worker[i] = g->successor[i];
		g->successor[i] = NULL;
		return;
	}
	ev_timer_init(&g->respawn[i], on_respawn, workers_backoff(&g->failures[i], ev_steady() - c->started), 0);
	g->respawn[i].data = g;
	ev_timer_start(s->loop, &g->respawn[i]);
}

void
workers_ready(struct child *c)
{
	struct generation *g = c->gen;
	struct child *old = g->worker[c->index];

	if (g->successor[c->index] == c) {
		g->successor[c->index] = NULL;
		g->worker[c->index] = c;
		if (serves(old))
			workers_drain(old, g);
	}
	give_back(g, c);
	child_send(c, MSG_SERVE, 0, NULL, 0, -1);
	messages_set_state(c, CH_SERVING);
	workers_link(g, c);
	take_orphans(g, c);
	workers_rehome(c->sup);
	controller_introduce(c->sup, c);
	if (old != NULL && old != c && old->state == CH_DRAINING)
		controller_draining(c->sup, old);
	listeners_settle(c->sup);
	log_info("%s serves", c->name);
}

/* ---- replacement */

/* One predecessor of a slot at a time drains, so that a load which needs more than the limit costs twice the limit and not
 * more. */
static const char *
why_not(const struct child *c)
{
	const struct generation *g = c->gen;
	const struct sup *s = c->sup;

	if (g != s->serving || g->worker[c->index] != c || g->successor[c->index] != NULL || reload_busy(s) || s->stopping)
		return "not now";
	if (ev_steady() - c->started < REPLACE_AFTER_S)
		return "it was started a few seconds ago";
	for (int i = 0; i < g->n_workers; i++)
		if (!serves(g->worker[i]))
			return "another worker is missing";
	list_each(n, &s->children) {
		const struct child *k = container_of(n, struct child, link);

		if (k->gen == g && k->index == c->index && k != c)
			return "its predecessor still drains";
	}
	return NULL;
}

void
workers_replace(struct child *c, const struct msg_replace_me *m)
{
	struct generation *g = c->gen;
	const char *why = why_not(c);
	unsigned long long used = m->used >> 20, limit = m->limit >> 20;

	if (why != NULL) {
		log_debug("%s has %llu of %llu MiB in use and is not replaced: %s", c->name, used, limit, why);
		return;
	}
	log_warn("%s has %llu of %llu MiB in use (sluice.worker-memory-limit): it is replaced", c->name, used, limit);
	workers_start(g, c->index, ~0u, &g->successor[c->index]);
}
