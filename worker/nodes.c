/* SPDX-License-Identifier: MIT */
/* Sources of proxy-providers (spec/config.md 9). Called by apply.c while configuring, later by queries and its own timers. */
#include "worker/nodes.h"

#include "common/log.h"
#include "worker/provider/provider.h"

static void
load_inline(struct provider *p)
{
	struct cfg_err err = { 0 };
	bool changed;

	if (provider_load(p, cfg_get(p->item, "payload"), &changed, &err) == 0)
		p->updated_ns = loop_wall_ns();
	else if (p->gen->w->lead)
		log_error("proxy-provider %.128s: %s", p->set.name, err.text);
}

int
nodes_load(struct gen *g, const struct cfg_node *root, struct cfg_err *err)
{
	(void)root;
	(void)err;
	for (int i = 0; i < g->providers->n; i++)
		if (g->providers->p[i]->vehicle == VEHICLE_INLINE)
			load_inline(g->providers->p[i]);
	return 0;
}
