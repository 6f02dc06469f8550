/* SPDX-License-Identifier: MIT */
/* Evaluation of override-expr: results and where they came from, assignments, comparisons, paths; and a node's map in and out
 * of it. Values are expr_val.c's. Called by override.c for every node of a new list. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/strutil.h"
#include "worker/provider/expr_impl.h"

bool
eval_fail(struct eval *e, const char *fmt, ...)
{
	va_list ap;

	if (e->why[0] != '\0')
		return false;
	va_start(ap, fmt);
	(void)vsnprintf(e->why, sizeof(e->why), fmt, ap);
	va_end(ap);
	return false;
}

/* ---- results */

void
results_init(struct results *r)
{
	*r = (struct results){ .first = NULL };
	r->end = &r->first;
}

void
results_add_at(struct eval *e, struct results *r, const struct val *v, const struct path *path, bool placed)
{
	struct result *x = arena_alloc(&e->mem, sizeof(*x));

	if (e->mem.used > EXPR_MEMORY_MAX)
		(void)eval_fail(e, "it takes too much memory");
	*x = (struct result){ .v = v, .path = path, .placed = placed };
	*r->end = x;
	r->end = &x->next;
	r->n++;
}

void
results_add(struct eval *e, struct results *r, const struct val *v)
{
	results_add_at(e, r, v, NULL, false);
}

const struct val *
eval_one(struct eval *e, const struct node *x, const struct result *in)
{
	struct results r;

	results_init(&r);
	if (!eval_run(e, x, in, &r))
		return NULL;
	if (r.n == 1)
		return r.first->v;
	(void)eval_fail(e, "%zu values where one is wanted", r.n);
	return NULL;
}

/* ---- assignments */

/* The input with every place of the left side changed. Without a result on the right of |= a place stays as it is. */
static bool
assign(struct eval *e, const struct node *x, const struct result *in, struct results *out)
{
	const struct result here = { .v = in->v, .placed = true };
	const struct val *root = in->v;
	struct results places, right;

	results_init(&places);
	results_init(&right);
	if (!eval_run(e, x->a, &here, &places) || (x->op != OP_UPDATE && !eval_run(e, x->b, &here, &right)))
		return false;
	for (const struct result *p = places.first; p != NULL && root != NULL && e->why[0] == '\0'; p = p->next) {
		const struct result place = { .v = p->v, .placed = true };

		if (!p->placed)
			return eval_fail(e, "the left side is no place in the node");
		if (x->op == OP_UPDATE) {
			results_init(&right);
			if (!eval_run(e, x->b, &place, &right))
				return false;
			if (right.n == 0)
				continue;
		}
		if (right.n != 1)
			return eval_fail(e, "%zu values are assigned", right.n);
		root = val_replace(e, root, p->path,
		    x->op == OP_SET || x->op == OP_UPDATE ? right.first->v : val_combine(e, x->op, p->v, right.first->v));
	}
	if (root == NULL || e->why[0] != '\0')
		return false;
	results_add(e, out, root);
	return true;
}

/* ---- questions */

static int
order(const struct val *a, const struct val *b)
{
	if (a->type == VAL_STR && b->type == VAL_STR)
		return strcmp(a->text, b->text);
	return a->f < b->f ? -1 : a->f > b->f;
}

static bool
compare(struct eval *e, const struct node *x, const struct val *a, const struct val *b, bool *out)
{
	bool comparable = a->type == b->type || (a->type != VAL_STR && b->type != VAL_STR);
	int c;

	if (x->op == OP_EQ || x->op == OP_NE) {
		*out = (val_same_text(a, b) || (a->type == VAL_NULL && b->type == VAL_NULL)) == (x->op == OP_EQ);
		return true;
	}
	if (!val_scalar(a) || !val_scalar(b) || a->type == VAL_BOOL || b->type == VAL_BOOL || !comparable)
		return eval_fail(e, "a %s and a %s cannot be compared", val_type_name(a), val_type_name(b));
	if (a->type == VAL_NULL || b->type == VAL_NULL) { /* null is at neither side of anything but itself */
		*out = a->type == b->type && (x->op == OP_LE || x->op == OP_GE);
		return true;
	}
	c = order(a, b);
	*out = x->op == OP_LT ? c < 0 : x->op == OP_LE ? c <= 0 : x->op == OP_GT ? c > 0 : c >= 0;
	return true;
}

/* Both sides, every value of one with every value of the other. */
static bool
binary(struct eval *e, const struct node *x, const struct result *in, struct results *out)
{
	struct results left, right;
	bool yes = false;

	results_init(&left);
	results_init(&right);
	if (!eval_run(e, x->a, in, &left) || !eval_run(e, x->b, in, &right))
		return false;
	for (const struct result *a = left.first; a != NULL; a = a->next)
		for (const struct result *b = right.first; b != NULL; b = b->next) {
			if (++e->steps > EXPR_STEPS_MAX)
				return eval_fail(e, "it takes too long");
			if (x->kind == X_OR)
				yes = val_truth(a->v) || val_truth(b->v);
			else if (x->kind == X_AND)
				yes = val_truth(a->v) && val_truth(b->v);
			else if (!compare(e, x, a->v, b->v, &yes))
				return false;
			results_add(e, out, val_bool(yes));
		}
	return true;
}

