/* SPDX-License-Identifier: MIT */
/* Renaming by override.proxy-name: .NET's substitutions, and where an empty match goes on. Every result here was compared with
 * the reference's. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "common/strutil.h"
#include "worker/group/filter.h"

static void
replaced(const char *pattern, const char *target, const char *name, const char *want)
{
	struct filter *f;
	char out[256];

	assert_int_equal(filter_compile_one(pattern, "pattern", NULL, &f, NULL), 0);
	assert_int_equal(filter_replace(f, name, target, out, sizeof(out)), 0);
	assert_string_equal(out, want);
	filter_free(f);
}

static void
test_groups_by_number_and_name(void **state)
{
	(void)state;
	replaced("(o)(m)?", "[$1$2]", "home", "h[om]e");
	replaced("(?<n>o)", "${n}${1}${m}", "home", "hoo${m}me");
	replaced("(o)", "$001x", "home", "hoxme");
	replaced("(a)|(o)", "<$1,$2,$+>", "aab h o", "<a,,><a,,>b h <,o,o>");
}

static void
test_what_is_no_group_stays(void **state)
{
	(void)state;
	replaced("o", "${1}${0}$10", "home", "h${1}o$10me");
	replaced("(o)", "$10|${10}|$1", "home", "h$10|${10}|ome");
	replaced("o", "$01", "home", "h$01me");
	replaced("o", "${", "home", "h${me");
	replaced("o", "a$", "home", "ha$me");
	replaced("o", "$ {0}", "home", "h$ {0}me");
}

static void
test_around_the_match(void **state)
{
	(void)state;
	replaced("o", "$`|$'|$&|$0|$_", "home", "hh|me|o|o|homeme");
	replaced("o", "$$0$$$0", "home", "h$0$ome");
}

static void
test_empty_matches(void **state)
{
	(void)state;
	replaced("a*", "x", "aab 1", "xxbx x1x");
	replaced("", "-", "\xe9\xa6\x99\xe6\xb8\xaf", "-\xe9\xa6\x99-\xe6\xb8\xaf-");
	replaced("(?=m)", "^", "home", "ho^me");
	replaced("$", "!", "home", "home!");
	replaced("(?<!h)o", "0", "ho oo", "ho 00");
}

static void
test_too_long(void **state)
{
	struct filter *f;
	char out[8];

	(void)state;
	assert_int_equal(filter_compile_one("", "pattern", NULL, &f, NULL), 0);
	assert_int_equal(filter_replace(f, "12345678", "", out, sizeof(out)), -E_LIMIT);
	assert_int_equal(filter_replace(f, "1234567", "", out, sizeof(out)), 0);
	assert_int_equal(filter_replace(f, "1", "abc", out, sizeof(out)), 0); /* "abc1abc" */
	assert_int_equal(filter_replace(f, "1", "abcd", out, sizeof(out)), -E_LIMIT);
	filter_free(f);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_groups_by_number_and_name),
		cmocka_unit_test(test_what_is_no_group_stays),
		cmocka_unit_test(test_around_the_match),
		cmocka_unit_test(test_empty_matches),
		cmocka_unit_test(test_too_long),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
