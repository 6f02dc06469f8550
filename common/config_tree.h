/* SPDX-License-Identifier: MIT */
/* The neutral configuration tree: what the loader makes of YAML, and the only configuration format inside sluice. It lives in
 * a sealed memfd, is position independent (self-relative offsets) and read in place: no copies, no allocation. tree_open()
 * verifies every offset once, so the getters below need no checks; a hostile tree is refused by it.
 *
 *   struct tree t; if (tree_open(&t, fd, &err)) ...
 *   const struct cfg_node *n = cfg_get(t.root, "mixed-port");
 *   int64_t port = 0; if (cfg_int(n, "mixed-port", 0, 65535, &port, &err)) return -E_INVAL;     // absent keeps the default
 *
 * Typed getters take a node that may be NULL (absent) or CFG_NULL and then leave *out as it was, returning 0. They fill
 * cfg_err with line, column, key and a text in the reference's class (spec/config.md 1) and return -E_INVAL on a wrong type or
 * range. */
#ifndef SLUICE_COMMON_CONFIG_TREE_H
#define SLUICE_COMMON_CONFIG_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"

enum cfg_type { CFG_NULL, CFG_SCALAR, CFG_LIST, CFG_MAP };
enum cfg_flags {
	CFG_QUOTED = 1,		/* the scalar stood in quotes or is a block scalar, or has an explicit !!str: it is text whatever it looks like */
	CFG_ALIASED = 2
};

struct cfg_node {			/* as it lies in the file; use the getters */
	uint8_t type, flags;
	uint16_t reserved;
	uint32_t line, column;		/* 1-based */
	int32_t key;			/* offset from this field to the key's text, 0 = none (list item, root) */
	int32_t text;			/* scalar: offset from this field to its NUL-terminated UTF-8 text */
	uint32_t text_len;
	int32_t child;			/* list, map: offset from this field to the first child node, 0 = empty */
	int32_t next;			/* offset from this field to the next sibling, 0 = last */
	uint32_t count;			/* children */
};

struct tree {
	const void *base;
	size_t size;
	const struct cfg_node *root;
};

enum {
	CFG_DEPTH_MAX = 64,
	CFG_NODES_MAX = 4 << 20,	/* after expansion of aliases */
	CFG_BYTES_MAX = 256 << 20
};

/* Maps and verifies; fd stays the caller's. 0 or -E_PROTO. */
int tree_open(struct tree *t, int fd, struct cfg_err *err);
int tree_from_memory(struct tree *t, const void *p, size_t n, struct cfg_err *err);	/* borrows p, 8-aligned; for the loader, tests and fuzzing */
void tree_close(struct tree *t);

/* ---- reading */
const char *cfg_key(const struct cfg_node *n);		/* NULL for list items */
const char *cfg_text(const struct cfg_node *n);		/* scalar's text, "" for null; NULL for lists, maps and no node */
const struct cfg_node *cfg_first(const struct cfg_node *n);	/* first child of a list or map; NULL for the rest and for NULL */
const struct cfg_node *cfg_next(const struct cfg_node *n);
#define cfg_each(c, n) for (const struct cfg_node *c = cfg_first(n); (c) != NULL; (c) = cfg_next(c))
size_t cfg_count(const struct cfg_node *n);
/* The child of a map with this key; NULL when absent or n is no map. Exact first, then case-insensitive with '_' as '-'. */
const struct cfg_node *cfg_get(const struct cfg_node *n, const char *key);
bool cfg_is_null(const struct cfg_node *n);		/* NULL or CFG_NULL */
const char *cfg_tag(const struct cfg_node *n);		/* "!!int" and so on: what the node resolves to, for messages */

/* Strict getters, for the typed top level and its sections. key is for the message. */
int cfg_int(const struct cfg_node *n, const char *key, int64_t min, int64_t max, int64_t *out, struct cfg_err *);	/* plain !!int scalars only: '7890' in quotes is an error */
int cfg_bool(const struct cfg_node *n, const char *key, bool *out, struct cfg_err *);	/* also yes/no/on/off/y/n */
int cfg_str(const struct cfg_node *n, const char *key, const char **out, struct cfg_err *);	/* any scalar's text; lent by the tree */
/* Index of the scalar in names[] (NULL-terminated, compared without case), e.g. the mode; error text is bad ("invalid mode"). */
int cfg_enum(const struct cfg_node *n, const char *key, const char *const *names, const char *bad, int *out, struct cfg_err *);
/* List of scalars; a lone scalar is an error, as in the reference. Returns through cfg_each of *out; *out = NULL when absent. */
int cfg_list(const struct cfg_node *n, const char *key, const struct cfg_node **out, struct cfg_err *);
int cfg_list_of_maps(const struct cfg_node *n, const char *key, const struct cfg_node **out, struct cfg_err *);	/* the same for maps: proxies, ... */
int cfg_map(const struct cfg_node *n, const char *key, const struct cfg_node **out, struct cfg_err *);

/* Weak getters, for items of proxies, groups, providers, listeners (spec/config.md 1 "weak decoder"): string <-> int, int ->
 * bool. They look the key up in the item; "required" ones fail with "key 'KEY' missing". */
int cfgw_int(const struct cfg_node *item, const char *key, int64_t min, int64_t max, int64_t *out, struct cfg_err *);
int cfgw_bool(const struct cfg_node *item, const char *key, bool *out, struct cfg_err *);
int cfgw_str(const struct cfg_node *item, const char *key, const char **out, struct cfg_err *);
int cfgw_str_required(const struct cfg_node *item, const char *key, const char **out, struct cfg_err *);
int cfgw_int_required(const struct cfg_node *item, const char *key, int64_t min, int64_t max, int64_t *out, struct cfg_err *);

/* Fills *err from a node (may be NULL) and a text; always returns -E_INVAL. An err that is filled already (text not "") is
 * kept. */
int cfg_fail(struct cfg_err *err, const struct cfg_node *n, const char *key, const char *fmt, ...) __attribute__((format(printf, 4, 5)));
/* The reference's text for a wrong type, "line N: cannot unmarshal !!str `abc` into TYPE"; always -E_INVAL. */
int cfg_mismatch(struct cfg_err *err, const struct cfg_node *n, const char *key, const char *type);
/* Logs a warning for each key of map n that is not in known[] (NULL-terminated), with line and the nearest known key; where is
 * e.g. "proxies[3]". Keys in unspoken[] (may be NULL) are known but not yet working: warned about by name. */
void cfg_warn_unknown(const struct cfg_node *n, const char *where, const char *const *known, const char *const *unspoken);

/* ---- building (loader and tests) */
struct tree_builder;
struct tree_builder *tree_build(void);
/* Appends a node under parent (-1 = root). key NULL outside maps. Returns its index, or -E_LIMIT / -E_NOMEM, or -E_INVAL for a
 * NUL or broken UTF-8 in key or text, a parent that holds no nodes, or a key too many or too few. */
int64_t tree_add(struct tree_builder *, int64_t parent, enum cfg_type, unsigned flags, const char *key, const char *text, size_t len,
    unsigned line, unsigned column);
/* The finished image in malloc'ed memory (caller frees); frees the builder. NULL when out of memory or over a limit. */
void *tree_finish(struct tree_builder *, size_t *size);
void tree_abandon(struct tree_builder *);

#endif