/* a // b: what of a is neither null nor false; if nothing is, b. */
static bool
alternative(struct eval *e, const struct node *x, const struct result *in, struct results *out)
{
	struct results left;
	size_t before = out->n;

	results_init(&left);
	if (!eval_run(e, x->a, in, &left))
		return false;
	for (const struct result *a = left.first; a != NULL; a = a->next)
		if (val_truth(a->v))
			results_add_at(e, out, a->v, a->path, a->placed);
	return out->n > before || eval_run(e, x->b, in, out);
}

/* ---- paths */

static const struct path *
step(struct eval *e, const struct path *up, const char *key, int64_t index)
{
	struct path *p = arena_alloc(&e->mem, sizeof(*p));

	*p = (struct path){ up, key, index };
	return p;
}

struct pair {
	const char *key;
	const struct val *v;
};

static int
by_key(const void *a, const void *b)
{
	return strcmp(((const struct pair *)a)->key, ((const struct pair *)b)->key);
}

/* Of maps in the order of their keys, as there is no other. */
static void
each(struct eval *e, const struct result *r, struct results *out)
{
	const struct val *v = r->v;
	struct pair *sorted = v->type == VAL_MAP ? arena_array(&e->mem, v->n + 1, sizeof(*sorted)) : NULL;

	for (size_t i = 0; sorted != NULL && i < v->n; i++)
		sorted[i] = (struct pair){ v->key[i], v->v[i] };
	if (sorted != NULL)
		qsort(sorted, v->n, sizeof(*sorted), by_key);
	for (size_t i = 0; i < v->n; i++)
		if (sorted != NULL)
			results_add_at(e, out, sorted[i].v, step(e, r->path, sorted[i].key, 0), r->placed);
		else
			results_add_at(e, out, v->v[i], step(e, r->path, NULL, (int64_t)i), r->placed);
}

static bool
walk(struct eval *e, const struct node *x, const struct result *in, struct results *out)
{
	struct results base;

	results_init(&base);
	if (!eval_run(e, x->a, in, &base))
		return false;
	for (const struct result *r = base.first; r != NULL; r = r->next) {
		const struct val *v = r->v, *found = NULL;

		if (x->kind == X_EACH) {
			if (val_scalar(v) && v->type != VAL_NULL)
				return eval_fail(e, "a %s has no elements", val_type_name(v));
			each(e, r, out);
			continue;
		}
		if (x->kind == X_FIELD) {
			if (v->type != VAL_MAP && v->type != VAL_NULL)
				return eval_fail(e, "a %s has no .%.40s", val_type_name(v), x->key);
			found = val_get(v, x->key);
		} else {
			int64_t i = x->index < 0 ? x->index + (int64_t)v->n : x->index;

			if (v->type != VAL_LIST && v->type != VAL_NULL)
				return eval_fail(e, "a %s has no [%lld]", val_type_name(v), (long long)x->index);
			found = i >= 0 && i < (int64_t)v->n ? v->v[i] : NULL;
		}
		results_add_at(e, out, found != NULL ? found : val_null(),
		    step(e, r->path, x->kind == X_FIELD ? x->key : NULL, x->index), r->placed);
	}
	return true;
}

/* ---- everything else */

static bool
put_together(struct eval *e, const struct node *x, const struct result *in, struct results *out)
{
	const char *text = "";

	for (int i = 0; i < x->n; i++) {
		const struct val *v = eval_one(e, x->parts[i], in);

		if (v == NULL)
			return false;
		if (!val_scalar(v))
			return eval_fail(e, "a %s in a text", val_type_name(v));
		if (strlen(text) + strlen(v->text) > EXPR_TEXT_MAX)
			return eval_fail(e, "the text is too long");
		text = arena_printf(&e->mem, "%s%s", text, v->text);
	}
	results_add(e, out, val_str(&e->mem, text, strlen(text)));
	return true;
}

static bool
new_map(struct eval *e, const struct node *x, const struct result *in, struct results *out)
{
	const struct val *map = val_map(e, 0);

	for (int i = 0; i + 1 < x->n && map != NULL; i += 2) {
		const struct val *key = eval_one(e, x->parts[i], in), *v = key != NULL ? eval_one(e, x->parts[i + 1], in) : NULL;

		if (v == NULL)
			return false;
		map = val_with_key(e, map, key->text, v);
	}
	if (map != NULL)
		results_add(e, out, map);
	return map != NULL;
}

static bool
new_list(struct eval *e, const struct node *x, const struct result *in, struct results *out)
{
	struct results r;
	struct val *list;

	results_init(&r);
	if (x->a != NULL && !eval_run(e, x->a, in, &r))
		return false;
	list = val_list(e, r.n);
	list->n = 0;
	for (const struct result *i = r.first; i != NULL; i = i->next)
		list->v[list->n++] = i->v;
	results_add(e, out, list);
	return true;
}

