/* SPDX-License-Identifier: MIT */
/* `proxy-groups:`: common keys, members, filters, loops, and GLOBAL. Called by apply.c after the proxies are there. Groups
 * may name each other in any order, so all are made before members are looked up. Everything but members and filters lives in the
 * generation's arena. Error texts: spec/config.md 8. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/log.h"
#include "common/map.h"
#include "common/strutil.h"
#include "worker/group/filter.h"
#include "worker/group/group.h"
#include "worker/match/range.h"

enum { DEFAULT_INTERVAL_S = 300, DEFAULT_TIMEOUT_MS = 5000, DEFAULT_MAX_FAILED = 5, KEYS_MAX = 40 };
static const char default_url[] = "https://www.gstatic.com/generate_204";

static const char *const common_keys[] = { "name", "type", "proxies", "use", "url", "interval", "timeout", "lazy",
    "max-failed-times", "expected-status",
	"filter", "exclude-filter", "exclude-type", "include-all", "include-all-proxies", "include-all-providers",
	    "default-selected", "empty-fallback",
	"disable-udp", "hidden", "icon", NULL };
static const char *const later_keys[] = { "interface-name", "routing-mark", NULL };

static void
warn_keys(const struct group *g, const struct cfg_node *item)
{
	const char *known[KEYS_MAX];
	char where[160];
	int n = 0;

	for (int i = 0; common_keys[i] != NULL; i++)
		known[n++] = common_keys[i];
	for (int i = 0; g->gtype->ob.keys[i] != NULL && n < KEYS_MAX - 1; i++)
		known[n++] = g->gtype->ob.keys[i];
	known[n] = NULL;
	(void)snprintf(where, sizeof(where), "proxy group %.100s", g->ob.name);
	cfg_warn_unknown(item, where, known, later_keys);
}

/* ---- one group without its members */

static int
parse_flags(struct group *g, struct cfg_err *err)
{
	const struct cfg_node *item = g->item;
	bool all = false;

	if (cfgw_bool(item, "lazy", &g->lazy, err) != 0 || cfgw_bool(item, "disable-udp", &g->disable_udp, err) != 0 ||
	    cfgw_bool(item, "hidden", &g->hidden, err) != 0 || cfgw_bool(item, "include-all", &all, err) != 0 ||
	    cfgw_bool(item, "include-all-proxies", &g->all_proxies, err) != 0 ||
	    cfgw_bool(item, "include-all-providers", &g->all_providers, err) != 0)
		return -E_INVAL;
	g->all_proxies |= all;
	g->all_providers |= all;
	return cfgw_int(item, "interval", INT32_MIN, INT32_MAX, &g->interval_s, err) != 0 ||
	    cfgw_int(item, "timeout", INT32_MIN, INT32_MAX, &g->timeout_ms, err) != 0 ||
	    cfgw_int(item, "max-failed-times", INT32_MIN, INT32_MAX, &g->max_failed, err) != 0 ? -E_INVAL : 0;
}

static int
parse_texts(struct group *g, struct cfg_err *err)
{
	const struct cfg_node *item = g->item;
	struct arena *a = &g->ob.gen->arena;
	const char *url = "", *icon = "", *expected = "", *filter = "", *exclude = "", *type = "", *def = "", *empty = "", *why;
	struct ranges ranges;

	if (cfgw_str(item, "url", &url, err) != 0 || cfgw_str(item, "icon", &icon, err) != 0 ||
	    cfgw_str(item, "expected-status", &expected, err) != 0 || cfgw_str(item, "filter", &filter, err) != 0 ||
	    cfgw_str(item, "exclude-filter", &exclude, err) != 0 || cfgw_str(item, "exclude-type", &type, err) != 0 ||
	    cfgw_str(item, "default-selected", &def, err) != 0 || cfgw_str(item, "empty-fallback", &empty, err) != 0)
		return -E_INVAL;
	g->url = arena_strdup(a, url);
	g->url_written = url[0] != '\0';
	g->icon = arena_strdup(a, icon);
	g->expected = str_trim(arena_strdup(a, expected));
	g->default_selected = arena_strdup(a, def);
	g->exclude_type = type;
	why = range_parse(&ranges, g->expected, STATUS_MAX);
	if (why != NULL)
		return cfg_fail(err, cfg_get(item, "expected-status"), "expected-status", "%s: %s", g->ob.name, why);
	if (g->expected[0] == '\0')
		g->expected = "*";
	if (empty[0] != '\0') {
		g->empty = outbound_find(g->ob.gen, empty);
		if (g->empty == NULL || group_of(g->empty) != NULL)
			return cfg_fail(err, cfg_get(item, "empty-fallback"), "empty-fallback", "%s: '%s' not found",
			    g->ob.name, empty);
	}
	if (filter_compile(filter, "filter", cfg_get(item, "filter"), &g->filter, err) != 0 ||
	    filter_compile(exclude, "exclude-filter", cfg_get(item, "exclude-filter"), &g->exclude, err) != 0)
		return outbound_err_prefix(err, "%s: ", g->ob.name);
	return 0;
}

