/* SPDX-License-Identifier: MIT */
/* The functions of override-expr. Each takes the value it is applied to and its arguments, and adds its results; what it
 * cannot do it says by eval_fail(). Called by expr_eval.c through the table at the end. */
#include <stdlib.h>
#include <string.h>

#include "common/strutil.h"
#include "worker/provider/expr_impl.h"

#define FUNC(name) static void name(struct eval *e, const struct node *x, const struct result *in, struct results *out)

static bool
wants(struct eval *e, const struct val *v, enum val_type type, const char *name)
{
	return v->type == type || eval_fail(e, "%s of a %s", name, val_type_name(v));
}

/* An argument that yields a truth for v; a stream without values is false. */
static bool
holds(struct eval *e, const struct node *x, const struct val *v)
{
	const struct result in = { .v = v };
	struct results r;

	results_init(&r);
	if (!eval_run(e, x, &in, &r))
		return false;
	for (const struct result *i = r.first; i != NULL; i = i->next)
		if (val_truth(i->v))
			return true;
	return false;
}

static void
add_list(struct eval *e, struct results *out, const struct results *of)
{
	struct val *list = val_list(e, of->n);

	list->n = 0;
	for (const struct result *i = of->first; i != NULL; i = i->next)
		list->v[list->n++] = i->v;
	results_add(e, out, list);
}

static size_t
characters(const char *s)
{
	size_t n = 0;

	for (; *s != '\0'; s++)
		n += ((unsigned char)*s & 0xc0) != 0x80;
	return n;
}

/* ---- of everything */

FUNC(length)
{
	const struct val *v = in->v;

	(void)x;
	results_add(e, out, val_int(&e->mem, (int64_t)(v->type == VAL_NULL ? 0 : val_scalar(v) ? characters(v->text) : v->n)));
}

FUNC(type)
{
	(void)x;
	results_add(e, out, val_str(&e->mem, val_type_name(in->v), strlen(val_type_name(in->v))));
}

FUNC(not_)
{
	(void)x;
	results_add(e, out, val_bool(!val_truth(in->v)));
}

FUNC(tostring)
{
	(void)x;
	if (!val_scalar(in->v))
		(void)eval_fail(e, "tostring of a %s", val_type_name(in->v));
	else
		results_add(e, out, val_str(&e->mem, in->v->text, strlen(in->v->text)));
}

FUNC(tonumber)
{
	const struct val *v = val_scalar(in->v) ? val_plain(&e->mem, in->v->text) : in->v;

	(void)x;
	if (v->type != VAL_INT && v->type != VAL_FLOAT)
		(void)eval_fail(e, "tonumber of what is no number");
	else
		results_add(e, out, v);
}

FUNC(select_)
{
	struct results r;

	results_init(&r);
	if (!eval_run(e, x->a, in, &r))
		return;
	for (const struct result *i = r.first; i != NULL; i = i->next)
		if (val_truth(i->v)) {
			results_add_at(e, out, in->v, in->path, in->placed);
			return;
		}
}

/* Deeper and later places first, so that those before them stay where they are. */
FUNC(del)
{
	const struct result here = { .v = in->v, .placed = true };
	const struct val *root = in->v;
	const struct result **at;
	struct results r;
	size_t n = 0;

	results_init(&r);
	if (!eval_run(e, x->a, &here, &r))
		return;
	at = arena_array(&e->mem, r.n + 1, sizeof(*at));
	for (const struct result *i = r.first; i != NULL; i = i->next)
		at[n++] = i;
	while (n-- > 0 && root != NULL) {
		if (!at[n]->placed || at[n]->path == NULL) {
			(void)eval_fail(e, "del of what is no place in the node");
			return;
		}
		root = val_replace(e, root, at[n]->path, NULL);
	}
	if (root != NULL)
		results_add(e, out, root);
}

static bool
contains_value(struct eval *e, const struct val *a, const struct val *b)
{
	bool all = true;

	if (++e->steps > EXPR_STEPS_MAX)
		return eval_fail(e, "it takes too long");
	if (a->type == VAL_STR && b->type == VAL_STR)
		return strstr(a->text, b->text) != NULL;
	if (val_scalar(a) && val_scalar(b))
		return strcmp(a->text, b->text) == 0;
	if (a->type != b->type)
		return false;
	for (size_t i = 0; i < b->n && all; i++) {
		const struct val *v = a->type == VAL_MAP ? val_get(a, b->key[i]) : NULL;

		all = v != NULL && contains_value(e, v, b->v[i]);
		for (size_t k = 0; a->type == VAL_LIST && k < a->n && !all; k++)
			all = contains_value(e, a->v[k], b->v[i]);
	}
	return all;
}

