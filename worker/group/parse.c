/* SPDX-License-Identifier: MIT */
/* `proxy-groups:`: common keys, members, filters, loops, and GLOBAL. Called by apply.c after the proxies are there. Groups
 * may name each other in any order, so all are made before members are looked up. Everything lives in the generation's
 * arena. Error texts: spec/config.md 8. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/log.h"
#include "common/map.h"
#include "common/strutil.h"
#include "worker/group/filter.h"
#include "worker/group/group.h"

enum { DEFAULT_INTERVAL_S = 300, DEFAULT_TIMEOUT_MS = 5000, DEFAULT_MAX_FAILED = 5, KEYS_MAX = 40 };
static const char default_url[] = "https://www.gstatic.com/generate_204";

struct draft {			/* a group while it is parsed */
	const struct cfg_node *item;
	struct group *g;
	struct filter *filter, *exclude;
	const char *exclude_type;
	bool all_proxies, all_providers;
	int cap;		/* of members */
};

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
parse_flags(struct draft *d, struct cfg_err *err)
{
	const struct cfg_node *item = d->item;
	struct group *g = d->g;
	bool all = false;

	if (cfgw_bool(item, "lazy", &g->lazy, err) != 0 || cfgw_bool(item, "disable-udp", &g->disable_udp, err) != 0 ||
	    cfgw_bool(item, "hidden", &g->hidden, err) != 0 || cfgw_bool(item, "include-all", &all, err) != 0 ||
	    cfgw_bool(item, "include-all-proxies", &d->all_proxies, err) != 0 ||
	    cfgw_bool(item, "include-all-providers", &d->all_providers, err) != 0)
		return -E_INVAL;
	d->all_proxies |= all;
	d->all_providers |= all;
	return cfgw_int(item, "interval", INT32_MIN, INT32_MAX, &g->interval_s, err) != 0 ||
	    cfgw_int(item, "timeout", INT32_MIN, INT32_MAX, &g->timeout_ms, err) != 0 ||
	    cfgw_int(item, "max-failed-times", INT32_MIN, INT32_MAX, &g->max_failed, err) != 0 ? -E_INVAL : 0;
}

static int
parse_texts(struct draft *d, struct cfg_err *err)
{
	const struct cfg_node *item = d->item;
	struct group *g = d->g;
	struct arena *a = &g->ob.gen->arena;
	const char *url = "", *icon = "", *expected = "", *filter = "", *exclude = "", *type = "", *def = "", *empty = "";

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
	d->exclude_type = type;
	if (!status_ranges_valid(g->expected))
		return cfg_fail(err, cfg_get(item, "expected-status"), "expected-status", "%s: intRanges error", g->ob.name);
	if (g->expected[0] == '\0')
		g->expected = "*";
	if (empty[0] != '\0') {
		g->empty = outbound_find(g->ob.gen, empty);
		if (g->empty == NULL || group_of(g->empty) != NULL)
			return cfg_fail(err, cfg_get(item, "empty-fallback"), "empty-fallback", "%s: '%s' not found",
			    g->ob.name, empty);
	}
	if (filter_compile(filter, "filter", cfg_get(item, "filter"), &d->filter, err) != 0 ||
	    filter_compile(exclude, "exclude-filter", cfg_get(item, "exclude-filter"), &d->exclude, err) != 0)
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
	g->icon = g->selected = g->default_selected = "";
	g->lazy = true;
	g->timeout_ms = DEFAULT_TIMEOUT_MS;
	g->max_failed = DEFAULT_MAX_FAILED;
	g->empty = gen->compatible;
	return g;
}

static int
parse_one(struct gen *gen, struct draft *d, struct cfg_err *err)
{
	const char *type_name = "", *name = cfg_text(cfg_get(d->item, "name"));
	const struct group_type *type;
	const struct cfg_node *n = cfg_get(d->item, "type");

	if (cfgw_str(d->item, "type", &type_name, err) != 0)
		return -E_INVAL;
	if (name[0] == '\0' || type_name[0] == '\0')
		return cfg_fail(err, d->item, "type", "format error");
	type = type_find(type_name);
	if (type == NULL)
		return cfg_fail(err, n, "type", "unsupported type: %.64s", type_name);
	d->g = group_new(gen, type, arena_strdup(&gen->arena, name));
	if (parse_flags(d, err) != 0 || parse_texts(d, err) != 0 || (type->setup != NULL && type->setup(d->g, d->item, err) != 0))
		return -E_INVAL;
	if (type == &group_relay_type)
		log_warn("proxy group %s: the relay type is deprecated, use dialer-proxy", name);
	warn_keys(d->g, d->item);
	return 0;
}

