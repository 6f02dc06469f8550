/* SPDX-License-Identifier: MIT */
/* `proxy-providers:` become providers here, and lists of nodes become their nodes. Called by apply.c while configuring and
 * by worker/nodes.c for updates. Owns the nodes: new ones of one list lie together in a batch, an arena that is freed when
 * the last of them is. */
#include "worker/provider/provider.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/log.h"
#include "common/strutil.h"
#include "worker/group/group.h"
#include "worker/outbound/outbound.h"
#include "worker/provider/config.h"
#include "worker/worker.h"

enum {
	CHECK_INTERVAL_S = 300,
	CHECK_TIMEOUT_MS = 5000,
	NAMED_MAX = 16 /* bad nodes named in the log per load; more are counted */
};

struct batch {
	struct arena arena;
	int n; /* nodes that are not freed yet */
};
struct retired {
	struct outbound *ob;
	struct batch *batch;
	uint64_t at_ms;
};

/* ---- options */

static int
parse_check(struct provider *p, struct cfg_err *err)
{
	const struct cfg_node *n = cfg_get(p->item, "health-check");
	const char *expected = "", *url = "";

	p->lazy = true;
	p->check_timeout_ms = CHECK_TIMEOUT_MS;
	p->expected = "*";
	if (cfg_is_null(n))
		return 0;
	if (cfgw_bool(n, "enable", &p->check, err) != 0 || cfgw_str(n, "url", &url, err) != 0 ||
	    cfgw_int(n, "interval", INT32_MIN, INT32_MAX, &p->check_interval_s, err) != 0 ||
	    cfgw_int(n, "timeout", INT32_MIN, INT32_MAX, &p->check_timeout_ms, err) != 0 ||
	    cfgw_bool(n, "lazy", &p->lazy, err) != 0 || cfgw_str(n, "expected-status", &expected, err) != 0)
		return -E_INVAL;
	p->set.url = arena_strdup(&p->gen->arena, url);
	expected = str_trim(arena_strdup(&p->gen->arena, expected));
	if (expected[0] != '\0')
		p->expected = expected;
	if (p->check && p->check_interval_s == 0)
		p->check_interval_s = CHECK_INTERVAL_S;
	if (p->check_timeout_ms <= 0)
		p->check_timeout_ms = CHECK_TIMEOUT_MS;
	return 0;
}

static int
parse_one(struct provider *p, struct cfg_err *err)
{
	const struct cfg_node *item = p->item;
	const char *type = "", *filter = "", *exclude = "";

	p->set.url = p->url = p->path = p->proxy = p->exclude_type = p->dialer = "";
	if (cfgw_str(item, "type", &type, err) != 0 || cfgw_str(item, "url", &p->url, err) != 0 ||
	    cfgw_str(item, "path", &p->path, err) != 0 || cfgw_str(item, "proxy", &p->proxy, err) != 0 ||
	    cfgw_str(item, "exclude-type", &p->exclude_type, err) != 0 || cfgw_str(item, "dialer-proxy", &p->dialer, err) != 0 ||
	    cfgw_str(item, "filter", &filter, err) != 0 || cfgw_str(item, "exclude-filter", &exclude, err) != 0 ||
	    cfgw_int(item, "interval", INT32_MIN, INT32_MAX, &p->interval_s, err) != 0 ||
	    cfgw_int(item, "size-limit", 0, INT64_MAX, &p->size_limit, err) != 0)
		return -E_INVAL;
	p->vehicle = strcmp(type, "http") == 0 ? VEHICLE_HTTP : strcmp(type, "file") == 0 ? VEHICLE_FILE : VEHICLE_INLINE;
	if (p->vehicle == VEHICLE_HTTP && p->path[0] == '\0')
		p->path = provider_stored_path(p->gen, "proxies", p->url);
	if (filter_compile(filter, "filter", cfg_get(item, "filter"), &p->filter, err) != 0 ||
	    filter_compile(exclude, "exclude-filter", cfg_get(item, "exclude-filter"), &p->exclude, err) != 0 ||
	    parse_check(p, err) != 0)
		return -E_INVAL;
	return override_parse(p, err);
}

