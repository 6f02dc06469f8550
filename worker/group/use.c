/* SPDX-License-Identifier: MIT */
/* What workers tell the lead of their groups, through the page all of them share: when a group was last used (for lazy
 * checks), and that it should be checked now because dials fail (spec/config.md 14.5 "touch", "dial failures"). Two groups
 * that share a place by their hash only share their use: a check more. */
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/map.h"
#include "common/strutil.h"
#include "worker/group/group.h"
#include "worker/worker.h"

/* The whole service where nothing is shared: tests. */
static struct shm_shared alone;

static struct shm_shared *
page_of(const struct group *g)
{
	struct worker *w = g->ob.gen->w;

	return w != NULL && w->shared != NULL ? w->shared : &alone;
}

static size_t
place(const struct group *g)
{
	static const uint8_t seed[16];

	return siphash13(seed, g->ob.name, strlen(g->ob.name)) % countof(alone.used_s);
}

void
group_touch(struct group *g)
{
	uint64_t now_s = g->ob.gen->w != NULL ? g->ob.gen->w->loop.now_ms / 1000 : 0;

	if (g->touched_s == now_s && now_s != 0)
		return;
	g->touched_s = now_s;
	atomic_store_explicit(&page_of(g)->used_s[place(g)], (uint32_t)now_s, memory_order_relaxed);
}

uint64_t
group_unused_ms(const struct group *g, uint64_t now_ms)
{
	uint32_t used = atomic_load_explicit(&page_of(g)->used_s[place(g)], memory_order_relaxed);
	uint64_t now_s = now_ms / 1000;

	return used == 0 ? UINT64_MAX : now_s > used ? (now_s - used) * 1000 : 0;
}

void
group_want_check(struct group *g)
{
	atomic_store_explicit(&page_of(g)->wanted[place(g)], 1, memory_order_relaxed);
}

bool
group_take_wanted(const struct group *g)
{
	_Atomic uint8_t *at = &page_of(g)->wanted[place(g)];

	return atomic_load_explicit(at, memory_order_relaxed) != 0 && atomic_exchange_explicit(at, 0, memory_order_relaxed) != 0;
}

void
group_count_dial(struct group *g, struct outbound *ob, int err)
{
	uint64_t now = g->ob.gen->w != NULL ? g->ob.gen->w->loop.now_ms : 0;

	if (err == 0) {
		g->failures = 0;
		return;
	}
	if ((ob->flags & OB_BUILTIN) != 0)
		return;
	if (err != E_REFUSED) {
		if (g->failures == 0 || now - g->failing_ms > (uint64_t)(g->timeout_ms > 0 ? g->timeout_ms : 0)) {
			g->failures = 0;
			g->failing_ms = now;
		}
		if (++g->failures < g->max_failed)
			return;
	}
	g->failures = 0;
	log_debug("because %s failed multiple times, active health check", g->ob.name);
	group_want_check(g);
}

void
groups_dialled(const struct chain *chain, int err)
{
	for (int i = 1; i < chain->n; i++) {
		struct group *g = group_of(chain->ob[i]);

		if (g != NULL && g->gtype->on_dial != NULL)
			g->gtype->on_dial(g, chain->ob[0], err);
	}
}
