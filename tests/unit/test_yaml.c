/* SPDX-License-Identifier: MIT */
/* Unit tests of worker/loader: YAML to tree (yaml.c, yaml_expand.c) and the supervisor's values (settings.c). */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/config_tree.h"
#include "common/strutil.h"
#include "worker/loader/limits.h"
#include "worker/loader/settings.h"
#include "worker/loader/yaml.h"

struct doc {
	void *image;
	struct tree tree;
};

/* Growing text, for inputs made by a loop. */
struct text {
	char *p;
	size_t n, cap;
};

__attribute__((format(printf, 2, 3))) static void
add(struct text *t, const char *fmt, ...)
{
	va_list ap;
	int n;

	if (t->cap - t->n < 512) {
		t->cap = t->cap * 2 + 4096;
		t->p = realloc(t->p, t->cap);
		assert_non_null(t->p);
	}
	va_start(ap, fmt);
	n = vsnprintf(t->p + t->n, t->cap - t->n, fmt, ap);
	va_end(ap);
	assert_in_range(n, 0, 511);
	t->n += (size_t)n;
}

static void
load_n(struct doc *d, const char *text, size_t n)
{
	struct cfg_err err = { 0 };
	size_t size;

	if (yaml_load(text, n, &d->image, &size, &err) != 0)
		fail_msg("refused: %s", err.text);
	assert_int_equal(tree_from_memory(&d->tree, d->image, size, &err), 0);
}

static void
load(struct doc *d, const char *text)
{
	load_n(d, text, strlen(text));
}

static struct cfg_err
refusal_n(const char *text, size_t n, int code)
{
	struct cfg_err err = { 0 };
	void *image = NULL;
	size_t size;

	assert_int_equal(yaml_load(text, n, &image, &size, &err), -code);
	assert_null(image);
	assert_string_not_equal(err.text, "");
	return err;
}

static struct cfg_err
refusal(const char *text, int code)
{
	return refusal_n(text, strlen(text), code);
}

static void
refuses(const char *yaml, const char *text, unsigned line, unsigned column)
{
	struct cfg_err err = refusal(yaml, E_INVAL);

	assert_string_equal(err.text, text);
	assert_int_equal(err.line, line);
	assert_int_equal(err.column, column);
}

/* The text at a path of keys like "a.b"; numbers are list indexes. */
static const struct cfg_node *
at(const struct doc *d, const char *path)
{
	const struct cfg_node *n = d->tree.root;
	char key[64];

	while (*path != '\0') {
		size_t len = strcspn(path, ".");

		memcpy(key, path, len);
		key[len] = '\0';
		path += path[len] == '.' ? len + 1 : len;
		if (n->type == CFG_LIST) {
			n = cfg_first(n);
			for (unsigned long i = strtoul(key, NULL, 10); i > 0; i--)
				n = cfg_next(n);
		} else {
			n = cfg_get(n, key);
		}
		if (n == NULL)
			fail_msg("nothing at %s", key);
	}
	return n;
}

static const char *
text_at(const struct doc *d, const char *path)
{
	return cfg_text(at(d, path));
}

static void
test_yaml_load_kinds_and_places(void **state)
{
	struct doc d;

	(void)state;
	load(&d, "# head\nport: 7890\nq: '7890'\nlist:\n  - a\n  - {k: \"v\\u00e9\"}\nnone:\ntilde: ~\nblock: |\n  x\n  y\n"
	    "empty: ''\ntag: !!str 12\nint: !!int '12'\nown: !mine 12\nword: Null\n");
	assert_string_equal(text_at(&d, "port"), "7890");
	assert_int_equal(at(&d, "port")->flags, 0);
	assert_int_equal(at(&d, "port")->line, 2);
	assert_int_equal(at(&d, "port")->column, 7);
	assert_int_equal(at(&d, "q")->flags, CFG_QUOTED);
	assert_int_equal(at(&d, "list")->line, 5);
	assert_int_equal(at(&d, "list")->column, 3);
	assert_string_equal(text_at(&d, "list.0"), "a");
	assert_string_equal(text_at(&d, "list.1.k"), "v\xc3\xa9");
	assert_int_equal(at(&d, "list.1.k")->line, 6);
	assert_int_equal(at(&d, "list.1.k")->column, 9);
	assert_int_equal(at(&d, "none")->type, CFG_NULL);
	assert_int_equal(at(&d, "tilde")->type, CFG_NULL);
	assert_int_equal(at(&d, "word")->type, CFG_NULL);
	assert_string_equal(text_at(&d, "block"), "x\ny\n");
	assert_int_equal(at(&d, "block")->flags, CFG_QUOTED);
	assert_int_equal(at(&d, "empty")->type, CFG_SCALAR);
	assert_int_equal(at(&d, "tag")->flags, CFG_QUOTED);
	assert_int_equal(at(&d, "int")->flags, 0);
	assert_int_equal(at(&d, "own")->flags, CFG_QUOTED);
	free(d.image);
}

