/* SPDX-License-Identifier: MIT */
/* YAML to the neutral tree, for the loader's main and tests: turns libyaml's events into the graph of yaml_graph.h, refuses
 * what would make it ambiguous or endless (double keys, keys that are no scalars, aliases to themselves), and has yaml_expand.c
 * make the tree of it.
 *
 * Texts are in the reference's class: "yaml: line 3: did not find expected key", "yaml: unmarshal errors:\n  line 2: ...". */
#include "worker/loader/yaml.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <yaml.h>

#include "common/arena.h"
#include "common/map.h"
#include "worker/loader/limits.h"
#include "worker/loader/yaml_graph.h"

enum { HASH_FROM = 16 };			/* maps with fewer keys are searched, not hashed */

struct level {				/* an open list or map */
	struct ynode *node;
	const char *key;		/* read, its value is awaited */
	uint32_t key_line;
	bool merge;			/* that key is a << */
	struct map seen;		/* key -> ynode, once there are HASH_FROM of them */
};

struct loader {
	struct cfg_err *err;
	struct arena mem;
	struct map anchors;		/* name -> ynode; as many as nodes */
	struct ynode *root;
	struct level stack[CFG_DEPTH_MAX];
	unsigned depth;
	uint32_t nodes;			/* at most CFG_NODES_MAX */
};

/* ---- errors */

int
yaml_fail(struct cfg_err *err, int code, uint32_t line, uint32_t column, const char *fmt, ...)
{
	char text[sizeof err->text];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	(void)cfg_fail(err, NULL, NULL, "yaml: line %u: %s", line, text);
	err->line = line;
	err->column = column;
	return -code;
}

static uint32_t
line_of(yaml_mark_t m)
{
	return (uint32_t)m.line + 1;
}

static uint32_t
column_of(yaml_mark_t m)
{
	return (uint32_t)m.column + 1;
}

/* yaml_fail() at an event. */
__attribute__((format(printf, 4, 5))) static int
refuse(struct loader *l, int code, const yaml_event_t *ev, const char *fmt, ...)
{
	char text[sizeof l->err->text];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	return yaml_fail(l->err, code, line_of(ev->start_mark), column_of(ev->start_mark), "%s", text);
}

/* A byte that is no YAML character: libyaml knows its offset only. */
static int
fail_reader(struct loader *l, const yaml_parser_t *p, const char *text, size_t n)
{
	size_t end = p->problem_offset < n ? p->problem_offset : n;
	uint32_t line = 1, column = 1;

	for (size_t i = 0; i < end; i++) {
		if (text[i] == '\n') {
			line++;
			column = 1;
		} else if (((unsigned char)text[i] & 0xc0) != 0x80) {
			column++;
		}
	}
	return yaml_fail(l->err, E_INVAL, line, column, "%s", p->problem);
}

static int
fail_parser(struct loader *l, const yaml_parser_t *p, const char *text, size_t n)
{
	/* The scanner's problem mark is where it gave up; its context mark is where the token in question began. */
	yaml_mark_t m = p->error == YAML_SCANNER_ERROR ? p->context_mark : p->problem_mark;

	if (p->error == YAML_MEMORY_ERROR) {
		(void)cfg_fail(l->err, NULL, NULL, "yaml: out of memory");
		return -E_NOMEM;
	}
	if (p->error == YAML_READER_ERROR)
		return fail_reader(l, p, text, n);
	return yaml_fail(l->err, E_INVAL, line_of(m), column_of(m), "%s", p->problem != NULL ? p->problem : "syntax error");
}

/* A key in quotes for a message: cut between characters, and without control bytes. */
static const char *
quote_key(char out[static 80], const char *key)
{
	size_t n = 0;

	out[n++] = '"';
	for (; *key != '\0' && (n < 70 || ((unsigned char)*key & 0xc0) == 0x80); key++) {
		if (*key == '"' || *key == '\\')
			out[n++] = '\\';
		out[n++] = (unsigned char)*key < 0x20 || *key == 0x7f ? '?' : *key;
	}
	out[n++] = '"';
	out[n] = '\0';
	return out;
}

/* ---- composing: events to graph */

static const char *
keep(struct loader *l, const yaml_char_t *text, size_t len)
{
	return arena_strndup(&l->mem, (const char *)text, len);
}

static struct ynode *
new_node(struct loader *l, unsigned type, const yaml_event_t *ev)
{
	struct ynode *n;

	if (l->nodes == CFG_NODES_MAX) {
		(void)refuse(l, E_LIMIT, ev, "more than %d nodes (limit)", CFG_NODES_MAX);
		return NULL;
	}
	l->nodes++;
	n = arena_alloc(&l->mem, sizeof *n);
	n->type = (uint8_t)type;
	n->line = line_of(ev->start_mark);
	n->column = column_of(ev->start_mark);
	return n;
}

