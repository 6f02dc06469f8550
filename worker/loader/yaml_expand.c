/* SPDX-License-Identifier: MIT */
/* The second half of yaml.c: walks the graph into a tree_builder and expands aliases and merges on the way, counting every
 * step, so that a small input cannot make a large job. Keys of a merge come after the local ones, which win; of several merged
 * maps the first wins. */
#include "worker/loader/yaml_graph.h"

#include <stdbool.h>
#include <stdlib.h>

#include "common/map.h"
#include "worker/loader/limits.h"

struct expand {
	struct cfg_err *err;
	struct tree_builder *out;
	unsigned depth;			/* of the node being added */
	uint32_t nodes;			/* added */
	uint32_t steps, merging;	/* at most YAML_STEPS_MAX, YAML_MERGE_DEPTH_MAX */
};

static int
fail(struct expand *x, int code, const struct ynode *n, const char *what)
{
	return yaml_fail(x->err, code, n->line, n->column, "%s", what);
}

static int emit(struct expand *x, const struct ynode *n, int64_t parent, const char *key, unsigned flags);

static int
step(struct expand *x, const struct ynode *n)
{
	if (++x->steps <= YAML_STEPS_MAX)
		return 0;
	return yaml_fail(x->err, E_LIMIT, n->line, n->column, "aliases and merges expand to more than %d steps (limit)",
	    YAML_STEPS_MAX);
}

static int
fail_add(struct expand *x, const struct ynode *n, int rc)
{
	const char *what = "bytes";
	int limit = CFG_BYTES_MAX;

	if (rc == -E_NOMEM)
		return fail(x, E_NOMEM, n, "out of memory");
	if (rc != -E_LIMIT)
		return fail(x, E_INVAL, n, "text is not valid UTF-8");
	if (x->depth > CFG_DEPTH_MAX) {
		what = "levels";
		limit = CFG_DEPTH_MAX;
	} else if (x->nodes >= CFG_NODES_MAX) {
		what = "nodes";
		limit = CFG_NODES_MAX;
	}
	return yaml_fail(x->err, E_LIMIT, n->line, n->column, "aliases expand to more than %d %s (limit)", limit, what);
}

static const struct ynode *
resolve(const struct ynode *n)
{
	return n->type == YAML_ALIAS ? n->u.target : n;
}

static int
fail_merge(struct expand *x, const struct ynode *n)
{
	return fail(x, E_INVAL, n, "map merge requires map or sequence of maps as the value");
}

/* Emits under parent what the map from has and seen has not: its own keys, then those it merges itself. */
static int
merge_map(struct expand *x, const struct ynode *from, int64_t parent, struct map *seen);

/* value is a map, or where list_ok a list of maps; each may be an alias. */
static int
merge_value(struct expand *x, const struct ynode *value, int64_t parent, struct map *seen, bool list_ok)
{
	const struct ynode *n = resolve(value);
	int rc = step(x, value);

	if (rc != 0)
		return rc;
	if (n->type == CFG_MAP)
		return merge_map(x, n, parent, seen);
	if (n->type != CFG_LIST || !list_ok)
		return fail_merge(x, value);
	for (const struct ynode *c = n->u.in.first; rc == 0 && c != NULL; c = c->next)
		rc = merge_value(x, c, parent, seen, false);
	return rc;
}

static int
merge_map(struct expand *x, const struct ynode *from, int64_t parent, struct map *seen)
{
	int rc = 0;

	if (x->merging == YAML_MERGE_DEPTH_MAX)
		return yaml_fail(x->err, E_LIMIT, from->line, from->column, "merges nested deeper than %d levels (limit)",
		    YAML_MERGE_DEPTH_MAX);
	x->merging++;
	for (const struct ynode *c = from->u.in.first; rc == 0 && c != NULL; c = c->next) {
		if ((c->flags & YAML_MERGE) != 0)
			continue;
		rc = step(x, c);
		if (rc == 0 && map_put(seen, c->key, (void *)(uintptr_t)c) == 0)
			rc = emit(x, c, parent, c->key, CFG_ALIASED);
	}
	for (const struct ynode *c = from->u.in.first; rc == 0 && (from->flags & YAML_MERGES) != 0 && c != NULL; c = c->next)
		if ((c->flags & YAML_MERGE) != 0)
			rc = merge_value(x, c, parent, seen, true);
	x->merging--;
	return rc;
}