static const struct group_type *
type_find(const char *name)
{
	for (int i = 0; group_types[i] != NULL; i++)
		if (strcmp(group_types[i]->ob.name, name) == 0)
			return group_types[i];
	return NULL;
}

static struct group *
group_new(struct gen *gen, const struct group_type *type, const char *name)
{
	struct group *g = (struct group *)outbound_new(gen, &type->ob, name);

	g->gtype = type;
	g->url = default_url;
	g->expected = "*";
	g->icon = g->default_selected = g->exclude_type = "";
	group_set_selected(g, "");
	g->lazy = true;
	g->timeout_ms = DEFAULT_TIMEOUT_MS;
	g->max_failed = DEFAULT_MAX_FAILED;
	g->empty = gen->compatible;
	return g;
}

static int
parse_one(struct gen *gen, const struct cfg_node *item, struct group **out, struct cfg_err *err)
{
	const char *type_name = "", *name = cfg_text(cfg_get(item, "name"));
	const struct group_type *type;
	const struct cfg_node *n = cfg_get(item, "type");
	struct group *g;

	if (cfgw_str(item, "type", &type_name, err) != 0)
		return -E_INVAL;
	if (name[0] == '\0' || type_name[0] == '\0')
		return cfg_fail(err, item, "type", "format error");
	type = type_find(type_name);
	if (type == NULL)
		return cfg_fail(err, n, "type", "unsupported type: %.64s", type_name);
	*out = g = group_new(gen, type, arena_strdup(&gen->arena, name));
	g->item = item;
	if (parse_flags(g, err) != 0 || parse_texts(g, err) != 0 || (type->setup != NULL && type->setup(g, item, err) != 0)) {
		group_fini(&g->ob);
		return -E_INVAL;
	}
	if (type == &group_relay_type)
		log_warn("proxy group %s: the relay type is deprecated, use dialer-proxy", name);
	warn_keys(g, item);
	return 0;
}

/* ---- members */

static bool
excluded(const struct group *g, const struct outbound *ob)
{
	const char *p = g->exclude_type;
	size_t n;

	for (; *p != '\0'; p += n + (p[n] != '\0')) {
		n = strcspn(p, "|");
		if (n == strlen(ob->type->api_name) && strncasecmp(p, ob->type->api_name, n) == 0)
			return true;
	}
	return filter_match_any(g->exclude, ob->name);
}

bool
group_wants(const struct group *g, const struct outbound *ob)
{
	return (g->filter == NULL || filter_match_any(g->filter, ob->name)) && !excluded(g, ob);
}

struct members {
	struct outbound **m;
	int n, cap;
};

static void
add_member(struct members *ms, struct outbound *ob)
{
	if (ms->n == ms->cap) {
		ms->cap = ms->cap > 0 ? ms->cap * 2 : 8;
		ms->m = reallocarray(ms->m, (size_t)ms->cap, sizeof(*ms->m));
		if (ms->m == NULL)
			fatal("out of memory: members of a group");
	}
	ms->m[ms->n++] = ob;
}

/* Nodes of the sets in order of the patterns; a node that several match stands where the first one puts it. With several
 * sets and patterns the second node of a name is left out too: the reference orders those over all sets by name. */
