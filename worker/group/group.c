/* SPDX-License-Identifier: MIT */
/* What all groups share: dialling through the choice, changing the choice through the API, and the blob of choices that
 * outlives the process. Called by core/, ipc and the snapshot writers. Owns the saved choices of groups that this
 * configuration does not have. Every worker holds the same configuration and hears of the same changes and delays, so they
 * choose alike but for what the files of the types say. */
#include "worker/group/group.h"

#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "worker/group/filter.h"
#include "worker/worker.h"

enum { CHOICE_NAME_MAX = 4096, CHOICES_MAX = 65536 };	/* of a blob */

struct group *
group_of(struct outbound *ob)
{
	return (ob->type->flags & OB_GROUP) != 0 ? (struct group *)ob : NULL;
}

struct outbound *
group_pick(struct group *g, const struct meta *m, bool touch)
{
	struct outbound *ob = g->n_members > 0 ? g->gtype->pick(g, m, touch) : NULL;

	return ob != NULL ? ob : g->ob.gen->compatible;
}

struct outbound *
group_pick_ob(struct outbound *ob, const struct meta *m, bool touch)
{
	return group_pick((struct group *)ob, m, touch);
}

bool
group_udp(struct outbound *ob)
{
	struct group *g = (struct group *)ob;

	if (g->disable_udp)
		return false;
	return g->gtype->udp != NULL ? g->gtype->udp(g) : outbound_udp(group_pick(g, NULL, false));
}

struct stream *
group_dial(struct outbound *ob, const struct dial *dial)
{
	if (dial->meta != NULL)
		group_touch((struct group *)ob);
	return outbound_dial(group_pick((struct group *)ob, dial->meta, true), dial);
}

struct dgram *
group_packet(struct outbound *ob, const struct dial *dial)
{
	if (dial->meta != NULL)
		group_touch((struct group *)ob);
	return outbound_packet(group_pick((struct group *)ob, dial->meta, true), dial);
}

struct outbound *
group_find_member(const struct group *g, const char *name)
{
	for (int i = 0; i < g->n_members; i++)
		if (strcmp(g->members[i]->name, name) == 0)
			return g->members[i];
	return NULL;
}

bool
group_alive(const struct group *g, const struct outbound *ob)
{
	return outbound_alive(ob, g->url);
}

struct outbound *
group_first_alive(const struct group *g)
{
	for (int i = 0; i < g->n_members; i++)
		if (group_alive(g, g->members[i]))
			return g->members[i];
	return g->members[0];
}

void
group_set_selected(struct group *g, const char *name)
{
	char *copy = strdup(name);

	if (copy == NULL)
		fatal("out of memory: a choice");
	free(g->selected);
	g->selected = copy;
	g->version++;
}

void
groups_changed(struct gen *gen, const struct node_set *set)
{
	for (int i = 0; i < gen->n_groups; i++) {
		struct group *g = group_of(gen->groups[i]);

		for (int u = 0; u < g->n_use; u++)
			if (g->use[u] == set) {
				group_build(g);
				break;
			}
	}
}

void
groups_died(struct outbound *ob)
{
	struct gen *gen = ob->gen;

	for (int i = 0; i < gen->n_groups; i++) {
		struct group *g = group_of(gen->groups[i]);

		if (g->gtype->died != NULL)
			g->gtype->died(g, ob);
	}
}

void
group_tested(struct group *g)
{
	if (g->gtype->tested != NULL)
		g->gtype->tested(g);
}

/* ---- choices through the API: spec/api.md 1.7, 2.8 */

static int
answer(int status, const char *why, const char **text)
{
	*text = why;
	return status;
}

int
group_select(struct gen *gen, const char *group, const char *name, const char **text)
{
	struct outbound *ob = outbound_find(gen, group);
	struct group *g = ob != NULL ? group_of(ob) : NULL;
	int rc;

	if (ob == NULL)
		return answer(404, "Resource not found", text);
	rc = g != NULL && g->gtype->select != NULL ? g->gtype->select(g, name) : -E_UNSUP;
	if (rc == 0) {
		if (gen->w != NULL)
			worker_touch(gen->w);
		return answer(204, "", text);
	}
	if (name[0] == '\0')
		return answer(400, "Body invalid", text);
	return answer(400, rc == -E_NOTFOUND ? "Selector update error: proxy not exist" : "Must be a Selector", text);
}

/* ---- the blob: u32 n, n * (str group, str name) */

static void
put_choice(struct wire *w, uint32_t *n, const char *group, const char *name)
{
	wire_put_str(w, group);
	wire_put_str(w, name);
	(*n)++;
}

void
groups_save(struct gen *gen, struct wire *w)
{
	struct group *global = group_of(gen->global);
	size_t at = w->len;
	uint32_t n = 0;

	wire_put_u32(w, 0);
	for (int i = 0; i < gen->n_groups; i++) {
		struct group *g = group_of(gen->groups[i]);

		if (g->gtype->select != NULL && g->selected[0] != '\0')
			put_choice(w, &n, g->ob.name, g->selected);
	}
	for (const struct group_choice *c = global->kept; c != NULL; c = c->next)
		put_choice(w, &n, c->group, c->name);
	wire_set_u32(w, at, n);
}

static void
keep(struct group *global, const char *group, const char *name)
{
	struct group_choice **at = &global->kept, *c;
	int n = 0;

	for (; *at != NULL && strcmp((*at)->group, group) != 0; at = &(*at)->next)
		n++;
	if (*at == NULL && n < GROUP_KEPT_MAX) {
		*at = calloc(1, sizeof(**at));
		if (*at != NULL)
			(*at)->group = strdup(group);
	}
	c = *at;
	if (c == NULL)
		return;
	free(c->name);
	c->name = strdup(name);
	if (c->group == NULL || c->name == NULL) {	/* out of memory: forgotten */
		*at = c->next;
		free(c->group);
		free(c->name);
		free(c);
	}
}

/* Restored without asking whether the member exists (spec/config.md 14.7): a provider may bring it later. */
static void
restore(struct gen *gen, const char *group, const char *name)
{
	struct outbound *ob = outbound_find(gen, group);
	struct group *g = ob != NULL ? group_of(ob) : NULL;

	if (g == NULL || g->gtype->select == NULL) {
		keep(group_of(gen->global), group, name);
		return;
	}
	group_set_selected(g, name);
	group_tested(g);
}

int
groups_load(struct gen *gen, struct wire *w)
{
	char *group, *name;
	uint32_t n;

	if (wire_get_u32(w, &n) != 0 || n > CHOICES_MAX)
		return -E_PROTO;
	while (n-- > 0) {
		group = wire_get_strdup(w, CHOICE_NAME_MAX);
		name = group != NULL ? wire_get_strdup(w, CHOICE_NAME_MAX) : NULL;
		if (name != NULL)
			restore(gen, group, name);
		free(group);
		free(name);
		if (name == NULL)
			return -E_PROTO;
	}
	return wire_done(w);
}

void
group_fini(struct outbound *ob)
{
	struct group *g = (struct group *)ob;

	free(g->members);
	free(g->selected);
	filter_free(g->filter);
	filter_free(g->exclude);
	g->members = NULL;
	g->n_members = 0;
	g->selected = NULL;
	g->filter = g->exclude = NULL;
	while (g->kept != NULL) {
		struct group_choice *c = g->kept;

		g->kept = c->next;
		free(c->group);
		free(c->name);
		free(c);
	}
}
