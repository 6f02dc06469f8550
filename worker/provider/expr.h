/* SPDX-License-Identifier: MIT */
/* override-expr of a proxy-provider: expressions in the manner of yq, each of which makes one map of a node's map
 * (docs of the reference, proxy-providers, override-expr).
 *
 *   pipes and lists   a | b, a, b               loosest first: "," "or" "and" "|" then assignments and comparisons, then "//"
 *   paths             . .name ."a.b" .["a.b"] .list[0] .list[-1] .list[]
 *   changes           = |= += -= *= del(path)
 *   questions         == != < <= > >= and or not select(e) //
 *   values            null ~ true false 1 0x1f 1.5 "text \(e)" [e] {"key": e}
 *   functions         expr_func.c has the table
 *
 * An expression comes from the operator, the map from a subscription. Whatever either says, evaluation ends: see the limits. */
#ifndef SLUICE_WORKER_PROVIDER_EXPR_H
#define SLUICE_WORKER_PROVIDER_EXPR_H

#include "common/arena.h"
#include "common/config_tree.h"

enum {
	EXPR_TEXT_MAX = 8192, /* bytes of one expression */
	EXPR_NEST_MAX = 48, /* parentheses, calls; values in values */
	EXPR_STEPS_MAX = 20000, /* evaluations of one node */
	EXPR_MEMORY_MAX = 4 << 20, /* bytes of one node's evaluation */
	EXPR_REGEX_MAX = 32 /* patterns of one expression */
};

struct expr;
/* In the arena but for its patterns, which expr_free() frees. NULL with err filled. */
struct expr *expr_parse(struct arena *a, const char *text, struct cfg_err *err);
void expr_free(struct expr *e); /* NULL is fine */
/* item through all n expressions, as a new node under parent. -E_INVAL with err filled, or as tree_add(). */
int expr_apply(
    struct expr *const *e, int n, const struct cfg_node *item, struct tree_builder *to, int64_t parent, struct cfg_err *err);

#endif
