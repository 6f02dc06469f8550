/* SPDX-License-Identifier: MIT */
/* Expressions of override-expr to trees. Called by override.c while configuring. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/strutil.h"
#include "worker/provider/expr_impl.h"

struct parser {
	struct arena *a;
	struct expr *e;
	const char *text, *at;
	struct cfg_err *err;
	int depth;
	bool failed;
};

static const struct node *pipeline(struct parser *p, int level);

static const struct node *
fail(struct parser *p, const char *what)
{
	if (!p->failed)
		(void)cfg_fail(p->err, NULL, "override-expr", "override-expr: %s at character %zu of %.200s", what,
		    (size_t)(p->at - p->text) + 1, p->text);
	p->failed = true;
	return NULL;
}

static struct node *
make(struct parser *p, enum expr_kind kind, const struct node *a, const struct node *b)
{
	struct node *x = arena_alloc(p->a, sizeof(*x));

	x->kind = kind;
	x->a = a;
	x->b = b;
	return x;
}

static void
blanks(struct parser *p)
{
	p->at += strspn(p->at, " \t\r\n");
}

static bool
take(struct parser *p, const char *token)
{
	size_t n = strlen(token);

	blanks(p);
	if (strncmp(p->at, token, n) != 0)
		return false;
	p->at += n;
	return true;
}

static size_t
word_length(const char *s)
{
	size_t n = 0;

	while ((s[n] >= 'a' && s[n] <= 'z') || (s[n] >= 'A' && s[n] <= 'Z') || (s[n] >= '0' && s[n] <= '9') || s[n] == '_' ||
	    s[n] == '-' || (unsigned char)s[n] >= 0x80)
		n++;
	return n;
}

static bool
take_word(struct parser *p, const char *word)
{
	blanks(p);
	if (word_length(p->at) != strlen(word))
		return false;
	return take(p, word);
}

static const struct node *
constant(struct parser *p, const struct val *v)
{
	struct node *x = make(p, X_CONST, NULL, NULL);

	x->v = v;
	return x;
}

/* ---- texts */

static size_t
escaped(const char *s, char *out)
{
	static const char from[] = "nrt0\"\\/", to[] = "\n\r\t\0\"\\/";
	const char *c = *s != '\0' ? strchr(from, *s) : NULL;

	if (c == NULL || *c == '0')
		return 0;
	*out = to[c - from];
	return 1;
}

static void
add_part(struct parser *p, struct node *x, const struct node *part)
{
	const struct node **more = arena_array(p->a, (size_t)x->n + 1, sizeof(*more));

	if (x->n > 0)
		memcpy(more, x->parts, (size_t)x->n * sizeof(*more));
	more[x->n++] = part;
	x->parts = more;
}

/* After the opening quote. A text without \(...) is a constant. */
static const struct node *
string(struct parser *p)
{
	struct node *x = make(p, X_STRING, NULL, NULL);
	char *buf = arena_alloc(p->a, strlen(p->at) + 1);
	size_t n = 0;

	for (; *p->at != '"'; p->at++) {
		if (*p->at == '\0')
			return fail(p, "a text without an end");
		if (*p->at != '\\') {
			buf[n++] = *p->at;
			continue;
		}
		p->at++;
		if (*p->at == '(') {
			const struct node *inner;

			p->at++;
			add_part(p, x, constant(p, val_str(p->a, buf, n)));
			n = 0;
			inner = pipeline(p, 0);
			if (inner == NULL || !take(p, ")"))
				return fail(p, "')' is missing");
			add_part(p, x, inner);
			p->at--;
		} else if (escaped(p->at, &buf[n]) == 0) {
			return fail(p, "an unknown escape");
		} else {
			n++;
		}
	}
	p->at++;
	if (x->n == 0)
		return constant(p, val_str(p->a, buf, n));
	add_part(p, x, constant(p, val_str(p->a, buf, n)));
	return x;
}

/* ---- paths */

static const struct node *
field(struct parser *p, const struct node *base, const char *key)
{
	struct node *x = make(p, X_FIELD, base, NULL);

	x->key = key;
	return x;
}

static const struct node *
quoted_field(struct parser *p, const struct node *base)
{
	const struct node *s = string(p);

	if (s == NULL)
		return NULL;
	return s->kind == X_CONST ? field(p, base, s->v->text) : fail(p, "a key that is not known beforehand");
}