/* ---- members */

static bool
excluded(const struct draft *d, const struct outbound *ob)
{
	const char *p = d->exclude_type;
	size_t n;

	if (filter_match_any(d->exclude, ob->name))
		return true;
	for (; *p != '\0'; p += n + (p[n] != '\0')) {
		n = strcspn(p, "|");
		if (n == strlen(ob->type->api_name) && strncasecmp(p, ob->type->api_name, n) == 0)
			return true;
	}
	return false;
}

static void
add_member(struct draft *d, struct outbound *ob)
{
	struct group *g = d->g;

	if (excluded(d, ob) || g->n_members == d->cap)
		return;
	g->members[g->n_members++] = ob;
}

static int
by_name(const void *a, const void *b)
{
	const struct outbound *const *x = a, *const *y = b;

	return strcmp((*x)->name, (*y)->name);
}

/* All proxies by name, in the filter's order: a node that two patterns match comes twice, as in the reference. */
static void
add_all_proxies(struct draft *d)
{
	struct gen *gen = d->g->ob.gen;
	size_t n = (size_t)gen->n_outbounds;
	struct outbound **sorted = calloc(n + 1, sizeof(struct outbound *));
	int rounds = filter_count(d->filter);

	if (sorted == NULL)
		fatal("out of memory: proxies of a group");
	memcpy(sorted, gen->outbounds, n * sizeof(struct outbound *));
	qsort(sorted, n, sizeof(struct outbound *), by_name);
	for (int r = 0; r < (rounds > 0 ? rounds : 1); r++)
		for (size_t i = 0; i < n; i++)
			if (rounds == 0 || filter_match(d->filter, r, sorted[i]->name))
				add_member(d, sorted[i]);
	free(sorted);
}

static const struct cfg_node *
provider_node(const struct cfg_node *root, const char *name)
{
	cfg_each(c, cfg_get(root, "proxy-providers"))
		if (strcmp(cfg_key(c), name) == 0)
			return c;
	return NULL;
}

static void
take_url(struct group *g, const struct cfg_node *provider)
{
	const char *url = cfg_text(cfg_get(cfg_get(provider, "health-check"), "url"));

	if (g->url[0] == '\0' && url != NULL && url[0] != '\0')
		g->url = arena_strdup(&g->ob.gen->arena, url);
}

/* Providers do not work yet: their names are checked and the first one's test URL is used. */
static int
check_use(struct draft *d, const struct cfg_node *use, const struct cfg_node *root, struct cfg_err *err)
{
	struct gen *gen = d->g->ob.gen;

	cfg_each(c, use) {
		const char *name = cfg_text(c);
		const struct cfg_node *p = provider_node(root, name);
		struct outbound *ob = outbound_find(gen, name);

		if (p == NULL && ob != NULL && group_of(ob) != NULL)
			return cfg_fail(err, c, "use", "proxy group %s can't contains in `use`", name);
		if (p == NULL)
			return cfg_fail(err, c, "use", "%s: '%s' not found", d->g->ob.name, name);
		take_url(d->g, p);
	}
	return 0;
}

static int
providers_of(struct draft *d, const struct cfg_node *use, const struct cfg_node *root, bool *any, struct cfg_err *err)
{
	const struct cfg_node *all = cfg_get(root, "proxy-providers"), *first = NULL;

	*any = d->all_providers ? cfg_count(all) > 0 : cfg_count(use) > 0;
	if (!d->all_providers)
		return check_use(d, use, root, err);
	cfg_each(c, all)	/* in order of name */
		if (first == NULL || strcmp(cfg_key(c), cfg_key(first)) < 0)
			first = c;
	take_url(d->g, first);
	return 0;
}

