/* SPDX-License-Identifier: MIT */
/* `fallback`: the first member that is alive; a fixed member is used while it is alive and forgotten when it is seen dead
 * (spec/config.md 14.5). Called through group_type. */
#include "worker/group/group.h"

static struct outbound *
pick(struct group *g, const struct meta *m, bool touch)
{
	struct outbound *fixed = g->selected[0] != '\0' ? group_find_member(g, g->selected) : NULL;

	(void)m;
	(void)touch;
	if (fixed != NULL && group_alive(g, fixed))
		return fixed;
	if (fixed != NULL)
		group_set_selected(g, "");
	return group_first_alive(g);
}

/* Setting a dead member: whoever calls this tests it first (spec/api.md 2.8); without a test it is forgotten by the next pick. */
static int
choose(struct group *g, const char *name)
{
	struct outbound *ob = name[0] != '\0' ? group_find_member(g, name) : NULL;

	if (name[0] != '\0' && ob == NULL)
		return -E_NOTFOUND;
	group_set_selected(g, ob != NULL ? ob->name : "");
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
	(void)group_pick(g, NULL, false);	/* a dead one is cleared before it is shown */
	return g->selected;
}

static const char *const keys[] = { NULL };

const struct group_type group_fallback_type = {
	.ob = { .name = "fallback", .api_name = "Fallback", .flags = OB_TCP | OB_UDP | OB_GROUP, .size = sizeof(struct group),
	    .keys = keys,
		.dial = group_dial, .packet = group_packet, .fini = group_fini, .pick = group_pick_ob, .udp = group_udp },
	.pick = pick, .on_dial = group_count_dial, .select = choose, .now = now, .fixed = fixed_name,
};
