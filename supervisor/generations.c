/* SPDX-License-Identifier: MIT */
/* The generations that live: their ends, the limits on how many there are (sluice.max-generations) and how long one drains
 * (sluice.drain-timeout), and GET /generations: every one of them as a value list (common/value.h), newest last, built on
 * request; connection counts are read from the workers' counter pages and believed only for display. Called by reload.c,
 * adopt.c and messages.c; owns struct generation once reload.c has made it. */
#include "supervisor/generations.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/imsg_types.h"
#include "common/log.h"
#include "common/memfd.h"
#include "common/shm_stat.h"
#include "common/value.h"
#include "supervisor/child.h"
#include "supervisor/control.h"

enum { TREE_MAX = 256 << 20 };
static const char *const state_name[] = { [GEN_STARTING] = "starting", [GEN_SERVING] = "serving", [GEN_DRAINING] = "draining" };

uint64_t
generations_hash(int tree_fd)
{
	const void *p;
	size_t n;
	uint64_t h = 0xcbf29ce484222325u;	/* FNV-1a: names a configuration, protects nothing */

	if (memfd_map(tree_fd, &p, &n, TREE_MAX) != 0)
		return 0;
	for (size_t i = 0; i < n; i++)
		h = (h ^ ((const uint8_t *)p)[i]) * 0x100000001b3u;
	if (p != NULL)
		munmap((void *)(uintptr_t)p, n);
	return h;
}

static uint32_t
open_connections(const struct sup *s, const struct child *c)
{
	struct shm_stat *page = c->slot < STAT_SLOTS ? memfd_map_shared(s->page[c->slot].fd, STAT_PAGE, 0) : NULL;
	uint32_t n = 0;

	if (page != NULL) {
		n = atomic_load(&page->open_tcp) + atomic_load(&page->open_udp);
		munmap(page, STAT_PAGE);
	}
	return n;
}

static void
key_uint(struct wire *w, const char *key, uint64_t v)
{
	value_key(w, key);
	value_uint(w, v);
}

static void
show_worker(const struct sup *s, const struct child *c, struct wire *w)
{
	value_map(w);
	key_uint(w, "index", c->index);
	key_uint(w, "pid", (uint64_t)c->pid);
	value_key_str(w, "state", control_state_name(c));
	key_uint(w, "connections", open_connections(s, c));
	key_uint(w, "memory", control_resident(c));
	value_map_end(w);
}

static void
show(const struct sup *s, const struct generation *g, struct wire *w)
{
	uint64_t connections = 0, memory = 0;
	char hash[20];

	snprintf(hash, sizeof hash, "%016llx", (unsigned long long)g->hash);
	value_map(w);
	key_uint(w, "generation", g->number);
	value_key_str(w, "state", state_name[g->state]);
	value_key_str(w, "program", g->build);
	value_key_str(w, "config", hash);
	key_uint(w, "age", (uint64_t)(ev_steady() - g->born));
	value_key(w, "workers");
	value_list(w);
	list_each(n, &s->children) {
		const struct child *c = container_of(n, struct child, link);

		if (c->gen != g)
			continue;
		show_worker(s, c, w);
		connections += open_connections(s, c);
		memory += control_resident(c);
	}
	value_list_end(w);
	key_uint(w, "connections", connections);
	key_uint(w, "memory", memory);
	value_map_end(w);
}

void
generations_show(const struct sup *s, struct wire *w)
{
	value_list(w);
	list_each(n, &s->generations)
		if (w->len < IMSG_BODY_MAX - 4096)	/* at most GENERATIONS_MAX of WORKERS_MAX: it fits, but a message's cap is a cap */
			show(s, container_of(n, struct generation, link), w);
	value_list_end(w);
}

/* ---- their ends */

void
generations_free(struct generation *g)
{
	struct sup *s = g->sup;

	for (int i = 0; i < g->n_workers; i++)
		ev_timer_stop(s->loop, &g->respawn[i]);
	ev_timer_stop(s->loop, &g->drain_timer);
	if (g->tree_fd != -1)
		close(g->tree_fd);
	list_remove(&g->link);
	free(g);
}

int
generations_living(const struct generation *g)
{
	int n = 0;

	list_each(k, &g->sup->children)
		n += container_of(k, struct child, link)->gen == g;
	return n;
}

void
generations_kill(struct generation *g)
{
	list_each(k, &g->sup->children)
		if (container_of(k, struct child, link)->gen == g)
			child_kill(container_of(k, struct child, link));
}

bool
generations_stop(struct generation *g)
{
	struct msg_stop m = { 0 };
	bool any = false;

	list_each(k, &g->sup->children) {
		struct child *c = container_of(k, struct child, link);

		if (c->gen != g || c->stopping)
			continue;
		c->stopping = any = true;
		child_send(c, MSG_STOP, 0, &m, sizeof m, -1);
	}
	return any;
}

static void
on_drain_timeout(struct ev_loop *loop, ev_timer *t, int events)
{
	struct generation *g = t->data;

	(void)loop;
	(void)events;
	log_warn("generation %u drained for %u s: its last connections are closed (sluice.drain-timeout)", g->number,
	    g->opts.drain_timeout_s);
	generations_stop(g);
}

static bool
just_drained(const struct generation *g)
{
	return g->state == GEN_DRAINING && ev_steady() - g->drain_since < GENERATION_GRACE_MS / 1000.0;
}

void
generations_limit(struct sup *s, uint32_t max)
{
	uint32_t n = 0;

	list_each(k, &s->generations)
		n += !just_drained(container_of(k, struct generation, link));
	list_each_safe(k, tmp, &s->generations) {
		struct generation *g = container_of(k, struct generation, link);

		if (n <= max)
			return;
		if (g->state != GEN_DRAINING || just_drained(g))
			continue;
		n--;
		if (generations_stop(g))
			log_warn("generation %u is closed: more than sluice.max-generations (%u) would run", g->number, max);
	}
}

bool
generations_crowded(const struct sup *s)
{
	uint32_t n = 1;
	bool young = false;

	list_each(k, &s->generations) {
		const struct generation *g = container_of(k, struct generation, link);

		young |= n == 1 && just_drained(g);
		n++;
	}
	return s->serving != NULL && young && n > s->serving->opts.max_generations;
}

void
generations_drain_timer(struct generation *g, double seconds)
{
	ev_timer_init(&g->drain_timer, on_drain_timeout, seconds, 0);
	g->drain_timer.data = g;
	ev_timer_start(g->sup->loop, &g->drain_timer);
}

void
generations_forget(struct generation *g)
{
	g->tree_fd = -1;
	generations_free(g);
}
