/* SPDX-License-Identifier: MIT */
/* Unit tests of worker/match/range.c, glob.c, punycode.c and regex.c. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "common/strutil.h"
#include "worker/match/glob.h"
#include "worker/match/punycode.h"
#include "worker/match/range.h"
#include "worker/match/regex.h"

static bool
has(const char *text, uint32_t v)
{
	struct ranges r;

	assert_null(range_parse(&r, text, 65535));
	return range_match(&r, v);
}

static void
test_range_parse_tokens(void **state)
{
	(void)state;
	assert_true(has("80", 80));
	assert_false(has("80", 81));
	assert_true(has("6002-6004/6010", 6003));
	assert_true(has("6002-6004/6010", 6010));
	assert_false(has("6002-6004/6010", 6005));
	assert_true(has("9-7", 8));		/* reversed ends are swapped */
	assert_true(has(" [80] , 443 ", 443));
	assert_true(has("[1-3]/9", 2));
	assert_true(has("", 1));		/* no restriction */
	assert_true(has("*", 65535));
	assert_true(has("0", 0));
}

/* The reference wraps 70000 to 4464. */
static void
test_range_parse_over_max(void **state)
{
	struct ranges r;
	bool over;

	(void)state;
	assert_false(has("70000", 4464));
	assert_false(has("70000", 0));
	assert_true(has("65000-70000", 65535));
	assert_null(range_parse_over(&r, "64", 63, &over));
	assert_true(over);
	assert_null(range_parse_over(&r, "0-63", 63, &over));
	assert_false(over);
	assert_null(range_parse(&r, "4294967295", UINT32_MAX));
	assert_true(range_match(&r, UINT32_MAX));
}

static void
test_range_parse_refuses(void **state)
{
	static const char *const bad[] = { "abc", "80x", "-5", "1-", "-", "1-2-3", "1 2", "/", "+1", "99999999999999999999",
	    "0x10" };
	struct ranges r;

	(void)state;
	for (size_t i = 0; i < countof(bad); i++) {
		const char *why = range_parse(&r, bad[i], 65535);

		assert_non_null(why);
		assert_string_equal(why, "intRanges error");
	}
	assert_null(range_parse(&r, "1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16/17/18/19/20/21/22/23/24/25/26/27/28", 65535));
	assert_int_equal(r.n, 28);
	assert_string_equal(range_parse(&r, "1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16/17/18/19/20/21/22/23/24/25/26/27/28/29",
	    65535),
	    "intRanges error, too many ranges to use, maximum support 28 ranges");
}

