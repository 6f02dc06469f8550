/* SPDX-License-Identifier: MIT */
/* `url-test`: the alive member with the lowest last delay, kept within `tolerance` ms, computed at most every 10 s; a fixed
 * member wins while it is alive (spec/config.md 14.5). Called through group_type.
 *
 * The choice is one for the whole service: whoever computes it writes a word that all see, and the others take it over
 * with their next pick; so does a new process, which then keeps to it within the tolerance. The word: 24 bits of a hash of
 * the group's name, 16 bits of the second, 24 bits of a hash of the member's name. Groups that share a place choose for
 * themselves. */
#include <string.h>

#include "common/map.h"
#include "common/strutil.h"
#include "worker/group/group.h"
#include "worker/worker.h"

enum { RECOMPUTE_MS = 10000, SECONDS_MASK = 0xffff, HASH_MASK = 0xffffff };

struct urltest {
	struct group g;
	int64_t tolerance;
	struct outbound *now;
	uint64_t at_ms;
	bool fresh;		/* now was computed at at_ms */
	uint32_t of;		/* for members of this version */
	_Atomic uint64_t *shared, own;	/* the word; own where nothing is shared (tests) */
	uint64_t seen;		/* as it was last looked at */
};

static uint64_t
hash_of(const char *name)
{
	static const uint8_t seed[16];

	return siphash13(seed, name, strlen(name));
}

static void
publish(struct urltest *u)
{
	uint64_t group = hash_of(u->g.ob.name) & HASH_MASK, member = hash_of(u->now->name) & HASH_MASK;

	u->seen = group << 40 | (u->at_ms / 1000 & SECONDS_MASK) << 24 | member;
	atomic_store_explicit(u->shared, u->seen, memory_order_relaxed);
}

/* Takes over what another worker computed since. */
static void
follow(struct urltest *u, uint64_t now_ms)
{
	uint64_t word = atomic_load_explicit(u->shared, memory_order_relaxed), age_s;

	if (word == u->seen)
		return;
	u->seen = word;
	if (word >> 40 != (hash_of(u->g.ob.name) & HASH_MASK))
		return;
	for (int i = 0; i < u->g.n_members; i++) {
		if ((hash_of(u->g.members[i]->name) & HASH_MASK) != (word & HASH_MASK))
			continue;
		age_s = (now_ms / 1000 - (word >> 24)) & SECONDS_MASK;
		u->now = u->g.members[i];
		u->fresh = age_s * 1000 < RECOMPUTE_MS;
		u->at_ms = now_ms - (u->fresh ? age_s * 1000 : 0);
		return;
	}
}

static struct outbound *
fastest(const struct group *g)
{
	struct outbound *best = NULL;

	for (int i = 0; i < g->n_members; i++) {
		struct outbound *ob = g->members[i];

		if (!group_alive(g, ob))
			continue;
		if (best == NULL || outbound_last_delay(ob, g->url) < outbound_last_delay(best, g->url))
			best = ob;
	}
	return best != NULL ? best : g->members[0];
}

static void
compute(struct urltest *u)
{
	struct group *g = &u->g;
	struct outbound *best = fastest(g);

	if (u->now == NULL || !group_alive(g, u->now) ||
	    outbound_last_delay(u->now, g->url) > outbound_last_delay(best, g->url) + u->tolerance)
		u->now = best;
	u->fresh = true;
}

static struct outbound *
pick(struct group *g, const struct meta *m, bool touch)
{
	struct urltest *u = (struct urltest *)g;
	uint64_t now_ms = g->ob.gen->w != NULL ? g->ob.gen->w->loop.now_ms : 0;
	struct outbound *fixed = g->selected[0] != '\0' ? group_find_member(g, g->selected) : NULL;

	(void)m;
	(void)touch;
	if (fixed != NULL && group_alive(g, fixed))
		return fixed;
	if (u->of != g->version) {	/* the present choice may have gone */
		u->now = NULL;
		u->fresh = false;
		u->of = g->version;
		u->seen = 0;
	}
	follow(u, now_ms);
	/* a choice that died is not kept for the rest of its 10 s */
	if (!u->fresh || now_ms - u->at_ms >= RECOMPUTE_MS || !group_alive(g, u->now)) {
		compute(u);
		u->at_ms = now_ms;
		publish(u);
	}
	return u->now;
}

static void
tested(struct group *g)
{
	((struct urltest *)g)->fresh = false;
}

static int
choose(struct group *g, const char *name)
{
	struct outbound *ob = name[0] != '\0' ? group_find_member(g, name) : NULL;

	if (name[0] != '\0' && ob == NULL)
		return -E_NOTFOUND;
	group_set_selected(g, ob != NULL ? ob->name : "");
	tested(g);
	return 0;
}

static const char *
now(struct group *g)
{
	return group_pick(g, NULL, false)->name;
}

static const char *
fixed_name(struct group *g)
{
	return g->selected;
}

/* A tolerance that is no integer is ignored, as the reference does (spec/config.md 8). */
static int
setup(struct group *g, const struct cfg_node *item, struct cfg_err *err)
{
	struct urltest *u = (struct urltest *)g;
	struct shm_shared *page = g->ob.gen->w != NULL ? g->ob.gen->w->shared : NULL;

	(void)err;
	u->shared = page == NULL ? &u->own : &page->choice[hash_of(g->ob.name) % countof(page->choice)];
	if (cfg_int(cfg_get(item, "tolerance"), "tolerance", 0, UINT16_MAX, &u->tolerance, NULL) != 0)
		u->tolerance = 0;
	return 0;
}

static const char *const keys[] = { "tolerance", NULL };

const struct group_type group_urltest_type = {
	.ob = { .name = "url-test", .api_name = "URLTest", .flags = OB_TCP | OB_UDP | OB_GROUP, .size = sizeof(struct urltest),
	    .keys = keys,
		.dial = group_dial, .packet = group_packet, .fini = group_fini, .pick = group_pick_ob, .udp = group_udp },
	.setup = setup, .pick = pick, .on_dial = group_count_dial, .select = choose, .now = now, .fixed = fixed_name, .tested = tested,
};
