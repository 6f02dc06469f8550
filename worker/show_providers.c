/* SPDX-License-Identifier: MIT */
/* GET /providers/proxies: the configured providers, one that stands for each group with `proxies`, and `default`, which
 * stands for all (spec/api.md 2.10, 3.2). Keys in the reference's order, names sorted. */
#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "common/value.h"
#include "worker/group/group.h"
#include "worker/outbound/outbound.h"
#include "worker/provider/provider.h"
#include "worker/query.h"

struct entry { /* exactly one of provider and group is set; neither: `default` */
	const char *name;
	const struct provider *provider;
	const struct group *group;
};

static void
show_nodes(struct outbound *const *nodes, int n, struct wire *w)
{
	for (int i = 0; i < n; i++)
		show_proxy(nodes[i], w);
}

/* DIRECT, REJECT, all proxies, all groups but GLOBAL. */
static void
show_default(struct gen *g, struct wire *w)
{
	show_proxy(g->direct, w);
	show_proxy(g->reject, w);
	show_nodes(g->outbounds, g->n_outbounds, w);
	for (int i = 0; i < g->n_groups; i++)
		if (g->groups[i] != g->global)
			show_proxy(g->groups[i], w);
}

static void
show_info(const struct userinfo *u, struct wire *w)
{
	const struct {
		const char *key;
		int64_t v;
	} part[] = { { "Upload", u->upload }, { "Download", u->download }, { "Total", u->total }, { "Expire", u->expire } };

	value_key(w, "subscriptionInfo");
	value_map(w);
	for (size_t i = 0; i < sizeof(part) / sizeof(part[0]); i++) {
		value_key_int(w, part[i].key, part[i].v);
	}
	value_map_end(w);
}

static void
show(struct gen *g, const struct entry *e, struct wire *w)
{
	static const char *const vehicles[] = { [VEHICLE_HTTP] = "HTTP", [VEHICLE_FILE] = "File", [VEHICLE_INLINE] = "Inline" };

	value_map(w);
	value_key_str(w, "name", e->name);
	value_key_str(w, "type", "Proxy");
	value_key_str(w, "vehicleType", e->provider != NULL ? vehicles[e->provider->vehicle] : "Compatible");
	value_key(w, "proxies");
	value_list(w);
	if (e->provider != NULL)
		show_nodes(e->provider->set.nodes, e->provider->set.n, w);
	else if (e->group != NULL)
		show_nodes(e->group->own, e->group->n_own, w);
	else
		show_default(g, w);
	value_list_end(w);
	value_key_str(w, "testUrl", e->provider != NULL ? e->provider->set.url : e->group != NULL ? e->group->url : "");
	value_key_str(w, "expectedStatus",
	    e->provider != NULL ? e->provider->expected : e->group != NULL ? e->group->expected : "*");
	value_key(w, "updatedAt");
	value_time(w, e->provider != NULL ? e->provider->updated_ns : 0);
	if (e->provider != NULL && e->provider->info.seen)
		show_info(&e->provider->info, w);
	value_map_end(w);
}

/* A group has an entry of its own when it lists proxies; a made GLOBAL is `default`. */
static bool
stands_alone(const struct group *g)
{
	return g->item != NULL && g->n_own > 0;
}

static int
by_name(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;

	return strcmp(x->name, y->name);
}

static int
show_all(struct gen *g, struct wire *w)
{
	int n = 0, providers = g->providers != NULL ? g->providers->n : 0;
	struct entry *e = calloc((size_t)g->n_groups + (size_t)providers + 1, sizeof *e);

	if (e == NULL)
		return -E_NOMEM;
	e[n++].name = "default";
	for (int i = 0; i < providers; i++)
		e[n++] = (struct entry){ .name = g->providers->p[i]->set.name, .provider = g->providers->p[i] };
	for (int i = 0; i < g->n_groups; i++)
		if (stands_alone(group_of(g->groups[i])))
			e[n++] = (struct entry){ .name = g->groups[i]->name, .group = group_of(g->groups[i]) };
	qsort(e, (size_t)n, sizeof *e, by_name);
	value_map(w);
	for (int i = 0; i < n; i++) {
		value_key(w, e[i].name);
		show(g, &e[i], w);
	}
	value_map_end(w);
	free(e);
	return 0;
}

int
show_providers(struct gen *g, bool all, const char *name, struct wire *out)
{
	struct entry e = { .name = name, .provider = provider_find(g, name) };
	struct outbound *ob = outbound_find(g, name);

	if (all)
		return show_all(g, out);
	if (e.provider == NULL && strcmp(name, "default") != 0) {
		if (ob == NULL || group_of(ob) == NULL || !stands_alone(group_of(ob)))
			return -E_NOTFOUND;
		e.group = group_of(ob);
	}
	show(g, &e, out);
	return 0;
}