/* The children of a map that has a <<: its own first, they win. */
static int
emit_merged(struct expand *x, const struct ynode *n, int64_t id, unsigned flags)
{
	struct map seen;
	int rc = 0;

	map_init(&seen);
	for (const struct ynode *c = n->u.in.first; rc == 0 && c != NULL; c = c->next) {
		if ((c->flags & YAML_MERGE) != 0)
			continue;
		(void)map_put(&seen, c->key, (void *)(uintptr_t)c);
		rc = emit(x, c, id, c->key, flags);
	}
	for (const struct ynode *c = n->u.in.first; rc == 0 && c != NULL; c = c->next)
		if ((c->flags & YAML_MERGE) != 0)
			rc = merge_value(x, c, id, &seen, true);
	map_free(&seen);
	return rc;
}

/* Recursion ends at CFG_DEPTH_MAX, where tree_add() refuses, with at most YAML_MERGE_DEPTH_MAX merges between. */
static int
emit(struct expand *x, const struct ynode *n, int64_t parent, const char *key, unsigned flags)
{
	int rc = step(x, n);
	bool scalar;
	int64_t id;

	if (rc != 0)
		return rc;
	flags |= n->type == YAML_ALIAS ? CFG_ALIASED : 0;
	n = resolve(n);
	x->depth++;
	scalar = n->type == CFG_SCALAR;
	id = tree_add(x->out, parent, (enum cfg_type)n->type, flags | (n->flags & CFG_QUOTED), key, scalar ? n->u.text : NULL,
	    scalar ? n->len : 0, n->line, n->column);
	if (id < 0)
		return fail_add(x, n, (int)id);
	x->nodes++;
	if ((n->flags & YAML_MERGES) != 0)
		rc = emit_merged(x, n, id, flags);
	else if (n->type == CFG_LIST || n->type == CFG_MAP)
		for (const struct ynode *c = n->u.in.first; rc == 0 && c != NULL; c = c->next)
			rc = emit(x, c, id, c->key, flags);
	x->depth--;
	return rc;
}

/* A root of another type than a map is refused in the words of the reference; the tree exists already, so it knows its tag. */
static int
check_root(const struct ynode *root, struct cfg_err *err, const void *image, size_t size)
{
	struct cfg_err why = { 0 };
	struct tree t;
	int rc;

	if (resolve(root)->type == CFG_MAP)
		return 0;
	rc = tree_from_memory(&t, image, size, err);
	if (rc != 0)
		return rc;
	(void)cfg_mismatch(&why, t.root, NULL, "config.RawConfig");
	(void)cfg_fail(err, t.root, NULL, "yaml: unmarshal errors:\n  %s", why.text);
	return -E_INVAL;
}

int
yaml_expand(const struct ynode *root, void **image, size_t *size, struct cfg_err *err)
{
	struct expand x = { .err = err, .out = tree_build() };
	int rc;

	rc = x.out != NULL ? emit(&x, root, -1, NULL, 0) : -E_NOMEM;
	if (rc != 0) {
		tree_abandon(x.out);
		return rc;
	}
	*image = tree_finish(x.out, size);
	if (*image == NULL) {
		(void)cfg_fail(err, NULL, NULL, "yaml: out of memory");
		return -E_NOMEM;
	}
	rc = check_root(root, err, *image, *size);
	if (rc != 0) {
		free(*image);
		*image = NULL;
	}
	return rc;
}