static void
add_nodes(struct group *g, struct members *ms)
{
	int rounds = filter_count(g->filter);
	bool by_name = rounds > 1 && g->n_use > 1;
	struct map seen;

	map_init(&seen);
	for (int r = 0; r < (rounds > 0 ? rounds : 1); r++) {
		for (int u = 0; u < g->n_use; u++) {
			for (int i = 0; i < g->use[u]->n; i++) {
				struct outbound *ob = g->use[u]->nodes[i];
				bool again = false;

				if (rounds > 0 && !filter_match(g->filter, r, ob->name))
					continue;
				for (int before = 0; before < r && !by_name && !again; before++)
					again = filter_match(g->filter, before, ob->name);
				if (again || excluded(g, ob) || (by_name && map_put(&seen, ob->name, ob) != 0))
					continue;
				add_member(ms, ob);
			}
		}
	}
	map_free(&seen);
}

void
group_build(struct group *g)
{
	struct members ms = { 0 };

	for (int i = 0; i < g->n_own; i++)
		if (!excluded(g, g->own[i]))
			add_member(&ms, g->own[i]);
	add_nodes(g, &ms);
	if (ms.n == 0)
		add_member(&ms, g->empty);
	if (g->n_members == ms.n && memcmp(g->members, ms.m, (size_t)ms.n * sizeof(*ms.m)) == 0) {
		free(ms.m);
		return;
	}
	free(g->members);
	g->members = ms.m;
	g->n_members = ms.n;
	g->version++;
	group_tested(g);
}

static int
by_name(const void *a, const void *b)
{
	const struct outbound *const *x = a, *const *y = b;

	return strcmp((*x)->name, (*y)->name);
}

/* All proxies by name, in the filter's order: a node that two patterns match comes twice, as in the reference. */
static void
add_all_proxies(struct group *g)
{
	struct gen *gen = g->ob.gen;
	size_t n = (size_t)gen->n_outbounds;
	struct outbound **sorted = calloc(n + 1, sizeof(struct outbound *));
	int rounds = filter_count(g->filter);

	if (sorted == NULL)
		fatal("out of memory: proxies of a group");
	memcpy(sorted, gen->outbounds, n * sizeof(struct outbound *));
	qsort(sorted, n, sizeof(struct outbound *), by_name);
	for (int r = 0; r < (rounds > 0 ? rounds : 1); r++)
		for (size_t i = 0; i < n; i++)
			if (rounds == 0 || filter_match(g->filter, r, sorted[i]->name))
				g->own[g->n_own++] = sorted[i];
	free(sorted);
}

static int
set_by_name(const void *a, const void *b)
{
	const struct node_set *const *x = a, *const *y = b;

	return strcmp((*x)->name, (*y)->name);
}

/* `use` in its order, or every provider by name; the first one's URL is the group's if it has none. */
static int
find_sets(struct group *g, const struct cfg_node *use, struct cfg_err *err)
{
	struct gen *gen = g->ob.gen;

	g->use = arena_array(&gen->arena, (g->all_providers ? (size_t)gen->n_sets : cfg_count(use)) + 1, sizeof(*g->use));
	if (g->all_providers) {
		for (; g->n_use < gen->n_sets; g->n_use++)
			g->use[g->n_use] = gen->sets[g->n_use];
		qsort(g->use, (size_t)g->n_use, sizeof(*g->use), set_by_name);
	} else {
		cfg_each(c, use) {
			const char *name = cfg_text(c);
			struct outbound *ob = outbound_find(gen, name);
			int i = 0;

			while (i < gen->n_sets && strcmp(gen->sets[i]->name, name) != 0)
				i++;
			if (i == gen->n_sets && ob != NULL && group_of(ob) != NULL)
				return cfg_fail(err, c, "use", "proxy group %s can't contains in `use`", name);
			if (i == gen->n_sets)
				return cfg_fail(err, c, "use", "%s: '%s' not found", g->ob.name, name);
			g->use[g->n_use++] = gen->sets[i];
		}
	}
	for (int i = 0; i < g->n_use && g->url[0] == '\0'; i++)
		g->url = g->use[i]->url;
	return 0;
}

static int
find_own(struct group *g, const struct cfg_node *own, struct cfg_err *err)
{
	struct gen *gen = g->ob.gen;
	int rounds = filter_count(g->filter);
	size_t n = cfg_count(own) + (g->all_proxies ? (size_t)gen->n_outbounds * (size_t)(rounds > 0 ? rounds : 1) : 0);

	g->own = arena_array(&gen->arena, n + 1, sizeof(struct outbound *));
	cfg_each(c, own) {
		struct outbound *ob = outbound_find(gen, cfg_text(c));

		if (ob == NULL)
			return cfg_fail(err, c, "proxies", "%s: '%s' not found", g->ob.name, cfg_text(c));
		g->own[g->n_own++] = ob;
	}
	g->n_listed = g->n_own;
	if (g->all_proxies)
		add_all_proxies(g);
	for (int i = 0; g->n_listed > 0 && i < gen->n_sets; i++)
		if (strcmp(gen->sets[i]->name, g->ob.name) == 0)
			return cfg_fail(err, g->item, "name", "%s: duplicate provider name", g->ob.name);
	return 0;
}