static void
test_yaml_load_typed_values(void **state)
{
	struct cfg_err err = { 0 };
	int64_t v = 0;
	bool b = false;
	struct doc d;

	(void)state;
	load(&d, "a: yes\nb: off\nn: 0x10\nq: \"16\"\n");
	assert_int_equal(cfg_bool(at(&d, "a"), "a", &b, NULL), 0);
	assert_true(b);
	assert_int_equal(cfg_bool(at(&d, "b"), "b", &b, NULL), 0);
	assert_false(b);
	assert_int_equal(cfg_int(at(&d, "n"), "n", 0, 99, &v, NULL), 0);
	assert_int_equal(v, 16);
	assert_int_equal(cfg_int(at(&d, "q"), "q", 0, 99, &v, &err), -E_INVAL);
	assert_string_equal(err.text, "line 4: cannot unmarshal !!str `16` into int");
	free(d.image);
}

static void
test_yaml_load_json(void **state)
{
	struct doc d;

	(void)state;
	load(&d, "{\"mixed-port\": 1, \"rules\": [\"MATCH,DIRECT\"], \"x\": {\"y\": null, \"z\": true}}");
	assert_string_equal(text_at(&d, "rules.0"), "MATCH,DIRECT");
	assert_true(cfg_is_null(at(&d, "x.y")));
	assert_string_equal(text_at(&d, "x.z"), "true");
	free(d.image);
}

static void
test_yaml_load_aliases(void **state)
{
	struct doc d;

	(void)state;
	load(&d, "a: &a {k: [1, &in two]}\nb: *a\nc: *in\n? &key name\n: 1\nd: *key\ne: {*key : 2}\nf: &a 3\ng: *a\n");
	assert_string_equal(text_at(&d, "b.k.1"), "two");
	assert_int_equal(at(&d, "b")->flags, CFG_ALIASED);
	assert_int_equal(at(&d, "b.k.1")->flags, CFG_ALIASED);
	assert_int_equal(at(&d, "a.k.1")->flags, 0);
	assert_int_equal(at(&d, "b.k.1")->line, 1);
	assert_string_equal(text_at(&d, "c"), "two");
	assert_string_equal(text_at(&d, "d"), "name");
	assert_string_equal(text_at(&d, "e.name"), "2");
	assert_string_equal(text_at(&d, "g"), "3");
	free(d.image);
}

static void
test_yaml_load_merges(void **state)
{
	struct doc d;

	(void)state;
	load(&d, "x: &x {type: socks5, server: h, port: 1}\ny: &y {<<: *x, port: 2, udp: true}\n"
	    "one: {name: a, <<: *x, port: 9}\ntwo: {<<: *y}\nlist: {<<: [*y, *x, {server: z, own: 1}], name: l}\n"
	    "inline: {<<: {p: 1}}\nquoted: {'<<': {p: 1}}\n");
	assert_int_equal(cfg_count(at(&d, "one")), 4);
	assert_string_equal(text_at(&d, "one.port"), "9");
	assert_string_equal(text_at(&d, "one.type"), "socks5");
	assert_string_equal(cfg_key(cfg_first(at(&d, "one"))), "name");
	assert_string_equal(text_at(&d, "two.port"), "2");
	assert_string_equal(text_at(&d, "two.server"), "h");
	assert_int_equal(cfg_count(at(&d, "two")), 4);
	assert_string_equal(text_at(&d, "list.port"), "2");
	assert_string_equal(text_at(&d, "list.server"), "h");
	assert_string_equal(text_at(&d, "list.own"), "1");
	assert_int_equal(cfg_count(at(&d, "list")), 6);
	assert_string_equal(text_at(&d, "inline.p"), "1");
	assert_string_equal(text_at(&d, "quoted.<<.p"), "1");
	free(d.image);
}