FUNC(contains)
{
	const struct val *v = eval_one(e, x->a, in);

	if (v != NULL)
		results_add(e, out, val_bool(contains_value(e, in->v, v)));
}

/* ---- of maps and lists */

FUNC(keys)
{
	struct results r, names;
	const struct node self = { .kind = X_SELF }, all = { .kind = X_EACH, .a = &self };
	const struct result here = { .v = in->v, .placed = true };

	(void)x;
	results_init(&r);
	results_init(&names);
	if (val_scalar(in->v) || !eval_run(e, &all, &here, &r)) {
		(void)eval_fail(e, "keys of a %s", val_type_name(in->v));
		return;
	}
	for (const struct result *i = r.first; i != NULL; i = i->next)
		results_add(e, &names,
		    i->path->key != NULL ? val_str(&e->mem, i->path->key, strlen(i->path->key)) :
					   val_int(&e->mem, i->path->index));
	add_list(e, out, &names);
}

FUNC(has)
{
	const struct val *v = eval_one(e, x->a, in);

	if (v == NULL)
		return;
	if (in->v->type == VAL_LIST)
		results_add(e, out, val_bool(v->type == VAL_INT && v->i >= 0 && v->i < (int64_t)in->v->n));
	else
		results_add(e, out, val_bool(val_scalar(v) && val_get(in->v, v->text) != NULL));
}

FUNC(map)
{
	const struct node self = { .kind = X_SELF }, all = { .kind = X_EACH, .a = &self };
	const struct node pipe = { .kind = X_PIPE, .a = &all, .b = x->a };
	struct results r;

	results_init(&r);
	if (eval_run(e, &pipe, in, &r))
		add_list(e, out, &r);
}

/* A value without a result is left out. */
FUNC(map_values)
{
	const struct val *v = in->v;
	struct val *made;

	if (val_scalar(v)) {
		(void)eval_fail(e, "map_values of a %s", val_type_name(v));
		return;
	}
	made = v->type == VAL_MAP ? val_map(e, v->n) : val_list(e, v->n);
	made->n = 0;
	for (size_t i = 0; i < v->n; i++) {
		const struct result one = { .v = v->v[i] };
		struct results r;

		results_init(&r);
		if (!eval_run(e, x->a, &one, &r))
			return;
		if (r.n == 0)
			continue;
		if (v->type == VAL_MAP)
			made->key[made->n] = v->key[i];
		made->v[made->n++] = r.first->v;
	}
	results_add(e, out, made);
}

FUNC(filter)
{
	struct results r;

	results_init(&r);
	if (!wants(e, in->v, VAL_LIST, "filter"))
		return;
	for (size_t i = 0; i < in->v->n; i++)
		if (holds(e, x->a, in->v->v[i]))
			results_add(e, &r, in->v->v[i]);
	add_list(e, out, &r);
}

static const struct val *
entry(struct eval *e, const struct val *key, const struct val *value)
{
	struct val *m = val_map(e, 2);

	m->key[0] = "key";
	m->v[0] = key;
	m->key[1] = "value";
	m->v[1] = value;
	return m;
}

FUNC(to_entries)
{
	const struct node self = { .kind = X_SELF }, all = { .kind = X_EACH, .a = &self };
	const struct result here = { .v = in->v, .placed = true };
	struct results r, list;

	(void)x;
	results_init(&r);
	results_init(&list);
	if (!eval_run(e, &all, &here, &r))
		return;
	for (const struct result *i = r.first; i != NULL; i = i->next)
		results_add(e, &list,
		    entry(e,
			i->path->key != NULL ? val_str(&e->mem, i->path->key, strlen(i->path->key)) :
					       val_int(&e->mem, i->path->index),
			i->v));
	add_list(e, out, &list);
}

FUNC(from_entries)
{
	struct val *m;

	(void)x;
	if (!wants(e, in->v, VAL_LIST, "from_entries"))
		return;
	m = val_map(e, in->v->n);
	m->n = 0;
	for (size_t i = 0; i < in->v->n; i++) {
		const struct val *key = val_get(in->v->v[i], "key"), *v = val_get(in->v->v[i], "value");
		size_t at = 0;

		if (key == NULL || key->type != VAL_STR) {
			(void)eval_fail(e, "from_entries wants texts as keys");
			return;
		}
		while (at < m->n && strcmp(m->key[at], key->text) != 0)
			at++;
		m->n += at == m->n;
		m->key[at] = key->text;
		m->v[at] = v != NULL ? v : val_null();
	}
	results_add(e, out, m);
}

