/* SPDX-License-Identifier: MIT */
/* A proxy-provider: its options, its nodes, and how a new list of nodes takes the place of the old one (spec/config.md 9).
 * What it reads comes from the loader as a tree; where the bytes come from is the business of worker/source.c.
 *
 * A node whose map (after override) is as it was keeps its struct outbound, with history, delays and connections: an update
 * that changes nothing changes nothing. Nodes that vanish are kept until nothing can refer to them any more
 * (providers_reclaim). */
#ifndef SLUICE_WORKER_PROVIDER_PROVIDER_H
#define SLUICE_WORKER_PROVIDER_PROVIDER_H

#include <stdbool.h>
#include <stdint.h>

#include "common/config_tree.h"
#include "worker/group/filter.h"
#include "worker/gen.h"
#include "worker/provider/config.h"
#include "worker/provider/expr.h"
#include "worker/provider/userinfo.h"

struct outbound;
struct batch;
struct source;

enum {
	NODES_RETIRED_MAX = 16384, /* nodes of former lists that wait; at the cap updates are refused */
	NODES_RETIRED_MS = 900000, /* at least this long: dials and tests under way, streams of others */
	EXPRS_MAX = 32, /* of override.override-expr */
	RENAMES_MAX = 32 /* patterns of override.proxy-name; a configuration error beyond */
};

struct rename {
	struct filter *pattern; /* owned */
	const char *target;
};
struct override {
	const struct cfg_node *map; /* NULL = none */
	const char *prefix, *suffix; /* "" */
	struct rename rename[RENAMES_MAX];
	int n_renames;
	struct expr *expr[EXPRS_MAX]; /* after all of these */
	int n_exprs;
};

struct provider {
	struct node_set set; /* first; nodes are owned */
	struct gen *gen;
	const struct cfg_node *item; /* as configured */
	enum vehicle vehicle;
	const char *url, *path, *proxy; /* "" */
	int64_t interval_s, size_limit;
	/* health check */
	bool check, lazy;
	int64_t check_interval_s, check_timeout_ms;
	const char *expected; /* "*" if empty */
	/* which nodes, and what becomes of them */
	struct filter *filter, *exclude; /* owned; NULL = none */
	const char *exclude_type, *dialer; /* "" */
	struct override override;
	/* now */
	uint64_t *hash; /* of each node's map */
	struct batch **batch; /* whose arena each node lies in */
	uint32_t version; /* moves when the nodes change */
	int64_t updated_ns; /* Unix time; 0 = never */
	struct userinfo info;
	struct source *source; /* worker/source.h: where its nodes come from; NULL in tests */
};

struct retired;
struct providers {
	struct provider **p;
	int n;
	struct retired *retired; /* n_retired of them */
	int n_retired, cap_retired;
};

/* Checks the section and makes g->providers and g->sets, without nodes. */
int providers_parse(struct gen *g, const struct cfg_node *root, struct cfg_err *err);
struct provider *provider_find(struct gen *g, const char *name); /* NULL */
struct outbound *provider_node(const struct provider *p, const char *name); /* the first of that name, NULL */
/* The node of that name in a provider, or with provider "" a configured proxy or group, else the first provider's node of
 * that name; NULL. */
struct outbound *node_find(struct gen *g, const char *provider, const char *name);

/* Takes a list of maps as the provider's nodes. Nodes that cannot be built are left out and named in the log (of the lead).
 * 0: they serve, *changed tells whether anything is different; -E_INVAL with err filled, or -E_LIMIT: the old ones stay.
 * Groups have been told. */
int provider_load(struct provider *p, const struct cfg_node *list, bool *changed, struct cfg_err *err);

/* Whether provider_load() would take the list; nothing changes and nothing is logged. 0 or -E_* with err filled. */
int provider_check(struct provider *p, const struct cfg_node *list, struct cfg_err *err);

/* Frees what vanished long enough ago. The caller has set ob->visiting to mark on every node that is in use; nodes retired
 * after since_ms (loop time: the start of the oldest connection of which that is not known) stay. */
void providers_reclaim(struct gen *g, unsigned mark, uint64_t since_ms);
void providers_fini(struct gen *g);

/* override.c: item as the provider's override makes it, as a new node under parent. -E_* as tree_add(), or -E_INVAL with err
 * filled. */
int override_parse(struct provider *p, struct cfg_err *err);
bool override_any(const struct provider *p);
int override_apply(
    const struct provider *p, const struct cfg_node *item, struct tree_builder *to, int64_t parent, struct cfg_err *err);
void override_free(struct override *o);

#endif
