/* SPDX-License-Identifier: MIT */
/* `url-test`: the alive member with the lowest last delay, kept within `tolerance` ms, computed at most every 10 s; a fixed
 * member wins while it is alive (spec/config.md 14.5). Called through group_type. Workers compute at their own times: within
 * those 10 s, or within the tolerance, they may differ. */
#include "worker/group/group.h"
#include "worker/worker.h"

enum { RECOMPUTE_MS = 10000 };

struct urltest {
	struct group g;
	int64_t tolerance;
	struct outbound *now;
	uint64_t at_ms;
	bool fresh;		/* now was computed at at_ms */
	uint32_t of;		/* for members of this version */
};

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
	}
	/* a choice that died is not kept for the rest of its 10 s */
	if (!u->fresh || now_ms - u->at_ms >= RECOMPUTE_MS || !group_alive(g, u->now)) {
		compute(u);
		u->at_ms = now_ms;
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

	(void)err;
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
