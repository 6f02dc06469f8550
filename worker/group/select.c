/* SPDX-License-Identifier: MIT */
/* `select`: the stored choice by name. A stored name that is no member now is remembered, and the default or the first
 * member stands in (spec/config.md 14.5). Called through group_type. */
#include "worker/group/group.h"

struct selector {
	struct group g;
	uint32_t of;			/* the version that `now` was looked up for */
	struct outbound *now;
};

static struct outbound *
look_up(const struct group *g)
{
	struct outbound *ob = g->selected[0] != '\0' ? group_find_member(g, g->selected) : NULL;

	if (ob == NULL && g->default_selected[0] != '\0')
		ob = group_find_member(g, g->default_selected);
	return ob != NULL ? ob : g->members[0];
}

static struct outbound *
pick(struct group *g, const struct meta *m, bool touch)
{
	struct selector *s = (struct selector *)g;

	(void)m;
	(void)touch;
	if (s->now == NULL || s->of != g->version) {
		s->now = look_up(g);
		s->of = g->version;
	}
	return s->now;
}

static int
choose(struct group *g, const char *name)
{
	struct outbound *ob;

	if (name[0] == '\0')
		return -E_INVAL;
	ob = group_find_member(g, name);
	if (ob == NULL)
		return -E_NOTFOUND;
	group_set_selected(g, ob->name);
	return 0;
}

static const char *
now(struct group *g)
{
	return group_pick(g, NULL, false)->name;
}

static const char *const keys[] = { NULL };

const struct group_type group_select_type = {
	.ob = { .name = "select", .api_name = "Selector", .flags = OB_TCP | OB_UDP | OB_GROUP, .size = sizeof(struct selector),
	    .keys = keys,
		.dial = group_dial, .packet = group_packet, .fini = group_fini, .pick = group_pick_ob, .udp = group_udp },
	.pick = pick, .select = choose, .now = now,
};
