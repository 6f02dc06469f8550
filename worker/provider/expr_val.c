/* SPDX-License-Identifier: MIT */
/* Values of override-expr: made of texts, looked into, changed at a path, put together. Called by the other files of
 * expr_impl.h. */
#include <stdlib.h>
#include <string.h>

#include "common/strutil.h"
#include "worker/provider/expr_impl.h"

/* ---- values */

const struct val *
val_null(void)
{
	static const struct val null = { .type = VAL_NULL, .text = "null" };

	return &null;
}

const struct val *
val_bool(bool b)
{
	static const struct val yes = { .type = VAL_BOOL, .text = "true", .i = 1 }, no = { .type = VAL_BOOL, .text = "false" };

	return b ? &yes : &no;
}

static struct val *
scalar(struct arena *a, enum val_type type, const char *text)
{
	struct val *v = arena_alloc(a, sizeof(*v));

	v->type = type;
	v->text = text;
	return v;
}

const struct val *
val_int(struct arena *a, int64_t i)
{
	struct val *v = scalar(a, VAL_INT, arena_printf(a, "%lld", (long long)i));

	v->i = i;
	v->f = (double)i;
	return v;
}

static const struct val *
val_float(struct arena *a, double f)
{
	struct val *v;

	if (f >= -1e15 && f <= 1e15 && f == (double)(int64_t)f)
		return val_int(a, (int64_t)f);
	v = scalar(a, VAL_FLOAT, arena_printf(a, "%.17g", f));
	v->f = f;
	return v;
}

const struct val *
val_str(struct arena *a, const char *s, size_t n)
{
	return scalar(a, VAL_STR, arena_strndup(a, s, n));
}

static bool
is_float(const char *s, double *out)
{
	char *end;
	size_t n = strspn(s, "+-0123456789.eE");

	if (n == 0 || s[n] != '\0' || strpbrk(s, "0123456789") == NULL)
		return false;
	*out = strtod(s, &end);
	return *end == '\0' && *out == *out && *out - *out == 0; /* no NaN, not infinite */
}

const struct val *
val_plain(struct arena *a, const char *text)
{
	struct val *v;
	char *end;
	double f;

	if (text[0] == '\0' || strcmp(text, "~") == 0 || strcmp(text, "null") == 0)
		return val_null();
	if (strcmp(text, "true") == 0 || strcmp(text, "false") == 0)
		return val_bool(text[0] == 't');
	v = scalar(a, VAL_STR, arena_strdup(a, text));
	if (text[0] == '0' && text[1] == 'x' && strlen(text) <= 17 &&
	    text[2 + strspn(text + 2, "0123456789abcdefABCDEF")] == '\0') {
		v->type = VAL_INT;
		v->i = (int64_t)(strtoull(text + 2, &end, 16) & INT64_MAX);
		v->f = (double)v->i;
	} else if (str_to_i64(text, INT64_MIN, INT64_MAX, &v->i) == 0) {
		v->type = VAL_INT;
		v->f = (double)v->i;
	} else if (is_float(text, &f)) {
		v->type = VAL_FLOAT;
		v->f = f;
	}
	return v;
}

/* Over the limit it is still made, so that nobody must look; nothing is evaluated after it. */
struct val *
val_list(struct eval *e, size_t n)
{
	struct val *v = scalar(&e->mem, VAL_LIST, NULL);

	if (e->mem.used > EXPR_MEMORY_MAX)
		(void)eval_fail(e, "it takes too much memory");
	v->n = n;
	v->v = arena_array(&e->mem, n + 1, sizeof(*v->v));
	return v;
}

struct val *
val_map(struct eval *e, size_t n)
{
	struct val *v = val_list(e, n);

	v->type = VAL_MAP;
	v->key = arena_array(&e->mem, n + 1, sizeof(*v->key));
	return v;
}

const struct val *
val_get(const struct val *map, const char *key)
{
	for (size_t i = 0; map->type == VAL_MAP && i < map->n; i++)
		if (strcmp(map->key[i], key) == 0)
			return map->v[i];
	return NULL;
}

bool
val_truth(const struct val *v)
{
	return v->type != VAL_NULL && !(v->type == VAL_BOOL && v->i == 0);
}

bool
val_scalar(const struct val *v)
{
	return v->type != VAL_LIST && v->type != VAL_MAP;
}

const char *
val_type_name(const struct val *v)
{
	static const char *const names[] = { "!!null", "!!bool", "!!int", "!!float", "!!str", "!!seq", "!!map" };

	return names[v->type];
}

/* ---- changes */

const struct val *
val_with_key(struct eval *e, const struct val *map, const char *key, const struct val *v)
{
	struct val *out;
	size_t n = 0;
	bool done = v == NULL;

	if (map->type != VAL_MAP && map->type != VAL_NULL) {
		(void)eval_fail(e, "a %s has no .%.40s", val_type_name(map), key);
		return NULL;
	}
	out = val_map(e, map->n + 1);
	for (size_t i = 0; i < map->n; i++) {
		bool here = strcmp(map->key[i], key) == 0;

		if (here && v == NULL)
			continue;
		out->key[n] = map->key[i];
		out->v[n++] = here ? v : map->v[i];
		done |= here;
	}
	if (!done) {
		out->key[n] = key;
		out->v[n++] = v;
	}
	out->n = n;
	return out;
}