static void
test_yaml_load_bad_merges(void **state)
{
	static const char want[] = "map merge requires map or sequence of maps as the value";
	static const char *const bad[] = { "a: {<<: 1}", "a: {<<: }", "a: {<<: [1]}", "a: {<<: [[{b: 1}]]}",
		"b: &b 1\na: {<<: *b}" };

	(void)state;
	for (size_t i = 0; i < countof(bad); i++)
		assert_non_null(strstr(refusal(bad[i], E_INVAL).text, want));
	refuses("a:\n  b: {<<: 1}\n", "yaml: line 2: map merge requires map or sequence of maps as the value", 2, 11);
	refuses("a: {<<: {}, <<: {}}", "yaml: unmarshal errors:\n  line 1: mapping key \"<<\" already defined at line 1", 1, 13);
}

static void
test_yaml_load_bad_aliases(void **state)
{
	(void)state;
	refuses("a: 1\nb: *no\n", "yaml: line 2: unknown anchor 'no' referenced", 2, 4);
	refuses("a: &a\n  - *a\n", "yaml: line 2: anchor 'a' value contains itself", 2, 5);
	refuses("a: &a\n  b: {<<: *a}\n", "yaml: line 2: anchor 'a' value contains itself", 2, 11);
	refuses("a: &a [1]\nb: {*a : 1}\n", "yaml: line 2: invalid map key: only scalars can be keys", 2, 5);
	refuses("a: 1\n? [x]\n: 2\n", "yaml: line 2: invalid map key: only scalars can be keys", 2, 3);
	refuses("a: 1\n{x: 1}: 2\n", "yaml: line 2: invalid map key: only scalars can be keys", 2, 1);
}

static void
test_yaml_load_double_keys(void **state)
{
	struct text t = { 0 };
	struct cfg_err err;

	(void)state;
	refuses("port: 1\nport: 2\n", "yaml: unmarshal errors:\n  line 2: mapping key \"port\" already defined at line 1", 2, 1);
	refuses("a:\n  x:\n    - 1\n  'x': 2\n", "yaml: unmarshal errors:\n  line 4: mapping key \"x\" already defined at line 2", 4, 3);
	refuses("\"q\\\"\\n\": 1\n\"q\\\"\\n\": 1\n",
	    "yaml: unmarshal errors:\n  line 2: mapping key \"q\\\"?\" already defined at line 1", 2, 1);
	for (int i = 0; i < 1000; i++)		/* past the size from which maps are hashed */
		add(&t, "k%d: {a: 1}\n", i);
	add(&t, "k3: 1\n");
	err = refusal_n(t.p, t.n, E_INVAL);
	assert_string_equal(err.text, "yaml: unmarshal errors:\n  line 1001: mapping key \"k3\" already defined at line 4");
	assert_string_equal(err.key, "k3");
	free(t.p);
}

static void
test_yaml_load_syntax(void **state)
{
	(void)state;
	refuses("a: [\n", "yaml: line 2: did not find expected node content", 2, 1);
	refuses("a:\n\t- 1\n", "yaml: line 2: found character that cannot start any token", 2, 1);
	refuses("a: 1\nbc\nd: 2\n", "yaml: line 2: could not find expected ':'", 2, 1);
	refuses("a: 1\n b: 2\n", "yaml: line 2: mapping values are not allowed in this context", 2, 3);
	refuses("a: 1\nb: 'x\n", "yaml: line 2: found unexpected end of stream", 2, 4);
	refuses("a:\n  - b\n c: 1\n", "yaml: line 3: did not find expected key", 3, 2);
	refuses("x: \xc3\xa9\xc3\xa9 @: *\xc3\xa9\n", "yaml: line 1: mapping values are not allowed in this context", 1, 8);
}