static int
find_members(struct draft *d, const struct cfg_node *root, struct cfg_err *err)
{
	struct group *g = d->g;
	struct gen *gen = g->ob.gen;
	const struct cfg_node *own = cfg_get(d->item, "proxies"), *use;
	size_t own_count = cfg_count(own), n = own_count;
	bool providers;
	int rounds = filter_count(d->filter);

	if (cfg_get(d->item, "use") != NULL && !cfg_is_null(cfg_get(d->item, "use")) && cfg_get(d->item, "use")->type != CFG_LIST)
		return cfg_fail(err, cfg_get(d->item, "use"), "use", "'use' is not a slice");
	if (cfg_list(cfg_get(d->item, "use"), "use", &use, err) != 0 || providers_of(d, use, root, &providers, err) != 0)
		return -E_INVAL;
	if (d->all_proxies)
		n += (size_t)gen->n_outbounds * (size_t)(rounds > 0 ? rounds : 1);
	if (own_count == 0 && !d->all_proxies && !providers)
		return cfg_fail(err, d->item, "proxies", "%s: `use` or `proxies` missing", g->ob.name);
	d->cap = (int)n + 1;
	g->members = arena_array(&gen->arena, n + 1, sizeof(struct outbound *));
	cfg_each(c, own) {
		struct outbound *ob = outbound_find(gen, cfg_text(c));

		if (ob == NULL)
			return cfg_fail(err, c, "proxies", "%s: '%s' not found", g->ob.name, cfg_text(c));
		add_member(d, ob);
	}
	if (own_count > 0 && provider_node(root, g->ob.name) != NULL)
		return cfg_fail(err, d->item, "name", "%s: duplicate provider name", g->ob.name);
	if (d->all_proxies)
		add_all_proxies(d);
	if (providers)
		log_warn("proxy group %s: nodes of proxy-providers do not work yet and are left out", g->ob.name);
	if (g->n_members == 0)
		g->members[g->n_members++] = g->empty;
	if (g->url[0] == '\0')
		g->url = default_url;
	if (g->interval_s == 0 && own_count > 0 && g->gtype != &group_select_type && g->gtype != &group_relay_type)
		g->interval_s = DEFAULT_INTERVAL_S;
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

static int
make_all(struct gen *gen, const struct cfg_node *list, struct draft *drafts, struct cfg_err *err)
{
	int i = 0;

	cfg_each(item, list) {
		struct draft *d = &drafts[i];

		d->item = item;
		if (parse_one(gen, d, err) != 0)
			return outbound_err_prefix(err, "proxy group[%d]: ", i);
		if (map_put(&gen->proxies, d->g->ob.name, d->g) != 0)
			return cfg_fail(err, item, "name", "proxy group %s: the duplicate name", d->g->ob.name);
		gen->groups[i++] = &d->g->ob;
		gen->n_groups = i;
	}
	return 0;
}

/* GLOBAL, unless the file has its own: DIRECT, REJECT, all proxies, all groups. Made when there is nothing else too. */
static void
make_global(struct gen *gen)
{
	struct group *g;
	int n = 0;

	gen->global = outbound_find(gen, "GLOBAL");
	if (gen->global != NULL && group_of(gen->global) != NULL)
		return;
	g = group_new(gen, &group_select_type, "GLOBAL");
	g->members = arena_array(&gen->arena, (size_t)gen->n_outbounds + (size_t)gen->n_groups + 2, sizeof(struct outbound *));
	g->members[n++] = gen->direct;
	g->members[n++] = gen->reject;
	for (int i = 0; i < gen->n_outbounds; i++)
		g->members[n++] = gen->outbounds[i];
	for (int i = 0; i < gen->n_groups; i++)
		g->members[n++] = gen->groups[i];
	g->n_members = n;
	gen->global = &g->ob;
	if (map_put(&gen->proxies, "GLOBAL", g) == 0)
		gen->groups[gen->n_groups++] = &g->ob;
}

int
groups_parse(struct gen *gen, const struct cfg_node *root, struct cfg_err *err)
{
	const struct cfg_node *list;
	struct draft *drafts;
	size_t n;
	int rc;

	if (cfg_list_of_maps(cfg_get(root, "proxy-groups"), "proxy-groups", &list, err) != 0 || check_names(list, err) != 0)
		return -E_INVAL;
	n = cfg_count(list);
	gen->groups = arena_array(&gen->arena, n + 1, sizeof(struct outbound *));
	drafts = calloc(n + 1, sizeof(*drafts));
	if (drafts == NULL)
		fatal("out of memory: groups");
	rc = make_all(gen, list, drafts, err);
	for (size_t i = 0; i < n && rc == 0; i++)
		if (find_members(&drafts[i], root, err) != 0)
			rc = outbound_err_prefix(err, "proxy group[%zu]: ", i);
	for (size_t i = 0; i < n; i++) {
		filter_free(drafts[i].filter);
		filter_free(drafts[i].exclude);
	}
	free(drafts);
	if (rc == 0)
		rc = check_loops(gen, err);
	if (rc == 0)
		make_global(gen);
	return rc;
}
