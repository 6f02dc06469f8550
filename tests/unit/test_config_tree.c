/* SPDX-License-Identifier: MIT */
/* Unit tests of common/config_tree.c and config_value.c: building, reading, hostile images, scalar types, strict and weak
 * getters. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/config_tree.h"
#include "common/log.h"
#include "common/memfd.h"
#include "common/strutil.h"

enum { HEAD = 24 };		/* bytes before the first node */

struct doc {
	void *image;
	size_t size;
	struct tree tree;
};

static int64_t
put(struct tree_builder *b, int64_t parent, enum cfg_type type, const char *key, const char *text)
{
	int64_t id = tree_add(b, parent, type, 0, key, text, text != NULL ? strlen(text) : 0, 7, 3);

	assert_true(id >= 0);
	return id;
}

static void
finish(struct doc *d, struct tree_builder *b)
{
	struct cfg_err err = { 0 };

	d->image = tree_finish(b, &d->size);
	assert_non_null(d->image);
	assert_int_equal(tree_from_memory(&d->tree, d->image, d->size, &err), 0);
}

/* {a: 1, list: [x, {deep: yes}], none: null, "": empty key}; built out of document order. */
static void
sample(struct doc *d)
{
	struct tree_builder *b = tree_build();
	int64_t root = put(b, -1, CFG_MAP, NULL, NULL), list, map;

	put(b, root, CFG_SCALAR, "a", "1");
	list = put(b, root, CFG_LIST, "list", NULL);
	put(b, root, CFG_NULL, "none", NULL);
	put(b, list, CFG_SCALAR, NULL, "x");
	map = put(b, list, CFG_MAP, NULL, NULL);
	put(b, root, CFG_SCALAR, "", "empty key");
	put(b, map, CFG_SCALAR, "deep", "yes");
	finish(d, b);
}

/* One scalar as the root. */
static void
scalar(struct doc *d, const char *text, unsigned flags)
{
	struct tree_builder *b = tree_build();

	assert_int_equal(tree_add(b, -1, CFG_SCALAR, flags, NULL, text, strlen(text), 4, 2), 0);
	finish(d, b);
}

static struct cfg_node *
node(void *image, unsigned i)
{
	return (struct cfg_node *)(void *)((char *)image + HEAD) + i;
}

static void
test_tree_build_reads_back(void **state)
{
	struct doc d;
	const struct cfg_node *list, *n;

	(void)state;
	sample(&d);
	assert_int_equal(d.tree.root->type, CFG_MAP);
	assert_int_equal(cfg_count(d.tree.root), 4);
	assert_null(cfg_key(d.tree.root));
	assert_string_equal(cfg_text(cfg_get(d.tree.root, "a")), "1");
	assert_string_equal(cfg_text(cfg_get(d.tree.root, "")), "empty key");
	assert_true(cfg_is_null(cfg_get(d.tree.root, "none")));
	assert_string_equal(cfg_text(cfg_get(d.tree.root, "none")), "");
	list = cfg_get(d.tree.root, "list");
	assert_int_equal(list->line, 7);
	assert_int_equal(list->column, 3);
	assert_null(cfg_text(list));
	n = cfg_first(list);
	assert_string_equal(cfg_text(n), "x");
	assert_null(cfg_key(n));
	assert_string_equal(cfg_text(cfg_get(cfg_next(n), "deep")), "yes");
	assert_null(cfg_next(cfg_next(n)));
	n = cfg_first(d.tree.root);
	assert_string_equal(cfg_key(cfg_next(n)), "list");		/* document order, not the order of tree_add() */
	assert_string_equal(cfg_key(cfg_next(cfg_next(n))), "none");
	free(d.image);
}

static void
test_tree_build_same_tree_same_image(void **state)
{
	struct tree_builder *b = tree_build();
	int64_t root = put(b, -1, CFG_MAP, NULL, NULL), list, map;
	struct doc d, e;

	(void)state;
	sample(&d);
	put(b, root, CFG_SCALAR, "a", "1");
	list = put(b, root, CFG_LIST, "list", NULL);
	put(b, list, CFG_SCALAR, NULL, "x");
	map = put(b, list, CFG_MAP, NULL, NULL);
	put(b, map, CFG_SCALAR, "deep", "yes");
	put(b, root, CFG_NULL, "none", NULL);
	put(b, root, CFG_SCALAR, "", "empty key");
	finish(&e, b);
	assert_int_equal(d.size, e.size);
	assert_memory_equal(d.image, e.image, d.size);
	free(d.image);
	free(e.image);
}