FUNC(with_entries)
{
	struct results entries, changed;

	results_init(&entries);
	results_init(&changed);
	to_entries(e, x, in, &entries);
	if (entries.n != 1)
		return;
	map(e, x, entries.first, &changed);
	if (changed.n == 1)
		from_entries(e, x, changed.first, out);
}

FUNC(reverse)
{
	struct val *list;

	(void)x;
	if (!wants(e, in->v, VAL_LIST, "reverse"))
		return;
	list = val_list(e, in->v->n);
	for (size_t i = 0; i < list->n; i++)
		list->v[i] = in->v->v[list->n - 1 - i];
	results_add(e, out, list);
}

/* null, then truths, numbers, texts. */
static int
by_value(const void *a, const void *b)
{
	const struct val *x = *(const struct val *const *)a, *y = *(const struct val *const *)b;
	int kind[] = { [VAL_NULL] = 0, [VAL_BOOL] = 1, [VAL_INT] = 2, [VAL_FLOAT] = 2, [VAL_STR] = 3 };

	if (kind[x->type] != kind[y->type])
		return kind[x->type] - kind[y->type];
	if (x->type == VAL_STR)
		return strcmp(x->text, y->text);
	return x->type == VAL_BOOL ? (int)(x->i - y->i) : x->f < y->f ? -1 : x->f > y->f;
}

FUNC(sort)
{
	struct val *list;

	(void)x;
	if (!wants(e, in->v, VAL_LIST, "sort"))
		return;
	list = val_list(e, in->v->n);
	for (size_t i = 0; i < list->n; i++) {
		list->v[i] = in->v->v[i];
		if (!val_scalar(list->v[i])) {
			(void)eval_fail(e, "sort of a list with a %s", val_type_name(list->v[i]));
			return;
		}
	}
	qsort(list->v, list->n, sizeof(*list->v), by_value);
	results_add(e, out, list);
}

FUNC(unique)
{
	struct results r;

	(void)x;
	results_init(&r);
	if (!wants(e, in->v, VAL_LIST, "unique"))
		return;
	for (size_t i = 0; i < in->v->n; i++) {
		const struct val *v = in->v->v[i];
		bool again = false;

		for (const struct result *k = r.first; k != NULL && !again; k = k->next)
			again = val_scalar(v) && val_scalar(k->v) && strcmp(v->text, k->v->text) == 0;
		e->steps += (unsigned)r.n;
		if (e->steps > 50 * EXPR_STEPS_MAX) {
			(void)eval_fail(e, "it takes too long");
			return;
		}
		if (!again)
			results_add(e, &r, v);
	}
	add_list(e, out, &r);
}

static void
flatten_into(struct eval *e, const struct val *v, int64_t depth, struct results *r)
{
	for (size_t i = 0; i < v->n; i++) {
		if (v->v[i]->type == VAL_LIST && depth != 0)
			flatten_into(e, v->v[i], depth - 1, r);
		else
			results_add(e, r, v->v[i]);
	}
}

FUNC(flatten)
{
	const struct val *depth = x->a != NULL ? eval_one(e, x->a, in) : val_int(&e->mem, -1);
	struct results r;

	results_init(&r);
	if (depth == NULL || !wants(e, depth, VAL_INT, "flatten to a depth") || !wants(e, in->v, VAL_LIST, "flatten"))
		return;
	flatten_into(e, in->v, depth->i, &r);
	add_list(e, out, &r);
}

/* any, all, any_c(e), all_c(e) */
static void
truths(struct eval *e, const struct node *x, const struct result *in, struct results *out, bool all)
{
	bool yes = all;

	if (!wants(e, in->v, VAL_LIST, all ? "all" : "any"))
		return;
	for (size_t i = 0; i < in->v->n && yes == all; i++)
		yes = x->a != NULL ? holds(e, x->a, in->v->v[i]) : val_truth(in->v->v[i]);
	results_add(e, out, val_bool(yes));
}

FUNC(any)
{
	truths(e, x, in, out, false);
}

FUNC(all)
{
	truths(e, x, in, out, true);
}

/* ---- of texts */

FUNC(test)
{
	if (wants(e, in->v, VAL_STR, "test"))
		results_add(e, out, val_bool(filter_match(x->re, 0, in->v->text)));
}

FUNC(sub)
{
	const struct val *to = eval_one(e, x->b, in);
	char *text = arena_alloc(&e->mem, EXPR_TEXT_MAX);

	if (to == NULL || !wants(e, to, VAL_STR, "sub by") || !wants(e, in->v, VAL_STR, "sub"))
		return;
	if (filter_replace(x->re, in->v->text, to->text, text, EXPR_TEXT_MAX) != 0)
		(void)eval_fail(e, "the text is too long");
	else
		results_add(e, out, val_str(&e->mem, text, strlen(text)));
}