static int
find_members(struct group *g, struct cfg_err *err)
{
	const struct cfg_node *own = cfg_get(g->item, "proxies"), *use = cfg_get(g->item, "use");

	if (!cfg_is_null(use) && use->type != CFG_LIST)
		return cfg_fail(err, use, "use", "'use' is not a slice");
	if (cfg_list(use, "use", &use, err) != 0 || find_sets(g, use, err) != 0)
		return -E_INVAL;
	if (cfg_count(own) == 0 && !g->all_proxies && g->n_use == 0)
		return cfg_fail(err, g->item, "proxies", "%s: `use` or `proxies` missing", g->ob.name);
	if (find_own(g, own, err) != 0)
		return -E_INVAL;
	if (g->url[0] == '\0')
		g->url = default_url;
	if (g->interval_s == 0 && g->n_listed > 0 && g->gtype != &group_select_type && g->gtype != &group_relay_type)
		g->interval_s = DEFAULT_INTERVAL_S;
	group_build(g);
	return 0;
}

/* ---- loops: groups that lead to no group are taken away, round by round, then those that no group leads to; what stays is
 * in a loop */

struct edge {
	int from, to;	/* positions in gen->groups */
};

static int
edges_of(struct gen *gen, struct edge **out)
{
	size_t n = 0, cap = 0;
	struct edge *e;

	for (int i = 0; i < gen->n_groups; i++)
		cap += (size_t)group_of(gen->groups[i])->n_members;
	e = calloc(cap + 1, sizeof(*e));
	if (e == NULL)
		fatal("out of memory: groups");
	for (int i = 0; i < gen->n_groups; i++) {
		struct group *g = group_of(gen->groups[i]);

		for (int m = 0; m < g->n_members; m++)
			if (group_of(g->members[m]) != NULL)
				e[n++] = (struct edge){ i, (int)g->members[m]->visiting - 1 };
	}
	*out = e;
	return (int)n;
}

/* Takes away every group that has no edge left on this side; true if any was. */
static bool
strip(bool *gone, int n_groups, const struct edge *e, int n, bool by_referrer)
{
	bool *kept = calloc((size_t)n_groups + 1, sizeof(*kept)), any = false;

	if (kept == NULL)
		fatal("out of memory: groups");
	for (int i = 0; i < n; i++)
		if (!gone[e[i].from] && !gone[e[i].to])
			kept[by_referrer ? e[i].to : e[i].from] = true;
	for (int i = 0; i < n_groups; i++) {
		if (gone[i] || kept[i])
			continue;
		gone[i] = any = true;
	}
	free(kept);
	return any;
}

static int
loop_error(struct gen *gen, const bool *gone, struct cfg_err *err)
{
	const struct cfg_node *item = cfg_first(cfg_get(gen->root, "proxy-groups")), *first = NULL;
	char names[400] = "";
	size_t at = 0;

	/* items and groups are in the same order */
	for (int i = 0; i < gen->n_groups && at < sizeof(names) - 1; i++, item = item != NULL ? cfg_next(item) : NULL) {
		if (gone[i])
			continue;
		if (first == NULL)
			first = item;
		at += (size_t)snprintf(names + at, sizeof(names) - at, "%s%s", at > 0 ? " " : "", gen->groups[i]->name);
	}
	return at == 0 ? 0 :
	    cfg_fail(err, first, "proxy-groups", "loop is detected in ProxyGroup, please check following ProxyGroups: [%s]",
	    names);
}