static bool
piped(struct eval *e, const struct node *x, const struct result *in, struct results *out)
{
	struct results left;

	results_init(&left);
	if (!eval_run(e, x->a, in, &left))
		return false;
	for (const struct result *r = left.first; r != NULL; r = r->next)
		if (!eval_run(e, x->b, r, out))
			return false;
	return true;
}

static bool
run_kind(struct eval *e, const struct node *x, const struct result *in, struct results *out)
{
	switch (x->kind) {
	case X_SELF:
		results_add_at(e, out, in->v, in->path, in->placed);
		return true;
	case X_CONST:
		results_add(e, out, x->v);
		return true;
	case X_STRING:
		return put_together(e, x, in, out);
	case X_LIST:
		return new_list(e, x, in, out);
	case X_MAP:
		return new_map(e, x, in, out);
	case X_FIELD:
	case X_INDEX:
	case X_EACH:
		return walk(e, x, in, out);
	case X_CALL:
		x->fn->fn(e, x, in, out);
		return true;
	case X_COMMA:
		return eval_run(e, x->a, in, out) && eval_run(e, x->b, in, out);
	case X_PIPE:
		return piped(e, x, in, out);
	case X_OR:
	case X_AND:
	case X_COMPARE:
		return binary(e, x, in, out);
	case X_ALT:
		return alternative(e, x, in, out);
	case X_ASSIGN:
		return assign(e, x, in, out);
	}
	return false;
}

bool
eval_run(struct eval *e, const struct node *x, const struct result *in, struct results *out)
{
	bool ok;

	if (++e->steps > EXPR_STEPS_MAX)
		return eval_fail(e, "it takes too long");
	if (++e->depth > 4 * EXPR_NEST_MAX)
		return eval_fail(e, "nested too deeply");
	ok = run_kind(e, x, in, out);
	e->depth--;
	return ok && e->why[0] == '\0';
}

/* ---- a node in and out */

static const struct val *
read_node(struct eval *e, const struct cfg_node *n, int depth)
{
	struct val *out;

	if (depth > EXPR_NEST_MAX) {
		(void)eval_fail(e, "the node is nested too deeply");
		return val_null();
	}
	if (n->type == CFG_SCALAR)
		return (n->flags & CFG_QUOTED) != 0 ? val_str(&e->mem, cfg_text(n), strlen(cfg_text(n))) :
						      val_plain(&e->mem, cfg_text(n));
	if (n->type != CFG_LIST && n->type != CFG_MAP)
		return val_null();
	out = n->type == CFG_MAP ? val_map(e, cfg_count(n)) : val_list(e, cfg_count(n));
	out->n = 0;
	cfg_each(c, n) {
		if (n->type == CFG_MAP)
			out->key[out->n] = arena_strdup(&e->mem, cfg_key(c));
		out->v[out->n++] = read_node(e, c, depth + 1);
	}
	return out;
}

static int64_t
write_node(struct eval *e, const struct val *v, const char *key, struct tree_builder *to, int64_t parent, int depth)
{
	enum cfg_type type = v->type == VAL_MAP ? CFG_MAP : v->type == VAL_LIST ? CFG_LIST : CFG_SCALAR;
	const char *text = type == CFG_SCALAR ? v->text : NULL;
	int64_t at, rc;

	if (depth > EXPR_NEST_MAX || ++e->steps > 2 * EXPR_STEPS_MAX)
		return eval_fail(e, "the node is too large") ? 0 : -E_INVAL;
	at = rc =
	    tree_add(to, parent, type, v->type == VAL_STR ? CFG_QUOTED : 0, key, text, text != NULL ? strlen(text) : 0, 1, 1);
	for (size_t i = 0; i < v->n && rc >= 0; i++)
		rc = write_node(e, v->v[i], type == CFG_MAP ? v->key[i] : NULL, to, at, depth + 1);
	return rc < 0 ? rc : at;
}

int
expr_apply(
    struct expr *const *x, int n, const struct cfg_node *item, struct tree_builder *to, int64_t parent, struct cfg_err *err)
{
	struct eval e = { .steps = 0 };
	const struct val *v;
	int64_t rc = 0;

	arena_init(&e.mem);
	v = read_node(&e, item, 0);
	for (int i = 0; i < n && e.why[0] == '\0'; i++) {
		const struct result in = { .v = v, .placed = true };
		const struct val *made;

		e.steps = e.depth = 0;
		made = eval_one(&e, x[i]->root, &in);
		if (made != NULL && made->type != VAL_MAP)
			(void)eval_fail(&e, "it makes a %s of the node", val_type_name(made));
		v = made;
	}
	if (e.why[0] == '\0')
		rc = write_node(&e, v, NULL, to, parent, 0);
	if (e.why[0] != '\0')
		rc = cfg_fail(err, NULL, "override-expr", "override-expr: %s", e.why);
	arena_free(&e.mem);
	return rc < 0 ? (int)rc : 0;
}