int
providers_parse(struct gen *g, const struct cfg_node *root, struct cfg_err *err)
{
	const struct cfg_node *map;
	size_t n;

	if (provider_check_proxies(g, root, err) != 0 ||
	    cfg_map(cfg_get(root, "proxy-providers"), "proxy-providers", &map, err) != 0)
		return -E_INVAL;
	n = cfg_count(map);
	map_init(&g->nodes);
	g->providers = arena_alloc(&g->arena, sizeof(*g->providers));
	g->providers->p = arena_array(&g->arena, n + 1, sizeof(*g->providers->p));
	g->sets = arena_array(&g->arena, n + 1, sizeof(*g->sets));
	cfg_each(c, map) {
		struct provider *p = arena_alloc(&g->arena, sizeof(*p));

		p->gen = g;
		p->item = c;
		p->set.name = arena_strdup(&g->arena, cfg_key(c));
		g->providers->p[g->providers->n++] = p;
		g->sets[g->n_sets++] = &p->set;
		if (parse_one(p, err) != 0)
			return outbound_err_prefix(err, "parse proxy provider %.128s error: ", p->set.name);
	}
	return 0;
}

/* ---- looking up */

struct provider *
provider_find(struct gen *g, const char *name)
{
	for (int i = 0; g->providers != NULL && i < g->providers->n; i++)
		if (strcmp(g->providers->p[i]->set.name, name) == 0)
			return g->providers->p[i];
	return NULL;
}

struct outbound *
provider_node(const struct provider *p, const char *name)
{
	struct outbound *ob = map_get(&p->gen->nodes, name);

	if (ob == NULL || ob->provider == p->set.name)
		return ob;
	for (int i = 0; i < p->set.n; i++) /* another provider has one of that name, too */
		if (strcmp(p->set.nodes[i]->name, name) == 0)
			return p->set.nodes[i];
	return NULL;
}

struct outbound *
node_find(struct gen *g, const char *provider, const char *name)
{
	struct provider *p = provider[0] != '\0' ? provider_find(g, provider) : NULL;
	struct outbound *ob;

	if (p != NULL)
		return provider_node(p, name);
	ob = provider[0] == '\0' ? outbound_find(g, name) : NULL;
	return ob != NULL || provider[0] != '\0' ? ob : map_get(&g->nodes, name);
}

/* ---- choosing */

struct pick { /* the items of a list that become nodes, in order */
	const struct cfg_node **item;
	int n;
};

static bool
type_excluded(const struct provider *p, const struct cfg_node *item)
{
	const char *type = cfg_text(cfg_get(item, "type")), *s = p->exclude_type;
	size_t n;

	for (; type != NULL && *s != '\0'; s += n + (s[n] != '\0')) {
		n = strcspn(s, "|");
		if (n == strlen(type) && strncasecmp(s, type, n) == 0)
			return true;
	}
	return false;
}

static void
choose(const struct provider *p, const struct cfg_node *list, struct pick *pick)
{
	int rounds = filter_count(p->filter);
	struct map seen;

	map_init(&seen);
	pick->item = calloc(cfg_count(list) + 1, sizeof(*pick->item));
	if (pick->item == NULL)
		fatal("out of memory: nodes of a provider");
	for (int r = 0; r < (rounds > 0 ? rounds : 1); r++) {
		cfg_each(c, list) {
			const struct cfg_node *n = c->type == CFG_MAP ? cfg_get(c, "name") : NULL;

			if (n == NULL || n->type != CFG_SCALAR || cfg_text(n)[0] == '\0' || type_excluded(p, c) ||
			    filter_match_any(p->exclude, cfg_text(n)) || (rounds > 0 && !filter_match(p->filter, r, cfg_text(n))))
				continue;
			if (map_put(&seen, cfg_text(n), pick) == 0) /* of equal names the first one is taken */
				pick->item[pick->n++] = c;
		}
	}
	map_free(&seen);
}

/* ---- building */

