/* SPDX-License-Identifier: MIT */
/* GET /proxies and /group: proxies, groups and nodes of providers as value maps, keys sorted as the reference's (spec/api.md
 * 3.1). Of equal names a configured one is shown, else the first provider's. */
#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "common/snapshot.h"
#include "common/value.h"
#include "worker/group/group.h"
#include "worker/outbound/outbound.h"
#include "worker/provider/provider.h"
#include "worker/query.h"

static void
history(struct wire *w, const struct delay_history *h)
{
	value_list(w);
	for (unsigned i = 0; i < h->n; i++) {
		const struct delay_entry *e = &h->e[(h->first + i) % HISTORY_MAX];

		value_map(w);
		value_key(w, "time");
		value_time(w, e->at_ns);
		value_key_int(w, "delay", e->ms);
		value_map_end(w);
	}
	value_list_end(w);
}

static void
extra(struct wire *w, const struct outbound *ob)
{
	value_map(w);
	for (const struct delay_extra *x = ob->extra; x != NULL; x = x->next) {
		if (x->url[0] == '\0' || x->h.n == 0)
			continue;
		value_key(w, x->url);
		value_map(w);
		value_key_bool(w, "alive", x->h.alive);
		value_key(w, "history");
		history(w, &x->h);
		value_map_end(w);
	}
	value_map_end(w);
}

/* The keys of groups stand among the others, in order. */
void
show_proxy(struct outbound *ob, struct wire *w)
{
	struct group *g = group_of(ob);
	const char *now = g != NULL && g->gtype->now != NULL ? g->gtype->now(g) : NULL;
	const char *fixed = g != NULL && g->gtype->fixed != NULL ? g->gtype->fixed(g) : NULL;
	bool tested = g != NULL && strcmp(ob->type->name, "select") != 0 && strcmp(ob->type->name, "relay") != 0;

	value_map(w);
	value_key_bool(w, "alive", ob->history.alive && !(ob->flags & OB_UNSPOKEN));
	if (g != NULL) {
		value_key(w, "all");
		value_list(w);
		for (int i = 0; i < g->n_members; i++)
			value_str(w, g->members[i]->name);
		value_list_end(w);
	}
	value_key_str(w, "dialer-proxy", ob->dialer_proxy);
	if (g != NULL)
		value_key_str(w, "emptyFallback", g->empty->name);
	if (tested)
		value_key_str(w, "expectedStatus", g->expected);
	value_key(w, "extra");
	extra(w, ob);
	if (fixed != NULL)
		value_key_str(w, "fixed", fixed);
	if (g != NULL)
		value_key_bool(w, "hidden", g->hidden);
	value_key(w, "history");
	history(w, &ob->history);
	if (g != NULL)
		value_key_str(w, "icon", g->icon);
	else {
		value_key(w, "id");
		value_uuid(w, ob->id);
	}
	value_key_str(w, "interface", ob->tcp.iface);
	value_key_bool(w, "mptcp", ob->tcp.mptcp);
	value_key_str(w, "name", ob->name);
	if (now != NULL)
		value_key_str(w, "now", now);
	value_key_str(w, "provider-name", ob->provider);
	value_key_int(w, "routing-mark", ob->tcp.mark);
	value_key_bool(w, "smux", false);
	if (g != NULL && strcmp(ob->type->name, "relay") != 0)
		value_key_str(w, "testUrl", g->url);
	value_key_bool(w, "tfo", ob->tcp.tfo);
	value_key_str(w, "type", ob->type->api_name);
	value_key_bool(w, "udp", outbound_udp(ob));
	value_key_bool(w, "uot", ob->flags & OB_UOT);
	value_key_bool(w, "xudp", ob->flags & OB_XUDP);
	value_map_end(w);
}

static int
by_name(const void *a, const void *b)
{
	return strcmp((*(struct outbound *const *)a)->name, (*(struct outbound *const *)b)->name);
}

static int
show_all(struct gen *g, struct wire *w)
{
	struct outbound **all = calloc(g->proxies.count + g->nodes.count + 1, sizeof *all);
	size_t n = 0;

	if (all == NULL)
		return -E_NOMEM;
	for (size_t i = 0; i < g->proxies.cap; i++)
		if (g->proxies.slots[i].key != NULL)
			all[n++] = g->proxies.slots[i].value;
	for (size_t i = 0; i < g->nodes.cap; i++)
		if (g->nodes.slots[i].key != NULL && map_get(&g->proxies, g->nodes.slots[i].key) == NULL)
			all[n++] = g->nodes.slots[i].value;
	qsort(all, n, sizeof *all, by_name);
	value_map(w);
	for (size_t i = 0; i < n; i++) {
		value_key(w, all[i]->name);
		show_proxy(all[i], w);
	}
	value_map_end(w);
	free(all);
	return 0;
}

int
show_proxies(struct gen *g, unsigned what, const char *name, struct wire *out)
{
	struct outbound *ob;

	switch (what) {
	case PROXIES_ALL:
		return show_all(g, out);
	case PROXIES_GROUPS:
		value_list(out);
		for (int i = 0; i < g->n_groups; i++)
			show_proxy(g->groups[i], out);
		value_list_end(out);
		return 0;
	case PROXIES_ONE:
	case PROXIES_GROUP:
		ob = node_find(g, "", name);
		if (ob == NULL || (what == PROXIES_GROUP && group_of(ob) == NULL))
			return -E_NOTFOUND;
		show_proxy(ob, out);
		return 0;
	}
	return -E_NOTFOUND;
}