static void
test_tree_add_refuses(void **state)
{
	struct tree_builder *b = tree_build();
	int64_t root, at;
	int depth = 1;

	(void)state;
	assert_int_equal(tree_add(b, 0, CFG_MAP, 0, NULL, NULL, 0, 1, 1), -E_INVAL);
	assert_int_equal(tree_add(b, -1, CFG_MAP, 0, "k", NULL, 0, 1, 1), -E_INVAL);
	root = put(b, -1, CFG_MAP, NULL, NULL);
	assert_int_equal(tree_add(b, -1, CFG_MAP, 0, NULL, NULL, 0, 1, 1), -E_INVAL);
	assert_int_equal(tree_add(b, root, CFG_SCALAR, 0, NULL, "x", 1, 1, 1), -E_INVAL);
	assert_int_equal(tree_add(b, root, CFG_SCALAR, 0, "k", "a\0b", 3, 1, 1), -E_INVAL);
	assert_int_equal(tree_add(b, root, CFG_SCALAR, 0, "k", "\xff", 1, 1, 1), -E_INVAL);
	assert_int_equal(tree_add(b, root, CFG_SCALAR, 0, "\xc3", "x", 1, 1, 1), -E_INVAL);
	at = put(b, root, CFG_SCALAR, "k", "x");
	assert_int_equal(tree_add(b, at, CFG_SCALAR, 0, NULL, "x", 1, 1, 1), -E_INVAL);
	for (at = put(b, root, CFG_LIST, "l", NULL), depth = 2; depth < CFG_DEPTH_MAX; depth++)
		at = put(b, at, CFG_LIST, NULL, NULL);
	assert_int_equal(tree_add(b, at, CFG_LIST, 0, NULL, NULL, 0, 1, 1), -E_LIMIT);
	tree_abandon(b);
}

static void
test_tree_finish_of_nothing(void **state)
{
	size_t size;

	(void)state;
	assert_null(tree_finish(tree_build(), &size));
	tree_abandon(NULL);
}

static void
test_tree_from_memory_deepest(void **state)
{
	struct tree_builder *b = tree_build();
	int64_t at = put(b, -1, CFG_LIST, NULL, NULL);
	struct doc d;
	unsigned depth = 1;

	(void)state;
	while (++depth <= CFG_DEPTH_MAX)
		at = put(b, at, CFG_LIST, NULL, NULL);
	finish(&d, b);
	free(d.image);
}

static int
reopen(const struct doc *d, size_t size)
{
	struct cfg_err err = { 0 };
	struct tree t;
	int rc = tree_from_memory(&t, d->image, size, &err);

	if (rc != 0) {
		assert_int_equal(rc, -E_PROTO);
		assert_true(str_starts(err.text, "configuration tree refused: "));
	}
	return rc;
}

/* Sets one 32-bit field of a fresh sample and expects a refusal; nodes in order: root, a, list, x, map, deep, none, "". */
static void
refuse_field(unsigned i, size_t field, int32_t value)
{
	struct doc d;

	sample(&d);
	memcpy((char *)node(d.image, i) + field, &value, sizeof value);
	if (reopen(&d, d.size) == 0)
		fail_msg("node %u field %zu = %d was accepted", i, field, value);
	free(d.image);
}

static void
test_tree_from_memory_hostile_offsets(void **state)
{
	static const int32_t odd[] = { 1, -1, 4, -4, 36, -36, 72, 1000, 1 << 20, INT32_MAX, INT32_MIN, -HEAD };
	static const size_t fields[] = { offsetof(struct cfg_node, key), offsetof(struct cfg_node, text),
		offsetof(struct cfg_node, child), offsetof(struct cfg_node, next), offsetof(struct cfg_node, count),
		offsetof(struct cfg_node, text_len) };
	struct doc d;

	(void)state;
	sample(&d);
	for (unsigned i = 0; i < 8; i++) {
		for (size_t f = 0; f < countof(fields); f++) {
			int32_t was;

			memcpy(&was, (char *)node(d.image, i) + fields[f], sizeof was);
			for (size_t k = 0; k < countof(odd); k++)
				if (was != odd[k])
					refuse_field(i, fields[f], odd[k]);
			if (was != 0)
				refuse_field(i, fields[f], 0);
		}
	}
	free(d.image);
}