static int
check_loops(struct gen *gen, struct cfg_err *err)
{
	bool *gone = calloc((size_t)gen->n_groups + 1, sizeof(*gone));
	struct edge *e;
	int n, rounds = 0, rc;

	if (gone == NULL)
		fatal("out of memory: groups");
	for (int i = 0; i < gen->n_groups; i++)
		gen->groups[i]->visiting = (unsigned)i + 1;
	n = edges_of(gen, &e);
	while (strip(gone, gen->n_groups, e, n, false))
		rounds++;
	while (strip(gone, gen->n_groups, e, n, true))
		;
	rc = loop_error(gen, gone, err);
	if (rc == 0 && rounds > GROUP_NESTING_MAX)
		rc = cfg_fail(err, NULL, "proxy-groups", "proxy groups are nested deeper than %d", GROUP_NESTING_MAX);
	for (int i = 0; i < gen->n_groups; i++)
		gen->groups[i]->visiting = 0;
	free(e);
	free(gone);
	return rc;
}

/* ---- all groups */

static int
check_names(const struct cfg_node *list, struct cfg_err *err)
{
	struct map seen;
	int i = 0, rc = 0;

	map_init(&seen);
	cfg_each(item, list) {
		const struct cfg_node *n = cfg_get(item, "name"), *proxies = cfg_get(item, "proxies");
		const struct cfg_node *ignored;

		if (cfg_is_null(n) || strcmp(cfg_tag(n), "!!str") != 0)
			rc = cfg_fail(err, item, "name", "proxy group %d: missing name", i);
		else if (cfg_text(n)[0] != '\0' && map_put(&seen, cfg_text(n), err) != 0)
			rc = cfg_fail(err, n, "name", "ProxyGroup %s: duplicate group name", cfg_text(n));
		else if (!cfg_is_null(proxies) && proxies->type != CFG_LIST)
			rc = cfg_fail(err, proxies, "proxies", "ProxyGroup %s: 'proxies' is not a slice", cfg_text(n));
		else if (cfg_list(proxies, "proxies", &ignored, err) != 0)
			rc = outbound_err_prefix(err, "ProxyGroup %s: ", cfg_text(n));
		if (rc != 0)
			break;
		i++;
	}
	map_free(&seen);
	return rc;
}

int
groups_declare(struct gen *gen, const struct cfg_node *root, struct cfg_err *err)
{
	const struct cfg_node *list;
	int i = 0;

	if (cfg_list_of_maps(cfg_get(root, "proxy-groups"), "proxy-groups", &list, err) != 0 || check_names(list, err) != 0)
		return -E_INVAL;
	gen->groups = arena_array(&gen->arena, cfg_count(list) + 1, sizeof(struct outbound *));
	cfg_each(item, list) {
		struct group *g;

		if (parse_one(gen, item, &g, err) != 0)
			return outbound_err_prefix(err, "proxy group[%d]: ", i);
		if (map_put(&gen->proxies, g->ob.name, g) != 0) {
			(void)cfg_fail(err, item, "name", "proxy group %s: the duplicate name", g->ob.name);
			group_fini(&g->ob);
			return -E_INVAL;
		}
		gen->groups[i++] = &g->ob;
		gen->n_groups = i;
	}
	return 0;
}

/* GLOBAL, unless the file has its own: DIRECT, REJECT, all proxies, all groups. Made when there is nothing else too. */
static void
make_global(struct gen *gen)
{
	struct group *g;

	gen->global = outbound_find(gen, "GLOBAL");
	if (gen->global != NULL && group_of(gen->global) != NULL)
		return;
	g = group_new(gen, &group_select_type, "GLOBAL");
	g->own = arena_array(&gen->arena, (size_t)gen->n_outbounds + (size_t)gen->n_groups + 2, sizeof(struct outbound *));
	g->own[g->n_own++] = gen->direct;
	g->own[g->n_own++] = gen->reject;
	for (int i = 0; i < gen->n_outbounds; i++)
		g->own[g->n_own++] = gen->outbounds[i];
	for (int i = 0; i < gen->n_groups; i++)
		g->own[g->n_own++] = gen->groups[i];
	group_build(g);
	gen->global = &g->ob;
	if (map_put(&gen->proxies, "GLOBAL", g) == 0)
		gen->groups[gen->n_groups++] = &g->ob;
}

int
groups_parse(struct gen *gen, const struct cfg_node *root, struct cfg_err *err)
{
	int rc = 0;

	(void)root;
	for (int i = 0; i < gen->n_groups && rc == 0; i++)
		if (find_members(group_of(gen->groups[i]), err) != 0)
			rc = outbound_err_prefix(err, "proxy group[%d]: ", i);
	if (rc == 0)
		rc = check_loops(gen, err);
	if (rc == 0)
		make_global(gen);
	return rc;
}