static void
test_glob_match_forms(void **state)
{
	(void)state;
	assert_true(glob_match("wild?.*.test", "wild1.a.b.test"));
	assert_false(glob_match("wild?.*.test", "wild.a.test"));
	assert_true(glob_match("*", ""));
	assert_false(glob_match("?", ""));
	assert_true(glob_match("a*b*c", "aXbYbZc"));
	assert_false(glob_match("a*b*c", "aXbYbZ"));
	assert_false(glob_match("abc", "abcd"));
	assert_true(glob_match("a?c", "a\xc3\xa4" "c"));	/* one character of two bytes */
	assert_false(glob_match("a", "A"));
	assert_true(glob_match_case("chrom*", "Chromium"));
	/* hostile: must end at once */
	assert_false(glob_match("*a*a*a*a*a*a*a*a*a*a*b",
	    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"));
}

static void
test_punycode_name_vectors(void **state)
{
	char out[256], tiny[8];

	(void)state;
	assert_string_equal(punycode_name(out, sizeof out, "UPPER.test"), "upper.test");
	assert_string_equal(punycode_name(out, sizeof out, "b\xc3\xbc" "cher.example"), "xn--bcher-kva.example");
	/* RFC 3492, section 7.1 (B) */
	assert_string_equal(punycode_name(out, sizeof out,
	    "\xe4\xbb\x96\xe4\xbb\xac\xe4\xb8\xba\xe4\xbb\x80\xe4\xb9\x88\xe4\xb8\x8d\xe8\xaf\xb4"
	    "\xe4\xb8\xad\xe6\x96\x87"), "xn--ihqwcrb4cv8a8dqg056pqjye");
	/* RFC 3492, section 7.1 (L), lower-cased */
	assert_string_equal(punycode_name(out, sizeof out,
	    "3\xe5\xb9\xb4" "b\xe7\xb5\x84\xe9\x87\x91\xe5\x85\xab\xe5\x85\x88\xe7\x94\x9f"),
	    "xn--3b-ww4c5e180e575a65lsy2b");
	assert_string_equal(punycode_name(out, sizeof out, "a.\xff.b"), "a.\xff.b");	/* no UTF-8 */
	assert_string_equal(punycode_name(tiny, sizeof tiny, "longer.than.that"), "longer.");
	assert_string_equal(punycode_name(out, sizeof out, ""), "");
}

struct re {
	struct arena arena;
	struct regex_env *env;
	char why[REGEX_WHY_MAX];
};

static bool
re_match(struct re *t, const char *pattern, const char *text)
{
	struct regex *re = regex_compile(&t->arena, &t->env, pattern, true, t->why);

	assert_non_null(re);
	return regex_match(re, text, strlen(text));
}

static void
test_regex_match_forms(void **state)
{
	struct re t = { 0 };

	(void)state;
	arena_init(&t.arena);
	assert_true(re_match(&t, "^rx[0-9]{2}\\.[a-z]+\\.test$", "rx42.abc.test"));
	assert_false(re_match(&t, "^rx[0-9]{2}\\.[a-z]+\\.test$", "rx4.abc.test"));
	assert_true(re_match(&t, "ABC", "xabcx"));		/* no case, no anchor */
	assert_true(re_match(&t, "(?<!not)good", "so good"));
	assert_true(re_match(&t, "\\u9999?a", "a"));		/* .NET escape */
	assert_true(re_match(&t, "\xe9\xa6\x99\xe6\xb8\xaf", "\xe9\xa6\x99\xe6\xb8\xaf 01"));
	assert_false(re_match(&t, "a", "\xff" "a"));		/* no UTF-8 matches nothing */
	assert_true(re_match(&t, "[]a-z[]", "["));		/* no subtraction */
	assert_true(re_match(&t, "a-[b]", "a-b"));
	arena_free(&t.arena);
}

static void
test_regex_compile_refuses(void **state)
{
	static const char *const bad[] = { "(", "[a-z-[aeiou]]", "[^a-z-[aeiou]]", "\\C(", "(?<n", "\xff" };
	struct re t = { 0 };

	(void)state;
	arena_init(&t.arena);
	for (size_t i = 0; i < countof(bad); i++) {
		t.why[0] = '\0';
		assert_null(regex_compile(&t.arena, &t.env, bad[i], true, t.why));
		assert_true(t.why[0] != '\0');
	}
	arena_free(&t.arena);
}

/* The limits end what would run for ages; memory comes from the slab again and again. */
static void
test_regex_match_bounded(void **state)
{
	struct re t = { 0 };
	struct regex *re;
	char text[4096];
	size_t used;

	(void)state;
	arena_init(&t.arena);
	memset(text, 'a', sizeof text);
	text[40] = '\0';
	assert_false(re_match(&t, "(a+)+$b", text));
	text[40] = 'a';
	re = regex_compile(&t.arena, &t.env, "^(?:(a)|b|(c))*?$(d)(e)(f)(g)", true, t.why);
	assert_non_null(re);
	used = t.arena.used;
	for (int i = 0; i < 50; i++)
		assert_false(regex_match(re, text, sizeof text));
	assert_int_equal(t.arena.used, used);
	assert_true(re_match(&t, "^a+$", "aaa"));	/* still works */
	arena_free(&t.arena);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_range_parse_tokens),
		cmocka_unit_test(test_range_parse_over_max),
		cmocka_unit_test(test_range_parse_refuses),
		cmocka_unit_test(test_glob_match_forms),
		cmocka_unit_test(test_punycode_name_vectors),
		cmocka_unit_test(test_regex_match_forms),
		cmocka_unit_test(test_regex_compile_refuses),
		cmocka_unit_test(test_regex_match_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