/* Two siblings that share one child, and a sibling that is its own next: what a walk would never end on. */
static void
test_tree_from_memory_hostile_shapes(void **state)
{
	(void)state;
	refuse_field(4, offsetof(struct cfg_node, child), -36 - (int32_t)offsetof(struct cfg_node, child));	/* map holds x */
	refuse_field(4, offsetof(struct cfg_node, child), -(int32_t)offsetof(struct cfg_node, child));		/* map holds itself */
	refuse_field(1, offsetof(struct cfg_node, next), -(int32_t)offsetof(struct cfg_node, next));		/* a follows itself */
	refuse_field(1, offsetof(struct cfg_node, next), 36 * 5 - (int32_t)offsetof(struct cfg_node, next));	/* list is skipped */
	refuse_field(0, offsetof(struct cfg_node, type), CFG_LIST);	/* keys in a list */
	refuse_field(2, offsetof(struct cfg_node, type), CFG_MAP);	/* no keys in a map */
	refuse_field(2, offsetof(struct cfg_node, type), CFG_SCALAR);	/* a scalar with children */
	refuse_field(2, offsetof(struct cfg_node, type), 4);
	refuse_field(1, offsetof(struct cfg_node, type), CFG_SCALAR | 4 << 8);	/* unknown flag */
	refuse_field(1, offsetof(struct cfg_node, type), CFG_SCALAR | 1 << 16);	/* reserved */
}

static void
test_tree_from_memory_hostile_bytes(void **state)
{
	struct doc d;
	char *texts;

	(void)state;
	sample(&d);
	for (size_t n = 0; n < d.size; n++)
		assert_int_equal(reopen(&d, n), -E_PROTO);
	texts = (char *)node(d.image, 8);
	assert_string_equal(texts, "a");
	texts[1] = 'b';			/* no end */
	assert_int_equal(reopen(&d, d.size), -E_PROTO);
	texts[1] = '\0';
	texts[0] = (char)0xff;		/* no UTF-8 */
	assert_int_equal(reopen(&d, d.size), -E_PROTO);
	texts[0] = '\0';		/* shorter than the rest says */
	assert_int_equal(reopen(&d, d.size), -E_PROTO);
	texts[0] = 'a';
	assert_int_equal(reopen(&d, d.size), 0);
	((char *)d.image)[0] ^= 1;
	assert_int_equal(reopen(&d, d.size), -E_PROTO);
	free(d.image);
}

/* No single changed byte may break the reader: what is accepted must be walkable in as many steps as there are nodes. */
static size_t
walk(const struct cfg_node *n)
{
	size_t sum = 1;

	if (cfg_text(n) != NULL)
		assert_int_equal(strlen(cfg_text(n)), n->text_len);
	cfg_each(c, n)
		sum += walk(c);
	return sum;
}

static void
test_tree_from_memory_any_byte(void **state)
{
	struct doc d;

	(void)state;
	sample(&d);
	for (size_t i = 0; i < d.size; i++) {
		for (unsigned bit = 0; bit < 8; bit++) {
			struct tree t;

			((uint8_t *)d.image)[i] ^= (uint8_t)(1u << bit);
			if (tree_from_memory(&t, d.image, d.size, NULL) == 0)
				assert_int_equal(walk(t.root), 8);
			((uint8_t *)d.image)[i] ^= (uint8_t)(1u << bit);
		}
	}
	free(d.image);
}

static void
test_tree_open_memfd(void **state)
{
	struct cfg_err err = { 0 };
	struct tree t;
	struct doc d;
	int fd;

	(void)state;
	sample(&d);
	fd = memfd_from("test", d.image, d.size);
	assert_true(fd >= 0);
	free(d.image);
	assert_int_equal(tree_open(&t, fd, &err), 0);
	close(fd);
	assert_string_equal(cfg_text(cfg_get(t.root, "a")), "1");
	tree_close(&t);
	assert_null(t.root);
	fd = memfd_from("empty", NULL, 0);
	assert_int_equal(tree_open(&t, fd, &err), -E_PROTO);
	close(fd);
	fd = memfd_shared("unsealed", 4096);
	assert_int_equal(tree_open(&t, fd, &err), -E_PROTO);
	close(fd);
	assert_string_not_equal(err.text, "");
}