static void
test_yaml_load_bad_bytes(void **state)
{
	struct cfg_err err;

	(void)state;
	refuses("a: 1\nb: \xff\n", "yaml: line 2: invalid leading UTF-8 octet", 2, 4);
	refuses("a: \xc3\xa9\xed\xa0\x80\n", "yaml: line 1: invalid Unicode character", 1, 5);
	refuses("a: \x01\n", "yaml: line 1: control characters are not allowed", 1, 4);
	refuses("a: 1\nb: \"x\\0y\"\n", "yaml: line 2: control characters are not allowed", 2, 4);
	refuses("\"x\\0y\": 1\n", "yaml: line 1: control characters are not allowed", 1, 1);
	err = refusal_n("a: 1\nb: x\0y\n", 12, E_INVAL);
	assert_string_equal(err.text, "yaml: line 2: control characters are not allowed");
	(void)refusal_n("a\0:\0 \0\061\0", 8, E_INVAL);		/* UTF-16 */
}

static void
test_yaml_load_empty(void **state)
{
	static const char *const empty[] = { "", " \n\n", "# only this\n", "---\n", "--- ~\n", "---\n...\n", "\xef\xbb\xbf" };

	(void)state;
	for (size_t i = 0; i < countof(empty); i++)
		assert_string_equal(refusal(empty[i], E_NOTFOUND).text, "configuration is empty");
}

static void
test_yaml_load_root(void **state)
{
	struct doc d;

	(void)state;
	refuses("- 1\n", "yaml: unmarshal errors:\n  line 1: cannot unmarshal !!seq into config.RawConfig", 1, 1);
	refuses("\n abc\n", "yaml: unmarshal errors:\n  line 2: cannot unmarshal !!str `abc` into config.RawConfig", 2, 2);
	refuses("12", "yaml: unmarshal errors:\n  line 1: cannot unmarshal !!int `12` into config.RawConfig", 1, 1);
	load(&d, "\xef\xbb\xbf" "a: 1\n---\na: 2\nb: [\n");	/* only the first document is read */
	assert_string_equal(text_at(&d, "a"), "1");
	assert_int_equal(at(&d, "a")->column, 4);
	assert_int_equal(cfg_count(d.tree.root), 1);
	free(d.image);
	load(&d, "%YAML 1.1\n---\n{}\n");
	assert_int_equal(cfg_count(d.tree.root), 0);
	free(d.image);
}

static void
test_yaml_load_depth(void **state)
{
	struct text t = { 0 };
	struct cfg_err err;
	struct doc d;

	(void)state;
	add(&t, "a: ");
	for (int i = 1; i < CFG_DEPTH_MAX; i++)
		add(&t, "[");
	for (int i = 1; i < CFG_DEPTH_MAX; i++)
		add(&t, "]");
	load_n(&d, t.p, t.n);
	free(d.image);
	t.n = 0;
	add(&t, "a: ");
	for (int i = 0; i < 100000; i++)
		add(&t, "[");
	err = refusal_n(t.p, t.n, E_LIMIT);
	assert_string_equal(err.text, "yaml: line 1: nested deeper than 64 levels (limit)");
	assert_int_equal(err.column, 4 + CFG_DEPTH_MAX - 1);
	t.n = 0;
	add(&t, "a0: &a0 [1]\n");		/* each level deeper by one alias, never deep in the text */
	for (int i = 1; i < 100; i++)
		add(&t, "a%d: &a%d [*a%d]\n", i, i, i - 1);
	assert_string_equal(
	    refusal_n(t.p, t.n, E_LIMIT).text + strlen("yaml: line 1: "), "aliases expand to more than 64 levels (limit)");
	free(t.p);
}