static const struct val *
with_index(struct eval *e, const struct val *list, int64_t index, const struct val *v)
{
	struct val *out;
	size_t n = 0, size;

	if (list->type != VAL_LIST && list->type != VAL_NULL) {
		(void)eval_fail(e, "a %s has no [%lld]", val_type_name(list), (long long)index);
		return NULL;
	}
	if (index < 0)
		index += (int64_t)list->n;
	if (index < 0 || index > 10000) {
		(void)eval_fail(e, "there is no such place in the list");
		return NULL;
	}
	size = v != NULL && (size_t)index >= list->n ? (size_t)index + 1 : list->n;
	out = val_list(e, size);
	for (size_t i = 0; i < size; i++) {
		if ((int64_t)i != index)
			out->v[n++] = i < list->n ? list->v[i] : val_null();
		else if (v != NULL)
			out->v[n++] = v;
	}
	out->n = n;
	return out;
}

const struct val *
val_replace(struct eval *e, const struct val *root, const struct path *path, const struct val *v)
{
	const struct path *at[EXPR_NEST_MAX];
	const struct val *above[EXPR_NEST_MAX];
	int n = 0;

	for (; path != NULL && n < EXPR_NEST_MAX; path = path->up)
		at[n++] = path;
	if (path != NULL) {
		(void)eval_fail(e, "the path is too long");
		return NULL;
	}
	for (int i = n - 1; i >= 0; i--) { /* what is above, from the root down */
		const struct val *next = NULL;

		above[i] = root;
		if (at[i]->key != NULL)
			next = val_get(root, at[i]->key);
		else if (root->type == VAL_LIST && at[i]->index + (at[i]->index < 0 ? (int64_t)root->n : 0) >= 0 &&
		    at[i]->index + (at[i]->index < 0 ? (int64_t)root->n : 0) < (int64_t)root->n)
			next = root->v[at[i]->index + (at[i]->index < 0 ? (int64_t)root->n : 0)];
		if (next == NULL && v == NULL)
			return above[n - 1]; /* nothing there to take away */
		root = next != NULL ? next : val_null();
	}
	if (n == 0)
		return v;
	for (int i = 0; i < n && (v != NULL || i == 0); i++)
		v = at[i]->key != NULL ? val_with_key(e, above[i], at[i]->key, v) : with_index(e, above[i], at[i]->index, v);
	return v;
}

/* ---- += -= *= */

static const struct val *
merged(struct eval *e, const struct val *a, const struct val *b, bool deep)
{
	for (size_t i = 0; i < b->n && a != NULL && e->why[0] == '\0'; i++) {
		const struct val *old = val_get(a, b->key[i]), *v = b->v[i];

		if (deep && old != NULL && old->type == VAL_MAP && v->type == VAL_MAP) {
			if (++e->depth > EXPR_NEST_MAX) {
				(void)eval_fail(e, "nested too deeply");
				return NULL;
			}
			v = merged(e, old, v, true);
			e->depth--;
		}
		a = v != NULL ? val_with_key(e, a, b->key[i], v) : NULL;
	}
	return a;
}

bool
val_same_text(const struct val *a, const struct val *b)
{
	return val_scalar(a) && val_scalar(b) && strcmp(a->text, b->text) == 0;
}

static const struct val *
combine_lists(struct eval *e, enum expr_op op, const struct val *a, const struct val *b)
{
	struct val *out = val_list(e, a->n + b->n);
	size_t n = 0;

	for (size_t i = 0; i < a->n && e->why[0] == '\0'; i++) {
		bool gone = false;

		e->steps += op == OP_SUB ? (unsigned)b->n : 0;
		if (e->steps > 50 * EXPR_STEPS_MAX)
			(void)eval_fail(e, "it takes too long");
		for (size_t k = 0; op == OP_SUB && k < b->n && !gone; k++)
			gone = val_same_text(a->v[i], b->v[k]);
		if (!gone)
			out->v[n++] = a->v[i];
	}
	for (size_t k = 0; op == OP_ADD && k < b->n; k++)
		out->v[n++] = b->v[k];
	out->n = n;
	return out;
}

const struct val *
val_combine(struct eval *e, enum expr_op op, const struct val *a, const struct val *b)
{
	bool numbers = (a->type == VAL_INT || a->type == VAL_FLOAT) && (b->type == VAL_INT || b->type == VAL_FLOAT);

	if (a->type == VAL_NULL)
		return b;
	if (b->type == VAL_NULL)
		return a;
	if (numbers)
		return val_float(&e->mem, op == OP_ADD ? a->f + b->f : op == OP_SUB ? a->f - b->f : a->f * b->f);
	if (op == OP_ADD && val_scalar(a) && val_scalar(b))
		return val_str(&e->mem, arena_printf(&e->mem, "%s%s", a->text, b->text), strlen(a->text) + strlen(b->text));
	if (a->type == VAL_MAP && b->type == VAL_MAP && op != OP_SUB)
		return merged(e, a, b, op == OP_MUL);
	if (a->type == VAL_LIST && b->type == VAL_LIST && op != OP_MUL)
		return combine_lists(e, op, a, b);
	(void)eval_fail(e, "a %s and a %s cannot be put together so", val_type_name(a), val_type_name(b));
	return NULL;
}