/* After '[': ], a number ], "key" ]. */
static const struct node *
bracket(struct parser *p, const struct node *base)
{
	const struct node *x;
	char *end;

	if (take(p, "]"))
		return make(p, X_EACH, base, NULL);
	if (take(p, "\"")) {
		x = quoted_field(p, base);
	} else {
		long long i = strtoll(p->at, &end, 10);
		struct node *index = make(p, X_INDEX, base, NULL);

		if (end == p->at || i < INT32_MIN || i > INT32_MAX)
			return fail(p, "an index or a key in quotes is wanted");
		p->at = end;
		index->index = i;
		x = index;
	}
	if (x != NULL && !take(p, "]"))
		return fail(p, "']' is missing");
	return x;
}

/* What follows a value directly: .name ."name" [...] */
static const struct node *
suffixes(struct parser *p, const struct node *x)
{
	while (x != NULL && !p->failed) {
		if (*p->at == '[') {
			p->at++;
			x = bracket(p, x);
		} else if (*p->at == '.' && p->at[1] == '"') {
			p->at += 2;
			x = quoted_field(p, x);
		} else if (*p->at == '.' && word_length(p->at + 1) > 0) {
			size_t n = word_length(p->at + 1);

			x = field(p, x, arena_strndup(p->a, p->at + 1, n));
			p->at += n + 1;
		} else if (*p->at == '.' && p->at[1] == '[') {
			p->at++;
		} else {
			break;
		}
	}
	return x;
}

static const struct node *
path(struct parser *p)
{
	const struct node *self = make(p, X_SELF, NULL, NULL);

	if (p->at[1] == '.')
		return fail(p, "'..' is not supported");
	if (p->at[1] == '"' || word_length(p->at + 1) > 0)
		return suffixes(p, self);
	p->at++;
	return suffixes(p, self);
}

/* ---- calls */

static bool
compile(struct parser *p, struct node *x)
{
	if (x->a->kind != X_CONST || x->a->v->type != VAL_STR || p->e->n_re == EXPR_REGEX_MAX)
		return fail(p, "a pattern must be a text, and there are at most 32") != NULL;
	if (filter_compile_one(x->a->v->text, "override-expr", NULL, &x->re, p->err) != 0) {
		p->failed = true;
		return false;
	}
	p->e->re[p->e->n_re++] = x->re;
	return true;
}

static const struct node *
call(struct parser *p, size_t n)
{
	const struct func *f = expr_funcs;
	struct node *x = make(p, X_CALL, NULL, NULL);
	int args = 0;

	while (f->name != NULL && (strlen(f->name) != n || strncmp(f->name, p->at, n) != 0))
		f++;
	if (f->name == NULL)
		return fail(p, "an unknown function");
	p->at += n;
	x->fn = f;
	if (f->max > 0 && take(p, "(")) {
		do {
			const struct node *arg =
			    pipeline(p, f->max > 1 ? 1 : 0); /* a comma is between arguments, or of the only one */

			if (arg == NULL)
				return NULL;
			*(args == 0 ? &x->a : &x->b) = arg;
		} while (++args < f->max && (take(p, ",") || take(p, ";")));
		if (!take(p, ")"))
			return fail(p, "')' is missing, or there are too many arguments");
	}
	if (args < f->min)
		return fail(p, "arguments are missing");
	return f->regex && !compile(p, x) ? NULL : x;
}

/* ---- values */

static const struct node *
map_of(struct parser *p)
{
	struct node *x = make(p, X_MAP, NULL, NULL);

	if (take(p, "}"))
		return x;
	do {
		const struct node *key = take(p, "\"") ? string(p) : fail(p, "a key in quotes is wanted"), *v;

		if (key == NULL || !take(p, ":"))
			return fail(p, "':' is missing");
		v = pipeline(p, 1);
		if (v == NULL)
			return NULL;
		add_part(p, x, key);
		add_part(p, x, v);
	} while (take(p, ","));
	return take(p, "}") ? x : fail(p, "'}' is missing");
}

static const struct node *
enclosed(struct parser *p, const char *end)
{
	const struct node *x;

	if (++p->depth > EXPR_NEST_MAX)
		return fail(p, "nested too deeply");
	x = pipeline(p, 0);
	p->depth--;
	return x == NULL ? NULL : take(p, end) ? x : fail(p, "a closing bracket is missing");
}