/* A later anchor of the same name takes its place, as YAML says (1.2 section 7.1). */
static void
set_anchor(struct loader *l, const yaml_char_t *name, struct ynode *n)
{
	const char *key;

	if (name == NULL)
		return;
	key = keep(l, name, strlen((const char *)name));
	(void)map_remove(&l->anchors, key);
	(void)map_put(&l->anchors, key, n);
}

/* The ended node that an alias event names; NULL with the error filled. */
static struct ynode *
find_anchor(struct loader *l, const yaml_event_t *ev)
{
	const char *name = (const char *)ev->data.alias.anchor;
	struct ynode *n = map_get(&l->anchors, name);

	if (n == NULL)
		(void)refuse(l, E_INVAL, ev, "unknown anchor '%.64s' referenced", name);
	else if ((n->flags & YAML_OPEN) != 0)
		(void)refuse(l, E_INVAL, ev, "anchor '%.64s' value contains itself", name);
	return n != NULL && (n->flags & YAML_OPEN) == 0 ? n : NULL;
}

static const struct ynode *
find_key(struct level *at, const char *key)
{
	if (at->node->len >= HASH_FROM)
		return map_get(&at->seen, key);
	for (const struct ynode *c = at->node->u.in.first; c != NULL; c = c->next)
		if (strcmp(c->key, key) == 0)
			return c;
	return NULL;
}

static int
take_key(struct loader *l, const char *key, bool merge, const yaml_event_t *ev)
{
	struct level *at = &l->stack[l->depth - 1];
	const struct ynode *first = find_key(at, key);
	uint32_t line = line_of(ev->start_mark);
	char quoted[80];

	if (first != NULL) {
		(void)cfg_fail(l->err, NULL, key, "yaml: unmarshal errors:\n  line %u: mapping key %s already defined at line %u",
		    line, quote_key(quoted, key), first->key_line);
		l->err->line = line;
		l->err->column = column_of(ev->start_mark);
		return -E_INVAL;
	}
	at->key = key;
	at->key_line = line;
	at->merge = merge;
	return 0;
}

/* Appends n to the innermost open node, or makes it the root. */
static void
attach(struct loader *l, struct ynode *n)
{
	struct level *at;

	if (l->depth == 0) {
		l->root = n;
		return;
	}
	at = &l->stack[l->depth - 1];
	if (at->node->type == CFG_MAP) {
		n->key = at->key;
		n->key_line = at->key_line;
		n->flags |= at->merge ? YAML_MERGE : 0;
		at->node->flags |= at->merge ? YAML_MERGES : 0;
		at->key = NULL;
	}
	if (at->node->u.in.first == NULL)
		at->node->u.in.first = n;
	else
		at->node->u.in.last->next = n;
	at->node->u.in.last = n;
	at->node->len++;
	if (at->node->type != CFG_MAP || at->node->len < HASH_FROM)
		return;
	for (struct ynode *c = at->node->len == HASH_FROM ? at->node->u.in.first : n; c != NULL; c = c->next)
		(void)map_put(&at->seen, c->key, c);
}

static bool
wants_key(const struct loader *l)
{
	return l->depth != 0 && l->stack[l->depth - 1].node->type == CFG_MAP && l->stack[l->depth - 1].key == NULL;
}

static bool
null_text(const char *s)
{
	return *s == '\0' || strcmp(s, "~") == 0 || strcmp(s, "null") == 0 || strcmp(s, "Null") == 0 || strcmp(s, "NULL") == 0;
}

/* Is the scalar text whatever it looks like, by its quotes or its tag? A core tag but !!str makes even a quoted one plain. */
static bool
is_text(const yaml_event_t *ev)
{
	static const char *const plain[] = { YAML_INT_TAG, YAML_FLOAT_TAG, YAML_BOOL_TAG, YAML_NULL_TAG };
	const char *tag = (const char *)ev->data.scalar.tag;

	if (tag == NULL)
		return ev->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
	for (size_t i = 0; i < sizeof plain / sizeof plain[0]; i++)
		if (strcmp(tag, plain[i]) == 0)
			return false;
	return true;
}

static int
on_scalar(struct loader *l, const yaml_event_t *ev)
{
	size_t len = ev->data.scalar.length;
	bool text = is_text(ev);
	const char *s;
	struct ynode *n;

	if (memchr(ev->data.scalar.value, '\0', len) != NULL)
		return refuse(l, E_INVAL, ev, "control characters are not allowed");
	s = keep(l, ev->data.scalar.value, len);
	if (wants_key(l) && len > YAML_KEY_MAX)
		return refuse(l, E_LIMIT, ev, "key is longer than %d bytes (limit)", YAML_KEY_MAX);
	if (wants_key(l)) {
		int rc = take_key(l, s, !text && strcmp(s, "<<") == 0, ev);

		if (rc != 0 || ev->data.scalar.anchor == NULL)
			return rc;
	}
	n = new_node(l, !text && null_text(s) ? CFG_NULL : CFG_SCALAR, ev);
	if (n == NULL)
		return -E_LIMIT;
	n->flags = text ? CFG_QUOTED : 0;
	n->len = (uint32_t)len;
	n->u.text = s;
	set_anchor(l, ev->data.scalar.anchor, n);
	if (l->depth == 0 || l->stack[l->depth - 1].key != s)	/* an anchored key is known to aliases, but no value */
		attach(l, n);
	return 0;
}