static void
test_cfg_get_near_key(void **state)
{
	struct tree_builder *b = tree_build();
	int64_t root = put(b, -1, CFG_MAP, NULL, NULL);
	struct doc d;

	(void)state;
	put(b, root, CFG_SCALAR, "Skip_Cert-Verify", "near");
	put(b, root, CFG_SCALAR, "UDP", "first");
	put(b, root, CFG_SCALAR, "udp", "exact");
	finish(&d, b);
	assert_string_equal(cfg_text(cfg_get(d.tree.root, "skip-cert-verify")), "near");
	assert_string_equal(cfg_text(cfg_get(d.tree.root, "udp")), "exact");
	assert_null(cfg_get(d.tree.root, "ud"));
	assert_null(cfg_get(d.tree.root, "udp2"));
	assert_null(cfg_get(cfg_get(d.tree.root, "udp"), "x"));
	assert_null(cfg_get(NULL, "x"));
	free(d.image);
}

/* Reads text as an integer; "" when it is one, else the error's text. */
static const char *
int_error(const char *text, unsigned flags, int64_t *out)
{
	static struct cfg_err err;
	struct doc d;
	int rc;

	err = (struct cfg_err){ 0 };
	scalar(&d, text, flags);
	rc = cfg_int(d.tree.root, "k", INT64_MIN, INT64_MAX, out, &err);
	assert_int_equal(rc, err.text[0] != '\0' ? -E_INVAL : 0);
	free(d.image);
	return err.text;
}

static void
test_cfg_int_forms(void **state)
{
	static const struct { const char *text; int64_t value; } good[] = {
		{ "0", 0 }, { "7890", 7890 }, { "-1", -1 }, { "+5", 5 }, { "0x1F", 31 }, { "-0x10", -16 }, { "0o17", 15 }, { "017", 15 },
		{ "0b101", 5 }, { "1_000", 1000 }, { "9223372036854775807", INT64_MAX }, { "-9223372036854775808", INT64_MIN },
	};

	(void)state;
	for (size_t i = 0; i < countof(good); i++) {
		int64_t v = 42;

		assert_string_equal(int_error(good[i].text, 0, &v), "");
		assert_true(v == good[i].value);
	}
}

static void
test_cfg_int_errors(void **state)
{
	static const struct { const char *text, *tag; } bad[] = {
		{ "abc", "!!str" }, { "1.0", "!!float" }, { "1e3", "!!float" }, { "089", "!!float" }, { ".5", "!!float" }, { ".inf", "!!float" },
		{ "true", "!!bool" }, { "yes", "!!str" }, { "0x", "!!str" }, { "0xg", "!!str" }, { "-", "!!str" }, { "1 2", "!!str" },
		{ "_1", "!!str" }, { "1e", "!!str" }, { "0b12", "!!str" }, { ".", "!!str" }, { "--1", "!!str" },
	};
	int64_t v = 42;

	(void)state;
	for (size_t i = 0; i < countof(bad); i++) {
		char want[100];

		(void)snprintf(want, sizeof want, "line 4: cannot unmarshal %s `%s` into int", bad[i].tag, bad[i].text);
		assert_string_equal(int_error(bad[i].text, 0, &v), want);
	}
	assert_string_equal(int_error("7890", CFG_QUOTED, &v), "line 4: cannot unmarshal !!str `7890` into int");
	assert_string_equal(int_error("0123456789a", CFG_QUOTED, &v), "line 4: cannot unmarshal !!str `0123456...` into int");
	assert_string_equal(int_error("abcdef\xc3\xa9ghijk", 0, &v), "line 4: cannot unmarshal !!str `abcdef...` into int");
	assert_string_equal(int_error("9223372036854775808", 0, &v), "line 4: cannot unmarshal !!int `9223372...` into int");
	assert_true(v == 42);
}

