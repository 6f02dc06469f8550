/* SPDX-License-Identifier: MIT */
/* What expr_parse.c, expr_val.c, expr_eval.c and expr_func.c share: values, where they came from, and the parsed expression.
 * Everything lies in an arena; values are never changed once made, a change makes new ones above it. */
#ifndef SLUICE_WORKER_PROVIDER_EXPR_IMPL_H
#define SLUICE_WORKER_PROVIDER_EXPR_IMPL_H

#include <stdbool.h>
#include <stdint.h>

#include "worker/group/filter.h"
#include "worker/provider/expr.h"

enum val_type { VAL_NULL, VAL_BOOL, VAL_INT, VAL_FLOAT, VAL_STR, VAL_LIST, VAL_MAP };
struct val {
	enum val_type type;
	const char *text; /* of scalars */
	int64_t i; /* VAL_INT, VAL_BOOL */
	double f; /* VAL_INT, VAL_FLOAT */
	size_t n; /* of lists and maps */
	const struct val **v;
	const char **key; /* VAL_MAP */
};

struct path { /* from the expression's input to a value; immutable */
	const struct path *up; /* NULL: the first step */
	const char *key; /* NULL: an index */
	int64_t index;
};
struct result {
	const struct val *v;
	const struct path *path;
	bool placed; /* path says where v is in the input; NULL is the input itself */
	struct result *next;
};
struct results {
	struct result *first, **end;
	size_t n;
};

enum expr_kind {
	X_SELF,
	X_CONST,
	X_STRING,
	X_LIST,
	X_MAP,
	X_FIELD,
	X_INDEX,
	X_EACH,
	X_CALL,
	X_COMMA,
	X_PIPE,
	X_OR,
	X_AND,
	X_ALT,
	X_COMPARE,
	X_ASSIGN
};
enum expr_op { OP_EQ, OP_NE, OP_LT, OP_LE, OP_GT, OP_GE, OP_SET, OP_UPDATE, OP_ADD, OP_SUB, OP_MUL };
struct node {
	enum expr_kind kind;
	enum expr_op op;
	const struct node *a, *b; /* operands; base of a path; arguments of a call */
	const struct node **parts; /* X_STRING: what is put together; X_MAP: key, value, key, value */
	int n;
	const char *key; /* X_FIELD */
	int64_t index; /* X_INDEX */
	const struct val *v; /* X_CONST */
	const struct func *fn;
	struct filter *re; /* test, sub: borrowed of struct expr */
};
struct expr {
	const struct node *root;
	struct filter *re[EXPR_REGEX_MAX]; /* owned */
	int n_re;
};

struct eval { /* one node's evaluation */
	struct arena mem;
	unsigned steps, depth;
	char why[160]; /* "" = going on */
};

struct func {
	const char *name;
	int min, max; /* arguments */
	bool regex; /* the first argument is a pattern, known when it is parsed */
	/* in: the value it is applied to */
	void (*fn)(struct eval *, const struct node *, const struct result *in, struct results *out);
};
extern const struct func expr_funcs[]; /* ended by a NULL name */

/* ---- expr_eval.c */
bool eval_fail(struct eval *e, const char *fmt, ...) __attribute__((format(printf, 2, 3))); /* always false */
bool eval_run(struct eval *e, const struct node *x, const struct result *in, struct results *out);
/* The one value of an argument; NULL with e->why. */
const struct val *eval_one(struct eval *e, const struct node *x, const struct result *in);
void results_init(struct results *r);
void results_add(struct eval *e, struct results *r, const struct val *v); /* a value that is nowhere in the input */
void results_add_at(struct eval *e, struct results *r, const struct val *v, const struct path *path, bool placed);

/* ---- expr_val.c */
const struct val *val_null(void);
const struct val *val_bool(bool b);
const struct val *val_int(struct arena *a, int64_t i);
const struct val *val_str(struct arena *a, const char *s, size_t n);
/* What a plain scalar of this text is. */
const struct val *val_plain(struct arena *a, const char *text);
struct val *val_list(struct eval *e, size_t n); /* n places for v */
struct val *val_map(struct eval *e, size_t n);
const struct val *val_get(const struct val *map, const char *key); /* NULL */
bool val_truth(const struct val *v);
bool val_scalar(const struct val *v);
const char *val_type_name(const struct val *v);
bool val_same_text(const struct val *a, const struct val *b); /* false for lists and maps */
/* a += b, -=, *=. NULL with e->why. */
const struct val *val_combine(struct eval *e, enum expr_op op, const struct val *a, const struct val *b);
/* map with key as v; without it where v is NULL. NULL with e->why. */
const struct val *val_with_key(struct eval *e, const struct val *map, const char *key, const struct val *v);
/* root with what is at path replaced by v, or taken away where v is NULL. NULL with e->why. */
const struct val *val_replace(struct eval *e, const struct val *root, const struct path *path, const struct val *v);

#endif