struct load { /* a list on its way to become the nodes */
	struct provider *p;
	struct outbound **nodes;
	uint64_t *hash;
	struct batch **batch;
	int n;
	struct batch *fresh; /* of what is new */
	bool dry; /* only to see whether it can be */
	bool *kept; /* which of the present nodes stay */
	struct map old; /* hash as text -> index + 1 of a present node */
	int bad, unspoken;
};

static uint64_t
mix(uint64_t h, const char *s, size_t n)
{
	static const uint8_t seed[16] = "proxy-provider";
	uint64_t v[2] = { h, s != NULL ? siphash13(seed, s, n) + 1 : 0 };

	return siphash13(seed, v, sizeof(v));
}

static uint64_t
hash_of(uint64_t h, const struct cfg_node *n)
{
	char type = (char)n->type;

	h = mix(h, &type, 1);
	h = mix(h, cfg_key(n), cfg_key(n) != NULL ? strlen(cfg_key(n)) : 0);
	if (n->type == CFG_SCALAR)
		h = mix(h, cfg_text(n), n->text_len);
	cfg_each(c, n)
		h = hash_of(h, c);
	return mix(h, NULL, 0);
}

/* Present nodes by hash; the texts lie in *texts. */
static void
index_old(struct load *l, char (**texts)[17])
{
	struct provider *p = l->p;

	map_init(&l->old);
	*texts = calloc((size_t)p->set.n + 1, sizeof(**texts));
	if (*texts == NULL)
		fatal("out of memory: nodes of a provider");
	for (int i = 0; i < p->set.n; i++) {
		(void)snprintf((*texts)[i], sizeof(**texts), "%016llx", (unsigned long long)p->hash[i]);
		(void)map_put(&l->old, (*texts)[i], (void *)(uintptr_t)(i + 1));
	}
}

static bool
reuse(struct load *l, uint64_t hash)
{
	char text[17];
	uintptr_t i;

	(void)snprintf(text, sizeof(text), "%016llx", (unsigned long long)hash);
	i = (uintptr_t)map_get(&l->old, text);
	if (i == 0 || l->kept[i - 1])
		return false;
	l->kept[i - 1] = true;
	l->nodes[l->n] = l->p->set.nodes[i - 1];
	l->hash[l->n] = hash;
	l->batch[l->n++] = l->p->batch[i - 1];
	return true;
}

static void
complain(struct load *l, const struct cfg_node *item, const char *why)
{
	const struct worker *w = l->p->gen->w;

	if (w != NULL && w->lead && !l->dry && l->bad++ < NAMED_MAX)
		log_warn(
		    "proxy-provider %.128s: proxy %.128s is left out: %s", l->p->set.name, cfg_text(cfg_get(item, "name")), why);
}

static bool
link_dialer(struct outbound *ob, struct cfg_err *err)
{
	if (ob->dialer_proxy[0] == '\0')
		return true;
	ob->dialer = outbound_find(ob->gen, ob->dialer_proxy);
	if (ob->dialer == NULL)
		(void)cfg_fail(err, NULL, "dialer-proxy", "dialer-proxy '%.64s' not found", ob->dialer_proxy);
	return ob->dialer != NULL;
}

/* Everything a node allocates lies in its batch: its arena stands in for the generation's meanwhile. */
static void
build(struct load *l, const struct cfg_node *item)
{
	struct gen *g = l->p->gen;
	struct arena own = g->arena;
	struct cfg_err err = { 0 };
	struct outbound *ob;
	bool ok;

	g->arena = l->fresh->arena;
	g->quiet_nodes = true;
	ob = outbound_parse(g, item, "", &err);
	g->quiet_nodes = false;
	l->fresh->arena = g->arena;
	g->arena = own;
	ok = ob != NULL && link_dialer(ob, &err);
	if (!ok) {
		complain(l, item, err.text);
		if (ob != NULL && ob->type->fini != NULL)
			ob->type->fini(ob);
		return;
	}
	ob->provider = l->p->set.name;
	l->unspoken += (ob->flags & OB_UNSPOKEN) != 0;
	l->nodes[l->n] = ob;
	l->hash[l->n] = hash_of(0, item);
	l->batch[l->n++] = l->fresh;
	l->fresh->n++;
}

