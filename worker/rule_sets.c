/* SPDX-License-Identifier: MIT */
/* See rule_sets.h. A new image takes the place of the old one between two events of the loop: a walk over the rules that waits
 * for an address or a process keeps the number of its rule and nothing of a set (rule/engine.c). */
#include "worker/rule_sets.h"

#include "common/err.h"
#include "common/image.h"
#include "common/log.h"
#include "worker/provider/ruleset.h"

static int
take(struct source *s, const struct msg_image *m, int fd, bool *changed, struct cfg_err *err)
{
	struct rule_provider *p = s->owner;

	if (ruleset_load(s->w->gen, p->set, m, fd) != 0)
		return cfg_fail(err, NULL, NULL, "its image is damaged");
	*changed = true;
	return 0;
}

static bool
empty(const struct source *s)
{
	return ((const struct rule_provider *)s->owner)->set->image.h == NULL;
}

static void
changed(struct source *s)
{
	const struct rule_provider *p = s->owner;

	log_info("[Provider] %.128s's rules have been updated: %u", s->name, p->set->count);
}

static const struct source_type rules_type = {
	.change = CHANGE_RULE_SET, .what = "rule provider", .take = take, .empty = empty, .changed = changed
};

static void
ask(struct gen *g, struct rule_provider *p)
{
	struct source *s = arena_alloc(&g->arena, sizeof *s);

	*s = (struct source){ .w = g->w, .type = &rules_type, .owner = p, .name = p->set->name, .item = p->node, .url = p->url,
		.path = p->path, .proxy = p->proxy, .vehicle = p->vehicle, .kind = p->set->kind, .format = p->format,
		.interval_s = p->interval_s, .size_limit = p->size_limit, .updated_ns = &p->set->updated_ns };
	p->source = s;
	p->why = s->why;
	source_ask(s);
}

int
rule_sets_load(struct gen *g, const struct cfg_node *root, struct cfg_err *err)
{
	(void)root;
	(void)err;
	if (g->w->test)		/* -t only checks what the file says */
		return 0;
	for (int i = 0; i < g->n_rule_providers; i++)
		ask(g, &g->rule_providers[i]);
	for (int i = 0; i < g->n_rule_providers; i++) {
		struct rule_provider *p = &g->rule_providers[i];

		if (source_take_first(p->source) == 0 && p->vehicle == VEHICLE_INLINE)
			p->set->updated_ns = loop_wall_ns();
	}
	return 0;
}

void
rule_sets_update(struct worker *w, const char *provider, source_done_fn *done, void *arg)
{
	struct rule_provider *p = rule_provider_find(w->gen, provider);

	if (p == NULL)
		done(arg, 404, "Resource not found");
	else
		source_update(p->source, done, arg);
}