static int
on_alias(struct loader *l, const yaml_event_t *ev)
{
	struct ynode *target = find_anchor(l, ev), *n;

	if (target == NULL)
		return -E_INVAL;
	if (wants_key(l)) {
		if (target->type == CFG_LIST || target->type == CFG_MAP)
			return refuse(l, E_INVAL, ev, "invalid map key: only scalars can be keys");
		return take_key(l, target->u.text, false, ev);
	}
	n = new_node(l, YAML_ALIAS, ev);
	if (n == NULL)
		return -E_LIMIT;
	n->u.target = target;
	attach(l, n);
	return 0;
}

static int
on_start(struct loader *l, const yaml_event_t *ev, enum cfg_type type, const yaml_char_t *anchor)
{
	struct ynode *n;

	if (wants_key(l))
		return refuse(l, E_INVAL, ev, "invalid map key: only scalars can be keys");
	if (l->depth == CFG_DEPTH_MAX)
		return refuse(l, E_LIMIT, ev, "nested deeper than %d levels (limit)", CFG_DEPTH_MAX);
	n = new_node(l, type, ev);
	if (n == NULL)
		return -E_LIMIT;
	n->flags = YAML_OPEN;
	set_anchor(l, anchor, n);
	attach(l, n);
	l->stack[l->depth] = (struct level){ .node = n };
	map_init(&l->stack[l->depth++].seen);
	return 0;
}

static void
on_end(struct loader *l)
{
	struct level *at = &l->stack[--l->depth];

	at->node->flags &= (uint8_t)~YAML_OPEN;
	map_free(&at->seen);
}

static int
on_event(struct loader *l, const yaml_event_t *ev)
{
	switch (ev->type) {
	case YAML_SCALAR_EVENT:
		return on_scalar(l, ev);
	case YAML_ALIAS_EVENT:
		return on_alias(l, ev);
	case YAML_SEQUENCE_START_EVENT:
		return on_start(l, ev, CFG_LIST, ev->data.sequence_start.anchor);
	case YAML_MAPPING_START_EVENT:
		return on_start(l, ev, CFG_MAP, ev->data.mapping_start.anchor);
	case YAML_SEQUENCE_END_EVENT:
	case YAML_MAPPING_END_EVENT:
		on_end(l);
		return 0;
	default:
		return 0;
	}
}

/* Reads up to the end of the first document; what follows it is not looked at. */
static int
compose(struct loader *l, const char *text, size_t n)
{
	yaml_parser_t parser;
	yaml_event_t ev;
	yaml_event_type_t type = YAML_NO_EVENT;
	int rc = 0;

	if (!yaml_parser_initialize(&parser)) {
		(void)cfg_fail(l->err, NULL, NULL, "yaml: out of memory");
		return -E_NOMEM;
	}
	yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING);
	yaml_parser_set_input_string(&parser, (const unsigned char *)text, n);
	while (rc == 0 && type != YAML_DOCUMENT_END_EVENT && type != YAML_STREAM_END_EVENT) {
		if (!yaml_parser_parse(&parser, &ev)) {
			rc = fail_parser(l, &parser, text, n);
			break;
		}
		type = ev.type;
		rc = on_event(l, &ev);
		yaml_event_delete(&ev);
	}
	yaml_parser_delete(&parser);
	return rc;
}

int
yaml_load(const void *text, size_t n, void **image, size_t *size, struct cfg_err *err)
{
	struct loader *l = calloc(1, sizeof *l);
	int rc;

	if (l == NULL)
		return -E_NOMEM;
	*err = (struct cfg_err){ 0 };
	l->err = err;
	arena_init(&l->mem);
	map_init(&l->anchors);
	if (n > INPUT_BYTES_MAX) {
		rc = yaml_fail(l->err, E_LIMIT, 1, 1, "input is larger than %d bytes (limit)", INPUT_BYTES_MAX);
		goto out;
	}
	if (n >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) {	/* a byte order mark is no column */
		text = (const char *)text + 3;
		n -= 3;
	}
	rc = compose(l, text, n);
	if (rc == 0 && (l->root == NULL || l->root->type == CFG_NULL)) {
		(void)cfg_fail(err, NULL, NULL, "configuration is empty");
		rc = -E_NOTFOUND;
	}
	if (rc == 0)
		rc = yaml_expand(l->root, image, size, err);
out:
	while (l->depth > 0)			/* left open by an error */
		map_free(&l->stack[--l->depth].seen);
	map_free(&l->anchors);
	arena_free(&l->mem);
	free(l);
	return rc;
}