static void
build_all(struct load *l, const struct cfg_node **items, int n)
{
	char(*texts)[17];

	index_old(l, &texts);
	for (int i = 0; i < n; i++)
		if (!reuse(l, hash_of(0, items[i])))
			build(l, items[i]);
	map_free(&l->old);
	free(texts);
	if (l->bad > NAMED_MAX)
		log_warn("proxy-provider %.128s: %d more proxies are left out", l->p->set.name, l->bad - NAMED_MAX);
	if (l->unspoken > 0 && !l->dry && l->p->gen->w != NULL && l->p->gen->w->lead)
		log_warn("proxy-provider %.128s: %d of %d proxies use protocols that are not spoken yet: listed, not alive",
		    l->p->set.name, l->unspoken, l->n);
}

/* The chosen items as the override makes them, then built. */
static int
build_overridden(struct load *l, const struct pick *pick, struct cfg_err *err)
{
	struct tree_builder *to = tree_build();
	const struct cfg_node **items = calloc((size_t)pick->n + 1, sizeof(*items));
	struct tree t;
	size_t size = 0;
	void *image = NULL;
	int n = 0, rc = to != NULL && items != NULL ? 0 : -E_NOMEM;

	if (rc == 0)
		(void)tree_add(to, -1, CFG_LIST, 0, NULL, NULL, 0, 1, 1);
	for (int i = 0; i < pick->n && rc == 0; i++) {
		struct cfg_err why = { 0 };

		rc = override_apply(l->p, pick->item[i], to, 0, &why);
		if (rc == -E_INVAL && why.text[0] != '\0') {
			complain(l, pick->item[i], why.text);
			rc = 0;
		}
	}
	if (rc == 0) {
		image = tree_finish(to, &size);
		rc = image != NULL ? tree_from_memory(&t, image, size, err) : -E_NOMEM;
	} else if (to != NULL) {
		tree_abandon(to);
	}
	if (rc == 0) {
		cfg_each(c, t.root)
			items[n++] = c;
		build_all(l, items, n);
	}
	free(items);
	free(image);
	return rc;
}

/* ---- taking the place of the present nodes */

static void
retire(struct provider *p, int i)
{
	struct providers *ps = p->gen->providers;

	if (ps->n_retired == ps->cap_retired) {
		ps->cap_retired = ps->cap_retired > 0 ? ps->cap_retired * 2 : 64;
		ps->retired = reallocarray(ps->retired, (size_t)ps->cap_retired, sizeof(*ps->retired));
		if (ps->retired == NULL)
			fatal("out of memory: nodes of a provider");
	}
	ps->retired[ps->n_retired++] =
	    (struct retired){ p->set.nodes[i], p->batch[i], p->gen->w != NULL ? p->gen->w->loop.now_ms : 0 };
}

/* Names of all providers' nodes, anew: they may have come, gone, or stand behind another of the same name. */
static void
index_names(struct gen *g)
{
	map_free(&g->nodes);
	map_init(&g->nodes);
	for (int i = 0; i < g->providers->n; i++)
		for (int n = 0; n < g->providers->p[i]->set.n; n++)
			(void)map_put(&g->nodes, g->providers->p[i]->set.nodes[n]->name, g->providers->p[i]->set.nodes[n]);
}

static void
swap(struct load *l)
{
	struct provider *p = l->p;

	for (int i = 0; i < p->set.n; i++)
		if (!l->kept[i])
			retire(p, i);
	free(p->set.nodes);
	free(p->hash);
	free(p->batch);
	p->set.nodes = l->nodes;
	p->set.n = l->n;
	p->hash = l->hash;
	p->batch = l->batch;
	p->version++;
	index_names(p->gen);
	groups_changed(p->gen, &p->set);
	if (p->gen->w != NULL)
		worker_touch(p->gen->w);
}

static bool
same(const struct load *l)
{
	return l->n == l->p->set.n && l->n > 0 && memcmp(l->nodes, l->p->set.nodes, (size_t)l->n * sizeof(*l->nodes)) == 0;
}