/* By "": into characters. */
FUNC(split)
{
	const struct val *by = eval_one(e, x->a, in);
	struct results r;

	results_init(&r);
	if (by == NULL || !wants(e, by, VAL_STR, "split by") || !wants(e, in->v, VAL_STR, "split"))
		return;
	for (const char *s = in->v->text, *end; s != NULL; s = end) {
		if (by->text[0] != '\0') {
			end = strstr(s, by->text);
		} else {
			for (end = s + (*s != '\0'); ((unsigned char)*end & 0xc0) == 0x80; end++)
				;
			end = *end != '\0' ? end : NULL;
		}
		results_add(e, &r, val_str(&e->mem, s, end != NULL ? (size_t)(end - s) : strlen(s)));
		end = end != NULL ? end + strlen(by->text) : NULL;
	}
	add_list(e, out, &r);
}

FUNC(join)
{
	const struct val *by = eval_one(e, x->a, in);
	char *text = arena_alloc(&e->mem, EXPR_TEXT_MAX + 1);
	size_t n = 0;

	if (by == NULL || !wants(e, by, VAL_STR, "join by") || !wants(e, in->v, VAL_LIST, "join"))
		return;
	for (size_t i = 0; i < in->v->n; i++) {
		const char *parts[] = { i > 0 ? by->text : "", val_scalar(in->v->v[i]) ? in->v->v[i]->text : "" };

		for (size_t k = 0; k < 2; k++) {
			size_t len = strlen(parts[k]);

			if (len > EXPR_TEXT_MAX - n) {
				(void)eval_fail(e, "the text is too long");
				return;
			}
			memcpy(text + n, parts[k], len);
			n += len;
		}
	}
	results_add(e, out, val_str(&e->mem, text, n));
}

/* ASCII letters. */
static void
change_case(struct eval *e, const struct result *in, struct results *out, char from, const char *name)
{
	char *s;

	if (!wants(e, in->v, VAL_STR, name))
		return;
	s = arena_strdup(&e->mem, in->v->text);
	for (char *c = s; *c != '\0'; c++)
		if (*c >= from && *c < from + 26)
			*c = (char)(*c ^ 0x20);
	results_add(e, out, val_str(&e->mem, s, strlen(s)));
}

FUNC(upcase)
{
	(void)x;
	change_case(e, in, out, 'a', "upcase");
}

FUNC(downcase)
{
	(void)x;
	change_case(e, in, out, 'A', "downcase");
}

FUNC(trim)
{
	char *s;

	(void)x;
	if (!wants(e, in->v, VAL_STR, "trim"))
		return;
	s = str_trim(arena_strdup(&e->mem, in->v->text));
	results_add(e, out, val_str(&e->mem, s, strlen(s)));
}

const struct func expr_funcs[] = {
	{ "length", 0, 0, false, length },
	{ "keys", 0, 0, false, keys },
	{ "has", 1, 1, false, has },
	{ "contains", 1, 1, false, contains },
	{ "select", 1, 1, false, select_ },
	{ "del", 1, 1, false, del },
	{ "reverse", 0, 0, false, reverse },
	{ "sort", 0, 0, false, sort },
	{ "unique", 0, 0, false, unique },
	{ "flatten", 0, 1, false, flatten },
	{ "any", 0, 0, false, any },
	{ "all", 0, 0, false, all },
	{ "any_c", 1, 1, false, any },
	{ "all_c", 1, 1, false, all },
	{ "map", 1, 1, false, map },
	{ "map_values", 1, 1, false, map_values },
	{ "filter", 1, 1, false, filter },
	{ "to_entries", 0, 0, false, to_entries },
	{ "from_entries", 0, 0, false, from_entries },
	{ "with_entries", 1, 1, false, with_entries },
	{ "test", 1, 1, true, test },
	{ "sub", 2, 2, true, sub },
	{ "split", 1, 1, false, split },
	{ "join", 1, 1, false, join },
	{ "upcase", 0, 0, false, upcase },
	{ "downcase", 0, 0, false, downcase },
	{ "trim", 0, 0, false, trim },
	{ "tostring", 0, 0, false, tostring },
	{ "tonumber", 0, 0, false, tonumber },
	{ "type", 0, 0, false, type },
	{ "not", 0, 0, false, not_ },
	{ NULL, 0, 0, false, NULL },
};