static void
test_cfg_int_range_and_kinds(void **state)
{
	struct cfg_err err = { 0 };
	struct doc d, s;
	int64_t v = 42;

	(void)state;
	scalar(&d, "70000", 0);
	assert_int_equal(cfg_int(d.tree.root, "port", 0, 65535, &v, &err), -E_INVAL);
	assert_string_equal(err.text, "line 4: port: 70000 is not in 0..65535");
	assert_string_equal(err.key, "port");
	assert_int_equal(err.line, 4);
	assert_int_equal(err.column, 2);
	sample(&s);
	assert_int_equal(cfg_int(s.tree.root, "port", 0, 65535, &v, &err), -E_INVAL);
	assert_string_equal(err.text, "line 4: port: 70000 is not in 0..65535");	/* the first error stays */
	err = (struct cfg_err){ 0 };
	assert_int_equal(cfg_int(cfg_get(s.tree.root, "list"), "port", 0, 1, &v, &err), -E_INVAL);
	assert_string_equal(err.text, "line 7: cannot unmarshal !!seq into int");
	assert_int_equal(cfg_int(cfg_get(s.tree.root, "none"), "port", 0, 1, &v, NULL), 0);
	assert_int_equal(cfg_int(NULL, "port", 0, 1, &v, NULL), 0);
	assert_int_equal(v, 42);
	free(d.image);
	free(s.image);
}

static int
bool_of(const char *text, unsigned flags)
{
	struct cfg_err err = { 0 };
	struct doc d;
	bool v = false;
	int rc;

	scalar(&d, text, flags);
	rc = cfg_bool(d.tree.root, "k", &v, &err);
	free(d.image);
	if (rc != 0)
		assert_true(str_ends(err.text, "` into bool"));
	return rc == 0 ? v : -1;
}

static void
test_cfg_bool_words(void **state)
{
	static const char *const yes[] = { "true", "True", "TRUE", "y", "Y", "yes", "Yes", "YES", "on", "On", "ON" };
	static const char *const no[] = { "false", "False", "FALSE", "n", "N", "no", "No", "NO", "off", "Off", "OFF" };
	static const char *const bad[] = { "maybe", "tRUE", "1", "0", "oN", "t" };

	(void)state;
	for (size_t i = 0; i < countof(yes); i++)
		assert_int_equal(bool_of(yes[i], 0), 1);
	for (size_t i = 0; i < countof(no); i++)
		assert_int_equal(bool_of(no[i], 0), 0);
	for (size_t i = 0; i < countof(bad); i++)
		assert_int_equal(bool_of(bad[i], 0), -1);
	assert_int_equal(bool_of("yes", CFG_QUOTED), 1);	/* go-yaml takes the word, quoted or not ... */
	assert_int_equal(bool_of("true", CFG_QUOTED), -1);	/* ... but this one only as a boolean */
}

static void
test_cfg_str_enum_list_map(void **state)
{
	static const char *const modes[] = { "rule", "global", "direct", NULL };
	struct cfg_err err = { 0 };
	const struct cfg_node *out;
	const char *s = "kept";
	struct doc d, e;
	int mode = 9;

	(void)state;
	sample(&d);
	assert_int_equal(cfg_str(cfg_get(d.tree.root, "none"), "none", &s, &err), 0);
	assert_string_equal(s, "kept");
	assert_int_equal(cfg_str(cfg_get(d.tree.root, "a"), "a", &s, &err), 0);
	assert_string_equal(s, "1");
	assert_int_equal(cfg_str(d.tree.root, "a", &s, &err), -E_INVAL);
	assert_string_equal(err.text, "line 7: cannot unmarshal !!map into string");
	err.text[0] = '\0';
	assert_int_equal(cfg_list(cfg_get(d.tree.root, "list"), "list", &out, &err), -E_INVAL);
	assert_string_equal(err.text, "line 7: cannot unmarshal !!map into string");
	err.text[0] = '\0';
	assert_int_equal(cfg_list_of_maps(cfg_get(d.tree.root, "list"), "list", &out, &err), -E_INVAL);
	assert_string_equal(err.text, "line 7: cannot unmarshal !!str `x` into map[string]interface {}");
	err.text[0] = '\0';
	assert_int_equal(cfg_list(cfg_get(d.tree.root, "a"), "a", &out, &err), -E_INVAL);
	assert_string_equal(err.text, "line 7: cannot unmarshal !!int `1` into []string");
	err.text[0] = '\0';
	assert_int_equal(cfg_map(cfg_get(d.tree.root, "a"), "a", &out, &err), -E_INVAL);
	assert_int_equal(cfg_map(d.tree.root, "a", &out, NULL), 0);
	assert_ptr_equal(out, d.tree.root);
	assert_int_equal(cfg_list(NULL, "a", &out, NULL), 0);
	assert_null(out);
	free(d.image);

	scalar(&e, "GLOBAL", 0);
	assert_int_equal(cfg_enum(e.tree.root, "mode", modes, "invalid mode", &mode, NULL), 0);
	assert_int_equal(mode, 1);
	free(e.image);
	scalar(&e, "sideways", 0);
	err.text[0] = '\0';
	assert_int_equal(cfg_enum(e.tree.root, "mode", modes, "invalid mode", &mode, &err), -E_INVAL);
	assert_string_equal(err.text, "invalid mode");
	assert_int_equal(err.line, 4);
	free(e.image);
}

