/* SPDX-License-Identifier: MIT */
/* Unit tests of worker/dns/hosts.c. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/config_tree.h"
#include "worker/dns/hosts.h"
#include "worker/dns/resolver.h"
#include "worker/loader/yaml.h"
#include "worker/worker.h"

int
priv_open(struct worker *w, enum open_kind kind, const char *path, struct cfg_err *err)
{
	(void)w;
	(void)kind;
	(void)path;
	(void)err;
	return -E_NOTFOUND;
}

struct fix {
	struct gen g;
	struct tree tree;
	void *image;
	struct cfg_err err;
};

static int
load(struct fix *f, const char *yaml)
{
	size_t n;

	memset(f, 0, sizeof(*f));
	arena_init(&f->g.arena);
	assert_int_equal(yaml_load(yaml, strlen(yaml), &f->image, &n, &f->err), 0);
	assert_int_equal(tree_from_memory(&f->tree, f->image, n, &f->err), 0);
	return hosts_parse(&f->g, f->tree.root, &f->err);
}

static void
unload(struct fix *f)
{
	hosts_free(&f->g);
	arena_free(&f->g.arena);
	free(f->image);
}

/* "1.1.1.1 2.2.2.2", ">alias" or "" */
static void
expect(struct fix *f, const char *host, const char *want)
{
	struct ip ips[8];
	const char *alias = "unset";
	char got[512] = "";
	int n = hosts_find(&f->g, host, ips, 8, &alias);

	for (int i = 0; i < n; i++) {
		char text[ADDR_TEXT_MAX];

		snprintf(got + strlen(got), sizeof(got) - strlen(got), "%s%s", i > 0 ? " " : "", ip_text(&ips[i], text));
	}
	if (alias != NULL)
		snprintf(got + strlen(got), sizeof(got) - strlen(got), ">%s", alias);
	assert_string_equal(got, want);
}

static void
test_parse_values(void **state)
{
	struct fix f;

	(void)state;
	assert_int_equal(load(&f,
			     "hosts:\n  one.test: 192.0.2.1\n  '*.wild.test': 192.0.2.4\n  six.test: '2001:db8::1'\n"
			     "  many.test: ['2001:db8::2', 192.0.2.2, 192.0.2.3]\n  alias.test: Real.Example\n  "
			     "listed.test: [one.test]\n  deep.test: listed.test\n"
			     "  dots.test: .x.y.\n  'bad..key': 1.1.1.1\n  mapped.test: '::ffff:1.2.3.4'\n"),
	    0);
	expect(&f, "one.test", "192.0.2.1");
	expect(&f, "ONE.test", "192.0.2.1");
	expect(&f, "one.test.", "");
	expect(&f, "a.wild.test", "192.0.2.4");
	expect(&f, "six.test", "2001:db8::1");
	expect(&f, "many.test", "192.0.2.2 192.0.2.3 2001:db8::2");
	expect(&f, "alias.test", ">real.example");
	expect(&f, "deep.test", "192.0.2.1");
	expect(&f, "dots.test", ">x.y");
	expect(&f, "mapped.test", "1.2.3.4");
	expect(&f, "bad..key", "");
	expect(&f, "other.test", "");
	expect(&f, "", "");
	expect(&f, "localhost", "127.0.0.1");
	unload(&f);
}

static void
test_find_caps(void **state)
{
	struct fix f;
	struct ip ips[2];

	(void)state;
	assert_int_equal(load(&f, "hosts: {m.test: [1.1.1.1, 2.2.2.2, 3.3.3.3]}\n"), 0);
	assert_int_equal(hosts_find(&f.g, "m.test", ips, 2, NULL), 2);
	unload(&f);
	f.g.hosts = NULL;
	assert_int_equal(hosts_find(&f.g, "m.test", ips, 2, NULL), 0);
}

static void
test_parse_absent_and_own_localhost(void **state)
{
	struct fix f;

	(void)state;
	assert_int_equal(load(&f, "hosts:\n"), 0);
	expect(&f, "localhost", "127.0.0.1");
	unload(&f);
	assert_int_equal(load(&f, "hosts: {localhost: 10.0.0.1}\n"), 0);
	expect(&f, "localhost", "10.0.0.1");
	unload(&f);
}

static void
refused(const char *yaml, const char *text)
{
	struct fix f;

	assert_int_equal(load(&f, yaml), -E_INVAL);
	assert_string_equal(f.err.text, text);
	assert_int_not_equal(f.err.line, 0);
	unload(&f);
}

