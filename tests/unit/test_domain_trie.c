/* SPDX-License-Identifier: MIT */
/* Unit tests of worker/match/domain.c. Values are small numbers in disguise. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "common/err.h"
#include "common/strutil.h"
#include "worker/match/domain.h"

struct fix {
	struct arena arena;
	struct domain_trie trie;
};

static int numbers[4096];

static int
setup(void **state)
{
	static struct fix f;

	arena_init(&f.arena);
	domain_trie_init(&f.trie, &f.arena);
	*state = &f;
	return 0;
}

static int
teardown(void **state)
{
	struct fix *f = *state;

	arena_free(&f->arena);
	return 0;
}

static void
add(struct fix *f, const char *pattern, int i)
{
	assert_int_equal(domain_trie_insert(&f->trie, pattern, &numbers[i]), 0);
}

/* 0: nothing found */
static int
find(struct fix *f, const char *name)
{
	int *v = domain_trie_search(&f->trie, name);

	return v != NULL ? (int)(v - numbers) : 0;
}

static void
test_valid(void **state)
{
	static const char *const good[] = { "a", "a.b", "*", "+", "*.a", "+.a", ".a", "a.*.b", "Mijia Cloud", "a*.com",
		"+.stun.*.*", "a.*" };
	static const char *const bad[] = { "", ".", "a.", " a", "a ", "a..b", "..a", "+.", "\ta", "*..a" };

	(void)state;
	for (size_t i = 0; i < countof(good); i++)
		assert_true(domain_pattern_valid(good[i]));
	for (size_t i = 0; i < countof(bad); i++)
		assert_false(domain_pattern_valid(bad[i]));
}

static void
test_search_each_pattern(void **state)
{
	static const struct {
		const char *pattern, *hits[4], *misses[4];
	} t[] = {
		{ "www.a.com", { "www.a.com", "WWW.A.Com" }, { "x.www.a.com", "a.com", "wwwa.com", "www.a.com." } },
		{ "*.a.com", { "x.a.com", "*.a.com" }, { "a.com", "x.y.a.com", ".a.com" } },
		{ "a.*.com", { "a.x.com" }, { "a.com", "a.x.y.com", "a..com" } },
		{ "*.*.a.com", { "x.y.a.com" }, { "y.a.com", "x.y.z.a.com" } },
		{ "a.*", { "a.x" }, { "a", "a.x.y" } },
		{ "*", { "localhost", "x" }, { "x.y", "" } },
		{ ".a.com", { "x.a.com", "x.y.a.com" }, { "a.com", "xa.com" } },
		{ "+.a.com", { "a.com", "x.a.com", "x.y.a.com" }, { "xa.com", "com" } },
		{ "+.*", { "a", "a.b" }, { "" } },
		{ ".org", { "a.org", "b.a.org" }, { "org" } },
		{ "+.stun.*.*", { "stun.a.b", "x.stun.a.b" }, { "stun.a", "stun.a.b.c" } },
		{ "a*.com", { "a*.com" }, { "ab.com" } },
		{ "Big.Case", { "big.case" }, { "big" } },
	};

	(void)state;
	for (size_t i = 0; i < countof(t); i++) {
		void *s = NULL;
		struct fix *f;

		setup(&s);
		f = s;
		add(f, t[i].pattern, 1);
		for (size_t k = 0; k < 4 && t[i].hits[k] != NULL; k++)
			if (find(f, t[i].hits[k]) != 1)
				fail_msg("%s should match %s", t[i].pattern, t[i].hits[k]);
		for (size_t k = 0; k < 4 && t[i].misses[k] != NULL; k++)
			if (find(f, t[i].misses[k]) != 0)
				fail_msg("%s should not match %s", t[i].pattern, t[i].misses[k]);
		teardown(&s);
	}
}

static void
test_search_lone_plus(void **state)
{
	struct fix *f = *state;

	add(f, "+", 1);
	assert_int_equal(find(f, "a"), 1);
	assert_int_equal(find(f, "a.b.c"), 1);
	assert_int_equal(find(f, "a.b."), 0);
}

static void
test_search_precedence(void **state)
{
	struct fix *f = *state;

	add(f, ".dev", 1);
	add(f, "example.dev", 2);
	add(f, "*.example.dev", 3);
	add(f, "test.example.dev", 4);
	assert_int_equal(find(f, "test.dev"), 1);
	assert_int_equal(find(f, "foo.bar.dev"), 1);
	assert_int_equal(find(f, "example.dev"), 2);
	assert_int_equal(find(f, "foo.example.dev"), 3);
	assert_int_equal(find(f, "test.example.dev"), 4);
	assert_int_equal(find(f, "a.test.example.dev"), 1);	/* back to the shallower one */
	add(f, "+.p1", 5);
	add(f, "*.p1", 6);
	add(f, "x.p1", 7);
	add(f, "*", 8);
	assert_int_equal(find(f, "p1"), 5);
	assert_int_equal(find(f, "y.p1"), 6);
	assert_int_equal(find(f, "X.P1"), 7);
	assert_int_equal(find(f, "z.y.p1"), 5);
	assert_int_equal(find(f, "z.x.p1"), 5);
	assert_int_equal(find(f, "localx"), 8);
	add(f, "x.p1", 9);
	assert_int_equal(find(f, "x.p1"), 9);	/* the last of equals */
}

static void
test_insert_many(void **state)
{
	struct fix *f = *state;
	char name[64];

	for (int i = 1; i < 4096; i++) {
		snprintf(name, sizeof(name), "%sn%d.d%d.com", i % 2 == 0 ? "+." : "", i, i % 7);
		add(f, name, i);
	}
	for (int i = 1; i < 4096; i++) {
		snprintf(name, sizeof(name), "n%d.d%d.com", i, i % 7);
		assert_int_equal(find(f, name), i);
		snprintf(name, sizeof(name), "x.n%d.d%d.com", i, i % 7);
		assert_int_equal(find(f, name), i % 2 == 0 ? i : 0);
		snprintf(name, sizeof(name), "n%d.d%d.com", i, (i + 1) % 7);
		assert_int_equal(find(f, name), 0);
	}
}

static void
test_search_long(void **state)
{
	struct fix *f = *state;
	char name[300];

	add(f, "+.a", 1);
	for (size_t i = 0; i < sizeof(name); i++)
		name[i] = i % 2 == 0 ? 'a' : '.';
	name[255] = '\0';	/* 128 labels, 255 bytes */
	assert_int_equal(find(f, name), 1);
	name[255] = '.';
	name[257] = '\0';
	assert_int_equal(find(f, name), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_valid),
		cmocka_unit_test(test_search_each_pattern),
		cmocka_unit_test_setup_teardown(test_search_lone_plus, setup, teardown),
		cmocka_unit_test_setup_teardown(test_search_precedence, setup, teardown),
		cmocka_unit_test_setup_teardown(test_insert_many, setup, teardown),
		cmocka_unit_test_setup_teardown(test_search_long, setup, teardown),
	};

	return cmocka_run_group_tests_name("domain_trie", tests, NULL, NULL);
}