static void
drop(struct load *l)
{
	for (int i = 0; i < l->n; i++)
		if (l->batch[i] == l->fresh && l->nodes[i]->type->fini != NULL)
			l->nodes[i]->type->fini(l->nodes[i]);
	free(l->nodes);
	free(l->hash);
	free(l->batch);
	l->fresh->n = 0;
}

static int
take_list(struct provider *p, const struct cfg_node *list, bool dry, bool *changed, struct cfg_err *err)
{
	struct load l = { .p = p, .dry = dry };
	struct pick pick = { 0 };
	int rc = 0;

	*changed = false;
	if (p->gen->providers->n_retired >= NODES_RETIRED_MAX) {
		(void)cfg_fail(err, NULL, NULL, "%d nodes of earlier versions are still in use", p->gen->providers->n_retired);
		return -E_LIMIT;
	}
	choose(p, list, &pick);
	l.nodes = calloc((size_t)pick.n + 1, sizeof(*l.nodes));
	l.hash = calloc((size_t)pick.n + 1, sizeof(*l.hash));
	l.batch = calloc((size_t)pick.n + 1, sizeof(struct batch *));
	l.kept = calloc((size_t)p->set.n + 1, sizeof(*l.kept));
	l.fresh = calloc(1, sizeof(*l.fresh));
	if (l.nodes == NULL || l.hash == NULL || l.batch == NULL || l.kept == NULL || l.fresh == NULL)
		fatal("out of memory: nodes of a provider");
	arena_init(&l.fresh->arena);
	if (override_any(p))
		rc = build_overridden(&l, &pick, err);
	else
		build_all(&l, pick.item, pick.n);
	if (rc == 0 && l.n == 0)
		rc = cfg_fail(err, NULL, NULL,
		    filter_count(p->filter) > 0 || filter_count(p->exclude) > 0 || p->exclude_type[0] != '\0' ?
			"doesn't match any proxy, please check your filter" :
			"file doesn't have any proxy");
	if (rc == 0 && !dry && !same(&l)) {
		swap(&l);
		*changed = true;
	} else {
		drop(&l);
	}
	if (l.fresh->n == 0) {
		arena_free(&l.fresh->arena);
		free(l.fresh);
	}
	free(l.kept);
	free(pick.item);
	return rc;
}

int
provider_load(struct provider *p, const struct cfg_node *list, bool *changed, struct cfg_err *err)
{
	return take_list(p, list, false, changed, err);
}

int
provider_check(struct provider *p, const struct cfg_node *list, struct cfg_err *err)
{
	bool changed;

	return take_list(p, list, true, &changed, err);
}

/* ---- the end of nodes */

static void
free_node(struct outbound *ob, struct batch *b)
{
	outbound_fini(ob);
	if (--b->n == 0) {
		arena_free(&b->arena);
		free(b);
	}
}

void
providers_reclaim(struct gen *g, unsigned mark, uint64_t since_ms)
{
	struct providers *ps = g->providers;
	uint64_t now_ms = g->w->loop.now_ms;
	int kept = 0;

	for (int i = 0; ps != NULL && i < ps->n_retired; i++) {
		struct retired *r = &ps->retired[i];

		if (r->ob->visiting == mark || r->at_ms >= since_ms || now_ms - r->at_ms < NODES_RETIRED_MS)
			ps->retired[kept++] = *r;
		else
			free_node(r->ob, r->batch);
	}
	if (ps != NULL)
		ps->n_retired = kept;
}

void
providers_fini(struct gen *g)
{
	struct providers *ps = g->providers;

	for (int i = 0; ps != NULL && i < ps->n; i++) {
		struct provider *p = ps->p[i];

		for (int n = 0; n < p->set.n; n++)
			free_node(p->set.nodes[n], p->batch[n]);
		free(p->set.nodes);
		free(p->hash);
		free(p->batch);
		filter_free(p->filter);
		filter_free(p->exclude);
		override_free(&p->override);
	}
	for (int i = 0; ps != NULL && i < ps->n_retired; i++)
		free_node(ps->retired[i].ob, ps->retired[i].batch);
	if (ps != NULL)
		free(ps->retired);
	map_free(&g->nodes);
	g->providers = NULL;
}