static void
test_yaml_load_alias_bombs(void **state)
{
	struct text t = { 0 };
	struct cfg_err err;

	(void)state;
	add(&t, "a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
	for (int i = 1; i < 12; i++) {
		add(&t, "a%d: &a%d [*a%d", i, i, i - 1);
		for (int k = 0; k < 8; k++)
			add(&t, ", *a%d", i - 1);
		add(&t, "]\n");
	}
	err = refusal_n(t.p, t.n, E_LIMIT);
	assert_non_null(strstr(err.text, "aliases expand to more than 4194304 nodes (limit)"));
	assert_int_not_equal(err.line, 0);
	t.n = 0;
	add(&t, "a0: &a0 {x: 1}\n");		/* merges that add nothing */
	for (int i = 1; i < 60; i++)
		add(&t, "a%d: &a%d {<<: [*a%d, *a%d, *a%d]}\n", i, i, i - 1, i - 1, i - 1);
	assert_non_null(strstr(refusal_n(t.p, t.n, E_LIMIT).text, "steps (limit)"));
	t.n = 0;
	add(&t, "a0: &a0 {x: 1}\n");		/* merges nested as deep as there are lines */
	for (int i = 1; i < 20000; i++)
		add(&t, "a%d: &a%d {<<: *a%d}\n", i, i, i - 1);
	assert_non_null(strstr(refusal_n(t.p, t.n, E_LIMIT).text, "merges nested deeper than 64 levels (limit)"));
	free(t.p);
}

static void
test_yaml_load_byte_bomb(void **state)
{
	char *p = malloc(1 << 20);
	size_t n = 0;

	(void)state;
	assert_non_null(p);
	memcpy(p, "a: &a '", 7);		/* 900 kB, 400 times */
	memset(p + 7, 'x', 900000);
	n = 900007;
	memcpy(p + n, "'\nb: [*a", 8);
	n += 8;
	for (int i = 0; i < 400; i++, n += 4)
		memcpy(p + n, ", *a", 4);
	memcpy(p + n, "]\n", 2);
	assert_non_null(strstr(refusal_n(p, n + 2, E_LIMIT).text, "aliases expand to more than 268435456 bytes (limit)"));
	free(p);
}

static void
test_yaml_load_limits(void **state)
{
	char *p = calloc(1, INPUT_BYTES_MAX + 1);
	struct text t = { 0 };

	(void)state;
	assert_non_null(p);
	assert_non_null(strstr(refusal_n(p, INPUT_BYTES_MAX + 1, E_LIMIT).text, "input is larger than 67108864 bytes (limit)"));
	free(p);
	add(&t, "? ");
	for (int i = 0; i < YAML_KEY_MAX + 1; i++)
		add(&t, "k");
	add(&t, "\n: 1\n");
	assert_non_null(strstr(refusal_n(t.p, t.n, E_LIMIT).text, "key is longer than 4096 bytes (limit)"));
	free(t.p);
}

static void
test_yaml_load_huge(void **state)
{
	struct text t = { 0 };
	struct timespec a, b;
	struct doc d;

	(void)state;
	add(&t, "proxies:\n");
	for (int i = 0; i < 60000; i++)
		add(&t,
		    "  - {name: node-%d, type: ss, server: host%d.example.com, port: %d, cipher: aes-128-gcm, password: 'p%d'}\n",
		    i, i, i % 60000, i);
	add(&t, "hosts:\n");
	for (int i = 0; i < 60000; i++)
		add(&t, "  some-host-name-%d.example.org: 10.%d.%d.1\n", i, i / 256, i % 256);
	(void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a);
	load_n(&d, t.p, t.n);
	(void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &b);
	assert_int_equal(cfg_count(at(&d, "proxies")), 60000);
	assert_int_equal(cfg_count(at(&d, "hosts")), 60000);
	assert_string_equal(text_at(&d, "proxies.59999.name"), "node-59999");
	print_message("%zu bytes in %ld ms\n", t.n, (b.tv_sec - a.tv_sec) * 1000 + (b.tv_nsec - a.tv_nsec) / 1000000);
	assert_in_range(b.tv_sec - a.tv_sec, 0, 8);	/* a quadratic search of keys takes minutes, also with sanitizers */
	free(d.image);
	free(t.p);
}

static void
test_settings_read_values(void **state)
{
	struct msg_job_done s;
	struct doc d;

	(void)state;
	load(&d, "mixed-port: 1\n");
	assert_int_equal(settings_read(d.tree.root, &s, NULL), 0);
	assert_int_equal(s.workers, 0);
	assert_int_equal(s.drain_timeout_s, 86400);
	assert_int_equal(s.max_generations, 4);
	assert_int_equal(s.flags, 0);
	assert_string_equal(s.external_ui, "");
	free(d.image);
	load(&d, "sluice: {workers: 3, stop-grace: 500ms, drain-timeout: 1h30m, max-generations: 2, start-with-last-good: yes, x: 1}\n");
	assert_int_equal(settings_read(d.tree.root, &s, NULL), 0);
	assert_int_equal(s.workers, 3);
	assert_int_equal(s.stop_grace_ms, 500);
	assert_int_equal(s.drain_timeout_s, 5400);
	assert_int_equal(s.max_generations, 2);
	assert_int_equal(s.flags, JOB_START_WITH_LAST_GOOD);
	free(d.image);
	load(&d, "external-ui: ./ui\nsluice: {stop-grace: 7, drain-timeout: 2d}\n");
	assert_int_equal(settings_read(d.tree.root, &s, NULL), 0);
	assert_int_equal(s.stop_grace_ms, 7000);
	assert_int_equal(s.drain_timeout_s, 2 * 86400);
	assert_string_equal(s.external_ui, "./ui");
	free(d.image);
}

static void
test_settings_read_errors(void **state)
{
	static const struct { const char *yaml, *key, *text; } bad[] = {
		{ "sluice: 1", "sluice", "line 1: cannot unmarshal !!int `1` into map[string]interface {}" },
		{ "sluice: {workers: 17}", "workers", "line 1: workers: 17 is not in 0..16" },
		{ "sluice: {workers: many}", "workers", "line 1: cannot unmarshal !!str `many` into int" },
		{ "sluice: {max-generations: 0}", "max-generations", "line 1: max-generations: 0 is not in 1..32" },
		{ "sluice:\n  start-with-last-good: 1", "start-with-last-good", "line 2: cannot unmarshal !!int `1` into bool" },
		{ "sluice: {stop-grace: [1]}", "stop-grace", "line 1: cannot unmarshal !!seq into string" },
	};
	static const char *const durations[] = { "5x", "-1", "1.5", "''", "s", "5s3", "3601s", "99999999999999999999",
		"9223372036854775807d" };
	struct msg_job_done s;
	struct doc d;

	(void)state;
	for (size_t i = 0; i < countof(bad); i++) {
		struct cfg_err err = { 0 };

		load(&d, bad[i].yaml);
		assert_int_equal(settings_read(d.tree.root, &s, &err), -E_INVAL);
		assert_string_equal(err.text, bad[i].text);
		assert_string_equal(err.key, bad[i].key);
		assert_int_not_equal(err.column, 0);
		free(d.image);
	}
	{
		struct cfg_err err = { 0 };
		struct text t = { 0 };

		add(&t, "external-ui: ");
		for (int i = 0; i < 1024; i++)
			add(&t, "u");
		load_n(&d, t.p, t.n);
		assert_int_equal(settings_read(d.tree.root, &s, &err), -E_INVAL);
		assert_string_equal(err.text, "line 1: external-ui: longer than 1023 bytes");
		free(d.image);
		free(t.p);
	}
	for (size_t i = 0; i < countof(durations); i++) {
		struct cfg_err err = { 0 };
		char yaml[100];

		(void)snprintf(yaml, sizeof yaml, "sluice: {stop-grace: %s}", durations[i]);
		load(&d, yaml);
		assert_int_equal(settings_read(d.tree.root, &s, &err), -E_INVAL);
		assert_non_null(strstr(err.text, "sluice.stop-grace: not a duration"));
		free(d.image);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_yaml_load_kinds_and_places),
		cmocka_unit_test(test_yaml_load_typed_values),
		cmocka_unit_test(test_yaml_load_json),
		cmocka_unit_test(test_yaml_load_aliases),
		cmocka_unit_test(test_yaml_load_merges),
		cmocka_unit_test(test_yaml_load_bad_merges),
		cmocka_unit_test(test_yaml_load_bad_aliases),
		cmocka_unit_test(test_yaml_load_double_keys),
		cmocka_unit_test(test_yaml_load_syntax),
		cmocka_unit_test(test_yaml_load_bad_bytes),
		cmocka_unit_test(test_yaml_load_empty),
		cmocka_unit_test(test_yaml_load_root),
		cmocka_unit_test(test_yaml_load_depth),
		cmocka_unit_test(test_yaml_load_alias_bombs),
		cmocka_unit_test(test_yaml_load_byte_bomb),
		cmocka_unit_test(test_yaml_load_limits),
		cmocka_unit_test(test_yaml_load_huge),
		cmocka_unit_test(test_settings_read_values),
		cmocka_unit_test(test_settings_read_errors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