/* An item of proxies: {n: 1, hex: "0x10", t: yes, b: true, z: 0, bad: 12x, f: 1.5, l: [], none: null}. */
static void
item(struct doc *d)
{
	struct tree_builder *b = tree_build();
	int64_t root = put(b, -1, CFG_MAP, NULL, NULL);

	put(b, root, CFG_SCALAR, "n", "1");
	(void)tree_add(b, root, CFG_SCALAR, CFG_QUOTED, "hex", "0x10", 4, 1, 1);
	put(b, root, CFG_SCALAR, "t", "yes");
	put(b, root, CFG_SCALAR, "b", "true");
	put(b, root, CFG_SCALAR, "z", "0");
	put(b, root, CFG_SCALAR, "bad", "12x");
	put(b, root, CFG_SCALAR, "f", "1.5");
	put(b, root, CFG_LIST, "l", NULL);
	put(b, root, CFG_NULL, "none", NULL);
	finish(d, b);
}

static void
test_cfgw_values(void **state)
{
	const char *s = NULL;
	int64_t v = 0;
	bool b = true;
	struct doc d;

	(void)state;
	item(&d);
	assert_int_equal(cfgw_int(d.tree.root, "hex", 0, 99, &v, NULL), 0);
	assert_int_equal(v, 16);
	assert_int_equal(cfgw_int(d.tree.root, "absent", 0, 99, &v, NULL), 0);
	assert_int_equal(cfgw_int(d.tree.root, "none", 0, 99, &v, NULL), 0);
	assert_int_equal(v, 16);
	assert_int_equal(cfgw_bool(d.tree.root, "z", &b, NULL), 0);
	assert_false(b);
	assert_int_equal(cfgw_bool(d.tree.root, "n", &b, NULL), 0);
	assert_true(b);
	assert_int_equal(cfgw_str(d.tree.root, "n", &s, NULL), 0);
	assert_string_equal(s, "1");
	assert_int_equal(cfgw_str(d.tree.root, "t", &s, NULL), 0);
	assert_string_equal(s, "yes");
	assert_int_equal(cfgw_str_required(d.tree.root, "f", &s, NULL), 0);
	assert_string_equal(s, "1.5");
	assert_int_equal(cfgw_int_required(d.tree.root, "n", 0, 9, &v, NULL), 0);
	assert_int_equal(v, 1);
	free(d.image);
}

#define REFUSES(call, want) do { \
	struct cfg_err err = { 0 }; \
	assert_int_equal(call, -E_INVAL); \
	assert_string_equal(err.text, want); \
} while (0)

static void
test_cfgw_errors(void **state)
{
	const struct cfg_node *n;
	const char *s;
	int64_t v;
	struct doc d;
	bool b;

	(void)state;
	item(&d);
	n = d.tree.root;
	REFUSES(
	    cfgw_int(n, "bad", 0, 9, &v, &err), "cannot parse 'bad' as int: strconv.ParseInt: parsing \"12x\": invalid syntax");
	REFUSES(cfgw_int(n, "b", 0, 9, &v, &err), "'b' expected type 'int', got unconvertible type 'bool'");
	REFUSES(cfgw_int(n, "l", 0, 9, &v, &err), "'l' expected type 'int', got unconvertible type '[]interface {}'");
	REFUSES(cfgw_int(n, "hex", 0, 9, &v, &err), "line 1: hex: 16 is not in 0..9");
	REFUSES(cfgw_bool(n, "t", &b, &err), "'t' expected type 'bool', got unconvertible type 'string'");
	REFUSES(cfgw_str(n, "b", &s, &err), "'b' expected type 'string', got unconvertible type 'bool'");
	REFUSES(cfgw_str_required(n, "server", &s, &err), "key 'server' missing");
	REFUSES(cfgw_str_required(n, "none", &s, &err), "key 'none' missing");
	REFUSES(cfgw_int_required(n, "port", 0, 9, &v, &err), "key 'port' missing");
	free(d.image);
}