static const struct node *
scalar(struct parser *p)
{
	size_t n = *p->at == '-' ? 1 : 0;
	const struct val *v;

	n += strspn(p->at + n, "0123456789abcdefxABCDEF.+-");
	v = val_plain(p->a, arena_strndup(p->a, p->at, n));
	if (v->type != VAL_INT && v->type != VAL_FLOAT)
		return fail(p, "a number is wanted");
	p->at += n;
	return constant(p, v);
}

static const struct node *
primary(struct parser *p)
{
	size_t n;

	blanks(p);
	n = word_length(p->at);
	if (*p->at == '.')
		return path(p);
	if (take(p, "("))
		return suffixes(p, enclosed(p, ")"));
	if (take(p, "["))
		return take(p, "]") ? make(p, X_LIST, NULL, NULL) :
				      suffixes(p, (const struct node *)make(p, X_LIST, enclosed(p, "]"), NULL));
	if (take(p, "{"))
		return map_of(p);
	if (take(p, "\""))
		return string(p);
	if (take(p, "~") || take_word(p, "null"))
		return constant(p, val_null());
	if (take_word(p, "true"))
		return constant(p, val_bool(true));
	if (take_word(p, "false"))
		return constant(p, val_bool(false));
	if (*p->at == '-' || (*p->at >= '0' && *p->at <= '9'))
		return scalar(p);
	if (n == 0)
		return fail(p, *p->at == '\0' ? "it ends too early" : "an unexpected character");
	return suffixes(p, call(p, n));
}

/* ---- operators, loosest first */

static const struct operator
{
	const char *token;
	int level;
	enum expr_kind kind;
	enum expr_op op;
}
operators[] = { { "//", 4, X_ALT, 0 }, { "==", 3, X_COMPARE, OP_EQ }, { "!=", 3, X_COMPARE, OP_NE },
	{ "<=", 3, X_COMPARE, OP_LE }, { ">=", 3, X_COMPARE, OP_GE }, { "<", 3, X_COMPARE, OP_LT }, { ">", 3, X_COMPARE, OP_GT },
	{ "|=", 3, X_ASSIGN, OP_UPDATE }, { "+=", 3, X_ASSIGN, OP_ADD }, { "-=", 3, X_ASSIGN, OP_SUB },
	{ "*=", 3, X_ASSIGN, OP_MUL }, { "=", 3, X_ASSIGN, OP_SET }, { "|", 2, X_PIPE, 0 }, { "or", 1, X_OR, 0 },
	{ "and", 1, X_AND, 0 }, { ",", 0, X_COMMA, 0 } };

/* The first operator at p in the table's order, so that "|=" is not "|". */
static const struct operator* operator_at(struct parser *p)
{
	blanks(p);
	for (size_t i = 0; i < countof(operators); i++) {
		const char *t = operators[i].token;

		if (t[0] >= 'a' && t[0] <= 'z' ? word_length(p->at) == strlen(t) && str_starts(p->at, t) : str_starts(p->at, t))
			return &operators[i];
	}
	return NULL;
}

static const struct node *
pipeline(struct parser *p, int level)
{
	const struct node *left;
	const struct operator* o;

	if (++p->depth > EXPR_NEST_MAX)
		return fail(p, "nested too deeply");
	left = primary(p);
	while (left != NULL && !p->failed && (o = operator_at(p)) != NULL && o->level >= level) {
		const struct node *right;
		struct node *x;

		p->at += strlen(o->token);
		right = pipeline(p, o->level + 1);
		if (right == NULL)
			return NULL;
		x = make(p, o->kind, left, right);
		x->op = o->op;
		left = x;
	}
	p->depth--;
	return p->failed ? NULL : left;
}

struct expr *
expr_parse(struct arena *a, const char *text, struct cfg_err *err)
{
	struct parser p = { .a = a, .text = text, .at = text, .err = err };

	p.e = arena_alloc(a, sizeof(*p.e));
	if (strlen(text) > EXPR_TEXT_MAX)
		(void)fail(&p, "it is too long");
	else
		p.e->root = pipeline(&p, 0);
	blanks(&p);
	if (!p.failed && *p.at != '\0')
		(void)fail(&p, "an unexpected character");
	if (!p.failed)
		return p.e;
	expr_free(p.e);
	return NULL;
}

void
expr_free(struct expr *e)
{
	for (int i = 0; e != NULL && i < e->n_re; i++)
		filter_free(e->re[i]);
	if (e != NULL)
		e->n_re = 0;
}