static void
test_parse_refuses(void **state)
{
	(void)state;
	refused("hosts: {a.test: 'not an ip !'}\n", "not an ip ! is not a valid value");
	refused("hosts: {a.test: nodots}\n", "nodots is not a valid value");
	refused("hosts: {a.test: ''}\n", " is not a valid value");
	refused("hosts: {a.test: [1.1.1.1, b.test]}\n", "b.test is not a valid value");
	refused("hosts: {a.test: []}\n", "[] is not a valid value");
	refused("hosts: {a.test: }\n", "<nil> is not a valid value");
	refused("hosts: {a.test: {b: c}}\n", "map[] is not a valid value");
	refused("hosts: [a]\n", "line 1: cannot unmarshal !!seq into map[string]interface {}");
}

static void
test_parse_cycles(void **state)
{
	struct fix f;

	(void)state;
	refused("hosts: {a.test: b.test, b.test: a.test}\n", "b.test, there is a cycle in domain name mapping");
	refused("hosts: {a.test: a.test}\n", "a.test, there is a cycle in domain name mapping");
	refused("hosts: {a.test: b.test, b.test: c.test, c.test: a.test}\n", "c.test, there is a cycle in domain name mapping");
	refused("hosts: {'*.w.test': x.w.test}\n", "*.w.test, there is a cycle in domain name mapping");
	refused("hosts: {x.test: y.w.test, '+.w.test': x.test}\n", "+.w.test, there is a cycle in domain name mapping");
	assert_int_equal(load(&f, "hosts: {a.test: b.test, c.test: b.test, b.test: 1.1.1.1}\n"), 0);
	expect(&f, "c.test", "1.1.1.1");
	unload(&f);
}

/* Each entry is fine when it comes, the chain grows too long all the same: a lookup still ends. */
static void
test_find_long_chain(void **state)
{
	char yaml[8192] = "hosts:\n";
	struct fix f;

	(void)state;
	for (int i = 0; i < 100; i++)
		snprintf(yaml + strlen(yaml), sizeof(yaml) - strlen(yaml), "  c%d.test: c%d.test\n", i, i + 1);
	assert_int_equal(load(&f, yaml), 0);
	expect(&f, "c0.test", "");
	expect(&f, "c60.test", ">c100.test");
	unload(&f);
	snprintf(yaml, sizeof(yaml), "hosts:\n");
	for (int i = 100; i > 0; i--)
		snprintf(yaml + strlen(yaml), sizeof(yaml) - strlen(yaml), "  c%d.test: c%d.test\n", i, i + 1);
	refused(yaml, "c36.test, there are more than 64 aliases in a row");
}

static void
test_lan_is_no_loopback(void **state)
{
	struct fix f;
	struct ip ips[8];
	int n;

	(void)state;
	assert_int_equal(load(&f, "hosts: {me.test: lan}\n"), 0);
	n = hosts_find(&f.g, "me.test", ips, 8, NULL);
	for (int i = 0; i < n; i++)
		assert_false(ip_is_loopback(&ips[i]) || ip_is_unspecified(&ips[i]));
	unload(&f);
}

static void
test_add_system(void **state)
{
	static const char text[] =
	    "# comment\n127.0.0.1\tlocalhost\n::1 localhost ip6-loopback\n10.1.2.3 Box box.lan # mine\n10.1.2.4 box.lan\n"
	    "nonsense x\n10.9.9.9\n0.0.0.0 own.test";
	struct fix f;

	(void)state;
	assert_int_equal(load(&f, "hosts: {own.test: 192.0.2.9, to.test: box.lan}\n"), 0);
	hosts_set_system(&f.g, text, sizeof(text) - 1);
	expect(&f, "localhost", "127.0.0.1");	/* the default entry */
	expect(&f, "ip6-loopback", "::1");
	expect(&f, "box", "10.1.2.3");
	expect(&f, "BOX.lan", "10.1.2.3 10.1.2.4");
	expect(&f, "to.test", "10.1.2.3 10.1.2.4");
	expect(&f, "own.test", "192.0.2.9");
	expect(&f, "x", "");
	expect(&f, "mine", "");
	hosts_set_system(&f.g, text, 0);	/* the file is another one now */
	expect(&f, "box", "");
	expect(&f, "own.test", "192.0.2.9");
	hosts_set_system(&f.g, text + 2, sizeof(text) - 3);
	expect(&f, "box.lan", "10.1.2.3 10.1.2.4");
	unload(&f);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse_values),
		cmocka_unit_test(test_find_caps),
		cmocka_unit_test(test_parse_absent_and_own_localhost),
		cmocka_unit_test(test_parse_refuses),
		cmocka_unit_test(test_parse_cycles),
		cmocka_unit_test(test_find_long_chain),
		cmocka_unit_test(test_lan_is_no_loopback),
		cmocka_unit_test(test_add_system),
	};

	return cmocka_run_group_tests_name("hosts", tests, NULL, NULL);
}
