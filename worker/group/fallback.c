/* SPDX-License-Identifier: MIT */
/* `fallback`: the first member that is alive; a fixed member is used while it is alive and forgotten when a test finds it dead
 * (spec/config.md 14.5): not when a connection meets it so, for every worker shall forget it at the same time. Called through
 * group_type. */
#include "worker/group/group.h"

static struct outbound *
pick(struct group *g, const struct meta *m, bool touch)
{
	struct outbound *fixed = g->selected[0] != '\0' ? group_find_member(g, g->selected) : NULL;

	(void)m;
	(void)touch;
	return fixed != NULL && group_alive(g, fixed) ? fixed : group_first_alive(g);
}

/* Setting a dead member: whoever calls this tests it first (spec/api.md 2.8); one that is still dead is forgotten at once. */
static int
choose(struct group *g, const char *name)
{
	struct outbound *ob = name[0] != '\0' ? group_find_member(g, name) : NULL;

	if (name[0] != '\0' && ob == NULL)
		return -E_NOTFOUND;
	group_set_selected(g, ob != NULL && group_alive(g, ob) ? ob->name : "");
	return 0;
}

static void
died(struct group *g, struct outbound *ob)
{
	if (g->selected[0] != '\0' && group_find_member(g, g->selected) == ob && !group_alive(g, ob))
		group_set_selected(g, "");
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

static const char *const keys[] = { NULL };

const struct group_type group_fallback_type = {
	.ob = { .name = "fallback", .api_name = "Fallback", .flags = OB_TCP | OB_UDP | OB_GROUP, .size = sizeof(struct group),
	    .keys = keys,
		.dial = group_dial, .packet = group_packet, .fini = group_fini, .pick = group_pick_ob, .udp = group_udp },
	.pick = pick, .on_dial = group_count_dial, .select = choose, .now = now, .fixed = fixed_name, .died = died,
};