/* The next record on the log channel; "" when there is none. */
static const char *
next_log(int fd)
{
	static char buf[sizeof(struct log_record) + LOG_TEXT_MAX + 1];
	ssize_t n = recv(fd, buf, sizeof buf - 1, MSG_DONTWAIT);

	buf[n > 0 ? n : 0] = '\0';
	return n > (ssize_t)sizeof(struct log_record) ? buf + sizeof(struct log_record) : "";
}

static void
test_cfg_warn_unknown_names_and_caps(void **state)
{
	static const char *const known[] = { "server", "port", "skip-cert-verify", NULL }, *const unspoken[] = { "smux", NULL };
	struct tree_builder *b = tree_build();
	int64_t root = put(b, -1, CFG_MAP, NULL, NULL);
	unsigned lines = 0;
	struct doc d;
	int sv[2];

	(void)state;
	put(b, root, CFG_SCALAR, "port", "1");
	put(b, root, CFG_SCALAR, "skip_cert_verify", "1");
	put(b, root, CFG_SCALAR, "sever", "h");
	put(b, root, CFG_SCALAR, "smux", "1");
	for (int i = 0; i < 100; i++) {
		char key[24];

		(void)snprintf(key, sizeof key, "other%d", i);
		put(b, root, CFG_SCALAR, key, "1");
	}
	finish(&d, b);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, sv), 0);
	log_init(sv[0]);
	cfg_warn_unknown(d.tree.root, "proxies[3]", known, unspoken);
	assert_string_equal(next_log(sv[1]), "line 7: proxies[3]: unknown key sever is ignored, did you mean server?");
	assert_string_equal(next_log(sv[1]), "line 7: proxies[3]: key smux does not work yet and is ignored");
	assert_string_equal(next_log(sv[1]), "line 7: proxies[3]: unknown key other0 is ignored");
	while (strstr(next_log(sv[1]), "more unknown keys") == NULL)
		assert_in_range(++lines, 1, 29);
	assert_int_equal(lines, 29);
	assert_string_equal(next_log(sv[1]), "");
	log_init(-1);
	close(sv[0]);
	close(sv[1]);
	free(d.image);
}

static void
test_cfg_fail_cuts_whole_characters(void **state)
{
	struct cfg_err err = { 0 };
	char wide[2001];

	(void)state;
	for (size_t i = 0; i < 2000; i += 2)
		memcpy(wide + i, "\xc3\xa9", 2);
	wide[2000] = '\0';
	assert_int_equal(cfg_fail(&err, NULL, wide, "x%s", wide), -E_INVAL);
	assert_true(utf8_valid(err.text, strlen(err.text)));
	assert_true(utf8_valid(err.key, strlen(err.key)));
	assert_int_equal(strlen(err.text), 511);
	assert_int_equal(strlen(err.key), 62);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tree_build_reads_back),
		cmocka_unit_test(test_tree_build_same_tree_same_image),
		cmocka_unit_test(test_tree_add_refuses),
		cmocka_unit_test(test_tree_finish_of_nothing),
		cmocka_unit_test(test_tree_from_memory_deepest),
		cmocka_unit_test(test_tree_from_memory_hostile_offsets),
		cmocka_unit_test(test_tree_from_memory_hostile_shapes),
		cmocka_unit_test(test_tree_from_memory_hostile_bytes),
		cmocka_unit_test(test_tree_from_memory_any_byte),
		cmocka_unit_test(test_tree_open_memfd),
		cmocka_unit_test(test_cfg_get_near_key),
		cmocka_unit_test(test_cfg_int_forms),
		cmocka_unit_test(test_cfg_int_errors),
		cmocka_unit_test(test_cfg_int_range_and_kinds),
		cmocka_unit_test(test_cfg_bool_words),
		cmocka_unit_test(test_cfg_str_enum_list_map),
		cmocka_unit_test(test_cfgw_values),
		cmocka_unit_test(test_cfgw_errors),
		cmocka_unit_test(test_cfg_warn_unknown_names_and_caps),
		cmocka_unit_test(test_cfg_fail_cuts_whole_characters),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
